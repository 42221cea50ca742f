import { backoffDelay, parseBackoff } from './backoff.ts'
import type { Instant } from './clock.ts'
import { afterLoss } from './company.ts'
import type { Attempt, DeadReason, JobError } from './job.ts'
import { isWaiting, lifecycle, next, type State, type Waiting } from './lifecycle.ts'
import { type Lost, ranOutOf } from './loss.ts'

// What an event makes of a job: its state, the fields that change with it, the record of its attempt, and who has to hear.
// A store reads the rows that an event names, asks here, and writes the answer: no rule of a job's life stands in SQL. Two
// statements write a state without a question, since they are the hot path: `succeed` and the lease, by the table's words.

/** What a job's row says from now on; a field that is not named stays as it is. */
export interface Changes {
  state: State
  attempt?: number
  /** The number of the last attempt before the present budget: those after it count towards `maxAttempts`. */
  budgetFrom?: number
  runAt?: Instant | null
  deadline?: Instant | null
  reason?: DeadReason | null
  company?: number | null
  losses?: number
  undelivered?: number
  postponed?: number
  cancelRequestedAt?: Instant | null
  workerId?: null
  startedAt?: null
  leaseToken?: null
  leaseExpiresAt?: null
  finishedAt?: Instant | null
  idempotencyKey?: null
}

/** How an attempt ended, for the history. */
export interface Recorded {
  attempt: number
  worker: string | null
  startedAt: Instant
  outcome: Exclude<Attempt['outcome'], 'running' | 'succeeded'>
  error: JobError
  /** Its holder reported that itself, and may do so again if the answer is lost; else null. */
  token: number | null
  /** The loss of its process. */
  lossId: number | null
}

export interface Decision {
  from: State
  changes: Changes
  record?: Recorded
  /** It becomes ready and was never leased: the proof of order needs the number of this event. */
  isNumbered?: boolean
  /** Who has to hear of it, besides those who wait for jobs, slots and results. */
  tells?: 'expired' | 'cancelRequested' | 'reclaimed'
}

/** A running job, as the end of its attempt needs to know it. */
export interface Running {
  id: number
  attempt: number
  budgetFrom: number
  maxAttempts: number
  /** JSON; null for the default. */
  backoff: string | null
  timeout: number
  onTimeout: 'retry' | 'dead'
  company: number | null
  losses: number
  undelivered: number
  /** How often its handler has put it off in the present budget. */
  postponed: number
  deadline: Instant | null
  cancelRequestedAt: Instant | null
  worker: string | null
  startedAt: Instant
}

export interface Failed {
  kind: 'temporary' | 'permanent' | 'timeout'
  error: JobError
  /** Overrules the backoff; null leaves the delay to that. */
  retryAfter: number | null
}

const noLease = { leaseToken: null, leaseExpiresAt: null }
/** An attempt that does not count, or whose job begins anew, has no worker. */
const noHolder = { ...noLease, workerId: null, startedAt: null }

const ended = (state: 'dead' | 'cancelled', reason: DeadReason | null, now: Instant): Changes => ({
  state,
  reason,
  finishedAt: now,
  runAt: null,
  ...noLease,
})

const gaveUp = (reason: DeadReason, now: Instant): Changes => ended(lifecycle.running.giveUp, reason, now)
const aborted = (now: Instant): Changes => ended(lifecycle.running.abort, null, now)

/** Attempts of the present budget, this one included. */
const triesOf = ({ attempt, budgetFrom }: Running): number => attempt - budgetFrom

function later(job: Running, retryAfter: number | null, now: Instant): Changes {
  const delay = retryAfter ?? backoffDelay(parseBackoff(job.backoff), triesOf(job), job.id)
  return { state: lifecycle.running.retryLater, runAt: now + delay, ...noLease }
}

/** `token`: of the holder that reports it; `lossId`: of the death of its process. */
function recorded(
  job: Running,
  end: Recorded['outcome'],
  error: JobError,
  token: number | null,
  lossId: number | null,
): Recorded {
  const { attempt, worker, startedAt, cancelRequestedAt } = job
  return { attempt, worker, startedAt, outcome: cancelRequestedAt === null ? end : 'cancelled', error, token, lossId }
}

