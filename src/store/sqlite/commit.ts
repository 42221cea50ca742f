import type { Clock } from '../../model/clock.ts'
import { GopherQueueError, isQueueError } from '../../model/errors.ts'
import type { StoreEvent, StoreHealth } from '../store.ts'
import { outcomes, writes } from './answer.ts'
import { runningBy } from './claim.ts'
import { Condition } from './condition.ts'
import { abandon, connect, errorInUse, isStorageFault, leave, whileBusy } from './connection.ts'
import type { Db } from './db.ts'
import { type Disk, noDisk } from './disk.ts'
import { firstOpening } from './epoch.ts'
import { groupsOf } from './group.ts'
import { type Guard, noGuard } from './guard.ts'
import { plain, type Round } from './plan.ts'
import type { Reply, Request } from './request.ts'
import { Rounds } from './round.ts'
import type { Connection } from './sqlite.ts'
import type { Warning } from './warning.ts'
import { holdsMany, workersGone } from './workers.ts'

export interface EngineOptions {
  disk?: Disk
  guard?: Guard
  /** Bytes of free space under which submissions are refused. */
  diskReserve?: number
  /** How a connection is made: the simulator puts its faults between the engine and SQLite here. */
  open?: (path: string, clock: Clock) => Db
  /** Does what time makes due also when no worker is here: a server's store. */
  tends?: boolean
  /** The app runs in another thread, which may hang: it answers the event 'ping' with any call, `execute([])` at least. */
  asksApp?: boolean
}

/** Most ms in which an opening takes back the jobs of dead processes. */
const mostToRecover = 100

/**
 * One connection and group commit. All requests that wait when `execute` is called share one transaction and one fsync;
 * their answers are returned after COMMIT, never before. Synchronous, with time from outside: the storage thread, the
 * tests and the simulator run this same class.
 */
export class Engine {
  readonly #clock: Clock
  #db: Db
  readonly #connect: () => Db
  readonly #condition: Condition
  readonly #rounds: Rounds
  /** Outcomes of attempts that could not be stored yet: storage failed, and their handlers have ended. */
  #deferred: Request[] = []
  /** The connection met a fault: its page cache may differ from the file, so the next tick opens another. */
  #distrusted = false
  #keeps: Connection | null = null
  /** Events since the caller last cleared them. */
  events: StoreEvent[] = []

