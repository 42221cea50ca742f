import type { Clock, Instant } from '../../model/clock.ts'
import { formatMs } from '../../model/duration.ts'
import type { Condition } from './condition.ts'
import type { Db } from './db.ts'
import { Delays } from './delays.ts'
import type { Gaps } from './gaps.ts'
import { nextDue, nextToForget, prune, pruneEvery, reap, reapIsDue } from './reaper.ts'
import { giveBack, sparePages } from './space.ts'
import type { Terms } from './terms.ts'
import { Ticks } from './ticks.ts'
import type { Warning } from './warning.ts'

/** Most ms between two looks of the reaper, while this process has workers; on a server, also while no job runs: each look is ten statements there. */
const reapEvery = { watching: 250, idle: 10_000 }

/** The part of the upkeep that one transaction does. */
export interface Share {
  reaping: boolean
  opening: boolean
  pruning: boolean
  /** Bytes that the disk has free, if pages are to go back to it; null with room enough. */
  shrinking: { room: number | null } | false
}

/** Finds and does what time makes due: jobs, leases, schedules, retention. */
export class Upkeep {
  readonly #clock: Clock
  readonly #condition: Condition
  readonly #gaps: Gaps
  readonly #terms: Terms
  readonly #delays = new Delays()
  readonly #ticks = new Ticks()
  /** When to look next, on the monotonic clock: a wall clock that is set back must not delay it. */
  checkAt = 0
  /** When the last look began, on the monotonic clock: outcomes that the app's thread had sent by then are in the file. */
  #lookedAt = 0
  /** When retention's next step is due, since the last one left some; infinity when it left none. On the monotonic clock. */
  #pruneAt = Number.POSITIVE_INFINITY

  constructor(clock: Clock, condition: Condition, gaps: Gaps, terms: Terms) {
    this.#clock = clock
    this.#condition = condition
    this.#gaps = gaps
    this.#terms = terms
  }

  /** When the next tick has something to do, on the monotonic clock. */
  get nextAt(): number {
    return Math.min(this.checkAt, this.#pruneAt)
  }

  /**
   * The first look. The clock may have been set back before this process began: what the file was given last says where it
   * was. Two reads of a last row; the instants of all leases would be a scan.
   */
  opens(db: Db, present: number[]): void {
    this.look(db, present)
    const last = db.get<{ at: Instant | null }>(
      `SELECT MAX(at) AS at FROM (
         SELECT * FROM (SELECT created_at AS at FROM gq_jobs ORDER BY id DESC LIMIT 1) AS job
         UNION ALL
         SELECT * FROM (SELECT seen_at FROM gq_workers ORDER BY id DESC LIMIT 1) AS worker) AS last`,
    )!
    if (last.at !== null) this.#delays.wasAt(last.at, this.#clock.monotonic())
  }

  /** A look begins. */
  began(now: number): void {
    this.#lookedAt = now
    this.#condition.warn('CLOCK_SET_BACK', clockSetBack(this.#delays.setBackBy(this.#clock.now(), now)))
  }

  /** Whether anything is due: a read, so that an idle process takes no write lock. `present`: workers that are known to live. */
  look(db: Db, present: number[]): boolean {
    db.begin('read')
    try {
      const next = nextDue(db) - db.now
      const monotonic = this.#clock.monotonic()
      const early = this.#delays.behind(db.now, monotonic) > 0 && this.#delays.due(db.now, monotonic).length > 0
      const due = early || reapIsDue(db, present, this.#terms, monotonic)
      this.checkAt = monotonic + Math.min(next, db.isFile || this.#terms.someRun ? reapEvery.watching : untilForget(db))
      return due || (this.#condition.mayShrink && sparePages(db, this.#condition.room !== null) > 0)
    } finally {
      db.rollback()
    }
  }

  /** Others have committed: what is due may have changed. */
  changed(): void {
    this.checkAt = Math.min(this.checkAt, this.#lookedAt + reapEvery.watching)
  }

  isRetentionBehind(now: number): boolean {
    return now >= this.#pruneAt
  }

  /** Computes, before the write lock, which ticks are owed. */
  planTicks(db: Db): void {
    this.#ticks.plan(db)
  }

  /** Pages go back only after a full checkpoint: while a reader keeps the WAL from its restart, each moved page would enlarge it. */
  mayShrink(db: Db): Share['shrinking'] {
    if (this.#pruneAt !== Number.POSITIVE_INFINITY || !this.#condition.mayShrink) return false
    const { room } = this.#condition
    return (room !== null || sparePages(db, false) > 0) && db.uncheckpointed() === 0 && { room }
  }

  /** Does the share within a transaction. True when it left some. `present` is asked only where leases are judged. */
  work(db: Db, { reaping, opening, pruning, shrinking }: Share, present: () => number[], at: number): boolean {
    let behind = pruning && prune(db)
    if (reaping) behind = this.#reap(db, present(), at, opening)
    if (reaping && !db.movedTo && this.#ticks.fire(db, this.#condition.full)) behind = true
    if (shrinking) giveBack(db, shrinking.room)
    return behind
  }

  #reap(db: Db, workers: number[], monotonic: number, opening: boolean): boolean {
    const early = this.#delays.behind(db.now, monotonic) > 0 ? this.#delays.due(db.now, monotonic) : []
    this.#delays.sweep(db.now, monotonic)
    const [terms, lookedAt, mayTake] = [this.#terms, this.#lookedAt, this.#gaps.mayTake]
    return reap(db, { workers, terms, monotonic, lookedAt, mayTake, opening, early })
  }

  /** After COMMIT. `behind`: the transaction left some of its share; `admitting`: it left jobs to be admitted. */
  done(db: Db, { reaping, pruning }: Share, behind: boolean, admitting: boolean, working: boolean, at: number): void {
    const committed = this.#clock.monotonic()
    if (reaping) this.#terms.renewed(at)
    if (reaping || pruning) this.#pruneAt = behind ? committed + pruneEvery : Number.POSITIVE_INFINITY
    this.#delays.forget(db.early)
    if (working) this.#delays.add(db.delayed, db.now, committed)
    this.checkAt = admitting ? 0 : Math.min(this.checkAt, committed + db.soonest - db.now)
  }
}

function clockSetBack(ms: number): Warning | null {
  if (ms === 0) return null
  return {
    code: 'CLOCK_SET_BACK',
    message: `The wall clock is ${formatMs(ms)} behind where it was, as it was set back, also before this process began. Backoffs and delays that began in this process go on as they were; what else waits for an instant (runAt, deadline, schedules) comes so much later. Set the clock right.`,
  }
}

/** Ms until something is to be forgotten, in the bounds of the looks. */
const untilForget = (db: Db): number =>
  Math.min(reapEvery.idle, Math.max(reapEvery.watching, nextToForget(db) - db.now))
