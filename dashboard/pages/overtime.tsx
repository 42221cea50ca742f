import { useRef, useState } from 'preact/hooks'
import { type Answer, get, now, useData } from '../api.ts'
import { Chart } from '../chart.tsx'
import { Loaded, number, span, Table } from '../parts.tsx'

// Charts: of the last hours as this server saw them, of days and weeks as the file keeps them.

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

const ranges = [['15 min', 15], ['1 h', 60], ['6 h', 360], ['1 day', 1440], ['1 week', 7 * 1440]] as const // biome-ignore format: a table

export function OverTime() {
  const [minutes, setMinutes] = useState<number>(1440)
  return (
    <section aria-label="Over time">
      <fieldset class="ranges">
        <legend class="hidden">Range</legend>
        {ranges.map(([label, of]) => (
          <button key={label} type="button" aria-pressed={minutes === of} onClick={() => setMinutes(of)}>
            {label}
          </button>
        ))}
        {minutes < 1440 && <span class="dim">since the server's start at most</span>}
      </fieldset>
      {minutes < 1440 ? <Samples minutes={minutes} /> : <Days key={minutes} days={minutes / 1440} />}
    </section>
  )
}

function Samples({ minutes }: { minutes: number }) {
  return (
    <Loaded data={useHistory()}>
      {(all) => {
        const shown = all.filter(({ at }) => at > now() - minutes * 60_000)
        const at = shown.map((sample) => sample.at)
        const of = (pick: (sample: Sample) => number | null) => shown.map(pick)
        return (
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
        )
      }}
    </Loaded>
  )
}

type Hours = Answer<'types'>['hours']

/** What happened in each hour: the last one is not over. */
export const HourChart = ({ hours, minutes }: { hours: Hours; minutes: number }) => {
  const at = hours.map((hour) => hour.at)
  const count = (name: string, color: string, of: (typeof counts)[number]) => ({ name, color, values: hours.map((hour) => hour[of]) }) // biome-ignore format: one line
  const time = (of: 'p50' | 'p95', color: string) => ({ name: of, color, values: hours.map(({ run }) => run[of] && run[of] / 1000) }) // biome-ignore format: one line
  return (
    <div class="charts">
      <Chart
        title="Throughput"
        unit="an hour, the last is not over"
        minutes={minutes}
        at={at}
        lines={[
          count('submitted', 'ready', 'submitted'),
          count('succeeded', 'succeeded', 'succeeded'),
          count('failed attempts', 'lost', 'failed'),
          count('dead', 'dead', 'dead'),
        ]}
      />
      <Chart
        title="Run time"
        unit="s"
        minutes={minutes}
        at={at}
        lines={[time('p50', 'running'), time('p95', 'scheduled')]}
      />
    </div>
  )
}

const instant = new Intl.DateTimeFormat('en-GB', { weekday: 'short', day: 'numeric', month: 'short', hour: '2-digit', minute: '2-digit' }) // biome-ignore format: one line

/** The charts in numbers, the latest hour first. */
export const HourTable = ({ hours }: { hours: Hours }) => (
  <details>
    <summary>Hour by hour</summary>
    <Table
      label="Hour by hour"
      empty=""
      heads={['Hour', ...countHeads, '+Run p50', '#Run p95']}
      rows={hours
        .toReversed()
        .map((hour) => [
          hour.at,
          instant.format(hour.at),
          ...counts.map((count) => number(hour[count])),
          ...[hour.run.p50, hour.run.p95].map((ms) => (ms === null ? '–' : span(ms))),
        ])}
    />
  </details>
)

/** Midnight here, so many days ago. */
const midnight = (daysAgo: number) => {
  const day = new Date(now())
  return new Date(day.getFullYear(), day.getMonth(), day.getDate() - daysAgo).getTime()
}
const weekday = new Intl.DateTimeFormat('en-GB', { weekday: 'short', day: 'numeric', month: 'short' })
const counts = ['submitted', 'succeeded', 'failed', 'retried', 'dead'] as const
const countHeads = ['#Submitted', '#Succeeded', '#Failed attempts', '+Tried again', '#Dead']

/** By the hours that the file keeps, whoever worked in them: the chart, and the sums of whole days of this browser's time zone. */
function Days({ days }: { days: number }) {
  const data = useData(`days ${days}`, () => get<'types'>('types', { since: midnight(days) }), 15_000)
  return (
    <Loaded data={data}>
      {({ hours }) => (
        <>
          <HourChart hours={hours} minutes={days * 1440} />
          <Table
            label="By day"
            empty=""
            heads={['Day', ...countHeads]}
            rows={Array.from({ length: days + 1 }, (_, ago) => {
              const [from, to] = [midnight(ago), midnight(ago - 1)]
              const ofDay = hours.filter(({ at }) => at >= from && at < to)
              const name = ['Today', 'Yesterday'][ago] ?? weekday.format(from)
              return [from, name, ...counts.map((count) => number(ofDay.reduce((sum, hour) => sum + hour[count], 0)))]
            })}
          />
        </>
      )}
    </Loaded>
  )
}
