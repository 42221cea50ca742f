import { GopherQueueError } from '../../model/errors.ts'
import type { ServerConnection } from './connection.ts'
import { sql as first } from './schema/001.ts'
import { sql as second } from './schema/002.ts'
import { sql as third } from './schema/003.ts'

/** One entry a version, each run in a transaction of its own. */
const migrations: string[] = [first, second, third]

export const newestSchema = migrations.length

/** Brings the queue's schema to this version, one transaction a step. Safe when several processes open at once. Throws SCHEMA_TOO_NEW. */
export function migrate(connection: ServerConnection): void {
  const { schema, identifier, lock } = connection.place
  for (;;) {
    const found = version(connection)
    if (found > newestSchema) throw tooNew(schema, found)
    if (found === newestSchema) return
    connection.exec(`BEGIN; SELECT pg_advisory_xact_lock(${lock})`)
    connection.isTransaction = true
    try {
      const step = version(connection) // another process may have been first
      if (step < newestSchema)
        connection.exec(
          `CREATE SCHEMA IF NOT EXISTS ${identifier}; SET LOCAL search_path = ${identifier}; ${migrations[step]};
           INSERT INTO gq_meta (key, value) VALUES ('schema', '${step + 1}') ON CONFLICT (key) DO UPDATE SET value = excluded.value`,
        )
      connection.exec('COMMIT')
      connection.isTransaction = false
    } catch (error) {
      connection.undo([{ text: 'ROLLBACK', values: [] }])
      connection.isTransaction = false
      throw error
    }
  }
}

/** 0 of a schema without a queue. */
function version(connection: ServerConnection): number {
  const { identifier } = connection.place
  const ask = (text: string) => connection.flight([{ text, values: [] }])[0]!.rows[0]?.[0]
  if (ask(`SELECT to_regclass('${identifier}.gq_meta')`) === null) return 0
  const found = Number(ask(`SELECT value FROM ${identifier}.gq_meta WHERE key = 'schema'`))
  if (Number.isInteger(found) && found > 0) return found
  throw new GopherQueueError(
    'STORAGE_CORRUPT',
    `The schema ${identifier} has a table gq_meta, which does not say of which version. Nothing was changed: restore a backup of the database, or give another ?schema=.`,
  )
}

export const tooNew = (schema: string, found: number): GopherQueueError =>
  new GopherQueueError(
    'SCHEMA_TOO_NEW',
    `The queue in the schema ${schema} has version ${found}; this GopherQueue knows up to ${newestSchema}. Nothing was changed: use the newer version.`,
  )
