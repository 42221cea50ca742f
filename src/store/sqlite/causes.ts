import { causeOf, ruleVersion } from '../../model/cause.ts'
import type { Decision, Running } from '../../model/decide.ts'
import type { DeadReason } from '../../model/job.ts'
import { isTerminal, type State } from '../../model/lifecycle.ts'
import type { Caused } from './cause-rows.ts'
import type { Db } from './db.ts'

// How many jobs are dead, and how many fail, by the cause of their last error: rows of gq_causes, changed in the transaction
// of the event that changes them. A job's `cause` names the row that counts it, so none is counted twice or forgotten.

/** Of a job whose attempt ends. */
type Tries = Pick<Running, 'attempt' | 'budgetFrom'>

/** Which row counts a job after an event: every decision about a job passes here. */
export function causeAfter(db: Db, job: Caused & Partial<Tries>, { from, changes, record }: Decision): number | null {
  const { state, reason = null } = changes
  if (isTerminal(from) || state === 'cancelled') return job.cause === null ? null : db.causes.move(job, null)
  if (state === 'dead') {
    const cause = record ? causeOf(record.error, null) : lastCause(db, job.id, reason)
    return db.causes.move(job, { dead: true, cause, at: db.now })
  }
  if (!record) return job.cause
  const { attempt = 0, budgetFrom = 0 } = { ...job, ...changes }
  if (attempt <= budgetFrom) return job.cause // it was not charged, nor was any before it
  return db.causes.move(job, { dead: false, cause: causeOf(record.error, null), at: db.now })
}

/** A job is gone, or has ended well. */
export function leaveCause(db: Db, job: Caused): void {
  if (job.cause !== null) db.causes.move(job, null)
}

interface Recorded {
  name: string | null
  message: string | null
  at: number
}

function lastRecord(db: Db, id: number): Recorded | undefined {
  return db.get<Recorded>(
    `SELECT error_name AS name, error_message AS message, finished_at AS at FROM gq_attempts
     WHERE job_id = ?1 ORDER BY attempt DESC LIMIT 1`,
    id,
  )
}

const errorOf = ({ name, message }: Recorded) => ({ name: name ?? '', message: message ?? '' })

function lastCause(db: Db, id: number, reason: DeadReason | null): string {
  const last = lastRecord(db, id)
  return causeOf(last ? errorOf(last) : null, reason)
}

/** Attempts of the present budget that were charged and have not succeeded: above 0, a job that has not ended fails. */
export const failures = `attempt - budget_from - CASE state WHEN 'running' THEN 1 ELSE 0 END`

/** Counts a job as its row and its history say, whatever it was counted under. */
export function countAnew(db: Db, id: number): void {
  type Row = Caused & { state: State; reason: DeadReason | null; failures: number; finishedAt: number | null }
  const job = db.get<Row>(
    `SELECT id, queue, type, cause, state, reason, ${failures} AS failures, finished_at AS finishedAt
     FROM gq_jobs WHERE id = ?1 AND blocked < 2`,
    id,
  )
  if (!job) return
  const dead = job.state === 'dead'
  const last = lastRecord(db, id)
  const counts = dead || (!isTerminal(job.state) && job.failures > 0 && last !== undefined)
  const at = last?.at ?? job.finishedAt ?? 0
  const cause = db.causes.move(job, counts ? { dead, cause: causeOf(last ? errorOf(last) : null, job.reason), at } : null) // biome-ignore format: one line
  if (cause !== job.cause) db.run('UPDATE gq_jobs SET cause = ?2 WHERE id = ?1', id, cause)
}

/** In SQL: whether jobs of an older file, or of an older rule, are yet to be counted. */
export const isCounting = `(EXISTS (SELECT 1 FROM gq_meta WHERE key = 'causes')
  OR EXISTS (SELECT 1 FROM gq_causes WHERE rule < ${ruleVersion}))`

/** Counts jobs that an older version has not counted, or has by an older rule, until the step is over. True when some are left. */
export function countOld(db: Db, end: number): boolean {
  const isOver = () => db.clock.monotonic() >= end
  for (;;) {
    const old = db.get<{ id: number }>(`SELECT id FROM gq_causes WHERE rule < ${ruleVersion} LIMIT 1`)
    if (!old) break
    const jobs = db.all<{ id: number }>('SELECT id FROM gq_jobs WHERE cause = ?1 AND cause IS NOT NULL LIMIT 50', old.id) // biome-ignore format: one line
    if (jobs.length === 0) db.run('DELETE FROM gq_causes WHERE id = ?1', old.id)
    for (const { id } of jobs) {
      countAnew(db, id)
      if (isOver()) return true
    }
    if (isOver()) return true
  }
  return countUpTo(db, isOver)
}

/** Those that have a history, and those that died without one, in the order of their ids; gq_meta says how far. */
function countUpTo(db: Db, isOver: () => boolean): boolean {
  const begun = db.get<{ at: number }>(`SELECT CAST(value AS INTEGER) AS at FROM gq_meta WHERE key = 'causes'`)
  if (!begun) return false
  let at: number | null = begun.at
  do {
    at = db.get<{ id: number | null }>(
      `SELECT MIN(id) AS id FROM (
         SELECT MIN(job_id) AS id FROM gq_attempts WHERE job_id > ?1
         UNION ALL SELECT MIN(id) FROM gq_jobs WHERE state = 'dead' AND state IN ('dead', 'cancelled') AND id > ?1) AS next`,
      at,
    )!.id
    if (at === null) {
      db.run(`DELETE FROM gq_meta WHERE key = 'causes'`)
      return false
    }
    countAnew(db, at)
  } while (!isOver())
  db.run(`UPDATE gq_meta SET value = ?1 WHERE key = 'causes'`, String(at))
  return true
}

/** All jobs are counted anew, in steps: those of each row as of an older rule, and those that have none. */
export function countAllAnew(db: Db): void {
  db.run('UPDATE gq_causes SET rule = -id WHERE rule >= 0')
  db.run(
    `INSERT INTO gq_meta (key, value) VALUES ('causes', '0') ON CONFLICT (key) DO UPDATE SET value = excluded.value`,
  )
}
