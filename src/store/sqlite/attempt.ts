import { failed, postponed, released } from '../../model/decide.ts'
import { lifecycle } from '../../model/lifecycle.ts'
import { timeoutGrace } from '../../model/loss.ts'
import type { Failure, Fate, Input, Lease } from '../store.ts'
import type { Caused } from './cause-rows.ts'
import { leaveCause } from './causes.ts'
import type { Db } from './db.ts'
import { runningJob, write } from './decided.ts'
import { goesOn, showsLife } from './losses.ts'
import { leaveUnread, mayWait } from './places.ts'
import { keepFate, leaseLost, receipt, succeeded } from './receipts.ts'

// The events of one attempt, from its lease to its outcome.

/** One UPDATE by id and token: to read the row and decide first costs a third more. Made once: each call would hash it anew. */
const success = `UPDATE gq_jobs
  SET state = '${lifecycle.running.succeed}', result = ?4, finished_at = ?5, lease_expires_at = NULL, prune_at = ?5 + ?6, warning = ?7
  WHERE id = ?1 AND state = 'running' AND lease_token = ?3 AND queue = ?2 AND cause IS NULL`

/** One that has failed before is counted among those that fail. */
const selectFailing = `SELECT id, queue, type, cause FROM gq_jobs
  WHERE id = ?1 AND queue = ?2 AND state = 'running' AND lease_token = ?3 AND cause IS NOT NULL`

/** Ends a running job well. */
export function succeed(db: Db, { lease, result, warning = null }: Input<'succeed'>): Fate {
  const { id, queue, type, token } = lease
  mayWait(db, queue, type) // before the write, after which what came ahead would be read anew
  const values = [id, queue, token, result, db.now, db.queue(queue).keep_succeeded, warning]
  if (db.run(success, ...values) === 0) {
    const failing = db.get<Caused>(selectFailing, id, queue, token)
    if (!failing) return receipt(db, { id, token })
    db.atomic(() => {
      leaveCause(db, failing)
      db.later('UPDATE gq_jobs SET cause = NULL WHERE id = ?1', id)
      db.later(success, ...values)
    })
  }
  return ended(db, lease)
}

function ended(db: Db, lease: Input<'succeed'>['lease']): Fate {
  const { id, queue, type } = lease
  db.moved(queue, type, 'running', lifecycle.running.succeed)
  db.hours.succeeded(db, lease)
  leaveUnread(db, id, queue, type)
  db.ended.push(id)
  return succeeded
}

/** One text for what names an attempt. */
export const attemptOf = ({ id, token }: { id: number; token: number }): string => `${id} ${token}`

/** As many calls of `succeed`, where one statement for all costs less: null for each that has to be made by itself. */
export function succeedTogether(db: Db, inputs: Input<'succeed'>[]): (Fate | null)[] {
  const keeps = inputs.map(({ lease }) => db.queue(lease.queue).keep_succeeded)
  for (const { lease } of inputs) mayWait(db, lease.queue, lease.type) // as in `succeed`
  const stored = db.storeSuccesses(inputs, keeps)
  return inputs.map(({ lease }) => (stored.delete(attemptOf(lease)) ? ended(db, lease) : null)) // of one told twice, the first alone
}

/** Ends an attempt without success: again later, dead, or cancelled if that was asked for. The record of a failure goes into the history. */
export function fail(db: Db, { lease, kind, error, retryAfter, goesOn: runs = false }: Failure): Fate {
  return db.atomic(() => {
    const job = runningJob(db, lease)
    if (!job) return receipt(db, lease)
    if (runs) goesOn(db, job.workerId, lease)
    if (kind !== 'postpone') return write(db, job, failed(job, { kind, error, retryAfter }, db.now, lease.token))
    const decision = postponed(job, error, retryAfter, db.now, lease.token)
    const fate = write(db, job, decision)
    if (!decision.record) keepFate(db, lease, fate) // no history says that it was taken
    return fate
  })
}

/** Gives a job back unstarted or aborted: the attempt does not count. */
export function release(db: Db, lease: Pick<Lease, 'id' | 'token'>): Fate {
  const job = runningJob(db, lease)
  return job ? write(db, job, released(job, db.now, lease.token)) : receipt(db, lease)
}

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
  db.later(
    `UPDATE gq_workers SET seen_at = ?2 WHERE id = ?1 AND pid IS NULL AND ${seenIsOld('?2')}`,
    ...[row.worker, db.now],
  )
  showsLife(db, row.worker)
  return { expiresAt: row.expiresAt, cancelRequested: row.cancelRequestedAt !== null }
}
