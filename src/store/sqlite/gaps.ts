import type { Clock } from '../../model/clock.ts'

/** How much later than planned a look is, or how long a wait for the lock, when the process counts as having stood still, in ms. */
const leastGap = 1000
/** After so many transactions in a row that followed a gap, the next one takes leases all the same. */
const mostInARow = 5

/**
 * Time in which this process could not have renewed a lease: it was stopped, slow, or waited for the lock. Nobody may lose a
 * lease for it, nor for what others could not do meanwhile.
 */
export class Gaps {
  readonly #clock: Clock
  readonly #skip: (ms: number, monotonic: number) => void
  /** When the next look is to come, on the monotonic clock. */
  #expectedAt = Number.POSITIVE_INFINITY
  /** Up to when time that counts for nothing has been skipped. */
  #skippedTo = Number.NEGATIVE_INFINITY
  /** A gap was found, and no transaction has followed yet. */
  #isOpen = false
  /** Transactions that followed a gap, one after the other. */
  #inARow = 0

  /** `skip` hears of time that counts for nothing, and of its end. */
  constructor(clock: Clock, skip: (ms: number, monotonic: number) => void) {
    this.#clock = clock
    this.#skip = skip
  }

  /** Whether a transaction may take leases: not the first after a gap, unless all of them are. */
  get mayTake(): boolean {
    return !this.#isOpen || this.#inARow >= mostInARow // where each takes long, or waits long for the lock, all are
  }

  /** The next look comes in `ms`. When it comes much later, this process stood still. */
  expect(ms: number): void {
    this.#expectedAt = this.#clock.monotonic() + ms
  }

  /**
   * Since an instant, or since the look that was planned before it, this process could not have renewed a lease, or kept
   * others from it by a long transaction. If that was long, it is a gap.
   */
  heed(since: number): void {
    const now = this.#clock.monotonic()
    const from = Math.max(Math.min(since, this.#expectedAt), this.#skippedTo)
    const goesOn = this.#skippedTo > since // what is left of a time in which there was a gap belongs to it
    if (now - from <= leastGap && !goesOn) return
    this.#isOpen = true
    this.#skippedTo = now
    this.#skip(now - from, now)
  }

  /** A transaction is on disk. */
  written(): void {
    this.#inARow = this.#isOpen ? this.#inARow + 1 : 0
    this.#isOpen = false
  }
}
