import { type Answer, get, now, type Stats, useData } from '../api.ts'
import type { PageProps } from '../main.tsx'
import { Facts, Loaded, number, State, span, Table, Time } from '../parts.tsx'
import { CauseTable } from './dead.tsx'
import { OverTime } from './overtime.tsx'

export function Overview(_: PageProps) {
  const stats = useData('stats', () => get<'stats'>('stats'))
  const health = useData('health', () => get<'health'>('health'))
  const failing = useData('failing', () => get<'failing'>('failing', { limit: 3 }))
  return (
    <>
      <Loaded data={health}>
        {({ status, causes, works }) => (
          <section class={`health ${status}`} aria-label="Health">
            <State state={status} />
            {causes.length === 0 && <p>Everything works. Nothing needs you.</p>}
            <ul>
              {[...Map.groupBy(causes, ({ code }) => code)].map(([code, all]) => (
                <Causes key={code} causes={all} />
              ))}
            </ul>
            {!(works.submit && works.lease && works.complete) && (
              <p>
                Works now: {works.submit ? 'submissions' : 'no submissions'},{' '}
                {works.lease ? 'new attempts' : 'no new attempts'}, {works.complete ? 'outcomes' : 'no outcomes'}.
              </p>
            )}
          </section>
        )}
      </Loaded>
      <Loaded data={stats}>{(value) => <Numbers stats={value} />}</Loaded>
      {failing.value && failing.value.causes.length > 0 && (
        <section>
          <h2>
            <a href="#/failing">Failing now</a>
          </h2>
          <CauseTable label="Failing now" empty="" of={{ failing: 'true' }} causes={failing.value.causes} />
        </section>
      )}
      <OverTime />
      <Loaded data={stats}>{(value) => <QueueTable stats={value} />}</Loaded>
    </>
  )
}

type Cause = Answer<'health'>['causes'][number]

/** Those of one code: the first two, and the others when they are asked for. */
function Causes({ causes }: { causes: Cause[] }) {
  const line = ({ code, message, since }: Cause) => (
    <>
      <b>{code}</b> {message} {now() - since > 5000 && <Time at={since} />}
    </>
  )
  const [shown, more] = causes.length > 3 ? [causes.slice(0, 2), causes.slice(2)] : [causes, []]
  return (
    <>
      {shown.map((cause) => (
        <li key={cause.message}>{line(cause)}</li>
      ))}
      {more.length > 0 && (
        <li>
          <details>
            <summary>
              {number(more.length)} more of {more[0]!.code}
            </summary>
            <ul>
              {more.map((cause) => (
                <li key={cause.message}>{line(cause)}</li>
              ))}
            </ul>
          </details>
        </li>
      )}
    </>
  )
}

function Numbers({ stats: { queues, others, workers, oldestReadyMs } }: { stats: Stats }) {
  const sum = (state: keyof (typeof queues)[number]['counts']) =>
    number(queues.reduce((all, { counts }) => all + counts[state], others.counts[state]))
  const alive = workers.filter((worker) => worker.alive)
  const total = (pick: (worker: (typeof workers)[number]) => number) =>
    number(alive.reduce((all, one) => all + pick(one), 0))
  const link = (state: string, page = `jobs?state=${state}`) => <a href={`#/${page}`}>{sum(state as 'ready')}</a>
  return (
    <Facts
      facts={[
        ['Ready', link('ready')],
        ['Running', link('running')],
        ['Scheduled', link('scheduled')],
        ['Dead', link('dead', 'dead')],
        ['Succeeded, kept', link('succeeded')],
        [
          'Oldest ready job',
          oldestReadyMs === null ? 'none' : span(oldestReadyMs),
          'For how long it is ready, not since its submission. Queues that are paused do not count.',
        ],
        ['Workers', <a href="#/workers">{number(alive.length)}</a>],
        ['Slots in use', `${total(({ running }) => running)} of ${total(({ slots }) => slots)}`],
      ]}
    />
  )
}

function QueueTable({ stats: { queues, others, waiting } }: { stats: Stats }) {
  const lines = Map.groupBy(waiting, ({ queue }) => queue)
  const oldest = (queue: string) => {
    const classes = Map.groupBy(lines.get(queue) ?? [], ({ priority }) => priority)
    return [...classes].map(([name, lines]) => `${name} ${span(Math.max(...lines.map((line) => line.oldestReadyMs)))}`).join(' · ') // biome-ignore format: long
  }
  return (
    <section>
      <h2>Queues</h2>
      <Table
        label="Queues"
        empty="No queue yet. Submit a job: gopherqueue submit TYPE '{}'"
        heads={[
          'Queue',
          '#Ready',
          '#Running',
          '+Scheduled',
          '#Dead',
          '+Submitted',
          '+Succeeded',
          '+Failed attempts',
          'Oldest ready, by priority',
        ]}
        rows={queues.map(({ queue, paused, counts, totals }) => [
          queue,
          <>
            <a href={`#/jobs?queue=${encodeURIComponent(queue)}`}>{queue}</a> {paused && <State state="paused" />}
          </>,
          ...[
            counts.ready,
            counts.running,
            counts.scheduled,
            counts.dead,
            totals.submitted,
            totals.succeeded,
            totals.failed,
          ].map(number),
          oldest(queue) || <span class="dim">none</span>,
        ])}
      />
      {others.queues > 0 && (
        <p class="dim">
          These have the most to do. Of {number(others.queues)} more queues see <a href="#/queues">Queues</a>.
        </p>
      )}
    </section>
  )
}
