import { get, now, useData } from '../api.ts'
import type { PageProps } from '../main.tsx'
import { Loaded, State, span, Table, Time } from '../parts.tsx'

export function Workers(_: PageProps) {
  const data = useData('workers', async () => {
    const [{ workers }, { jobs, next }, { types }] = await Promise.all([get<'stats'>('stats'), get<'jobs'>('jobs', { state: 'running', order: 'oldest' }), get<'types'>('types')]) // biome-ignore format: long
    return { workers, jobs, next, usual: new Map(types.map(({ type, run }) => [type, run.p95])) }
  })
  return (
    <Loaded data={data}>
      {({ workers, jobs, next, usual }) => (
        <>
          <Table
            label="Workers"
            empty="No worker. Start one: queue.work() in code, or gopherqueue work TYPE --exec COMMAND"
            heads={['Worker', 'State', 'Slots in use', 'Heartbeat', '-Started', '-Host', '+Process', '-Handles']}
            rows={workers.map(({ id, name, alive, running, slots, seenAt, startedAt, host, pid, sources }) => [
              id,
              name,
              <State state={alive ? 'alive' : 'gone'} />,
              <>
                <meter max={Math.max(1, slots)} value={running} aria-label={`${running} of ${slots} slots`} /> {running}
                /{slots}
              </>,
              <Time at={seenAt} />,
              <Time at={startedAt} />,
              host,
              pid ?? <span class="dim">remote</span>,
              <span class="brief">
                {sources.map(({ queue, type }) => (queue === 'default' ? type : `${queue}:${type}`)).join(', ')}
              </span>,
            ])}
          />
          <h2>Leases</h2>
          <Table
            label="Leases"
            empty="No job runs now."
            heads={['#Job', 'Type', '-Worker', 'Running for', 'Leased until', '-Progress']}
            rows={jobs.map(({ id, type, worker, startedAt, leaseExpiresAt, progress }) => [
              id,
              <a href={`#/job/${id}`}>{id}</a>,
              type,
              worker ?? <span class="dim">unknown</span>,
              startedAt && <RunsFor ms={now() - startedAt} usual={usual.get(type)} />,
              <Time at={leaseExpiresAt} />,
              progress && `${Math.round(progress.percent)} % ${progress.message ?? ''}`,
            ])}
          />
          {next !== null && (
            <p class="pager">
              <a href="#/jobs?state=running">All that run</a>
            </p>
          )}
        </>
      )}
    </Loaded>
  )
}

/** Slow for its type: it runs for three times as long as 95 % of its attempts in the last day took, and for 10 s at least. */
function RunsFor({ ms, usual }: { ms: number; usual: number | null | undefined }) {
  if (usual == null || ms < Math.max(10_000, 3 * usual)) return span(ms)
  return (
    <span class="ink degraded">
      {span(ms)} <small>slow: 95 % take {span(usual)}</small>
    </span>
  )
}
