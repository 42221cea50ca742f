import { randomUUID } from 'node:crypto'
import { nameOf, systemProcesses } from '../sqlite/processes.ts'
import type { LeaseRequest, WorkerRegistration } from '../store.ts'
import type { Answer } from './calls.ts'
import type { Client } from './client.ts'
import { numberedBy } from './numbers.ts'

/** Names this process, in each of its threads: what its workers run was lost together when it is gone. */
const instance = nameOf(systemProcesses.me)

/** How often at most one request for jobs is sent: what is sent again counts for less than a newer request. */
const mostTurns = 2 ** 20

/** How long a request waits that leaves jobs out, in ms. */
const shortWait = 1000

type Given = Answer<'lease'>

/** The workers of this process as the server knows them, and their requests for jobs. */
export class RemoteWorkers {
  readonly #client: Client
  /** Ids as the server gave them, by their number; one of another file may have the same number. */
  readonly #ids = new Map<number, string>()
  /** By worker: the turns whose answers may still arrive. */
  readonly #listening = new Map<number, Set<number>>()
  #turn = 0

  constructor(client: Client) {
    this.#client = client
  }

  get size(): number {
    return this.#ids.size
  }

  /** Signs on; the same call, sent again because its answer was lost, signs on no second worker. */
  async register({ name, sources, slots, known, request }: WorkerRegistration): Promise<number> {
    const before = known === undefined ? undefined : this.#ids.get(known)
    const body = { name, sources, slots, instance, ...(before !== undefined && { known: before }) }
    const { worker } = await this.#client.call('register', { body, key: request ?? randomUUID() })
    if (known !== undefined) this.#ids.delete(known)
    let { number } = numberedBy(worker)!
    while (this.#ids.has(number)) number += 2 ** 40
    this.#ids.set(number, worker)
    return number
  }

  async stopping(worker: number): Promise<null> {
    await this.#client.call('stopping', { params: { id: this.#idOf(worker) } })
    return null
  }

  async unregister(worker: number): Promise<null> {
    await this.#client.call('unregister', { params: { id: this.#idOf(worker) } })
    this.#ids.delete(worker)
    this.#listening.delete(worker)
    return null
  }

  /** An id that this process was not given fits no worker. */
  #idOf(worker: number): string {
    return this.#ids.get(worker) ?? `${'0'.repeat(16)}.${worker}`
  }

  /**
   * Polls until there is a job, or a newer request has taken this one's place. `tell` is asked at each sending, by the epoch of
   * the worker's file: for the tokens that are held, and the jobs that must not start beside their handlers.
   */
  async poll(
    request: LeaseRequest,
    waitMs: number,
    tell: (epoch: string) => { holds: string[]; exclude: number[] },
  ): Promise<Given['jobs']> {
    const { worker, sources, slots } = request
    const listening = this.#listening.get(worker) ?? new Set()
    this.#listening.set(worker, listening)
    let turn = ++this.#turn * mostTurns
    const send = () => {
      listening.delete(turn) // of what was sent before, no answer is listened to any more
      listening.add(++turn)
      const since = Math.min(...listening)
      const id = this.#idOf(worker)
      const { holds, exclude } = tell(id.split('.')[0]!)
      const wait = exclude.length > 0 ? Math.min(waitMs, shortWait) : waitMs // a handler that ends makes its job free
      return { worker: id, sources, slots, waitMs: wait, turn, since, holds, exclude }
    }
    try {
      for (;;) {
        const { jobs, replaced } = await this.#client.call('lease', { body: send })
        if (jobs.length > 0 || replaced || waitMs === 0) return jobs
      }
    } finally {
      listening.delete(turn)
    }
  }
}
