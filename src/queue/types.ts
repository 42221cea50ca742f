import type { Clock, Instant } from '../model/clock.ts'
import { addTo, type Durations, durations, type Happened, hourMs, hoursKept, nothingHappened } from '../model/hours.ts'
import { checkName, wholeNumber } from '../model/job.ts'
import { checkNames } from '../model/names.ts'
import type { Output, Store } from '../store/store.ts'

/** What happened in an interval, by the events' own counts. */
export interface Counted {
  /** Jobs stored. */
  submitted: number
  /** Jobs that ended well. */
  succeeded: number
  /** Attempts that failed: a throw, a timeout, a lost lease; also those that history calls 'cancelled', as their job was to stop. */
  failed: number
  /** Of these, those after which their job is tried again. */
  retried: number
  /** Jobs that died. */
  dead: number
}

/** One type in an interval. */
export interface TypeStats extends Counted {
  /** The type of the jobs; '' for all beyond the 1,000 of an hour that are counted by name. */
  type: string
  /** How long its jobs were ready before each start. */
  wait: Durations
  /** How long its attempts ran that succeeded, failed or timed out. */
  run: Durations
}

/** What `queue.types` resolves with. */
export interface TypesReport {
  /** Begin of the first hour that is counted (Unix ms): hours are whole, and begin as those of UTC do. */
  since: Instant
  /** All types of which something happened, those with the most attempts first, then by name. */
  types: TypeStats[]
  /** The same for all of these types together, hour by hour, also those in which nothing happened; `at` is the begin of the hour. */
  hours: (Counted & { at: Instant; run: Durations })[]
}

/** Options of `queue.types`. */
export interface TypesOptions {
  /** From the hour of this instant on (Unix ms), at most 8 days back. Default: 24 h ago. */
  since?: Instant
  /** Of this type alone. Default: all. */
  type?: string
}

export function checkTypesOptions(options: TypesOptions): TypesOptions {
  checkNames('option of types', options, ['since', 'type'])
  if (options.since !== undefined) wholeNumber(options.since, 0, Number.MAX_SAFE_INTEGER, 'since')
  if (options.type !== undefined) checkName('type', options.type)
  return options
}

/** What happened since then, by type and by hour. */
export async function typesReport(store: Store, clock: Clock, options: TypesOptions = {}): Promise<TypesReport> {
  const now = clock.now()
  const { since: asked = now - 24 * hourMs, type } = options
  const since = hourOf(Math.min(Math.max(asked, now - hoursKept), now))
  const types = new Map<string, Happened>()
  const hours = new Map<Instant, Happened>()
  for (let at = since; at <= now; at += hourMs) hours.set(at, nothingHappened())
  for (let next: Instant | null = since; next !== null; ) {
    const page: Output<'hours'> = await store.call('hours', { since: next, ...(type !== undefined && { type }) })
    for (const hour of page.hours) {
      const ofType = types.get(hour.type) ?? nothingHappened()
      types.set(hour.type, ofType)
      addTo(ofType, hour)
      const ofAll = hours.get(hour.at)
      if (ofAll) addTo(ofAll, hour)
    }
    next = page.next
  }
  return {
    since,
    types: [...types].map(([name, happened]) => inShort(name, happened)).sort(byAttempts),
    hours: [...hours].map(([at, happened]) => ({ at, ...countsOf(happened), run: durations(happened.runs) })),
  }
}

const hourOf = (at: Instant): Instant => Math.floor(at / hourMs) * hourMs

const countsOf = ({ submitted, succeeded, failed, retried, dead }: Happened): Counted =>
  ({ submitted, succeeded, failed, retried, dead }) // biome-ignore format: one line

const inShort = (type: string, happened: Happened): TypeStats => ({
  ...{ type, ...countsOf(happened) },
  ...{ wait: durations(happened.waits), run: durations(happened.runs) },
})

const byAttempts = (a: TypeStats, b: TypeStats): number =>
  b.succeeded + b.failed - (a.succeeded + a.failed) || (a.type < b.type ? -1 : 1)
