import { useState } from 'preact/hooks'
import { type CallError, get, type Stats, send, useData } from '../api.ts'
import type { PageProps } from '../main.tsx'
import { Act, Dialog, Loaded, Notice, number, State, Table } from '../parts.tsx'

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
              queue.rate ? `${number(queue.rate.max)} in ${queue.rate.per / 1000} s` : limit(null),
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
                        aria-label={`Limits of queue ${queue.queue}`}
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

function Limits({ queue, close }: { queue: Queue; close: () => void }) {
  const [error, setError] = useState<CallError>()
  const save = (event: SubmitEvent) => {
    event.preventDefault()
    const fields = new FormData(event.currentTarget as HTMLFormElement)
    const given = (name: string) => (fields.get(name) === '' ? null : Number(fields.get(name)))
    const [max, seconds] = [given('max'), given('seconds')]
    const rate = max === null && seconds === null ? null : { max, per: seconds === null ? null : seconds * 1000 }
    const limits = { maxDepth: given('maxDepth'), maxRunning: given('maxRunning'), rate }
    send<'setQueue'>('PATCH', path(queue), limits).then(close, setError)
  }
  return (
    <Dialog title={`Limits of queue ${queue.queue}`} close={close}>
      <form id="limits" onSubmit={save}>
        <label>
          Jobs that may wait; more are refused
          <input
            name="maxDepth"
            type="number"
            min={1}
            defaultValue={`${queue.maxDepth ?? ''}`}
            placeholder="no limit"
          />
        </label>
        <label>
          Jobs that may run at once
          <input
            name="maxRunning"
            type="number"
            min={1}
            defaultValue={`${queue.maxRunning ?? ''}`}
            placeholder="no limit"
          />
        </label>
        <label>
          Jobs that may start in a period
          <input name="max" type="number" min={1} defaultValue={`${queue.rate?.max ?? ''}`} placeholder="no limit" />
        </label>
        <label>
          Seconds of that period
          <input
            name="seconds"
            type="number"
            min={0.001}
            step="any"
            defaultValue={queue.rate ? `${queue.rate.per / 1000}` : ''}
          />
        </label>
      </form>
      <Notice error={error} />
      <button type="submit" form="limits" class="main">
        Save
      </button>
    </Dialog>
  )
}