/** An attempt failed, or ran out of time: again later, dead, or cancelled if that was asked for. `token`: its holder says so. */
export function failed(
  job: Running,
  { kind, error, retryAfter }: Failed,
  now: Instant,
  token: number | null,
): Decision {
  const record = recorded(job, kind === 'timeout' ? 'timeout' : 'failed', error, token, null)
  // What its losses limited is over, also of a job that ends: an operator may retry it.
  const changes = { ...afterFailure(job, kind, retryAfter, now), company: null, losses: 0 }
  return { from: 'running', changes, record }
}

function afterFailure(job: Running, kind: Failed['kind'], retryAfter: number | null, now: Instant): Changes {
  if (job.cancelRequestedAt !== null) return aborted(now)
  if (kind === 'permanent') return gaveUp('permanent', now)
  if (kind === 'timeout' && job.onTimeout === 'dead') return gaveUp('timeout', now)
  if (triesOf(job) >= job.maxAttempts) return gaveUp('exhausted', now)
  return later(job, retryAfter, now)
}

/** How often a job may be put off in one budget: one whose handler always does so must come to an end. */
export const mostPostponed = 1000

/**
 * Its handler says "not now": later, uncharged, at its deadline at the latest, when it expires. Beyond `mostPostponed` that
 * counts as a temporary failure. `after`: in how many ms; null leaves the delay to the backoff. `token`: as of `failed`.
 */
export function postponed(job: Running, error: JobError, after: number | null, now: Instant, token: number): Decision {
  const isOneTooMany = job.postponed >= mostPostponed
  if (job.cancelRequestedAt !== null || isOneTooMany) {
    const message = isOneTooMany ? `Put off ${mostPostponed} times before: this time it counts as failed. ${error.message}` : error.message // biome-ignore format: long
    return failed(job, { kind: 'temporary', error: { ...error, message }, retryAfter: after }, now, token)
  }
  const { runAt } = later(job, after, now)
  const changes = {
    state: lifecycle.running.postpone,
    runAt: Math.min(runAt!, job.deadline ?? runAt!),
    attempt: job.attempt - 1,
    postponed: job.postponed + 1,
    ...noHolder,
  }
  return { from: 'running', changes }
}

/** An attempt ran out of time and nobody reported that. */
export function ranOut(job: Running, now: Instant): Decision {
  const timeout = { kind: 'timeout', error: ranOutOf(job), retryAfter: null } as const
  return { ...failed(job, timeout, now, null), tells: 'reclaimed' }
}

/** The process of an attempt was lost. If that is not charged, `budgetFrom` moves up by one, so that one more attempt is left. */
export function lost(job: Running, { error, others, lossId, isUnheard }: Lost, now: Instant): Decision {
  const { maxAttempts, company: allowed, losses: before } = job
  const known = { tries: triesOf(job), maxAttempts, company: allowed, losses: before }
  const after = afterLoss(known, isUnheard ? null : others)
  const { company, losses } = after
  const changes = { ...afterLost(job, after, now), company, losses, undelivered: job.undelivered + Number(isUnheard) }
  return { from: 'running', changes, record: recorded(job, 'lost', error, null, lossId), tells: 'reclaimed' }
}

function afterLost(job: Running, { becomes, charged }: ReturnType<typeof afterLoss>, now: Instant): Changes {
  if (job.cancelRequestedAt !== null) return aborted(now)
  if (becomes === 'dead') return gaveUp('exhausted', now)
  if (becomes === 'scheduled') return later(job, null, now)
  return { state: lifecycle.running.reclaim, budgetFrom: job.budgetFrom + Number(!charged), ...noHolder }
}

/**
 * A job goes back unstarted or aborted: the attempt does not count. `token`: its holder gives it back. `unreceived`: its
 * holder never had it.
 */
export function released(job: Running, now: Instant, token: number | null, unreceived = false): Decision {
  const undelivered = job.undelivered + Number(unreceived)
  if (job.cancelRequestedAt === null)
    return { from: 'running', changes: { state: lifecycle.running.release, attempt: job.attempt - 1, undelivered, ...noHolder } } // biome-ignore format: one line
  return {
    from: 'running',
    changes: { ...aborted(now), undelivered },
    record: recorded(job, 'lost', givenBack, token, null),
  }
}

