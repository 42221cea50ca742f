import type { Clock, Instant } from '../model/clock.ts'

interface Timer {
  at: number
  callback: () => void
}

/** Time that passes only when told to. Its wall clock can jump apart from the monotonic one, as real ones do. */
export class VirtualClock implements Clock {
  #wall: Instant
  #monotonic = 0
  #timers: Timer[] = []

  /** `start` is in Unix ms; default 2030-01-01T00:00Z, a Tuesday. */
  constructor(start: Instant = Date.UTC(2030, 0, 1)) {
    this.#wall = start
  }

  /** The wall clock in Unix ms. */
  now(): Instant {
    return this.#wall
  }

  /** Ms that have passed since the start; never jumps. */
  monotonic(): number {
    return this.#monotonic
  }

  timer(ms: number, callback: () => void): () => void {
    const timer = { at: this.#monotonic + ms, callback }
    this.#timers.push(timer)
    return () => {
      this.#timers = this.#timers.filter((other) => other !== timer)
    }
  }

  /** Ms until the next timer fires; infinity when there is none. */
  get untilTimer(): number {
    return Math.max(0, Math.min(...this.#timers.map(({ at }) => at)) - this.#monotonic)
  }

  /** Lets `ms` pass: both clocks move, and timers fire in their order, each at its own instant. */
  advance(ms: number): void {
    const end = this.#monotonic + ms
    for (;;) {
      const due = this.#timers.filter(({ at }) => at <= end).sort((a, b) => a.at - b.at)[0]
      const step = (due ? Math.max(due.at, this.#monotonic) : end) - this.#monotonic
      this.#wall += step
      this.#monotonic += step
      if (!due) return
      this.#timers = this.#timers.filter((timer) => timer !== due)
      due.callback()
    }
  }

  /** Somebody sets the wall clock: it jumps by `ms`, also backward, while no time passes. */
  jump(ms: number): void {
    this.#wall += ms
  }
}
