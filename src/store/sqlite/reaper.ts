import type { State } from '../../model/lifecycle.ts'
import type { Fate } from '../store.ts'
import { end, endAttempt, type Placed, type RunningJob, seenEvery, selectRunning } from './attempt.ts'
import type { Db } from './db.ts'
import { deleteJob } from './operator.ts'
import type { Terms } from './terms.ts'
import { nextTick, schedulesDue } from './ticks.ts'
import type { WorkerRow } from './workers.ts'

// What time does to jobs. Each step is bounded, so that a backlog of it never holds a submission up for long;
// whatever is left is taken by the next round.

const stepRows = 500
/**
 * Retention's step: what a job takes to delete differs by a factor of a thousand (a large payload, a long history), so it
 * ends by the clock, whatever it has done; the next one follows soon, so that it keeps up with what a busy queue finishes.
 */
const prunedRows = 1000
export const stepMs = 2
export const pruneEvery = 5

/** Due jobs become ready, jobs past their deadline die. Also part of each lease, so that the order is right at that instant. */
export function ripen(db: Db): void {
  const due = db.all<Placed>(
    `SELECT id, queue, type FROM gq_jobs WHERE state = 'scheduled' AND run_at <= ?1 ORDER BY run_at, id LIMIT ${stepRows}`,
    db.now,
  )
  if (due.length > 0) {
    const sequence = db.nextSequence()
    for (const { id, queue, type } of due) {
      db.run(
        `UPDATE gq_jobs
         SET state = 'ready', run_at = NULL, ready_seq = CASE WHEN lease_seq IS NULL THEN ?2 ELSE ready_seq END
         WHERE id = ?1`,
        ...[id, sequence],
      )
      db.moved(queue, type, 'scheduled', 'ready')
    }
  }
  const late = db.all<Placed & { state: State }>(
    `SELECT id, queue, type, state FROM gq_jobs
     WHERE deadline <= ?1 AND deadline IS NOT NULL AND state IN ('scheduled', 'ready') LIMIT ${stepRows}`,
    db.now,
  )
  for (const job of late) {
    end(db, job, job.state, 'expire', 'expired')
    db.events.push({ event: 'expired', id: job.id, queue: job.queue, type: job.type })
  }
}

/** Ends the attempts whose lease is over and was not renewed meanwhile. */
export function reclaimOver(db: Db, terms: Terms, monotonic: number): void {
  for (const { id, token, expiresAt } of terms.over(monotonic).slice(0, stepRows)) {
    const job = db.get<RunningJob>(
      `${selectRunning} WHERE j.id = ?1 AND j.state = 'running' AND (j.lease_token = ?2 OR j.lease_expires_at = ?3)`,
      ...[id, token, expiresAt],
    )
    if (job) reclaim(db, job, `its lease was not renewed`, token !== null)
  }
}

/** Takes back at once what processes of this host held that are gone. Other hosts' workers are left to their leases. */
export function reclaimDeadWorkers(db: Db): void {
  for (const worker of workersOfDeadProcesses(db)) {
    const jobs = db.all<RunningJob>(`${selectRunning} WHERE j.state = 'running' AND j.worker_id = ?1`, worker.id)
    for (const job of jobs) reclaim(db, job, `its process ${worker.pid} is gone`)
    db.run(`UPDATE gq_workers SET ended_at = ?2 WHERE id = ?1`, worker.id, db.now)
  }
}

export function workersOfDeadProcesses(db: Db): WorkerRow[] {
  const rows = db.all<WorkerRow>(`SELECT * FROM gq_workers WHERE ended_at IS NULL`)
  return rows.filter((row) => db.processes.isAlive(row) === false)
}

function reclaim(db: Db, job: RunningJob, why: string, ranOut = false): void {
  const timedOut = ranOut || db.now >= job.started_at + job.timeout
  const name = timedOut ? 'Timeout' : 'LeaseLost'
  const message = timedOut
    ? `The attempt ran longer than its timeout of ${job.timeout} ms and its worker did not report it.`
    : `Worker ${job.worker ?? 'unknown'} stopped: ${why}.`
  const fate: Fate = db.atomic(() =>
    endAttempt(db, job, timedOut ? 'timeout' : 'lost', false, { name, message, stack: null }, null),
  )
  db.events.push({ event: 'reclaimed', id: job.id, queue: job.queue, type: job.type, fate })
}

