import type { Clock } from '../../model/clock.ts'

/** A tick this much later than announced, or a wait this long for the write lock, is a gap, in ms. */
const leastGap = 1000
/** A wait this long is no gap yet, and still time in which others could renew no lease, in ms: another program that takes the lock again and again. */
const leastWait = 100
/** After so many transactions in a row that each followed a gap, none of them far longer than those before, the next one takes leases all the same. */
const mostInARow = 5

/**
 * Gaps: times in which this process could not have renewed a lease, since it was stopped, slow, or waited for the write
 * lock. No worker loses a lease because of a gap: neither its own, nor one that another process could not renew meanwhile.
 */
export class Gaps {
  readonly #clock: Clock
  readonly #skip: (ms: number, monotonic: number) => void
  readonly #waited: (ms: number) => void
  /** When the next tick was announced for, on the monotonic clock. */
  #expectedAt = Number.POSITIVE_INFINITY
  /** The end of the last gap: time before it is not counted again. */
  #skippedTo = Number.NEGATIVE_INFINITY
  /** The end of the last wait that was none. */
  #waitedTo = Number.NEGATIVE_INFINITY
  /** A gap was found, and no transaction has followed yet. */
  #isOpen = false
  /** Transactions that followed a gap, one after the other. */
  #inARow = 0
  /** Ms of the longest of these gaps; half as much with each transaction since. */
  #usual = 0

  /** `skip` is called with the length of each gap, and its end; `waited` with that of each shorter wait. */
  constructor(clock: Clock, skip: (ms: number, monotonic: number) => void, waited: (ms: number) => void) {
    this.#clock = clock
    this.#skip = skip
    this.#waited = waited
  }

  /** Whether a transaction may take leases: not the first after a gap, so that others get to renew theirs. */
  get mayTake(): boolean {
    return !this.#isOpen || this.#inARow >= mostInARow // with a slow disk or a busy lock each follows a gap: none would be taken
  }

  /** The next tick comes in `ms`. When it comes much later, this process stood still. */
  expect(ms: number): void {
    this.#expectedAt = this.#clock.monotonic() + ms
  }

  /**
   * Since `since`, or since the tick announced before it, this process could not have renewed a lease, or kept others from
   * renewing by a long transaction. If that is long, it is a gap.
   */
  check(since: number): void {
    const now = this.#clock.monotonic()
    const from = Math.max(Math.min(since, this.#expectedAt), this.#skippedTo)
    const isRestOfGap = this.#skippedTo > since
    if (now - from <= leastGap && !isRestOfGap) {
      const ms = now - Math.max(since, this.#skippedTo, this.#waitedTo) // a late tick alone kept nobody from renewing
      if (ms < leastWait) return
      this.#waitedTo = now
      this.#waited(ms)
      return
    }
    this.#isOpen = true
    this.#skippedTo = now
    const ms = now - from
    if (ms > 4 * this.#usual) this.#inARow = 0 // short gaps of a slow disk do not make a long stop one of them
    this.#usual = Math.max(this.#usual, ms)
    this.#skip(ms, now)
  }

  /** After COMMIT of a write. */
  written(): void {
    this.#inARow = this.#isOpen ? this.#inARow + 1 : 0
    this.#usual = this.#isOpen ? this.#usual / 2 : 0
    this.#isOpen = false
  }
}
