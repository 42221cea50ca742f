import { mustHaveRoom, type Start, startOf } from '../../model/admission.ts'
import type { Instant } from '../../model/clock.ts'
import { GopherQueueError } from '../../model/errors.ts'
import type { JobSpec } from '../../model/job.ts'
import type { State } from '../../model/lifecycle.ts'
import { digestOf, digestOfAll } from '../digest.ts'
import type { Submission, Submitted } from '../store.ts'
import type { QueueRow } from './counts.ts'
import type { Db } from './db.ts'
import { keepAnswer, keptAnswer } from './kept.ts'
import { movedError } from './moved.ts'
import { makeLine } from './names.ts'
import { enter } from './places.ts'
import type { Request } from './request.ts'

/** Stores jobs: all or none. Refuses with MOVED, QUEUE_FULL, TOO_MANY_QUEUES, TOO_MANY_TYPES, IDEMPOTENCY_CONFLICT, and INVALID_ARGUMENT for a deadline that is past. */
export function submit(db: Db, submission: Submission): Submitted {
  if (db.movedTo) throw movedError(db.movedTo)
  const { specs, payloads, keys, request } = submission
  const simple = !Array.isArray(specs) && specs.uniqueKey === null && !keys && !request && payloads.length === 1
  if (simple) return storeAll(db, submission)
  return db.atomic(() => (request ? once(db, request, submission) : storeAll(db, submission)))
}

function storeAll(db: Db, { specs, payloads, keys, trace }: Submission): Submitted {
  const shared = Array.isArray(specs) ? null : specs
  if (shared && shared.uniqueKey === null && !keys)
    return { ids: insertRun(db, shared, payloads, trace), duplicates: [] }
  const ids: number[] = []
  const duplicates: number[] = []
  const states: (State | null)[] = []
  for (const [i, payload] of payloads.entries()) {
    const spec = shared ?? (specs as JobSpec[])[i]!
    const key = keys?.[i] ?? null
    const first = key === null ? null : claimKey(db, spec, key, payload, { ids, duplicates })
    const stored = first ?? insertOne(db, spec, payload, trace, key)
    if (typeof stored === 'object') {
      duplicates.push(i)
      states.push(stored.state)
    }
    ids.push(typeof stored === 'object' ? stored.id : stored)
  }
  return { ids, duplicates, ...(states.length > 0 && { states }) }
}

/** Stores what a request asks for, or answers as the first time. Another body under its name is refused: it may not go unheard. */
function once(db: Db, request: string, submission: Submission): Submitted {
  const digest = submission.digest ?? digestOfAll(submission)
  const known = keptAnswer<Submitted>(db, 'bulk', request)
  if (known && known.digest !== digest)
    throw new GopherQueueError(
      'IDEMPOTENCY_CONFLICT',
      `A bulk with the Idempotency-Key '${request}' was stored within the last hour, with another body. Nothing was stored: use a new key for a new bulk.`,
      { details: { ids: known.answer.ids.slice(0, 10) } },
    )
  if (known) return { ...known.answer, replayed: true }
  const submitted = storeAll(db, submission)
  keepAnswer(db, 'bulk', request, submitted, digest)
  return submitted
}

/** The job that is there, or the id of a new one. Of a unique key the index decides, not a look first. */
function insertOne(db: Db, spec: JobSpec, payload: string, trace: string | null | undefined, key: string | null) {
  if (spec.uniqueKey === null) return insertRun(db, spec, [payload], trace, key)[0]!
  const { queue, type, uniqueKey } = spec
  const start = startOf(spec, db.now)
  const free = db.mayTake('unique', queue, type, uniqueKey)
  const id = !free
    ? null
    : db.insertJobs(insertUnique, 1, ...common(spec, start, db.now, trace, key), payload, uniqueKey)
  if (id !== null) {
    mustHaveRoomFor(db, spec, 1) // after the insert: a duplicate is one in a full queue too
    return entered(db, spec, start, [id])[0]!
  }
  if (key !== null) db.run(`DELETE FROM gq_keys WHERE queue = ?1 AND type = ?2 AND key = ?3`, queue, type, key) // it was taken for this one
  const holder = uniqueHolder(db, queue, type, uniqueKey)
  if (holder) return holder
  throw keyBusy(`unique key '${uniqueKey}'`)
}

