import { released } from '../../model/decide.ts'
import { GopherQueueError } from '../../model/errors.ts'
import { mayBeUnheard } from '../../model/loss.ts'
import { type Operation, operations } from '../operations.ts'
import type { LeaseRequest } from '../store.ts'
import type { Db } from './db.ts'
import { type RunningJob, selectRunning, write } from './decided.ts'
import { reclaimUnreceived } from './reclaim.ts'
import type { Request } from './request.ts'
import type { Read } from './session.ts'

// Whether what a worker on the network was given has reached it. Nothing is taken back because a connection closed, as the
// answer may have arrived: the worker's next request says what it has.

/** Lost answers in a row after which a worker gets one job at a time. */
const lostInARow = 3
/** Most jobs that one request gives back, so that it holds nobody up: a later one goes on. */
const stepRows = 500

/** Throws when a token or worker id is of another file than this one: there it would fit by chance. */
export function mustBeOf(db: Db, epoch: string, operation: Operation): void {
  if (epoch === db.epoch) return
  if (!('fields' in operations[operation])) throw unknownWorker() // all but reports name a worker
  throw new GopherQueueError(
    'LEASE_LOST',
    'The token is of another file than the one that is here now, which was restored or put in its place. What this attempt reports is not taken.',
  )
}

export const unknownWorker = (): GopherQueueError =>
  new GopherQueueError(
    'WORKER_UNKNOWN',
    'This worker is not known here: it was signed off, or the file is another one. It gets no jobs until it registers again.',
  )

/** Who asks for jobs, as the file knows it: in one statement, since each lease begins with it. */
export interface Asker {
  lost_answers: number
  /** Number of the last request that got jobs; judged once no answer to it can still arrive. */
  asked: number | null
  /** Its row says that it is stopping, lost, or was seen in the future: one that takes jobs is none of these, and is corrected. */
  isBack: 0 | 1
  /** Names its process. */
  instance: string
  /** How many jobs it runs. */
  running: number
  /** Whether any job that may start or runs has limited company: mostly none, and then nothing more is looked at. */
  restricted: 0 | 1
  /** JSON of each worker of its process whose handlers go on although their attempts are over. */
  overdue: string | null
}

/** The row of who asks; undefined when it is not known here, or was signed off. */
export function askerOf(db: Db, { input: { worker }, epoch }: Request<'lease'>): Asker | undefined {
  if (epoch !== undefined && epoch !== db.epoch) return undefined
  return db.get<Asker>(...readAsker(db, worker))
}

/** What `askerOf` reads. */
export const readAsker = (db: Db, worker: number): Read =>
  db.isFile ? [askers.onFile, worker, db.now] : [askers.onServer, worker, db.now, db.leasedFrom]

const selectAsker = (isRunning: string): string =>
  `SELECT lost_answers, asked, instance, stopping_at IS NOT NULL OR loss_id IS NOT NULL OR seen_at > ?2 AS isBack,
          (SELECT COUNT(*) FROM gq_jobs WHERE ${isRunning} AND worker_id = ?1) AS running,
          EXISTS (SELECT 1 FROM gq_jobs WHERE company IS NOT NULL AND finished_at IS NULL) AS restricted,
          (SELECT string_agg(overdue, '|') FROM gq_workers o
           WHERE o.instance = w.instance AND overdue <> '[]') AS overdue
   FROM gq_workers w WHERE id = ?1 AND ended_at IS NULL`
const askers = {
  onFile: selectAsker(`state = 'running'`),
  onServer: selectAsker(`state = 'running' AND lease_token >= ?3`),
}

/** Compares the jobs that a worker says it has with those that it was given, and takes back what it never received. */
export function confirmReceived(db: Db, request: Request<'lease'>): void {
  if (!request.input.holds) return
  const row = askerOf(db, request)
  if (row) receive(db, request.input, row)
}

/** How many jobs a worker may hold now. */
export const slotsOf = ({ slots }: LeaseRequest, { lost_answers: lost, running }: Asker): number =>
  lost < lostInARow ? slots : Math.min(slots, running + 1)

/** Confirms what the worker names, gives back what it never received, and counts its answers that were lost in a row. */
function receive(
  db: Db,
  { worker, holds = [], ask, since = ask }: LeaseRequest,
  { lost_answers: before, asked }: Asker,
): void {
  db.run(
    `UPDATE gq_jobs SET renewed_at = ?3
     WHERE state = 'running' AND worker_id = ?1 AND renewed_at IS NULL AND lease_token IN (SELECT value FROM json_each(?2))`,
    ...[worker, JSON.stringify(holds), db.now],
  )
  // What an answer gave that it may still receive is on its way.
  const lost = db.all<RunningJob>(
    `${selectRunning}
     WHERE j.state = 'running' AND j.worker_id = ?1 AND j.renewed_at IS NULL AND (CAST(?2 AS INTEGER) IS NULL OR j.asked IS NULL OR j.asked < ?2)
     LIMIT ${stepRows}`,
    ...[worker, since ?? null],
  )
  const [returned, reclaimed] = [lost.filter(mayBeUnheard), lost.filter((job) => !mayBeUnheard(job))]
  for (const job of reclaimed) reclaimUnreceived(db, job) // first: the others of its answer are its company
  for (const job of returned) write(db, job, released(job, db.now, null, true))
  if (asked !== null && since !== undefined && asked >= since) return // that answer is not judged yet
  const wasLost = lost.some((job) => asked === null || job.asked === asked)
  if (asked !== null || wasLost)
    db.later(
      `UPDATE gq_workers SET lost_answers = ?2, asked = NULL WHERE id = ?1`,
      ...[worker, wasLost ? before + 1 : 0],
    )
}

/** Its next request says whether the answer with these jobs has arrived. */
export function gave(db: Db, { worker, ask }: LeaseRequest): void {
  if (ask !== undefined) db.later(`UPDATE gq_workers SET asked = ?2 WHERE id = ?1`, worker, ask)
}
