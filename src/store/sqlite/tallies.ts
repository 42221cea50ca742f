import type { Histogram, Vitals } from '../store.ts'
import type { Reply } from './request.ts'

/** How the store itself does in this process, and who has asked for it. */
export class Tallies {
  readonly #commits = histogram([0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 5000])
  readonly #groups = histogram([1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000])
  /** Seqs of the requests for the vitals. */
  #askers: number[] = []

  ask(seq: number): void {
    this.#askers.push(seq)
  }

  get isAsked(): boolean {
    return this.#askers.length > 0
  }

  committed(ms: number): void {
    count(this.#commits, ms)
  }

  grouped(operations: number): void {
    count(this.#groups, operations)
  }

  answer(starving: boolean): Reply[] {
    const value: Vitals = { starving, commits: this.#commits, groups: this.#groups } // copied on their way out of the thread
    return this.giveUp().map((seq) => ({ seq, value }))
  }

  /** Lets go of all that ask: their seqs. */
  giveUp(): number[] {
    return this.#askers.splice(0)
  }
}

const histogram = (bounds: number[]): Histogram => ({ bounds, counts: [...bounds, 0].fill(0), sum: 0 })

function count(into: Histogram, value: number): void {
  let i = 0
  while (value > into.bounds[i]!) i++ // false of what is beyond the last
  into.counts[i]!++
  into.sum += value
}
