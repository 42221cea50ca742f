import type { Input, LeasedJob } from '../src/store/store.ts'
import { type Call, must } from './checker.ts'
import type { Queue, Snapshot } from './file.ts'

/**
 * The starts that were told, of queues with a rate: never more than the rate in any of its periods. Instants are the wall
 * clock's, which all processes share; when it is set, or the rate, all is forgotten. Written without a look at how starts are counted.
 */
export class Rates {
  readonly #starts = new Map<string, number[]>()
  #offset = Number.NaN

  /** Before the answers of a call. */
  begin(call: Call, before: Snapshot, after: Snapshot): void {
    if (call.now - call.elapsed !== this.#offset) this.#starts.clear()
    this.#offset = call.now - call.elapsed
    for (const { operation, input } of call.asked)
      if (operation === 'setQueue' && (input as Input<'setQueue'>).rate !== undefined)
        this.#starts.delete((input as Input<'setQueue'>).queue)
    for (const [name, queue] of after.queues) if (!isSame(before.queues.get(name), queue)) this.#starts.delete(name)
  }

  forget(): void {
    this.#starts.clear()
  }

  told(jobs: LeasedJob[], { asked }: Call, { queues }: Snapshot): void {
    for (const { queue, startedAt } of jobs) {
      const { rateMax: max, ratePer: per } = queues.get(queue)!
      const isSet = ({ operation, input }: Call['asked'][0]) =>
        operation === 'setQueue' && (input as Input<'setQueue'>).queue === queue
      if (max === null || per === null || asked.some(isSet)) continue
      const starts = this.#starts.get(queue) ?? []
      this.#starts.set(queue, starts)
      starts.push(startedAt)
      starts.sort((a, b) => a - b)
      for (const [i, at] of starts.entries())
        must(i < max || at - starts[i - max]! >= per, 'no more jobs start in a period than the rate', () => [
          ...[queue, max, per, starts],
        ])
    }
  }
}

const isSame = (a: Queue | undefined, b: Queue): boolean => a?.rateMax === b.rateMax && a?.ratePer === b.ratePer
