import { drains } from '../../model/company.ts'
import type { Source } from '../store.ts'
import { type Db, roomIn } from './db.ts'
import type { Asker } from './delivery.ts'
import { isRecent, type Overdue, overdueFor } from './losses.ts'

// How many jobs a process may hold, when some of them may run beside a limited number of others only.

export interface Candidate {
  id: number
  priority: number
  company: number | null
  source: Source
}

/** The next job of a process, for which it has no room yet. */
interface HeldBack extends Candidate {
  /** The worker that would run it. */
  worker: number
  /** On the monotonic clock. */
  since: number
}

/** What the process does with one candidate after the other: 'pass' leaves it to wait for `before`, after 'stop' there is no further. */
export type Gate = (candidate: Candidate) => 'take' | 'pass' | 'stop'

/** What a claim has to heed. */
export interface Heeded {
  /** Jobs that it must not take. */
  excluded: Set<number>
  /** Null where everything passes. */
  gate: Gate | null
  /** The job for which others are held back: it has to be among the candidates, however many stand before it. */
  before: Candidate | null
  /** The highest class of which jobs may be taken: while the process drains, that of the job it drains for. */
  from: number
}

/** The jobs for which processes hold others back: by process. */
export class Company {
  readonly #heldBack = new Map<string, HeldBack>()
  /** When the first job that was left out may start again beside its handler that goes on. */
  #nextTry = Number.POSITIVE_INFINITY
  /** Whether a worker waits for jobs of a line: one that does not cannot take the job that others are held back for. */
  readonly #waits: (worker: number, source: Source) => boolean

  constructor(waits: (worker: number, source: Source) => boolean) {
    this.#waits = waits
  }

  /** Whether time alone has changed what the workers of a process may take. Asked at each look. */
  isDue(monotonic: number): boolean {
    const due = monotonic >= this.#nextTry
    if (due) this.#nextTry = Number.POSITIVE_INFINITY
    return due || this.#heldBack.size > 0
  }

  forget(worker: number): void {
    for (const [instance, heldBack] of this.#heldBack) if (heldBack.worker === worker) this.#heldBack.delete(instance)
  }

  ask(db: Db, worker: number, { instance, restricted, overdue }: Asker, exclude: readonly number[]): Heeded {
    const excluded = new Set(exclude)
    for (const { id, since } of (overdue?.split(' ') ?? []).flatMap((list) => stillOverdue(list, db.now))) {
      excluded.add(id)
      const left = Math.max(0, since + overdueFor - db.now)
      this.#nextTry = Math.min(this.#nextTry, db.clock.monotonic() + left)
    }
    if (restricted === 0) {
      this.#heldBack.clear()
      return { excluded, gate: null, before: null, from: 0 }
    }
    const before = this.#before(db, worker, instance, excluded)
    const from = before && drains(db.clock.monotonic() - before.since) ? before.priority : 0
    return { excluded, gate: this.#gate(db, worker, instance, before), before, from }
  }

  #gate(db: Db, worker: number, instance: string, awaited: HeldBack | null): Gate {
    let before = awaited
    const { held, least } = db.get<{ held: number; least: number | null }>(
      `SELECT COUNT(*) AS held, MIN(company) AS least FROM gq_jobs
       WHERE state = 'running' AND (worker_id = ?1 OR worker_id IN (SELECT id FROM gq_workers WHERE instance = ?2 AND ended_at IS NULL))`,
      ...[worker, instance],
    )!
    let holds = held
    let most = (least ?? Number.POSITIVE_INFINITY) + 1
    return ({ id, priority, company, source }) => {
      const isOlder = before !== null && priority === before.priority && id < before.id
      const mayPass = !before || before.id === id || isOlder || priority < before.priority
      if (!mayPass) return 'pass'
      const limit = Math.min(most, (company ?? Number.POSITIVE_INFINITY) + 1)
      if (holds + 1 <= limit) {
        holds++
        most = limit
        if (this.#heldBack.get(instance)?.id === id) this.#heldBack.delete(instance)
        if (before?.id === id) before = null
        return 'take'
      }
      if (company !== null && holds > company) {
        const since = this.#heldBack.get(instance)?.since ?? db.clock.monotonic() // none once the one before has its room
        this.#heldBack.set(instance, { id, priority, company, source, worker, since })
      }
      return 'stop'
    }
  }

  /** The job that its process is to start before all others of its class and of lower ones. */
  #before(db: Db, asker: number, instance: string, excluded: ReadonlySet<number>): HeldBack | null {
    const heldBack = this.#heldBack.get(instance)
    if (!heldBack) return null
    // Another process may have had it meanwhile, and died beside it: it may run beside fewer than it might then.
    const ready = db.get<Pick<Candidate, 'company'>>(
      `SELECT company FROM gq_jobs
       WHERE id = ?1 AND state = 'ready' AND blocked = 0 AND company IS NOT NULL AND (deadline IS NULL OR deadline > ?2)`,
      ...[heldBack.id, db.now],
    )
    if (ready && !excluded.has(heldBack.id) && roomIn(db.queue(heldBack.source.queue)) > 0) {
      // Who found it first may wait no more: then it is the next one's, and may lie in lines that this try does not look at.
      const worker = [heldBack.worker, asker].find((one) => this.#waits(one, heldBack.source))
      return worker === undefined ? null : Object.assign(heldBack, ready, { worker })
    }
    this.#heldBack.delete(instance)
    return null
  }
}

function stillOverdue(list: string, now: number): Overdue[] {
  return (JSON.parse(list) as Overdue[]).filter(({ since }) => isRecent(since, now))
}
