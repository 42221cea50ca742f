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
import type { Reply, Request } from './request.ts'
import { missingRights, mustBeFile } from './rights.ts'
import { newestSchema, version } from './schema.ts'
import { DatabaseSync } from './sqlite.ts'
import { inspectWal } from './wal.ts'

/**
 * A file that this user may read and not write, or that lies on a read-only disk: answers reads, in the caller's thread,
 * and refuses everything else. What has come due, or was left by a crash, is shown as it stands in the file.
 */
export class Reader implements Store {
  readonly health: StoreHealth = { status: 'ok', causes: [], works: { submit: false, lease: false, complete: false } }
  readonly #path: string
  #db: Db

  /** Throws NOT_A_QUEUE, SCHEMA_TOO_NEW, STORAGE_CORRUPT, STORAGE_UNAVAILABLE. */
  constructor(path: string) {
    this.#path = path
    this.#db = open(path)
  }

  async call<K extends Operation>(operation: K, input: Input<K>): Promise<Output<K>> {
    if (operations[operation].kind !== 'read')
      throw invalid(`This user may only read the file: '${operation}' was not done.`)
    for (let tries = 1; ; tries++) {
      const reply = answer(this.#db, { seq: 0, operation, input })
      if (isOfOneMoment(this.#db.connection)) {
        if ('error' in reply) throw reply.error
        return reply.value as Output<K>
      }
      if (tries === mostTries) throw disturbed(this.#path)
      this.#db.connection.close()
      this.#db = open(this.#path)
    }
  }

  onEvent(): void {
    // nothing happens here
  }

  async close(): Promise<void> {
    this.#db.connection.close()
  }
}

function open(path: string): Db {
  let db: Db | undefined
  try {
    db = new Db(openToRead(path), systemClock)
    mustKnowSchema(db)
    const found = version(db.connection)
    if (found === newestSchema) return db
    throw new GopherQueueError(
      'STORAGE_UNAVAILABLE',
      `${path} has schema ${found}, and this GopherQueue reads ${newestSchema}. Nothing was changed: open it once with this version as a user who may write it.`,
    )
  } catch (error) {
    db?.connection.close()
    throw storageError(error, `Cannot read ${path}`, 'no', path)
  }
}

function answer(db: Db, request: Request): Reply {
  try {
    whileBusy(() => db.begin('read'))
    return answerAll(db, [request])[0]!
  } catch (error) {
    return { seq: 0, error: storageError(error, 'The file cannot be read') }
  } finally {
    if (db.connection.isTransaction) db.rollback()
  }
}

const mostTries = 10

export const disturbed = (path: string): GopherQueueError =>
  new GopherQueueError(
    'STORAGE_UNAVAILABLE',
    `Others began to write ${path} each time it was read, and this user cannot read beside them. Nothing was changed: read as the file's owner, or while a process has it open.`,
  )

/** Opens a database so that nothing of it can change, whatever its state; not with a -wal that is not its own. */
export function openToRead(path: string): DatabaseSync {
  mustExist(path)
  mustBeFile(path)
  const db = missingRights(path) === null ? readOnly(path) : openAsGuest(path)
  try {
    refuseStrangeWal(path, inspectWal(path)?.mark ?? null)
    return db
  } catch (error) {
    db.close()
    throw error
  }
}

/** Reads nothing yet. */
const readOnly = (path: string): DatabaseSync => new DatabaseSync(path, { readOnly: true, timeout: 10_000 })

export function mustExist(path: string): { size: number } {
  const there = statSync(path, { throwIfNoEntry: false })
  if (!there)
    throw new GopherQueueError('NOT_A_QUEUE', `There is no file ${path}. Nothing was created: correct the name.`)
  return there
}

/** Databases that are read without a WAL and without locks: how they were when they were opened, and how they are now. */
const alone = new WeakMap<object, { path: string; was: string }>()

/** Whether what was read is of one moment: nobody has begun to write a database that is read without locks. */
export function isOfOneMoment(db: object): boolean {
  const known = alone.get(db)
  return known === undefined || known.was === stateOf(known.path)
}

const walSize = (path: string): number => statSync(`${path}-wal`, { throwIfNoEntry: false })?.size ?? 0

function stateOf(path: string): string {
  const { ino, size, mtimeNs } = statSync(path, { bigint: true })
  return `${ino} ${size} ${mtimeNs} ${walSize(path)}`
}

/**
 * For who may not write it. SQLite reads a file in WAL mode through its -wal and -shm, and makes these where it may: then
 * the owner could not open them. Where no WAL holds anything, the file is all there is, and is read by itself.
 */
function openAsGuest(path: string): DatabaseSync {
  const [wal, shm] = [existsSync(`${path}-wal`), existsSync(`${path}-shm`)]
  if (wal && shm) {
    const db = readOnly(path)
    try {
      db.prepare('SELECT 1 FROM sqlite_schema').get()
      return db
    } catch (error) {
      if (!isRefusal(error)) return db // what is wrong with it is for who reads it
      db.close()
    }
  }
  if (walSize(path) > 0)
    throw new GopherQueueError(
      'STORAGE_UNAVAILABLE',
      `The newest jobs of ${path} are in ${path}-wal, which needs ${path}-shm, and this user may ${shm ? 'not read that' : 'not make it'}. Nothing was changed: read as the file's owner, or make a copy with 'gopherqueue backup' as the owner and read that.`,
    )
  const was = stateOf(path)
  const db = new DatabaseSync(`${pathToFileURL(path)}?immutable=1`, { readOnly: true })
  alone.set(db, { path, was })
  return db
}
