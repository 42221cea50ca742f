import { useState } from 'preact/hooks'
import { type Answer, get, now, search, useData } from '../api.ts'
import type { PageProps } from '../main.tsx'
import { Loaded, number, span, Table, Time } from '../parts.tsx'
import { HourChart, HourTable } from './overtime.tsx'

type TypeStats = Answer<'types'>['types'][number]

const hour = 3_600_000
const ranges = [['Last hour', 1], ['1 day', 24], ['1 week', 7 * 24]] as const // biome-ignore format: a table
const orders: Record<string, (type: TypeStats) => number> = {
  attempts: ({ succeeded, failed }) => succeeded + failed,
  failures: ({ failed }) => failed,
  'run time': ({ run }) => run.p95 ?? 0,
  wait: ({ wait }) => wait.p95 ?? 0,
}

const time = (ms: number | null) => (ms === null ? <span class="dim">–</span> : span(ms))

/** What happened to the jobs of each type: the file keeps it for 8 days, whichever process works. */
export function Types({ query }: PageProps) {
  const only = query.get('type')
  const [hours, setHours] = useState<number>(24)
  const [order, setOrder] = useState('attempts')
  const data = useData(`types ${hours} ${only}`, () =>
    get<'types'>('types', { since: now() - hours * hour, type: only }),
  )
  return (
    <>
      <fieldset class="ranges">
        <legend class="hidden">Range and order</legend>
        {ranges.map(([label, of]) => (
          <button key={label} type="button" aria-pressed={hours === of} onClick={() => setHours(of)}>
            {label}
          </button>
        ))}
        {only === null && (
          <>
            <span class="dim">most</span>
            {Object.keys(orders).map((name) => (
              <button key={name} type="button" aria-pressed={order === name} onClick={() => setOrder(name)}>
                {name}
              </button>
            ))}
          </>
        )}
      </fieldset>
      {only !== null && (
        <p>
          <b>{only}</b> <a href={`#/jobs${search({ type: only })}`}>Its jobs</a> <a href="#/types">All types</a>
        </p>
      )}
      <Loaded data={data}>
        {({ since, types, hours: all }) => (
          <>
            <HourChart key={`${hours} ${only}`} hours={all} minutes={(hours + 1) * 60} />
            <p class="dim">
              Since <Time at={since} />, in whole hours. p50 and p95 are estimates; all else is exact.
            </p>
            <Table
              label="Types"
              empty="Nothing happened in this time."
              heads={['Type', '+Submitted', '#Succeeded', '#Failed attempts', '+Tried again', '#Dead', '+Run p50', '#Run p95', '+Run max', '+Wait p50', '#Wait p95', '+Wait max']} // biome-ignore format: long
              rows={[...types]
                .sort((a, b) => orders[order]!(b) - orders[order]!(a))
                .map(({ type, submitted, succeeded, failed, retried, dead, run, wait }) => [
                  type,
                  type === '' ? 'All others' : <a href={`#/types${search({ type })}`}>{type}</a>,
                  ...[submitted, succeeded, failed, retried].map(number),
                  dead === 0 ? '0' : <a href={`#/jobs${search({ type, state: 'dead' })}`}>{number(dead)}</a>,
                  ...[run.p50, run.p95, run.max, wait.p50, wait.p95, wait.max].map(time),
                ])}
            />
            <HourTable hours={all} />
          </>
        )}
      </Loaded>
    </>
  )
}
