import { backoffDelay, parseBackoff } from '../../model/backoff.ts'
import { afterLoss } from '../../model/company.ts'
import type { DeadReason, JobError } from '../../model/job.ts'
import { type Event, next, type State } from '../../model/lifecycle.ts'
import type { Failure, Fate, Input, Lease } from '../store.ts'
import type { Db } from './db.ts'
import { goesOn, showsLife } from './losses.ts'
import { enter, leave, leaveUnread, type Placed } from './places.ts'
import { leaseLost, receipt, succeeded } from './receipts.ts'

// The events of one attempt, from its lease to its outcome: each function is the SQL of its event and what it means.

/** How long after an attempt's timeout its lease lasts, so that a live worker reports the timeout itself. */
export const timeoutGrace = 1000

/** Ends a running job well. */
export function succeed(db: Db, { lease: { id, queue, type, token }, result, warning = null }: Input<'succeed'>): Fate {
  const changes = db.run(
    `UPDATE gq_jobs
     SET state = 'succeeded', result = ?4, finished_at = ?5, lease_expires_at = NULL, prune_at = ?5 + ?6, warning = ?7
     WHERE id = ?1 AND state = 'running' AND lease_token = ?3 AND queue = ?2`,
    ...[id, queue, token, result, db.now, db.queue(queue).keep_succeeded, warning],
  )
  if (changes === 0) return receipt(db, { id, token })
  db.moved(queue, type, 'running', 'succeeded')
  leaveUnread(db, id, queue, type)
  db.ended.push(id)
  return succeeded
}

/** A running job as its failure, release or reclaim needs it. */
export interface RunningJob extends Placed {
  attempt: number
  budget_from: number
  max_attempts: number
  backoff: string | null
  timeout: number
  on_timeout: 'retry' | 'dead'
  visibility_timeout: number
  started_at: number
  renewed_at: number | null
  lease_expires_at: number
  lease_token: number
  company: number | null
  losses: number
  undelivered: number
  cancel_requested_at: number | null
  worker_id: number
  worker: string | null
  /** When its worker last said that it lives, and whether that is reached over the network. */
  seen_at: number | null
  remote: 0 | 1
}

export const selectRunning = `SELECT j.id, j.queue, j.type, j.priority, j.concurrency_key, j.attempt, j.budget_from, j.max_attempts, j.backoff, j.timeout,
    j.on_timeout, j.visibility_timeout, j.started_at, j.renewed_at, j.lease_expires_at, j.lease_token, j.company, j.losses,
    j.undelivered, j.cancel_requested_at, j.worker_id, w.name AS worker, w.seen_at, w.id IS NOT NULL AND w.pid IS NULL AS remote
  FROM gq_jobs j LEFT JOIN gq_workers w ON w.id = j.worker_id`

function held(db: Db, { id, token }: Pick<Lease, 'id' | 'token'>): RunningJob | undefined {
  return db.get<RunningJob>(
    `${selectRunning} WHERE j.id = ?1 AND j.state = 'running' AND j.lease_token = ?2`,
    id,
    token,
  )
}

/** Ends a failed attempt: again later, dead, or cancelled if that was asked for. Its record goes into the history. */
export function fail(db: Db, { lease, kind, error, retryAfter, goesOn: runs = false }: Failure): Fate {
  return db.atomic(() => {
    const job = held(db, lease)
    if (!job) return receipt(db, lease)
    if (runs) goesOn(db, job.worker_id, lease)
    record(db, job, kind === 'timeout' ? 'timeout' : 'failed', error, { token: lease.token })
    limit(db, job, { company: null, losses: 0 })
    if (job.cancel_requested_at !== null) return end(db, job, 'running', 'abort', null)
    if (kind === 'permanent') return end(db, job, 'running', 'giveUp', 'permanent')
    return failed(db, job, kind, retryAfter)
  })
}

