import type { Clock } from '../../model/clock.ts'
import { formatMs } from '../../model/duration.ts'
import type { Condition } from './condition.ts'
import type { Db } from './db.ts'
import { Delays } from './delays.ts'
import type { Gaps } from './gaps.ts'
import { nextDue, prune, pruneEvery, reap, reapIsDue } from './reaper.ts'
import { giveBack, sparePages } from './space.ts'
import type { Terms } from './terms.ts'
import { Ticks } from './ticks.ts'
import type { Warning } from './warning.ts'

/** How often at least the reaper looks, while this process works. */
const reapEvery = 250

/** Which part of the upkeep a transaction takes along. */
export interface Share {
  reaping: boolean
  opening: boolean
  pruning: boolean
  /** Bytes that the disk has free, if pages are to go back to it; null with room enough. */
  shrinking: { room: number | null } | false
}

/** What time makes due, and when to look for it again. */
export class Upkeep {
  readonly #clock: Clock
  readonly #condition: Condition
  readonly #gaps: Gaps
  readonly #terms: Terms
  readonly #delays = new Delays()
  readonly #ticks = new Ticks()
  /** When to look for it next, on the monotonic clock: a wall clock set back must not put it off. */
  lookAt = 0
  /** When the last look began, on the monotonic clock: what had come from the app's thread by then has been taken in. */
  #lookedAt = 0
  /** When retention's next step is due, since the last one left some; infinity when it left none. On the monotonic clock. */
  #pruneAt = Number.POSITIVE_INFINITY

  constructor(clock: Clock, condition: Condition, gaps: Gaps, terms: Terms) {
    this.#clock = clock
    this.#condition = condition
    this.#gaps = gaps
    this.#terms = terms
  }

  /** When the next look is worth it, on the monotonic clock. */
  get nextAt(): number {
    return Math.min(this.lookAt, this.#pruneAt)
  }

  /** A look begins. */
  began(now: number): void {
    this.#lookedAt = now
    this.#condition.warn('CLOCK_SET_BACK', clockSetBack(this.#delays.setBackBy(this.#clock.now(), now)))
  }

  /** Asked on a read, so that an idle process takes no write lock. `present`: workers that are known to be there. */
  look(db: Db, present: number[]): boolean {
    db.begin('read')
    try {
      this.lookAt = this.#clock.monotonic() + Math.min(reapEvery, nextDue(db) - db.now)
      const monotonic = this.#clock.monotonic()
      const early = this.#delays.behind(db.now, monotonic) > 0 && this.#delays.due(db.now, monotonic).length > 0
      const due = early || reapIsDue(db, present, this.#terms, monotonic)
      return due || (this.#condition.mayShrink && sparePages(db, this.#condition.room !== null) > 0)
    } finally {
      db.rollback()
    }
  }

  isRetentionBehind(now: number): boolean {
    return now >= this.#pruneAt
  }

  /** Computes, before the write lock, which ticks are owed. */
  planTicks(db: Db): void {
    this.#ticks.plan(db)
  }

  /** Pages go back only with all of the WAL in the file: else, while somebody reads, it would grow by all that is moved. */
  mayShrink(db: Db): Share['shrinking'] {
    if (this.#pruneAt !== Number.POSITIVE_INFINITY || !this.#condition.mayShrink) return false
    const { room } = this.#condition
    return (room !== null || sparePages(db, false) > 0) && db.uncheckpointed() === 0 && { room }
  }

  /** Within a transaction. True when some is left. */
  work(db: Db, { reaping, opening, pruning, shrinking }: Share, present: () => number[], at: number): boolean {
    let behind = pruning && prune(db)
    if (reaping) behind = this.#reap(db, present(), at, opening)
    if (reaping && this.#ticks.fire(db, this.#condition.full)) behind = true
    if (shrinking) giveBack(db, shrinking.room)
    return behind
  }

  #reap(db: Db, workers: number[], monotonic: number, opening: boolean): boolean {
    const early = this.#delays.behind(db.now, monotonic) > 0 ? this.#delays.due(db.now, monotonic) : []
    this.#delays.sweep(db.now, monotonic)
    const [terms, lookedAt, takes] = [this.#terms, this.#lookedAt, this.#gaps.mayTake]
    return reap(db, { workers, terms, monotonic, lookedAt, takes, opening, early })
  }

  /** The transaction is on disk. `behind`: it left some of its share; `admitting`: some jobs are still to be admitted. */
  done(db: Db, { reaping, pruning }: Share, behind: boolean, admitting: boolean, working: boolean, at: number): void {
    const committed = this.#clock.monotonic()
    if (reaping) this.#terms.renewed(at)
    if (reaping || pruning) this.#pruneAt = behind ? committed + pruneEvery : Number.POSITIVE_INFINITY
    this.#delays.forget(db.early)
    if (working) this.#delays.add(db.delayed, db.now, committed)
    this.lookAt = admitting ? 0 : Math.min(this.lookAt, committed + db.soonest - db.now)
  }
}

function clockSetBack(ms: number): Warning | null {
  if (ms === 0) return null
  return {
    code: 'CLOCK_SET_BACK',
    message: `The wall clock was set back by ${formatMs(ms)}. Backoffs and delays go on as they were; what is named by the clock (runAt, deadline, schedules) comes so much later.`,
  }
}
