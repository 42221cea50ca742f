import type { Clock } from '../model/clock.ts'
import type { Attempt } from './attempt.ts'

/**
 * How long a handler whose attempt is over may take to stop before its slot is free for another job, and how long after
 * its end its job stays away: what it did not wait for (a request, a process of its own) may end after it. In ms.
 */
const patience = { toStop: 30_000, afterEnd: 1000 }

/** The handlers of a worker that go on although their attempts are over: they ignore their signal. */
export class Overdue {
  readonly #clock: Clock
  readonly #onFree: () => void
  readonly #attempts = new Set<Attempt>()
  /** Those that still hold their slot, and how to stop their timers. */
  readonly #blocking = new Map<Attempt, () => void>()
  /** Stop the timers of those that have ended a moment ago. */
  readonly #ending = new Set<() => void>()
  #stopped = false

  /** `onFree`: one of them gives its slot back. */
  constructor(clock: Clock, onFree: () => void) {
    this.#clock = clock
    this.#onFree = onFree
  }

  get size(): number {
    return this.#attempts.size
  }

  /** Slots that they hold. */
  get slots(): number {
    return this.#blocking.size
  }

  add(attempt: Attempt): void {
    this.#attempts.add(attempt)
    this.#blocking.set(
      attempt,
      this.#clock.timer(patience.toStop, () => this.#free(attempt)),
    )
  }

  /** A handler has ended. Calls `then` when its job may start here again; never for one that was not overdue. */
  ended(attempt: Attempt, then: () => void): void {
    if (!this.#attempts.delete(attempt)) return
    this.#free(attempt)
    if (this.#stopped) return
    const stopTimer = this.#clock.timer(patience.afterEnd, () => {
      this.#ending.delete(stopTimer)
      then()
    })
    this.#ending.add(stopTimer)
  }

  /** Stops all timers: the worker has signed off, and its jobs are free. */
  stop(): void {
    this.#stopped = true
    for (const stopTimer of [...this.#blocking.values(), ...this.#ending]) stopTimer()
  }

  #free(attempt: Attempt): void {
    this.#blocking.get(attempt)?.()
    if (this.#blocking.delete(attempt)) this.#onFree()
  }
}
