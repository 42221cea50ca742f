import { randomUUID } from 'node:crypto'
import type { SQLInputValue } from 'node:sqlite'
import { type Clock, systemClock } from '../../model/clock.ts'
import type { GopherQueueError } from '../../model/errors.ts'
import type { Input } from '../operations.ts'
import { attemptOf } from '../sqlite/attempt.ts'
import { lockWait } from '../sqlite/connection.ts'
import { Db, type ReadyRow } from '../sqlite/db.ts'
import type { Processes } from '../sqlite/processes.ts'
import type { KeyKind, Read } from '../sqlite/session.ts'
import type { Source } from '../store.ts'
import { success, valuesOf } from './batch.ts'
import { ServerClock } from './clock.ts'
import { patience, type ServerConnection, type ServerStatement } from './connection.ts'
import { lostConnection, ServerError } from './fault.ts'
import { Lows } from './lows.ts'
import { isThere, leave, type Mark } from './marks.ts'
import { Numbers } from './numbers.ts'
import { newestSchema, tooNew } from './schema.ts'
import { begin, keyLock, type Look, lockTimeout, newest, nextBlock, numbered } from './statements.ts'

/** How long to ask what became of a COMMIT whose answer did not come, in ms. */
const askFor = 15_000

/** The engine's connection to a PostgreSQL server: its transactions, its numbers, and what became of a lost COMMIT. */
export class ServerDb extends Db {
  declare readonly connection: ServerConnection
  override readonly isFile = false
  override readonly newestSchema = newestSchema
  override readonly tooNew = (found: number): GopherQueueError => tooNew(this.connection.place.schema, found)
  override readonly storesTogether = true
  /** The newest mark that this connection has seen. */
  #mark = -1
  readonly #numbers: Numbers
  readonly #lows = new Lows()
  /** Counts the times that others were seen to have committed. */
  #version = 0
  #writing = false

  constructor(connection: ServerConnection, clock: Clock, processes: Processes) {
    super(connection, clock, processes)
    const next = connection.statement(nextBlock(connection.place.identifier))
    this.#numbers = new Numbers(() => connection.flight([next([])])[0]!.rows[0]![0] as number)
  }

  protected override start(kind: 'read' | 'write'): void {
    this.#writing = kind === 'write'
    try {
      this.#begin()
    } catch (error) {
      if (!(error instanceof ServerError && error.lost)) throw this.#givenUp(error)
      this.#reopen() // nothing has happened yet
      this.#begin()
    }
  }

  #begin(): void {
    const { connection } = this
    connection.isTransaction = true
    connection.hasWritten = false
    const all = begin[this.#writing ? 'write' : 'read'](connection.place, this.#mark)
    const sent = all.map(([text, ...values]) => connection.statement(text)(values))
    const [n, seq, now, isNew, readied, block = null] = connection.flight(sent, patience + lockTimeout).at(-1)!.rows[0] as Look // biome-ignore format: one line
    if (this.clock instanceof ServerClock) this.clock.is(now)
    this.#saw(n, isNew, readied)
    this.#lows.begin(this.clock.monotonic())
    this.#numbers.begin(seq, block)
  }

