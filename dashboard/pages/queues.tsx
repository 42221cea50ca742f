import { useState } from 'preact/hooks'
import { type CallError, get, type Stats, send, useData } from '../api.ts'
import type { PageProps } from '../main.tsx'
import { Act, Dialog, Loaded, Notice, number, State, span, Table } from '../parts.tsx'

type Queue = Stats['queues'][number]
const path = ({ queue }: Queue) => `queues/${encodeURIComponent(queue)}`

export function Queues({ may }: PageProps) {
  const [after, setAfter] = useState('')
  const data = useData(`queues ${after}`, () => get<'queues'>('queues', { after }))
  const [editing, setEditing] = useState<Queue | null>(null)
  return (
    <Loaded data={data}>
      {({ queues, next }) => (
        <>
          <Table
            label="Queues"
            empty="No queue yet. One begins with its first job."
            heads={[
              'Queue',
              'State',
              '#Waiting',
              '+Most waiting',
              '+Running',
              '+Most running',
              '+Rate',
              '-Keeps succeeded, cancelled, dead for',
              ...(may ? [''] : []),
            ]}
            rows={queues.map((queue) => [
              queue.queue,
              <a href={`#/jobs?queue=${encodeURIComponent(queue.queue)}`}>{queue.queue}</a>,
              <State state={queue.paused ? 'paused' : 'open'} />,
              number(queue.counts.ready + queue.counts.scheduled),
              limit(queue.maxDepth),
              number(queue.counts.running),
              limit(queue.maxRunning),
              queue.rate ? `${number(queue.rate.max)} in ${span(queue.rate.per)}` : limit(null),
              [queue.keepSucceeded, queue.keepCancelled, queue.keepDead]
                .map((ms) => (ms === null ? 'ever' : span(ms)))
                .join(', '),
              ...(may
                ? [
                    <span class="actions">
                      <Act
                        label={`${queue.paused ? 'Resume' : 'Pause'} queue ${queue.queue}`}
                        act={() => send<'setQueue'>('PATCH', path(queue), { paused: !queue.paused })}
                        {...(!queue.paused && {
                          confirm:
                            'No more of its jobs start until it is resumed. Those that run go on; submissions are taken.',
                        })}
                      >
                        {queue.paused ? 'Resume' : 'Pause'}
                      </Act>
                      <button
                        type="button"
                        aria-label={`Limits and retention of queue ${queue.queue}`}
                        onClick={() => setEditing(queue)}
                      >
                        Limits
                      </button>
                    </span>,
                  ]
                : []),
            ])}
          />
          <p class="pager">
            {after !== '' && (
              <button type="button" onClick={() => setAfter('')}>
                First page
              </button>
            )}
            {next !== null && (
              <button type="button" onClick={() => setAfter(next)}>
                More queues
              </button>
            )}
          </p>
          {editing && <Limits queue={editing} close={() => setEditing(null)} />}
        </>
      )}
    </Loaded>
  )
}

const limit = (value: number | null) => (value === null ? <span class="dim">no limit</span> : number(value))

const units = [['d', 86_400_000], ['h', 3_600_000], ['m', 60_000], ['s', 1000], ['ms', 1]] as const // biome-ignore format: a table

/** As the API reads it: '7d'. */
function duration(ms: number | null | undefined): string {
  const [unit, size] = units.find(([, size]) => ms && ms % size === 0) ?? ['ms', 1]
  return ms == null ? '' : `${ms / size}${unit}`
}

interface Field {
  label: string
  /** What an empty box means; undefined where it may not be empty. */
  none?: string
  isDuration?: boolean
  of: (queue: Queue) => number | null | undefined
}
/** By the names of the API. */
const fields: Record<string, Field> = {
  maxDepth: { label: 'Jobs that may wait; more are refused', none: 'no limit', of: ({ maxDepth }) => maxDepth },
  maxRunning: { label: 'Jobs that may run at once', none: 'no limit', of: ({ maxRunning }) => maxRunning },
  maxRunningPerKey: { label: 'The same of one type and concurrency key', of: ({ maxRunningPerKey }) => maxRunningPerKey },
  'rate.max': { label: 'Jobs that may start in a period', none: 'no limit', of: ({ rate }) => rate?.max },
  'rate.per': { label: 'That period, such as 1m', none: '', isDuration: true, of: ({ rate }) => rate?.per },
  keepSucceeded: { label: 'Keep succeeded jobs for', none: 'ever', isDuration: true, of: ({ keepSucceeded }) => keepSucceeded },
  keepCancelled: { label: 'Keep cancelled jobs for', none: 'ever', isDuration: true, of: ({ keepCancelled }) => keepCancelled },
  keepDead: { label: 'Keep dead jobs for', none: 'ever', isDuration: true, of: ({ keepDead }) => keepDead },
} // biome-ignore format: a table

const shown = ({ of, isDuration }: Field, queue: Queue) => (isDuration ? duration(of(queue)) : `${of(queue) ?? ''}`)

/** What was changed in the boxes, as the API takes it: what another has changed meanwhile stays. */
function changesOf(queue: Queue, given: FormData): Record<string, unknown> {
  const values = Object.entries(fields).map(([name, field]) => {
    const text = `${given.get(name)}`.trim()
    return [name, text === '' ? null : field.isDuration ? text : Number(text), text !== shown(field, queue)] as const
  })
  const changed = values.filter(([, , isChanged]) => isChanged)
  const plain = Object.fromEntries(changed.filter(([name]) => !name.startsWith('rate.')))
  if (!changed.some(([name]) => name.startsWith('rate.'))) return plain
  const [max, per] = ['rate.max', 'rate.per'].map((rate) => values.find(([name]) => name === rate)![1])
  return { ...plain, rate: max === null && per === null ? null : { max, per } }
}

/** The field that an error of the API is about. */
const fieldOf = (error: CallError | undefined) =>
  Object.keys(fields).findLast((name) => error?.message.replaceAll('/', '.').includes(name))

function Limits({ queue, close }: { queue: Queue; close: () => void }) {
  const [error, setError] = useState<CallError>()
  const save = (event: SubmitEvent) => {
    event.preventDefault()
    const changes = changesOf(queue, new FormData(event.currentTarget as HTMLFormElement))
    if (Object.keys(changes).length === 0) return close()
    send<'setQueue'>('PATCH', path(queue), changes).then(close, setError)
  }
  const wrong = fieldOf(error)
  return (
    <Dialog title={`Limits and retention of queue ${queue.queue}`} close={close}>
      <form id="limits" class="fields" onSubmit={save}>
        {Object.entries(fields).map(([name, field]) => (
          <div key={name}>
            <label>
              {field.label}
              <input
                name={name}
                defaultValue={shown(field, queue)}
                placeholder={field.none}
                required={field.none === undefined}
                aria-invalid={wrong === name}
                {...(field.isDuration
                  ? {
                      pattern: '\\s*\\d+(\\.\\d+)?(ms|s|m|h|d|w)\\s*',
                      title: 'A number and ms, s, m, h, d or w, such as 7d',
                    }
                  : { type: 'number', min: 1 })}
              />
            </label>
            {wrong === name && <Notice error={error} />}
          </div>
        ))}
      </form>
      {wrong === undefined && <Notice error={error} />}
      <p class="dim">Retention counts for jobs that end from now on.</p>
      <button type="submit" form="limits" class="main">
        Save
      </button>
    </Dialog>
  )
}
