import { whileBusy } from './connection.ts'
import type { Db } from './db.ts'

/** How long a step takes, in ms. On a server most of it are round trips: 2 ms would be a job or two. */
const stepMs = { onFile: 2, onServer: 25 }

/**
 * When a step that begins now is over: by the clock, whatever it has done, as what a job takes differs by a factor of a
 * thousand (a large payload, a long history, a concurrency key).
 */
export const stepEnd = (db: Db): number => db.clock.monotonic() + (db.isFile ? stepMs.onFile : stepMs.onServer)
/** Most rows of a step, and of one look for such. */
const stepRows = 1000
export const chunk = 50

/** Takes rows in chunks until the clock says that the step is over, at least one chunk's first row. True when some are left. */
export function inSteps<Row>(db: Db, end: number, some: () => Row[], take: (row: Row) => void): boolean {
  for (let taken = 0; taken < stepRows; ) {
    const rows = some()
    for (const row of rows) {
      take(row)
      taken++
      if (db.clock.monotonic() >= end) return true
    }
    if (rows.length < chunk) return false
  }
  return true
}

/** A write transaction of its own, which waits for its turn. */
export function inWrite<T>(db: Db, work: () => T): T {
  whileBusy(() => db.begin('write'))
  try {
    const value = work()
    db.commit()
    return value
  } catch (error) {
    db.rollback()
    throw error
  }
}
