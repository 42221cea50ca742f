/** Unix milliseconds. */
export type Instant = number

/** The only source of time. `now` is the wall clock, `monotonic` never jumps; timers run on the monotonic one. */
export interface Clock {
  /** The wall clock in Unix ms. */
  now(): Instant
  /** Ms since some fixed instant; never jumps. */
  monotonic(): number
  /** Calls `callback` once after `ms`; returns a function that cancels it. Keeps the process alive until then. */
  timer(ms: number, callback: () => void): () => void
}

const longestTimer = 2 ** 31 - 1 // setTimeout fires at once for anything longer

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  timer(ms, callback) {
    let handle: NodeJS.Timeout
    const arm = (left: number) => {
      handle = setTimeout(
        () => (left > longestTimer ? arm(left - longestTimer) : callback()),
        Math.min(left, longestTimer),
      )
    }
    arm(ms)
    return () => clearTimeout(handle)
  },
}
