import { statSync } from 'node:fs'
import type { Clock } from '../../model/clock.ts'
import type { Db } from './db.ts'
import { platform } from './platform.ts'
import type { Warning } from './warning.ts'

// SQLite checkpoints by itself at a COMMIT once the WAL has 1,000 pages, and tells nobody when it cannot. Then the WAL
// grows until the disk is full.

export const limits = {
  /** A WAL of fewer bytes is SQLite's own affair: it checkpoints at about 4 MiB. */
  usual: 8 * 1024 * 1024,
  /** Bytes of the WAL that are not in the database file yet: with more, health says so. */
  large: 256 * 1024 * 1024,
  /** How long checkpoints may fail before health says so, in ms: one failure may be chance. */
  failing: 5000,
}
const checkEvery = 1000

/** Finds out whether the WAL gets back into the database file. */
export class Checkpoints {
  readonly #clock: Clock
  readonly #limits: typeof limits
  #checkAt = 0
  #failingSince: number | null = null
  #warning: Warning | null = null

  constructor(clock: Clock, bounds = limits) {
    this.#clock = clock
    this.#limits = bounds
  }

  /** What is wrong with them, or null; looks once a second. */
  look(db: Db): Warning | null {
    const at = this.#clock.monotonic()
    if (at < this.#checkAt) return this.#warning
    this.#checkAt = at + checkEvery
    const path = db.connection.location()
    if (path !== null) this.#warning = this.#judge(db, path, at)
    return this.#warning
  }

  #judge(db: Db, path: string, at: number): Warning | null {
    const size = statSync(`${path}-wal`, { throwIfNoEntry: false })?.size ?? 0
    if (size < this.#limits.usual) {
      this.#failingSince = null
      return null
    }
    try {
      const left = db.uncheckpointed() * db.get<{ page_size: number }>('PRAGMA page_size')!.page_size
      this.#failingSince = null
      return left > this.#limits.large ? large(path, left) : null
    } catch (error) {
      this.#failingSince ??= at
      return at - this.#failingSince < this.#limits.failing ? this.#warning : failing(path, size, error as Error)
    }
  }
}

const mebibytes = (bytes: number) => `${Math.floor(bytes / 1024 / 1024)} MiB`

function failing(path: string, size: number, { message }: Error): Warning {
  return {
    code: 'CHECKPOINTS_FAIL',
    message: `The WAL cannot be brought into ${path} (${message}). All that was acknowledged is in ${path}-wal, which has ${mebibytes(size)} and grows: look at the disk under the file.`,
  }
}

function large(path: string, left: number): Warning {
  return {
    code: 'WAL_LARGE',
    message: `${mebibytes(left)} of ${path}-wal cannot be brought into the file, because somebody still reads what was there before; it grows until that ends. ${holders(path)}`,
  }
}

/** Processes of this host that have the WAL open, as far as this one may see. */
function holders(path: string): string {
  const found = platform.holdersOf(`${path}-wal`)
  if (found.length === 0) return 'Look for a transaction that was left open.'
  const names = found.map(({ pid, name }) => `${pid} (${pid === process.pid ? 'this one' : name})`)
  return `One of these processes has a transaction open: ${names.join(', ')}.`
}
