import { due, expired } from '../../model/decide.ts'
import { someAreNew } from './admission.ts'
import { seenIsOld } from './attempt.ts'
import { countOld, isCounting } from './causes.ts'
import type { Db } from './db.ts'
import { type Changing, write } from './decided.ts'
import type { Early } from './delays.ts'
import { findTypes, pruneNames, typesAreNew } from './names.ts'
import { deleteJob } from './operator.ts'
import { settle, settlingDue } from './places.ts'
import { freeRates, ratesDue } from './rate.ts'
import { type EndedJob, keepReceipt, lastToken, reportsEnd } from './receipts.ts'
import { findOver, reclaimDeadWorkers, reclaimOver, reclaimRanOut } from './reclaim.ts'
import type { Read } from './session.ts'
import { chunk, inSteps, stepEnd } from './steps.ts'
import type { Terms } from './terms.ts'
import { nextTick, schedulesDue } from './ticks.ts'
import { workersGone } from './workers.ts'

// What time does to jobs. Each step is bounded, so that a backlog of it never holds a submission up for long;
// whatever is left is taken by the next round.

/** Rows of a job's history between two looks at the clock. */
const historyChunk = 20
export const pruneEvery = 5

type Waiting = Changing & { state: 'scheduled' | 'ready'; leaseSeq: number | null; dueAt: number | null }
const selectWaiting =
  'SELECT id, queue, type, priority, concurrency_key, cause, state, lease_seq AS leaseSeq, run_at AS dueAt FROM gq_jobs'
const mayExpire = `deadline IS NOT NULL AND state IN ('scheduled', 'ready') AND blocked < 2`

const selectDue = `${selectWaiting} WHERE state = 'scheduled' AND blocked < 2 AND run_at <= ?1 ORDER BY run_at, id LIMIT ${chunk}`
const selectLate = `${selectWaiting} WHERE deadline <= ?1 AND ${mayExpire} LIMIT ${chunk}`

/** What `makeDueReady` reads, and mostly finds nothing. */
export const dueReads = ({ now }: Db): Read[] => [
  [selectDue, now],
  [selectLate, now],
]

/**
 * Due jobs become ready, jobs past their deadline die. Also part of each lease, so that the order is right at that instant.
 * True when some are left.
 */
export function makeDueReady(db: Db): boolean {
  const end = stepEnd(db)
  let number: number | undefined
  const dueNow = () => db.all<Waiting>(selectDue, db.now)
  const dueLeft = inSteps(db, end, dueNow, (job) => {
    number ??= db.nextSequence()
    write(db, job, due(job), number)
  })
  const late = () => db.all<Waiting>(selectLate, db.now)
  const lateLeft = inSteps(db, end, late, (job) => write(db, job, expired(job, db.now)))
  return dueLeft || lateLeft
}

/** Deletes ended jobs whose time to be kept is over, and keys whose window is over and whose job is gone. True when some are left. */
export function prune(db: Db): boolean {
  const end = stepEnd(db)
  const left = [pruneJobs, pruneKeys, pruneRequests, pruneWorkers, pruneLosses, pruneNames].map((some) => some(db, end))
  return left.includes(true)
}

type Pruned = EndedJob & Parameters<typeof deleteJob>[1] & { isLong: 0 | 1 }

/** `isLong`: its history has more rows than are deleted with it. */
const selectPruned = `SELECT id, queue, type, state, reason, idempotency_key AS key, cause, ${lastToken} AS token,
    EXISTS (SELECT 1 FROM gq_attempts WHERE job_id = id ORDER BY attempt LIMIT 1 OFFSET ${historyChunk}) AS "isLong"
  FROM gq_jobs WHERE prune_at <= ?1 AND blocked < 2 AND finished_at IS NOT NULL LIMIT ${chunk}`

function pruneJobs(db: Db, end: number): boolean {
  const ended = () => db.all<Pruned>(selectPruned, db.now, reportsEnd(db))
  return inSteps(db, end, ended, (job) => {
    const { id } = job
    keepReceipt(db, job)
    // A history of a thousand attempts with their stacks takes longer than all else of a step: it goes in steps first.
    for (let gone = job.isLong ? historyChunk : 0; gone === historyChunk; ) {
      gone = db.run(
        `DELETE FROM gq_attempts WHERE job_id = ?1 AND attempt IN (
           SELECT attempt FROM gq_attempts WHERE job_id = ?1 LIMIT ${historyChunk})`,
        id,
      )
      if (gone === historyChunk && db.clock.monotonic() >= end) return
    }
    deleteJob(db, job)
  })
}