/** Whether the key is free will be known when that transaction has ended; whoever waited for it would keep all others waiting. */
export const keyBusy = (what: string): GopherQueueError =>
  new GopherQueueError(
    'KEY_BUSY',
    `The ${what} is being taken by a transaction that is open. Nothing was stored: try again when that has ended.`,
  )

/** The job that holds a unique key. */
export const uniqueHolder = (
  db: Db,
  queue: string,
  type: string,
  key: string,
): { id: number; state: State } | undefined =>
  db.get(
    // index gq_jobs_unique
    `SELECT id, state FROM gq_jobs WHERE queue = ?1 AND type = ?2 AND unique_key = ?3 AND finished_at IS NULL`,
    ...[queue, type, key],
  )

/** Of a new job, in the order of `common`. */
export const columns =
  'queue, type, priority, state, max_attempts, backoff, timeout, on_timeout, visibility_timeout, run_at, deadline, created_at, idempotency_key, trace, concurrency_key'

const insert = (rows: number) =>
  `INSERT INTO gq_jobs (${columns}, blocked, payload)
   VALUES ${Array.from({ length: rows }, (_, i) => `(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, CASE WHEN CAST(?15 AS TEXT) IS NULL THEN 0 ELSE 1 END, ?${i + 16})`).join(', ')}`
/** One statement for 32 rows costs half as much as 32 statements. */
const inserts = [32, 8, 1].map((rows) => ({ rows, sql: insert(rows) }))
const insertUnique = `${insert(1).replace('payload)', 'payload, unique_key)').replace('?16)', '?16, ?17)')}
  ON CONFLICT (queue, type, unique_key) WHERE unique_key IS NOT NULL AND finished_at IS NULL DO NOTHING`

/** In the order of `columns`. */
export function common(
  spec: JobSpec,
  { state, runAt, deadline }: Start,
  now: Instant,
  trace: string | null | undefined,
  key: string | null,
): (string | number | null)[] {
  const { queue, type, priority, maxAttempts, timeout, onTimeout, visibilityTimeout, concurrencyKey } = spec
  const backoff = spec.backoff === null ? null : JSON.stringify(spec.backoff)
  return [queue, type, priority, state, maxAttempts, backoff, timeout, onTimeout, visibilityTimeout, runAt, deadline, now, key, trace ?? null, concurrencyKey] // biome-ignore format: one line
}

/** With those of the first 10,000 that wait for admission: to look at so many takes 3 ms of a file, and 9 ms of a server. */
function waitingIn(db: Db, row: QueueRow): number {
  row.unadmitted ??= db.get<{ jobs: number }>(
    `SELECT COUNT(*) AS jobs
     FROM (SELECT queue, state FROM gq_jobs WHERE blocked = 2 ORDER BY priority, id LIMIT 10000) AS next
     WHERE queue = ?1 AND state IN ('ready', 'scheduled')`,
    row.name,
  )!.jobs
  return row.counts.ready + row.counts.scheduled + row.unadmitted
}

function mustHaveRoomFor(db: Db, { queue, type }: JobSpec, more: number): void {
  const row = db.queue(queue)
  if (row.max_depth !== null) mustHaveRoom(queue, row.max_depth, waitingIn(db, row), more)
  makeLine(db, row, type)
}

/** Inserts jobs of one spec; ids come out in order. */
function insertRun(
  db: Db,
  spec: JobSpec,
  payloads: string[],
  trace: string | null = null,
  key: string | null = null,
): number[] {
  mustHaveRoomFor(db, spec, payloads.length)
  const start = startOf(spec, db.now)
  const values = common(spec, start, db.now, trace, key)
  const ids: number[] = []
  for (const { rows, sql } of inserts)
    for (let at = ids.length; at + rows <= payloads.length; at += rows) {
      const last = db.insertJobs(sql, rows, ...values, ...payloads.slice(at, at + rows))!
      for (let id = last - rows + 1; id <= last; id++) ids.push(id) // AUTOINCREMENT counts up row by row
    }
  return entered(db, spec, start, ids)
}

