import type { Instant } from './clock.ts'
import { newestTimes, nextTime } from './cron.ts'
import { type ErrorCode, type GopherQueueError, isQueueError } from './errors.ts'

// Which ticks a schedule owes, what becomes of each, and where it stands after them.

/** A tick that nobody took within this time was missed. */
const missedAfter = 60_000
/** Of a schedule that makes up for all that it missed. */
const mostMissed = 1000
/** A tick that was refused for want of room is tried again so soon; each time that it is refused again, twice as late. */
const retry = { first: 1000, longest: 10_000 }
/** Refusals that end by themselves. */
const refusals: ReadonlySet<ErrorCode> = new Set(['QUEUE_FULL', 'STORAGE_FULL', 'TOO_MANY_QUEUES', 'TOO_MANY_TYPES'])

/** A schedule that is due. */
export interface Ticking {
  cron: string
  timezone: string
  missed: 'skip' | 'once' | 'all'
  /** When it is looked at next: its next tick, or the next try of one that was refused. */
  nextAt: Instant
  /** The tick that was refused. */
  owedAt: Instant | null
}

/** What a schedule owes, as far as it stays what it was. */
export interface Plan extends Pick<Ticking, 'cron' | 'timezone' | 'missed'> {
  /** The oldest tick that was owed. */
  from: Instant
  /** Ticks that are worth a job, oldest first. */
  ticks: Instant[]
  /** The first tick after these. */
  next: Instant | null
  /** Why its line cannot be read, if somebody wrote it with plain SQL. */
  unreadable?: GopherQueueError
}

const firstOf = ({ owedAt, nextAt }: Ticking): Instant => owedAt ?? nextAt

/** What a schedule owes now. */
export function planOf(schedule: Ticking, now: Instant): Plan {
  const { cron, timezone, missed } = schedule
  const from = firstOf(schedule)
  try {
    const most = missed === 'all' ? mostMissed : 1
    const later = newestTimes(cron, timezone, most, from, now)
    const ticks = later.length < most ? [from, ...later] : later
    return { cron, timezone, missed, from, ticks, next: nextTime(cron, timezone, now) }
  } catch (error) {
    if (!isQueueError(error)) throw error
    return { cron, timezone, missed, from, ticks: [], next: null, unreadable: error }
  }
}

/** Whether a plan is the one of this schedule as it is now. */
export const isPlanOf = (plan: Plan | undefined, schedule: Ticking): boolean =>
  plan?.from === firstOf(schedule) &&
  plan.cron === schedule.cron &&
  plan.timezone === schedule.timezone &&
  plan.missed === schedule.missed

/**
 * A wall clock that was set back since has ticks of the plan still to come. Later ones count too: only a schedule that makes up
 * for all takes those of an old plan first.
 */
export const isOutdated = ({ missed, next, ticks }: Plan, now: Instant): boolean =>
  (ticks.at(-1) ?? now) > now || (missed !== 'all' && next !== null && next <= now)

/** The refused tick that a newer one has replaced; null if there is none. */
export const replacedTick = ({ missed, owedAt }: Ticking, { ticks }: Plan): Instant | null =>
  missed === 'skip' && ticks[0] !== owedAt ? owedAt : null

/** What becomes of a tick: 'lost' is one that was refused and is missed by now. `overlaps`: its last job has not ended, and it skips then. */
export function fateOf(
  tick: Instant,
  { missed, owedAt }: Ticking,
  overlaps: boolean,
  now: Instant,
): 'due' | 'skipped' | 'lost' {
  // biome-ignore format: long
  if (missed === 'skip' && now - tick >= missedAfter) return tick === owedAt ? 'lost' : 'skipped'
  return overlaps ? 'skipped' : 'due'
}

/** Whether a tick that was refused is tried again; any other is lost. */
export const endsByItself = ({ code }: GopherQueueError): boolean => refusals.has(code)

/** Where a schedule stands. */
export interface Standing extends Pick<Ticking, 'owedAt'> {
  /** The last tick that was taken; null if none was. */
  lastAt: Instant | null
  nextAt: Instant | null
  /** Ticks of its plan that are left for the next step. */
  left: Instant[]
}

/** Where it stands after so many ticks of its plan. `refused`: the last of them is tried again. `before`: the tick that was refused last, and when. */
export function standingAfter(
  { ticks, next }: Plan,
  tried: number,
  refused: boolean,
  now: Instant,
  before: { tick: Instant | null; at: Instant } | null,
): Standing {
  const taken = refused ? tried - 1 : tried
  const lastAt = ticks[taken - 1] ?? null
  const owed = ticks[taken]
  if (owed === undefined) return { lastAt, nextAt: next, owedAt: null, left: [] }
  if (!refused) return { lastAt, nextAt: owed, owedAt: null, left: ticks.slice(taken) }
  const waited = before?.tick === owed ? now - before.at : 0
  const wait = Math.min(Math.max(retry.first, 2 * waited), retry.longest)
  return { lastAt, nextAt: Math.min(now + wait, next ?? Number.POSITIVE_INFINITY), owedAt: owed, left: [] }
}
