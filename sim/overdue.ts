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
  /** When they were listed, or heard that their leases are lost, and how long their process had attended then: by name. */
  readonly #since = new Map<string, { at: number; attended: number }>()

  /** Of these an event has said that they are lost. */
  readonly #told = new Set<string>()

  constructor(tenures: Tenures) {
    this.#tenures = tenures
  }

  /** After a call, of whichever process. */
  look({ overdue }: Snapshot, { asked, replies, ended, events }: Call): void {
    const listed = new Map(overdue.map((one) => [nameOf(one), this.#tenures.holderOf(one).life]))
    const begin = (name: string) => {
      const life = listed.get(name)
      this.#since.set(name, { at: ended, attended: life ? life.attended + ended - life.plannedAt : 0 })
    }
    for (const name of listed.keys()) if (!this.#since.has(name)) begin(name)
    // Who reports before it has heard hears so by the answer.
    for (const reply of replies) {
      if (!('error' in reply) || reply.error.code !== 'LEASE_LOST') continue
      const { input } = asked.find(({ seq }) => seq === reply.seq)!
      const name = nameOf((input as Partial<Input<'fail'>>).lease ?? (input as Lease))
      if (!this.#told.has(name)) begin(name)
    }
    for (const event of events)
      if (event.event === 'leaseLost') {
        this.#told.add(nameOf(event))
        begin(nameOf(event))
      }
  }

  /** The leases of another file may have the same names. */
  restored(): void {
    this.#since.clear()
    this.#told.clear()
  }

  /**
   * Jobs that a worker's process need not start. Time in which it stood still counts for nothing. A server that has not seen
   * a handler's time begin goes by the wall clock.
   */
  of(worker: number, { overdue }: Snapshot, now: number, elapsed: number): Set<number> {
    const { holder } = this.#tenures.holderOf({ worker })
    const isFar = Number.isNaN(Number(holder))
    const keeps = (one: GoesOn) => {
      const { at, attended } = this.#since.get(nameOf(one))!
      const { life } = this.#tenures.holderOf(one)
      const went = Math.min(elapsed - at, life.attendedBefore - attended)
      return went < overdueFor || (isFar && now - one.since < overdueFor)
    }
    const here = overdue.filter((one) => this.#tenures.holderOf(one).holder === holder)
    return new Set(here.filter(keeps).map(({ id }) => id))
  }
}
