import type { SQLInputValue } from 'node:sqlite'
import type { Instant } from '../../model/clock.ts'
import type { Changes, Decision, Recorded, Running } from '../../model/decide.ts'
import { isTerminal, isWaiting, type Terminal } from '../../model/lifecycle.ts'
import type { Holding } from '../../model/loss.ts'
import type { Fate, Lease } from '../store.ts'
import type { Caused } from './cause-rows.ts'
import { causeAfter } from './causes.ts'
import type { Db } from './db.ts'
import { enter, leave, type Placed } from './places.ts'

// The rows that the core decides about, and what it decided, written: this file knows columns, and no rule.

/** What every decision needs to know of its job. */
export type Changing = Placed & Caused

/** A running job, as the end of its attempt needs it. */
export interface EndingJob extends Changing, Running {
  token: number
  workerId: number
}

/** The same, and what tells whether its holder lives. */
export interface RunningJob extends EndingJob, Holding {
  /** Number of the request that got it, of a remote worker. */
  asked: number | null
}

const ending = `j.id, j.queue, j.type, j.priority, j.concurrency_key, j.attempt, j.budget_from AS budgetFrom,
  j.max_attempts AS maxAttempts, j.backoff, j.timeout, j.on_timeout AS onTimeout, j.started_at AS startedAt, j.lease_token AS token,
  j.cause, j.company, j.losses, j.undelivered, j.postponed, j.deadline, j.cancel_requested_at AS cancelRequestedAt, j.worker_id AS workerId, w.name AS worker`
const running = 'gq_jobs j LEFT JOIN gq_workers w ON w.id = j.worker_id'

/** Without what only the reaper needs: a column costs 0.15 µs. */
const selectLeased = `SELECT ${ending} FROM ${running} WHERE j.id = ?1 AND j.state = 'running' AND j.lease_token = ?2`

export const selectRunning = `SELECT ${ending}, j.visibility_timeout AS visibilityTimeout, j.renewed_at AS renewedAt,
    j.lease_expires_at AS leaseExpiresAt, j.asked, w.seen_at AS seenAt, w.id IS NOT NULL AND w.pid IS NULL AS remote
  FROM ${running}`

/** The running job of a lease, unless that is over. */
export const runningJob = (db: Db, { id, token }: Pick<Lease, 'id' | 'token'>): EndingJob | undefined =>
  db.get<EndingJob>(selectLeased, id, token)

interface Written extends Changing {
  token?: number | null
  /** When it was due: it is ready since then, however late that was found. */
  dueAt?: Instant | null
}

/** Writes a decision; `number` gives an event's number to those that need one. */
export function write(db: Db, job: Written, decision: Decision, number?: number): Fate {
  const { id, queue, type } = job
  const { from, record: attempt, tells, isNumbered } = decision
  const changes: Changes & Stored = decision.changes
  const { state, runAt = null, reason = null } = changes
  if (isTerminal(state)) changes.pruneAt = pruneAt(db, queue, state)
  else if (isTerminal(from)) changes.pruneAt = null
  if (state === 'ready') changes.readyAt = Math.min(db.now, job.dueAt ?? db.now)
  const cause = causeAfter(db, job, decision)
  if (cause !== job.cause) changes.cause = cause
  if (isNumbered) changes.readySeq = number ?? db.nextSequence()
  if (attempt) record(db, job, attempt, isWaiting(state))
  update(db, id, changes)
  if (state !== from) {
    db.moved(queue, type, from, state)
    if (state === 'ready') {
      db.again(job, id)
      enter(db, job)
    } else leave(db, job)
  }
  if (runAt !== null) db.putOff([id], runAt)
  if (isTerminal(state)) db.ended.push(id)
  const fate = { state, runAt, reason }
  if (tells === 'expired') db.events.push({ event: 'expired', id, queue, type })
  if (tells === 'cancelRequested') db.events.push({ event: 'cancelRequested', id, token: job.token! })
  if (tells === 'reclaimed') {
    db.events.push({ event: 'reclaimed', id, queue, type, fate })
    db.lost.push({ id, token: job.token! })
  }
  return fate
}

/** What the store adds to a decision. */
interface Stored {
  pruneAt?: number | null
  cause?: number | null
  readySeq?: number
  readyAt?: Instant
}

function pruneAt(db: Db, queue: string, state: Terminal): number | null {
  const keep = db.queue(queue)[`keep_${state}`]
  return keep === null ? null : db.now + keep
}

// biome-ignore format: a table
const columnOf = {
  state: 'state', attempt: 'attempt', budgetFrom: 'budget_from', runAt: 'run_at', deadline: 'deadline', reason: 'reason',
  company: 'company', losses: 'losses', undelivered: 'undelivered', postponed: 'postponed', cancelRequestedAt: 'cancel_requested_at',
  workerId: 'worker_id', startedAt: 'started_at', leaseToken: 'lease_token', leaseExpiresAt: 'lease_expires_at',
  finishedAt: 'finished_at', pruneAt: 'prune_at', readySeq: 'ready_seq', readyAt: 'ready_at', idempotencyKey: 'idempotency_key',
  cause: 'cause',
} satisfies Record<keyof (Changes & Stored), string>
const fields = Object.keys(columnOf) as (keyof typeof columnOf)[]

/** By the set of columns that they write: there are a dozen. */
const updates = new Map<number, string>()

function update(db: Db, id: number, changes: Changes & Stored): void {
  const values: SQLInputValue[] = [id]
  let written = 0
  for (let i = 0; i < fields.length; i++) {
    const value = changes[fields[i]!]
    if (value === undefined) continue
    values.push(value)
    written |= 1 << i
  }
  db.later(updates.get(written) ?? updateOf(written), ...values)
}

function updateOf(written: number): string {
  const sets = fields.filter((_, i) => written & (1 << i)).map((field, i) => `${columnOf[field]} = ?${i + 2}`)
  const sql = `UPDATE gq_jobs SET ${sets.join(', ')} WHERE id = ?1`
  updates.set(written, sql)
  return sql
}

function record(db: Db, job: Placed, attempt: Recorded, isRetried: boolean): void {
  const { error, worker, startedAt, outcome, token, lossId } = attempt
  db.later(
    `INSERT INTO gq_attempts (job_id, attempt, worker, started_at, finished_at, outcome, token, loss_id,
                              error_name, error_message, error_stack)
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)`,
    ...[job.id, attempt.attempt, worker, startedAt, db.now, outcome, token, lossId],
    ...[error.name, error.message, error.stack],
  )
  db.attemptFailed(job, outcome === 'lost' || worker === null ? null : db.now - startedAt, isRetried)
}
