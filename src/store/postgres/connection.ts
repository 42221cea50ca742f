import type { SQLInputValue, SQLOutputValue } from 'node:sqlite'
import { systemClock } from '../../model/clock.ts'
import { GopherQueueError } from '../../model/errors.ts'
import { lockWait } from '../sqlite/connection.ts'
import type { Connection, Statement } from '../sqlite/sqlite.ts'
import { Ahead } from './ahead.ts'
import { theBridge } from './bridge.ts'
import type { Done, Result, Sent } from './client-thread.ts'
import { translate } from './dialect.ts'
import { ServerError } from './fault.ts'
import type { Place } from './place.ts'
import { durable } from './statements.ts'

type Row = Record<string, SQLOutputValue>

/** How long an answer may take beyond the wait for the lock, in ms; then the connection is given up. */
export const patience = 10_000
const mostPending = 200
const quiet = /^\s*(SELECT|UPDATE \S*gq_workers SET seen_at)\b/
/** How long a server may be gone before those who wait are refused, in ms; and how long to wait between tries. */
const outage = { borne: 10_000, firstWait: 5, longestWait: 250 }

/** One connection to a server, used as the engine uses SQLite's: each call waits for its answer, unless nobody asks for it. */
export class ServerConnection implements Connection {
  readonly place: Place
  readonly #bridge = theBridge()
  readonly #id = this.#bridge.newId()
  readonly #names = new Map<string, string>()
  /** Statements whose results nobody reads: they go with the next one whose result somebody does. */
  #pending: Sent[] = []
  readonly #ahead = new Ahead()
  /** Since when no answer has come; null while the server answers. */
  #lostAt: number | null = null
  #wait = 0
  #listens = false
  isOpen = false
  isTransaction = false
  /** The transaction has written, or may have, what others want to know: not when a worker was last seen, which each idle process writes. */
  hasWritten = false
  /** A statement has failed: until ROLLBACK, or ROLLBACK TO, the transaction takes no other. */
  isAborted = false

  constructor(place: Place) {
    this.place = place
    this.open()
  }