/** What their insertion means to the rest of the transaction. */
function entered(db: Db, spec: JobSpec, { state, runAt, deadline }: Start, ids: number[]): number[] {
  db.change ??= ids[0] ?? null
  db.moved(spec.queue, spec.type, null, state, ids.length)
  if (state === 'ready' && spec.concurrencyKey !== null) enterAll(db, spec, spec.concurrencyKey, ids)
  if (runAt !== null && spec.runAt === null) db.putOff(ids, runAt)
  db.soonest = Math.min(db.soonest, runAt ?? db.soonest, deadline ?? db.soonest)
  return ids
}

/** New jobs wait for a place of their key. They are of one class: where one gets none, those after it get none either. */
function enterAll(db: Db, { queue, type, priority }: JobSpec, key: string, ids: number[]): void {
  for (const id of ids) if (!enter(db, { id, queue, type, priority, concurrency_key: key })) return
}

/** A spec that the file keeps: an earlier version has written none of what came since. */
export const specOf = (text: string): JobSpec => ({ ...{ uniqueKey: null }, ...JSON.parse(text) })

interface Key {
  queue: string
  type: string
  key: string
  /** The job that takes it. */
  id: number
  digest: string
  /** The end of its window. */
  until: number
}

interface Holder {
  job_id: number
  digest: string
  expires_at: number
  state: State | null
}

/** Takes an idempotency key, or answers with the job that has it. The primary key decides, not a look first. */
export function takeKey(db: Db, { queue, type, key, id, digest, until }: Key): Holder | null {
  const take = () =>
    db.run(
      `INSERT INTO gq_keys (queue, type, key, job_id, digest, expires_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
       ON CONFLICT DO NOTHING`,
      ...[queue, type, key, id, digest, until],
    )
  const free = db.mayTake('idempotency', queue, type, key)
  if (free && take() === 1) return null
  const holder = db.get<Holder>(
    `SELECT job_id, digest, expires_at, (SELECT state FROM gq_jobs WHERE id = job_id) AS state
     FROM gq_keys WHERE queue = ?1 AND type = ?2 AND key = ?3`,
    ...[queue, type, key],
  )
  if (holder && (holder.state !== null || holder.expires_at > db.now)) return holder
  if (!free) throw keyBusy(`idempotency key '${key}'`)
  db.run(`DELETE FROM gq_keys WHERE queue = ?1 AND type = ?2 AND key = ?3`, queue, type, key)
  take()
  return null
}

/** `before`: what became of the jobs before it in the same bulk. */
function claimKey(
  db: Db,
  spec: JobSpec,
  key: string,
  payload: string,
  before: Submitted,
): { id: number; state: State | null } | null {
  const { queue, type } = spec
  const digest = digestOf(payload)
  const id = db.nextId()
  const holder = takeKey(db, { queue, type, key, id, digest, until: db.now + spec.idempotencyWindow })
  if (!holder) return null
  if (holder.digest === digest) return { id: holder.job_id, state: holder.state }
  const twin = before.ids.indexOf(holder.job_id)
  if (twin >= 0 && !before.duplicates.includes(twin))
    // its id is taken back, and the next submission of anybody gets it
    throw new GopherQueueError(
      'IDEMPOTENCY_CONFLICT',
      `The jobs at index ${twin} and ${before.ids.length} of this bulk have the idempotency key '${key}' and different payloads. Nothing was stored: give each job a key of its own.`,
    )
  throw keyConflict(key, type, holder.job_id)
}

export const keyConflict = (key: string, type: string, jobId: number): GopherQueueError =>
  new GopherQueueError(
    'IDEMPOTENCY_CONFLICT',
    `Idempotency key '${key}' belongs to job ${jobId} of type '${type}' with another payload. Nothing was stored: use a new key for a new job.`,
    { details: { jobId } },
  )

/** The submissions of one job each, without keys that make duplicates and of one spec and trace, that stand together from `start` on. */
export function alikeFrom(requests: Request[], start: number): Request<'submit'>[] {
  const run: Request<'submit'>[] = []
  for (let i = start; requests[i]?.operation === 'submit'; i++) {
    const request = requests[i] as Request<'submit'>
    const { specs, payloads, keys, trace, request: once } = request.input
    const { input: first } = run[0] ?? request
    const isUnique = !Array.isArray(specs) && specs.uniqueKey !== null
    if (keys || once || isUnique || payloads.length !== 1 || first.specs !== specs || first.trace !== trace) break
    run.push(request)
  }
  return run
}
