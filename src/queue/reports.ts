import type { Clock } from '../model/clock.ts'
import { asQueueError, GopherQueueError, isQueueError } from '../model/errors.ts'
import type { Fate } from '../store/store.ts'
import type { Emit } from './events.ts'

/** What a worker tells the store of its jobs, until it is on disk: `stop` waits for that. */
export class Reports {
  readonly #emit: Emit
  #underWay = 0
  #onStored: (() => void) | undefined

  constructor(emit: Emit) {
    this.#emit = emit
  }

  /** `onLeaseLost`: in place of a warning. */
  send(report: Promise<Fate>, onDisk?: (fate: Fate) => void, onLeaseLost?: () => void): void {
    const settled = () => {
      if (--this.#underWay === 0) this.#onStored?.()
    }
    this.#underWay++
    report.then(
      (fate) => {
        onDisk?.(fate)
        settled()
      },
      (error) => {
        if (onLeaseLost && isQueueError(error) && error.code === 'LEASE_LOST') onLeaseLost()
        else this.#emit('warning', error)
        settled()
      },
    )
  }

  /** Resolves when none is under way. */
  async stored(): Promise<void> {
    // The answer that settles the last one may have brought jobs, whose releases are reports, too.
    while (this.#underWay > 0) await new Promise<void>((resolve) => (this.#onStored = resolve))
  }
}

/** How often a worker says again what refuses it, and after which pause that is a refusal of its own, in ms. */
const refusals = { tellEvery: 60_000, apart: 15_000 }

/** What keeps a worker from working, which it tries again each second: told once, then each minute, with a count. */
export class Refusals {
  readonly #worker: string
  readonly #clock: Clock
  readonly #emit: Emit
  #last = { code: '', at: 0, toldAt: 0, times: 0 }

  constructor(worker: string, clock: Clock, emit: Emit) {
    this.#worker = worker
    this.#clock = clock
    this.#emit = emit
  }

  tell(failed: string, error: unknown): void {
    const { code, message, accepted, details } = asQueueError(error)
    const at = this.#clock.monotonic()
    const last = this.#last
    const goesOn = last.code === code && at - last.at < refusals.apart
    const [times, isDue] = [goesOn ? last.times + 1 : 1, !goesOn || at - last.toldAt >= refusals.tellEvery]
    this.#last = { code, at, times, toldAt: isDue ? at : last.toldAt }
    if (!isDue) return
    const says = `Worker '${this.#worker}' could not ${failed}${times > 1 ? `, ${times} times by now` : ''}: it takes no new jobs, and asks again each second by itself.`
    this.#emit('warning', new GopherQueueError(code, `${says} ${message}`, { accepted, details, cause: error }))
  }
}

/** How long storage may take to hear a worker's last word, in ms. */
const lastWord = 10_000

/** Storage that is away may never come back: then the leases end by themselves. Throws STORAGE_UNAVAILABLE after `lastWord`. */
export function inTime(clock: Clock, worker: string, work: Promise<void> | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const stopTimer = clock.timer(lastWord, () =>
      reject(
        new GopherQueueError(
          'STORAGE_UNAVAILABLE',
          `Worker '${worker}' has stopped, but storage did not answer for ${lastWord / 1000} s. Whether its last outcomes are stored is not known: jobs without one run again when their leases are over.`,
          { accepted: 'unknown' },
        ),
      ),
    )
    Promise.resolve(work).finally(stopTimer).then(resolve, reject)
  })
}
