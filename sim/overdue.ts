import type { Input, Lease } from '../src/store/store.ts'
import type { Call } from './checker.ts'
import type { Snapshot } from './file.ts'
import type { Held } from './model.ts'
import { nameOf, type Tenures } from './tenures.ts'

/** How long a handler that goes on after its attempt may keep its job from starting beside it, in ms. */
const overdueFor = 30_000

/** A handler that goes on, and since when by the wall clock of that time. */
export type GoesOn = Held & { since: number }

/** Handlers that go on: for so long, on the monotonic clock, their jobs need not start in their process. */
export class Overdue {
  readonly #tenures: Tenures
  /** When they were listed, or heard that their leases are lost: by the names of these. */
  readonly #since = new Map<string, number>()

  /** Of these an event has said that they are lost. */
  readonly #told = new Set<string>()

  constructor(tenures: Tenures) {
    this.#tenures = tenures
  }

  /** After a call, of whichever process. */
  look({ overdue }: Snapshot, { asked, replies, ended, events }: Call): void {
    for (const one of overdue) if (!this.#since.has(nameOf(one))) this.#since.set(nameOf(one), ended)
    // Who reports before it has heard hears so by the answer.
    for (const reply of replies) {
      if (!('error' in reply) || reply.error.code !== 'LEASE_LOST') continue
      const { input } = asked.find(({ seq }) => seq === reply.seq)!
      const name = nameOf((input as Partial<Input<'fail'>>).lease ?? (input as Lease))
      if (!this.#told.has(name)) this.#since.set(name, ended)
    }
    for (const event of events)
      if (event.event === 'leaseLost') {
        this.#told.add(nameOf(event))
        this.#since.set(nameOf(event), ended)
      }
  }

  /** The leases of another file may have the same names. */
  restored(): void {
    this.#since.clear()
    this.#told.clear()
  }

  /** Jobs that a worker's process need not start. A server that has not seen a handler's time begin goes by the wall clock. */
  of(worker: number, { overdue }: Snapshot, now: number, elapsed: number): Set<number> {
    const { holder } = this.#tenures.holderOf({ worker })
    const isFar = Number.isNaN(Number(holder))
    const keeps = (one: GoesOn) =>
      elapsed - this.#since.get(nameOf(one))! < overdueFor || (isFar && now - one.since < overdueFor)
    const here = overdue.filter((one) => this.#tenures.holderOf(one).holder === holder)
    return new Set(here.filter(keeps).map(({ id }) => id))
  }
}
