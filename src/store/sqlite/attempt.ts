import { backoffDelay, parseBackoff } from '../../model/backoff.ts'
import { GopherQueueError } from '../../model/errors.ts'
import type { DeadReason, JobError } from '../../model/job.ts'
import { type Event, next, type State } from '../../model/lifecycle.ts'
import type { Failure, Fate, Input, Lease, LeasedJob, LeaseRequest, Source } from '../store.ts'
import type { Db, QueueRow } from './db.ts'
import { readyAmong } from './queries.ts'

// The events of one attempt, from its lease to its outcome: each function is the SQL of its event and what it means.

/** How long after an attempt's timeout its lease lasts, so that a live worker reports the timeout itself. */
export const timeoutGrace = 1000

/**
 * The first ready jobs by (priority class, id), each with its attempt counted and a lease: on disk before anyone sees them.
 * Null when the worker has no free slot.
 */
export function lease(
  db: Db,
  { worker, sources, slots, exclude }: LeaseRequest,
  dry: (source: Source) => void,
): LeasedJob[] | null {
  const limit = slots - heldBy(db, worker)
  if (limit <= 0) return null
  const found: { id: number; priority: number; source: Source }[] = []
  const spent = new Set(sources) // what has nothing left, for no worker: not even what this one passes over
  const room = new Map(sources.map(({ queue }) => [queue, roomIn(db.queue(queue))]))
  for (const source of readyAmong(db, sources)) {
    const most = Math.min(limit, room.get(source.queue)!) + exclude.length
    const rows = db.all<{ id: number; priority: number }>(
      // index gq_jobs_ready: one range, already in order; the reaper may not have got to all that are past their deadline
      `SELECT id, priority FROM gq_jobs
       WHERE state = 'ready' AND blocked = 0 AND queue = ?1 AND type = ?2 AND (deadline IS NULL OR deadline > ?4)
       ORDER BY priority, id LIMIT ?3`,
      ...[source.queue, source.type, most, db.now],
    )
    if (rows.length === most) spent.delete(source)
    for (const { id, priority } of rows)
      if (exclude.includes(id)) spent.delete(source)
      else found.push({ id, priority, source })
  }
  if (sources.length > 1) found.sort((a, b) => a.priority - b.priority || a.id - b.id)
  const taken: number[] = []
  for (const { id, source } of found) {
    const left = room.get(source.queue)!
    if (taken.length === limit) spent.delete(source)
    else if (left > 0) {
      taken.push(id)
      room.set(source.queue, left - 1)
    }
  }
  for (const source of sources) if (spent.has(source) || room.get(source.queue) === 0) dry(source)
  if (taken.length === 0) return []
  const token = db.nextSequence()
  const rows = db.arrays(
    `UPDATE gq_jobs
     SET state = 'running', attempt = attempt + 1, lease_token = ?2, lease_seq = COALESCE(lease_seq, ?2), worker_id = ?3,
         started_at = ?4, lease_expires_at = ?4 + MIN(visibility_timeout, timeout + ${timeoutGrace})
     WHERE id IN (SELECT value FROM json_each(?1)) AND state = 'ready'
     RETURNING id, queue, type, priority, payload, attempt, attempt - budget_from AS tries, max_attempts AS maxAttempts,
               backoff, timeout, visibility_timeout AS visibilityTimeout, deadline, checkpoint, trace,
               created_at AS createdAt, CASE WHEN lease_seq = ?2 AND ready_seq IS NULL THEN MAX(0, ?4 - created_at) END`,
    ...[JSON.stringify(taken), token, worker, db.now],
  )
  const jobs = rows.map((row) => leasedJob(row, token, db.now))
  jobs.sort((a, b) => a.priority - b.priority || a.id - b.id)
  for (const job of jobs) db.moved(job.queue, job.type, 'ready', 'running')
  return jobs
}

/** How many jobs a worker holds. */
export function heldBy(db: Db, worker: number): number {
  const sql = `SELECT COUNT(*) AS held FROM gq_jobs WHERE state = 'running' AND worker_id = ?1`
  return db.get<{ held: number }>(sql, worker)!.held
}

/** How many more jobs of a queue may run, over all processes. */
function roomIn({ paused, max_running, counts }: QueueRow): number {
  return paused ? 0 : Math.max(0, (max_running ?? Number.MAX_SAFE_INTEGER) - counts.running)
}