/** A charged attempt that may be repeated: what a throw and a timeout come to. */
export function failed(db: Db, job: RunningJob, kind: 'temporary' | 'timeout', retryAfter: number | null): Fate {
  if (kind === 'timeout' && job.on_timeout === 'dead') return end(db, job, 'running', 'giveUp', 'timeout')
  if (job.attempt - job.budget_from >= job.max_attempts) return end(db, job, 'running', 'giveUp', 'exhausted')
  return retryLater(db, job, retryAfter)
}

/** What its losses limit from now on: also of a job that ends, since an operator may retry it. */
export function limit(db: Db, job: RunningJob, { company, losses }: Pick<RunningJob, 'company' | 'losses'>): void {
  if (company !== job.company || losses !== job.losses)
    db.run(`UPDATE gq_jobs SET company = ?2, losses = ?3 WHERE id = ?1`, job.id, company, losses)
}

function retryLater(db: Db, job: RunningJob, retryAfter: number | null): Fate {
  const delay = retryAfter ?? backoffDelay(parseBackoff(job.backoff), job.attempt - job.budget_from, job.id)
  const runAt = db.now + delay
  db.run(
    `UPDATE gq_jobs
     SET state = 'scheduled', run_at = ?2, lease_token = NULL, lease_expires_at = NULL
     WHERE id = ?1`,
    ...[job.id, runAt],
  )
  db.moved(job.queue, job.type, 'running', 'scheduled')
  leave(db, job)
  db.putOff([job.id], runAt)
  return { state: 'scheduled', runAt, reason: null }
}

/**
 * Ends an attempt whose process was lost. `others`: how many jobs ran beside it there; null when the loss is no evidence.
 * An attempt that is not charged keeps its number; the budget grows instead.
 */
export function lose(db: Db, job: RunningJob, error: JobError, others: number | null, lossId: number | null): Fate {
  record(db, job, 'lost', error, { lossId })
  const tries = job.attempt - job.budget_from
  const after = afterLoss({ ...job, tries, maxAttempts: job.max_attempts }, others)
  limit(db, job, after)
  if (job.cancel_requested_at !== null) return end(db, job, 'running', 'abort', null)
  if (after.becomes === 'dead') return end(db, job, 'running', 'giveUp', 'exhausted')
  if (after.becomes === 'scheduled') return retryLater(db, job, null)
  db.run(
    `UPDATE gq_jobs
     SET state = 'ready', budget_from = budget_from + ?2,
         lease_token = NULL, lease_expires_at = NULL, worker_id = NULL, started_at = NULL
     WHERE id = ?1`,
    ...[job.id, Number(!after.charged)],
  )
  db.moved(job.queue, job.type, 'running', 'ready')
  enter(db, job)
  return { state: 'ready', runAt: null, reason: null }
}

/** Keeps how an attempt ended. `token`: its holder reported that itself, and may do so again if the answer is lost. */
export function record(
  db: Db,
  job: Pick<RunningJob, 'id' | 'queue' | 'attempt' | 'worker' | 'started_at' | 'cancel_requested_at'>,
  outcome: 'failed' | 'timeout' | 'lost',
  error: JobError,
  { token = null, lossId = null }: { token?: number | null; lossId?: number | null } = {},
): void {
  db.run(
    `INSERT INTO gq_attempts (job_id, attempt, worker, started_at, finished_at, outcome, token, loss_id,
                              error_name, error_message, error_stack)
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)`,
    ...[job.id, job.attempt, job.worker, job.started_at, db.now],
    ...[
      job.cancel_requested_at === null ? outcome : 'cancelled',
      token,
      lossId,
      error.name,
      error.message,
      error.stack,
    ],
  )
  db.attemptFailed(job.queue)
}

/** Puts a job into a terminal state other than succeeded. */
export function end(db: Db, job: Placed, from: State, event: Event, reason: DeadReason | null): Fate {
  const { id, queue, type } = job
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
  leave(db, job)
  db.ended.push(id)
  return { state, runAt: null, reason }
}

