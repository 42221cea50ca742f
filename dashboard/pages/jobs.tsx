import { useEffect, useRef } from 'preact/hooks'
import { get, type Job, now, search, useData } from '../api.ts'
import { Chosen } from '../chosen.tsx'
import type { PageProps } from '../main.tsx'
import { Loaded, type Selection, State, Table, Time } from '../parts.tsx'
import { useSearch } from '../search.tsx'

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

/** Filters that have no box, in words. */
const words: Record<string, string> = { failing: 'failing now', cause: 'with', since: 'submitted since', until: 'submitted before', endedBefore: 'ended before', order: 'order' } // biome-ignore format: a table
const inBoxes = ['state', 'queue', 'type', 'text', 'age', 'cursor']

type Given = Record<string, string>
const orderOf = ({ order, state }: Given) => order ?? (state === 'scheduled' ? 'due' : 'newest')
/** What the ways to the first and the next page are called, by order. */
const ways: Record<string, [string, string]> = { newest: ['Newest', 'Older'], oldest: ['Oldest', 'Newer'], due: ['Next due', 'Due later'] } // biome-ignore format: a table

const filterOf = ({ age = '', ...filter }: Given) => ({
  ...filter,
  order: orderOf(filter),
  ...ages[age]?.[1](now()),
})

export function Jobs({ query, may }: PageProps) {
  const given: Given = Object.fromEntries(query)
  const [first, further] = ways[orderOf(given)] ?? ways.newest!
  const { found, bar } = useSearch(`jobs ${query}`, () => filterOf(given), pageSize)
  const names = useData('queues', () => get<'queues'>('queues'))
  const form = useRef<HTMLFormElement>(null)
  const typing = useRef<ReturnType<typeof setTimeout>>(undefined)
  const to = (change: Record<string, string | number>) => {
    clearTimeout(typing.current)
    typing.current = undefined
    location.hash = `#/jobs${search({ ...given, cursor: '', ...change })}`
  }
  const apply = (event?: Event) => {
    event?.preventDefault()
    to(Object.fromEntries(new FormData(form.current!)) as Record<string, string>)
  }
  useEffect(() => {
    if (typing.current !== undefined) return // the boxes are ahead of the address
    for (const field of form.current!.elements as unknown as HTMLInputElement[]) field.value = given[field.name] ?? ''
  }, [`${query}`, names.value])
  const later = () => {
    clearTimeout(typing.current)
    typing.current = setTimeout(() => apply(), 400)
  }
  const queues = new Set(names.value?.queues.map(({ queue }) => queue))
  if (given.queue) queues.add(given.queue)
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
            {[...queues].map((queue) => (
              <option key={queue} value={queue}>
                {queue}
              </option>
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
      {Object.entries(given)
        .filter(([name]) => !inBoxes.includes(name))
        .map(([name, value]) => (
          <p key={name}>
            {words[name] ?? name} {value !== 'true' && <code>{value}</code>}{' '}
            <button type="button" onClick={() => to({ [name]: '' })}>
              Take away<span class="hidden"> {words[name] ?? name}</span>
            </button>
          </p>
        ))}
      <Loaded data={found}>
        {({ jobs, next }) => (
          <>
            <Chosen of={`${query}`} may={may}>
              {(selection) => (
                <JobTable
                  key={`${query}`}
                  jobs={jobs}
                  selection={selection}
                  isDue={orderOf(given) === 'due'}
                  empty={
                    next === null
                      ? "No job fits. Take a filter away, or submit one: gopherqueue submit TYPE '{}'"
                      : 'None among those looked through so far.'
                  }
                />
              )}
            </Chosen>
            <p class="pager">
              {query.get('cursor') && (
                <button type="button" onClick={() => to({})}>
                  {first}
                </button>
              )}
              {next !== null && jobs.length === pageSize && (
                <button type="button" onClick={() => to({ cursor: next })}>
                  {further}
                </button>
              )}
              {bar}
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

interface JobTableProps {
  jobs: Job[]
  empty: string
  selection?: Selection | undefined
  /** Their next times are what matters. */
  isDue: boolean
}

function JobTable({ jobs, empty, selection, isDue }: JobTableProps) {
  return (
    <Table
      label="Jobs"
      empty={empty}
      selection={selection}
      heads={[
        '#Job',
        'State',
        'Type',
        '-Queue',
        '-Class',
        '+Tries',
        isDue ? '-Submitted' : 'Submitted',
        isDue ? 'Due' : '-Ended or due',
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
