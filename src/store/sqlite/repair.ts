import type { Clock } from '../../model/clock.ts'
import { countAllAnew, countOld } from './causes.ts'
import { connect, whileBusy } from './connection.ts'
import type { Db } from './db.ts'
import { mustExist } from './reader.ts'
import { stepMs } from './steps.ts'

/** Counts all jobs anew that are dead or fail now, in steps: whoever works on the file meanwhile waits for none longer than 2 ms. */
export function recount(path: string, clock: Clock): void {
  mustExist(path)
  const db = connect(path, clock)
  try {
    whileBusy(() => inWrite(db, () => countAllAnew(db)))
    while (whileBusy(() => inWrite(db, () => countOld(db, clock.monotonic() + stepMs))));
  } finally {
    db.connection.close()
  }
}

function inWrite<T>(db: Db, work: () => T): T {
  db.begin('write')
  try {
    const value = work()
    db.commit()
    return value
  } catch (error) {
    db.rollback()
    throw error
  }
}