function pruneKeys(db: Db, end: number): boolean {
  const over = () =>
    db.all<{ queue: string; type: string; key: string; lives: number }>(
      `SELECT queue, type, key, EXISTS (SELECT 1 FROM gq_jobs WHERE id = job_id) AS lives FROM gq_keys
       WHERE expires_at <= ?1 AND expires_at > 0 AND ${db.isFree('idempotency', 'queue', 'type', 'key')} LIMIT ${chunk}`,
      db.now,
    )
  return inSteps(db, end, over, ({ queue, type, key, lives }) =>
    db.run(
      lives
        ? `UPDATE gq_keys SET expires_at = 0 WHERE queue = ?1 AND type = ?2 AND key = ?3` // goes with its job
        : `DELETE FROM gq_keys WHERE queue = ?1 AND type = ?2 AND key = ?3`,
      ...[queue, type, key],
    ),
  )
}

function pruneRequests(db: Db, end: number): boolean {
  const over = () =>
    db.all<{ request: string }>(`SELECT request FROM gq_requests WHERE expires_at <= ?1 LIMIT ${chunk}`, db.now)
  return inSteps(db, end, over, ({ request }) => db.run(`DELETE FROM gq_requests WHERE request = ?1`, request))
}

function pruneWorkers(db: Db, end: number): boolean {
  // Of a worker on the network nobody hears that it is gone; one that comes back is there again. What it holds still counts as its own.
  const silent = () =>
    db.all<{ id: number }>(
      `SELECT id FROM gq_workers w WHERE pid IS NULL AND ended_at IS NULL AND seen_at <= ?1 - 3600000
         AND NOT EXISTS (SELECT 1 FROM gq_jobs WHERE state = 'running' AND worker_id = w.id) LIMIT ${chunk}`,
      db.now,
    )
  const old = () =>
    db.all<{ id: number }>(`SELECT id FROM gq_workers WHERE ended_at <= ?1 - 7 * 86400000 LIMIT ${chunk}`, db.now)
  const silentLeft = inSteps(db, end, silent, ({ id }) =>
    db.run(`UPDATE gq_workers SET ended_at = ?2 WHERE id = ?1`, id, db.now),
  )
  return inSteps(db, end, old, ({ id }) => db.run(`DELETE FROM gq_workers WHERE id = ?1`, id)) || silentLeft
}

/** How long a loss is kept that no attempt refers to any more, and up to which row it was looked for. */
const lossKeptFor = 7 * 86_400_000
const lossesSeen = new WeakMap<Db, number>()

/** In turn, so many a look: a loss stays as long as the history of one of its jobs, and until all of these are taken. */
function pruneLosses(db: Db): boolean {
  const rows = db.all<{ id: number; used: 0 | 1 }>(
    `SELECT id, EXISTS (SELECT 1 FROM gq_attempts WHERE loss_id = l.id) AS used
     FROM gq_losses l WHERE at <= ?1 AND id > ?2 ORDER BY id LIMIT ${chunk}`,
    ...[db.now - lossKeptFor, lossesSeen.get(db) ?? 0],
  )
  lossesSeen.set(db, rows.length < chunk ? 0 : rows.at(-1)!.id)
  const goesOn = (id: number) => db.get(`SELECT 1 FROM gq_workers WHERE loss_id = ?1 AND ended_at IS NULL`, id)
  for (const { id, used } of rows) if (!used && !goesOn(id)) db.run(`DELETE FROM gq_losses WHERE id = ?1`, id)
  return false // no hurry
}

/** Intervals are measured on the monotonic clock by whoever knows them. */
function makeEarlyReady(db: Db, early: Early[]): void {
  const end = stepEnd(db)
  for (const { id, runAt } of early) {
    const job = db.get<Waiting>(`${selectWaiting} WHERE id = ?1 AND state = 'scheduled' AND run_at = ?2`, id, runAt)
    if (job) write(db, job, due(job))
    db.early.push({ id, runAt })
    if (db.clock.monotonic() >= end) return
  }
}

/** What a round of the reaper knows besides the file. */
export interface Reaping {
  /** Workers that are known to be there: of this process, or with a request that waits. */
  workers: number[]
  terms: Terms
  /** Read after the lock was held. */
  monotonic: number
  /** When the look began: a report that came while this process waited for the lock is taken in by the next one. */
  lookedAt: number
  /** Jobs whose intervals are over although the wall clock, which was set back, does not say so. */
  early: Early[]
  /** False right after a gap in this process's time: others get to renew and report first. */
  mayTake: boolean
  /** The transactions of an opening follow each other at once: no other process might get to renew between them. */
  opening: boolean
}

