import { systemClock } from '../model/clock.ts'

/** An answer that takes this long is one that waits for the write lock, the disk or the network, in ms. */
const leastStall = 1000

/** How long callers have waited for a store without an answer to anybody. */
export class Stalls {
  #total = 0
  #awaited = 0
  #since: number | null = null

  /** Somebody waits for an answer. */
  begins(): void {
    if (++this.#awaited === 1) this.#since = systemClock.monotonic()
  }

  /** An answer has come, or its caller has given it up. */
  ends(): void {
    this.#awaited--
    this.heard()
  }

  /** The store has answered somebody. */
  heard(): void {
    this.#total = this.ms
    this.#since = this.#awaited > 0 ? systemClock.monotonic() : null
  }

  /** In ms, each wait of a second and more. */
  get ms(): number {
    const waited = this.#since === null ? 0 : systemClock.monotonic() - this.#since
    return this.#total + (waited >= leastStall ? waited : 0)
  }
}
