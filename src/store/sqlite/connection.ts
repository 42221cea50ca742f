import { existsSync, linkSync, statSync } from 'node:fs'
import { dirname } from 'node:path'
import type { Clock } from '../../model/clock.ts'
import { GopherQueueError, isQueueError } from '../../model/errors.ts'
import { Db } from './db.ts'
import { platform } from './platform.ts'
import { missingRights, mustBeFile, mustHaveOneName } from './rights.ts'
import { migrate, tableMissed, tablesGone } from './schema.ts'
import { type Connection, nodeSqlite, type Sqlite } from './sqlite.ts'
import { checkWal } from './wal.ts'

export const oldestEngine = [3, 51, 3] // older ones can lose WAL writes when two connections write and checkpoint

/** Opens the file ready for use: WAL, fsync at each commit, schema up to date. Each of these is asserted, none can be turned off. */
export function connect(path: string, clock: Clock, create = () => new Db(path, clock), sqlite = nodeSqlite): Db {
  if (path !== ':memory:') checkPlace(path)
  const witness = path === ':memory:' ? null : findSound(path, sqlite)
  let db: Db
  try {
    db = create()
  } catch (cause) {
    witness?.close()
    throw storageError(cause, `Cannot open ${path}`, 'no', path)
  }
  try {
    const { connection } = db
    whileBusy(() => {
      // Before its first page is written, or never: so an app's own file stays as it is.
      if (path !== ':memory:' && db.get<{ page_count: number }>('PRAGMA page_count')!.page_count === 0)
        connection.exec('PRAGMA auto_vacuum = INCREMENTAL')
      connection.exec('PRAGMA journal_mode = WAL')
      connection.exec(
        `PRAGMA synchronous = FULL; PRAGMA fullfsync = 1; PRAGMA checkpoint_fullfsync = 1; PRAGMA foreign_keys = ON;
         PRAGMA temp_store = MEMORY; PRAGMA cache_size = -16000; PRAGMA journal_size_limit = 67108864`,
      )
    })
    const row = db.get<{ engine: string; journal: string; synchronous: number }>(
      `SELECT sqlite_version() AS engine, (SELECT journal_mode FROM pragma_journal_mode) AS journal,
              (SELECT synchronous FROM pragma_synchronous) AS synchronous`,
    )!
    const { engine } = row
    if (isOlder(engine.split('.').map(Number), oldestEngine))
      throw new GopherQueueError(
        'ENGINE_TOO_OLD',
        `SQLite ${engine} is older than ${oldestEngine.join('.')}, which can lose writes. Use Node 24.14 or newer.`,
      )
    if ((row.journal !== 'wal' && path !== ':memory:') || row.synchronous !== 2)
      throw new GopherQueueError(
        'STORAGE_UNAVAILABLE',
        `${path} cannot be used with WAL and synchronous=FULL (it says ${row.journal}, ${row.synchronous}). Nothing was changed.`,
      )
    whileBusy(() => migrate(connection, () => db.run('BEGIN IMMEDIATE')))
    return db
  } catch (error) {
    db.connection.close()
    throw isQueueError(error) ? error : storageError(error, `Cannot use ${path}`, 'no', path)
  } finally {
    witness?.close() // after the other when that failed: see `abandon`
  }
}

/** Looks at a file that is there with a connection that cannot write, so that nothing that is wrong with it gets worse. */
function findSound(path: string, sqlite: Sqlite): Connection | null {
  let witness: Connection | null = null
  try {
    mustBeFile(path)
    if (statSync(path, { throwIfNoEntry: false })?.size) witness = readOnly(path, sqlite) // reads nothing yet
    checkWal(path)
  } catch (error) {
    witness?.close()
    throw storageError(error, `Cannot read the WAL of ${path}`, 'no', path)
  }
  try {
    if (witness) whileBusy(() => witness.prepare('SELECT 1 FROM sqlite_schema').all())
  } catch (error) {
    if (!isDamage(error)) return witness // such as a journal to roll back, which takes a connection that may write
    witness?.close()
    throw storageError(error, `Cannot use ${path}`, 'no', path)
  }
  return witness
}

function readOnly(path: string, sqlite: Sqlite): Connection | null {
  try {
    return sqlite.open(path, true)
  } catch {
    return null // the connection that may write says why
  }
}

/**
 * Closes a connection to a damaged file. The last one to close would copy the WAL into the file and delete it; one that
 * can only read never does, so it is made to be the last.
 */
