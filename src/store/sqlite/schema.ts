import { type Accepted, GopherQueueError } from '../../model/errors.ts'
import { sql as first } from './schema/001.ts'
import { sql as second } from './schema/002.ts'
import { sql as third } from './schema/003.ts'
import { sql as fourth } from './schema/004.ts'
import { sql as fifth } from './schema/005.ts'
import { sql as sixth } from './schema/006.ts'
import { sql as seventh } from './schema/007.ts'
import { sql as eighth } from './schema/008.ts'
import type { Connection } from './sqlite.ts'

/** One entry a version, each run in a transaction of its own. docs/schema.md is its public face. */
const migrations: string[] = [first, second, third, fourth, fifth, sixth, seventh, eighth]

export const newestSchema = migrations.length

export const tooNew = (found: number): string =>
  `The file has schema ${found}; this GopherQueue knows up to ${newestSchema}. Nothing was changed: use the newer version.`

/** Brings the file to this version's schema, one transaction a step. Safe when several processes open at once. Throws SCHEMA_TOO_NEW. */
export function migrate(db: Connection, begin: () => void): void {
  for (;;) {
    const found = version(db)
    if (found > migrations.length) throw new GopherQueueError('SCHEMA_TOO_NEW', tooNew(found))
    if (found === migrations.length) return
    begin()
    try {
      const step = version(db) // another process may have been first
      if (step < migrations.length) {
        db.exec(migrations[step]!)
        db.prepare(
          `INSERT INTO gq_meta (key, value) VALUES ('schema', ?1) ON CONFLICT (key) DO UPDATE SET value = ?1`,
        ).run(String(step + 1))
      }
      db.exec('COMMIT')
    } catch (error) {
      if (db.isTransaction) db.exec('ROLLBACK')
      throw error
    }
  }
}

/** What the first version has, in the order in which a message names them. */
const tables =
  `gq_jobs gq_meta gq_queues gq_keys gq_attempts gq_workers gq_losses gq_schedules gq_tokens gq_audit gq_requests`.split(
    ' ',
  )

/**
 * 0 for a file without a queue. Throws STORAGE_CORRUPT when there is one, but not its number, and STORAGE_UNAVAILABLE when
 * its tables are gone: it is not made anew over what is left.
 */
export function version(db: Connection): number {
  const all = db.prepare(`SELECT name FROM sqlite_schema WHERE type = 'table'`).all()
  const there = new Set(all.map(({ name }) => name))
  const missing = tables.filter((name) => !there.has(name))
  if (missing.length === tables.length) {
    // The row of a table that is dropped goes with it, but this one is of no table.
    if (there.has('sqlite_sequence') && db.prepare(`SELECT 1 FROM sqlite_sequence WHERE name = 'gq_file'`).get())
      throw tablesGone('all of them')
    return 0
  }
  if (!there.has('gq_meta')) throw tablesGone(missing.join(', '))
  const row = db.prepare(`SELECT value FROM gq_meta WHERE key = 'schema'`).get()
  const found = row ? Number(row.value) : 0
  if (!Number.isInteger(found) || found <= 0)
    throw new GopherQueueError(
      'STORAGE_CORRUPT',
      `The file has the tables of a queue, but gq_meta does not say of which version. Nothing was changed: keep the file and its -wal, and restore a backup or salvage with 'gopherqueue recover --into NEW'.`,
    )
  if (found <= newestSchema && missing.length > 0) throw tablesGone(missing.join(', '))
  return found
}

/** The queue's table that SQLite did not find, by its error; null of another error. */
export const tableMissed = (error: unknown): string | null =>
  error instanceof Error ? (/^no such table: (?:main\.)?(gq_\w+)/.exec(error.message)?.[1] ?? null) : null

export const tablesGone = (which: string, accepted: Accepted = 'no'): GopherQueueError =>
  new GopherQueueError(
    'STORAGE_UNAVAILABLE',
    `Tables of the queue are gone from the file (${which}), with what they held. Somebody has dropped them: migration tools drop tables that their schema does not know, such as drizzle-kit push without tablesFilter: ['!gq_*']. ${accepted === 'no' ? 'Nothing was accepted, and' : 'Whether this was accepted is not known;'} no new tables were made. Stop all processes of this queue, keep the file and its -wal, and restore a backup; or, to go on with an empty queue, drop what is left of the tables gq_* and run: DELETE FROM sqlite_sequence WHERE name = 'gq_file'.`,
    { accepted },
  )
