import type { Clock } from '../model/clock.ts'
import type { Store, StoreHealth, Vitals } from '../store/store.ts'

const askEvery = 1000

/** What works now, and why the rest does not. */
export type Readiness = Record<keyof StoreHealth['works'], { works: boolean; cause: string | null }>

/**
 * Has storage prove every second that it is not stuck: that a transaction gets the write lock, and that no worker waits for
 * a job that it could have. What was not proved for `patience` ms is not taken for well.
 */
export class Watchdog {
  readonly #store: Store
  readonly #clock: Clock
  readonly #patience: number
  readonly #tell: (readiness: Readiness) => void
  #told = ''
  /** Since when the storage thread owes an answer, on the monotonic clock. */
  #askedAt: number | null = null
  #refusal: string | null = null
  /** Since when somebody waits that could have a job, while nobody was given one. */
  #starvingSince: number | null = null
  #stopTimer: (() => void) | undefined
  /** As last heard of. */
  vitals: Vitals | null = null

  /** `tell` hears of each change. */
  constructor(store: Store, clock: Clock, patience: number, tell: (readiness: Readiness) => void) {
    this.#store = store
    this.#clock = clock
    this.#patience = patience
    this.#tell = tell
  }

  /** Asks from now on, until `stop`. */
  start(): void {
    if (this.#askedAt === null) void this.#ask()
    const { readiness } = this
    const text = JSON.stringify(readiness)
    if (this.#told !== '' && this.#told !== text) this.#tell(readiness)
    this.#told = text
    this.#stopTimer = this.#clock.timer(Math.min(askEvery, this.#patience / 2), () => this.start())
  }

  /** A worker was given jobs. */
  claimed(): void {
    this.#starvingSince = null
  }

  get readiness(): Readiness {
    const { works, causes } = this.#store.health
    const why = causes.map(({ message }) => message).join(' ')
    const stuck = this.#isOver(this.#askedAt)
      ? 'Storage has not answered for some seconds: another connection, of this process or of another, holds the write lock of the file, or the disk hangs. What is sent now waits with the rest.'
      : this.#refusal
    const of = (work: keyof Readiness, more: string | null = null) => {
      const cause = works[work] ? (stuck ?? more) : why
      return { works: cause === null, cause }
    }
    const starving = this.#isOver(this.#starvingSince)
      ? 'A worker waits for jobs that are ready and gets none: this should not be. Restart the server, and report it.'
      : null
    return { submit: of('submit'), lease: of('lease', starving), complete: of('complete') }
  }

  stop(): void {
    this.#stopTimer?.()
  }

  #isOver(since: number | null): boolean {
    return since !== null && this.#clock.monotonic() - since >= this.#patience
  }

  async #ask(): Promise<void> {
    this.#askedAt = this.#clock.monotonic()
    try {
      this.vitals = await this.#store.call('vitals', null)
      this.#starvingSince = this.vitals.starving ? (this.#starvingSince ?? this.#clock.monotonic()) : null
      this.#refusal = null
    } catch (error) {
      this.#refusal = (error as Error).message
    } finally {
      this.#askedAt = null
    }
  }
}