  #givenUp(error: unknown): unknown {
    if (this.connection.isTransaction) this.rollback()
    return error
  }

  /** An app's transaction that has inserted jobs leaves no mark. */
  #saw(n: number, isNew: 0 | 1, readied: number | null): void {
    if (n !== this.#mark || isNew === 1) this.#version++
    if (n !== this.#mark) this.#lows.lower(readied ?? 0)
    this.#mark = n
  }

  override dataVersion(): number {
    if (this.connection.isTransaction) return this.#version // as it was read when it began
    this.#look()
    return this.#version
  }

  #look(): void {
    const { connection } = this
    const look = connection.statement(newest(connection.place.identifier))([this.#mark])
    const [n, seq, , isNew, readied] = this.#quietly(() => connection.flight([look]))[0]!.rows[0] as Look
    this.#saw(n, isNew, readied)
    this.#numbers.begin(seq, null)
  }

  /** Throws when another queue is in the place of the one that was opened. */
  #reopen(): void {
    const { connection } = this
    this.#lows.forget()
    this.leasedFrom = 0 // another server may have lost what this one has seen
    connection.open()
    const text = `SELECT value FROM ${connection.place.identifier}.gq_meta WHERE key = 'epoch'`
    const epoch = connection.flight([{ text, values: [] }])[0]!.rows[0]?.[0]
    if (this.epoch !== '' && epoch !== this.epoch)
      throw new ServerError({ message: 'another queue is in its place', sqlstate: '3D000' })
  }

  /** A read outside of a transaction: on a connection that was lost meanwhile it is made once more. */
  #quietly<T>(read: () => T): T {
    try {
      return read()
    } catch (error) {
      if (!(error instanceof ServerError && error.lost)) throw error
      this.#reopen()
      return read()
    }
  }

  override sequence(): number {
    if (!this.connection.isTransaction) this.#look()
    return this.#numbers.last
  }

  override nextId(): number {
    this.#numbers.reserve(1)
    return this.#numbers.last + 1
  }

  override nextSequence(): number {
    const given = this.#numbers.next()
    this.change ??= given
    return given
  }

  protected override end(): void {
    const { connection } = this
    if (!this.#writing || !connection.hasWritten) {
      this.committing = false // nothing that anybody asked for hangs on it
      connection.flight([connection.statement('COMMIT')([])])
      connection.isTransaction = false
      return
    }
    const mark = this.#newMark()
    try {
      const warned = this.#commit(mark)
      if (warned === null) this.#committed(mark)
      else this.#ask(mark, new ServerError({ message: warned, sqlstate: lostConnection }))
    } catch (error) {
      const known = !(error instanceof ServerError && error.lost)
      if (known && error instanceof ServerError) this.committing = false // nothing was committed
      if (known || !this.committing) throw error
      this.#ask(mark, error as ServerError)
    }
  }

  #newMark(): Mark {
    return { n: this.#mark + 1, id: randomUUID(), seq: this.#numbers.last, readied: this.#lows.readied }
  }

  #committed({ n }: Mark): void {
    this.#mark = n
    const { readied, resumed, freed, ended } = this
    if (readied.size > 0 || resumed.size > 0 || freed || ended.length > 0) this.connection.tell()
  }

  /** What the server has warned of, such as that the wait for the standby was cancelled: then it is here, and perhaps nowhere else. */
  #commit(mark: Mark): string | null {
    const { connection } = this
    leave(connection, mark)
    const { command, warned } = connection.flight([connection.statement('COMMIT')([])])[0]!
    connection.isTransaction = false
    if (command !== 'COMMIT') throw new ServerError({ message: `COMMIT was answered ${command}`, sqlstate: '25P02' })
    return warned
  }

  /**
   * Whether a COMMIT took place whose answer did not come. Who has the lock knows that the transaction has ended, on
   * whichever server; and who commits after it, that it is as durable as its own commit. Returns if it did. Throws `lost`
   * if it did not, and what kept it from finding out.
   */
  #ask(mark: Mark, lost: ServerError): void {
    const until = systemClock.monotonic() + askFor
    for (let wait = 10; ; wait = Math.min(wait * 2, 500)) {
      try {
        this.#reopen()
        this.#begin()
        if (!isThere(this.connection, mark)) break
        const again = this.#newMark()
        if (this.#commit(again) === null) {
          this.#committed(again)
          return
        }
      } catch (error) {
        if (!(error instanceof ServerError) || systemClock.monotonic() > until) throw error
      }
      lockWait.sleep(wait)
    }
    this.rollback()
    this.committing = false // it is known: nothing was committed
    throw new ServerError(lost, true)
  }

  override get goesOn(): boolean {
    return this.connection.isTransaction && !this.connection.isAborted
  }

  override ahead(reads: () => Read[]): void {
    for (const [sql, ...values] of reads()) (this.statement(sql) as ServerStatement).ahead(...values)
  }

  override later(sql: string, ...values: SQLInputValue[]): void {
    ;(this.statement(sql) as ServerStatement).later(...values)
  }

  override insert(sql: string, ...values: SQLInputValue[]): number {
    return this.get<{ id: number }>(`${sql} RETURNING id`, ...values)!.id
  }

  override isFree(kind: KeyKind, queue: string, type: string, key: string): string {
    return `pg_try_advisory_xact_lock(${keyLock(this.connection.place.schema, kind, queue, type, key)})`
  }

  /** Their ids are given here, under the lock. */
  override insertJobs(sql: string, rows: number, ...values: SQLInputValue[]): number | null {
    const statement = this.statement(numbered(sql, values.length + 1)) as ServerStatement
    this.#numbers.reserve(rows)
    const all = [...values, this.#numbers.last + 1]
    // One that the server refuses fails its savepoint or its group, whose requests are then tried again by halves.
    if (!sql.includes('DO NOTHING')) statement.later(...all)
    else if (statement.guarded(...all) === 0) return null
    this.#numbers.last += rows
    return this.#numbers.last
  }

  /** One statement for all: a flight for each would be most of its time. */
  override storeSuccesses(inputs: Input<'succeed'>[], keeps: (number | null)[]): Set<string> {
    const { connection, now } = this
    const { rows } = connection.guarded(connection.statement(success(connection.place.identifier))(valuesOf(inputs, keeps, now))) // biome-ignore format: one call
    return new Set(rows.map(([id, token]) => attemptOf({ id, token } as { id: number; token: number })))
  }

  protected override savepoint(): void {
    this.#numbers.save()
    this.connection.later(this.connection.statement('SAVEPOINT operation')([]))
  }

  protected override toSavepoint(): void {
    const { connection } = this
    const undo = ['ROLLBACK TO operation', 'RELEASE operation'].map((text) => connection.statement(text)([]))
    connection.undo(undo)
    this.#numbers.back()
  }

  override restartWal(): boolean {
    return false
  }

  override uncheckpointed(): number {
    return 0
  }

  override checkpointOften(): void {
    // There is no WAL of ours.
  }

  override again(source: Source, id: number): void {
    this.#lows.again(source, id)
  }

  override firstReady(source: Source, from: number, most: number): ReadyRow[] {
    return this.#lows.first(this, source, from, most, this.#numbers.last + 1)
  }

  override rollback(): void {
    this.forgetRows()
    if (this.#writing) this.#lows.forget() // jobs that it leased are ready again
    if (!this.connection.isTransaction) return
    try {
      this.connection.undo([this.connection.statement('ROLLBACK')([])])
    } catch (error) {
      if (!(error instanceof ServerError)) throw error // what went wrong before is what is told
    }
    this.connection.isTransaction = false
  }
}
