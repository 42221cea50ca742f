import type { Instant } from '../../model/clock.ts'
import { GopherQueueError } from '../../model/errors.ts'
import type { DeadReason } from '../../model/job.ts'
import type { State } from '../../model/lifecycle.ts'
import type { Fate, Lease } from '../store.ts'
import type { Db } from './db.ts'
import { answersKept, keepAnswer, keptAnswer } from './kept.ts'

// An answer can be lost: on the network, or because a COMMIT that was reported as failed took place all the same. The
// report is then sent again with the same token, and has to hear what came of it, not that its lease is lost.

/** What a success comes to. */
export const succeeded: Fate = { state: 'succeeded', runAt: null, reason: null }

type Held = Pick<Lease, 'id' | 'token'>

/**
 * What came of a report that was taken before: the job as it is now. Throws LEASE_LOST when this token has ended no attempt
 * of the job: the attempt was lost, or it goes on under another token.
 */
export function receipt(db: Db, { id, token }: Held): Fate {
  const job = db.get<Fate & { token: number | null }>(
    `SELECT state, run_at AS runAt, reason, lease_token AS token FROM gq_jobs WHERE id = ?1`,
    id,
  )
  if (!job) return receiptOfGone(db, { id, token })
  const { state, runAt, reason } = job
  if (state === 'succeeded' && job.token === token) return succeeded
  const isRecorded = db.get(`SELECT 1 FROM gq_attempts WHERE job_id = ?1 AND token = ?2`, id, token)
  if (!isRecorded && !keptAnswer(db, 'report', nameOf({ id, token }))) throw leaseLost(db, id)
  return { state, runAt, reason }
}

const nameOf = ({ id, token }: Held): string => `${id} ${token}`

/** Of a report that leaves no record in the history. */
export const keepFate = (db: Db, lease: Held, fate: Fate): void => keepAnswer(db, 'report', nameOf(lease), fate)

/** A job that has ended, and the token of its last attempt; null where no report of it is sent again any more. */
export interface EndedJob {
  id: number
  state: State
  reason: DeadReason | null
  token: number | null
}

/** In SQL: the token of a job's last attempt, if it ended after `?2`: an hour ago. */
export const lastToken = `CASE WHEN finished_at <= ?2 THEN NULL WHEN state = 'succeeded' THEN lease_token
  ELSE (SELECT token FROM gq_attempts WHERE job_id = id ORDER BY attempt DESC LIMIT 1) END`
export const reportsEnd = ({ now }: Db): Instant => now - answersKept

/** The job is deleted within the hour in which its last report may still be sent again. */
export function keepReceipt(db: Db, { id, state, reason, token }: EndedJob): void {
  if (token !== null) keepFate(db, { id, token }, { state, runAt: null, reason })
}

function receiptOfGone(db: Db, lease: Held): Fate {
  const kept = keptAnswer<Fate>(db, 'report', nameOf(lease))
  if (!kept) throw leaseLost(db, lease.id)
  return kept.answer
}

export function leaseLost(db: Db, id: number): GopherQueueError {
  const job = db.get<{ state: State }>(`SELECT state FROM gq_jobs WHERE id = ?1`, id)
  if (!job && id <= db.sequence())
    return new GopherQueueError(
      'LEASE_LOST',
      `Job ${id} has ended and was removed or pruned since. What this attempt reports is not taken now; whether an earlier report of it was is no longer known.`,
      { accepted: 'unknown' },
    )
  return new GopherQueueError(
    'LEASE_LOST',
    `This attempt holds no lease on job ${id} (the job is ${job ? job.state : 'gone'} now): it was taken from it, or the attempt gave the job back. What it reports now changes nothing.`,
  )
}
