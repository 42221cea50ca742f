import { performance } from 'node:perf_hooks'
import { nextTick } from 'node:process'
import { clearTimeout, setImmediate, setTimeout } from 'node:timers'

/** A point in time: milliseconds since 1970-01-01T00:00Z, as `Date.now()` gives them. */
export type Instant = number

/** Digits with a unit: '500ms', '30s', '5m', '1.5h', '7d', '2w'. A text of a variable's type `string` is checked when it is used: `text as DurationText`. */
export type DurationText = `${number}${'ms' | 's' | 'm' | 'h' | 'd' | 'w'}`

/** Milliseconds, or a text such as '500ms', '30s', '5m', '1.5h', '7d', '2w'. */
export type Duration = number | DurationText

/** The only source of time. `now` is the wall clock, `monotonic` never jumps; timers run on the monotonic one. */
export interface Clock {
  /** The wall clock in Unix ms. */
  now(): Instant
  /** Ms since some fixed instant; never jumps. */
  monotonic(): number
  /**
   * Ms for which this process stood still, as while it was stopped or its machine slept, since some fixed instant. What a
   * handler could not use is not part of its time. Absent where that cannot happen.
   */
  stoodStill?(): number
  /** Calls `callback` once after `ms`; returns a function that cancels it. Keeps the process alive until then. */
  timer(ms: number, callback: () => void): () => void
}

// The fake timers of test runners (jest, vitest, sinon) replace the globals, now or before this file is loaded: a queue in such a
// test would wait for ever, as its storage thread lives in real time.
const { now } = Date
const monotonic = performance.now.bind(performance)

/** In the next turn of the event loop, after what has arrived. Real also under the fake timers of a test. */
export const inNextTurn = (callback: () => void): void => void setImmediate(callback)

/** Gives each that asks a turn of the event loop of its own, one after the other: what takes milliseconds each would stop it for their sum. */
export class Turns {
  #last = Promise.resolve()

  next(): Promise<void> {
    this.#last = this.#last.then(() => new Promise(inNextTurn))
    return this.#last
  }
}

/** When what runs now has returned. Real also under the fake timers of a test. */
export const afterThis = (callback: () => void): void => nextTick(callback)

/**
 * Fakes that sinon or the mock of node:test had put into node:timers before this file was loaded: there is no way to the real ones, and
 * a queue would wait for ever.
 */
export const timersAreFake = 'clock' in setTimeout || setTimeout.name === 'bound #createTimer'

const longestTimer = 2 ** 31 - 1 // setTimeout fires at once for anything longer

/** How often the process looks whether it stood still, and how late such a look is when it did, in ms. */
const lookEvery = 1000

/** Notices gaps: a look that comes more than a second late. It runs while somebody asks. */
class Gaps {
  #total = 0
  #expectedAt = Number.POSITIVE_INFINITY
  #askedAt = 0

  total(): number {
    this.#askedAt = monotonic()
    if (this.#expectedAt === Number.POSITIVE_INFINITY) this.#arm()
    return this.#total + this.#late()
  }

  #late(): number {
    const late = monotonic() - this.#expectedAt
    return late > lookEvery ? late : 0
  }

  #arm(): void {
    this.#expectedAt = monotonic() + lookEvery
    setTimeout(() => {
      this.#total += this.#late()
      if (monotonic() - this.#askedAt < forgetAfter) this.#arm()
      else this.#expectedAt = Number.POSITIVE_INFINITY
    }, lookEvery).unref()
  }
}

/** How long after the last question it goes on looking, in ms. */
const forgetAfter = 86_400_000

const gaps = new Gaps()

export const systemClock: Clock = {
  now: () => now(),
  monotonic: () => monotonic(),
  stoodStill: () => gaps.total(),
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
