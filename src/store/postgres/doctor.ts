import type pg from 'pg'
import { formatMs } from '../../model/duration.ts'
import { Order, orderEvents } from '../sqlite/audit.ts'
import { brokenOf, type Finding, fail, found, mebibytes, warn } from '../sqlite/finding.ts'
import { loadable, loaded } from './driver.ts'
import { type Place, placeOf } from './place.ts'
import { newestSchema, versions } from './schema.ts'
import { durable } from './statements.ts'

// How a queue on a server is, and what lies under it: asked of the server's own tables, on a connection of its own.

/** Longer than the engine keeps it by far, in ms. */
const longLock = 3000
/** Dead rows pile up behind a snapshot; after this time (ms) that is seen in what a claim costs. */
const longSnapshot = 60_000

type Row = Record<string, string | number | boolean | null>

interface Asked {
  place: Place
  /** Rows of a statement; ours are named without their schema. */
  ask(text: string, ...values: string[]): Promise<Row[]>
}

/** Looks at a queue and its server, and changes neither. `order`: also proves the order of all first leases. Throws INVALID_ARGUMENT. */
export async function examineServer(url: string, order: boolean): Promise<Finding[]> {
  const place = placeOf(url)
  await loadable()
  const { Client } = await loaded()
  const findings: Finding[] = []
  for (const [i, connectionString] of place.connectionStrings.entries()) {
    const client = new Client({
      connectionString,
      connectionTimeoutMillis: 5000,
      application_name: 'gopherqueue doctor',
    })
    client.on('error', () => undefined) // the statement that it meets says so
    const { host } = new URL(connectionString)
    const name = `${decodeURIComponent(host)}${place.connectionStrings.length > 1 ? ` (host ${i + 1})` : ''}`
    try {
      await client.connect()
      findings.push(...(await examineHost(client, place, name, order)))
    } catch (error) {
      const { message, code } = error as Error & { code?: string }
      findings.push(found('server', `${name}: ${message || code}`, fail('it must be there, and let this role in')))
    } finally {
      await client.end().catch(() => undefined)
    }
  }
  return findings
}

async function examineHost(client: pg.Client, place: Place, name: string, order: boolean): Promise<Finding[]> {
  const ask = async (text: string, ...values: string[]) => (await client.query<Row>(text, values)).rows
  const asked = { place, ask }
  const [server, isStandby] = await serverOf(asked, name)
  if (isStandby) return [server]
  const findings = [server, ...(await standbysOf(asked)), ...(await lockOf(asked)), ...(await snapshotsOf(asked)), await connectionsOf(asked)] // biome-ignore format: one list
  const [schema, isThere] = await schemaOf(asked)
  findings.push(schema)
  if (!isThere) return findings
  findings.push(await sizeOf(asked))
  await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY') // all that follows sees the same instant
  await client.query(`SET LOCAL search_path = ${place.identifier}`)
  findings.push(await countersOf(asked), await leasesOf(asked))
  if (order) findings.push(await orderOf(asked))
  await client.query('ROLLBACK')
  return findings
}

async function serverOf({ ask }: Asked, name: string): Promise<[Finding, isStandby: boolean]> {
  const [row] = await ask(
    `SELECT current_setting('server_version') AS version, pg_is_in_recovery() AS standby,
            current_setting('synchronous_commit') AS commit, current_setting('fsync') AS fsync,
            current_setting('full_page_writes') AS pages`,
  )
  const { version, standby, commit, fsync, pages } = row!
  const says = `${name}: PostgreSQL ${version}${standby ? ', a standby' : ''}, synchronous_commit ${commit}, fsync ${fsync}, full_page_writes ${pages}`
  const isDurable = durable.has(String(commit)) && fsync === 'on' && pages === 'on'
  return [found('server', says, !isDurable && fail('it would lose jobs: set all three to on')), standby === true]
}

