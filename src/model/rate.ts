import type { Instant } from './clock.ts'
import { formatMs } from './duration.ts'

// How many jobs of a queue with a rate may start, and when there is room again.

/** At most `max` starts in any interval of `per` ms. */
export interface Rate {
  max: number
  per: number
}

/** As people read it. */
export const rateText = ({ max, per }: Rate): string => `${max} in ${per % 1000 === 0 ? formatMs(per) : `${per}ms`}`

/** Starts that count from one instant on. */
export interface Starts {
  at: Instant
  starts: number
}

/**
 * From when on a start counts, at most a thousandth of the period after it: a row for each instant would be a million.
 * Never before it: rounded down, an interval could hold twice as many that start at its two ends.
 */
export function countedAt({ per }: Rate, now: Instant): Instant {
  const grain = Math.ceil(per / 1000)
  return Math.ceil(now / grain) * grain
}

/** The room of a rate beside the starts of its last period, newest first; `again`: when there is room if there is none, else null. */
export function roomBeside({ max, per }: Rate, starts: Iterable<Starts>): { left: number; again: Instant | null } {
  let left = max
  for (const some of starts) {
    left -= some.starts
    if (left <= 0) return { left: 0, again: some.at + per } // fewer than `max` are younger
  }
  return { left, again: null }
}
