import { useEffect, useRef } from 'preact/hooks'
import { type Answer, get, search, send, useData } from '../api.ts'
import type { PageProps } from '../main.tsx'
import { Act, Loaded, State, span, Table, Time } from '../parts.tsx'
import { useSearch } from '../search.tsx'

/** Without payloads, which are not shown. */
async function allSchedules() {
  const schedules: Awaited<ReturnType<typeof page>>['schedules'] = []
  const page = (after?: string) => get<'schedules'>(`schedules${search({ payloads: 'false', ...(after !== undefined && { after }) })}`) // biome-ignore format: long
  for (let next: string | null | undefined; next !== null; ) {
    const found = await page(next)
    schedules.push(...found.schedules)
    next = found.next
  }
  return { schedules }
}

export function Schedules({ query, may }: PageProps) {
  const data = useData('schedules', allSchedules)
  return (
    <Loaded data={data}>
      {({ schedules }) => (
        <>
          <Table
            label="Schedules"
            empty="No schedule. Code defines one: email.schedule('nightly', '0 3 * * *', payload)"
            heads={[
              'Schedule',
              '-State',
              '-Cron',
              'Next',
              '-After that',
              '-Latest tick',
              '-Its job',
              '-Type',
              ...(may ? [''] : []),
            ]}
            rows={schedules.map(
              ({ name, paused, inCode, cron, timezone, ticks, lastAt, lastJob, type, queue, problem }) => [
                name,
                <>
                  <a href={`#/schedules${search({ name })}`}>{name}</a>
                  {problem && (
                    <span class="error ink failed">
                      {problem.code}: {problem.message} <Time at={problem.at} />
                    </span>
                  )}
                </>,
                <State state={paused ? 'paused' : inCode ? 'open' : 'not in code'} />,
                <>
                  <code>{cron}</code> <span class="dim">{timezone}</span>
                </>,
                <Time at={paused ? null : ticks[0]} none={paused ? 'when resumed' : 'never'} />,
                <span class="ticks">{paused ? null : ticks.slice(1, 4).map((at) => <Time key={at} at={at} />)}</span>,
                <Time at={lastAt} none="none yet" />,
                lastJob === null ? <span class="dim">none yet</span> : <a href={`#/job/${lastJob}`}>{lastJob}</a>,
                <>
                  <a href={`#/jobs${search({ queue, type })}`}>{type}</a> <span class="dim">in {queue}</span>
                </>,
                ...(may
                  ? [
                      <span class="actions">
                        <Act
                          label={`Run now: ${name}`}
                          confirm="Its job is submitted at once. The ticks stay as they are."
                          act={() => send<'runSchedule'>('POST', `schedules/${encodeURIComponent(name)}/run`)}
                        >
                          Run now
                        </Act>
                        <Act
                          label={`${paused ? 'Resume' : 'Pause'} schedule ${name}`}
                          act={() =>
                            send<'pauseSchedule'>('PATCH', `schedules/${encodeURIComponent(name)}`, { paused: !paused })
                          }
                        >
                          {paused ? 'Resume' : 'Pause'}
                        </Act>
                        {!inCode && (
                          <Act
                            danger
                            label={`Remove schedule ${name}`}
                            confirm="No process defines it any more. Its jobs stay; it makes no others."
                            act={() => send<'removeSchedule'>('DELETE', `schedules/${encodeURIComponent(name)}`)}
                          >
                            Remove
                          </Act>
                        )}
                      </span>,
                    ]
                  : []),
              ],
            )}
          />
          {schedules
            .filter(({ name }) => name === query.get('name'))
            .map((one) => (
              <Ticks key={one.name} schedule={one} />
            ))}
        </>
      )}
    </Loaded>
  )
}

/** Its latest ticks that have a job, by the keys of these jobs. */
function Ticks({ schedule: { name, queue, type } }: { schedule: Answer<'schedules'>['schedules'][number] }) {
  const key = `schedule ${name} `
  const { found, bar } = useSearch(
    `ticks ${name}`,
    () => ({ queue, type, text: key, order: 'newest' }),
    20,
    (job) => job.idempotencyKey?.startsWith(key) ?? false,
  )
  const heading = useRef<HTMLHeadingElement>(null)
  useEffect(() => heading.current?.scrollIntoView({ block: 'nearest' }), [])
  return (
    <>
      <h2 ref={heading}>Ticks of {name}</h2>
      <Loaded data={found}>
        {({ jobs, next }) => (
          <>
            <Table
              label={`Ticks of ${name}`}
              empty={next === null ? 'None whose job is still kept.' : 'None so far.'}
              heads={['Tick', '#Job', 'State', '-Started', '#Ran for', '+Tries', '-Last error']}
              rows={jobs.map(({ id, tick, state, reason, startedAt, finishedAt, attempt, lastError }) => [
                id,
                <Time at={tick} />,
                <a href={`#/job/${id}`}>{id}</a>,
                <State state={state} also={reason} />,
                <Time at={startedAt} none="not yet" />,
                startedAt !== null && finishedAt !== null && span(finishedAt - startedAt),
                attempt,
                <span class="brief">{lastError}</span>,
              ])}
            />
            <p class="pager">
              {next === null && <span class="dim">As far as jobs are kept: see the retention of queue {queue}.</span>}
              {bar}
            </p>
          </>
        )}
      </Loaded>
    </>
  )
}