/** Written out, because an object made this way is read and copied between threads at half the cost of SQLite's own. */
function leasedJob(row: unknown[], token: number, startedAt: number): LeasedJob {
  const [id, queue, type, priority, payload, attempt, tries, ...rest] = row
  const [maxAttempts, backoff, timeout, visibilityTimeout, deadline, checkpoint, trace, createdAt, waited] = rest
  const policy = { maxAttempts, backoff, timeout, visibilityTimeout, deadline, checkpoint, trace }
  return {
    id,
    queue,
    type,
    priority,
    payload,
    attempt,
    tries,
    ...policy,
    createdAt,
    waited,
    token,
    startedAt,
  } as LeasedJob
}

export const succeeded: Fate = { state: 'succeeded', runAt: null, reason: null }

/** Ends a running job well. */
export function succeed(db: Db, { lease: { id, queue, type, token }, result, warning = null }: Input<'succeed'>): Fate {
  const changes = db.run(
    `UPDATE gq_jobs
     SET state = 'succeeded', result = ?4, finished_at = ?5, lease_token = NULL, lease_expires_at = NULL,
         prune_at = ?5 + ?6, warning = ?7
     WHERE id = ?1 AND state = 'running' AND lease_token = ?3 AND queue = ?2`,
    ...[id, queue, token, result, db.now, db.queue(queue).keep_succeeded, warning],
  )
  if (changes === 0) throw leaseLost(db, id)
  db.moved(queue, type, 'running', 'succeeded')
  db.ended.push(id)
  return succeeded
}

/** A running job as its failure, release or reclaim needs it. */
export interface RunningJob {
  id: number
  queue: string
  type: string
  attempt: number
  budget_from: number
  max_attempts: number
  backoff: string | null
  timeout: number
  on_timeout: 'retry' | 'dead'
  started_at: number
  cancel_requested_at: number | null
  worker: string | null
}

export const selectRunning = `SELECT j.id, j.queue, j.type, j.attempt, j.budget_from, j.max_attempts, j.backoff, j.timeout,
    j.on_timeout, j.started_at, j.cancel_requested_at, w.name AS worker
  FROM gq_jobs j LEFT JOIN gq_workers w ON w.id = j.worker_id`

function held(db: Db, { id, token }: Pick<Lease, 'id' | 'token'>): RunningJob {
  const job = db.get<RunningJob>(
    `${selectRunning} WHERE j.id = ?1 AND j.state = 'running' AND j.lease_token = ?2`,
    id,
    token,
  )
  if (!job) throw leaseLost(db, id)
  return job
}

/** Ends a failed attempt: again later, dead, or cancelled if that was asked for. Its record goes into the history. */
export function fail(db: Db, { lease, kind, error, retryAfter }: Failure): Fate {
  return db.atomic(() => {
    const job = held(db, lease)
    return endAttempt(db, job, kind === 'timeout' ? 'timeout' : 'failed', kind === 'permanent', error, retryAfter)
  })
}

/** The one path of failure, for throws, timeouts and lost leases alike. */
export function endAttempt(
  db: Db,
  job: RunningJob,
  outcome: 'failed' | 'timeout' | 'lost',
  permanent: boolean,
  error: JobError,
  retryAfter: number | null,
): Fate {
  const tries = job.attempt - job.budget_from
  const recorded = job.cancel_requested_at === null ? outcome : 'cancelled'
  db.run(
    `INSERT INTO gq_attempts (job_id, attempt, worker, started_at, finished_at, outcome, error_name, error_message, error_stack)
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)`,
    ...[job.id, job.attempt, job.worker, job.started_at, db.now, recorded, error.name, error.message, error.stack],
  )
  db.attemptFailed(job.queue)
  if (job.cancel_requested_at !== null) return end(db, job, 'running', 'abort', null)
  if (permanent) return end(db, job, 'running', 'giveUp', 'permanent')
  if (outcome === 'timeout' && job.on_timeout === 'dead') return end(db, job, 'running', 'giveUp', 'timeout')
  if (tries >= job.max_attempts) return end(db, job, 'running', 'giveUp', 'exhausted')
  if (outcome === 'lost') return makeReady(db, job, 'running', 'reclaim')
  const runAt = db.now + (retryAfter ?? backoffDelay(parseBackoff(job.backoff), tries, job.id))
  db.run(
    `UPDATE gq_jobs SET state = 'scheduled', run_at = ?2, lease_token = NULL, lease_expires_at = NULL WHERE id = ?1`,
    job.id,
    runAt,
  )
  db.moved(job.queue, job.type, 'running', 'scheduled')
  db.soonest = Math.min(db.soonest, runAt)
  return { state: 'scheduled', runAt, reason: null }
}

