import { released } from '../../model/decide.ts'
import type { Db } from './db.ts'
import { type RunningJob, selectRunning, write } from './decided.ts'
import { goesOn } from './losses.ts'
import { type Identity, instanceOf, isSame } from './processes.ts'
import { stepEnd } from './steps.ts'

/** A row of gq_workers. */
export interface WorkerRow extends Identity {
  id: number
  name: string
  sources: string
  slots: number
  /** Names its process: all workers of one process have the same. */
  instance: string
  /** JSON: ids of jobs whose attempt is over while their handler still runs in this process. */
  overdue: string
  /** Answers to lease requests that it did not receive, since it last confirmed one. */
  lost_answers: number
  /** The loss in which its process is counted, until it shows a sign of life again. */
  loss_id: number | null
  /** Number of the last request that got it jobs and of which it is not known yet whether its answer arrived. */
  asked: number | null
  started_at: number
  seen_at: number
  stopping_at: number | null
  ended_at: number | null
}

/** A process that is there and has said nothing for a minute is stopped or frozen: nobody is to wait for its workers. */
export function isWorking(db: Db, row: Identity & Pick<WorkerRow, 'seen_at'>): boolean {
  if (isSame(row, db.processes.me)) return true
  if (db.processes.isAlive(row) === false) return false
  return Math.abs(db.now - row.seen_at) < 60_000 // a later one is of a clock that was set back
}

/** A worker's row without what may be large: 20,000 workers have 640 MB of sources. */
export type WorkerOf = Pick<WorkerRow, 'id' | 'name' | 'instance' | 'started_at' | 'seen_at'> & Identity
export const workerColumns = 'id, name, instance, host, pid, pid_started, boot, pid_space, started_at, seen_at'

/** Most workers without a job that one look asks the operating system about. */
const asked = 100
const askedUpTo = new WeakMap<Db, number>()

const localWorkers = `SELECT ${workerColumns} FROM gq_workers WHERE ended_at IS NULL AND pid IS NOT NULL`

const holding = (isRunning: string): string =>
  `${localWorkers} AND id IN (SELECT DISTINCT worker_id FROM gq_jobs WHERE ${isRunning})`

const holders = (db: Db): WorkerOf[] =>
  db.isFile
    ? db.all(holding(`state = 'running'`))
    : db.all(holding(`state = 'running' AND lease_token >= ?1`), db.leasedFrom)

/** Asks about each process once, however many workers it has. */
function goneBy(db: Db): (row: WorkerOf) => boolean {
  const alive = new Map<string, boolean | null>()
  return (row) => {
    const key = `${row.host} ${instanceOf(row)}`
    if (!alive.has(key)) alive.set(key, db.processes.isAlive(row))
    return alive.get(key) === false
  }
}

/** Workers whose process is gone: of all that hold jobs, and in turn, so many a look, of those that hold none. */
export function workersGone(db: Db): WorkerOf[] {
  const some = db.all<WorkerOf>(`${localWorkers} AND id > ?1 ORDER BY id LIMIT ${asked}`, askedUpTo.get(db) ?? 0)
  const isGone = goneBy(db)
  const gone = new Map([...holders(db), ...some].filter(isGone).map((row) => [row.id, row]))
  foundGone.set(db, [...gone.values()])
  if (!some.some(isGone)) askedUpTo.set(db, some.length < asked ? 0 : some.at(-1)!.id) // else they are ended first
  return [...gone.values()]
}

const foundGone = new WeakMap<Db, WorkerOf[]>()

/** Those that the last look has found gone, which was on a read, and that nobody has ended since. */
export const stillGone = (db: Db): WorkerOf[] =>
  (foundGone.get(db) ?? []).filter(
    ({ id }) => db.get(`SELECT 1 FROM gq_workers WHERE id = ?1 AND ended_at IS NULL`, id) !== undefined,
  )

/** Ends a worker; what it still holds goes back, uncharged. */
export function unregister(db: Db, id: number): null {
  db.atomic(() => {
    const jobs = db.all<RunningJob>(`${selectRunning} WHERE j.state = 'running' AND j.worker_id = ?1`, id)
    giveBack(db, id, jobs)
    db.run(`UPDATE gq_workers SET ended_at = ?2 WHERE id = ?1`, id, db.now)
  })
  return null
}

/** Its process lives, and the handlers of what it has not reported may go on. */
function giveBack(db: Db, worker: number, jobs: RunningJob[], until = Number.POSITIVE_INFINITY): void {
  const back: { id: number; token: number }[] = []
  for (const job of jobs) {
    write(db, job, released(job, db.now, null))
    back.push({ id: job.id, token: job.token })
    if (db.clock.monotonic() >= until) break
  }
  goesOn(db, worker, ...back)
}

/** Jobs that go back in the transaction that signs their worker off. */
const few = 20

/** Whether a worker holds more than may go back at once. */
export const holdsMany = (db: Db, id: number): boolean =>
  db.all(`SELECT 1 FROM gq_jobs WHERE state = 'running' AND worker_id = ?1 LIMIT ${few + 1}`, id).length > few

/** Gives back what a worker holds until the clock says that the step is over. */
export function releaseSome(db: Db, id: number): void {
  const end = stepEnd(db)
  const select = `${selectRunning} WHERE j.state = 'running' AND j.worker_id = ?1 LIMIT ${few}`
  for (let left = few; left === few && db.clock.monotonic() < end; ) {
    const jobs = db.all<RunningJob>(select, id)
    left = jobs.length
    giveBack(db, id, jobs, end)
  }
}

/** Written before a worker waits for its handlers: a process that is killed meanwhile is no evidence against them. */
export function stopping(db: Db, id: number): null {
  db.run(`UPDATE gq_workers SET stopping_at = ?2 WHERE id = ?1`, id, db.now)
  return null
}
