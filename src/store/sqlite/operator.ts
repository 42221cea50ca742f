import { cancelled, type Decision, leaseEnded, mayBeRemoved, ranNow, retried } from '../../model/decide.ts'
import { GopherQueueError, invalid, notFound } from '../../model/errors.ts'
import { isTerminal, type State } from '../../model/lifecycle.ts'
import type { Fate, Input, Output, QueueSettings } from '../store.ts'
import { admitNamed, wrongNames } from './admission.ts'
import { leaveCause } from './causes.ts'
import type { Db } from './db.ts'
import { type Changing, runningJob, write } from './decided.ts'
import { goesOn } from './losses.ts'
import { makeQueue, mayForget } from './names.ts'
import { settle, unsettle } from './places.ts'
import { rateOf, settleRate } from './rate.ts'
import { type EndedJob, keepReceipt, lastToken, reportsEnd } from './receipts.ts'
import { pick } from './search.ts'
import { stepEnd } from './steps.ts'
import { keyBusy, uniqueHolder } from './submit.ts'

// What people ask for: each event refuses with NOT_FOUND or INVALID_STATE and then changes nothing.

interface Found extends Changing {
  state: State
  attempt: number
  deadline: number | null
  cancelRequestedAt: number | null
  leaseSeq: number | null
  token: number | null
  key: string | null
  uniqueKey: string | null
}

function find(db: Db, id: number): Found {
  admitNamed(db, id)
  const job = db.get<Found>(
    `SELECT id, queue, type, priority, concurrency_key, state, attempt, deadline, cancel_requested_at AS cancelRequestedAt,
            lease_seq AS leaseSeq, lease_token AS token, idempotency_key AS key,
            unique_key AS uniqueKey, cause
     FROM gq_jobs WHERE id = ?1`,
    id,
  )
  if (!job) throw notFound(id)
  return job
}

/** What each event makes of a job; null, and nothing is changed, where it does not fit the job's state. */
const events = {
  cancel: (db: Db, job: Found) => decided(db, job, cancelled(job, db.now)),
  /** One that was inserted with a name that cannot be defined would be ready for ever. */
  retry: (db: Db, job: Found) =>
    decided(db, job, wrongNames(job) === null && takenBy(db, job) === undefined ? retried(job, db.now) : null),
  runNow: (db: Db, job: Found) => decided(db, job, ranNow(job)),
  remove: removeFound,
}

const decided = (db: Db, job: Found, decision: Decision | null): Fate | null => decision && write(db, job, decision)

/** The job that holds the key of one that has ended; the write lock is held, so that none takes it between. */
function takenBy(db: Db, { queue, type, uniqueKey, state }: Found): number | 'busy' | undefined {
  if (uniqueKey === null || !isTerminal(state)) return undefined
  const free = db.mayTake('unique', queue, type, uniqueKey)
  return uniqueHolder(db, queue, type, uniqueKey)?.id ?? (free ? undefined : 'busy')
}

function refuse(job: Found, event: keyof typeof events): never {
  const { id, state } = job
  const wrong = event === 'retry' ? wrongNames(job) : null
  const why = wrong === null ? `'${event}' does not fit that.` : `it can never run. ${wrong}`
  throw new GopherQueueError('INVALID_STATE', `Job ${id} is ${state}: ${why} Nothing was changed.`, {
    details: { state },
  })
}

const keyTaken = ({ id, uniqueKey }: Found, jobId: number): GopherQueueError =>
  new GopherQueueError(
    'KEY_TAKEN',
    `Job ${id} cannot run again now: its unique key '${uniqueKey}' is held by job ${jobId}, which has not ended. Nothing was changed: retry it when that has ended.`,
    { details: { jobId } },
  )

/** Cancels at once what is not running; asks a running one to stop. */
export function cancel(db: Db, id: number): Fate {
  const job = find(db, id)
  return events.cancel(db, job) ?? refuse(job, 'cancel')
}

/** Ends the lease of a running job that was asked to stop and does not. */
export function endLease(db: Db, id: number): Fate {
  return db.atomic(() => {
    const { state, token } = find(db, id)
    const job = state === 'running' ? runningJob(db, { id, token: token! }) : undefined
    const decision = job ? leaseEnded(job, db.now) : null
    if (job && decision) {
      goesOn(db, job.workerId, { id, token: token! }) // a retry must not start beside its handler in the same process
      return write(db, job, decision)
    }
    const why = job ? 'it was not asked to stop. Cancel it first, and end its lease if it does not heed that.' : 'only a running job has a lease.' // biome-ignore format: long
    throw new GopherQueueError('INVALID_STATE', `Job ${id} is ${state}: ${why} Nothing was changed.`, { details: { state } }) // biome-ignore format: long
  })
}

/** An operator's retry: a fresh attempt budget, the history stays, a deadline that has passed is removed. */
export function retry(db: Db, id: number): Fate {
  return db.atomic(() => {
    const job = find(db, id)
    const holder = takenBy(db, job)
    if (holder === 'busy') throw keyBusy(`unique key '${job.uniqueKey}'`)
    if (holder !== undefined) throw keyTaken(job, holder)
    return events.retry(db, job) ?? refuse(job, 'retry')
  })
}

