import { systemClock } from '../../model/clock.ts'

/** An answer that takes this long is one that waits for the write lock or the disk, in ms. */
const leastStall = 1000

/** How long callers have waited for the storage thread without an answer to anybody. */
export class Stalls {
  #total = 0
  #since: number | null = null

  /** Somebody begins to wait, or somebody was answered. `isAwaited`: an answer is awaited from now on. */
  mark(isAwaited: boolean): void {
    this.#total = this.ms
    this.#since = isAwaited ? systemClock.monotonic() : null
  }

  /** In ms, each wait of a second and more. */
  get ms(): number {
    const waited = this.#since === null ? 0 : systemClock.monotonic() - this.#since
    return this.#total + (waited >= leastStall ? waited : 0)
  }
}
