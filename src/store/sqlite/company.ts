import { drains, gateOf, overdueFor, type Verdict, type Candidate as Weighed } from '../../model/company.ts'
import type { Source } from '../store.ts'
import type { Db } from './db.ts'
import type { Asker } from './delivery.ts'
import type { Overdue } from './losses.ts'
import { roomNow } from './rate.ts'

// How many jobs a process may hold, when some of them may run beside a limited number of others only.

export interface Candidate extends Weighed {
  source: Source
}

/** The next job of a process, for which it has no room yet. */
interface HeldBack extends Candidate {
  /** The worker that would run it. */
  worker: number
  /** On the monotonic clock. */
  since: number
}

/** Decides on one candidate after the other. */
export type Gate = (candidate: Candidate) => Exclude<Verdict, 'wait'>

/** The limits of a claim. */
export interface Heeded {
  /** Jobs that it must not take: their handlers still run in this process. */
  excluded: Set<number>
  /** Null where no job has limited company. */
  gate: Gate | null
  /** The job for which others are held back: it has to be among the candidates, however many stand before it. */
  before: Candidate | null
  /** The highest class of which jobs may be taken: while the process drains, that of the job it drains for. */
  from: number
}

/** Most handlers that go on of which the monotonic time is kept; for any beyond them the wall clock is used. */
const mostKnown = 10_000

/** The jobs for which processes hold others back: by process. */
export class Company {
  readonly #heldBack = new Map<string, HeldBack>()
  /**
   * Until when handlers that go on keep their jobs from starting beside them, by `id token`. On the monotonic clock: a wall
   * clock that is set forward must not start a job beside its handler, nor one that is set back keep it waiting.
   */
  readonly #goOn = new Map<string, number>()
  /** When the first job that was left out may start again beside its handler that goes on. */
  #nextTry = Number.POSITIVE_INFINITY
  /** Whether a worker waits for jobs of a line: else it cannot take the job that others are held back for. */
  readonly #waits: (worker: number, source: Source) => boolean

  constructor(waits: (worker: number, source: Source) => boolean) {
    this.#waits = waits
  }

  /** A job that was left out may start again, in whatever line it is. */
  isFree(monotonic: number): boolean {
    return monotonic >= this.#nextTry
  }

  /** Whether time alone has changed what the workers of a process may take. Asked at each look. */
  isDue(monotonic: number): boolean {
    const due = this.isFree(monotonic)
    if (due) this.#nextTry = Number.POSITIVE_INFINITY
    return due || this.#heldBack.size > 0
  }

  forget(worker: number): void {
    for (const [instance, heldBack] of this.#heldBack) if (heldBack.worker === worker) this.#heldBack.delete(instance)
  }

  /** These handlers hear at `from` that their leases are over: from then on they have time to stop. */
  goOn(leases: readonly { id: number; token: number }[], from: number): void {
    for (const lease of leases) this.#keep(lease, from + overdueFor)
  }

  /** After a gap of `ms` up to `monotonic`: handlers could not stop in it, and get that much longer, if they had begun to before its end. */
  skip(ms: number, monotonic: number): void {
    for (const [name, until] of this.#goOn) {
      const goesOnFor = Math.max(0, monotonic - (until - overdueFor))
      this.#goOn.set(name, until + Math.min(ms, goesOnFor))
    }
  }

  /** The wall clock is used once for a handler that this process did not see start, such as one of a server before it. */
  #until(one: Overdue, now: number, monotonic: number): number {
    const left = Math.min(Math.max(0, one.since + overdueFor - now), overdueFor)
    return this.#goOn.get(`${one.id} ${one.token}`) ?? this.#keep(one, monotonic + left)
  }

  /** Whether its job is still kept from starting beside it. */
  counts(one: Overdue, now: number, monotonic: number): boolean {
    return this.#until(one, now, monotonic) > monotonic
  }

  #keep({ id, token }: { id: number; token: number }, until: number): number {
    this.#goOn.set(`${id} ${token}`, until)
    const [oldest] = this.#goOn.keys()
    if (this.#goOn.size > mostKnown) this.#goOn.delete(oldest!)
    return until
  }

  ask(db: Db, worker: number, { instance, restricted, overdue }: Asker, exclude: readonly number[]): Heeded {
    const excluded = new Set(exclude)
    const monotonic = db.begunAt
    for (const one of (overdue?.split('|') ?? []).flatMap((list) => JSON.parse(list) as Overdue[])) {
      const until = this.#until(one, db.now, monotonic)
      if (until <= monotonic) continue
      excluded.add(one.id)
      this.#nextTry = Math.min(this.#nextTry, until)
    }
    if (restricted === 0) {
      if (this.#heldBack.size > 0) this.#heldBack.clear()
      return { excluded, gate: null, before: null, from: 0 }
    }
    const before = this.#before(db, worker, instance, excluded)
    const from = before && drains(db.clock.monotonic() - before.since) ? before.priority : 0
    return { excluded, gate: this.#gate(db, worker, instance, before), before, from }
  }

  #gate(db: Db, worker: number, instance: string, awaited: HeldBack | null): Gate {
    const { running, least } = db.get<{ running: number; least: number | null }>(
      `SELECT COUNT(*) AS running, MIN(company) AS least FROM gq_jobs
       WHERE state = 'running' AND (worker_id = ?1 OR worker_id IN (SELECT id FROM gq_workers WHERE instance = ?2 AND ended_at IS NULL))`,
      ...[worker, instance],
    )!
    const judge = gateOf(running, least, awaited)
    return (candidate) => {
      const verdict = judge(candidate)
      const heldBack = this.#heldBack.get(instance)
      if (verdict === 'take' && heldBack?.id === candidate.id) this.#heldBack.delete(instance)
      if (verdict !== 'wait') return verdict
      const since = heldBack?.since ?? db.clock.monotonic()
      this.#heldBack.set(instance, { ...candidate, worker, since })
      return 'stop'
    }
  }

  /** The job that its process is to start before all others of its class and of lower ones. */
  #before(db: Db, asker: number, instance: string, excluded: ReadonlySet<number>): HeldBack | null {
    const heldBack = this.#heldBack.get(instance)
    if (!heldBack) return null
    // Read again: another process may have run it meanwhile and died, which lowers `company`.
    const ready = db.get<Pick<Candidate, 'company'>>(
      `SELECT MIN(company, 1000000) AS company FROM gq_jobs
       WHERE id = ?1 AND state = 'ready' AND blocked = 0 AND company IS NOT NULL AND (deadline IS NULL OR deadline > ?2)`,
      ...[heldBack.id, db.now],
    )
    if (ready && !excluded.has(heldBack.id) && roomNow(db, heldBack.source.queue) > 0) {
      // The worker that found it may no longer wait: then the worker that asks now may run it.
      const worker = [heldBack.worker, asker].find((one) => this.#waits(one, heldBack.source))
      return worker === undefined ? null : Object.assign(heldBack, ready, { worker })
    }
    this.#heldBack.delete(instance)
    return null
  }
}
