import { randomUUID } from 'node:crypto'
import { mustHaveRoom, startOf } from '../../model/admission.ts'
import { type GopherQueueError, invalid } from '../../model/errors.ts'
import type { JobSpec } from '../../model/job.ts'
import type { State } from '../../model/lifecycle.ts'
import { digestOf } from '../digest.ts'
import { columns, common, keyBusy, keyConflict } from '../sqlite/submit.ts'
import type { Submission, Submitted } from '../store.ts'
import type { Place } from './place.ts'
import { newestSchema, tooNew, versions } from './schema.ts'
import { durable, keyLock, time } from './statements.ts'

type Row = Record<string, string | null>
/** Sends a statement on the app's connection. All that goes there and comes back is text: no driver's types are in the way. */
export type Send = (text: string, ...values: (string | number | null)[]) => Promise<Row[]>

/** What can be done with a connection of `pg`, or with anything that takes statements as it does; with a transaction of `postgres` or of Prisma. */
export function senderOf(connection: unknown): Send {
  const { query, unsafe, $queryRawUnsafe: prisma } = Object(connection) as Record<string, unknown>
  const sends = (method: unknown) => method as (text: string, ...values: unknown[]) => PromiseLike<unknown>
  const asText = (value: string | number | null) => (value === null ? null : `${value}`.replaceAll('\0', '\uFFFD'))
  const rowsBy =
    (method: unknown): Send =>
    async (text, ...values) => {
      const given = values.map(asText)
      const answer = await sends(method).call(connection, text, ...(method === prisma ? given : [given]))
      return (Array.isArray(answer) ? answer : (answer as { rows: Row[] }).rows) as Row[]
    }
  if (typeof prisma === 'function') return rowsBy(prisma)
  if (typeof unsafe === 'function') return rowsBy(unsafe)
  if (typeof query === 'function') return rowsBy(query)
  throw invalid(
    'submitWith takes a Client or PoolClient of pg with an open transaction, the transaction of postgres (in sql.begin) or of Prisma (in $transaction), or an object whose query(text, values) sends a statement in a transaction and answers { rows }.',
  )
}

/** Which queue is meant: its place, and what names it wherever it is. */
export interface Own {
  place: Place
  epoch: string
}

/**
 * Inserts a job in the transaction that is open on the app's connection. It takes no lock but that of its keys, and tells
 * nobody: the next write transaction of any process admits the job. What PostgreSQL reports goes through as it is.
 */
export async function submitOn(send: Send, { place, epoch }: Own, submission: Submission): Promise<Submitted> {
  const { payloads, keys, trace } = submission
  const spec = submission.specs as JobSpec // of one job
  const [key, payload] = [keys?.[0] ?? null, payloads[0]!]
  const queue = await usable(send, { place, epoch }, spec.queue)
  const start = startOf(spec, queue.now)
  if (key !== null || spec.uniqueKey !== null) await lockKeys(send, place, spec, key)
  for (let tries = 0; tries < 3; tries++) {
    const holder = await holderOf(send, place, spec, key, payload, queue.now)
    if (holder) return { ids: [holder.id], duplicates: [0], states: [holder.state] }
    mustHaveRoom(spec.queue, queue.maxDepth, queue.waiting, 1)
    const values = [...common(spec, start, queue.now, trace, key), payload, spec.uniqueKey]
    const id = await insert(send, place, values, key === null ? null : [digestOf(payload), queue.now + spec.idempotencyWindow]) // biome-ignore format: one call
    if (id !== null) return { ids: [id], duplicates: [] }
  }
  throw keyBusy(`unique key '${spec.uniqueKey}'`) // plain SQL, which takes no lock of keys, takes and frees it again and again
}

interface Queue {
  now: number
  maxDepth: number | null
  /** How many jobs of it wait, as of the last commit. */
  waiting: number
}

/** The queue as this transaction sees it, if what is committed on the connection is as durable as what the queue commits. */
async function usable(send: Send, { place, epoch }: Own, name: string): Promise<Queue> {
  const { identifier: schema } = place
  const mark = randomUUID()
  // It lasts as long as the transaction: where none is open, as long as the statement.
  const [facts] = await send(
    `SELECT set_config('gopherqueue.transaction', CAST($1 AS text), true) AS mark, current_setting('synchronous_commit') AS commit,
            current_setting('transaction_read_only') AS "readOnly", CAST(to_regclass('${schema}.gq_blocks') AS text) AS there`,
    mark,
  )
  const { commit, readOnly, there } = facts!
  if (!durable.has(commit!))
    throw invalid(`The connection commits without waiting for the disks of all servers: synchronous_commit is ${commit}. Set it to on or remote_apply.`) // biome-ignore format: one message
  if (readOnly !== 'off') throw invalid('The transaction on the connection is read-only.')
  if (there === null) throw another(`has no queue of this version in a schema ${schema}`)
  const [found] = await send(
    `SELECT current_setting('gopherqueue.transaction', true) AS mark, CAST(${time} AS text) AS now,
            (SELECT value FROM ${schema}.gq_meta WHERE key = 'epoch') AS epoch,
            ${versions(schema)},
            (SELECT CAST(max_depth AS text) FROM ${schema}.gq_queues WHERE name = CAST($1 AS text)) AS "maxDepth",
            (SELECT CAST(ready + scheduled + (SELECT COUNT(*) FROM (SELECT 1 FROM ${schema}.gq_jobs
               WHERE blocked = 2 AND state IN ('ready', 'scheduled') AND queue = name LIMIT max_depth) AS new) AS text)
             FROM ${schema}.gq_queues WHERE name = CAST($1 AS text) AND max_depth IS NOT NULL) AS waiting`,
    name,
  )
  const { now, version, oldest, maxDepth, waiting } = found!
  if (found!.mark !== mark)
    throw invalid('No transaction is open on the connection: send BEGIN on it first. A pool has no transaction; a client of it has.') // biome-ignore format: one message
  if (found!.epoch !== epoch) throw another('has another queue')
  if (Number(oldest) > newestSchema) throw tooNew(place.schema, Number(version))
  return { now: Number(now), maxDepth: maxDepth === null ? null : Number(maxDepth), waiting: Number(waiting) }
}

