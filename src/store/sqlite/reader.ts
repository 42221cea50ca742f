import { existsSync, statSync } from 'node:fs'
import { pathToFileURL } from 'node:url'
import { systemClock } from '../../model/clock.ts'
import { GopherQueueError, invalid } from '../../model/errors.ts'
import { type Input, type Operation, type Output, operations } from '../operations.ts'
import type { Store, StoreHealth } from '../store.ts'
import { answerAll } from './answer.ts'
import { refuseStrangeWal } from './belongs.ts'
import { isRefusal, storageError, whileBusy } from './connection.ts'
import { Db } from './db.ts'
import { mustKnowSchema } from './newer.ts'
import { mustBeFile } from './rights.ts'
import { newestSchema, version } from './schema.ts'
import { DatabaseSync } from './sqlite.ts'
import { inspectWal } from './wal.ts'

/**
 * A file that this user may read and not write, or that lies on a read-only disk: answers reads, in the caller's thread,
 * and refuses everything else. What has come due, or was left by a crash, is shown as it stands in the file.
 */
export class Reader implements Store {
  readonly health: StoreHealth = { status: 'ok', causes: [], works: { submit: false, lease: false, complete: false } }
  readonly #db: Db

  /** Throws NOT_A_QUEUE, SCHEMA_TOO_NEW, STORAGE_CORRUPT, STORAGE_UNAVAILABLE. */
  constructor(path: string) {
    this.#db = new Db(openToRead(path), systemClock)
    try {
      mustKnowSchema(this.#db)
      const found = version(this.#db.connection)
      if (found < newestSchema)
        throw new GopherQueueError(
          'STORAGE_UNAVAILABLE',
          `${path} has schema ${found}, and this GopherQueue reads ${newestSchema}. Nothing was changed: open it once with this version as a user who may write it.`,
        )
    } catch (error) {
      this.#db.connection.close()
      throw storageError(error, `Cannot read ${path}`, 'no', path)
    }
  }

  async call<K extends Operation>(operation: K, input: Input<K>): Promise<Output<K>> {
    if (operations[operation].kind !== 'read')
      throw invalid(`This user may only read the file: '${operation}' was not done.`)
    whileBusy(() => this.#db.begin('read'))
    try {
      const [reply] = answerAll(this.#db, [{ seq: 0, operation, input }])
      if (reply && 'error' in reply) throw reply.error
      return reply!.value as Output<K>
    } finally {
      this.#db.rollback()
    }
  }

  onEvent(): void {
    // nothing happens here
  }

  async close(): Promise<void> {
    this.#db.connection.close()
  }
}

/** Opens a database so that nothing of it can change, whatever its state; not with a -wal that is not its own. */
export function openToRead(path: string): DatabaseSync {
  mustExist(path)
  mustBeFile(path)
  const db = new DatabaseSync(path, { readOnly: true, timeout: 10_000 }) // reads nothing yet
  try {
    refuseStrangeWal(path, inspectWal(path)?.mark ?? null)
    return readable(db, path)
  } catch (error) {
    db.close()
    throw error
  }
}

export function mustExist(path: string): { size: number } {
  const there = statSync(path, { throwIfNoEntry: false })
  if (!there)
    throw new GopherQueueError('NOT_A_QUEUE', `There is no file ${path}. Nothing was created: correct the name.`)
  return there
}

/**
 * SQLite reads a file in WAL mode through its -shm, which who may only read cannot make. Where no WAL holds anything, the
 * file is all there is, and is read by itself.
 */
function readable(db: DatabaseSync, path: string): DatabaseSync {
  try {
    db.prepare('SELECT 1 FROM sqlite_schema').get()
    return db
  } catch (error) {
    if (!isRefusal(error)) return db // what is wrong with it is for who reads it
    const walSize = () => statSync(`${path}-wal`, { throwIfNoEntry: false })?.size ?? 0
    if (walSize() === 0) {
      const whole = new DatabaseSync(`${pathToFileURL(path)}?immutable=1`, { readOnly: true })
      whole.prepare('SELECT 1 FROM sqlite_schema').get()
      db.close()
      if (walSize() === 0) return whole // nobody has begun to write meanwhile
      whole.close()
      return openToRead(path)
    }
    throw new GopherQueueError(
      'STORAGE_UNAVAILABLE',
      `The newest jobs of ${path} are in ${path}-wal, which needs ${path}-shm, and this user may ${existsSync(`${path}-shm`) ? 'not read that' : 'not make it'}. Nothing was changed: read as the file's owner, or make a copy with 'gopherqueue backup' as the owner and read that.`,
      { cause: error },
    )
  }
}
