import { GopherQueueError } from '../../model/errors.ts'
import { sql as first } from './schema/001.ts'
import type { Connection } from './sqlite.ts'

/** One entry a version, each run in a transaction of its own. docs/schema.md is its public face. */
const migrations: string[] = [first]

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

/** 0 for a file without a queue. Throws STORAGE_CORRUPT when there is one, but not its number: it is not made anew over it. */
export function version(db: Connection): number {
  const tables = db.prepare(
    `SELECT name FROM sqlite_schema
     WHERE type = 'table' AND name IN ('gq_meta', 'gq_jobs', 'gq_queues', 'gq_keys', 'gq_attempts', 'gq_workers')`,
  )
  const names = tables.all().map(({ name }) => name)
  if (names.length === 0) return 0
  const row = names.includes('gq_meta') && db.prepare(`SELECT value FROM gq_meta WHERE key = 'schema'`).get()
  const found = row ? Number(row.value) : 0
  if (Number.isInteger(found) && found > 0) return found
  throw new GopherQueueError(
    'STORAGE_CORRUPT',
    `The file has tables of a queue (${names.join(', ')}), but gq_meta does not say of which version. Nothing was changed: keep the file and its -wal, and restore a backup or salvage with 'gopherqueue recover --into NEW'.`,
  )
}
