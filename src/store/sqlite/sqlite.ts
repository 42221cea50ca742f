import { DatabaseSync, type SQLInputValue, type SQLOutputValue } from 'node:sqlite'

/** What the engine uses of a statement. */
export interface Statement {
  run(...values: SQLInputValue[]): { changes: number | bigint; lastInsertRowid: number | bigint }
  get(...values: SQLInputValue[]): Record<string, SQLOutputValue> | undefined
  all(...values: SQLInputValue[]): Record<string, SQLOutputValue>[]
  setReadBigInts(on: boolean): void
  setReturnArrays(on: boolean): void
}

/** What the engine uses of a connection: a DatabaseSync is one. */
export interface Connection {
  readonly isOpen: boolean
  readonly isTransaction: boolean
  /** The path of the main database; null in memory. */
  location(): string | null
  prepare(sql: string): Statement
  exec(sql: string): void
  close(): void
  /** As `close`, unless it is closed. */
  [Symbol.dispose](): void
}

/** A copy of SQLite. All connections of a process to one file must be of the same one. */
export interface Sqlite {
  /** The URL of the app's better-sqlite3; null: Node's own copy. */
  readonly driver: string | null
  open(path: string, readOnly?: boolean): Connection
  /** A connection of the app's, if it is one of this copy; else null. */
  adopt(connection: unknown): Connection | null
  /** Whether this copy is in that library, one of those that are loaded besides Node itself. */
  isIn(library: string): boolean
}

export const nodeSqlite: Sqlite = {
  driver: null,
  open: (path, readOnly = false) => new DatabaseSync(path, { readOnly }),
  adopt: (connection) => (connection instanceof DatabaseSync ? connection : null),
  isIn: () => false,
}
