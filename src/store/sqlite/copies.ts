import { fstatSync, readFileSync, statSync, writeSync } from 'node:fs'
import { pathToFileURL } from 'node:url'
import { GopherQueueError } from '../../model/errors.ts'
import { platform } from './platform.ts'
import { DatabaseSync, nodeSqlite, type Sqlite } from './sqlite.ts'

// POSIX locks belong to the process. Two copies of SQLite in one do not see each other's, and each drops those of the
// other whenever it closes a descriptor: they overwrite each other's commits. Every copy that uses a file in WAL mode
// has one descriptor of its -shm, however many connections it has. So those of this process are counted, with fstat
// alone: to open and close the file, in whatever way, would drop the locks that this is about.

interface Descriptors {
  /** Of the database file: at least one a connection, of whichever copy. */
  database: number[]
  /** Of its -shm: one a copy that has read or written in WAL mode. */
  shm: number[]
  /** Of its -shm, to read only: what `isNodesCopy` keeps open. */
  probes: number[]
  wal: number[]
}

/** The descriptors that this process has of a file. `path` is no link. */
export function descriptorsOf(path: string): Descriptors {
  const found: Descriptors = { database: [], shm: [], probes: [], wal: [] }
  const lists = [found.database, found.shm, found.wal]
  const files = filesOf(path)
  if (!files[0]) return found
  for (const number of platform.descriptors()) {
    try {
      const { ino, dev } = fstatSync(number)
      const list = lists[files.findIndex((file) => file?.ino === ino && file.dev === dev)]
      if (list === found.shm && !isWritable(number)) found.probes.push(number)
      else list?.push(number)
    } catch {
      // It is not open, or was closed after it was listed.
    }
  }
  return found
}

function isWritable(descriptor: number): boolean {
  try {
    writeSync(descriptor, nothing, 0, 0) // no bytes: it fails or does nothing
    return true
  } catch {
    return false
  }
}
const nothing = Buffer.alloc(0)

const filesOf = (path: string) =>
  ['', '-shm', '-wal'].map((suffix) => statSync(`${path}${suffix}`, { throwIfNoEntry: false }))

/** One descriptor of each. */
export interface Readable {
  database: number
  shm: number
  wal: number
}

/** Descriptors that SQLite has of the file, its -shm and its -wal, to read from; those of before as long as they still are what they were. */
export function readable(path: string, before: Readable | null): Readable | null {
  const files = filesOf(path)
  const isStill = (descriptor: number, i: number) => {
    const { ino, dev } = fstatSync(descriptor)
    return ino === files[i]?.ino && dev === files[i].dev
  }
  try {
    if (before && isStill(before.database, 0) && isStill(before.shm, 1) && isStill(before.wal, 2)) return before
  } catch {
    // One was closed.
  }
  const { database, shm, wal } = descriptorsOf(path)
  if (database.length === 0 || shm.length === 0 || wal.length === 0) return null
  return { database: database[0]!, shm: shm[0]!, wal: wal[0]! }
}

/** What each SQLite file begins with: a library that can make one contains it, whatever its name. */
const magic = 'SQLite format 3\0'
/** A larger library is judged by its name alone: to read it would take too long. */
const mostRead = 128 * 1024 * 1024
const judged = new Map<string, boolean>()

/** Libraries loaded into this process that bring an SQLite besides Node's and the queue's. */
export const otherLibraries = (sqlite = nodeSqlite): string[] =>
  platform.libraries().filter((library) => !sqlite.isIn(library) && bringsSqlite(library))

function bringsSqlite(library: string): boolean {
  const before = judged.get(library)
  if (before !== undefined) return before
  const brings = !isNodes(library) && (/sqlite|libsql/i.test(library) || contains(library, magic))
  judged.set(library, brings)
  return brings
}

/** Node itself, or the system's SQLite where Node was built to use that one. */
function isNodes(library: string): boolean {
  const { node_shared_sqlite: shared } = process.config.variables as unknown as Record<string, unknown>
  if (shared && /libsqlite3\./.test(library)) return true
  return library === process.execPath || library === platform.executable()
}

