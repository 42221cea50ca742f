import type { DatabaseSync } from 'node:sqlite'
import type { Instant } from '../../model/clock.ts'
import { restored } from '../../model/decide.ts'
import { isQueueError } from '../../model/errors.ts'
import { markAnew } from './belongs.ts'
import { storageError, whileBusy } from './connection.ts'
import type { Db } from './db.ts'
import { type RunningJob, selectRunning, write } from './decided.ts'
import { stepEnd } from './steps.ts'

// Each file has a name of its own, its epoch: tokens and worker ids count from one in every file, and those of one file
// must fit nothing in a file that was restored in its place.

const stepRows = 500

/**
 * Where the numbers of a copy go on, so that none is given again that its source, or another copy, gave since the backup:
 * handlers use a job's id as the key of what they do elsewhere. No file gives more than 100 a ms for long.
 */
const numbersFrom = (now: Instant): number => Math.max(0, (now - Date.UTC(2026, 0)) * 100)

/** Whether a database has a queue's tables; any other may be copied too. */
export const hasQueue = (db: DatabaseSync): boolean =>
  db.prepare(`SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'gq_meta'`).get() !== undefined

/**
 * Marks a copy that takes the place of its source, before anyone opens it: another epoch, and the last number given, by
 * which its first opening knows what ran in the source and does not run in it.
 */
export function markAsCopy(db: DatabaseSync): void {
  if (!hasQueue(db)) return
  db.exec(
    `PRAGMA journal_mode = DELETE;
     BEGIN IMMEDIATE;
     UPDATE gq_meta SET value = lower(hex(randomblob(8))) WHERE key = 'epoch';
     ${markAnew};
     INSERT OR REPLACE INTO gq_meta (key, value) SELECT 'copied', seq FROM sqlite_sequence WHERE name = 'gq_jobs';
     COMMIT`,
  )
}

/**
 * The first opening of a copy. What its source ran goes back uncharged and without evidence, as nobody runs it in this file;
 * a job that may be tried once only ends dead, for it may have run. The copy gets an epoch of its own: it may not be the
 * only one that was made of that backup. In steps, so that others wait for none of them longer than 2 ms.
 */
export function firstOpening(db: Db): Db {
  try {
    while (copiedAt(db) && whileBusy(() => step(db)));
    db.readEpoch() // now, while the file is well: who has leases of it has to know later whether it is another one
    return db
  } catch (error) {
    // Nobody may work on a copy that is not marked as its own: its epoch would change under the leases that it gives.
    db.connection.close()
    throw isQueueError(error) ? error : storageError(error, 'The copy could not be opened for the first time')
  }
}

/** Of gq_meta: the mark of a copy that nobody has opened, or not to the end. */
export const isCopied = `key IN ('copied', 'returning')`

/** The last number that the source gave; undefined in a file that is no copy, or was opened already. */
function copiedAt(db: Db): { key: string; seq: number } | undefined {
  return db.get<{ key: string; seq: number }>(
    `SELECT key, CAST(value AS INTEGER) AS seq FROM gq_meta WHERE ${isCopied} ORDER BY key`,
  )
}

/** True while there is more to do. */
function step(db: Db): boolean {
  db.begin('write')
  const copied = copiedAt(db) // another process may have done it meanwhile
  if (!copied) {
    db.rollback()
    return false
  }
  if (copied.key === 'copied') {
    db.run(`UPDATE gq_meta SET value = lower(hex(randomblob(8))) WHERE key = 'epoch'`)
    db.run(`UPDATE sqlite_sequence SET seq = MAX(seq, ?1) WHERE name = 'gq_jobs'`, numbersFrom(db.now))
    // A copy of a copy that was not opened to the end has both marks.
    db.run(`INSERT OR REPLACE INTO gq_meta (key, value) VALUES ('returning', ?1)`, String(copied.seq))
    db.run(`DELETE FROM gq_meta WHERE key = 'copied'`)
    db.run(`UPDATE gq_workers SET ended_at = ?1 WHERE ended_at IS NULL`, db.now)
  }
  // A later number is a lease of this file: another process works on it already.
  const jobs = db.all<RunningJob>(
    `${selectRunning} WHERE j.state = 'running' AND j.lease_token <= ?1 LIMIT ${stepRows}`,
    copied.seq,
  )
  const end = stepEnd(db)
  let returned = 0
  while (returned < jobs.length && (returned === 0 || db.clock.monotonic() < end)) {
    const job = jobs[returned++]!
    write(db, job, restored(job, db.now))
  }
  const more = returned < jobs.length || jobs.length === stepRows
  if (!more) db.run(`DELETE FROM gq_meta WHERE key = 'returning'`)
  db.commit()
  return more
}
