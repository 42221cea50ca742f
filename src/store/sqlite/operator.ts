import { GopherQueueError, notFound } from '../../model/errors.ts'
import { type Event, next, type State } from '../../model/lifecycle.ts'
import type { Fate, Input, Output, QueueSettings } from '../store.ts'
import { admitNamed } from './admission.ts'
import { end, makeReady } from './attempt.ts'
import type { Db } from './db.ts'
import { type Placed, settle, unsettle } from './places.ts'
import { keepReceipt } from './receipts.ts'
import { pick } from './search.ts'
import { stepMs } from './steps.ts'

// What people ask for: each event refuses with NOT_FOUND or INVALID_STATE and then changes nothing.

type Found = Placed & { state: State; token: number | null; key: string | null }

function find(db: Db, id: number): Found {
  admitNamed(db, id)
  const job = db.get<Found>(
    `SELECT id, queue, type, priority, concurrency_key, state, lease_token AS token, idempotency_key AS key
     FROM gq_jobs WHERE id = ?1`,
    id,
  )
  if (!job) throw notFound(id)
  return job
}

function mustFit({ id, state }: Found, event: Event): void {
  if (next(state, event) === undefined)
    throw new GopherQueueError(
      'INVALID_STATE',
      `Job ${id} is ${state}: '${event}' does not fit that. Nothing was changed.`,
      {
        details: { state },
      },
    )
}

/** Cancels at once what is not running; asks a running one to stop. */
export function cancel(db: Db, id: number): Fate {
  const job = find(db, id)
  if (job.state !== 'running') mustFit(job, 'cancel')
  return cancelFound(db, job)
}

function cancelFound(db: Db, job: Found): Fate {
  const { id, state } = job
  if (state !== 'running') return end(db, job, state, 'cancel', null)
  db.run(`UPDATE gq_jobs SET cancel_requested_at = COALESCE(cancel_requested_at, ?2) WHERE id = ?1`, id, db.now)
  db.events.push({ event: 'cancelRequested', id, token: job.token! })
  return { state: 'running', runAt: null, reason: null }
}

/** An operator's retry: a fresh attempt budget, the history stays. */
export function retry(db: Db, id: number): Fate {
  return db.atomic(() => {
    const job = find(db, id)
    mustFit(job, 'retry')
    return makeReady(db, job, job.state, 'retry')
  })
}

/** Deletes an ended job and its history. */
export function remove(db: Db, id: number): null {
  db.atomic(() => {
    const job = find(db, id)
    mustFit(job, 'remove')
    removeFound(db, job)
  })
  return null
}

/** What each event of `many` does to a job that it fits. */
const events = {
  cancel: cancelFound,
  retry: (db: Db, job: Found) => makeReady(db, job, job.state, 'retry'),
  remove: removeFound,
}

/** An event for each job of a page that it fits, as far as a step goes; the others stay as they are. */
export function many(db: Db, { event, filter }: Input<'many'>): Output<'many'> {
  return db.atomic(() => {
    const { ids, next: on } = pick(db, filter, 'write')
    const end = db.clock.monotonic() + stepMs
    let changed = 0
    for (const [i, id] of ids.entries()) {
      const job = find(db, id)
      const asked = job.state === 'running' && event === 'cancel' ? 'requestCancel' : event
      if (next(job.state, asked) === undefined) continue
      events[event](db, job)
      changed++
      if (db.clock.monotonic() >= end && i < ids.length - 1) return { changed, next: id }
    }
    return { changed, next: on }
  })
}

/** What a person removes takes its key along: whoever submits it again means it. */
function removeFound(db: Db, job: Found): void {
  keepReceipt(db, job.id)
  deleteJob(db, job)
  if (job.key !== null)
    db.run(
      `DELETE FROM gq_keys WHERE queue = ?1 AND type = ?2 AND key = ?3 AND job_id = ?4`,
      ...[job.queue, job.type, job.key, job.id],
    )
}

/** Its key goes with it only if the key's window is over. */
export function deleteJob(db: Db, job: Pick<Found, 'id' | 'queue' | 'type' | 'state' | 'key'>): void {
  db.run(`DELETE FROM gq_jobs WHERE id = ?1`, job.id)
  if (job.key !== null)
    db.run(
      `DELETE FROM gq_keys WHERE queue = ?1 AND type = ?2 AND key = ?3 AND job_id = ?4 AND expires_at <= ?5`,
      ...[job.queue, job.type, job.key, job.id, db.now],
    )
  db.moved(job.queue, job.type, job.state, null)
}

/** Pauses, resumes, limits a queue, or sets how long it keeps ended jobs (for jobs that end from now on). */
export function setQueue(db: Db, settings: QueueSettings): null {
  const row = db.queue(settings.queue)
  const { paused = row.paused === 1, maxDepth = row.max_depth, maxRunning = row.max_running } = settings
  const { maxRunningPerKey = row.max_running_per_key } = settings
  const { keepSucceeded = row.keep_succeeded, keepCancelled = row.keep_cancelled, keepDead = row.keep_dead } = settings
  db.run(
    `INSERT INTO gq_queues (name, paused, max_depth, max_running, max_running_per_key, keep_succeeded, keep_cancelled, keep_dead, changed)
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
     ON CONFLICT DO UPDATE SET paused = ?2, max_depth = ?3, max_running = ?4, max_running_per_key = ?5,
       keep_succeeded = ?6, keep_cancelled = ?7, keep_dead = ?8, changed = ?9`,
    ...[row.name, Number(paused), maxDepth, maxRunning, maxRunningPerKey, keepSucceeded, keepCancelled, keepDead],
    db.nextChange(),
  )
  db.resumed.add(row.name)
  const limited = { max_depth: maxDepth, max_running: maxRunning, max_running_per_key: maxRunningPerKey }
  const kept = { keep_succeeded: keepSucceeded, keep_cancelled: keepCancelled, keep_dead: keepDead }
  const before = row.max_running_per_key
  Object.assign(row, { paused: Number(paused), ...limited, ...kept }) // for the rest of this transaction
  if (maxRunningPerKey !== before) {
    unsettle(db, row.name)
    settle(db, db.clock.monotonic() + stepMs)
  }
  return null
}
