import { mustBeDueBefore, refusalBy, wrongName } from '../../model/admission.ts'
import { refused } from '../../model/decide.ts'
import { checkKey, idempotencyWindow } from '../../model/job.ts'
import { isWaiting, type State } from '../../model/lifecycle.ts'
import { digestOf } from '../digest.ts'
import { countAnew } from './causes.ts'
import type { Db } from './db.ts'
import { type Changing, write } from './decided.ts'
import { enter, type Placed } from './places.ts'
import { chunk, inSteps, stepEnd } from './steps.ts'
import { takeKey } from './submit.ts'

// A job that somebody inserted with plain SQL counts, has its place and holds its keys from its admission on: the first step
// of every write transaction, of whichever process comes first. No trigger does that at the insert: on the way of our own
// submissions and outcomes triggers took a third of the time of each statement.

interface New extends Changing {
  state: State
  attempt: number
  created_at: number
  run_at: number | null
  deadline: number | null
  idempotency_key: string | null
  unique_key: string | null
}

const selectNew = `SELECT id, queue, type, priority, concurrency_key, NULL AS cause, state, attempt, created_at, run_at, deadline, idempotency_key, unique_key
  FROM gq_jobs WHERE blocked = 2`

/** In SQL: whether some jobs wait for their admission. */
export const someAreNew = 'EXISTS (SELECT 1 FROM gq_jobs WHERE blocked = 2)'

/** Admits what others have inserted, in the order in which it will run, as far as a step goes. True when some is left. */
export function admit(db: Db): boolean {
  const end = stepEnd(db)
  const most = db.isFile ? chunk : 4 * chunk // each look is a round trip
  const some = () => db.all<New>(`${selectNew} ORDER BY priority, id LIMIT ${most}`)
  return inSteps(db, end, some, (job) => admitOne(db, job))
}

/** Admits a job that an operation names, if it is still new. */
export function admitNamed(db: Db, id: number): void {
  const job = db.get<New>(`${selectNew} AND id = ?1`, id)
  if (job) admitOne(db, job)
}

/** Counts that no version writes would fail each transaction that adds to them, or that reads them: beyond 2^53 no double holds them. */
const withinBounds = `attempt = CASE WHEN attempt > 1000000 THEN 0 ELSE attempt END,
  budget_from = CASE WHEN attempt > 1000000 THEN 0 ELSE MIN(budget_from, attempt) END,
  ${['losses', 'undelivered', 'postponed'].map((name) => `${name} = MAX(0, MIN(${name}, 1000))`).join(', ')},
  company = CASE WHEN company BETWEEN 0 AND 1000000 THEN company END, asked = NULL`

function admitOne(db: Db, job: New): void {
  const { id, queue, type, state, run_at: runAt, deadline } = job
  const strange = notUtf8(db, job)
  db.later(
    `UPDATE gq_jobs
     SET blocked = 0, cause = NULL, ${withinBounds}, ready_seq = CASE WHEN state = 'ready' AND lease_seq IS NULL THEN MAX(id, ?2) ELSE ready_seq END
     WHERE id = ?1`,
    ...[id, db.sequence()],
  )
  db.moved(queue, type, null, state)
  db.again(job, id)
  db.queue(queue).unadmitted = null // this one is counted now
  const refusal = isWaiting(state) && (strange ?? refusalOf(db, job))
  if (refusal) {
    write(db, job, refused(state, refusal, db.now))
    return
  }
  if (state === 'dead' || job.attempt > 0) countAnew(db, id) // as none does that is inserted as documented
  if (state === 'ready') enter(db, job)
  db.soonest = Math.min(db.soonest, runAt ?? db.soonest, deadline ?? db.soonest)
}

const names = ['queue', 'type', 'concurrency_key', 'idempotency_key'] as const

/**
 * SQLite stores text that is not UTF-8; whoever reads such a name gets U+FFFD in it, and finds no row by what was read: no
 * worker takes the job, and counters stand for another queue than its own. The row gets its names as they are read.
 */
function notUtf8(db: Db, job: New): string | null {
  if (
    job.unique_key?.includes('\ufffd') &&
    !db.get(`SELECT 1 FROM gq_jobs WHERE id = ?1 AND unique_key = ?2`, job.id, job.unique_key)
  ) {
    db.run(`UPDATE gq_jobs SET unique_key = NULL WHERE id = ?1`, job.id) // as it is read, another job may hold it
    return `The unique_key ${JSON.stringify(job.unique_key)} is not UTF-8 as it was inserted.`
  }
  const isStored = (name: (typeof names)[number]) =>
    !job[name]?.includes('\ufffd') || db.get(`SELECT 1 FROM gq_jobs WHERE id = ?1 AND ${name} = ?2`, job.id, job[name])
  const strange = names.find((name) => !isStored(name))
  if (strange === undefined) return null
  const asRead = names.map((name) => job[name])
  db.run(`UPDATE gq_jobs SET (${names}) = (${names.map(() => '?')}) WHERE id = ?`, ...asRead, job.id)
  return `The ${strange} ${JSON.stringify(job[strange])} is not UTF-8 as it was inserted.`
}

/** What is wrong with the names of a row. */
export const wrongNames = ({ queue, type, concurrency_key }: Placed): string | null =>
  wrongName({ queue, type, concurrencyKey: concurrency_key })

/** Why a job may not run as it was inserted: `submit` would have refused it, but here its transaction is over. */
function refusalOf(db: Db, job: New): string | null {
  const { id, queue, type, idempotency_key, created_at, run_at: due, deadline } = job
  const wrong = wrongNames(job)
  if (wrong !== null) return wrong
  return refusalBy(() => {
    if (due !== null && deadline !== null) mustBeDueBefore(deadline, due)
    if (job.unique_key !== null) checkKey(job.unique_key, 'uniqueKey')
    if (idempotency_key === null) return null
    checkKey(idempotency_key)
    const { payload } = db.get<{ payload: string }>(`SELECT payload FROM gq_jobs WHERE id = ?1`, id)!
    const until = created_at + idempotencyWindow
    const holder = takeKey(db, { queue, type, key: idempotency_key, id, digest: digestOf(payload), until })
    return holder && holder.job_id !== id ? `Its idempotency key belongs to job ${holder.job_id}.` : null
  })
}
