import { operations } from '../operations.ts'
import type { Input, Operation, StoreEvent } from '../store.ts'
import { runningBy } from './claim.ts'
import type { Db } from './db.ts'
import { type Held, Leases } from './leases.ts'
import type { Reply, Request } from './request.ts'
import { Terms } from './terms.ts'
import type { Assigned } from './waiting.ts'

/** Who works here, and what they run. */
export class Crew {
  /** Workers of this process. */
  readonly own = new Set<number>()
  /** Workers reached over the network: what they run is theirs to renew. */
  readonly #remotes = new Set<number>()
  readonly leases = new Leases()
  readonly terms = new Terms()

  get all(): number[] {
    return [...this.own, ...this.#remotes]
  }

  add(worker: number, isRemote: boolean): void {
    if (isRemote) this.#remotes.add(worker)
    else this.own.add(worker)
  }

  forget(worker: number): void {
    this.own.delete(worker)
    this.#remotes.delete(worker)
  }

  clear(): void {
    this.own.clear()
    this.#remotes.clear()
  }

  /**
   * Leases of workers here that another process has taken. No other process leases to own workers: while one runs as many
   * jobs as memory has leases of it, none was taken, and 10,000 rows need not be compared under the write lock. Of workers
   * on the network only those that are `asking` for jobs might start one beside its handler.
   */
  takenElsewhere(db: Db, asking: Iterable<number>): Held[] {
    const counts = this.leases.counts()
    const own = [...this.own].filter((worker) => runningBy(db, worker) !== (counts.get(worker) ?? 0))
    const remote = [...asking].filter((worker) => this.#remotes.has(worker) && counts.has(worker))
    return this.leases.lostOf(db, [...own, ...remote])
  }

  /** Notes the leases of jobs that were assigned. Returns what handlers have to hear of earlier leases of these jobs. */
  given(assigned: Assigned[], committed: number): StoreEvent[] {
    const events: StoreEvent[] = []
    for (const { request, jobs } of assigned) {
      const isHere = this.own.has(request.input.worker)
      if (!isHere && jobs.length > 0) this.add(request.input.worker, true) // it may have signed on with an earlier server
      for (const job of jobs) {
        events.push(...this.leases.add(job, request.input.worker))
        if (isHere) this.terms.add(job, committed)
        else this.terms.watch(job, committed)
      }
    }
    return events
  }

  /** Ends the leases that answered requests have ended. Returns who has signed on or off, in their order. */
  *follow(
    requests: Request[],
    answers: Reply[],
    present: string,
  ): Generator<{ worker: number; registered?: Input<'register'> }> {
    for (const [i, { operation, input, epoch = present }] of requests.entries()) {
      if (epoch !== present) continue // issued by a file that was replaced: a lease of this file may have the same id and token
      const answer = answers[i]!
      const { ends } = operations[operation as Operation]
      if (typeof ends === 'function') this.leases.end(ends(input as never))
      else if (ends === 'worker') yield { worker: input as number }
      else if (operation === 'register' && 'value' in answer)
        yield { worker: answer.value as number, registered: input as Input<'register'> }
    }
  }
}
