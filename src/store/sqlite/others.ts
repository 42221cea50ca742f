import type { Db } from './db.ts'
import { mustBeCurrent } from './newer.ts'

/** Whether other connections have committed. */
export class Others {
  #seen = 0
  /** They have since jobs were last admitted, or some were left: to look takes 15 us, half a submission's time. */
  mayHaveInserted = true

  /** After a reconnect or a rollback, everything in the file may have changed. */
  forget(): void {
    this.#seen = -1
    this.mayHaveInserted = true
  }

  /** Whether they have committed since this was last asked. Throws SCHEMA_TOO_NEW. */
  haveCommitted(db: Db): boolean {
    const { version, changed } = this.peek(db)
    this.#seen = version
    this.mayHaveInserted ||= changed
    return changed
  }

  /** As `haveCommitted`, and the next call finds the same again, unless `saw` is told of the version. */
  peek(db: Db): { version: number; changed: boolean } {
    const version = db.dataVersion()
    const changed = version !== this.#seen
    if (changed) mustBeCurrent(db)
    return { version, changed }
  }

  saw(version: number): void {
    this.#seen = version
  }
}