const another = (what: string): GopherQueueError =>
  invalid(`The connection's database ${what}: a transaction covers the app's rows and the job only in one database.`)

/** Waits for other transactions of apps that take the same keys, and for a round of the engine that does. */
async function lockKeys(send: Send, { schema }: Place, spec: JobSpec, key: string | null): Promise<void> {
  const lock = (kind: 'idempotency' | 'unique', at: string) =>
    `CAST(pg_advisory_xact_lock(${keyLock(schema, kind, '$1', '$2', at)}) AS text) AS "${kind}"`
  const { queue, type, uniqueKey } = spec
  if (key !== null) await send(`SELECT ${lock('idempotency', '$3')}`, queue, type, key)
  if (uniqueKey !== null) await send(`SELECT ${lock('unique', '$3')}`, queue, type, uniqueKey)
}

/** The job that has one of the keys. Of an idempotency key whose window is over and whose job is gone, the row goes. */
async function holderOf(
  send: Send,
  { identifier: schema }: Place,
  { queue, type, uniqueKey }: JobSpec,
  key: string | null,
  payload: string,
  now: number,
): Promise<{ id: number; state: State | null } | null> {
  const ofKey = 'queue = CAST($1 AS text) AND type = CAST($2 AS text)'
  const asHolder = ({ id, state }: Row) => ({ id: Number(id), state: state as State | null })
  if (key !== null) {
    const [row] = await send(
      `SELECT CAST(job_id AS text) AS id, digest, CAST(expires_at AS text) AS expires,
              (SELECT state FROM ${schema}.gq_jobs WHERE id = job_id) AS state
       FROM ${schema}.gq_keys WHERE ${ofKey} AND key = CAST($3 AS text)`,
      ...[queue, type, key],
    )
    const lives = row && (row.state !== null || Number(row.expires) > now)
    if (lives && row.digest !== digestOf(payload)) throw keyConflict(key, type, Number(row.id))
    if (lives) return asHolder(row)
    if (row) await send(`DELETE FROM ${schema}.gq_keys WHERE ${ofKey} AND key = CAST($3 AS text)`, queue, type, key)
  }
  if (uniqueKey === null) return null
  const [row] = await send(
    `SELECT CAST(id AS text) AS id, state FROM ${schema}.gq_jobs
     WHERE ${ofKey} AND unique_key = CAST($3 AS text) AND finished_at IS NULL`,
    ...[queue, type, uniqueKey],
  )
  return row ? asHolder(row) : null
}

const texts = new Set(['queue', 'type', 'state', 'backoff', 'on_timeout', 'idempotency_key', 'trace', 'concurrency_key', 'payload', 'unique_key']) // biome-ignore format: one list
const names = [...columns.split(', '), 'payload', 'unique_key']
const at = (name: string) => `$${names.indexOf(name) + 1}`
const castOf = (name: string) =>
  texts.has(name) ? `CAST(${at(name)} AS text)` : `CAST(CAST(${at(name)} AS text) AS bigint)`

/** The new job's id, a block's first number; null where a unique key was taken meanwhile. `taken`: digest and end of an idempotency key's window. */
async function insert(
  send: Send,
  { identifier: schema }: Place,
  values: (string | number | null)[],
  taken: [digest: string, until: number] | null,
): Promise<number | null> {
  const jobs = `INSERT INTO ${schema}.gq_jobs (${names.join(', ')}) VALUES (${names.map(castOf).join(', ')})
     ON CONFLICT (queue, type, unique_key) WHERE unique_key IS NOT NULL AND finished_at IS NULL DO NOTHING RETURNING id`
  const keys = `INSERT INTO ${schema}.gq_keys (queue, type, key, job_id, digest, expires_at)
     SELECT ${castOf('queue')}, ${castOf('type')}, ${castOf('idempotency_key')}, id, CAST($${names.length + 1} AS text),
            CAST(CAST($${names.length + 2} AS text) AS bigint) FROM job`
  const text = `WITH job AS (${jobs})${taken ? `, key AS (${keys})` : ''} SELECT CAST(id AS text) AS id FROM job`
  const [row] = await send(text, ...values, ...(taken ?? []))
  return row ? Number(row.id) : null
}
