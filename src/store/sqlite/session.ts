import type { SQLInputValue } from 'node:sqlite'
import { GopherQueueError } from '../../model/errors.ts'
import type { Input } from '../operations.ts'
import type { Source } from '../store.ts'
import { newestSchema, tooNew } from './schema.ts'
import type { Connection, Statement } from './sqlite.ts'

/** A sequence beyond it was brought there by a row with an id of somebody's own: as much is given by no file in a thousand years. */
export const lastNumber = 2 ** 53 - 2 ** 40

/** A statement that reads, and its values. */
export type Read = [sql: string, ...values: SQLInputValue[]]

/** Two kinds of keys: one of a submission for a time, one of a job that has not ended. */
export type KeyKind = 'idempotency' | 'unique'

/** Statements on a connection, and what is not said in SQL alone: transactions, numbers, pages. On a server this is another. */
export class Session {
  readonly connection: Connection
  /** SQLite's, be it in memory: what is said of pages and of the WAL has a meaning. */
  readonly isFile: boolean = true
  /** The newest schema that this version knows. */
  readonly newestSchema: number = newestSchema
  readonly tooNew = (found: number): GopherQueueError => new GopherQueueError('SCHEMA_TOO_NEW', tooNew(found))
  #statements = new Map<string, Statement>()

  constructor(connection: Connection) {
    this.connection = connection
  }

  protected start(kind: 'read' | 'write'): void {
    this.run(kind === 'write' ? 'BEGIN IMMEDIATE' : 'BEGIN')
  }

  protected end(): void {
    this.run('COMMIT')
  }

  protected savepoint(): void {
    this.run('SAVEPOINT operation')
  }

  protected release(): void {
    this.run('RELEASE operation')
  }

  protected toSavepoint(): void {
    this.run('ROLLBACK TO operation')
    this.run('RELEASE operation')
  }

  /** Whether the transaction takes more statements. */
  get goesOn(): boolean {
    return this.connection.isTransaction
  }

  /** Another number after other connections have committed. It can only be compared within one connection. */
  dataVersion(): number {
    return this.get<{ data_version: number }>('PRAGMA data_version')!.data_version
  }

  /** Brings all of the WAL into the database file, so that the next write begins it anew; false when it could not, or it was empty. */
  restartWal(): boolean {
    try {
      const { busy, log } = this.get<{ busy: number; log: number }>('PRAGMA wal_checkpoint(RESTART)')!
      return busy === 0 && log > 0
    } catch {
      return false // no room for that either
    }
  }

  /** Brings the WAL into the database file; answers how many of its pages could not be brought there, as somebody still reads. */
  uncheckpointed(): number {
    const { busy, log, checkpointed } = this.get<Record<'busy' | 'log' | 'checkpointed', number>>(
      'PRAGMA wal_checkpoint(PASSIVE)',
    )!
    return busy === 0 ? log - checkpointed : Math.max(1, log - checkpointed)
  }

  /** On a full disk the WAL must not grow to its usual 1,000 pages before its space is used again. */
  checkpointOften(often: boolean): void {
    this.connection.exec(`PRAGMA wal_autocheckpoint = ${often ? 50 : 1000}`)
  }

  /** The last job id or event number given. Throws STORAGE_CORRUPT where none is left. */
  sequence(): number {
    const known = this.get<{ seq: number }>(
      `SELECT MIN(seq, ${Number.MAX_SAFE_INTEGER}) AS seq FROM sqlite_sequence WHERE name = 'gq_jobs'`,
    )
    if (!known) this.get(`SELECT 1 FROM gq_jobs`) // its table is gone: that says so
    const last = known?.seq ?? 0
    if (last <= lastNumber) return last
    throw new GopherQueueError(
      'STORAGE_CORRUPT',
      `The file's job ids are used up: somebody has inserted a job with the id ${last} with plain SQL, and no later job can have a higher one. Nothing was accepted, and no job starts or ends: run 'gopherqueue doctor', which says what to do.`,
    )
  }

  /** The id that the next job gets, if nothing else takes a number before. */
  nextId(): number {
    return this.sequence() + 1
  }

  /**
   * In SQL: whether this transaction may take a key, given in SQL, too. False while a transaction of an app's that is open
   * has taken it: to insert it all the same would wait for that one's end.
   */
  isFree(_kind: KeyKind, _queue: string, _type: string, _key: string): string {
    return '1 = 1'
  }

  /** The same of one key, now. */
  mayTake(kind: KeyKind, queue: string, type: string, key: string): boolean {
    const sql = this.isFree(kind, '?1', '?2', '?3')
    return !sql.includes('?') || this.get<{ free: 0 | 1 }>(`SELECT ${sql} AS free`, queue, type, key)!.free === 1
  }

  /** Runs a statement; answers how many rows it changed. */
  run(sql: string, ...values: SQLInputValue[]): number {
    return Number(this.statement(sql).run(...values).changes)
  }

  /** Runs a statement of whose outcome nobody asks: on a server it may go with the next one. By `run`, where the simulator puts its faults. */
  later(sql: string, ...values: SQLInputValue[]): void {
    this.run(sql, ...values)
  }

  /** Reads that the transaction makes soon, or the one that begins next: on a server they are sent together. */
  ahead(_reads: () => Read[]): void {
    // SQLite answers without a round trip.
  }

  /** A job that is stored became ready: on a server, claims begin at the first that may be. */
  again(_source: Source, _id: number): void {
    // SQLite's index has no entries of the dead.
  }

  /** No running job has an older lease: 0 where that is not known. */
  leasedFrom = 0

  /** Whether many successes are better stored by one statement. */
  readonly storesTogether: boolean = false

  /** Stores successes of attempts that hold their leases and have not failed before; answers with those, as `attemptOf` names them. */
  storeSuccesses(_inputs: Input<'succeed'>[], _keeps: (number | null)[]): Set<string> {
    return new Set()
  }

  /** Runs an INSERT; answers the last row's id. */
  insert(sql: string, ...values: SQLInputValue[]): number {
    return Number(this.statement(sql).run(...values).lastInsertRowid)
  }

  /** As `insert`, of jobs: the last one's id; null when there was one already. */
  insertJobs(sql: string, _rows: number, ...values: SQLInputValue[]): number | null {
    if (!sql.includes('DO NOTHING')) return this.insert(sql, ...values)
    return this.run(sql, ...values) === 0 ? null : this.sequence()
  }

  /** The first row. `Row` is what the statement's columns give: the one cast at SQL's border. */
  get<Row>(sql: string, ...values: SQLInputValue[]): Row | undefined {
    return this.statement(sql).get(...values) as Row | undefined
  }

  all<Row>(sql: string, ...values: SQLInputValue[]): Row[] {
    return this.statement(sql).all(...values) as Row[]
  }

  /** Rows as arrays of their columns, where rows come by the hundred. A statement is either this or `all`. */
  arrays(sql: string, ...values: SQLInputValue[]): unknown[][] {
    const statement = this.statement(sql)
    statement.setReturnArrays(true)
    return statement.all(...values) as unknown as unknown[][]
  }

  protected statement(sql: string): Statement {
    const known = this.#statements.get(sql)
    if (known) return known
    const statement = this.connection.prepare(sql)
    statement.setReadBigInts(false) // an app's connection may have other defaults
    statement.setReturnArrays(false)
    this.#statements.set(sql, statement)
    return statement
  }
}