  /** Opens the file, and takes back the jobs of processes that died. */
  constructor(
    path: string,
    clock: Clock,
    {
      disk = noDisk,
      guard = noGuard,
      diskReserve = 0,
      open = connect,
      tends = false,
      asksApp = false,
    }: EngineOptions = {},
  ) {
    this.#clock = clock
    this.#connect = () => firstOpening(open(path, clock))
    this.#condition = new Condition(clock, disk, diskReserve, guard)
    this.#rounds = new Rounds(clock, this.#condition, { tends, asksApp }, (events) => this.events.push(...events))
    this.#db = this.#condition.open(this.#connect)
    this.#recover()
    if (this.#condition.failed) throw this.#condition.refusal()
  }

  /**
   * Takes back the jobs of dead processes in steps, a transaction each: others get the write lock in between. Nobody waits
   * for the last of thousands: after a while the reaper goes on with them.
   */
  #recover(): void {
    const first = this.#rounds.first(this.#db)
    const end = this.#clock.monotonic() + mostToRecover
    for (let left = Number.POSITIVE_INFINITY; ; ) {
      this.#attempt([], first)
      if (this.#condition.resting) return
      const gone = workersGone(this.#db)
      const now = gone.reduce((sum, { id }) => sum + 1 + runningBy(this.#db, id), 0)
      // What cannot be taken back now, or not in time, is left to the reaper.
      if (now === 0 || now >= left || this.#clock.monotonic() >= end) return
      left = now
    }
  }

  get health(): StoreHealth {
    return this.#condition.health
  }

  /** Runs requests, as many as may in one transaction, and answers those that can be. */
  execute(requests: Request[]): Reply[] {
    const owed = this.#rounds.appLives()
    const replies = this.#look()
    const now = requests.filter((request) => !this.#rounds.handlesInMemory(request, replies))
    for (const request of now) if (request.operation === 'unregister') replies.push(...this.#letGo(request))
    for (const group of groupsOf(now)) replies.push(...this.#attempt(group, plain))
    if (owed && now.length === 0 && !this.#condition.resting) replies.push(...this.#attempt([], plain))
    this.#tellHealth()
    return replies
  }

  /** Releases the jobs of a worker that signs off, in steps: 5,000 in one transaction would keep others waiting for a second. */
  #letGo({ input, epoch = this.#db.epoch }: Request): Reply[] {
    const replies: Reply[] = []
    const mayGoOn = () => !this.#condition.failed && !this.#condition.blocked && epoch === this.#db.epoch
    try {
      while (mayGoOn() && whileBusy(() => holdsMany(this.#db, input as number)))
        replies.push(...this.#attempt([], { ...plain, leaving: input as number }))
    } catch {
      // The sign-off that follows meets the same fault, and reports it.
    }
    return replies
  }

  /** Does what time or another process has made necessary. Call it every `tickIn()` ms. */
  tick(): Reply[] {
    const replies = this.#look()
    if (!this.#condition.resting) replies.push(...this.#tick())
    this.#tellHealth()
    return replies
  }

  #tick(): Reply[] {
    let deferred = this.#deferred
    this.#deferred = []
    let round: Round
    try {
      const { epoch } = this.#db
      if (this.#distrusted) this.#reconnect()
      if (this.#db.epoch !== epoch) deferred = this.#rounds.ofAnotherFile(epoch, deferred)
      round = this.#rounds.look(this.#db)
    } catch (error) {
      return this.#refuse(deferred, error)
    }
    if (deferred.length === 0 && !Object.values(round).includes(true)) return []
    const groups = groupsOf(deferred)
    // The round comes last: before it, an attempt whose outcome was deferred would be taken for timed out.
    return groups.flatMap((group, i) => this.#attempt(group, i < groups.length - 1 ? plain : round))
  }

  /** Ms until `tick` should be called, at most `most`; infinity when nothing here waits for it. */
  tickIn(most: number): number {
    return Math.min(this.#rounds.tickIn(most, this.#deferred.length), this.#condition.checkIn)
  }

  /** Announces the next `tick` in `ms`: when it comes much later, this process stood still, and could renew no lease. */
  expect(ms: number): void {
    this.#rounds.expect(ms)
  }

  /** False when this thread must not end before its process: to close its descriptors would drop another SQLite's locks. */
  close(): boolean {
    if (this.#db.connection.isOpen) this.#db.connection.close()
    return this.#keeps === null
  }

  /** Runs in one transaction what can run now, and refuses or defers the rest. On a full disk it tries `ways` to make room first. */
  #attempt(requests: Request[], how: Round, ways?: (() => boolean)[]): Reply[] {
    if (this.#condition.failed) return this.#refuseAll(requests)
    const replies: Reply[] = []
    const resting = this.#condition.resting || this.#distrusted
    const now = requests.filter((request) => {
      const isWrite = request.operation in writes
      if (!isWrite || (!resting && (!this.#condition.has('STORAGE_FULL') || request.operation !== 'submit')))
        return true
      if (outcomes.has(request.operation)) this.#deferred.push(request)
      else replies.push({ seq: request.seq, error: this.#condition.refusal() })
      return false
    })
    const reaping = how.reaping && !resting
    try {
      replies.push(...this.#rounds.run(this.#db, now, { ...how, reaping }, !resting))
      if (reaping) this.#condition.warn('UPKEEP_FAILS', null)
      return replies
    } catch (error) {
      // The reaper failed, as on a row that no rule can read: the requests of its transaction run without it.
      if (reaping && !isStorageFault(error) && !isQueueError(error)) {
        this.#condition.warn('UPKEEP_FAILS', upkeepFails(error as Error))
        return now.length > 0 ? [...replies, ...this.#attempt(now, plain, ways)] : replies
      }
      // One of the requests, which the server refuses as late as at COMMIT: nobody else pays for it. It is found by halves:
      // a transaction for each of 10,000 took 19 s, in which no lease is renewed.
      if (!isStorageFault(error) && !isQueueError(error) && !this.#db.committing && now.length > 1) {
        const half = now.length >> 1
        return [...replies, ...this.#attempt(now.slice(0, half), plain), ...this.#attempt(now.slice(half), plain)]
      }
      const failure = errorInUse(error, 'no')
      if (failure.code === 'STORAGE_FULL') {
        this.#condition.raise(failure) // submissions are refused from here on
        const left = ways ?? this.#condition.waysToMakeRoom(this.#db)
        while (left.length > 0) if (left.shift()!()) return [...replies, ...this.#attempt(now, how, left)]
      }
      // A group of reads has no writes beside it, see `groupsOf`: it is tried once more.
      const reads = now.filter(({ operation }) => !(operation in writes))
      const refused = this.#refuse(resting ? now : now.filter((request) => !reads.includes(request)), error)
      if (resting) return [...replies, ...refused]
      if (!this.#condition.resting) return [...replies, ...refused, ...this.#refuse(reads, error)]
      return [...replies, ...refused, ...this.#attempt(reads, plain)] // reads still work when writes fail
    }
  }

  /**
   * The transaction failed. Memory goes on as if nothing were stored; who asked is told 'unknown' if COMMIT had begun.
   * Outcomes are deferred, all other requests refused.
   */
  #refuse(requests: Request[], error: unknown): Reply[] {
    const cause = errorInUse(error, 'no')
    const full = cause.code === 'STORAGE_FULL' // the commit frame, which is the last one written, did not fit into the WAL: no recovery finds it
    const failure = this.#db.committing && !full ? errorInUse(error, 'unknown') : cause
    const fault = isStorageFault(error) || isQueueError(error)
    if (fault) this.#condition.block(cause)
    if (fault && !full) this.#distrusted = true
    this.#rounds.assumeAllChanged() // so the next tick tries again to lease jobs to all workers that wait
    const replies: Reply[] = []
    for (const request of requests) {
      if (fault && outcomes.has(request.operation)) this.#deferred.push(request)
      else replies.push({ seq: request.seq, error: failure })
    }
    if (!this.#condition.failed) return replies
    if (this.#condition.has('SCHEMA_TOO_NEW') || this.#condition.has('MOVED')) this.#rounds.loseAll()
    abandon(this.#db)
    return [...replies, ...this.#refuseAll([])]
  }

  /** Answers every request that waits with an error: nothing is read or written here any more. */
  #refuseAll(requests: Request[]): Reply[] {
    const error = this.#condition.refusal()
    const { code, message } = error
    const says = `${message} Whether an earlier try has stored this outcome is not known.`
    const notKnown = new GopherQueueError(code, says, { accepted: 'unknown' }) // its COMMIT may have failed after all was on disk
    const tried = this.#deferred.splice(0).map(({ seq }) => ({ seq, error: notKnown }))
    const seqs = [...requests.map(({ seq }) => seq), ...this.#rounds.giveUp()]
    return [...tried, ...seqs.map((seq) => ({ seq, error }))]
  }

  #reconnect(): void {
    this.#condition.mustBeThere('no')
    const fresh = this.#connect()
    if (this.#db.connection.isOpen) this.#db.connection.close()
    this.#db = fresh
    this.#rounds.assumeAllChanged()
    this.#db.checkpointOften(this.#condition.has('STORAGE_FULL'))
    this.#distrusted = false
  }

  #look(): Reply[] {
    if (this.#condition.failed) return []
    const found = this.#condition.look(this.#rounds.isAtWork, this.#db)
    if (found === 'failed') return this.#stop()
    if (found === 'unlocked') this.#lockAgain()
    if (found !== 'gone') return []
    this.#distrusted = true
    this.#db.restartWal() // checkpoints while file and WAL are open: a WAL that was unlinked is lost once it is closed
    return []
  }

  /** Ends all reading and writing of the file by this process. */
  #stop(): Reply[] {
    if (this.#condition.has('TWO_SQLITES')) this.#keeps = leave(this.#db)
    else abandon(this.#db)
    return this.#refuseAll([])
  }

  /** SQLite takes its POSIX locks with the first connection and drops them with the last: this one closes before another opens. */
  #lockAgain(): void {
    abandon(this.#db) // without a checkpoint: without locks, others may have written to the file
    this.#distrusted = true
    this.#condition.reopened()
    try {
      this.#reconnect()
    } catch (error) {
      this.#condition.block(errorInUse(error, 'no'))
    }
  }

  #tellHealth(): void {
    if (!this.#condition.changed) return
    this.#condition.changed = false
    if (this.#db.connection.isOpen) this.#db.checkpointOften(this.#condition.has('STORAGE_FULL'))
    this.events.push({ event: 'health', health: this.#condition.health })
  }
}

const upkeepFails = ({ message }: Error): Warning => ({
  code: 'UPKEEP_FAILS',
  message: `What time makes due cannot be done (${message}): no job becomes due, and none is taken from a process that is gone. Jobs that are ready run. 'gopherqueue doctor' says what is wrong in the file.`,
})
