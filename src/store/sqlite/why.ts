import { notAdmitted as refusedJob } from '../../model/decide.ts'
import { formatMs } from '../../model/duration.ts'
import { notFound } from '../../model/errors.ts'
import { type Job, priorities } from '../../model/job.ts'
import type { Worker } from '../store.ts'
import type { Db } from './db.ts'
import { overdueFor } from './losses.ts'
import { job as find, workers } from './queries.ts'

const countedAhead = 10_000

/** One sentence that says why a job is not running, or what became of it, and what happens next. */
export function why(db: Db, id: number): string {
  const job = find(db, id)
  if (!job) return notFound(id).message
  const at = (ms: number) => instant(db, ms)
  switch (job.state) {
    case 'succeeded':
      return `Job ${id} succeeded at ${at(job.finishedAt!)}, on attempt ${job.attempt}; nothing more happens.${job.warning ? ` ${job.warning}` : ''}`
    case 'cancelled':
      return `Job ${id} was cancelled at ${at(job.finishedAt!)}; it runs again only if an operator retries it.`
    case 'dead': {
      const reasons = {
        exhausted: lossOf(db, id)
          ? `it has no attempt left: ${lastEnd(db, job)}`
          : `all of its ${job.maxAttempts} attempts failed`,
        permanent: notAdmitted(db, id) ?? 'its handler reported a permanent error',
        timeout: 'an attempt ran out of time and onTimeout is dead',
        expired: 'its deadline passed before an attempt started',
      }
      return `Job ${id} is dead since ${at(job.finishedAt!)}: ${reasons[job.reason!]}; it runs again only if an operator retries it.`
    }
    case 'running': {
      const lease = `leased by worker ${job.worker ?? 'unknown'} until ${at(job.leaseExpiresAt!)} ${job.leaseExpiresAt! > db.now ? '(renewed while the worker lives)' : '(not renewed: it is taken soon, unless it is renewed first)'}`
      return job.cancelRequestedAt === null
        ? `Job ${id} is running attempt ${job.attempt}, ${lease}.`
        : `Job ${id} is running attempt ${job.attempt} and was asked to stop, ${lease}; it ends cancelled unless its handler succeeds first.`
    }
    case 'scheduled': {
      const reason =
        job.attempt > 0
          ? `to retry: ${lastEnd(db, job)} (${job.attemptsLeft} attempts left)`
          : 'as it was submitted for later'
      return `Job ${id} waits until ${at(job.runAt!)}, ${reason}; then it is ready, in its old place.`
    }
    case 'ready':
      return [whyReady(db, job), lossOf(db, id), companyOf(job)].filter(Boolean).join(' ')
  }
}

/** What its last attempt came to, as a clause. */
function lastEnd(db: Db, { id, attempt }: Job): string {
  const loss = lossOf(db, id)
  if (loss) return loss.charAt(0).toLowerCase() + loss.slice(1, -1)
  return attempt === 1 ? 'its attempt failed' : `the last of its ${attempt} attempts failed`
}

/** What is recorded of its last attempt. */
function lastRecord(db: Db, id: number) {
  return db.get<{ outcome: string; name: string; message: string }>(
    `SELECT outcome, error_name AS name, error_message AS message FROM gq_attempts
     WHERE job_id = ?1 ORDER BY attempt DESC LIMIT 1`,
    id,
  )
}

function lossOf(db: Db, id: number): string | null {
  const last = lastRecord(db, id)
  return last?.outcome === 'lost' ? last.message : null
}

function notAdmitted(db: Db, id: number): string | null {
  const last = lastRecord(db, id)
  return last?.name === refusedJob ? `it could not be admitted: ${last.message}` : null
}

function companyOf({ company }: Job): string | null {
  if (company === null) return null
  const room = company === 0 ? 'holds nothing else' : `holds at most ${company} others`
  return `Until an attempt of it ends, it starts only in a process that ${room}; a process whose next job it is takes none of its class or lower before it.`
}

/** Whether each worker that could take it is of a process that runs a job of limited company, and has no room beside it. */
function heldUp(db: Db, able: Worker[]): string | null {
  const full = able.map(({ id }) =>
    db.get<{ id: number; company: number; worker: string }>(
      `SELECT j.id, j.company, w.name AS worker
       FROM gq_workers own JOIN gq_workers w ON w.instance = own.instance AND w.ended_at IS NULL
       JOIN gq_jobs j ON j.state = 'running' AND j.worker_id = w.id
       WHERE own.id = ?1 AND j.company IS NOT NULL AND j.company + 1 <= (
         SELECT COUNT(*) FROM gq_jobs WHERE state = 'running' AND worker_id IN (
           SELECT id FROM gq_workers WHERE instance = own.instance AND ended_at IS NULL))
       ORDER BY j.company LIMIT 1`,
      id,
    ),
  )
  const first = full[0]
  if (!first || full.includes(undefined)) return null
  const beside = first.company === 0 ? 'alone' : `beside ${first.company} others at most`
  return `worker ${first.worker} runs job ${first.id} ${beside}, as a process was lost with it; it runs when that has ended, or in another process.`
}

