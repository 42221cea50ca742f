import type { SQLInputValue } from 'node:sqlite'
import { connect } from '../../src/store/sqlite/connection.ts'
import { Db } from '../../src/store/sqlite/db.ts'
import { VirtualClock } from '../../src/testing/clock.ts'
import { EngineStore } from '../../src/testing/store.ts'

/** Ms that a statement takes, and each row that it changes or reads: several times what they take on a quiet machine. */
const cost = { statement: 0.02, changed: 0.1, read: 0.003 }

/** Time that passes with the work that is done, in parts of ms; instants stay whole. */
class WorkClock extends VirtualClock {
  override now(): number {
    return Math.floor(super.now())
  }
}

/** A connection on which each statement takes time by what it touches, and which knows how long the write lock was held. */
class MeteredDb extends Db {
  /** Ms and statements of each transaction that held the write lock. */
  readonly held: number[] = []
  #since: number | null = null

  override begin(kind: 'read' | 'write'): void {
    super.begin(kind)
    this.#since = kind === 'write' ? this.clock.monotonic() : null
  }

  override commit(): void {
    super.commit()
    this.#note()
  }

  override rollback(): void {
    super.rollback()
    this.#note()
  }

  #note(): void {
    if (this.#since !== null) this.held.push(this.clock.monotonic() - this.#since)
    this.#since = null
  }

  #took(ms: number): void {
    ;(this.clock as WorkClock).advance(cost.statement + ms)
  }

  override run(sql: string, ...values: SQLInputValue[]): number {
    const changes = super.run(sql, ...values)
    this.#took(sql.startsWith('BEGIN') || sql === 'COMMIT' || sql === 'ROLLBACK' ? 0 : changes * cost.changed)
    return changes
  }

  override insert(sql: string, ...values: SQLInputValue[]): number {
    const id = super.insert(sql, ...values)
    this.#took(cost.changed)
    return id
  }

  override get<Row>(sql: string, ...values: SQLInputValue[]): Row | undefined {
    const row = super.get<Row>(sql, ...values)
    this.#took(cost.read)
    return row
  }

  override all<Row>(sql: string, ...values: SQLInputValue[]): Row[] {
    const rows = super.all<Row>(sql, ...values)
    this.#took(rows.length * cost.read)
    return rows
  }

  override arrays(sql: string, ...values: SQLInputValue[]): unknown[][] {
    const rows = super.arrays(sql, ...values)
    this.#took(rows.length * cost.read)
    return rows
  }
}

/**
 * A store in memory whose time passes by what it does; `before` is in the file when it opens. `longest()` is how long it
 * held the write lock at most since last asked.
 */
export function meteredStore(before = ''): {
  store: EngineStore
  clock: VirtualClock
  longest: () => number
  sql: (text: string) => void
  value: (query: string) => unknown
} {
  const clock = new WorkClock()
  let db!: MeteredDb
  const store = new EngineStore(':memory:', clock, () => {
    connect(':memory:', clock, () => (db = new MeteredDb(':memory:', clock)))
    db.connection.exec(before)
    return db
  })
  return {
    store,
    clock,
    longest: () => Math.max(0, ...db.held.splice(0)),
    sql: (text) => db.connection.exec(text),
    value: (query) => Object.values(db.connection.prepare(query).get() ?? {})[0],
  }
}
