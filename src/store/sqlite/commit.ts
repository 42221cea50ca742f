import type { Clock } from '../../model/clock.ts'
import { GopherQueueError } from '../../model/errors.ts'
import type { Input, Lease, Operation, StoreEvent, StoreHealth } from '../store.ts'
import { answerAll, outcomes, writes } from './answer.ts'
import { Condition } from './condition.ts'
import { abandon, connect, errorInUse, isStorageFault, whileBusy } from './connection.ts'
import type { Db } from './db.ts'
import { type Disk, noDisk } from './disk.ts'
import { Leases } from './leases.ts'
import { nextDue, prune, pruneEvery, reap, reapIsDue } from './reaper.ts'
import { giveBack, sparePages } from './space.ts'
import { Terms } from './terms.ts'
import { Waiting } from './waiting.ts'

export interface Request<K extends Operation = Operation> {
  seq: number
  /** 'forget' takes back the request whose seq is its input; 'close' ends the thread. */
  operation: K | 'forget' | 'close'
  input: Input<K>
}
export type Reply = { seq: number; value: unknown } | { seq: number; error: GopherQueueError }

/** How often at least the reaper looks, while this process works. */
const reapEvery = 250

/** What one transaction does besides what it was asked for. */
interface Round {
  reaping: boolean
  /** Another process may have changed anything. */
  lookAround: boolean
  /** The last write failed: finds out whether the next would not, also when nobody wants to write. */
  probing: boolean
}
const plain: Round = { reaping: false, lookAround: false, probing: false }

export interface EngineOptions {
  disk?: Disk
  /** Bytes of free space under which submissions are refused. */
  diskReserve?: number
  /** How a connection is made: the simulator puts its faults between the engine and SQLite here. */
  open?: (path: string, clock: Clock) => Db
  /** Does what time makes due also when no worker is here: a server's store. */
  tends?: boolean
}

/**
 * The store itself: one connection, and group commit. All requests that wait when `execute` is called share one
 * transaction and one fsync; what they are answered is returned after COMMIT, never before.
 * Synchronous and with time from outside: the storage thread, tests and the simulator run this same class.
 */
export class Engine {
  #db: Db
  readonly #clock: Clock
  readonly #connect: () => Db
  readonly #condition: Condition
  readonly #waiting = new Waiting()
  /** Outcomes that could not be made durable yet. */
  #held: Request[] = []
  readonly #workers = new Set<number>()
  readonly #tends: boolean
  /** Workers reached over the network: what they run is theirs to renew. */
  readonly #remotes = new Set<number>()
  readonly #leases = new Leases()
  readonly #terms = new Terms()
  #dataVersion = 0
  /** When to look at the reaper's work next, on the monotonic clock: a wall clock set back must not put it off. */
  #wakeAt = 0
  /** When retention's next step is due, since the last one left some; infinity when it left none. On the monotonic clock. */
  #pruneAt = Number.POSITIVE_INFINITY
  /** The connection failed: what it remembers of the file is worth nothing. */
  #distrusted = false
  /** What happened besides the answers; the caller takes and clears it. */
  events: StoreEvent[] = []

