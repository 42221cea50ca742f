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
    if (this.#underWay > 0) await new Promise<void>((resolve) => (this.#onStored = resolve))
  }
}

/** What is told of a worker that has met `error` and will try again. */
export function couldNot(worker: string, failed: string, error: unknown): GopherQueueError {
  const { code, message, accepted, details } = asQueueError(error)
  const says = `Worker '${worker}' could not ${failed}: it takes no new jobs, and asks again each second by itself.`
  return new GopherQueueError(code, `${says} ${message}`, { accepted, details, cause: error })
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
