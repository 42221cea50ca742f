import { type Clock, type Instant, systemClock } from '../../model/clock.ts'

/** The server's wall clock, as its last answer told it: all processes of a queue go by the same, whatever their machines' clocks say. */
export class ServerClock implements Clock {
  #server: Instant = systemClock.now()
  #at = systemClock.monotonic()

  is(now: Instant): void {
    this.#server = now
    this.#at = systemClock.monotonic()
  }

  now(): Instant {
    return Math.floor(this.#server + systemClock.monotonic() - this.#at)
  }

  monotonic(): number {
    return systemClock.monotonic()
  }

  stoodStill(): number {
    return systemClock.stoodStill?.() ?? 0
  }

  timer(ms: number, callback: () => void): () => void {
    return systemClock.timer(ms, callback)
  }
}
