import type { SQLInputValue } from 'node:sqlite'
import type { Clock } from '../src/model/clock.ts'
import { Db } from '../src/store/sqlite/db.ts'
import type { Disk } from '../src/store/sqlite/disk.ts'
import type { Processes } from '../src/store/sqlite/processes.ts'
import type { Random } from './random.ts'

// Everything that can go wrong between an engine and its file. SQLite's own files stay whole: a fault here is what
// SQLite would say of one, or the end of a process between two statements.

/** The disk that all processes share, and what is set aside on it. */
export class SimulatedDisk implements Disk {
  full = false
  gone = false
  /** Transactions that still find room although the disk is full. */
  room = 0
  /** How often somebody has found it full, or the file gone: it may be well again before the call that did is over. */
  foundFaulty = 0
  #setAside = false

  free(): number {
    if (this.full) this.foundFaulty++
    return this.full ? 0 : 2 ** 30
  }
  problem(): string | null {
    if (this.gone) this.foundFaulty++
    return this.gone ? 'the file is gone' : null
  }
  setAside(): boolean {
    if (!this.full) this.#setAside = true
    return this.#setAside
  }
  release(): boolean {
    if (this.#setAside) this.room += 5
    const had = this.#setAside
    this.#setAside = false
    return had
  }
}

/** What stops a process in the middle; nobody in it hears of it. */
export class Crash extends Error {}

const busy = { errcode: 5, message: 'database is locked' }
const full = { errcode: 13, message: 'database or disk is full' }
const readFailed = { errcode: 266, message: 'disk I/O error' } // SQLITE_IOERR_READ
const writeFailed = { errcode: 778, message: 'disk I/O error' } // SQLITE_IOERR_WRITE
const fsyncFailed = { errcode: 1034, message: 'disk I/O error' } // SQLITE_IOERR_FSYNC

const sqlite = ({ errcode, message }: { errcode: number; message: string }): Error =>
  Object.assign(new Error(message), { code: 'ERR_SQLITE_ERROR', errcode, errstr: message })

/** What is about to befall one process. */
export class Faults {
  /** Statements that will find the file locked, after some that will not. */
  busy = 0
  busyAfter = 0
  /** How likely each statement is to meet a broken disk. */
  io = 0
  /** The next COMMIT fails; 'late': it says so although all is on disk. */
  commit: 'early' | 'late' | null = null
  /** The process ends at this statement from now, or right before or right after the next COMMIT. */
  crash: number | 'before' | 'after' | null = null
  dead = false
  /** A fault, other than a lock that was soon gone, was met since somebody last asked. */
  struck = false
  /** How often each kind has struck. */
  readonly counts: Record<string, number>

  constructor(counts: Record<string, number>) {
    this.counts = counts
  }

  strike(kind: string): void {
    this.counts[kind] = (this.counts[kind] ?? 0) + 1
    if (kind !== 'busy') this.struck = true
  }

  die(): never {
    this.dead = true
    this.strike('crash')
    throw new Crash()
  }
}

const always = /^(ROLLBACK|RELEASE|SAVEPOINT)/ // in memory alone, also when the disk is broken

/** Who lets others act while a process is between two statements, and knows when it has the lock. */
export interface Watch {
  between(sql: string): void
  began(): void
  committed(): void
}
const nobody: Watch = { between: () => undefined, began: () => undefined, committed: () => undefined }

/** A connection to the real file on which faults strike. */
export class FaultyDb extends Db {
  #faults: Faults
  readonly #disk: SimulatedDisk
  readonly #random: Random
  readonly #rewrite: (sql: string) => string
  #watch: Watch
  #writing = false

  constructor(
    at: { path: string; clock: Clock; processes: Processes },
    {
      faults,
      disk,
      random,
      rewrite,
      watch = nobody,
    }: { faults: Faults; disk: SimulatedDisk; random: Random; rewrite(s: string): string; watch?: Watch },
  ) {
    super(at.path, at.clock, at.processes)
    this.#faults = faults
    this.#disk = disk
    this.#random = random
    this.#rewrite = rewrite
    this.#watch = watch
  }

  /** Serves another process from now on, with its prepared statements: to prepare them anew costs more than a short run. */
  reuse(faults: Faults, watch: Watch): this | undefined {
    if (!this.connection.isOpen) return undefined
    if (this.connection.isTransaction) this.connection.exec('ROLLBACK')
    this.#faults = faults
    this.#watch = watch
    return this
  }

  /** Nobody else can write. */
  get holdsLock(): boolean {
    return this.#writing && this.connection.isOpen && this.connection.isTransaction
  }

  override run(sql: string, ...values: SQLInputValue[]): number {
    return this.#meet(sql, () => super.run(this.#rewrite(sql), ...values))
  }
  override insert(sql: string, ...values: SQLInputValue[]): number {
    return this.#meet(sql, () => super.insert(this.#rewrite(sql), ...values))
  }
  override get<Row>(sql: string, ...values: SQLInputValue[]): Row | undefined {
    return this.#meet(sql, () => super.get<Row>(this.#rewrite(sql), ...values))
  }
  override all<Row>(sql: string, ...values: SQLInputValue[]): Row[] {
    return this.#meet(sql, () => super.all<Row>(this.#rewrite(sql), ...values))
  }

  override arrays(sql: string, ...values: SQLInputValue[]): unknown[][] {
    return this.#meet(sql, () => super.arrays(this.#rewrite(sql), ...values))
  }

  #meet<T>(sql: string, work: () => T): T {
    const faults = this.#faults
    if (faults.dead) throw new Crash()
    if (always.test(sql)) return work()
    this.#watch.between(sql)
    if (faults.dead) throw new Crash()
    if (typeof faults.crash === 'number' && faults.crash-- <= 0) faults.die()
    if (sql.startsWith('BEGIN')) this.#writing = sql === 'BEGIN IMMEDIATE'
    if (faults.busy > 0 && faults.busyAfter-- <= 0) {
      faults.busy--
      this.#fail('busy', busy)
    }
    if (faults.io > 0 && this.#random.chance(faults.io)) this.#fail('io', this.#writing ? writeFailed : readFailed)
    if (sql === 'COMMIT' && this.#writing) return this.#commit(work)
    const done = work()
    if (sql === 'BEGIN IMMEDIATE') this.#watch.began()
    return done
  }

  #commit<T>(work: () => T): T {
    const faults = this.#faults
    if (faults.crash === 'before') faults.die()
    if (this.#disk.full && this.#disk.room-- <= 0) this.#fail('full', full)
    const { commit } = faults
    faults.commit = null
    if (commit === 'early') this.#fail('fsync', fsyncFailed)
    const done = work()
    this.#watch.committed()
    if (faults.crash === 'after') faults.die()
    if (commit === 'late') this.#fail('lateFsync', fsyncFailed)
    return done
  }

  /** SQLite may have rolled back the transaction already when it reports a failure, or leave that to the caller. */
  #fail(kind: string, error: typeof busy): never {
    this.#faults.strike(kind)
    if (kind !== 'busy' && this.connection.isTransaction && this.#random.chance(0.5)) this.connection.exec('ROLLBACK')
    throw sqlite(error)
  }
}
