import { overdueFor } from '../../model/company.ts'
import { notFound } from '../../model/errors.ts'
import { type Job, priorities } from '../../model/job.ts'
import { countedAhead, type Hurdles, type LastAttempt, type Turn, waitsForItsTurn, whyNotReady, whyReady } from '../../model/why.ts' // biome-ignore format: long
import type { Source, Worker } from '../store.ts'
import type { Db } from './db.ts'
import { job as find } from './queries.ts'
import { rateOf } from './rate.ts'
import { isWorking, type WorkerOf, workerColumns } from './workers.ts'

/** One sentence that says why a job is not running, or what became of it, and what happens next. */
export function why(db: Db, id: number): string {
  const job = find(db, id)
  if (!job) return notFound(id).message
  const last = db.get<LastAttempt>(
    `SELECT outcome, error_name AS name, error_message AS message FROM gq_attempts
     WHERE job_id = ?1 ORDER BY attempt DESC LIMIT 1`,
    id,
  )
  if (job.state !== 'ready') return whyNotReady(job, last, db.queue(job.queue).paused === 1, db.now)
  const able = ableFor(db, job)
  const facts = hurdlesOf(db, job, able)
  return whyReady(job, last, facts, waitsForItsTurn(facts) ? turnOf(db, job, able) : null, db.now)
}

type Able = Pick<Worker, 'id' | 'slots' | 'running'>

/** Live workers that take jobs of a line. */
function ableFor(db: Db, { queue, type }: Source): Able[] {
  const rows = db.all<WorkerOf & Able>(
    `SELECT ${workerColumns}, slots, (SELECT COUNT(*) FROM gq_jobs WHERE state = 'running' AND worker_id = w.id) AS running
     FROM gq_workers w WHERE ended_at IS NULL AND instr(sources, ?3) > 0
       AND EXISTS (SELECT 1 FROM json_each(sources) WHERE value ->> 'queue' = ?1 AND value ->> 'type' = ?2)
     ORDER BY id`,
    ...[queue, type, JSON.stringify(type)],
  )
  return rows.filter((row) => isWorking(db, row))
}

function hurdlesOf(db: Db, { id, queue }: Job, able: Able[]): Hurdles {
  const { blocked } = db.get<{ blocked: number }>(`SELECT blocked FROM gq_jobs WHERE id = ?1`, id)!
  const row = db.queue(queue)
  const { paused, max_running, max_running_per_key, rate_free_at: again, counts } = row
  return {
    isAdmitted: blocked !== 2,
    waitsForPlace: blocked === 1,
    paused: paused === 1,
    running: counts.running,
    maxRunning: max_running,
    maxRunningPerKey: max_running_per_key,
    usedUp: again !== null && again > db.now ? { ...rateOf(row)!, again } : null,
    workers: able.length,
    free: able.reduce((sum, { slots, running }) => sum + slots - running, 0),
  }
}

function turnOf(db: Db, job: Job, able: Able[]): Turn {
  const own = priorities.indexOf(job.priority)
  const ahead = priorities.slice(0, own + 1).map((_, p) => aheadInClass(db, job, p, p < own ? null : job.id))
  if (ahead.some((count) => count > 0)) return { ahead, heldUp: [], keptBack: [] }
  const free = able.filter(({ running, slots }) => running < slots)
  return {
    ahead,
    heldUp: able.map(({ id }) => fullProcess(db, id)),
    keptBack: free.map(({ id }) => handlerOf(db, job.id, id)),
  }
}

/** The job of limited company in the process of a worker that has no room for another beside it. */
function fullProcess(db: Db, worker: number): Turn['heldUp'][0] {
  return db.get(
    `SELECT j.id, j.company, w.name AS worker
     FROM gq_workers own JOIN gq_workers w ON w.instance = own.instance AND w.ended_at IS NULL
     JOIN gq_jobs j ON j.state = 'running' AND j.worker_id = w.id
     WHERE own.id = ?1 AND j.company IS NOT NULL AND j.company + 1 <= (
       SELECT COUNT(*) FROM gq_jobs WHERE state = 'running' AND worker_id IN (
         SELECT id FROM gq_workers WHERE instance = own.instance AND ended_at IS NULL))
     ORDER BY j.company LIMIT 1`,
    worker,
  )
}

/**
 * The handler of a job that goes on in the process of a worker. A remote worker may never say that one has ended: without
 * the limit the job would seem to be kept from it for ever.
 */
function handlerOf(db: Db, job: number, worker: number): Turn['keptBack'][0] {
  return db.get(
    `SELECT w.name AS worker, CAST(value ->> 'since' AS INTEGER) AS since
     FROM gq_workers own JOIN gq_workers w ON w.instance = own.instance CROSS JOIN json_each(w.overdue)
     WHERE own.id = ?1 AND value ->> 'id' = ?2 AND (w.pid IS NOT NULL OR ABS(?3 - CAST(value ->> 'since' AS INTEGER)) < ${overdueFor})`,
    ...[worker, job, db.now],
  )
}

/** Ready jobs of a class, up to 10,000; of the job's own class only those before it. */
function aheadInClass(db: Db, { queue, type }: Job, priority: number, before: number | null): number {
  const row = db.get<{ n: number }>(
    `SELECT COUNT(*) AS n FROM (
       SELECT 1 FROM gq_jobs
       WHERE state = 'ready' AND blocked = 0 AND queue = ?1 AND type = ?2 AND priority = ?3 AND id < COALESCE(?4, 9223372036854775807)
       LIMIT ${countedAhead}) AS ahead`,
    ...[queue, type, priority, before],
  )
  return row!.n
}
