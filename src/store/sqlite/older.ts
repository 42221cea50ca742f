import { GopherQueueError } from '../../model/errors.ts'
import type { JobFilter, Operation } from '../store.ts'
import { migrate, newestSchema } from './schema.ts'
import { DatabaseSync } from './sqlite.ts'

// A look at a file of an older version must not bring its schema forward: the processes that work on it would have to stop.

/**
 * Lets reads of this version run on a connection that can only read: tables and columns that the file lacks are laid over it
 * in memory, empty, or with the value that a migration would give.
 */
export function overlay(db: DatabaseSync): void {
  using newest = new DatabaseSync(':memory:')
  migrate(newest, () => newest.exec('BEGIN'))
  const columnsOf = (of: DatabaseSync, table: string) =>
    of.prepare(`SELECT name, IFNULL(dflt_value, 'NULL') AS value FROM pragma_table_info(?1, 'main')`).all(table)
  db.exec('PRAGMA temp_store = MEMORY')
  for (const { name, sql } of newest
    .prepare(`SELECT name, sql FROM sqlite_schema WHERE type = 'table' AND name LIKE 'gq%'`)
    .all()) {
    // biome-ignore format: long
    const there = new Set(columnsOf(db, String(name)).map((column) => column.name))
    if (there.size === 0) db.exec(String(sql).replace('CREATE TABLE', 'CREATE TEMP TABLE'))
    const missing = columnsOf(newest, String(name)).filter((column) => !there.has(column.name))
    if (there.size === 0 || missing.length === 0) continue
    const values = missing.map((column) => `, ${column.value} AS ${column.name}`)
    db.exec(`CREATE TEMP VIEW ${name} AS SELECT *${values.join('')} FROM main.${name}`)
  }
}

/** What is counted by the processes that work on a file, from a schema on: before it there is nothing to be answered. */
const counted = {
  hours: { from: 4, what: 'what happened to each type by the hour' },
  causes: { from: 5, what: 'jobs by cause' },
}

/** Throws SCHEMA_TOO_OLD where the file cannot have what is asked for. */
export function mustBeCounted(found: number, operation: Operation, input: unknown): void {
  const byCause = operation === 'jobs' && isByCause(input as JobFilter)
  const needed =
    operation === 'hours' ? counted.hours : byCause || operation === 'deadLetters' || operation === 'failing' ? counted.causes : null // biome-ignore format: long
  if (!needed || found >= needed.from) return
  throw new GopherQueueError(
    'SCHEMA_TOO_OLD',
    `The file has schema ${found}, and ${needed.what} are told from ${needed.from} on; this GopherQueue has ${newestSchema}. Nothing was changed, for a look brings no file forward: a process of this version that works on it does, after which older ones refuse it.`,
  )
}

const isByCause = ({ cause, failing }: JobFilter): boolean => cause !== undefined || failing === true
