import { AsyncLocalStorage } from 'node:async_hooks'
import type { Clock } from '../model/clock.ts'
import { GopherQueueError } from '../model/errors.ts'
import type { Job } from '../model/job.ts'
import { isTerminal } from '../model/lifecycle.ts'
import type { Source, Store } from '../store/store.ts'

/** How long all slots of a worker wait before somebody looks whether that can end, and between two such looks, in ms. */
const looks = { first: 1000, later: 30_000 }
/** Most jobs that one look reads. */
const mostRead = 100

/** What the code of a handler knows of it: one for each slot of a worker, used again, as a context made anew for each attempt costs 1.5 us. */
export interface Slot {
  /** Ids of the jobs whose end its handler waits for now; made by the first wait, as few handlers wait. */
  waits: number[] | undefined
  readonly starving: Starving
  /** Runs something in the asynchronous context of this slot, and in no other job's. */
  readonly inside: <T>(run: () => T) => T
}

/** A worker, as far as its slots are concerned. */
interface Pool {
  readonly name: string
  readonly sources: () => readonly Source[]
  /** How many slots no overdue handler holds. */
  readonly slots: () => number
  readonly handlers: ReadonlySet<Pick<Slot, 'waits'> & { lease: { id: number } }>
}

/** The slot whose handler a piece of code belongs to. */
const slotNow = new AsyncLocalStorage<Slot>()

/** Waits for the end of a job; what it is that waits is known when that is a handler. */
export async function waitInHandler<T>(store: Store, id: number, wait: () => Promise<T>): Promise<T> {
  const slot = slotNow.getStore()
  if (slot?.starving.store !== store) return wait() // in no handler, or for a job of another file
  slot.waits ??= []
  const { waits } = slot
  waits.push(id)
  slot.starving.begins()
  try {
    return await wait()
  } finally {
    waits.splice(waits.indexOf(id), 1)
  }
}

/**
 * Tells once of a type that handlers which wait for its jobs hold all slots in which these could run: nothing fails then, and
 * nothing goes on until a timeout. False alarms cost trust, so a look has to find that no job awaited here runs but in these
 * very slots, that each is of this worker's sources, and that no other live worker takes it. A wait with a timeout or a
 * signal ends by itself. What limits or a paused queue keep from starting, and workers that wait for each other, are not told.
 */
export class Starving {
  readonly store: Store
  readonly #pool: Pool
  readonly #clock: Clock
  readonly #warn: (warning: GopherQueueError) => void
  readonly #told = new Set<string>()
  readonly #free: Slot[] = []
  #stopTimer: (() => void) | undefined
  #stopped = false

  constructor(pool: Pool, store: Store, clock: Clock, warn: (warning: GopherQueueError) => void) {
    this.#pool = pool
    this.store = store
    this.#clock = clock
    this.#warn = warn
  }

  /** A slot for an attempt, until `give`. `context` runs something in the asynchronous context of the worker. */
  take(context: Slot['inside']): Slot {
    const free = this.#free.pop()
    if (free) return free
    const slot: { -readonly [K in keyof Slot]: Slot[K] } = { waits: undefined, starving: this, inside: context }
    slot.inside = context(() => slotNow.run(slot, () => AsyncLocalStorage.snapshot())) as Slot['inside']
    return slot
  }

  /** Its handler has ended; what that has left behind waits for nobody. */
  give(slot: Slot): void {
    slot.waits = undefined
    this.#free.push(slot)
  }

  /** A handler begins to wait. */
  begins(): void {
    if (!this.#stopTimer && this.#allWait()) this.#lookIn(looks.first)
  }

  stop(): void {
    this.#stopped = true
    this.#stopTimer?.()
  }

  #allWait(): boolean {
    const { handlers, slots } = this.#pool
    if (this.#stopped || handlers.size === 0 || handlers.size < slots()) return false
    for (const { waits } of handlers) if (!waits?.length) return false
    return true
  }

  #lookIn(ms: number): void {
    this.#stopTimer = this.#clock.timer(ms, () => {
      const goOn = () => {
        this.#stopTimer = undefined
        if (this.#allWait()) this.#lookIn(looks.later)
      }
      if (this.#allWait())
        this.#look().then(goOn, goOn) // storage may be away: health tells, and the next look
      else this.#stopTimer = undefined
    })
  }

  async #look(): Promise<void> {
    const { handlers, sources } = this.#pool
    const ids = new Set([...handlers].flatMap(({ waits }) => waits ?? []))
    const jobs = await Promise.all([...ids].slice(0, mostRead).map((id) => this.store.call('job', id)))
    const isOurs = (job: Source) => sources().some(({ queue, type }) => queue === job.queue && type === job.type)
    const held = new Set([...handlers].map(({ lease }) => lease.id))
    for (const job of jobs)
      if (!job || isTerminal(job.state) || (job.state === 'running' && !held.has(job.id)) || !isOurs(job)) return
    const first = jobs.find((job) => job!.state !== 'running') ?? jobs[0]!
    const { workers } = await this.store.call('stats', null)
    const able = workers.filter(
      ({ alive, sources, sourceCount }) =>
        alive &&
        (sources.length < sourceCount ||
          sources.some(({ queue, type }) => queue === first.queue && type === first.type)),
    )
    if (able.length <= 1 && this.#allWait()) this.#tell(first)
  }

  #tell({ id, queue, type, state }: Job): void {
    if (this.#told.has(type)) return
    this.#told.add(type)
    const { name, slots } = this.#pool
    const what = state === 'running' ? 'cannot end' : 'cannot start'
    const message = `Job ${id} of type '${type}' (queue '${queue}') ${what}: handlers that wait for other jobs hold every slot of worker '${name}' (${slots()}), and no other worker takes such jobs. No job is lost: the handlers hold their leases until their waits or attempts time out, and may meet the same again when they are tried again. Give the worker a higher concurrency than handlers that wait, give '${type}' a queue and a worker of its own, or let the handler submit the job and end. This is said once for each type.`
    this.#warn(
      new GopherQueueError('WAIT_STARVES', message, { accepted: 'yes', details: { job: id, type, worker: name } }),
    )
  }
}