export function abandon(db: Db): void {
  leave(db)?.close()
}

/** As `abandon`, and answers with the connection that can only read: to close that one too would drop all locks of this process. */
export function leave({ connection, sqlite }: Db): Connection | null {
  if (!connection.isOpen) return null
  const path = connection.location()
  if (path !== null) keepWal(path)
  const witness = path === null ? null : readOnly(path, sqlite)
  try {
    witness?.prepare('PRAGMA schema_version').get()
  } catch (error) {
    if (!isSqlite(error)) throw error // whether it can be read or not: it is there
  }
  connection.close()
  return witness
}

/** Beside a file that was cut to nothing, whoever reads it next deletes the WAL: under another name it stays. */
function keepWal(path: string): void {
  if (statSync(path, { throwIfNoEntry: false })?.size !== 0) return
  try {
    linkSync(`${path}-wal`, `${path}-wal-kept`)
  } catch {
    // There is one from before, or no WAL, or a filesystem without links.
  }
}

/** SQLite says of a missing folder only that it cannot open the file. */
export function mustHaveFolder(path: string): string {
  const folder = dirname(path)
  if (existsSync(folder)) return folder
  throw new GopherQueueError(
    'NOT_A_QUEUE',
    `The folder ${folder} does not exist. Make it first, or correct the path; nothing was created.`,
  )
}

function checkPlace(path: string): void {
  const folder = mustHaveFolder(path)
  const { name, isNetwork } = platform.filesystem(folder)
  if (isNetwork)
    throw new GopherQueueError(
      'UNSUPPORTED_FILESYSTEM',
      `${folder} lies on ${name}. A network filesystem cannot promise what SQLite needs: put the file on a local disk.`,
    )
  const lacking = missingRights(path) // before SQLite makes a -wal and -shm that only this user could write
  if (lacking) throw new GopherQueueError('STORAGE_UNAVAILABLE', `Cannot use ${path}: ${lacking}`)
  mustHaveOneName(path)
}

export function isOlder(version: number[], than: number[]): boolean {
  for (const [i, part] of than.entries()) if (version[i] !== part) return (version[i] ?? 0) < part
  return false
}

const sleeper = new Int32Array(new SharedArrayBuffer(4))

/**
 * How a process waits for a lock: in the simulator other processes act meanwhile, and simulated time passes. Answers with
 * the ms that count as waited: what was planned, since a process that was stopped meanwhile has tried no longer for that.
 */
export const lockWait = {
  sleep: (ms: number): number => {
    Atomics.wait(sleeper, 0, 0, ms)
    return ms
  },
}

/**
 * Runs `work` again while another process holds the file's lock, for up to `patience` ms. Its waits are far shorter than
 * SQLite's own (up to 100 ms), so that a process among busy ones gets its turn within a few commits of theirs.
 */
export function whileBusy<T>(work: () => T, patience = 10_000): T {
  let waited = 0
  for (let wait = 0.1; ; wait = Math.min(wait * 1.5, 5)) {
    try {
      return work()
    } catch (error) {
      if (codeOf(error) !== 5 || waited > patience) throw error
      waited += lockWait.sleep(wait)
    }
  }
}

/** SQLite's primary code of an error, as https://www.sqlite.org/rescode.html lists them; 0 of one that is not SQLite's. */
export function codeOf(error: unknown): number {
  if (!(error instanceof Error)) return 0
  const { errcode, code } = error as { errcode?: unknown; code?: unknown }
  if (typeof errcode === 'number') return errcode & 0xff
  const [, name, number] = /^(?:SQLITE_([A-Z]+)|UNKNOWN_SQLITE_ERROR_(\d+))/.exec(String(code)) ?? [] // of better-sqlite3
  return name === undefined ? Number(number ?? 0) & 0xff : codes.indexOf(name) + 1
}

const codes =
  `ERROR INTERNAL PERM ABORT BUSY LOCKED NOMEM READONLY INTERRUPT IOERR CORRUPT NOTFOUND FULL CANTOPEN PROTOCOL
  EMPTY SCHEMA TOOBIG CONSTRAINT MISMATCH MISUSE NOLFS AUTH FORMAT RANGE NOTADB`.split(/\s+/)

export const isSqlite = (error: unknown): error is Error => codeOf(error) !== 0

