import { type Decision, lost, ranOut } from '../../model/decide.ts'
import {
  died,
  excused,
  excuseOf,
  fellSilent,
  neverReceived,
  processOf,
  stoodStill,
  wasAlive,
  wasAlone,
} from '../../model/loss.ts'
import type { Fate } from '../store.ts'
import type { Db } from './db.ts'
import { type RunningJob, selectRunning, write } from './decided.ts'
import { goesOn, lossOf } from './losses.ts'
import { chunk, stepEnd } from './steps.ts'
import type { Terms } from './terms.ts'
import { stillGone, type WorkerOf, workerColumns } from './workers.ts'

// Takes attempts from workers whose process is dead, is silent, or never reported a timeout. Each step is bounded by rows and
// by time, or a crash of many workers would hold the write lock for long; the next tick goes on.

const stepRows = 500

const runningWith = () => `${selectRunning} WHERE j.id = ?1 AND j.state = 'running' AND j.lease_token = ?2`

/** The first of two steps: writes `over_since` for leases that were not renewed. A later transaction takes them. True when some are left. */
export function findOver(db: Db, terms: Terms, monotonic: number): boolean {
  const end = stepEnd(db)
  for (const watched of terms.foundOver(db.now, monotonic).slice(0, stepRows)) {
    const { id, token, expiresAt } = watched
    db.later(
      `UPDATE gq_jobs SET over_since = ?4
       WHERE id = ?1 AND state = 'running' AND lease_token = ?2 AND lease_expires_at = ?3 AND over_since IS NULL`,
      ...[id, token, expiresAt, db.now],
    )
    Object.assign(watched, { overSince: db.now, seenOverFrom: monotonic, overBefore: 0 }) // after a rollback, the next `Terms.look` corrects it
    if (db.clock.monotonic() >= end) return true
  }
  return false
}

/** The second step: takes leases with an `over_since` that were not renewed since. True when some are left. */
export function reclaimOver(db: Db, terms: Terms, monotonic: number): boolean {
  const end = stepEnd(db)
  for (const { id, token, expiresAt, overSince } of terms.toTake(monotonic).slice(0, stepRows)) {
    const job = db.get<RunningJob>(
      `${runningWith()} AND j.lease_expires_at = ?3 AND j.over_since = ?4`,
      ...[id, token, expiresAt, overSince],
    )
    if (job) reclaimSilent(db, job)
    if (db.clock.monotonic() >= end) return true
  }
  return false
}

/** Takes all expired leases without watching them first: shows what a recovery would do. */
export function reclaimLapsed(db: Db): void {
  const select = `${selectRunning} WHERE j.state = 'running' AND j.lease_expires_at <= ?1`
  for (const job of db.all<RunningJob>(select, db.now)) reclaimSilent(db, job)
}

/** Takes the lease of a silent worker. Its process may live and its handler go on. */
function reclaimSilent(db: Db, job: RunningJob): void {
  goesOn(db, job.workerId, job)
  write(db, job, wasAlive(job, db.now) ? ranOut(job, db.now) : lostBy(db, job, fellSilent))
}

/** Takes a lease that its worker does not have: no handler goes on. */
export const reclaimUnreceived = (db: Db, job: RunningJob): Fate => write(db, job, lostBy(db, job, neverReceived))

/** `how`: what its worker did, unless its process had begun to stop. */
function lostBy(db: Db, job: RunningJob, how: typeof fellSilent): Decision {
  const worker = workerOf(db, job.workerId)
  const stopping = worker !== undefined && hadBegunToStop(db, worker)
  const excuse = stopping ? excuseOf({ rebooted: false, stopping }, excusedBefore(db, job)) : null
  if (excuse) return lost(job, excused(excuse, worker), db.now)
  return lost(job, how(job, lossOf(db, job.workerId, processOf(worker)), worker), db.now)
}

const workerOf = (db: Db, id: number): WorkerOf | undefined =>
  db.get<WorkerOf>(`SELECT ${workerColumns} FROM gq_workers WHERE id = ?1`, id)

/** Takes own attempts that timed out while the app's thread stood still. A handler that ran alone is charged: it blocked the thread. */
export function reclaimRanOut(db: Db, terms: Terms, lookedAt: number): void {
  const until = stepEnd(db)
  for (const { id, token } of terms.ranOut(lookedAt).slice(0, stepRows)) {
    if (db.clock.monotonic() >= until) return
    const job = db.get<RunningJob>(runningWith(), id, token)
    if (!job) continue
    db.appStandsStill = true
    goesOn(db, job.workerId, job)
    const worker = workerOf(db, job.workerId)
    const loss = lossOf(db, job.workerId, processOf(worker))
    const isOwn = wasAlone(job, loss)
    write(db, job, isOwn ? ranOut(job, db.now) : lost(job, stoodStill(job, loss, worker), db.now))
  }
}

/**
 * Takes the jobs of dead processes of this host at once. Whether other hosts' workers live is left to their leases. True
 * when some are left: the next transaction goes on, without another look at all that runs.
 */
export function reclaimDeadWorkers(db: Db): boolean {
  const end = stepEnd(db)
  for (const workers of Map.groupBy(stillGone(db), ({ instance }) => instance).values()) {
    for (const worker of workers) if (!reclaimDead(db, worker, end)) return true
    // Together, and last: the rows of all workers of a process are evidence for the loss of each.
    for (const { id } of workers) db.run(`UPDATE gq_workers SET ended_at = ?2 WHERE id = ?1`, id, db.now)
    if (db.clock.monotonic() >= end) return true
  }
  return false
}

/** False when the step ended before all of its jobs were taken. */
function reclaimDead(db: Db, worker: WorkerOf, end: number): boolean {
  const jobs = db.all<RunningJob>(
    `${selectRunning} WHERE j.state = 'running' AND j.worker_id = ?1 LIMIT ${chunk}`,
    worker.id,
  )
  if (jobs.length === 0) return true
  const rebooted = worker.boot !== db.processes.me.boot
  const how = { rebooted, stopping: hadBegunToStop(db, worker) }
  const death = lossOf(db, worker.id, processOf(worker)) // before any is taken: each is company to the others
  for (const job of jobs) {
    const excuse = rebooted || how.stopping ? excuseOf(how, excusedBefore(db, job)) : null
    const loss = excuse === null ? died(death, worker) : excused(excuse, worker)
    write(db, job, wasAlive(job, db.now) ? ranOut(job, db.now) : lost(job, loss, db.now))
    if (db.clock.monotonic() >= end && job !== jobs.at(-1)) return false
  }
  return jobs.length < chunk
}

/** How often it was lost with a process whose end said nothing about it: no such loss has a row of gq_losses. */
const excusedBefore = (db: Db, { id }: RunningJob): number =>
  db.get<{ times: number }>(
    `SELECT COUNT(*) AS times FROM gq_attempts
     WHERE job_id = ?1 AND outcome = 'lost' AND loss_id IS NULL AND error_name = 'LeaseLost'`,
    id,
  )!.times

const hadBegunToStop = (db: Db, { id, instance }: WorkerOf): boolean =>
  db.get(
    `SELECT 1 FROM gq_workers WHERE instance = ?1 AND stopping_at IS NOT NULL AND (ended_at IS NULL OR id = ?2)`,
    ...[instance, id],
  ) !== undefined
