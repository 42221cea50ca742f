import type pg from 'pg'
import { Order, orderEvents } from '../sqlite/audit.ts'
import { brokenOf, type Finding, fail, found, warn } from '../sqlite/finding.ts'
import { loadable } from './driver.ts'
import { connectedTo, figuresOf } from './figures.ts'
import { judged } from './judged.ts'
import { type Place, placeOf } from './place.ts'
import { newestSchema, versions } from './schema.ts'
import { durable } from './statements.ts'

// How a queue on a server is, and what lies under it: asked of the server's own tables, on a connection of its own.

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
  const findings: Finding[] = []
  for (const [i, connectionString] of place.connectionStrings.entries()) {
    const { host } = new URL(connectionString)
    const name = `${decodeURIComponent(host)}${place.connectionStrings.length > 1 ? ` (host ${i + 1})` : ''}`
    try {
      const examine = (client: pg.Client) => examineHost(client, place, name, order)
      findings.push(...(await connectedTo({ connectionString, application_name: 'gopherqueue doctor' }, examine)))
    } catch (error) {
      const { message, code } = error as Error & { code?: string }
      findings.push(found('server', `${name}: ${message || code}`, fail('it must be there, and let this role in')))
    }
  }
  return findings
}

async function examineHost(client: pg.Client, place: Place, name: string, order: boolean): Promise<Finding[]> {
  const ask = async (text: string, ...values: string[]) => (await client.query<Row>(text, values)).rows
  const asked = { place, ask }
  const [server, isStandby] = await serverOf(asked, name)
  if (isStandby) return [server]
  const [schema, isThere] = await schemaOf(asked)
  const findings = [server, ...judged(await figuresOf(client, place)), schema]
  if (!isThere) return findings
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