/**
 * Whether each worker with a free slot is of a process in which a handler of the job goes on. A remote worker may never say
 * that one has ended: without the limit the job would seem to be kept from it for ever.
 */
function keptBack(db: Db, job: Job, able: Worker[]): string | null {
  const free = able.filter((worker) => worker.running < worker.slots)
  const old = free.map(({ id }) =>
    db.get<{ worker: string; since: number }>(
      `SELECT w.name AS worker, value ->> 'since' AS since
       FROM gq_workers own JOIN gq_workers w ON w.instance = own.instance JOIN json_each(w.overdue)
       WHERE own.id = ?1 AND value ->> 'id' = ?2 AND (w.pid IS NOT NULL OR ABS(?3 - value ->> 'since') < ${overdueFor})`,
      ...[id, job.id, db.now],
    ),
  )
  const first = old[0]
  if (!first || old.includes(undefined)) return null
  return `the process of worker ${first.worker} still runs a handler of it whose attempt is over since ${instant(db, first.since)}; it runs in another process, or there when that handler has ended, at the latest ${formatMs(overdueFor)} after that process heard of it.`
}

function whyReady(db: Db, job: Job): string {
  const { id } = job
  const { blocked } = db.get<{ blocked: number }>(`SELECT blocked FROM gq_jobs WHERE id = ?1`, id)!
  if (blocked === 2)
    return `Job ${id} was inserted with plain SQL and is not admitted yet: the next transaction of any process that works on this file takes it in.`
  const { paused, max_running, max_running_per_key, counts } = db.queue(job.queue)
  if (paused) return `Job ${id} is ready, but queue '${job.queue}' is paused; it runs after a resume.`
  const able = workers(db).filter((w) => w.alive && w.sources.some((s) => s.queue === job.queue && s.type === job.type))
  if (able.length === 0)
    return `Job ${id} is ready, but no live worker handles type '${job.type}' of queue '${job.queue}'; it runs when one starts.`
  if (blocked === 1)
    return `Job ${id} is ready and waits for others with its concurrency key '${job.concurrencyKey}': of type '${job.type}' in queue '${job.queue}' at most ${max_running_per_key} of a key run at once; it is let in when its turn in the key comes.`
  if (max_running !== null && counts.running >= max_running)
    return `Job ${id} is ready, but queue '${job.queue}' runs ${counts.running} jobs and may run ${max_running} at once; it runs when one of them has ended and it is the first in line.`
  const priority = priorities.indexOf(job.priority)
  const ahead = priorities
    .slice(0, priority + 1)
    .map((name, p) => ({ name, count: aheadInClass(db, job.queue, job.type, p, p < priority ? null : id) }))
    .filter(({ count }) => count > 0)
    .map(({ name, count }) => `${count >= countedAhead ? `${countedAhead} or more` : count} ${name}`)
  const slots = able.reduce((sum, w) => sum + w.slots - w.running, 0)
  const limited = ahead.length === 0 && (heldUp(db, able) ?? keptBack(db, job, able))
  if (limited) return `Job ${id} is ready, but ${limited}`
  if (ahead.length === 0)
    return `Job ${id} is ready and first of its type in queue '${job.queue}'; it runs when one of ${able.length} worker(s) has a free slot (${slots} free now).`
  return `Job ${id} is ready and waits behind ${ahead.join(', ')} of type '${job.type}' in queue '${job.queue}', for ${able.length} worker(s) with ${slots} free slot(s).`
}

/** Ready jobs of a class, up to 10,000; of the job's own class only those before it. */
function aheadInClass(db: Db, queue: string, type: string, priority: number, before: number | null): number {
  const row = db.get<{ n: number }>(
    `SELECT COUNT(*) AS n FROM (
       SELECT 1 FROM gq_jobs
       WHERE state = 'ready' AND blocked = 0 AND queue = ?1 AND type = ?2 AND priority = ?3 AND id < COALESCE(?4, 9223372036854775807)
       LIMIT ${countedAhead})`,
    queue,
    type,
    priority,
    before,
  )
  return row!.n
}

const instant = (db: Db, ms: number): string => `${new Date(ms).toISOString()} (${relative(ms - db.now)})`

const relative = (ms: number): string => (ms >= 0 ? `in ${formatMs(ms)}` : `${formatMs(-ms)} ago`)