/**
 * All that time has made necessary, in one transaction. True when some is left. What runs was looked at on a read
 * just before, since that takes 100 ms of 25,000 jobs: each statement names the lease as it was seen then.
 */
export function reap(db: Db, { workers, terms, monotonic, lookedAt, mayTake, opening, early }: Reaping): boolean {
  makeEarlyReady(db, early)
  const left = [terms.renew(db, monotonic)]
  if (mayTake) {
    left.push(reclaimDeadWorkers(db))
    if (!opening) {
      reclaimRanOut(db, terms, lookedAt)
      left.push(reclaimOver(db, terms, monotonic))
    }
    left.push(findOver(db, terms, monotonic))
  }
  left.push(makeDueReady(db)) // also what was just taken back: a second look would have nothing left to do
  freeRates(db)
  left.push(settle(db, stepEnd(db)), countOld(db, stepEnd(db)), prune(db))
  left.push(findTypes(db, stepEnd(db)))
  const { host } = db.processes.me
  if (left[0]) return true // the leases first: a word of a worker after its attempt's timeout says that it lived then
  db.run(
    `UPDATE gq_workers SET seen_at = ?1, ended_at = NULL, loss_id = NULL
     WHERE (host = ?3 OR pid IS NULL) AND (${seenIsOld('?1')} OR loss_id IS NOT NULL)
       AND id IN (SELECT value FROM json_each(?2))`,
    db.now,
    JSON.stringify(workers),
    host,
  )
  return left.includes(true)
}

/** Whether reap would change anything now: asked on a read, so that an idle process takes no write lock. */
export function reapIsDue(db: Db, workers: number[], terms: Terms, monotonic: number): boolean {
  const anyGone = workersGone(db).length > 0 // what it finds is taken by the transaction that follows
  if (terms.look(db, monotonic)) return true
  const row = db.get<{ due: number }>(
    `SELECT
       EXISTS (SELECT 1 FROM gq_jobs WHERE state = 'scheduled' AND blocked < 2 AND run_at <= ?1)
       OR EXISTS (SELECT 1 FROM gq_jobs WHERE deadline <= ?1 AND ${mayExpire})
       OR ${someAreNew}
       OR EXISTS (SELECT 1 FROM gq_jobs WHERE prune_at <= ?1 AND blocked < 2 AND finished_at IS NOT NULL)
       OR ${schedulesDue}
       OR ${settlingDue}
       OR ${isCounting}
       OR ${typesAreNew}
       OR EXISTS (${ratesDue})
       OR EXISTS (SELECT 1 FROM gq_keys WHERE expires_at <= ?1 AND expires_at > 0)
       OR EXISTS (SELECT 1 FROM gq_requests WHERE expires_at <= ?1)
       OR EXISTS (SELECT 1 FROM gq_workers WHERE ended_at <= ?1 - 7 * 86400000)
       OR EXISTS (SELECT 1 FROM gq_workers WHERE ${seenIsOld('?1')} AND id IN (SELECT value FROM json_each(?2))) AS due`,
    db.now,
    JSON.stringify(workers),
  )
  return row!.due === 1 || anyGone
}

/** The next instant at which a scheduled job is due, a deadline passes, a rate has room or a schedule ticks; infinity when none does. */
export function nextDue(db: Db): number {
  const { at, deadline, room } = db.get<Record<'at' | 'deadline' | 'room', number | null>>(
    `SELECT (SELECT MIN(run_at) FROM gq_jobs WHERE state = 'scheduled' AND blocked < 2) AS at,
            (SELECT MIN(deadline) FROM gq_jobs WHERE ${mayExpire}) AS deadline,
            (SELECT MIN(rate_free_at) FROM gq_queues WHERE rate_free_at IS NOT NULL) AS room`,
  )!
  return Math.min(...[at, deadline, room, nextTick(db)].map((instant) => instant ?? Number.POSITIVE_INFINITY))
}

/** The next instant at which a job, a key or an answer is to be forgotten; infinity when none is. */
export function nextToForget(db: Db): number {
  const instants = db.get<Record<string, number | null>>(
    `SELECT (SELECT MIN(prune_at) FROM gq_jobs WHERE prune_at IS NOT NULL AND blocked < 2 AND finished_at IS NOT NULL) AS job,
            (SELECT MIN(expires_at) FROM gq_keys WHERE expires_at > 0) AS key,
            (SELECT MIN(expires_at) FROM gq_requests) AS answer`,
  )!
  return Math.min(...Object.values(instants).map((instant) => instant ?? Number.POSITIVE_INFINITY))
}
