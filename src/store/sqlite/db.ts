import type { Clock, Instant } from '../../model/clock.ts'
import { type State, states } from '../../model/lifecycle.ts'
import type { Source, StoreEvent } from '../store.ts'
import { Causes } from './cause-rows.ts'
import { count, countsOf, KnownNames, type QueueRow, selectCounts, upsertCounts, valuesOf } from './counts.ts'
import type { Early } from './delays.ts'
import { Hours } from './happened.ts'
import type { Moved } from './moved.ts'
import { type Processes, systemProcesses } from './processes.ts'
import { Session } from './session.ts'
import { type Connection, nodeSqlite, type Sqlite } from './sqlite.ts'

/** Name of a line of jobs: those of one queue and one type. */
export const line = (queue: string, type: string): string => `${queue}\0${type}`
export const sourceOf = (line: string): Source => {
  const [queue = '', type = ''] = line.split('\0')
  return { queue, type }
}

export type ReadyRow = [id: number, priority: number, company: number | null]

/**
 * One connection and the transaction that runs on it. Operations write through this: it keeps their prepared
 * statements, the queues' counters, the event sequence, and what the transaction means to those who wait.
 */
export class Db extends Session {
  readonly sqlite: Sqlite
  /** The instant of the running transaction: the same for all that happens in it. */
  now: Instant = 0
  /** The same on the monotonic clock: what passes within the transaction counts for nothing. */
  begunAt = 0
  /** Lines in which something became ready: lease requests that wait for them are worth a try. */
  readied = new Set<string>()
  /** Lines in which a job waits, or none does, for a place of its concurrency key, as far as this transaction has looked. */
  waiting = new Map<string, boolean>()
  /** A job stopped running, or one that others were held back for no longer waits: full workers are worth a try. */
  freed = false
  /** Queues that were resumed, or may run more: each of their lines is worth a try. */
  resumed = new Set<string>()
  /** The earliest instant that this transaction scheduled something for. */
  soonest: Instant = Number.POSITIVE_INFINITY
  /** Jobs that this transaction put off, by id: when they are due, by the wall clock. */
  delayed = new Map<number, Instant>()
  /** Jobs that ended: whoever waits for them can be answered. */
  ended: number[] = []
  events: StoreEvent[] = []
  /** Jobs that this transaction made ready before the wall clock said so. */
  early: Early[] = []
  /** An own attempt ran out of time without a word of its worker: the app's thread stands still. */
  appStandsStill = false
  /** When an attempt is over with its lease, as this process has seen it begin, by the wall clock as it is now; null if it has not. */
  overAt: (lease: { id: number; token: number }) => Instant | null = () => null
  /** Whether a handler that goes on, as this process has seen that begin, still keeps its job from starting beside it. */
  counts: (one: { id: number; token: number; since: Instant }) => boolean = () => true
  /** Leases that this transaction took from their holders. */
  lost: { id: number; token: number }[] = []
  /** Leases whose handlers go on after them, as this transaction has listed them. */
  goOn: { id: number; token: number }[] = []
  /** The queue is being moved, as far as the last look at `gq_meta` knows. */
  movedTo: Moved | null = null
  /** Queues whose counters came to less than nothing, since the connection was made. */
  readonly miscounted = new Set<string>()
  /** COMMIT was begun and has not returned: if it throws, a crash may yet bring the transaction to light. */
  committing = false
  /** Ms that the last COMMIT took. */
  commitMs = 0
  /** The first id or event number of this transaction, once it is known: what `nextChange` gives. */
  change: number | null = null
  readonly names = new KnownNames()
  /** What the transaction adds to the hours of types. */
  readonly hours = new Hours()
  readonly clock: Clock
  readonly processes: Processes
  readonly causes = new Causes(this)
  #queues = new Map<string, QueueRow>()
  /** Names the file. Read with each new connection: a file that was put in the place of another has another. */
  epoch = ''
  /** Takes back what the operation in `atomic` has counted so far. */
  #undo: (() => void)[] | null = null

  /** On a connection of its own to a file, or on one that is there. */
  constructor(on: string | Connection, clock: Clock, processes = systemProcesses, sqlite = nodeSqlite) {
    super(typeof on === 'string' ? sqlite.open(on) : on)
    this.sqlite = sqlite
    this.clock = clock
    this.processes = processes
  }

