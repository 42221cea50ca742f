import { useEffect, useRef } from 'preact/hooks'
import { get, type Job, now, search, useData } from '../api.ts'
import type { PageProps } from '../main.tsx'
import { Loaded, State, Table, Time } from '../parts.tsx'

const states = ['scheduled', 'ready', 'running', 'succeeded', 'dead', 'cancelled']
const hour = 3_600_000
const ages: Record<string, [string, (at: number) => { since?: number; until?: number }]> = {
  '': ['any', () => ({})],
  '1h': ['last hour', (at) => ({ since: at - hour })],
  '1d': ['last day', (at) => ({ since: at - 24 * hour })],
  over1h: ['over 1 h', (at) => ({ until: at - hour })],
  over1d: ['over 1 day', (at) => ({ until: at - 24 * hour })],
  over7d: ['over 7 days', (at) => ({ until: at - 168 * hour })],
}
const pageSize = 50

/** A page of jobs, however many pages of the server it takes: each is bounded by time, so one may come back short. */
async function page(query: URLSearchParams): Promise<{ jobs: Job[]; next: number | null }> {
  const { age = '', cursor, ...filter } = Object.fromEntries(query)
  const jobs: Job[] = []
  let next: number | null = Number(cursor ?? 0) || null
  for (let asked = 0; asked < 25; asked++) {
    const given = { ...filter, ...ages[age]?.[1](now()), limit: pageSize - jobs.length, cursor: next }
    const answer = await get<'jobs'>('jobs', given)
    jobs.push(...answer.jobs)
    next = answer.next
    if (next === null || jobs.length === pageSize) break
  }
  return { jobs, next }
}

export function Jobs({ query }: PageProps) {
  const found = useData(`jobs ${query}`, () => page(query))
  const names = useData('queues', () => get<'queues'>('queues'))
  const form = useRef<HTMLFormElement>(null)
  const typing = useRef<ReturnType<typeof setTimeout>>(undefined)
  const to = (change: Record<string, string | number>) => {
    clearTimeout(typing.current)
    const all = { ...Object.fromEntries(query), cursor: '', ...change }
    location.hash = `#/jobs${search(all)}`
  }
  const apply = (event?: Event) => {
    event?.preventDefault()
    to(Object.fromEntries(new FormData(form.current!)) as Record<string, string>)
  }
  useEffect(() => {
    for (const field of form.current!.elements)
      if (field !== document.activeElement)
        (field as HTMLInputElement).value = query.get((field as HTMLInputElement).name) ?? ''
  }, [`${query}`, names.value])
  const later = () => {
    clearTimeout(typing.current)
    typing.current = setTimeout(() => apply(), 400)
  }
  return (
    <>
      <form ref={form} class="filter" onSubmit={apply}>
        <label>
          State
          <select name="state" onChange={apply}>
            <option value="">any</option>
            {states.map((state) => (
              <option key={state}>{state}</option>
            ))}
          </select>
        </label>
        <label>
          Queue
          <select name="queue" onChange={apply}>
            <option value="">any</option>
            {names.value?.queues.map(({ queue }) => (
              <option key={queue}>{queue}</option>
            ))}
          </select>
        </label>
        <label>
          Type
          <input name="type" maxLength={128} onInput={later} />
        </label>
        <label>
          Text in payload or key
          <input name="text" type="search" maxLength={256} onInput={later} />
        </label>
        <label>
          Submitted
          <select name="age" onChange={apply}>
            {Object.entries(ages).map(([age, [label]]) => (
              <option key={age} value={age}>
                {label}
              </option>
            ))}
          </select>
        </label>
      </form>
      {(query.get('cause') || query.get('failing')) && (
        <p>
          {query.get('failing') ? 'Failing now' : 'Failed'}{' '}
          {query.get('cause') && (
            <>
              with <code>{query.get('cause')}</code>
            </>
          )}{' '}
          <button type="button" onClick={() => to({ cause: '', failing: '' })}>
            Any cause
          </button>
        </p>
      )}
      <Loaded data={found}>
        {({ jobs, next }) => (
          <>
            <JobTable
              jobs={jobs}
              empty={
                next === null
                  ? "No job fits. Take a filter away, or submit one: gopherqueue submit TYPE '{}'"
                  : 'None among those looked through so far.'
              }
            />
            <p class="pager">
              {query.get('cursor') && (
                <button type="button" onClick={() => to({})}>
                  Newest
                </button>
              )}
              {next !== null && (
                <button type="button" onClick={() => to({ cursor: next })}>
                  {jobs.length < pageSize ? 'Look further' : 'Older'}
                </button>
              )}
              {next === null && jobs.length > 0 && <span class="dim">These are all.</span>}
            </p>
          </>
        )}
      </Loaded>
    </>
  )
}

const brief = (value: unknown) => {
  const text = JSON.stringify(value)
  return text.length > 120 ? `${text.slice(0, 120)}…` : text
}

function JobTable({ jobs, empty }: { jobs: Job[]; empty: string }) {
  return (
    <Table
      label="Jobs"
      empty={empty}
      heads={[
        '#Job',
        'State',
        'Type',
        '-Queue',
        '-Class',
        '+Tries',
        'Submitted',
        '-Ended or due',
        '-Last error',
        '-Payload',
      ]}
      rows={jobs.map((job) => [
        job.id,
        <a href={`#/job/${job.id}`}>{job.id}</a>,
        <State
          state={job.state}
          also={
            job.reason ?? (job.progress && job.state === 'running' ? `${Math.round(job.progress.percent)} %` : null)
          }
        />,
        job.type,
        job.queue,
        job.priority,
        `${job.attempt}/${job.maxAttempts}`,
        <Time at={job.createdAt} />,
        <Time at={job.finishedAt ?? job.runAt} />,
        <span class="brief">{job.lastError}</span>,
        <code class="brief">{brief(job.payload)}</code>,
      ])}
    />
  )
}