  /** Opens the file; that is also the recovery from whatever happened before. */
  constructor(
    path: string,
    clock: Clock,
    { disk = noDisk, diskReserve = 0, open = connect, tends = false }: EngineOptions = {},
  ) {
    this.#clock = clock
    this.#tends = tends
    this.#connect = () => open(path, clock)
    this.#condition = new Condition(clock, disk, diskReserve)
    this.#db = this.#condition.open(this.#connect)
    this.#attempt([], { ...plain, reaping: true })
    if (this.#condition.failed) throw this.#condition.refusal()
  }

  get health(): StoreHealth {
    return this.#condition.health
  }

  /** Runs requests in one transaction and answers those that can be. */
  execute(requests: Request[]): Reply[] {
    this.#look()
    const replies: Reply[] = []
    const now: Request[] = []
    for (const request of requests) {
      const settled = this.#waiting.take(request)
      if (settled) replies.push(...settled)
      else if (request.operation === 'progress') replies.push(this.#leases.progress(request as Request<'progress'>))
      else if (request.operation === 'unregister') replies.push(...this.#waiting.forgetWorker(request.input as number))
      if (!settled && request.operation !== 'progress') now.push(request)
    }
    replies.push(...this.#attempt(now, plain))
    this.#tellHealth()
    return replies
  }

  /** Does what time or another process has made necessary. Call it every `tickIn()` ms. */
  tick(): Reply[] {
    this.#look()
    const replies = this.#condition.resting ? [] : this.#tick()
    this.#tellHealth()
    return replies
  }

  #tick(): Reply[] {
    const held = this.#held
    this.#held = []
    let changed = false
    let reaping = false
    try {
      if (this.#distrusted) this.#reconnect()
      changed = whileBusy(() => this.#changedOutside())
      const now = this.#clock.monotonic()
      const due = now >= this.#pruneAt || (now >= this.#wakeAt && whileBusy(() => this.#lookAtReaping()))
      reaping = this.#isAtWork && due
      if (changed || reaping)
        this.events.push(...whileBusy(() => this.#leases.news(this.#db, [...this.#workers, ...this.#remotes])))
    } catch (error) {
      return this.#refuse(held, error)
    }
    const probing = this.#condition.blocked
    const worthIt = reaping || changed || held.length > 0 || probing
    return worthIt ? this.#attempt(held, { reaping, lookAround: changed, probing }) : []
  }

  /** Ms until `tick` is worth a call, at most `most`; infinity when nobody here would want to know. */
  tickIn(most: number): number {
    const watching = this.#isAtWork || this.#waiting.size + this.#held.length > 0
    if (!watching) return this.#condition.ok ? Number.POSITIVE_INFINITY : reapEvery
    const next = Math.min(this.#wakeAt, this.#pruneAt)
    return this.#isAtWork ? Math.max(1, Math.min(most, next - this.#clock.monotonic())) : most
  }

  close(): void {
    if (this.#db.connection.isOpen) this.#db.connection.close()
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
      this.#wakeAt = this.#clock.monotonic() + Math.min(reapEvery, nextDue(db) - db.now)
      const due = reapIsDue(db, this.#present, this.#terms, this.#clock.monotonic())
      return due || (this.#condition.ok && sparePages(db) > 0)
    } finally {
      db.rollback()
    }
  }

  /** Runs what can be run now in one transaction; tells or holds the rest. On a full disk `ways` to make room are tried first. */
  #attempt(requests: Request[], how: Round, ways = this.#condition.waysToMakeRoom(this.#db)): Reply[] {
    if (this.#condition.failed) return this.#refuseAll(requests)
    const replies: Reply[] = []
    const resting = this.#condition.resting || this.#distrusted
    const now = requests.filter((request) => {
      const isWrite = request.operation in writes
      if (!isWrite || (!resting && (!this.#condition.has('STORAGE_FULL') || request.operation !== 'submit')))
        return true
      if (outcomes.has(request.operation)) this.#held.push(request)
      else replies.push({ seq: request.seq, error: this.#condition.refusal() })
      return false
    })
    try {
      return [...replies, ...this.#transaction(now, { ...how, reaping: how.reaping && !resting }, !resting)]
    } catch (error) {
      const failure = errorInUse(error, 'no')
      if (failure.code === 'STORAGE_FULL') {
        this.#condition.raise(failure) // submissions are refused from here on
        while (ways.length > 0) if (ways.shift()!()) return [...replies, ...this.#attempt(now, how, ways)]
      }
      const reads = now.filter(({ operation }) => !(operation in writes))
      const refused = this.#refuse(resting ? now : now.filter((request) => !reads.includes(request)), error)
      if (resting) return [...replies, ...refused]
      if (!this.#condition.resting) return [...replies, ...refused, ...this.#refuse(reads, error)]
      return [...replies, ...refused, ...this.#attempt(reads, plain)] // the fault is not theirs
    }
  }

  #transaction(requests: Request[], { reaping, lookAround, probing }: Round, mayWrite: boolean): Reply[] {
    const asked = reaping || probing || requests.some(({ operation }) => operation in writes)
    const writing = asked || (mayWrite && whileBusy(() => this.#waiting.mayFeed(this.#db, lookAround)))
    const proving = writing && this.#condition.blocked
    const db = this.#db
    const at = this.#clock.monotonic()
    const pruning = !reaping && asked && at >= this.#pruneAt // a busy queue leaves ticks too little time to keep up
    // Only with all of the WAL in the file: else, while somebody reads, it would grow by all that is moved.
    const mayShrink = reaping && this.#pruneAt === Number.POSITIVE_INFINITY && this.#condition.ok
    const shrinking = mayShrink && whileBusy(() => sparePages(db) > 0 && db.checkpoint())
    const done = whileBusy(() => {
      try {
        db.begin(writing ? 'write' : 'read')
        // What another process made ready since the last tick goes first if its class is higher: every line counts then.
        const everywhere = lookAround || this.#versionOutside() !== this.#dataVersion
        if (proving) this.#probe()
        if (asked) this.#leases.writeProgress(db)
        const answers = answerAll(db, requests)
        let behind = pruning && prune(db)
        if (reaping) behind = reap(db, this.#present, this.#terms, at) // after held outcomes: their attempts were over in time
        if (shrinking) giveBack(db)
        const fed = writing ? this.#waiting.feed(db, everywhere) : []
        const told = this.#waiting.tell(db, lookAround)
        db.commit()
        if (writing) this.#condition.mustBeThere('unknown') // else it went into a file that nobody will find
        return { answers, fed, told, behind }
      } catch (error) {
        db.rollback()
        throw error
      }
    })
    // All of it is on disk: only now does memory follow.
    if (asked) this.#leases.progressWritten()
    this.#follow(requests, done.answers)
    for (const { jobs } of done.fed) for (const job of jobs) this.#leases.add(job)
    if (reaping) this.#terms.renewed(at)
    if (reaping || pruning)
      this.#pruneAt = done.behind ? this.#clock.monotonic() + pruneEvery : Number.POSITIVE_INFINITY
    for (const { request, jobs } of done.fed)
      if (this.#workers.has(request.input.worker)) for (const job of jobs) this.#terms.add(job, at)
    this.events.push(...db.events)
    this.#wakeAt = Math.min(this.#wakeAt, this.#clock.monotonic() + db.soonest - db.now)
    if (proving) this.#condition.unblock()
    return [...done.answers, ...this.#waiting.settle(done.fed, done.told)]
  }

  #probe(): void {
    this.#db.nextSequence() // only what is written proves that writing works
    this.#leases.giveBackUntold(this.#db, [...this.#workers])
  }

  #follow(requests: Request[], answers: Reply[]): void {
    for (const [i, { operation, input }] of requests.entries()) {
      const answer = answers[i]!
      if (operation === 'succeed' || operation === 'fail') this.#leases.end((input as { lease: Lease }).lease)
      else if (operation === 'release') this.#leases.end(input as Lease)
      else if (operation === 'register' && 'value' in answer)
        this.#startWork(answer.value as number, (input as Input<'register'>).remote !== undefined)
      else if (operation === 'unregister') this.#forget(input as number)
    }
  }

  #startWork(worker: number, isRemote: boolean): void {
    if (isRemote) this.#remotes.add(worker)
    else this.#workers.add(worker)
    this.#condition.lookSoon() // space is set aside before the first job runs
  }

  #forget(worker: number): void {
    this.#workers.delete(worker)
    this.#remotes.delete(worker)
  }

  get #isAtWork(): boolean {
    return this.#tends || this.#workers.size > 0
  }

  /** Those that are known to be there: of this process, or with a request that waits. */
  get #present(): number[] {
    return [...this.#workers, ...this.#waiting.workers()]
  }

  /** Storage failed: nothing of the transaction is believed. Outcomes are held, the rest is told so. */
  #refuse(requests: Request[], error: unknown): Reply[] {
    const cause = errorInUse(error, 'no')
    const full = cause.code === 'STORAGE_FULL' // then the commit record did not fit: no crash can bring it to light
    const failure = this.#db.committing && !full ? errorInUse(error, 'unknown') : cause
    const fault = isStorageFault(error) || error instanceof GopherQueueError
    if (fault) this.#condition.block(cause)
    if (fault && !full) this.#distrusted = true
    this.#dataVersion = -1 // the next tick tries all that waits again
    const replies: Reply[] = []
    for (const request of requests) {
      if (fault && outcomes.has(request.operation)) this.#held.push(request)
      else replies.push({ seq: request.seq, error: failure })
    }
    if (!this.#condition.failed) return replies
    abandon(this.#db.connection)
    return [...replies, ...this.#refuseAll([])]
  }

  /** Nothing more is read or written here, and nobody may wait for it; only workers' requests for jobs stay unanswered. */
  #refuseAll(requests: Request[]): Reply[] {
    const seqs = [...this.#held.splice(0), ...requests].map(({ seq }) => seq)
    const error = this.#condition.refusal()
    return [...seqs, ...this.#waiting.giveUp()].map((seq) => ({ seq, error }))
  }

  #reconnect(): void {
    this.#condition.mustBeThere('no')
    const fresh = this.#connect()
    this.#db.connection.close()
    this.#db = fresh
    this.#dataVersion = -1 // each connection counts from its own start: what it says now could be what the last one said
    this.#db.checkpointOften(this.#condition.has('STORAGE_FULL'))
    this.#distrusted = false
  }

  #look(): void {
    if (this.#condition.failed || !this.#condition.look(this.#isAtWork)) return
    this.#distrusted = true
    this.#db.restartWal() // what the WAL holds reaches the file while both are open: the WAL may have lost its name
  }

  #tellHealth(): void {
    if (!this.#condition.changed) return
    this.#condition.changed = false
    if (!this.#condition.failed) this.#db.checkpointOften(this.#condition.has('STORAGE_FULL'))
    this.events.push({ event: 'health', health: this.#condition.health })
  }
}