  begin(kind: 'read' | 'write'): void {
    this.start(kind)
    this.now = this.clock.now()
    this.begunAt = this.clock.monotonic()
    this.committing = false
    this.change = null
    this.names.begin()
    // To clear one that is empty allocates its table anew, in each transaction.
    for (const some of [this.#queues, this.readied, this.waiting, this.resumed, this.delayed])
      if (some.size > 0) some.clear()
    this.hours.clear()
    this.causes.begin()
    this.freed = false
    this.soonest = Number.POSITIVE_INFINITY
    this.ended = []
    this.events = []
    this.early = []
    this.appStandsStill = false
    this.lost = []
    this.goOn = []
  }

  /** When this returns, the transaction is on disk. */
  commit(): void {
    this.writeCounts()
    this.committing = true
    const begun = this.clock.monotonic()
    this.end()
    this.commitMs = this.clock.monotonic() - begun
    this.committing = false
  }

  /** Writes back the counters that changed. */
  writeCounts(): void {
    this.hours.write(this) // first: what was read ahead for it is out of date after another write
    for (const row of this.#queues.values()) {
      if (row.moves === 0) continue
      // Somebody has written to the file: that must not keep a job from running.
      if (Object.values(row.counts).some((count) => count < 0)) this.miscounted.add(row.name)
      for (const state of states) row.counts[state] = Math.max(0, row.counts[state])
      this.later(upsertCounts, ...valuesOf(row), this.nextChange())
    }
    this.causes.write()
  }

  /**
   * What a queue's `changed` says when this transaction changes it: its first id or event number, or the last one before it.
   * Other processes read the queues whose `changed` is at least the last that they saw.
   */
  nextChange(): number {
    this.change ??= this.sequence()
    return this.change
  }

  rollback(): void {
    this.forgetRows()
    if (this.connection.isTransaction) this.run('ROLLBACK')
  }

  /** What was inserted may be gone. */
  protected forgetRows(): void {
    this.names.lines.clear()
    this.hours.forgetRows()
  }

  /** Runs `work` so that it happens whole or not at all, whatever becomes of the operations that share its transaction. */
  atomic<T>(work: () => T): T {
    this.#undo = []
    const ended = this.ended.length
    const events = this.events.length
    this.savepoint()
    try {
      const value = work()
      this.release()
      return value
    } catch (error) {
      // After a full disk or an I/O error SQLite has rolled back the whole transaction: then there is no savepoint left.
      if (this.connection.isTransaction) this.toSavepoint()
      this.ended.length = ended
      this.waiting.clear()
      this.names.lines.clear()
      this.events.length = events
      for (const undo of this.#undo.reverse()) undo()
      // A row that this operation made is gone again: forget those that hold no other operation's counts.
      for (const [name, row] of this.#queues) if (row.moves === 0) this.#queues.delete(name)
      throw error
    } finally {
      this.#undo = null
    }
  }

  /** What takes back something that is counted in memory, if the operation in `atomic` fails. */
  undone(undo: () => void): void {
    this.#undo?.push(undo)
  }

  /** Counts `jobs` jobs out of one state and into another; null is outside the queue. */
  moved(queue: string, type: string, from: State | null, to: State | null, jobs = 1): void {
    const row = this.queue(queue)
    count(row, from, to, jobs)
    this.hours.moved(type, from, to, jobs)
    this.#undo?.push(() => {
      count(row, to, from, -jobs)
      this.hours.moved(type, from, to, -jobs)
    })
    if (to === 'ready') this.readied.add(line(queue, type))
    if (from === 'running' || (from === 'ready' && to !== 'running')) this.freed = true
    if (from === 'running' && row.max_running !== null) this.resumed.add(queue)
  }

  /** Jobs wait for an interval that is over at `runAt`. */
  putOff(ids: readonly number[], runAt: Instant): void {
    this.soonest = Math.min(this.soonest, runAt)
    for (const id of ids) this.delayed.set(id, runAt)
    this.undone(() => void ids.map((id) => this.delayed.delete(id)))
  }

  /** An attempt has failed after so many ms, null where its process was lost. `isRetried`: its job is tried again. */
  attemptFailed({ queue, type }: Source, ranFor: number | null, isRetried: boolean): void {
    const { totals } = this.queue(queue)
    totals.failed++
    const takeBack = this.hours.failed(type, ranFor, isRetried)
    this.undone(() => void [totals.failed--, takeBack()])
  }

  /** The queue's row; one that was never heard of is all zeros, and is written when its first job is counted. */
  queue(name: string): QueueRow {
    const known = this.#queues.get(name)
    if (known) return known
    const row = countsOf(name, this.arrays(selectCounts, name)[0])
    this.#queues.set(name, row)
    return row
  }

  /** The first ready jobs of a line, from class `from` on. */
  firstReady({ queue, type }: Source, from: number, most: number): ReadyRow[] {
    return this.arrays(
      // +?3: at `LIMIT ?3` SQLite plans anew each time, and a claim of 10 jobs takes 55 us instead of 16
      // index gq_jobs_ready: one range, already in order; the reaper may not have got to all that are past their deadline
      `SELECT id, priority, MIN(company, 1000000) AS company FROM gq_jobs
       WHERE state = 'ready' AND blocked = 0 AND queue = ?1 AND type = ?2 AND (deadline IS NULL OR deadline > ?4)
         AND priority >= ?5
       ORDER BY priority, id LIMIT +?3`,
      ...[queue, type, most, this.now, from],
    ) as ReadyRow[]
  }

  /** The queues that this transaction has read. */
  queuesRead(): QueueRow[] {
    return [...this.#queues.values()]
  }

  readEpoch(): void {
    this.epoch = this.get<{ value: string }>(`SELECT value FROM gq_meta WHERE key = 'epoch'`)?.value ?? ''
  }

  /** The next event number, from the sequence that also gives job ids. */
  nextSequence(): number {
    this.run(`UPDATE sqlite_sequence SET seq = seq + 1 WHERE name = 'gq_jobs'`)
    const given = this.sequence()
    this.change ??= given
    return given
  }
}
