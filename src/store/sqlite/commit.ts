import type { DatabaseSync } from 'node:sqlite'
import type { Clock } from '../../model/clock.ts'
import { isQueueError } from '../../model/errors.ts'
import type { StoreEvent, StoreHealth } from '../store.ts'
import { outcomes, writes } from './answer.ts'
import { heldBy } from './claim.ts'
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

/**
 * The store itself: one connection, and group commit. All requests that wait when `execute` is called share one
 * transaction and one fsync; what they are answered is returned after COMMIT, never before.
 * Synchronous and with time from outside: the storage thread, tests and the simulator run this same class.
 */
export class Engine {
  #db: Db
  readonly #connect: () => Db
  readonly #condition: Condition
  readonly #rounds: Rounds
  /** Outcomes that could not be made durable yet. */
  #held: Request[] = []
  /** The connection failed: what it remembers of the file is worth nothing. */
  #distrusted = false
  #keeps: DatabaseSync | null = null
  /** What happened besides the answers; the caller takes and clears it. */
  events: StoreEvent[] = []

  /** Opens the file; that is also the recovery from whatever happened before. */
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
    this.#connect = () => firstOpening(open(path, clock))
    this.#condition = new Condition(clock, disk, diskReserve, guard)
    this.#rounds = new Rounds(clock, this.#condition, { tends, asksApp }, (events) => this.events.push(...events))
    this.#db = this.#condition.open(this.#connect)
    this.#recover()
    if (this.#condition.failed) throw this.#condition.refusal()
  }

  /** Takes back what processes that are gone have left, a step at a time, so that others are not held up. */
  #recover(): void {
    for (let left = Number.POSITIVE_INFINITY; ; ) {
      this.#attempt([], this.#rounds.first(this.#db))
      if (this.#condition.resting) return
      const gone = workersGone(this.#db)
      const now = gone.reduce((sum, { id }) => sum + 1 + heldBy(this.#db, id), 0)
      if (now === 0 || now >= left) return // what does not get less is not for this look
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
    const now = requests.filter((request) => !this.#rounds.takes(request, replies))
    for (const request of now) if (request.operation === 'unregister') replies.push(...this.#letGo(request))
    for (const group of groupsOf(now)) replies.push(...this.#attempt(group, plain))
    if (owed && now.length === 0 && !this.#condition.resting) replies.push(...this.#attempt([], plain))
    this.#tellHealth()
    return replies
  }

  /** What a worker still holds goes back before it is signed off: at once, 5,000 jobs would keep others waiting for a second. */
  #letGo({ input, epoch = this.#db.epoch }: Request): Reply[] {
    const replies: Reply[] = []
    const mayGoOn = () => !this.#condition.failed && !this.#condition.blocked && epoch === this.#db.epoch
    try {
      while (mayGoOn() && whileBusy(() => holdsMany(this.#db, input as number)))
        replies.push(...this.#attempt([], { ...plain, leaving: input as number }))
    } catch {
      // the sign-off meets the same fault, and tells
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
    let held = this.#held
    this.#held = []
    let round: Round
    try {
      const { epoch } = this.#db
      if (this.#distrusted) this.#reconnect()
      if (this.#db.epoch !== epoch) held = this.#rounds.ofAnotherFile(epoch, held)
      round = this.#rounds.look(this.#db)
    } catch (error) {
      return this.#refuse(held, error)
    }
    if (held.length === 0 && !Object.values(round).includes(true)) return []
    const groups = groupsOf(held)
    // The round comes last: an attempt whose outcome was held was over in time.
    return groups.flatMap((group, i) => this.#attempt(group, i < groups.length - 1 ? plain : round))
  }

  /** Ms until `tick` is worth a call, at most `most`; infinity when nobody here would want to know. */
  tickIn(most: number): number {
    return Math.min(this.#rounds.lookIn(most, this.#held.length), this.#condition.lookIn)
  }

  /** Says that the next `tick` comes in `ms`: when it comes much later, this process stood still meanwhile. */
  expect(ms: number): void {
    this.#rounds.expect(ms)
  }

  /** False when this thread must live on: what it has open may not be closed before the process ends. */
  close(): boolean {
    if (this.#db.connection.isOpen) this.#db.connection.close()
    return this.#keeps === null
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
    const reaping = how.reaping && !resting
    try {
      replies.push(...this.#rounds.run(this.#db, now, { ...how, reaping }, !resting))
      if (reaping) this.#condition.warn('UPKEEP_FAILS', null)
      return replies
    } catch (error) {
      // A row that no rule can read, or a count that is wrong: what was asked for is none of it.
      if (reaping && !isStorageFault(error) && !isQueueError(error)) {
        this.#condition.warn('UPKEEP_FAILS', upkeepFails(error as Error))
        return now.length > 0 ? [...replies, ...this.#attempt(now, plain, ways)] : replies
      }
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

  /** Storage failed: nothing of the transaction is believed. Outcomes are held, the rest is told so. */
  #refuse(requests: Request[], error: unknown): Reply[] {
    const cause = errorInUse(error, 'no')
    const full = cause.code === 'STORAGE_FULL' // then the commit record did not fit: no crash can bring it to light
    const failure = this.#db.committing && !full ? errorInUse(error, 'unknown') : cause
    const fault = isStorageFault(error) || isQueueError(error)
    if (fault) this.#condition.block(cause)
    if (fault && !full) this.#distrusted = true
    this.#rounds.lookAnew() // the next tick tries all that waits again
    const replies: Reply[] = []
    for (const request of requests) {
      if (fault && outcomes.has(request.operation)) this.#held.push(request)
      else replies.push({ seq: request.seq, error: failure })
    }
    if (!this.#condition.failed) return replies
    if (this.#condition.has('SCHEMA_TOO_NEW')) this.#rounds.loseAll()
    abandon(this.#db.connection)
    return [...replies, ...this.#refuseAll([])]
  }

  /** Nothing more is read or written here, and nobody may wait for it. */
  #refuseAll(requests: Request[]): Reply[] {
    const seqs = [...this.#held.splice(0), ...requests].map(({ seq }) => seq)
    const error = this.#condition.refusal()
    return [...seqs, ...this.#rounds.giveUp()].map((seq) => ({ seq, error }))
  }

  #reconnect(): void {
    this.#condition.mustBeThere('no')
    const fresh = this.#connect()
    if (this.#db.connection.isOpen) this.#db.connection.close()
    this.#db = fresh
    this.#rounds.lookAnew()
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
    this.#db.restartWal() // what the WAL holds reaches the file while both are open: the WAL may have lost its name
    return []
  }

  /** Nothing is read or written any more, until the file is opened by another process. */
  #stop(): Reply[] {
    if (this.#condition.has('TWO_SQLITES')) this.#keeps = leave(this.#db.connection)
    else abandon(this.#db.connection)
    return this.#refuseAll([])
  }

  /** Locks are taken by who comes first and dropped by who goes last: the connection has to go before another comes. */
  #lockAgain(): void {
    abandon(this.#db.connection) // without a word in the file: who reads files like this may have written to it too
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
