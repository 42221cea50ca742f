import type { Clock } from '../../model/clock.ts'
import { GopherQueueError } from '../../model/errors.ts'
import type { Input, Lease, LeasedJob, LeaseRequest, Operation, Operations, StoreEvent, StoreHealth } from '../store.ts'
import { fail, heartbeat, lease, release, succeed } from './attempt.ts'
import { connect, isStorageFault, storageError, whileBusy } from './connection.ts'
import { type Db, line } from './db.ts'
import { cancel, notFound, remove, retry, setQueue } from './operator.ts'
import { attempts, endedAmong, job, jobs, mayLease, runningOf, stats } from './queries.ts'
import { nextDue, reap, reapIsDue, ripen } from './reaper.ts'
import { submit } from './submit.ts'
import { why } from './why.ts'
import { register, unregister } from './workers.ts'

export interface Request<K extends Operation = Operation> {
  seq: number
  /** 'forget' takes back the request whose seq is its input; 'close' ends the thread. */
  operation: K | 'forget' | 'close'
  input: Input<K>
}
export type Reply = { seq: number; value: unknown } | { seq: number; error: GopherQueueError }

const writes = { submit, succeed, fail, release, heartbeat, cancel, retry, remove, setQueue, register, unregister }
type Immediate = { [K in Exclude<Operation, 'lease' | 'wait'>]: (db: Db, input: Input<K>) => ReturnType<Operations[K]> }
const immediate: Immediate = { ...writes, job, jobs, attempts, stats, why }

/** What a running handler reports is never refused for want of storage: it is held and tried again. */
const outcomes = new Set<string>(['succeed', 'fail', 'release', 'unregister'])

/** How often at least the reaper looks, while this process works. */
const reapEvery = 250

/**
 * The store itself: one connection, and group commit. All requests that wait when `execute` is called share one
 * transaction and one fsync; what they are answered is returned after COMMIT, never before.
 * Synchronous and with time from outside: the storage thread, tests and the simulator run this same class.
 */
export class Engine {
  #db: Db
  readonly #path: string
  readonly #clock: Clock
  /** Lease requests that wait for a job, by worker. */
  readonly #hungry = new Map<number, Request<'lease'>>()
  /** Who waits for a job's end: seqs by job id. */
  readonly #waits = new Map<number, Set<number>>()
  /** Outcomes that could not be made durable yet. */
  #held: Request[] = []
  readonly #workers = new Set<number>()
  /** The running jobs of this process: id -> token. */
  readonly #leases = new Map<number, number>()
  #dataVersion = 0
  #health: StoreHealth = { status: 'ok', causes: [] }
  /** When to look at the reaper's work next, on the monotonic clock: a wall clock set back must not put it off. */
  #wakeAt = 0
  /** What happened besides the answers; the caller takes and clears it. */
  events: StoreEvent[] = []

  /** Opens the file; that is also the recovery from whatever happened before. */
  constructor(path: string, clock: Clock) {
    this.#path = path
    this.#clock = clock
    this.#db = connect(path, clock)
    this.#transaction([], { fresh: new Set(), reaping: true, lookAround: false })
  }

