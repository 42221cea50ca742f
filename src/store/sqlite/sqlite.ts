import type * as sqlite from 'node:sqlite'
import type { SQLInputValue, SQLOutputValue } from 'node:sqlite'
import { GopherQueueError } from '../../model/errors.ts'

/** A connection of Node's own SQLite. */
export type DatabaseSync = sqlite.DatabaseSync
/**
 * Asked for at run time: an import would end an older Node before any code could say why, and some bundlers and test
 * runners cut off the `node:` without which this module has no name.
 */
export const { DatabaseSync } = builtin()

function builtin(): typeof sqlite {
  const { node } = process.versions
  const found = Number.parseInt(node, 10) >= 24 && process.getBuiltinModule('node:sqlite')
  if (found) return found
  const message = `Node 24 or newer is needed; this is ${node}. Nothing was opened: start the app with a newer Node.`
  const error = new GopherQueueError('ENGINE_TOO_OLD', message)
  error.stack = `${error.name}: ${message}` // it is thrown while an app starts: a stack would hide the sentence
  throw error
}

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
