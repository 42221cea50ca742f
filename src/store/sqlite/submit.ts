import { mustHaveRoom, startOf } from '../../model/admission.ts'
import { GopherQueueError } from '../../model/errors.ts'
import type { JobSpec } from '../../model/job.ts'
import type { State } from '../../model/lifecycle.ts'
import { digestOf, digestOfAll } from '../digest.ts'
import type { Submission, Submitted } from '../store.ts'
import type { Db } from './db.ts'
import { keepAnswer, keptAnswer } from './kept.ts'
import { enter } from './places.ts'
import type { Request } from './request.ts'

/** Stores jobs: all or none. Refuses with QUEUE_FULL, IDEMPOTENCY_CONFLICT, and INVALID_ARGUMENT for a deadline that is past. */
export function submit(db: Db, submission: Submission): Submitted {
  const { specs, payloads, keys, request } = submission
  const simple = !Array.isArray(specs) && !keys && !request && payloads.length === 1
  if (simple) return storeAll(db, submission)
  return db.atomic(() => (request ? once(db, request, submission) : storeAll(db, submission)))
}

function storeAll(db: Db, { specs, payloads, keys, trace }: Submission): Submitted {
  const shared = Array.isArray(specs) ? null : specs
  if (shared && !keys) return { ids: insertRun(db, shared, payloads, trace), duplicates: [] }
  const ids: number[] = []
  const duplicates: number[] = []
  const states: (State | null)[] = []
  for (const [i, payload] of payloads.entries()) {
    const spec = shared ?? (specs as JobSpec[])[i]!
    const key = keys?.[i] ?? null
    const first = key === null ? null : claimKey(db, spec, key, payload, { ids, duplicates })
    if (first) {
      duplicates.push(i)
      states.push(first.state)
    }
    ids.push(first?.id ?? insertRun(db, spec, [payload], trace, key)[0]!)
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

const insert = (rows: number) =>
  `INSERT INTO gq_jobs (queue, type, priority, state, max_attempts, backoff, timeout, on_timeout, visibility_timeout,
                        run_at, deadline, created_at, idempotency_key, trace, concurrency_key, blocked, payload)
   VALUES ${Array.from({ length: rows }, (_, i) => `(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?15 IS NOT NULL, ?${i + 16})`).join(', ')}`
/** One statement for 32 rows costs half as much as 32 statements. */
const inserts = [32, 8, 1].map((rows) => ({ rows, sql: insert(rows) }))

/** Inserts jobs of one spec; ids come out in order. */
function insertRun(
  db: Db,
  spec: JobSpec,
  payloads: string[],
  trace: string | null = null,
  key: string | null = null,
): number[] {
  const { now } = db
  const queue = db.queue(spec.queue)
  mustHaveRoom(spec.queue, queue.max_depth, queue.counts.ready + queue.counts.scheduled, payloads.length)
  const { state, runAt, deadline } = startOf(spec, now)
  const { priority, maxAttempts, timeout, onTimeout, visibilityTimeout } = spec
  const backoff = spec.backoff === null ? null : JSON.stringify(spec.backoff)
  // biome-ignore format: in the order of the INSERT's columns
  const common = [spec.queue, spec.type, priority, state, maxAttempts, backoff, timeout, onTimeout, visibilityTimeout, runAt, deadline, now, key, trace, spec.concurrencyKey]
  const ids: number[] = []
  for (const { rows, sql } of inserts)
    for (let at = ids.length; at + rows <= payloads.length; at += rows) {
      const last = db.insert(sql, ...common, ...payloads.slice(at, at + rows))
      for (let id = last - rows + 1; id <= last; id++) ids.push(id) // AUTOINCREMENT counts up row by row
    }
  db.change ??= ids[0] ?? null
  db.moved(spec.queue, spec.type, null, state, payloads.length)
  if (state === 'ready' && spec.concurrencyKey !== null) enterAll(db, spec, spec.concurrencyKey, ids)
  if (runAt !== null && spec.runAt === null) db.putOff(ids, runAt)
  db.soonest = Math.min(db.soonest, runAt ?? db.soonest, deadline ?? db.soonest)
  return ids
}

/** New jobs wait for a place of their key. They are of one class: where one gets none, those after it get none either. */
function enterAll(db: Db, { queue, type, priority }: JobSpec, key: string, ids: number[]): void {
  for (const id of ids) if (!enter(db, { id, queue, type, priority, concurrency_key: key })) return
}

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
  if (take() === 1) return null
  const holder = db.get<Holder>(
    `SELECT job_id, digest, expires_at, (SELECT state FROM gq_jobs WHERE id = job_id) AS state
     FROM gq_keys WHERE queue = ?1 AND type = ?2 AND key = ?3`,
    ...[queue, type, key],
  )!
  if (holder.state !== null || holder.expires_at > db.now) return holder
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
  const id = db.sequence() + 1 // the id that its insert will get
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
  throw new GopherQueueError(
    'IDEMPOTENCY_CONFLICT',
    `Idempotency key '${key}' belongs to job ${holder.job_id} of type '${type}' with another payload. Nothing was stored: use a new key for a new job.`,
    { details: { jobId: holder.job_id } },
  )
}

/** The submissions of one job each, without keys and of one spec and trace, that stand together from `start` on. */
export function alikeFrom(requests: Request[], start: number): Request<'submit'>[] {
  const run: Request<'submit'>[] = []
  for (let i = start; requests[i]?.operation === 'submit'; i++) {
    const request = requests[i] as Request<'submit'>
    const { specs, payloads, keys, trace, request: once } = request.input
    const { input: first } = run[0] ?? request
    if (keys || once || payloads.length !== 1 || first.specs !== specs || first.trace !== trace) break
    run.push(request)
  }
  return run
}