async function standbysOf({ ask }: Asked): Promise<Finding[]> {
  const rows = await ask(
    `SELECT application_name AS name, sync_state AS state, pg_wal_lsn_diff(pg_current_wal_lsn(), flush_lsn)::float AS behind
     FROM pg_stat_replication ORDER BY 1`,
  )
  const [{ names } = {}] = await ask(`SELECT current_setting('synchronous_standby_names') AS names`)
  const each = rows.map(({ name, state, behind }) => `${name} (${state ?? 'of which this role may see no more'}${behind === null ? '' : `, ${mebibytes(Number(behind))} behind`})`) // biome-ignore format: one line
  const isWaitedFor = rows.some(({ state }) => state === 'sync' || state === 'quorum')
  if (names !== '' && rows.every(({ state }) => state !== null) && !isWaitedFor)
    return [found('standby', `commits wait for ${names}, which is not there`, fail('nothing is acknowledged until it is: start it, or change synchronous_standby_names'))] // biome-ignore format: one line
  if (rows.length === 0) return [found('standby', 'none')]
  const advice = 'no commit waits for a standby: one that is promoted may lack what was acknowledged last. Set synchronous_standby_names if that matters' // biome-ignore format: one line
  return [found('standby', each.join(', '), names === '' && warn(advice))]
}

async function lockOf({ ask, place }: Asked): Promise<Finding[]> {
  const rows = await ask(
    `SELECT l.pid, a.application_name AS name, a.state, a.client_addr::text AS address, granted,
            (EXTRACT(EPOCH FROM clock_timestamp() - a.xact_start) * 1000)::float AS ms
     FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
     WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND ((l.classid::bigint << 32) | l.objid::bigint) = $1::bigint
       AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())`,
    place.lock,
  )
  const holder = rows.find(({ granted }) => granted === true)
  if (!holder) return [found('writer', 'nobody writes right now')]
  const { pid, name, state, address, ms } = holder
  const waiting = rows.length - 1
  const who = `backend ${pid} (${[name, address ?? 'on this machine', state].filter((part) => part !== null && part !== '').join(', ')})`
  const says = `${who} has the queue's lock${ms === null ? '' : `, ${formatMs(Math.round(Number(ms)))} into its transaction`}; ${waiting} wait`
  const advice = `all that write to this queue wait for it; if it does not end: SELECT pg_terminate_backend(${pid})`
  return [found('writer', says, Number(ms ?? 0) > longLock && warn(advice))]
}

async function snapshotsOf({ ask }: Asked): Promise<Finding[]> {
  const [oldest] = await ask(
    `SELECT pid, application_name AS name, (EXTRACT(EPOCH FROM clock_timestamp() - xact_start) * 1000)::float AS ms
     FROM pg_stat_activity
     WHERE backend_xmin IS NOT NULL AND pid <> pg_backend_pid() AND datname = current_database() AND xact_start IS NOT NULL
     ORDER BY xact_start LIMIT 1`,
  )
  const [slot] = await ask(
    `SELECT slot_name AS name FROM pg_replication_slots WHERE NOT active AND (xmin IS NOT NULL OR restart_lsn IS NOT NULL) LIMIT 1`,
  )
  const findings: Finding[] = []
  if (slot) findings.push(found('slot', `replication slot ${slot.name} is not used and keeps WAL or dead rows`, warn(`start what it is for, or: SELECT pg_drop_replication_slot('${slot.name}')`))) // biome-ignore format: one line
  if (!oldest) return [found('snapshot', 'no transaction keeps dead rows'), ...findings]
  const { pid, name, ms } = oldest
  const says = `the oldest is backend ${pid} (${name}), ${formatMs(Math.round(Number(ms)))} old`
  const advice = `vacuum can remove no row that died since, and claims slow down; if it does not end: SELECT pg_terminate_backend(${pid})`
  return [found('snapshot', says, Number(ms) > longSnapshot && warn(advice)), ...findings]
}

async function connectionsOf({ ask }: Asked): Promise<Finding> {
  const [row] = await ask(
    `SELECT COUNT(*) FILTER (WHERE application_name LIKE 'gopherqueue%')::int AS ours, COUNT(*)::int AS all,
            current_setting('max_connections')::int AS most
     FROM pg_stat_activity WHERE backend_type = 'client backend'`,
  )
  const { ours, all, most } = row! as Record<string, number>
  const advice = 'new processes will not get in: use a pooler (docs/scaling.md), or raise max_connections'
  return found(
    'connections',
    `${ours} of GopherQueue, ${all} of at most ${most} in all`,
    all! > most! * 0.9 && warn(advice),
  )
}

