import { closeSync, existsSync, linkSync, openSync, readSync, renameSync, rmSync, statSync } from 'node:fs'
import { dirname } from 'node:path'
import { type Clock, systemClock } from '../../model/clock.ts'
import { GopherQueueError, invalid } from '../../model/errors.ts'
import { copy, ownerOf } from './backup.ts'
import { codeOf, isDamage, mustHaveFolder, storageError } from './connection.ts'
import { realFile } from './disk.ts'
import { besideIts } from './partial.ts'
import { platform } from './platform.ts'
import { openToRead } from './reader.ts'
import { keptName, mustBeFile } from './rights.ts'
import { newestSchema, tooNew, version } from './schema.ts'
import { DatabaseSync } from './sqlite.ts'
import { checkWal } from './wal.ts'

/** What a restore did. */
export interface Restored {
  /** The file in whose place the backup is. */
  file: string
  /** Where what was there is now, with its -wal if it had one that could not be brought into it; null when nothing was there. */
  kept: string | null
  jobs: number
}

const sidecars = ['-wal', '-shm', '-journal']

/**
 * Puts a copy of a backup in the place of a queue's file, with an epoch of its own. The copy is proved first, and what was
 * there is kept under another name; the backup stays as it is. Refuses with INVALID_STATE while anybody has the file open.
 */
export function restore(from: string, name: string, who: string, clock: Clock = systemClock): Restored {
  const into = realFile(name)
  mustHaveFolder(into)
  mustBeFile(into)
  const owner = ownerOf(into)
  if (owner !== null && existsSync(owner))
    throw invalid(`${into} belongs to the database ${owner}: name the file of a queue.`)
  if (realFile(from) === into) throw invalid(`${from} is the file of the queue itself: name a backup.`)
  mustBeQueue(from)
  try {
    return besideIts(into, (partial) => exchange({ from, into, partial, who, clock }))
  } catch (error) {
    throw storageError(error, `${from} was not put in the place of ${into}`, 'no', into, from)
  }
}

function exchange({
  from,
  into,
  partial,
  who,
  clock,
}: {
  from: string
  into: string
  partial: string
  who: string
  clock: Clock
}): Restored {
  // biome-ignore format: long
  mustBeUnused(into)
  const kept = freeName(`${keptName(into)}${new Date(clock.now()).toISOString().replace(/[-:]|\.\d+/g, '')}`)
  copy(from, partial)
  const jobs = sign(partial, from, who, clock)
  platform.sync(partial)
  const wasThere = swap(partial, into, kept)
  platform.sync(dirname(into))
  return { file: into, kept: wasThere ? kept : null, jobs }
}

function mustBeQueue(path: string): void {
  using db = openToRead(path)
  const found = read(path, () => version(db))
  if (found === 0) throw new GopherQueueError('NOT_A_QUEUE', `${path} is no queue's file. Nothing was changed: name a backup.`) // biome-ignore format: one line
  if (found > newestSchema) throw new GopherQueueError('SCHEMA_TOO_NEW', tooNew(found))
}

function read<T>(path: string, work: () => T): T {
  try {
    return work()
  } catch (error) {
    throw storageError(error, `Cannot read ${path}`, 'no', path)
  }
}

function freeName(wanted: string): string {
  for (let n = 1; ; n++) {
    const name = n === 1 ? wanted : `${wanted}-${n}`
    if (!existsSync(name)) return name
  }
}

/** The audit log of the restored file says where it came from; answers how many jobs it has. */
function sign(path: string, from: string, who: string, clock: Clock): number {
  using db = new DatabaseSync(path)
  db.prepare(`INSERT INTO gq_audit (at, who, action, target, details) VALUES (?1, ?2, 'restore', ?3, NULL)`).run(clock.now(), who, from) // biome-ignore format: long
  return Number(db.prepare('SELECT COUNT(*) AS jobs FROM gq_jobs').get()!.jobs)
}

/**
 * Under two names a file is opened by no process of a queue: who comes between is refused, and who came just before is
 * found. Only then the name goes over to the copy, in one step. Answers whether something was there.
 */
function swap(partial: string, into: string, kept: string): boolean {
  const moved: string[] = []
  const move = (suffix: string) => {
    if (!existsSync(`${into}${suffix}`)) return
    renameSync(`${into}${suffix}`, `${kept}${suffix}`)
    moved.push(suffix)
  }
  const wasThere = existsSync(into)
  if (wasThere) linkSync(into, kept)
  try {
    mustHaveNoHolder(into)
    sidecars.forEach(move)
    renameSync(partial, into)
  } catch (error) {
    for (const suffix of moved) renameSync(`${kept}${suffix}`, `${into}${suffix}`)
    if (wasThere) rmSync(kept)
    throw error
  }
  return wasThere || moved.length > 0
}

function mustHaveNoHolder(path: string): void {
  const holders = ['', '-wal', '-shm'].flatMap((suffix) => platform.holdersOf(`${path}${suffix}`))
  const names = new Map(holders.map(({ pid, name }) => [pid, name]))
  names.delete(process.pid)
  if (names.size > 0) throw inUse(path, ` by ${[...names].map(([pid, name]) => `process ${pid} (${name})`).join(', ')}`)
}

const inUse = (path: string, by: string) =>
  new GopherQueueError(
    'INVALID_STATE',
    `${path} is in use${by}. Nothing was changed: stop all processes of this queue, workers and servers, then restore.`,
  )

/**
 * By whom the system knows, and by SQLite's own locks, which tell of other users and containers too. To close the file
 * brings its WAL into it; a damaged one is not opened, but kept as it is.
 */
function mustBeUnused(path: string): void {
  mustHaveNoHolder(path)
  if (!looksSound(path)) return
  try {
    checkWal(path)
    openToRead(path).close()
    using db = new DatabaseSync(path, { timeout: 1000 })
    db.exec('PRAGMA locking_mode = EXCLUSIVE; BEGIN IMMEDIATE; ROLLBACK')
  } catch (error) {
    if (codeOf(error) === busy) throw inUse(path, '')
    if (isDamage(error) || (error as GopherQueueError).code === 'STORAGE_CORRUPT') return
    throw storageError(error, `Cannot tell whether ${path} is in use`, 'no', path)
  }
}

/** Of anything less SQLite would make an empty database, and delete its WAL. */
function looksSound(path: string): boolean {
  if ((statSync(path, { throwIfNoEntry: false })?.size ?? 0) < 512) return false
  const file = openSync(path, 'r')
  try {
    const head = Buffer.alloc(16)
    readSync(file, head, 0, 16, 0)
    return head.toString('latin1') === 'SQLite format 3\0'
  } finally {
    closeSync(file)
  }
}

/** https://www.sqlite.org/rescode.html#busy */
const busy = 5
