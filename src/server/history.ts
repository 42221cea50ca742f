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
  /** Of the jobs that were started over this server since the last sample. */
  #waits = { count: 0, ms: 0 }
  /** Listeners that are no clients. */
  readonly #always: number
  #stop = (): void => undefined
  #stopped = false

  constructor(store: Store, clock: Clock, hub: Hub) {
    this.#store = store
    this.#clock = clock
    this.#hub = hub
    hub.listen(null, ({ waitMs }) => {
      if (typeof waitMs === 'number') this.#waits = { count: this.#waits.count + 1, ms: this.#waits.ms + waitMs }
    })
    this.#always = hub.listeners
    this.#look()
  }

  since(at: number): Sample[] {
    return this.#samples.filter((sample) => sample.at > at)
  }

  stop(): void {
    this.#stopped = true
    this.#stop()
  }

  #look(): void {
    const due = Math.abs(this.#clock.now() - (this.#samples.at(-1)?.at ?? 0)) >= sampleEvery
    if (due || this.#hub.listeners > this.#always) {
      const at = this.#clock.now()
      this.#store
        .call('stats', null)
        .then(
          (stats) => this.#see(stats, due ? at : null),
          () => this.#hub.tell('changed', {}), // health says why
        )
        .finally(() => this.#again())
    } else this.#again()
  }

  /** The next look begins when this one has ended: where it takes long, looks would queue up before everybody else's calls. */
  #again(): void {
    if (!this.#stopped) this.#stop = this.#clock.timer(lookEvery, () => this.#look())
  }

  #see({ queues, others, workers, oldestReadyMs }: Stats, at: number | null): void {
    const sum = (pick: (queue: Pick<Stats['others'], 'counts' | 'totals'>) => number) =>
      queues.reduce((all, one) => all + pick(one), pick(others))
    if (at !== null) {
      const { count, ms } = this.#waits
      this.#waits = { count: 0, ms: 0 }
      this.#samples.push({
        at,
        ...{ submitted: sum((queue) => queue.totals.submitted), succeeded: sum((queue) => queue.totals.succeeded) },
        ...{ failed: sum((queue) => queue.totals.failed), dead: sum((queue) => queue.counts.dead) },
        ...{ ready: sum((queue) => queue.counts.ready), running: sum((queue) => queue.counts.running) },
        ...{ oldestReadyMs, waitMs: count > 0 ? ms / count : null },
      })
      if (this.#samples[0]!.at < at - keptMs) this.#samples.shift()
    }
    const seen = JSON.stringify([queues, others, workers.map(({ seenAt: _, ...worker }) => worker)])
    if (seen !== this.#seen) this.#hub.tell('changed', {})
    this.#seen = seen
  }
}