/** What every event needs to know of its job. */
export interface Placed {
  id: number
  queue: string
  type: string
}

/** Puts a job into a terminal state other than succeeded. */
export function end(db: Db, { id, queue, type }: Placed, from: State, event: Event, reason: DeadReason | null): Fate {
  const state = next(from, event) as 'dead' | 'cancelled'
  const { keep_dead, keep_cancelled } = db.queue(queue)
  db.run(
    `UPDATE gq_jobs
     SET state = ?2, reason = ?3, finished_at = ?4, lease_token = NULL, lease_expires_at = NULL, run_at = NULL,
         prune_at = ?4 + ?5
     WHERE id = ?1`,
    ...[id, state, reason, db.now, state === 'dead' ? keep_dead : keep_cancelled],
  )
  db.moved(queue, type, from, state)
  db.ended.push(id)
  return { state, runAt: null, reason }
}

/** Puts a job back into the line, at its old place: after a release (uncharged), a lost lease, or an operator's retry (fresh budget). */
export function makeReady(
  db: Db,
  { id, queue, type }: Placed,
  from: State,
  event: 'release' | 'reclaim' | 'retry',
): Fate {
  db.run(
    `UPDATE gq_jobs
     SET state = 'ready', attempt = attempt - (?2 = 'release'), ready_seq = CASE WHEN ?2 = 'retry' AND lease_seq IS NULL THEN ?3 ELSE ready_seq END,
         budget_from = CASE ?2 WHEN 'retry' THEN attempt ELSE budget_from END,
         lease_token = NULL, lease_expires_at = NULL, worker_id = NULL, started_at = NULL, finished_at = NULL,
         prune_at = NULL, reason = NULL, cancel_requested_at = NULL,
         deadline = CASE WHEN ?2 = 'retry' AND deadline <= ?4 THEN NULL ELSE deadline END
     WHERE id = ?1`,
    ...[id, event, event === 'retry' ? db.nextSequence() : null, db.now],
  )
  db.moved(queue, type, from, 'ready')
  return { state: 'ready', runAt: null, reason: null }
}

/** Gives a job back unstarted or aborted: the attempt does not count. */
export function release(db: Db, lease: Pick<Lease, 'id' | 'token'>): Fate {
  return releaseHeld(db, held(db, lease))
}

export function releaseHeld(db: Db, job: RunningJob): Fate {
  return job.cancel_requested_at === null
    ? makeReady(db, job, 'running', 'release')
    : endAttempt(db, job, 'lost', false, aborted, null)
}

const aborted = { name: 'AbortError', message: 'Given back after its cancellation was asked for.', stack: null }

/** Keeps a state from which the next attempt can go on. */
export function checkpoint(db: Db, { lease: { id, token }, state }: { lease: Lease; state: string }): null {
  const changes = db.run(
    `UPDATE gq_jobs SET checkpoint = ?3 WHERE id = ?1 AND state = 'running' AND lease_token = ?2`,
    ...[id, token, state],
  )
  if (changes === 0) throw leaseLost(db, id)
  return null
}

/** How often at least it is written that a worker is there. */
export const seenEvery = 10_000

/** Extends a lease, up to the attempt's timeout. */
export function heartbeat(db: Db, lease: Lease): { expiresAt: number; cancelRequested: boolean } {
  const row = db.get<{ expiresAt: number; cancelRequestedAt: number | null; worker: number }>(
    `UPDATE gq_jobs SET lease_expires_at = MIN(?3 + visibility_timeout, started_at + timeout + ${timeoutGrace})
     WHERE id = ?1 AND state = 'running' AND lease_token = ?2
     RETURNING lease_expires_at AS expiresAt, cancel_requested_at AS cancelRequestedAt, worker_id AS worker`,
    ...[lease.id, lease.token, db.now],
  )
  if (!row) throw leaseLost(db, lease.id)
  db.run(
    `UPDATE gq_workers SET seen_at = ?2 WHERE id = ?1 AND pid IS NULL AND seen_at <= ?2 - ${seenEvery}`,
    ...[row.worker, db.now],
  )
  return { expiresAt: row.expiresAt, cancelRequested: row.cancelRequestedAt !== null }
}

function leaseLost(db: Db, id: number): GopherQueueError {
  const job = db.get<{ state: State }>(`SELECT state FROM gq_jobs WHERE id = ?1`, id)
  return new GopherQueueError(
    'LEASE_LOST',
    `The lease on job ${id} is over (the job is ${job ? job.state : 'gone'} now). What this attempt reports is not taken: the attempt that owns the job decides.`,
  )
}
