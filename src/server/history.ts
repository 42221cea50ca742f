import type { Clock } from '../model/clock.ts'
import type { Answer } from '../store/http/api.ts'
import type { Stats, Store } from '../store/store.ts'
import type { Hub } from './hub.ts'

type Sample = Answer<'history'>['samples'][number]

const keptMs = 6 * 3_600_000
const sampleEvery = 10_000
/** While somebody listens: so soon they hear what other processes do to the file. */
const lookEvery = 1000

/** Looks at the numbers of the store: keeps samples of the last hours, and tells that something has `changed`. */
export class History {
  readonly #store: Store
  readonly #clock: Clock
  readonly #hub: Hub
  #samples: Sample[] = []
  #seen = ''
  /** Listeners that are no clients. */
  readonly #always: number
  #stop = (): void => undefined

  constructor(store: Store, clock: Clock, hub: Hub) {
    this.#store = store
    this.#clock = clock
    this.#hub = hub
    this.#always = hub.listeners
    this.#look()
  }

  since(at: number): Sample[] {
    return this.#samples.filter((sample) => sample.at > at)
  }

  stop(): void {
    this.#stop()
    this.#stop = () => undefined
  }

  #look(): void {
    const due = this.#clock.now() - (this.#samples.at(-1)?.at ?? 0) >= sampleEvery
    if (due || this.#hub.listeners > this.#always) {
      const at = this.#clock.now()
      this.#store.call('stats', null).then(
        (stats) => this.#see(stats, due ? at : null),
        () => this.#hub.tell('changed', {}), // health says why
      )
    }
    this.#stop = this.#clock.timer(lookEvery, () => this.#look())
  }

  #see({ queues, workers, oldestReadyMs }: Stats, at: number | null): void {
    const sum = (pick: (queue: Stats['queues'][number]) => number) => queues.reduce((all, one) => all + pick(one), 0)
    const [ready, running, dead] = (['ready', 'running', 'dead'] as const).map((state) => sum((q) => q.counts[state]))
    if (at !== null) {
      const totals = { submitted: sum((q) => q.totals.submitted), succeeded: sum((q) => q.totals.succeeded) }
      const counts = { ready: ready!, running: running!, dead: dead! }
      this.#samples.push({ at, ...totals, failed: sum((q) => q.totals.failed), ...counts, oldestReadyMs })
      if (this.#samples[0]!.at < at - keptMs) this.#samples.shift()
    }
    const seen = JSON.stringify([queues, workers.map(({ seenAt: _, ...worker }) => worker)])
    if (seen !== this.#seen) this.#hub.tell('changed', {})
    this.#seen = seen
  }
}
