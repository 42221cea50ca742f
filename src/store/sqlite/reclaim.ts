import type { JobError } from '../../model/job.ts'
import type { Fate } from '../store.ts'
import { end, failed, limit, lose, type RunningJob, record, selectRunning, timeoutGrace } from './attempt.ts'
import type { Db } from './db.ts'
import { mostUndelivered } from './delivery.ts'
import { goesOn, type Loss, lossOf } from './losses.ts'
import { stepMs } from './steps.ts'
import { seenOver, type Terms } from './terms.ts'
import { stillGone, type WorkerOf, workerColumns } from './workers.ts'

// Attempts that are taken from their holder: its process is gone, fell silent, or never said how a timeout ended. Each step
// is bounded by rows and by time, so that a large crash never holds the write lock for long; the next look goes on.

const stepRows = 500

const runningWith = () => `${selectRunning} WHERE j.id = ?1 AND j.state = 'running' AND j.lease_token = ?2`

/** The first step in taking the leases that nobody renews: what is found over now is taken by a later transaction. */
export function findOver(db: Db, terms: Terms, monotonic: number): void {
  const end = db.clock.monotonic() + stepMs
  for (const watched of terms.foundOver(db.now, monotonic).slice(0, stepRows)) {
    const { id, token, expiresAt } = watched
    db.run(
      `UPDATE gq_jobs SET over_since = ?4
       WHERE id = ?1 AND state = 'running' AND lease_token = ?2 AND lease_expires_at = ?3 AND over_since IS NULL`,
      ...[id, token, expiresAt, db.now],
    )
    Object.assign(watched, seenOver(db.now, db.now, monotonic)) // if this is not stored, the next look corrects it
    if (db.clock.monotonic() >= end) break
  }
}

/** The second step: takes what was found over, and not renewed since. */
export function reclaimOver(db: Db, terms: Terms, monotonic: number): void {
  const end = db.clock.monotonic() + stepMs
  for (const { id, token, expiresAt, overSince } of terms.toTake(monotonic).slice(0, stepRows)) {
    const job = db.get<RunningJob>(
      `${runningWith()} AND j.lease_expires_at = ?3 AND j.over_since = ?4`,
      ...[id, token, expiresAt, overSince],
    )
    if (job) reclaimSilent(db, job)
    if (db.clock.monotonic() >= end) return
  }
}

/** All leases that are past their expiry, as if their time had been watched: what a recovery would come to. */
export function reclaimLapsed(db: Db): void {
  const select = `${selectRunning} WHERE j.state = 'running' AND j.lease_expires_at <= ?1`
  for (const job of db.all<RunningJob>(select, db.now)) reclaimSilent(db, job)
}

/** A holder that fell silent, as far as anyone can tell: its process may live, and its handler go on. */
function reclaimSilent(db: Db, job: RunningJob): void {
  const worker = db.get<WorkerOf>(`SELECT ${workerColumns} FROM gq_workers WHERE id = ?1`, job.worker_id)
  goesOn(db, job.worker_id, { id: job.id, token: job.lease_token })
  if (wasAliveAtItsTimeout(db, job)) {
    reclaimed(db, job, endTimedOut(db, job))
    return
  }
  const noEvidence = worker && hadBegunToStop(db, worker)
  if (noEvidence) {
    reclaimed(db, job, lose(db, job, excused(noEvidence, worker), null, null))
    return
  }
  const loss = lossOf(db, job.worker_id, nameOf(worker))
  const others = loss.jobs - 1
  // A remote worker may never have heard of a lease that it did not confirm: it is charged only if that goes on.
  const isUnheard =
    job.remote === 1 && job.renewed_at === null && wasAlone(job, loss) && job.undelivered < mostUndelivered
  if (isUnheard) db.run(`UPDATE gq_jobs SET undelivered = undelivered + 1 WHERE id = ?1`, job.id)
  const error = lost('fell silent', loss, `${nameOf(worker)} did not renew its lease`)
  reclaimed(db, job, lose(db, job, error, isUnheard ? null : others, loss.id))
}

/** Nothing ran beside it that counts: of handlers that went on, no more than it allows, as a loss is charged. */
const wasAlone = ({ company }: RunningJob, { jobs }: Loss): boolean => jobs === 1 || company === 0

/** Own attempts that ran out of time while the app's thread stood still. Alone, that was the handler's own doing. */
export function reclaimRanOut(db: Db, terms: Terms, lookedAt: number): void {
  const until = db.clock.monotonic() + stepMs
  for (const { id, token } of terms.ranOut(lookedAt).slice(0, stepRows)) {
    if (db.clock.monotonic() >= until) return
    const job = db.get<RunningJob>(runningWith(), id, token)
    if (!job) continue
    db.appStandsStill = true
    goesOn(db, job.worker_id, { id, token })
    const worker = db.get<WorkerOf>(`SELECT ${workerColumns} FROM gq_workers WHERE id = ?1`, job.worker_id)
    const loss = lossOf(db, job.worker_id, nameOf(worker))
    if (wasAlone(job, loss)) reclaimed(db, job, endTimedOut(db, job))
    else {
      const error = lost('stood still', loss, `the app's thread of ${nameOf(worker)} did not report its timeout of ${job.timeout} ms`) // biome-ignore format: one line
      reclaimed(db, job, lose(db, job, error, loss.jobs - 1, loss.id))
    }
  }
}