async function schemaOf({ ask, place }: Asked): Promise<[Finding, isThere: boolean]> {
  const { schema, identifier } = place
  const [there] = await ask(`SELECT to_regclass($1) IS NOT NULL AS there`, `${identifier}.gq_meta`)
  const none = `there is no queue in the schema ${schema}`
  if (there!.there !== true) return [found('schema', none, fail('correct the name, or submit a first job')), false]
  const [row] = await ask(`SELECT ${versions(identifier)}`)
  const [version, oldest] = [Number(row!.version), Number(row!.oldest)]
  const says = `${schema}, version ${version}`
  if (oldest > newestSchema) return [found('schema', says, fail('a newer GopherQueue wrote it: use that')), false]
  const other =
    version < newestSchema
      ? 'the first process of this version brings it forward, if its role may'
      : 'a newer GopherQueue has brought it forward. This one works on it, and has not looked at the rules between rows: use the newer one for that'
  return [found('schema', says, version !== newestSchema && warn(other)), version === newestSchema]
}

async function sizeOf({ ask, place }: Asked): Promise<Finding> {
  const [row] = await ask(
    `SELECT SUM(pg_total_relation_size(relid))::float AS bytes, MAX(n_live_tup) FILTER (WHERE relname = 'gq_jobs')::float AS live,
            MAX(n_dead_tup) FILTER (WHERE relname = 'gq_jobs')::float AS dead,
            MAX(last_autovacuum) FILTER (WHERE relname = 'gq_jobs')::text AS vacuumed
     FROM pg_stat_user_tables WHERE schemaname = $1`,
    place.schema,
  )
  const { bytes, live, dead, vacuumed } = row!
  const [rows, gone] = [Number(live ?? 0), Number(dead ?? 0)]
  const says = `${mebibytes(Number(bytes ?? 0))}; gq_jobs has about ${rows} rows and ${gone} dead ones, last vacuumed ${vacuumed ?? 'never'}`
  const advice =
    'autovacuum does not keep up: look at snapshot above, and lower autovacuum_vacuum_scale_factor of gq_jobs'
  return found('size', says, gone > 100_000 && gone > rows && warn(advice))
}

const states = ['scheduled', 'ready', 'running', 'succeeded', 'dead', 'cancelled']
const damage = 'restore a backup; if no hand and no failure explains it, report it'

/** Of a rule: holds, or the first few that break it. */
function ruled(name: string, holds: string, broken: string[]): Finding {
  return broken.length === 0 ? found(name, holds) : found(name, brokenOf(holds, broken), fail(damage))
}

const named = (rows: Row[]): string[] => rows.map((row) => `${Object.values(row)[0]}`)

async function countersOf({ ask }: Asked): Promise<Finding> {
  const broken = await ask(
    `SELECT 'queue ' || name FROM (
       SELECT name, 1 AS known, ${states.join(', ')} FROM gq_queues
       UNION ALL
       SELECT queue, 0, ${states.map((state) => `-(state = '${state}')::int`).join(', ')} FROM gq_jobs WHERE blocked < 2) AS both_sides
     GROUP BY name HAVING MAX(known) = 0 OR ${states.map((state) => `SUM(${state}) <> 0`).join(' OR ')} LIMIT 6`,
  )
  return ruled('counters', 'those of gq_queues agree with the jobs', named(broken))
}

async function leasesOf({ ask }: Asked): Promise<Finding> {
  const broken = await ask(
    `SELECT 'job ' || j.id FROM gq_jobs j LEFT JOIN gq_workers w ON w.id = j.worker_id
     WHERE (j.state = 'running') <> (j.lease_token IS NOT NULL AND j.state <> 'succeeded')
       OR (j.state = 'running' AND (w.id IS NULL OR w.ended_at IS NOT NULL)) LIMIT 6`,
  )
  return ruled('leases', 'each running job, and no other, has one, of a worker that has not ended', named(broken))
}

async function orderOf({ ask }: Asked): Promise<Finding> {
  const [row] = await ask('SELECT COUNT(lease_seq)::int AS leases FROM gq_jobs')
  const order = new Order(Number(row!.leases))
  await ask(`DECLARE events CURSOR FOR ${orderEvents}`)
  for (let rows = await ask('FETCH 10000 FROM events'); rows.length > 0; rows = await ask('FETCH 10000 FROM events'))
    for (const { event, id, place } of rows) order.hear({ event: Number(event), id: Number(id), place: Number(place) })
  const { name, holds, broken } = order.audited
  return ruled(name, holds, broken)
}
