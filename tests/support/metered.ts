import type { SQLInputValue } from 'node:sqlite'
import { connect } from '../../src/store/sqlite/connection.ts'
import { Db } from '../../src/store/sqlite/db.ts'
import { VirtualClock } from '../../src/testing/clock.ts'
import { EngineStore } from '../../src/testing/store.ts'

/** Ms that a statement takes, and that each row takes which it reads or changes: about as on a slow disk. */
const cost = { statement: 0.05, row: 0.05 }

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

  #took(rows: number): void {
    ;(this.clock as WorkClock).advance(cost.statement + cost.row * rows)
  }

  override run(sql: string, ...values: SQLInputValue[]): number {
    const changes = super.run(sql, ...values)
    this.#took(sql.startsWith('BEGIN') || sql === 'COMMIT' || sql === 'ROLLBACK' ? 0 : changes)
    return changes
  }

  override insert(sql: string, ...values: SQLInputValue[]): number {
    const id = super.insert(sql, ...values)
    this.#took(1)
    return id
  }

  override get<Row>(sql: string, ...values: SQLInputValue[]): Row | undefined {
    const row = super.get<Row>(sql, ...values)
    this.#took(1)
    return row
  }

  override all<Row>(sql: string, ...values: SQLInputValue[]): Row[] {
    const rows = super.all<Row>(sql, ...values)
    this.#took(rows.length)
    return rows
  }

  override arrays(sql: string, ...values: SQLInputValue[]): unknown[][] {
    const rows = super.arrays(sql, ...values)
    this.#took(rows.length)
    return rows
  }
}

/** A store in memory whose time passes by what it does. `longest()` is how long it held the write lock at most since last asked. */
export function meteredStore(): { store: EngineStore; longest: () => number; sql: (text: string) => void } {
  const clock = new WorkClock()
  let db!: MeteredDb
  const store = new EngineStore(':memory:', clock, () => {
    connect(':memory:', clock, () => (db = new MeteredDb(':memory:', clock)))
    return db
  })
  return {
    store,
    longest: () => Math.max(0, ...db.held.splice(0)),
    sql: (text) => db.connection.exec(text),
  }
}