  /** Also anew, after the connection was lost: the longer it fails, the less often. */
  open(): void {
    if (this.#lostAt !== null && this.#wait > 0) lockWait.sleep(this.#wait)
    this.#wait = this.#wait === 0 ? outage.firstWait : Math.min(this.#wait * 2, outage.longestWait)
    this.#pending = []
    this.#ahead.forget()
    this.isTransaction = this.isAborted = false
    this.#one(this.#bridge.ask({ open: this.#id, hosts: this.place.connectionStrings })[0]!)
    this.isOpen = true
    try {
      mustBeDurable(this) // also after a failover: the server is another one then
    } catch (error) {
      this.close()
      throw error
    }
  }

  location(): null {
    return null
  }

  prepare(sql: string): ServerStatement {
    return new ServerStatement(this, this.statement(translate(sql, this.place.identifier)))
  }

  /** Statements of the schema, or of a transaction. */
  exec(sql: string): void {
    this.flight([{ text: sql, values: [] }])
  }

  /** From now on `hear` is called when another process tells of a commit, and `tell` tells them. */
  listen(hear: () => void): void {
    const { connectionStrings, schema } = this.place
    this.#bridge.onHeard(this.#id, hear)
    this.#bridge.ask({ listen: this.#id, channel: `"gopherqueue ${schema}"`, hosts: connectionStrings })
    this.#listens = true
  }

  tell(): void {
    if (this.#listens) this.#bridge.tell(this.#id)
  }

  close(): void {
    this.isOpen = false
    this.#bridge.onHeard(this.#id, undefined)
    this.#bridge.ask({ close: this.#id })
  }

  [Symbol.dispose](): void {
    if (this.isOpen) this.close()
  }

  /** PostgreSQL's own SQL, to be sent with values. */
  statement(text: string): (values: Sent['values']) => Sent {
    if (!this.place.prepares) return (values) => ({ name: '', text, values })
    const name = this.#names.get(text) ?? `gq_${this.#names.size + 1}`
    this.#names.set(text, name)
    return (values) => ({ name, text, values })
  }

  /** Nobody reads its result: it is sent with the next one. */
  later(sent: Sent): void {
    this.hasWritten = true
    this.#ahead.sends(sent)
    if (this.#pending.push(sent) >= mostPending) this.flight([])
  }

  /** A read that is made soon, in this transaction or in the one that begins next. */
  ahead(sent: Sent): void {
    this.#ahead.ask(sent)
  }

  /** Sends a statement and waits, unless its answer came ahead. */
  one(sent: Sent): Done {
    if (this.#ahead.isAsked(sent)) this.flight([])
    return this.#ahead.answerTo(sent) ?? this.flight([sent])[0]!
  }

  /** Sends what was left and these together, and waits; answers for these. Throws ServerError of the first that failed. */
  flight(sent: Sent[], wait = patience): Done[] {
    const before = this.#pending.length
    for (const one of sent) this.#ahead.sends(one)
    const ahead = this.#ahead.take()
    const all = [...this.#pending, ...sent, ...ahead]
    this.#pending = []
    const results = this.#bridge.ask({ on: this.#id, flight: all, patience: wait })
    const done = results.map((result) => this.#one(result))
    this.#ahead.answered(ahead, done.slice(before + sent.length))
    this.hasWritten ||= done.some(({ changes }, i) => changes > 0 && !quiet.test(all[i]!.text))
    this.#lostAt = null
    this.#wait = 0
    return done.slice(before, before + sent.length)
  }

  /** Takes back: what was sent before may have failed, and these are what mends that. */
  undo(sent: Sent[]): void {
    const all = [...this.#pending, ...sent]
    this.#pending = []
    this.#ahead.forget()
    this.isAborted = false
    for (const result of this.#bridge.ask({ on: this.#id, flight: all, patience }).slice(-sent.length))
      this.#one(result)
  }

  /** Sends a statement which alone is taken back when it fails. */
  guarded(sent: Sent): Done {
    const say = (text: string) => this.statement(text)([])
    try {
      return this.flight([say('SAVEPOINT one'), sent, say('RELEASE one')])[1]!
    } catch (error) {
      if (this.isTransaction) this.undo([say('ROLLBACK TO one'), say('RELEASE one')])
      throw error
    }
  }

  #one(result: Result): Done {
    if (!('fault' in result)) return result
    const now = systemClock.monotonic()
    const error = new ServerError(result.fault, now - (this.#lostAt ?? now) < outage.borne)
    if (error.lost) this.#lostAt ??= now
    if (error.lost) this.isTransaction = false
    else this.isAborted = this.isTransaction
    throw error
  }
}

function mustBeDurable(connection: ServerConnection): void {
  const text = `SELECT current_setting('server_version_num'), pg_is_in_recovery(), current_setting('synchronous_commit'),
                       current_setting('fsync'), current_setting('full_page_writes'), current_setting('server_encoding')`
  const row = connection.flight([{ text, values: [] }])[0]!.rows[0]!
  const [version, recovers, commit, fsync, pages, encoding] = row
  if (Number(version) < 140_000)
    throw new GopherQueueError(
      'ENGINE_TOO_OLD',
      `PostgreSQL 14 or newer is needed; this is ${version}. Nothing was changed.`,
    )
  if (recovers === 1)
    throw new GopherQueueError('STORAGE_UNAVAILABLE', 'The server is a standby, which takes no writes. Nothing was changed: give the address of the primary.') // biome-ignore format: one message
  if (encoding !== 'UTF8' && encoding !== 'SQL_ASCII')
    throw new GopherQueueError('STORAGE_UNAVAILABLE', `The database has the encoding ${encoding}, which cannot hold each name and payload. Nothing was changed: make one with ENCODING 'UTF8'.`) // biome-ignore format: one message
  if (durable.has(String(commit)) && fsync === 'on' && pages === 'on') return
  throw new GopherQueueError(
    'STORAGE_UNAVAILABLE',
    `The server would lose jobs at a crash: it says synchronous_commit = ${commit}, fsync = ${fsync}, full_page_writes = ${pages}. Nothing was changed: set synchronous_commit to on or remote_apply, and the others to on.`,
  )
}

export class ServerStatement implements Statement {
  readonly #connection: ServerConnection
  readonly #with: (values: Sent['values']) => Sent
  #arrays = false

  constructor(connection: ServerConnection, sent: (values: Sent['values']) => Sent) {
    this.#connection = connection
    this.#with = sent
  }

  run(...values: SQLInputValue[]): { changes: number; lastInsertRowid: number } {
    const { changes } = this.#fly(values)
    return { changes, lastInsertRowid: 0 }
  }

  /** As `run`; one that fails is taken back alone, as SQLite does it, and its transaction goes on. */
  guarded(...values: SQLInputValue[]): number {
    return this.#connection.guarded(this.#with(values.map(asSent))).changes
  }

  ahead(...values: SQLInputValue[]): void {
    this.#connection.ahead(this.#with(values.map(asSent)))
  }

  /** As `run`, of whose answer nobody asks. */
  later(...values: SQLInputValue[]): void {
    this.#connection.later(this.#with(values.map(asSent)))
  }

  get(...values: SQLInputValue[]): Row | undefined {
    return this.all(...values)[0]
  }

  all(...values: SQLInputValue[]): Row[] {
    const { fields, rows } = this.#fly(values)
    if (this.#arrays) return rows as unknown as Row[]
    return rows.map((row) => Object.fromEntries(fields.map((field, i) => [field, row[i] as SQLOutputValue])))
  }

  setReadBigInts(): void {
    // Numbers come as such.
  }

  setReturnArrays(on: boolean): void {
    this.#arrays = on
  }

  #fly(values: SQLInputValue[]): Done {
    return this.#connection.one(this.#with(values.map(asSent)))
  }
}

/** PostgreSQL keeps no NUL in a text. */
function asSent(value: SQLInputValue): string | number | null {
  if (typeof value === 'string') return value.includes('\0') ? value.replaceAll('\0', '\uFFFD') : value
  if (typeof value === 'number' || value === null) return value
  return String(value)
}
