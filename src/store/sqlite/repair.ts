import type { Clock } from '../../model/clock.ts'
import { countAllAnew, countOld } from './causes.ts'
import { connect } from './connection.ts'
import { mustExist } from './reader.ts'
import { inWrite, stepEnd } from './steps.ts'

/** Counts all jobs anew that are dead or fail now, in steps: whoever works on the file meanwhile waits for none longer than 2 ms. */
export function recount(path: string, clock: Clock): void {
  mustExist(path)
  const db = connect(path, clock)
  try {
    inWrite(db, () => countAllAnew(db))
    while (inWrite(db, () => countOld(db, stepEnd(db))));
  } finally {
    db.connection.close()
  }
}
