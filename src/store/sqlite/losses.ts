import { overdueFor } from '../../model/company.ts'
import type { Death } from '../../model/loss.ts'
import type { Source } from '../store.ts'
import { type Db, line } from './db.ts'

// Which jobs a process held when it ended or fell silent. Each death is settled once, in one row of gq_losses, when the
// first of its jobs is taken: all the others refer to that row, however late they are taken.

/** Most jobs that a row of gq_losses names. */
const mostNames = 100

/** Handlers that a worker's row lists at most: an app that never ends its handlers must not make it grow for ever. */
const mostOverdue = 1000

/** A handler that still runs although its attempt is over: as gq_workers.overdue lists it. */
export interface Overdue {
  id: number
  token: number
  since: number
}

const ofInstance = `IN (SELECT id FROM gq_workers WHERE ended_at IS NULL AND instance = (SELECT instance FROM gq_workers WHERE id = ?1))`

/** The loss that the process of a worker is in: settled now, from all that its workers hold, unless it is known. */
export function lossOf(db: Db, worker: number, process: string): Death {
  const known = db.get<Death>(
    `SELECT l.id, l.jobs FROM gq_workers w JOIN gq_losses l ON l.id = w.loss_id WHERE w.id = ?1`,
    worker,
  )
  if (known) return known
  // A worker without a row has no process that could be known: its own jobs stand for it. Many a remote worker never says
  // that a handler has settled, nor does one that was signed off: counted for ever, that would be company to all that the
  // process takes, and nothing charged.
  const held = `SELECT id FROM gq_jobs
    WHERE state = 'running' AND worker_id IN (SELECT ?1 UNION SELECT id FROM gq_workers WHERE id ${ofInstance})
    UNION SELECT id FROM gq_jobs WHERE id IN (
      SELECT CAST(value ->> 'id' AS INTEGER) FROM gq_workers w, json_each(overdue)
      WHERE overdue <> '[]' AND w.instance = (SELECT instance FROM gq_workers WHERE id = ?1)
        AND ((pid IS NOT NULL AND ended_at IS NULL) OR CAST(value ->> 'since' AS INTEGER) > ?2 - ${overdueFor}))`
  const { jobs } = db.get<{ jobs: number }>(`SELECT COUNT(*) AS jobs FROM (${held}) AS held`, worker, db.now)!
  const names = db.all<{ id: number; type: string }>(
    `SELECT id, type FROM gq_jobs WHERE id IN (${held} ORDER BY 1 LIMIT ${mostNames}) ORDER BY id`,
    ...[worker, db.now],
  )
  const id = db.insert(
    `INSERT INTO gq_losses (process, at, jobs, names) VALUES (?1, ?2, ?3, ?4)`,
    ...[process, db.now, jobs, JSON.stringify(names)],
  )
  db.later(`UPDATE gq_workers SET loss_id = ?2 WHERE id = ?1 OR id ${ofInstance}`, worker, id)
  return { id, jobs }
}

/** The process of a worker has shown that it lives: what it loses from now on is another loss. */
export function showsLife(db: Db, worker: number): void {
  if (db.run(`UPDATE gq_workers SET loss_id = NULL WHERE id = ?1 AND loss_id IS NOT NULL`, worker) > 0)
    db.run(`UPDATE gq_workers SET loss_id = NULL WHERE id ${ofInstance}`, worker)
}

/**
 * A worker that takes jobs is not about to stop, whatever was said under its name before. Where the wall clock was set back,
 * what it said last must not count for a word after the timeout of what it takes now.
 */
export function takesJobs(db: Db, worker: number): void {
  db.run(`UPDATE gq_workers SET seen_at = ?2 WHERE id = ?1 AND seen_at > ?2`, worker, db.now)
  db.run(`UPDATE gq_workers SET stopping_at = NULL WHERE id = ?1 AND stopping_at IS NOT NULL`, worker)
  showsLife(db, worker)
}

/** Handlers go on although their attempts are over: their jobs are not to start beside them in their process for a while. */
export function goesOn(db: Db, worker: number | null, ...leases: { id: number; token: number }[]): void {
  if (leases.length === 0) return
  const row = db.get<{ overdue: string; remote: 0 | 1 }>(
    `SELECT overdue, pid IS NULL AS remote FROM gq_workers WHERE id = ?1`,
    worker,
  )
  if (!row) return
  const list = JSON.parse(row.overdue) as Overdue[]
  // A remote worker may never say that a handler has ended: then it is listed only as long as it counts.
  const kept = list.filter((one) => row.remote === 0 || db.counts(one))
  const more = leases.map(({ id, token }): Overdue => ({ id, token, since: db.now }))
  const overdue = JSON.stringify([...kept, ...more].slice(-mostOverdue))
  db.later(`UPDATE gq_workers SET overdue = ?2 WHERE id = ?1`, worker, overdue)
  db.goOn.push(...leases)
}

/** That handler has ended, or its worker reports on it: its job may run there again. */
export function settled(db: Db, { id, token }: { id: number; token: number }): null {
  const changes = db.run(
    `UPDATE gq_workers SET overdue = (
       SELECT json_group_array(json(value)) FROM json_each(overdue) WHERE (value ->> 'id', value ->> 'token') <> (?1, ?2))
     WHERE overdue <> '[]' AND EXISTS (SELECT 1 FROM json_each(overdue) WHERE (value ->> 'id', value ->> 'token') = (?1, ?2))`,
    ...[id, token],
  )
  const job = changes > 0 && db.get<Source>(`SELECT queue, type FROM gq_jobs WHERE id = ?1`, id)
  if (job) db.readied.add(line(job.queue, job.type)) // a worker may wait for just this job
  return null
}
