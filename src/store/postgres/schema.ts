import { GopherQueueError } from '../../model/errors.ts'
import type { ServerConnection } from './connection.ts'
import { ServerError } from './fault.ts'
import { sql as first } from './schema/001.ts'
import { sql as second } from './schema/002.ts'
import { sql as third } from './schema/003.ts'
import { sql as fourth } from './schema/004.ts'

/**
 * One entry a version, each run in a transaction of its own: its SQL, and the oldest version whose code works beside it.
 * One that only adds what older code need not know, such as an index or a column with a default, names an older version.
 */
const migrations: [sql: string, oldest: number][] = [
  [first, 1],
  [second, 2],
  [third, 3],
  [fourth, 3],
]

export const newestSchema = migrations.length

/** Brings the queue's schema to this version, one transaction a step; answers which it had. Safe when several processes open at once. Throws SCHEMA_TOO_NEW. */
export function migrate(connection: ServerConnection): number {
  const { schema } = connection.place
  const before = asOwner(connection, null, () => version(connection))
  for (let now = before; ; now = version(connection)) {
    if (now.oldest > newestSchema) throw tooNew(schema, now.found)
    if (now.found >= newestSchema) return before.found
    asOwner(connection, now.found, () => step(connection))
  }
}

/** Whether the schema is of this version, or of a newer one beside which this one works. Throws SCHEMA_TOO_NEW. */
export function isNewest(connection: ServerConnection): boolean {
  const { found, oldest } = asOwner(connection, null, () => version(connection))
  if (oldest > newestSchema) throw tooNew(connection.place.schema, found)
  return found >= newestSchema
}

function step(connection: ServerConnection): void {
  const { schema, identifier, lock } = connection.place
  // What a transaction of an app's keeps from the tables' locks must not keep all writers waiting until they give up.
  connection.exec(
    `BEGIN; SET LOCAL lock_timeout = '9s'; SELECT pg_advisory_xact_lock(${lock}); SET LOCAL lock_timeout = '2s'`,
  )
  connection.isTransaction = true
  try {
    const { found } = version(connection) // another process may have been first
    // Who owns the schema need not have the right to make another.
    if (!isThere(connection, `pg_namespace WHERE nspname = '${schema}'`)) connection.exec(`CREATE SCHEMA ${identifier}`)
    const next = migrations[found]
    // By a new mark, processes of older versions see that they have to look at gq_meta before they write.
    if (next)
      connection.exec(
        `SET LOCAL search_path = ${identifier}; ${next[0]};
         INSERT INTO gq_meta (key, value) VALUES ('schema', '${found + 1}'), ('schema_min', '${next[1]}')
           ON CONFLICT (key) DO UPDATE SET value = excluded.value;
         INSERT INTO gq_marks SELECT n + 1, gen_random_uuid(), seq FROM gq_marks ORDER BY n DESC LIMIT 1`,
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
    const { schema } = connection.place
    if (error instanceof ServerError && error.sqlstate === '55P03') throw new GopherQueueError('STORAGE_UNAVAILABLE', `A transaction that is open on the queue's tables in the schema ${schema}, or has the queue's lock, keeps them from being brought to version ${newestSchema} (${error.message}). Nothing was changed: open again when it has ended; gopherqueue doctor names the oldest.`) // biome-ignore format: one message
    if (!(error instanceof ServerError) || error.sqlstate !== '42501') throw error
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

/** The schema's version, 0 without a queue, and the oldest version whose code works on it. */
function version(connection: ServerConnection): { found: number; oldest: number } {
  const { schema, identifier } = connection.place
  if (!isThere(connection, `pg_tables WHERE schemaname = '${schema}' AND tablename = 'gq_meta'`)) return { found: 0, oldest: 0 } // biome-ignore format: one line
  const text = `SELECT ${versions(identifier)}`
  const [found = 0, oldest = 0] = connection.flight([{ text, values: [] }])[0]!.rows[0]!.map(Number)
  if (Number.isInteger(found) && found > 0) return { found, oldest }
  throw new GopherQueueError(
    'STORAGE_CORRUPT',
    `The schema ${identifier} has a table gq_meta, which does not say of which version. Nothing was changed: restore a backup of the database, or give another ?schema=.`,
  )
}

/** In SQL, as text: the schema's version, and the oldest version whose code works on it. */
export const versions = (identifier: string): string => {
  const value = (key: string) => `(SELECT value FROM ${identifier}.gq_meta WHERE key = '${key}')`
  return `${value('schema')} AS version, COALESCE(${value('schema_min')}, ${value('schema')}) AS oldest`
}

export const tooNew = (schema: string, found: number): GopherQueueError =>
  new GopherQueueError(
    'SCHEMA_TOO_NEW',
    `The queue in the schema ${schema} has version ${found}; this GopherQueue knows up to ${newestSchema}. Nothing was changed: use the newer version.`,
  )
