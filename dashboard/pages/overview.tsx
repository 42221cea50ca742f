import { useRef, useState } from 'preact/hooks'
import { type Answer, get, now, type Stats, useData } from '../api.ts'
import { Chart } from '../chart.tsx'
import type { PageProps } from '../main.tsx'
import { Facts, Loaded, number, State, span, Table, Time } from '../parts.tsx'
import { CauseTable } from './dead.tsx'

type Sample = Answer<'history'>['samples'][number]

/** All samples since the page was opened and before: only those that are new are asked for. */
function useHistory() {
  const held = useRef<Sample[]>([])
  return useData('history', async () => {
    const { samples } = await get<'history'>('history', { since: held.current.at(-1)?.at })
    held.current = [...held.current, ...samples].slice(-2200)
    return held.current
  })
}

/** What a total has grown by since the sample before, a second. */
const rate = (samples: Sample[], name: 'submitted' | 'succeeded' | 'failed') =>
  samples.map((sample, i) => {
    const before = samples[i - 1]
    return before ? Math.max(0, sample[name] - before[name]) / ((sample.at - before.at) / 1000) : null
  })

const ranges = [['15 min', 15], ['1 h', 60], ['6 h', 360]] as const // biome-ignore format: a table

export function Overview(_: PageProps) {
  const stats = useData('stats', () => get<'stats'>('stats'))
  const health = useData('health', () => get<'health'>('health'))
  const history = useHistory()
  const failing = useData('failing', () => get<'failing'>('failing', { limit: 3 }))
  const [minutes, setMinutes] = useState(15)
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
      <Loaded data={history}>
        {(all) => {
          const shown = all.filter(({ at }) => at > now() - minutes * 60_000)
          const at = shown.map((sample) => sample.at)
          const of = (pick: (sample: Sample) => number | null) => shown.map(pick)
          return (
            <section aria-label="Over time">
              <fieldset class="ranges">
                <legend class="hidden">Range</legend>
                {ranges.map(([label, of]) => (
                  <button key={label} type="button" aria-pressed={minutes === of} onClick={() => setMinutes(of)}>
                    {label}
                  </button>
                ))}
                <span class="dim">since the server's start at most</span>
              </fieldset>
              <div class="charts">
                <Chart
                  key={`rate ${minutes}`}
                  title="Throughput"
                  unit="a second"
                  minutes={minutes}
                  at={at}
                  lines={[
                    { name: 'submitted', color: 'ready', values: rate(shown, 'submitted') },
                    { name: 'succeeded', color: 'succeeded', values: rate(shown, 'succeeded') },
                    { name: 'failed', color: 'dead', values: rate(shown, 'failed') },
                  ]}
                />
                <Chart
                  key={`wait ${minutes}`}
                  title="Wait"
                  unit="s"
                  minutes={minutes}
                  at={at}
                  lines={[
                    {
                      name: 'oldest ready job',
                      color: 'running',
                      values: of((sample) => (sample.oldestReadyMs ?? 0) / 1000),
                    },
                    {
                      name: 'started here, mean',
                      color: 'succeeded',
                      values: of(({ waitMs }) => waitMs && waitMs / 1000),
                    },
                  ]}
                />
                <Chart
                  key={`jobs ${minutes}`}
                  title="Backlog"
                  unit="jobs"
                  minutes={minutes}
                  at={at}
                  lines={[
                    { name: 'ready', color: 'ready', values: of((sample) => sample.ready) },
                    { name: 'running', color: 'running', values: of((sample) => sample.running) },
                    { name: 'dead', color: 'dead', values: of((sample) => sample.dead) },
                  ]}
                />
              </div>
            </section>
          )
        }}
      </Loaded>
      <Loaded data={stats}>{({ queues, waiting }) => <QueueTable queues={queues} waiting={waiting} />}</Loaded>
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

function Numbers({ stats: { queues, workers, oldestReadyMs } }: { stats: Stats }) {
  const sum = (state: keyof (typeof queues)[number]['counts']) =>
    number(queues.reduce((all, { counts }) => all + counts[state], 0))
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
        ['Oldest ready job', oldestReadyMs === null ? 'none' : span(oldestReadyMs)],
        ['Workers', <a href="#/workers">{number(alive.length)}</a>],
        ['Slots in use', `${total(({ running }) => running)} of ${total(({ slots }) => slots)}`],
      ]}
    />
  )
}

function QueueTable({ queues, waiting }: Pick<Stats, 'queues' | 'waiting'>) {
  const oldest = (queue: string) => {
    const classes = Map.groupBy(
      waiting.filter((line) => line.queue === queue),
      ({ priority }) => priority,
    )
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
    </section>
  )
}