export function contains(library: string, text: string): boolean {
  try {
    return statSync(library).size <= mostRead && readFileSync(library).includes(text)
  } catch {
    return false // an upgrade removed it since it was loaded: then the descriptors alone tell
  }
}

/** Throws TWO_SQLITES when another copy than the queue's has the file open in this process. Nothing is opened to find out, or it stays open. */
export function refuseOtherCopies(path: string, sqlite: Sqlite): void {
  letGoOfProbe(path)
  const { database, shm } = descriptorsOf(path)
  if (database.length === 0) return
  const others = otherLibraries(sqlite).length > 0
  // Where a driver is the only one besides Node, what is not Node's is its own; of what has not read yet, nothing tells.
  const isOther =
    sqlite.driver === null ? others && !isNodesCopy(path, shm.length) : others || isNodesCopy(path, shm.length)
  if (shm.length > 1 || isOther) throw twoCopies(path, sqlite, 'before')
}

/** As `refuseOtherCopies`, of a file that this process has open itself. */
export function otherCopyCame(path: string, sqlite: Sqlite): GopherQueueError | null {
  return descriptorsOf(path).shm.length > 1 ? twoCopies(path, sqlite, 'after') : null
}

/** Connections that must not be closed as long as another copy has their file: that would drop its locks. */
const probes = new Map<string, DatabaseSync>()

/**
 * Whether the one copy that has the -shm open is Node's. A connection of Node's that may open the -shm to read only
 * tells: it shares what Node's copy has open, or else opens one more. It waits for no lock, takes none that another copy
 * of this process does not hold alike, gives none back, and begins no new -shm, as long as it is not closed.
 */
function isNodesCopy(path: string, copies: number): boolean {
  if (copies === 0) return false // nobody has read yet, or not in WAL mode: nothing tells whose it is
  if (descriptorsOf(path).probes.length > 0) return false // as was found before, perhaps by another thread
  const url = pathToFileURL(path)
  url.search = 'readonly_shm=1'
  const probe = new DatabaseSync(url, { readOnly: true })
  try {
    probe.prepare('SELECT 1 FROM sqlite_schema').get()
  } catch {
    // What it opened counts, not what it reads.
  }
  if (descriptorsOf(path).probes.length > 0) {
    probes.set(path, probe)
    return false
  }
  probe.close()
  return true
}

/** The other copy is gone: a connection that can only read must not be what later ones share their -shm with. */
function letGoOfProbe(path: string): void {
  const probe = probes.get(path)
  if (!probe || descriptorsOf(path).shm.length > 0) return
  probes.delete(path)
  probe.close()
}

function twoCopies(path: string, sqlite: Sqlite, when: 'before' | 'after'): GopherQueueError {
  const isDriver = sqlite.driver !== null
  const others = [...(isDriver ? ['node:sqlite'] : []), ...otherLibraries(sqlite)]
  const who = others.length > 0 ? ` (${others.join(', ')})` : ''
  const own = isDriver ? 'the driver' : 'node:sqlite'
  const [what, safe] =
    when === 'before'
      ? [
          'has this file open, or may have',
          `Nothing was opened or changed. If all connections to it are of ${own}, open the queue before them.`,
        ]
      : [
          'has opened this file beside the queue',
          "From here on nothing is read or written by the queue, and nothing was accepted. Close that connection, end this process, and look at the file with 'gopherqueue doctor' before you start it again.",
        ]
  const orDriver = isDriver
    ? ''
    : `, or through better-sqlite3 only, with { driver: import.meta.resolve('better-sqlite3') } as an option of open (require.resolve in CommonJS)`
  return new GopherQueueError(
    'TWO_SQLITES',
    `Another copy of SQLite in this process${who} ${what}: ${path}. Two copies in one process do not see each other's locks and destroy the file. ${safe} Give the queue a file of its own, or let the app use the file through ${own} only${orDriver}.`,
  )
}