/** Puts a job back into the line, at its old place: after a release (uncharged) or an operator's retry (fresh budget). */
export function makeReady(db: Db, job: Placed, from: State, event: 'release' | 'retry'): Fate {
  const { id, queue, type } = job
  db.run(
    `UPDATE gq_jobs
     SET state = 'ready', attempt = attempt - (?2 = 'release'), ready_seq = CASE WHEN ?2 = 'retry' AND lease_seq IS NULL THEN ?3 ELSE ready_seq END,
         budget_from = CASE ?2 WHEN 'retry' THEN attempt ELSE budget_from END,
         losses = CASE ?2 WHEN 'retry' THEN 0 ELSE losses END, undelivered = CASE ?2 WHEN 'retry' THEN 0 ELSE undelivered END,
         lease_token = NULL, lease_expires_at = NULL, worker_id = NULL, started_at = NULL, finished_at = NULL,
         prune_at = NULL, reason = NULL, cancel_requested_at = NULL,
         deadline = CASE WHEN ?2 = 'retry' AND deadline <= ?4 THEN NULL ELSE deadline END
     WHERE id = ?1`,
    ...[id, event, event === 'retry' ? db.nextSequence() : null, db.now],
  )
  db.moved(queue, type, from, 'ready')
  enter(db, job)
  return { state: 'ready', runAt: null, reason: null }
}

/** Gives a job back unstarted or aborted: the attempt does not count. */
export function release(db: Db, lease: Pick<Lease, 'id' | 'token'>): Fate {
  const job = held(db, lease)
  if (!job) return receipt(db, lease)
  return releaseHeld(db, job, lease.token)
}

/** `token`: its holder gives it back itself. */
export function releaseHeld(db: Db, job: RunningJob, token: number | null = null): Fate {
  if (job.cancel_requested_at === null) return makeReady(db, job, 'running', 'release')
  record(db, job, 'lost', aborted, { token })
  return end(db, job, 'running', 'abort', null)
}

const aborted = { name: 'AbortError', message: 'Given back after its cancellation was asked for.', stack: null }

/** Keeps a state from which the next attempt can go on. */
export function checkpoint(db: Db, { lease: { id, token }, state }: { lease: Lease; state: string }): null {
  const changes = db.run(
    `UPDATE gq_jobs SET checkpoint = ?3, renewed_at = ?4 WHERE id = ?1 AND state = 'running' AND lease_token = ?2`,
    ...[id, token, state, db.now],
  )
  if (changes === 0) throw leaseLost(db, id)
  return null
}

/** It is written at least every 10 s that a worker is there, and anew when the clock was set back. `now`: a parameter's name. */
export const seenIsOld = (now: string): string => `seen_at NOT BETWEEN ${now} - 9999 AND ${now}`

/** Extends a lease, up to the attempt's timeout: by the wall clock, which may have been set, only where no process has seen it begin. */
export function heartbeat(db: Db, lease: Lease): { expiresAt: number; cancelRequested: boolean } {
  const row = db.get<{ expiresAt: number; cancelRequestedAt: number | null; worker: number }>(
    `UPDATE gq_jobs
     SET lease_expires_at = MIN(?3 + visibility_timeout, COALESCE(?4, started_at + timeout + ${timeoutGrace})), renewed_at = ?3,
         over_since = CASE WHEN ?3 < COALESCE(?4 - ${timeoutGrace}, started_at + timeout) THEN NULL ELSE over_since END
     WHERE id = ?1 AND state = 'running' AND lease_token = ?2
     RETURNING lease_expires_at AS expiresAt, cancel_requested_at AS cancelRequestedAt, worker_id AS worker`,
    ...[lease.id, lease.token, db.now, db.overAt(lease)],
  )
  if (!row) throw leaseLost(db, lease.id)
  db.run(
    `UPDATE gq_workers SET seen_at = ?2 WHERE id = ?1 AND pid IS NULL AND ${seenIsOld('?2')}`,
    ...[row.worker, db.now],
  )
  showsLife(db, row.worker)
  return { expiresAt: row.expiresAt, cancelRequested: row.cancelRequestedAt !== null }
}