function endTimedOut(db: Db, job: RunningJob): Fate {
  const message = `The attempt ran longer than its timeout of ${job.timeout} ms and its worker did not report it.`
  record(db, job, 'timeout', { name: 'Timeout', message, stack: null })
  limit(db, job, { company: null, losses: 0 })
  return job.cancel_requested_at === null ? failed(db, job, 'timeout', null) : end(db, job, 'running', 'abort', null)
}

/** By what it wrote itself: a renewal in the last third of the lease before the timeout, or a later word of its worker. */
function wasAliveAtItsTimeout(db: Db, job: RunningJob): boolean {
  // Its last renewal reached no further than the attempt: the wall clock may have been set forward before.
  const over = Math.max(job.started_at + job.timeout, job.lease_expires_at - timeoutGrace)
  const third = Math.min(job.visibility_timeout, job.timeout + timeoutGrace) / 3
  const renewed = job.renewed_at !== null && job.renewed_at >= over - third - renewalSlack
  // Of a remote worker its renewals alone tell: one that hangs leaves a request for jobs, which looks like a sign of life.
  const seen = job.remote === 0 && job.seen_at !== null && job.seen_at >= over && job.seen_at <= db.now // later ones are of a clock that was set back
  return db.now >= over && (renewed || seen)
}

/** Renewals come with the next look after they are due. */
const renewalSlack = 250

/** Takes back at once what processes of this host held that are gone. Other hosts' workers are left to their leases. */
export function reclaimDeadWorkers(db: Db): void {
  const end = db.clock.monotonic() + stepMs
  for (const workers of Map.groupBy(stillGone(db), ({ instance }) => instance).values()) {
    for (const worker of workers) if (!reclaimDead(db, worker, end)) return // the next look goes on
    // All at once: what one of them said or held is evidence for the others of its process.
    for (const { id } of workers) db.run(`UPDATE gq_workers SET ended_at = ?2 WHERE id = ?1`, id, db.now)
    if (db.clock.monotonic() >= end) return
  }
}

/** False when it still holds jobs, as the step is over. */
function reclaimDead(db: Db, worker: WorkerOf, end: number): boolean {
  const jobs = db.all<RunningJob>(
    `${selectRunning} WHERE j.state = 'running' AND j.worker_id = ?1 LIMIT ${stepRows}`,
    worker.id,
  )
  if (jobs.length === 0) return true
  const noEvidence = whyNoEvidence(db, worker)
  const loss = noEvidence === null ? lossOf(db, worker.id, nameOf(worker)) : null
  const error = loss ? lost('ended', loss, `${nameOf(worker)} is gone`) : excused(noEvidence!, worker)
  for (const job of jobs) {
    const fate = wasAliveAtItsTimeout(db, job)
      ? endTimedOut(db, job)
      : lose(db, job, error, loss ? loss.jobs - 1 : null, loss?.id ?? null)
    reclaimed(db, job, fate)
    if (db.clock.monotonic() >= end && job !== jobs.at(-1)) return false
  }
  return jobs.length < stepRows
}

/** Why the end of a process says nothing about what ran in it, or null. */
const whyNoEvidence = (db: Db, worker: WorkerOf): string | null =>
  worker.boot === db.processes.me.boot ? hadBegunToStop(db, worker) : 'Its host was restarted while it ran'

function hadBegunToStop(db: Db, worker: WorkerOf): string | null {
  const stopping = db.get(
    `SELECT 1 FROM gq_workers WHERE instance = ?1 AND stopping_at IS NOT NULL AND (ended_at IS NULL OR id = ?2)`,
    ...[worker.instance, worker.id],
  )
  return stopping ? 'Its process had begun to stop, and ended while it ran' : null
}

function excused(why: string, worker: WorkerOf): JobError {
  return { name: 'LeaseLost', message: `${why} (${nameOf(worker)}). No job is charged for that.`, stack: null }
}

/** A process, for people. */
function nameOf(worker: WorkerOf | undefined): string {
  if (!worker) return 'a worker that is not known'
  return worker.pid === null
    ? `worker ${worker.name} on ${worker.host}`
    : `process ${worker.pid} of worker ${worker.name}`
}

function lost(what: 'ended' | 'fell silent' | 'stood still', { jobs }: Loss, how: string): JobError {
  const company = jobs > 1 ? `it and ${jobs - 1} ${jobs === 2 ? 'other' : 'others'} ran` : 'it ran alone'
  return { name: 'LeaseLost', message: `Its process ${what} while ${company} (${how}).`, stack: null }
}

function reclaimed(db: Db, { id, queue, type, lease_token: token }: RunningJob, fate: Fate): void {
  db.events.push({ event: 'reclaimed', id, queue, type, fate })
  db.lost.push({ id, token })
}
