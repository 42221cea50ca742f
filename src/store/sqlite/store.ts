import { MessageChannel, Worker as Thread } from 'node:worker_threads'
import { systemClock } from '../../model/clock.ts'
import { GopherQueueError, isQueueError } from '../../model/errors.ts'
import type { Submission, Submitted } from '../store.ts'
import { threadMissing } from './bundled.ts'
import { refuseOtherCopies } from './copies.ts'
import { realFile, usualReserve } from './disk.ts'
import { loadDriver } from './driver.ts'
import { nodeSqlite, type Sqlite } from './sqlite.ts'
import type { ThreadData } from './storage-thread.ts'
import { opened, type Started, ThreadStore } from './thread-store.ts'
import { submitIn } from './transaction.ts'

interface SqliteOptions {
  /** Bytes. */
  diskReserve?: number
  tends?: boolean
  /** URL or absolute path of the app's better-sqlite3; default: node:sqlite. */
  driver?: string
}

/** A queue in an SQLite file. */
export class SqliteStore extends ThreadStore {
  readonly #path: string
  readonly #sqlite: Sqlite

  private constructor(path: string, sqlite: Sqlite, started: Started) {
    super(started)
    this.#path = path
    this.#sqlite = sqlite
  }

  /** Opens the file, creating it if its folder exists. Recovery from a crash is part of it. */
  static async open(
    path: string,
    { diskReserve = usualReserve, tends = false, driver }: SqliteOptions = {},
  ): Promise<SqliteStore> {
    const sqlite = driver === undefined ? nodeSqlite : await loadDriver(driver)
    const { port1, port2 } = new MessageChannel()
    const full = path === ':memory:' ? path : realFile(path)
    try {
      if (full !== ':memory:') refuseOtherCopies(full, sqlite)
    } catch (error) {
      throw notOpened(path, error)
    }
    const thread = start({ path: full, port: port2, diskReserve, tends, driver: sqlite.driver })
    return new SqliteStore(full, sqlite, await opened({ port: port1, thread }))
  }

  submitIn(connection: unknown, submission: Submission): Submitted {
    this.mustTakeSubmissions()
    return submitIn(connection, { path: this.#path, sqlite: this.#sqlite, clock: systemClock }, submission)
  }
}

/** Bundlers find the thread by this literal, which the build ends in .js. Called Worker here, webpack makes of it code that cannot be loaded. */
function start(workerData: ThreadData): Thread {
  try {
    return new Thread(new URL('./storage-thread.ts', import.meta.url), {
      workerData,
      transferList: [workerData.port],
      name: 'gopherqueue',
      resourceLimits: { maxYoungGenerationSizeMb: 24 }, // V8 keeps 100 MB for what lives a moment, once it has seen a few megabytes
      execArgv: [], // the app's flags are its own: --input-type, as of `node -e`, would be refused here
    })
  } catch (error) {
    workerData.port.close()
    throw threadMissing('storage', error) // a CommonJS bundle has no import.meta.url
  }
}

/** What the system says of a path, such as ELOOP or EACCES, in this product's terms. */
function notOpened(path: string, cause: unknown): GopherQueueError {
  if (isQueueError(cause)) return cause
  const message = `Cannot open ${path}: ${(cause as Error).message}. Nothing was accepted: correct the path, or give this user the right to its folder and files.`
  return new GopherQueueError('STORAGE_UNAVAILABLE', message, { cause })
}