/** BUSY, LOCKED, NOMEM, READONLY, IOERR, CORRUPT, FULL, CANTOPEN, PROTOCOL, NOTADB: the file's or the disk's trouble, not the statement's. */
const storageFaults = new Set([5, 6, 7, 8, 10, 11, 13, 14, 15, 26])

export function isStorageFault(error: unknown): boolean {
  return storageFaults.has(codeOf(error)) || tableMissed(error) !== null
}

export const isDamage = (error: unknown): boolean => [11, 26].includes(codeOf(error))

/** READONLY, CANTOPEN */
export const isRefusal = (error: unknown): boolean =>
  [8, 14].includes(codeOf(error)) || (error instanceof Error && 'syscall' in error)

/**
 * Says in this product's terms what SQLite reported, and whether what was asked for may have happened. `paths`: files that
 * this user perhaps has no right to.
 */
export function storageError(
  error: unknown,
  what: string,
  accepted: 'no' | 'unknown' = 'no',
  ...paths: string[]
): GopherQueueError {
  if (isQueueError(error)) return error
  if (error instanceof Error && 'sqlstate' in error)
    return new GopherQueueError(
      'STORAGE_UNAVAILABLE',
      `${what}: ${error.message} (SQLSTATE ${error.sqlstate}). ${fates[accepted]} ${isStorageFault(error) ? mendServer : report}`,
      { cause: error, accepted },
    )
  const missed = tableMissed(error)
  if (missed) return tablesGone(missed, accepted)
  const detail = error instanceof Error ? error.message : String(error)
  const primary = codeOf(error)
  const options = { cause: error, accepted }
  const fate = (no: string, first: string) => (accepted === 'no' ? no : `${fates.unknown} ${first}`)
  if (primary === 13)
    return new GopherQueueError(
      'STORAGE_FULL',
      `${what}: the disk is full. ${fate('Nothing was accepted: make room, then do it again.', 'Make room first.')}`,
      options,
    )
  if (primary === 11)
    return new GopherQueueError(
      'STORAGE_CORRUPT',
      `${what}: the file is damaged (${detail}). ${fate('Nothing was overwritten: keep', 'First keep')} the file and its -wal, see 'gopherqueue doctor', and restore a backup or salvage with 'gopherqueue recover --into NEW'.`,
      options,
    )
  if (primary === 26)
    return new GopherQueueError(
      'NOT_A_QUEUE',
      `${what}: it is not an SQLite database. ${fate('Nothing was changed.', 'Bring the file back first.')}`,
      options,
    )
  if (primary === 5)
    return new GopherQueueError(
      'STORAGE_UNAVAILABLE',
      `${what}: another connection, of this process or of another, holds the file's write lock for too long. ${fate('Nothing was accepted: find who holds it, and do it again when its transaction has ended.', 'First find who holds it.')}`,
      options,
    )
  const rights = isRefusal(error) ? paths.map(missingRights).find((text) => text !== null) : undefined
  if (rights) return new GopherQueueError('STORAGE_UNAVAILABLE', `${what}: ${rights}`, options)
  return new GopherQueueError(
    'STORAGE_UNAVAILABLE',
    `${what}: ${detail}. ${fates[accepted]} ${storageFaults.has(primary) ? mend : isOfSystem(error) ? correct : report}`,
    options,
  )
}

/** A refusal of the operating system, such as EACCES or ENOTDIR, and none of SQLite's. */
const isOfSystem = (error: unknown): boolean => error instanceof Error && 'syscall' in error

/** What became of what was asked for. */
export const fates = {
  no: 'Nothing was accepted.',
  unknown:
    'It may or may not be stored: send a submission again with the idempotency key that it had, and look before you do anything else again.',
}
const mend = `Mend the file, the disk or the memory first: 'gopherqueue doctor' and the system's log say what is wrong.`
const mendServer = 'It goes on by itself when the server takes writes again: its log says what is wrong.'
const correct =
  'Correct the path, or the rights or the disk on which it stands: a process that has it open goes on by itself then.'
const report = `The same call fails again: run 'gopherqueue doctor', and report this if it finds the file well.`

/** As `storageError`, of a file that was a queue's when it was opened. */
export function errorInUse(error: unknown, accepted: 'no' | 'unknown'): GopherQueueError {
  const what = error instanceof Error && 'sqlstate' in error ? 'database' : 'file'
  const found = storageError(error, `The ${what} could not be used`, accepted)
  if (found.code !== 'NOT_A_QUEUE') return found
  return new GopherQueueError('STORAGE_CORRUPT', found.message, { accepted, cause: error })
}