/** Makes a job ready that waits for its time: a delay, a retry, or what its handler has put off. */
export function runNow(db: Db, id: number): Fate {
  return db.atomic(() => {
    const job = find(db, id)
    return events.runNow(db, job) ?? refuse(job, 'runNow')
  })
}

/** Deletes an ended job and its history. */
export function remove(db: Db, id: number): null {
  return db.atomic(() => {
    const job = find(db, id)
    return removeFound(db, job) ? null : refuse(job, 'remove')
  })
}

/** An event for each job of a page that it fits, as far as a step goes; the others stay as they are. */
export function many(db: Db, { event, filter }: Input<'many'>): Output<'many'> {
  if (filter.order === 'due') throw invalid("What acts on many jobs goes by submission: leave order 'due' away.") // biome-ignore format: long
  return db.atomic(() => {
    const ends = event === 'retry' || event === 'remove' // what fails and has not ended is none of these
    const meant = ends && filter.cause !== undefined ? { state: 'dead' as const, ...filter } : filter
    const { ids, next: on } = pick(db, meant, 'write')
    const end = stepEnd(db)
    let changed = 0
    for (const [i, id] of ids.entries()) {
      if (events[event](db, find(db, id))) changed++
      if (db.clock.monotonic() >= end && i < ids.length - 1) return { changed, next: id }
    }
    return { changed, next: on }
  })
}

/** What a person removes takes its key along: whoever submits it again means it. False where the job's state does not fit. */
function removeFound(db: Db, job: Found): boolean {
  if (!mayBeRemoved(job.state)) return false
  const ended = db.get<EndedJob>(`SELECT id, state, reason, ${lastToken} AS token FROM gq_jobs WHERE id = ?1`, job.id, reportsEnd(db)) // biome-ignore format: one call
  keepReceipt(db, ended!)
  deleteJob(db, job)
  if (job.key !== null)
    db.run(
      `DELETE FROM gq_keys WHERE queue = ?1 AND type = ?2 AND key = ?3 AND job_id = ?4`,
      ...[job.queue, job.type, job.key, job.id],
    )
  return true
}

/** Its key goes with it only if the key's window is over. */
export function deleteJob(db: Db, job: Pick<Found, 'id' | 'queue' | 'type' | 'state' | 'key' | 'cause'>): void {
  leaveCause(db, job)
  db.later(`DELETE FROM gq_jobs WHERE id = ?1`, job.id)
  if (job.key !== null)
    db.later(
      `DELETE FROM gq_keys WHERE queue = ?1 AND type = ?2 AND key = ?3 AND job_id = ?4 AND expires_at <= ?5`,
      ...[job.queue, job.type, job.key, job.id, db.now],
    )
  db.moved(job.queue, job.type, job.state, null)
}

/** Pauses, resumes, limits a queue, or sets how long it keeps ended jobs (for jobs that end from now on). */
export function setQueue(db: Db, settings: QueueSettings): null {
  const row = db.queue(settings.queue)
  makeQueue(db, row)
  const { paused = row.paused === 1, maxDepth = row.max_depth, maxRunning = row.max_running } = settings
  const { maxRunningPerKey = row.max_running_per_key, rate = rateOf(row) } = settings
  const { keepSucceeded = row.keep_succeeded, keepCancelled = row.keep_cancelled, keepDead = row.keep_dead } = settings
  db.run(
    `INSERT INTO gq_queues (name, paused, max_depth, max_running, max_running_per_key, keep_succeeded, keep_cancelled, keep_dead, changed,
                            rate_max, rate_per)
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
     ON CONFLICT (name) DO UPDATE SET paused = ?2, max_depth = ?3, max_running = ?4, max_running_per_key = ?5,
       keep_succeeded = ?6, keep_cancelled = ?7, keep_dead = ?8, changed = ?9, rate_max = ?10, rate_per = ?11`,
    ...[row.name, Number(paused), maxDepth, maxRunning, maxRunningPerKey, keepSucceeded, keepCancelled, keepDead],
    ...[db.nextChange(), rate?.max ?? null, rate?.per ?? null],
  )
  db.resumed.add(row.name)
  mayForget(db, row.name)
  const limited = { max_depth: maxDepth, max_running: maxRunning, max_running_per_key: maxRunningPerKey }
  const kept = { keep_succeeded: keepSucceeded, keep_cancelled: keepCancelled, keep_dead: keepDead }
  const before = row.max_running_per_key
  Object.assign(row, { paused: Number(paused), ...limited, ...kept }) // for the rest of this transaction
  if (settings.rate !== undefined) {
    Object.assign(row, { rate_max: rate?.max ?? null, rate_per: rate?.per ?? null })
    if (!rate) db.run('DELETE FROM gq_starts WHERE queue = ?1', row.name)
    settleRate(db, row)
  }
  if (maxRunningPerKey !== before) {
    unsettle(db, row.name)
    settle(db, stepEnd(db))
  }
  return null
}
