import type { Instant } from '../../model/clock.ts'

/** Most jobs whose waits are kept in memory; any beyond them wait by the wall clock alone. */
const most = 100_000
/** How often those that are over are forgotten, in ms. */
const sweepEvery = 5000
/** A wall clock that goes back by less is being corrected, and delays nothing by more than that. */
export const leastJump = 1000

/** A job whose interval is over before the wall clock says so: `runAt` is what its row says. */
export interface Early {
  id: number
  runAt: Instant
}

/**
 * The intervals that this process knows: a backoff, a delay. A wall clock that is set back by an hour must not make a job
 * wait for an hour whose backoff is 3 s, so they are counted on the monotonic clock as well.
 */
export class Delays {
  readonly #waits = new Map<number, { runAt: Instant; dueAt: number }>()
  /** The furthest that the wall clock has been ahead of the monotonic one. */
  #ahead = Number.NEGATIVE_INFINITY
  #sweepAt = 0
  #known = 0
  #thereAt = 0

  add(delayed: ReadonlyMap<number, Instant>, now: Instant, monotonic: number): void {
    for (const [id, runAt] of delayed) {
      if (this.#waits.size >= most) return
      this.#waits.set(id, { runAt, dueAt: monotonic + runAt - now })
    }
  }

  /** The wall clock has been there, if only before this process began. */
  wasAt(instant: Instant, monotonic: number): void {
    this.#ahead = Math.max(this.#ahead, instant - monotonic)
  }

  /** By how much the wall clock is behind what it once was, in ms; 0 for what is only a correction. */
  behind(now: Instant, monotonic: number): number {
    this.wasAt(now, monotonic)
    const behind = this.#ahead - (now - monotonic)
    return behind >= leastJump ? behind : 0
  }

  /** By how much the wall clock was set back, until it has come to where it was; 0 when it was not, or is there again. */
  setBackBy(now: Instant, monotonic: number): number {
    const behind = this.behind(now, monotonic)
    if (Math.abs(behind - this.#known) >= leastJump) this.#thereAt = monotonic + behind
    this.#known = behind
    return monotonic < this.#thereAt ? behind : 0
  }

  /** The jobs that have waited long enough although the wall clock does not say so. */
  due(now: Instant, monotonic: number): Early[] {
    const early: Early[] = []
    for (const [id, { runAt, dueAt }] of this.#waits) if (dueAt <= monotonic && runAt > now) early.push({ id, runAt })
    return early
  }

  /** Forgets those that are over by the wall clock too, now and then. */
  sweep(now: Instant, monotonic: number): void {
    if (monotonic < this.#sweepAt) return
    this.#sweepAt = monotonic + sweepEvery
    for (const [id, { runAt, dueAt }] of this.#waits) if (dueAt <= monotonic && runAt <= now) this.#waits.delete(id)
  }

  /** These are ready: that is on disk. */
  forget(early: readonly Early[]): void {
    for (const { id } of early) this.#waits.delete(id)
  }
}
