import { drains } from '../../model/company.ts'
import type { Source } from '../store.ts'
import type { Db } from './db.ts'
import { type Overdue, overdueFor } from './losses.ts'

// How many jobs a process may hold, when some of them may run beside a limited number of others only.

/** The process that asks for jobs, as the file knows it. */
interface Asking {
  /** Names it; null for a worker without a row. */
  instance: string | null
  /** Whether any job that may start or runs has limited company: mostly none, and then nothing more is looked at. */
  restricted: 0 | 1
  /** JSON of each of its workers whose handlers go on although their attempts are over. */
  overdue: string | null
}

export interface Candidate {
  id: number
  priority: number
  company: number | null
  source: Source
}

/** The next job of a process, for which it has no room yet. */
interface HeldBack {
  id: number
  priority: number
  /** The worker that would run it. */
  worker: number
  /** On the monotonic clock. */
  since: number
}

/** Says for one candidate after the other whether the process may take it; after the first no, there is no further. */
export type Gate = (candidate: Candidate) => boolean

/** The jobs for which processes hold others back: by process. */
export class Company {
  readonly #heldBack = new Map<string, HeldBack>()
  /** Whether a worker waits for jobs: one that does not cannot take the job that others are held back for. */
  readonly #waits: (worker: number) => boolean

  constructor(waits: (worker: number) => boolean) {
    this.#waits = waits
  }

  /** While a process holds jobs back, what its workers may take changes with time alone. */
  get holdsBack(): boolean {
    return this.#heldBack.size > 0
  }

  holdsBackFor(worker: number): boolean {
    return [...this.#heldBack.values()].some((heldBack) => heldBack.worker === worker)
  }

  forget(worker: number): void {
    for (const [instance, heldBack] of this.#heldBack) if (heldBack.worker === worker) this.#heldBack.delete(instance)
  }

  /** What the claim of a worker has to heed: jobs that it must not take, and the gate, null where everything passes. */
  ask(db: Db, worker: number): { excluded: Set<number>; gate: Gate | null } {
    const asking = db.get<Asking>(
      `SELECT instance,
              EXISTS (SELECT 1 FROM gq_jobs WHERE company IS NOT NULL AND finished_at IS NULL) AS restricted,
              (SELECT group_concat(overdue, ' ') FROM gq_workers o
               WHERE o.instance = w.instance AND ended_at IS NULL AND overdue <> '[]') AS overdue
       FROM (SELECT 1) LEFT JOIN gq_workers w ON w.id = ?1`,
      worker,
    )!
    const excluded = new Set((asking.overdue?.split(' ') ?? []).flatMap((list) => stillOverdue(list, db.now)))
    if (asking.restricted === 0) {
      this.#heldBack.clear()
      return { excluded, gate: null }
    }
    return { excluded, gate: this.#gate(db, worker, asking.instance ?? `worker ${worker}`) }
  }

  #gate(db: Db, worker: number, instance: string): Gate {
    const monotonic = db.clock.monotonic()
    const { held, least } = db.get<{ held: number; least: number | null }>(
      `SELECT COUNT(*) AS held, MIN(company) AS least FROM gq_jobs
       WHERE state = 'running' AND (worker_id = ?1 OR worker_id IN (SELECT id FROM gq_workers WHERE instance = ?2 AND ended_at IS NULL))`,
      ...[worker, instance],
    )!
    let holds = held
    let most = (least ?? Number.POSITIVE_INFINITY) + 1
    return ({ id, priority, company }) => {
      const before = this.#before(db, instance, id)
      if (before && (priority >= before.priority || drains(monotonic - before.since))) return false
      const limit = Math.min(most, (company ?? Number.POSITIVE_INFINITY) + 1)
      if (holds + 1 <= limit) {
        holds++
        most = limit
        if (this.#heldBack.get(instance)?.id === id) this.#heldBack.delete(instance)
        return true
      }
      const since = this.#heldBack.get(instance)?.since ?? monotonic
      if (company !== null && holds + 1 > company + 1) this.#heldBack.set(instance, { id, priority, worker, since })
      return false
    }
  }

  /** The job, other than `id`, that its process is to start before all of its class and of lower ones. */
  #before(db: Db, instance: string, id: number): HeldBack | null {
    const heldBack = this.#heldBack.get(instance)
    if (!heldBack || heldBack.id === id) return null
    const mayStart = db.get(
      `SELECT 1 FROM gq_jobs
       WHERE id = ?1 AND state = 'ready' AND blocked = 0 AND company IS NOT NULL AND (deadline IS NULL OR deadline > ?2)
         AND NOT EXISTS (SELECT 1 FROM gq_queues WHERE name = queue AND (paused = 1 OR running >= max_running))`,
      ...[heldBack.id, db.now],
    )
    if (!mayStart) this.#heldBack.delete(instance)
    return mayStart && this.#waits(heldBack.worker) ? heldBack : null
  }
}

function stillOverdue(list: string, now: number): number[] {
  const handlers = JSON.parse(list) as Overdue[]
  return handlers.filter(({ since }) => Math.abs(now - since) < overdueFor).map(({ id }) => id)
}
