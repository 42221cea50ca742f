import type pg from 'pg'
import type { ServerFigures } from '../stats.ts'
import { loaded } from './driver.ts'
import type { Place } from './place.ts'

// What a server's own tables tell of it, for doctor and for the looks of a running process. None of it is a row of the queue.

/** Longest wait for an answer, in ms: who has a table locked must not keep a look for ever. */
const patience = 5000

/** Connects, and ends the connection afterwards; one that failed is cut off, as its end might never be answered. */
export async function connectedTo<T>(settings: pg.ClientConfig, use: (client: pg.Client) => Promise<T>): Promise<T> {
  const { Client } = await loaded()
  const client = new Client({ connectionTimeoutMillis: patience, ...settings })
  client.on('error', () => undefined) // the statement that it meets says so
  try {
    await client.connect()
    const value = await use(client)
    client.end().catch(() => undefined) // not waited for: a network that breaks now would keep a look for ever
    return value
  } catch (error) {
    ;(client as unknown as { connection: { stream: { destroy(): void } } }).connection.stream.destroy()
    throw error
  }
}

/** Of a server that takes writes. */
export async function figuresOf(client: pg.Client, { lock, schema }: Place): Promise<ServerFigures> {
  // As JSON texts, which no type parser of the app's `pg` changes.
  const all = async <T>(text: string, ...values: string[]): Promise<T[]> =>
    (await client.query(`SELECT row_to_json(r)::text AS row FROM (${text}) AS r`, values)).rows.map(({ row }) => JSON.parse(row)) // biome-ignore format: one line
  await client.query('BEGIN READ ONLY') // a pooler may give each transaction another session
  await client.query(`SET LOCAL statement_timeout = ${patience}`)
  const [asked] = await all<Pick<ServerFigures, 'role' | 'seesAll' | 'waitsFor'>>(role)
  const seen: ServerFigures['standbys'] = asked!.seesAll ? await all(standbys) : null
  const figures: ServerFigures = {
    ...asked!,
    standbys: seen,
    standbyMissing: seen && isMissing(asked!.waitsFor, seen),
    writer: (await all<NonNullable<ServerFigures['writer']>>(writer, lock))[0] ?? null,
    snapshots: asked!.seesAll ? await all(snapshots) : null,
    slots: await all(slots),
    connections: (await all<ServerFigures['connections']>(connections))[0]!,
    tables: await all(tables, schema),
  }
  await client.query('COMMIT')
  return figures
}

/** How many standbys a commit waits for: `FIRST 2 (a, b)`, `ANY 1 (a, b)`, `2 (a, b)` or `a, b`. */
const needed = (waitsFor: string) => Number(/^\s*(?:(?:FIRST|ANY)\s*)?(\d+)\s*\(/i.exec(waitsFor)?.[1] ?? 1)

export const isMissing = (waitsFor: string, standbys: NonNullable<ServerFigures['standbys']>): boolean =>
  waitsFor !== '' && standbys.filter(({ sync }) => sync === 'sync' || sync === 'quorum').length < needed(waitsFor)

const role = `SELECT quote_ident(current_user) AS role, pg_has_role('pg_read_all_stats', 'USAGE') AS "seesAll",
    current_setting('synchronous_standby_names') AS "waitsFor"`

const age = (since: string) => `(EXTRACT(EPOCH FROM clock_timestamp() - ${since}) * 1000)::float`

/** A copy that pg_basebackup makes is none. */
const standbys = `SELECT application_name AS name, sync_state AS sync, pg_wal_lsn_diff(pg_current_wal_lsn(), flush_lsn)::float AS "behindBytes"
  FROM pg_stat_replication WHERE state <> 'backup' ORDER BY 1`

const writer = `SELECT l.pid, a.application_name AS name, a.client_addr::text AS address, a.state, ${age('a.xact_start')} AS ms,
    (SELECT COUNT(*) FROM pg_locks w WHERE NOT w.granted AND w.locktype = l.locktype AND w.objsubid = l.objsubid
       AND w.classid = l.classid AND w.objid = l.objid AND w.database = l.database)::int AS waiting
  FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
  WHERE l.granted AND l.locktype = 'advisory' AND l.objsubid = 1 AND ((l.classid::bigint << 32) | l.objid::bigint) = $1::bigint
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())`

/** Of clients alone: what autovacuum works with keeps no dead row. */
const snapshots = `SELECT pid, application_name AS name, ${age('xact_start')} AS ms FROM pg_stat_activity
  WHERE backend_xmin IS NOT NULL AND xact_start IS NOT NULL AND backend_type = 'client backend' AND pid <> pg_backend_pid()
    AND datname = current_database()
  ORDER BY xact_start LIMIT 3`

const slots = `SELECT slot_name AS name, pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::float AS bytes FROM pg_replication_slots
  WHERE NOT active AND (xmin IS NOT NULL OR restart_lsn IS NOT NULL) ORDER BY 1`

/** Of other roles, one that may not see all is not told the backend's type. */
const connections = `SELECT (COUNT(*) FILTER (WHERE application_name LIKE 'gopherqueue%'))::int AS ours, COUNT(*)::int AS "all",
    current_setting('max_connections')::int AS most
  FROM pg_stat_activity WHERE datid IS NOT NULL AND COALESCE(backend_type, 'client backend') = 'client backend'`

const tables = `SELECT relname AS name, pg_total_relation_size(relid)::float AS bytes, n_live_tup AS rows, n_dead_tup AS dead,
    round(EXTRACT(EPOCH FROM GREATEST(last_vacuum, last_autovacuum)) * 1000) AS "vacuumedAt"
  FROM pg_stat_user_tables WHERE schemaname = $1 ORDER BY 2 DESC`
