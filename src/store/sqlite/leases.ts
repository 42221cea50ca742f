import type { Lease, StoreEvent } from '../store.ts'
import { release } from './attempt.ts'
import type { Db } from './db.ts'
import { runningOf } from './queries.ts'
import type { Reply, Request } from './request.ts'

export type Held = Pick<Lease, 'id' | 'token'>

/** The running jobs whose handlers are in this process. */
export class Leases {
  readonly #leases = new Map<number, { token: number; worker: number }>()
  /** By the job and all that its lease is known by: a stale one, which fits nothing, must not stand in for the present one. */
  readonly #progress = new Map<string, Request<'progress'>>()
  /** Since when some of it waits, on the monotonic clock. */
  #progressSince = Number.POSITIVE_INFINITY

  /** How many jobs each worker runs. */
  counts(): Map<number, number> {
    const counts = new Map<number, number>()
    for (const { worker } of this.#leases.values()) counts.set(worker, (counts.get(worker) ?? 0) + 1)
    return counts
  }

  /** Its handler is told: it is on disk. An older attempt of the job whose handler has not heard yet that it lost it hears so first. */
  add({ id, token }: Held, worker: number): StoreEvent[] {
    const older = this.#leases.get(id)?.token
    this.#leases.set(id, { token, worker })
    return older === undefined || older === token ? [] : [{ event: 'leaseLost', id, token: older }]
  }

  /** A transaction of this process took it: its handler, if that is here, hears so at once. */
  lose({ id, token }: Held): StoreEvent[] {
    if (this.#leases.get(id)?.token !== token) return []
    this.#leases.delete(id)
    return [{ event: 'leaseLost', id, token }]
  }

  /** Its handler is done. A late word on an older lease says nothing of the present one. */
  end({ id, token }: Held): void {
    if (this.#leases.get(id)?.token === token) this.#leases.delete(id)
  }

  /** Kept for the next transaction, or for a second: it is for people to see, and not worth an fsync of its own each time. */
  progress(request: Request<'progress'>, monotonic: number): Reply {
    this.#progressSince = Math.min(this.#progressSince, monotonic)
    const { seq, input, epoch } = request
    this.#progress.set(`${epoch} ${input.lease.id} ${input.lease.token}`, request)
    return { seq, value: null }
  }

  owesProgress(monotonic: number): boolean {
    return monotonic - this.#progressSince >= 1000
  }

  writeProgress(db: Db): void {
    for (const { input, epoch = db.epoch } of this.#progress.values()) {
      if (epoch !== db.epoch) continue // of a file that was replaced: its token may fit a lease of this one
      const { lease, percent, message } = input
      db.later(
        `UPDATE gq_jobs SET progress = ?3, progress_message = ?4 WHERE id = ?1 AND state = 'running' AND lease_token = ?2`,
        ...[lease.id, lease.token, percent, message],
      )
    }
  }

  progressWritten(): void {
    this.#progressSince = Number.POSITIVE_INFINITY
    if (this.#progress.size > 0) this.#progress.clear()
  }

  /** What the handlers of this process have to hear: another process has cancelled their job, or taken it. */
  news(db: Db, workers: number[]): StoreEvent[] {
    if (this.#leases.size === 0) return []
    const events: StoreEvent[] = []
    const running = new Map(runningOf(db, workers).map((row) => [row.id, row]))
    for (const [id, { token }] of this.#leases) {
      const row = running.get(id)
      if (row?.token !== token) {
        this.#leases.delete(id)
        events.push({ event: 'leaseLost', id, token })
      } else if (row.cancelRequestedAt !== null) events.push({ event: 'cancelRequested', id, token })
    }
    return events
  }

  /** Leases of these workers that another process has taken; nothing is changed by asking. */
  lostOf(db: Db, workers: number[]): Held[] {
    if (workers.length === 0) return []
    const running = new Map(runningOf(db, workers).map((row) => [row.id, row.token]))
    const of = new Set(workers)
    const all = [...this.#leases].map(([id, lease]) => ({ id, ...lease }))
    return all.filter(({ id, token, worker }) => of.has(worker) && running.get(id) !== token)
  }

  loseAll(): StoreEvent[] {
    const lost = [...this.#leases].map(([id, { token }]): StoreEvent => ({ event: 'leaseLost', id, token }))
    this.#leases.clear()
    this.progressWritten()
    return lost
  }

  /**
   * Gives back, uncharged, what these workers hold by the file's word although no handler was told: its COMMIT was
   * reported as failed and took place all the same. Their renewals would keep it from everyone until its timeout.
   */
  giveBackUntold(db: Db, workers: number[]): void {
    for (const row of runningOf(db, workers)) if (this.#leases.get(row.id)?.token !== row.token) release(db, row)
  }
}
