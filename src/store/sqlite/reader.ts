import { existsSync, statSync } from 'node:fs'
import { pathToFileURL } from 'node:url'
import { systemClock } from '../../model/clock.ts'
import { GopherQueueError, invalid } from '../../model/errors.ts'
import { type Input, type Operation, type Output, operations } from '../operations.ts'
import type { Store, StoreHealth } from '../store.ts'
import { answerAll } from './answer.ts'
import { isRefusal, storageError, whileBusy } from './connection.ts'
import { Db } from './db.ts'
import { systemDisk, usualReserve } from './disk.ts'
import { movedError } from './moved.ts'
import { mustBeCounted, overlay } from './older.ts'
import type { Reply, Request } from './request.ts'
import { missingRights, mustBeFile } from './rights.ts'
import { newestSchema, tooNew, version } from './schema.ts'
import { markOf } from './seal.ts'
import { DatabaseSync } from './sqlite.ts'
import { checkWal } from './wal.ts'

/**
 * A file to look at: answers reads, in the caller's thread, and refuses everything else. It takes no lock that a writer
 * holds, needs no right to write, and changes nothing, the schema of an older version neither. What has come due, or was
 * left by a crash, is shown as it stands in the file.
 */
export class Reader implements Store {
  readonly #path: string
  #db: Db
  #schema: number

  /** Throws NOT_A_QUEUE, SCHEMA_TOO_NEW, STORAGE_CORRUPT, STORAGE_UNAVAILABLE. */
  constructor(path: string) {
    this.#path = path
    ;({ db: this.#db, schema: this.#schema } = open(path))
  }

  /** What can be seen from here of what keeps submissions from being accepted. */
  get health(): StoreHealth {
    const causes = [diskIsFull(this.#path), movesAway(this.#db)].filter((cause) => cause !== null)
    return {
      status: causes.length > 0 ? 'degraded' : 'ok',
      causes,
      works: { submit: false, lease: false, complete: false },
    }
  }

  async call<K extends Operation>(operation: K, input: Input<K>): Promise<Output<K>> {
    if (operations[operation].kind !== 'read')
      throw invalid(`The file was opened to be read: '${operation}' was not done.`)
    for (let tries = 1; ; tries++) {
      const reply = answer(this.#db, this.#schema, { seq: 0, operation, input })
      if (reply !== null && isOfOneMoment(this.#db.connection)) {
        if ('error' in reply) throw reply.error
        return reply.value as Output<K>
      }
      if (tries === mostTries) throw disturbed(this.#path)
      this.#db.connection.close()
      ;({ db: this.#db, schema: this.#schema } = open(this.#path))
    }
  }

  onEvent(): void {
    // nothing happens here
  }

  async close(): Promise<void> {
    this.#db.connection.close()
  }

  /** For `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }
}

function open(path: string): { db: Db; schema: number } {
  let db: Db | undefined
  try {
    const connection = openToRead(path)
    db = new Db(connection, systemClock)
    const schema = version(connection)
    if (schema > newestSchema) throw new GopherQueueError('SCHEMA_TOO_NEW', tooNew(schema))
    if (schema === 0)
      throw new GopherQueueError('NOT_A_QUEUE', `There is no queue in ${path}. Nothing was changed: correct the name.`)
    if (schema < newestSchema) overlay(connection)
    return { db, schema }
  } catch (error) {
    db?.connection.close()
    throw storageError(error, `Cannot read ${path}`, 'no', path)
  }
}

/** Null when another process has brought the schema forward since the file was opened. */
function answer(db: Db, schema: number, request: Request): Reply | null {
  try {
    whileBusy(() => db.begin('read'))
    if (version(db.connection) !== schema) return null
    const moved = markOf(db)
    if (moved?.phase === 'done') throw movedError(moved) // what it holds is of then, and would be taken for what is now
    mustBeCounted(schema, request.operation as Operation, request.input)
    return answerAll(db, [request])[0]!
  } catch (error) {
    return { seq: 0, error: storageError(error, 'The file cannot be read') }
  } finally {
    if (db.connection.isTransaction) db.rollback()
  }
}

/** By the reserve that `open` has unless told otherwise. */
function diskIsFull(path: string): StoreHealth['causes'][number] | null {
  const free = systemDisk(path, 0).free()
  if (free >= usualReserve) return null
  const [has, keeps] = [free, usualReserve].map((bytes) => `${Math.floor(bytes / 1024 / 1024)} MiB`)
  const message = `The disk has ${has} free; processes that keep ${keeps} for jobs that run, as by default, refuse submissions until there is room.`
  return { code: 'STORAGE_FULL', message, since: systemClock.now() }
}

/** Until all of it is at the new place, what the file holds is what is so. */
function movesAway(db: Db): StoreHealth['causes'][number] | null {
  const moved = markOf(db)
  if (!moved || moved.phase === 'done') return null
  return { code: 'MOVED', message: movedError(moved).message, since: Date.parse(moved.since) }
}

const mostTries = 10

export const disturbed = (path: string): GopherQueueError =>
  new GopherQueueError(
    'STORAGE_UNAVAILABLE',
    `Others began to write ${path} each time it was read, and this user cannot read beside them. Nothing was changed: read as the file's owner, or while a process has it open.`,
  )

/** Opens a database so that nothing of it can change; not with a -wal that is not its own, nor, unless that is wanted, with one that is damaged. */
export function openToRead(path: string, evenDamaged = false): DatabaseSync {
  mustExist(path)
  mustBeFile(path)
  const db = missingRights(path) === null ? readOnly(path) : openAsGuest(path)
  try {
    checkWal(path, { sync: false, evenDamaged })
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
