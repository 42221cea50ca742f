import { GopherQueueError } from '../../model/errors.ts'
import type { ServerConnection } from './connection.ts'
import { ServerError } from './fault.ts'
import { sql as first } from './schema/001.ts'
import { sql as second } from './schema/002.ts'
import { sql as third } from './schema/003.ts'

/** One entry a version, each run in a transaction of its own. */
const migrations: string[] = [first, second, third]

export const newestSchema = migrations.length

/** Brings the queue's schema to this version, one transaction a step; answers which it had. Safe when several processes open at once. Throws SCHEMA_TOO_NEW. */
export function migrate(connection: ServerConnection): number {
  const { schema } = connection.place
  const before = asOwner(connection, null, () => version(connection))
  for (let found = before; ; found = version(connection)) {
    if (found > newestSchema) throw tooNew(schema, found)
    if (found === newestSchema) return before
    asOwner(connection, found, () => step(connection))
  }
}

function step(connection: ServerConnection): void {
  const { schema, identifier, lock } = connection.place
  connection.exec(`BEGIN; SELECT pg_advisory_xact_lock(${lock})`)
  connection.isTransaction = true
  try {
    const found = version(connection) // another process may have been first
    // Who owns the schema need not have the right to make another.
    if (!isThere(connection, `pg_namespace WHERE nspname = '${schema}'`)) connection.exec(`CREATE SCHEMA ${identifier}`)
    if (found < newestSchema)
      connection.exec(
        `SET LOCAL search_path = ${identifier}; ${migrations[found]};
         INSERT INTO gq_meta (key, value) VALUES ('schema', '${found + 1}') ON CONFLICT (key) DO UPDATE SET value = excluded.value`,
      )
    connection.exec('COMMIT')
    connection.isTransaction = false
  } catch (error) {
    connection.undo([{ text: 'ROLLBACK', values: [] }])
    connection.isTransaction = false
    throw error
  }
}

/** `found`: the version that is there, 0 of none; null where it may not even be read. */
function asOwner<T>(connection: ServerConnection, found: number | null, work: () => T): T {
  try {
    return work()
  } catch (error) {
    if (!(error instanceof ServerError) || error.sqlstate !== '42501') throw error
    const { schema } = connection.place
    const state = found === null ? `may not read the schema ${schema}` : found === 0 ? `may not make the queue's tables in the schema ${schema}` : `may not bring the schema ${schema} from version ${found} to ${newestSchema}` // biome-ignore format: one line
    throw mustMigrate(`The role of the connection ${state} (${error.message})`)
  }
}

const mustMigrate = (what: string): GopherQueueError =>
  new GopherQueueError(
    'STORAGE_UNAVAILABLE',
    `${what}. Nothing was changed: run 'gopherqueue migrate --db postgres://OWNER@... --grant ROLE' as the schema's owner, with the role of this connection as ROLE.`,
  )

/** Throws unless the role may do with the tables what the engine does. */
export function mustHaveRights(connection: ServerConnection): void {
  const { schema } = connection.place
  const tables = ['SELECT', 'INSERT', 'UPDATE', 'DELETE'].map((right) => `has_table_privilege(c.oid, '${right}')`)
  const sequence = ['USAGE', 'SELECT', 'UPDATE'].map((right) => `has_sequence_privilege(c.oid, '${right}')`)
  const text = `SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = '${schema}' AND c.relname LIKE 'gq\\_%'
      AND (c.relkind = 'r' AND NOT (${tables.join(' AND ')}) OR c.relname = 'gq_blocks' AND NOT (${sequence.join(' AND ')}))
    ORDER BY 1`
  const lacking = connection.flight([{ text, values: [] }])[0]!.rows.flat()
  if (lacking.length > 0) throw mustMigrate(`The role of the connection lacks rights on ${lacking.join(', ')}`)
}

/** Lets a role use the queue: its rows, and no more. Of tables to come, too. */
export function grant(connection: ServerConnection, role: string): void {
  const { identifier } = connection.place
  const to = `TO "${role.replaceAll('"', '""')}"`
  const [rows, numbers] = ['SELECT, INSERT, UPDATE, DELETE', 'USAGE, SELECT, UPDATE']
  connection.exec(
    `BEGIN;
     GRANT USAGE ON SCHEMA ${identifier} ${to};
     GRANT ${rows} ON ALL TABLES IN SCHEMA ${identifier} ${to};
     GRANT ${numbers} ON ALL SEQUENCES IN SCHEMA ${identifier} ${to};
     ALTER DEFAULT PRIVILEGES IN SCHEMA ${identifier} GRANT ${rows} ON TABLES ${to};
     ALTER DEFAULT PRIVILEGES IN SCHEMA ${identifier} GRANT ${numbers} ON SEQUENCES ${to};
     COMMIT`,
  )
}

/** As of now: to_regclass answers from a cache, which does not hear of what was committed while its transaction waited for the lock. */
const isThere = (connection: ServerConnection, what: string): boolean =>
  connection.flight([{ text: `SELECT EXISTS (SELECT 1 FROM ${what})`, values: [] }])[0]!.rows[0]![0] === 1

/** 0 of a schema without a queue. */
function version(connection: ServerConnection): number {
  const { schema, identifier } = connection.place
  if (!isThere(connection, `pg_tables WHERE schemaname = '${schema}' AND tablename = 'gq_meta'`)) return 0
  const text = `SELECT value FROM ${identifier}.gq_meta WHERE key = 'schema'`
  const found = Number(connection.flight([{ text, values: [] }])[0]!.rows[0]?.[0])
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