/** Deletes ended jobs whose time to be kept is over, and keys whose window is over and whose job is gone. True when some are left. */
export function prune(db: Db): boolean {
  const end = db.clock.monotonic() + stepMs
  const each = <Row>(rows: Row[], take: (row: Row) => void): boolean => {
    let taken = 0
    while (taken < rows.length && (taken === 0 || db.clock.monotonic() < end)) take(rows[taken++]!)
    return taken < rows.length || taken === prunedRows
  }
  const jobs = db.all<{ id: number }>(`SELECT id FROM gq_jobs WHERE prune_at <= ?1 LIMIT ${prunedRows}`, db.now)
  const select = `SELECT id, queue, type, state, idempotency_key AS key FROM gq_jobs WHERE id = ?1`
  const jobsLeft = each(jobs, ({ id }) => deleteJob(db, db.get<Parameters<typeof deleteJob>[1]>(select, id)!))
  const keys = db.all<{ queue: string; type: string; key: string; lives: number }>(
    `SELECT queue, type, key, EXISTS (SELECT 1 FROM gq_jobs WHERE id = job_id) AS lives FROM gq_keys
     WHERE expires_at <= ?1 AND expires_at > 0 LIMIT ${prunedRows}`,
    db.now,
  )
  const keysLeft = each(keys, ({ queue, type, key, lives }) =>
    db.run(
      lives
        ? `UPDATE gq_keys SET expires_at = 0 WHERE queue = ?1 AND type = ?2 AND key = ?3` // goes with its job
        : `DELETE FROM gq_keys WHERE queue = ?1 AND type = ?2 AND key = ?3`,
      ...[queue, type, key],
    ),
  )
  db.run(
    `DELETE FROM gq_requests WHERE request IN (SELECT request FROM gq_requests WHERE expires_at <= ?1 LIMIT 1000)`,
    db.now,
  )
  // Of a worker on the network nobody hears that it is gone; one that comes back is there again.
  db.run(
    `UPDATE gq_workers SET ended_at = ?1 WHERE pid IS NULL AND ended_at IS NULL AND seen_at <= ?1 - 3600000`,
    db.now,
  )
  db.run(`DELETE FROM gq_workers WHERE ended_at <= ?1`, db.now - 7 * 86_400_000)
  return jobsLeft || keysLeft
}

/** All that time has made necessary, in one transaction. True when retention is behind. */
export function reap(db: Db, workers: number[], terms: Terms, monotonic: number): boolean {
  terms.look(db, monotonic)
  terms.renew(db, monotonic)
  reclaimDeadWorkers(db)
  reclaimOver(db, terms, monotonic)
  ripen(db) // also what was just taken back: a second look would have nothing left to do
  const behind = prune(db)
  const { host } = db.processes.me
  db.run(
    `UPDATE gq_workers SET seen_at = ?1, ended_at = NULL WHERE (host = ?3 OR pid IS NULL) AND seen_at <= ?1 - ${seenEvery} AND id IN (SELECT value FROM json_each(?2))`,
    db.now,
    JSON.stringify(workers),
    host,
  )
  return behind
}

/** Whether reap would change anything now: asked on a read, so that an idle process takes no write lock. */
export function reapIsDue(db: Db, workers: number[], terms: Terms, monotonic: number): boolean {
  if (terms.look(db, monotonic)) return true
  const row = db.get<{ due: number }>(
    `SELECT
       EXISTS (SELECT 1 FROM gq_jobs WHERE state = 'scheduled' AND run_at <= ?1)
       OR EXISTS (SELECT 1 FROM gq_jobs WHERE deadline <= ?1 AND deadline IS NOT NULL AND state IN ('scheduled', 'ready'))
       OR EXISTS (SELECT 1 FROM gq_jobs WHERE prune_at <= ?1)
       OR ${schedulesDue}
       OR EXISTS (SELECT 1 FROM gq_keys WHERE expires_at <= ?1 AND expires_at > 0)
       OR EXISTS (SELECT 1 FROM gq_requests WHERE expires_at <= ?1)
       OR EXISTS (SELECT 1 FROM gq_workers WHERE ended_at <= ?1 - 7 * 86400000)
       OR EXISTS (SELECT 1 FROM gq_workers WHERE seen_at <= ?1 - ${seenEvery} AND id IN (SELECT value FROM json_each(?2))) AS due`,
    db.now,
    JSON.stringify(workers),
  )
  return row!.due === 1 || workersOfDeadProcesses(db).length > 0
}

/** The next instant at which a scheduled job is due, a deadline passes or a schedule ticks; infinity when none does. */
export function nextDue(db: Db): number {
  const { at, deadline } = db.get<{ at: number | null; deadline: number | null }>(
    `SELECT (SELECT MIN(run_at) FROM gq_jobs WHERE state = 'scheduled') AS at,
            (SELECT MIN(deadline) FROM gq_jobs WHERE deadline IS NOT NULL AND state IN ('scheduled', 'ready')) AS deadline`,
  )!
  return Math.min(...[at, deadline, nextTick(db)].map((instant) => instant ?? Number.POSITIVE_INFINITY))
}