  /** Runs requests in one transaction and answers those that can be. */
  execute(requests: Request[]): Reply[] {
    const fresh = new Set<number>()
    const replies: Reply[] = []
    const now: Request[] = []
    for (const request of requests) {
      const { seq, operation, input } = request
      if (operation === 'lease' || operation === 'unregister') {
        // A newer request replaces the worker's older one, its end takes it back.
        const worker = operation === 'lease' ? (input as LeaseRequest).worker : (input as number)
        const older = this.#hungry.get(worker)
        if (older) replies.push({ seq: older.seq, value: [] })
        this.#hungry.delete(worker)
      }
      if (operation === 'lease') this.#hungry.set((input as LeaseRequest).worker, request as Request<'lease'>)
      else if (operation === 'wait')
        this.#waits.set(input as number, (this.#waits.get(input as number) ?? new Set()).add(seq))
      else if (operation === 'forget') this.#forget(input as number)
      else now.push(request)
      if (operation === 'lease' || operation === 'wait') fresh.add(seq)
    }
    try {
      replies.push(...this.#transaction(now, { fresh, reaping: false, lookAround: false }))
    } catch (error) {
      replies.push(...this.#refuse(now, error))
    }
    return replies
  }

  /** Does what time or another process has made necessary. Call it every `tickIn()` ms. */
  tick(): Reply[] {
    const held = this.#held
    this.#held = []
    try {
      const changed = whileBusy(() => this.#changedOutside())
      const reaping =
        this.#workers.size > 0 && this.#clock.monotonic() >= this.#wakeAt && whileBusy(() => this.#lookAtReaping())
      if (!reaping && !changed && held.length === 0) return []
      if (changed || reaping) this.#checkLeases()
      return this.#transaction(held, { fresh: new Set(), reaping, lookAround: changed })
    } catch (error) {
      return this.#refuse(held, error)
    }
  }

  /** Ms until `tick` is worth a call, at most `most`; infinity when nobody here would want to know. */
  tickIn(most: number): number {
    if (this.#hungry.size + this.#waits.size + this.#workers.size + this.#held.length === 0)
      return Number.POSITIVE_INFINITY
    return this.#workers.size > 0 ? Math.max(1, Math.min(most, this.#wakeAt - this.#clock.monotonic())) : most
  }

  close(): void {
    this.#db.connection.close()
  }

  #forget(seq: number): void {
    for (const [worker, request] of this.#hungry) if (request.seq === seq) this.#hungry.delete(worker)
    for (const [id, seqs] of this.#waits) if (seqs.delete(seq) && seqs.size === 0) this.#waits.delete(id)
  }

  /** Another process committed since this was last asked. */
  #changedOutside(): boolean {
    const version = this.#versionOutside()
    const changed = version !== this.#dataVersion
    this.#dataVersion = version
    return changed
  }

  #versionOutside(): number {
    return this.#db.get<{ data_version: number }>('PRAGMA data_version')!.data_version
  }

  /** Asked on a read, so that an idle process takes no write lock. */
  #lookAtReaping(): boolean {
    const db = this.#db
    db.begin('read')
    try {
      this.#wakeAt = this.#clock.monotonic() + Math.min(reapEvery, (nextDue(db) ?? Number.POSITIVE_INFINITY) - db.now)
      return reapIsDue(db, [...this.#workers])
    } finally {
      db.rollback()
    }
  }

  /** `fresh`: parked requests not yet tried; `lookAround`: another process may have changed anything. */
  #transaction(
    requests: Request[],
    { fresh, reaping, lookAround }: { fresh: Set<number>; reaping: boolean; lookAround: boolean },
  ): Reply[] {
    const db = this.#db
    const writing =
      reaping ||
      requests.some(({ operation }) => operation in writes) ||
      [...this.#hungry.values()].some((r) => fresh.has(r.seq) || (lookAround && mayLease(db, r.input)))
    const done = whileBusy(() => {
      try {
        db.begin(writing ? 'write' : 'read')
        if (reaping) reap(db, [...this.#workers])
        const answers = requests.map((request) => this.#answer(request))
        const fed = writing ? this.#feed(fresh, lookAround) : []
        const ended = this.#waits.size > 0 ? this.#tellEnded(fresh, lookAround) : []
        db.commit()
        return { answers, fed, ended }
      } catch (error) {
        db.rollback()
        throw error
      }
    })
    this.#follow(requests, done.answers)
    for (const { request, jobs } of done.fed) {
      this.#hungry.delete(request.input.worker)
      for (const { id, token } of jobs) this.#leases.set(id, token)
    }
    for (const { id } of done.ended) this.#waits.delete(id)
    this.events.push(...db.events)
    this.#wakeAt = Math.min(this.#wakeAt, this.#clock.monotonic() + db.soonest - db.now)
    if (writing) this.#setHealth([])
    const leased = done.fed.map(({ request, jobs }) => ({ seq: request.seq, value: jobs }))
    return [...done.answers, ...leased, ...done.ended.flatMap(({ replies }) => replies)]
  }

  #answer({ seq, operation, input }: Request): Reply {
    try {
      const run = immediate[operation as keyof Immediate] as (db: Db, input: unknown) => unknown
      return { seq, value: run(this.#db, input) }
    } catch (error) {
      if (error instanceof GopherQueueError) return { seq, error }
      if (isStorageFault(error) || !this.#db.connection.isTransaction) throw error // the whole group fails
      return { seq, error: storageError(error, `'${operation}' was refused`) } // its own fault alone, such as a CHECK
    }
  }

  /** Gives ready jobs to the lease requests that wait for them, in the order in which they came. */
  #feed(fresh: Set<number>, lookAround: boolean): { request: Request<'lease'>; jobs: LeasedJob[] }[] {
    if (this.#hungry.size === 0) return []
    const db = this.#db
    ripen(db)
    // What another process made ready since the last tick goes first if its class is higher: every line counts then.
    const everywhere = lookAround || db.resumed || this.#versionOutside() !== this.#dataVersion
    const fed: { request: Request<'lease'>; jobs: LeasedJob[] }[] = []
    const dry = new Set<string>() // lines with nothing left: thousands of requests may wait for one job
    for (const request of this.#hungry.values()) {
      const all = everywhere || fresh.has(request.seq)
      const sources = request.input.sources.filter(({ queue, type }) => {
        const key = line(queue, type)
        return !dry.has(key) && (all || db.readied.has(key))
      })
      if (sources.length === 0) continue
      const jobs = lease(db, { ...request.input, sources }, (source) => dry.add(line(source.queue, source.type)))
      if (jobs.length > 0) fed.push({ request, jobs })
    }
    return fed
  }

  #tellEnded(fresh: Set<number>, lookAround: boolean): { id: number; replies: Reply[] }[] {
    const db = this.#db
    const candidates =
      lookAround || fresh.size > 0
        ? endedAmong(db, [...this.#waits.keys()])
        : db.ended.filter((id) => this.#waits.has(id))
    return candidates.map((id) => {
      const ended = job(db, id)
      const seqs = [...this.#waits.get(id)!]
      return { id, replies: seqs.map((seq) => (ended ? { seq, value: ended } : { seq, error: notFound(id) })) }
    })
  }

  /** The transaction is on disk: only now does memory follow what it did. */
  #follow(requests: Request[], answers: Reply[]): void {
    for (const [i, { operation, input }] of requests.entries()) {
      const answer = answers[i]!
      if (operation === 'succeed' || operation === 'fail') this.#leases.delete((input as { lease: Lease }).lease.id)
      else if (operation === 'release') this.#leases.delete((input as Lease).id)
      else if (operation === 'register' && 'value' in answer) this.#workers.add(answer.value as number)
      else if (operation === 'unregister') this.#workers.delete(input as number)
    }
  }

  /** Storage failed: nothing of the transaction is believed. Outcomes are held, the rest is told so. */
  #refuse(requests: Request[], error: unknown): Reply[] {
    const failure = storageError(error, 'The file could not be written')
    this.#setHealth([{ code: failure.code, message: failure.message, since: this.#clock.now() }])
    if (isStorageFault(error) && failure.code !== 'STORAGE_FULL') this.#reopen()
    this.#dataVersion = -1 // the next tick tries all that waits again
    const replies: Reply[] = []
    for (const request of requests) {
      if (outcomes.has(request.operation)) this.#held.push(request)
      else replies.push({ seq: request.seq, error: failure })
    }
    return replies
  }

  /** After an I/O error the connection's memory of the file is worth nothing. */
  #reopen(): void {
    try {
      const fresh = connect(this.#path, this.#clock)
      this.#db.connection.close()
      this.#db = fresh
    } catch (error) {
      const failure = storageError(error, 'The file could not be opened again')
      this.#setHealth([{ code: failure.code, message: failure.message, since: this.#clock.now() }])
    }
  }

  #setHealth(causes: StoreHealth['causes']): void {
    const known = this.#health.causes
    if (causes.length === known.length && causes.every((cause, i) => cause.code === known[i]!.code)) return
    const failed = causes.some((cause) => cause.code === 'STORAGE_CORRUPT' || cause.code === 'NOT_A_QUEUE')
    this.#health = { status: failed ? 'failed' : causes.length > 0 ? 'degraded' : 'ok', causes }
    this.events.push({ event: 'health', health: this.#health })
  }

  /** Tells the handlers of this process whose job another process has cancelled or taken. */
  #checkLeases(): void {
    if (this.#leases.size === 0) return
    const running = new Map(runningOf(this.#db, [...this.#workers]).map((row) => [row.id, row]))
    for (const [id, token] of this.#leases) {
      const row = running.get(id)
      if (row?.token !== token) {
        this.#leases.delete(id)
        this.events.push({ event: 'leaseLost', id, token })
      } else if (row.cancelRequestedAt !== null) this.events.push({ event: 'cancelRequested', id, token })
    }
  }
}
