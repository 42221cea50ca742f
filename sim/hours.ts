import { must } from './checker.ts'

/** What has happened, in an hour or in all: jobs submitted, succeeded, attempts failed, jobs dead. */
export type Sums = [submitted: number, succeeded: number, failed: number, dead: number]
const plus = (a: Sums, b: Sums): Sums => a.map((one, i) => one + b[i]!) as Sums
const none: Sums = [0, 0, 0, 0]

const kept = 8 * 24

/** The hours of types add up to what has happened in the queues; those that are gone are old. */
export class Hours {
  #hours = new Map<number, Sums>()
  #gone = none

  look(total: Sums, hours: Map<number, Sums>, now: number): void {
    for (const [hour, sums] of this.#hours) {
      if (hours.has(hour)) continue
      must(hour < now / 3_600_000 - kept, 'hours are kept for 8 days', () => [hour, now])
      this.#gone = plus(this.#gone, sums)
    }
    this.#hours = hours
    const all = [...hours.values()].reduce(plus, this.#gone)
    must(`${all}` === `${total}`, 'the hours of types add up to what happened in the queues', () => [all, total])
  }

  /** A copy of the file has taken its place: of what was gone in it, only the sum is known. */
  restored(total: Sums, hours: Map<number, Sums>): void {
    this.#hours = hours
    const kept = [...hours.values()].reduce(plus, none)
    this.#gone = total.map((one, i) => one - kept[i]!) as Sums
  }
}