/** An operator ends its lease: its handler does not heed the cancellation. Null where none was asked for. */
export function leaseEnded(job: Running, now: Instant): Decision | null {
  if (job.cancelRequestedAt === null) return null
  return { from: 'running', changes: aborted(now), record: recorded(job, 'lost', notHeeded, null, null), tells: 'reclaimed' } // biome-ignore format: one line
}

const notHeeded = {
  name: 'AbortError',
  message: 'Its handler did not stop when it was asked to, and an operator ended its lease. It may still run.',
  stack: null,
}

const givenBack = { name: 'AbortError', message: 'Given back after its cancellation was asked for.', stack: null }

/** It ran in the file that this one is a copy of: uncharged, but one that may be tried once may have run. */
export function restored(job: Running, now: Instant, error: JobError = wasCopied): Decision {
  if (job.maxAttempts > 1) return released(job, now, null)
  const { from, changes, record } = lost(job, { error, others: null, lossId: null, isUnheard: false }, now)
  return { from, changes, record: record! }
}

const wasCopied = {
  name: 'Restored',
  message: 'It ran when this copy of the file was made: it may have run, and may be tried once only.',
  stack: null,
}

/** Its instant has come. */
export const due = (job: { leaseSeq: number | null }): Decision => ({
  from: 'scheduled',
  changes: { state: lifecycle.scheduled.due, runAt: null },
  isNumbered: job.leaseSeq === null,
})

/** A person lets it run at once. Null where it does not wait for its time. */
export function ranNow(job: { state: State; leaseSeq: number | null }): Decision | null {
  if (job.state !== 'scheduled') return null
  return { ...due(job), changes: { state: lifecycle.scheduled.runNow, runAt: null } }
}

/** Its deadline has passed while it waited, for its first attempt or for a retry. */
export const expired = ({ state }: { state: Waiting }, now: Instant): Decision => ({
  from: state,
  changes: ended(lifecycle[state].expire, 'expired', now),
  tells: 'expired',
})

/** Name of the error that stands in the history of a job that could not be admitted. */
export const notAdmitted = 'NotAdmitted'

/** Inserted with plain SQL as no job may be. The history has the reason, as of an attempt; its idempotency key is another's. */
export function refused(state: Waiting, message: string, now: Instant): Decision {
  const error = { name: notAdmitted, message, stack: null }
  return {
    from: state,
    changes: { ...ended(lifecycle[state].refuse, 'permanent', now), attempt: 1, idempotencyKey: null },
    record: { attempt: 1, worker: null, startedAt: now, outcome: 'failed', error, token: null, lossId: null },
  }
}

/** A person cancels it: at once what is not running; a running one is asked to stop. Null where that does not fit. */
export function cancelled(job: { state: State; cancelRequestedAt: Instant | null }, now: Instant): Decision | null {
  const { state, cancelRequestedAt } = job
  if (state === 'running') {
    const changes = { state: lifecycle.running.requestCancel, cancelRequestedAt: cancelRequestedAt ?? now }
    return { from: state, changes, tells: 'cancelRequested' }
  }
  return isWaiting(state) ? { from: state, changes: ended(lifecycle[state].cancel, null, now) } : null
}

/** A person retries it: a fresh budget, the history stays, a deadline that has passed is dropped. Null where that does not fit. */
export function retried(
  job: { state: State; attempt: number; deadline: Instant | null; leaseSeq: number | null },
  now: Instant,
): Decision | null {
  const { state, attempt, deadline, leaseSeq } = job
  if (state !== 'dead' && state !== 'cancelled') return null
  const changes: Changes = {
    state: lifecycle[state].retry,
    budgetFrom: attempt,
    losses: 0,
    undelivered: 0,
    postponed: 0,
    deadline: deadline !== null && deadline <= now ? null : deadline,
    reason: null,
    cancelRequestedAt: null,
    finishedAt: null,
    ...noHolder,
  }
  return { from: state, changes, isNumbered: leaseSeq === null }
}

/** A person removes it, or its time to be kept is over. */
export const mayBeRemoved = (state: State): boolean => next(state, 'remove') === null
