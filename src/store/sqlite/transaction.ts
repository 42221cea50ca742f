import { existsSync, realpathSync, statSync } from 'node:fs'
import type { Clock } from '../../model/clock.ts'
import { invalid } from '../../model/errors.ts'
import type { Submission, Submitted } from '../store.ts'
import { codeOf } from './connection.ts'
import { Db } from './db.ts'
import { mustBeCurrent } from './newer.ts'
import { platform } from './platform.ts'
import { tableMissed, tablesGone } from './schema.ts'
import type { Sqlite } from './sqlite.ts'
import { submit } from './submit.ts'

/** The queue's own file, and the copy of SQLite that it is opened with. */
interface Own {
  path: string
  sqlite: Sqlite
  clock: Clock
}

/**
 * Stores jobs through a connection of the app's own to the queue's file, inside the transaction that is open on it, or
 * in one of its own. What SQLite reports, such as a lock that others hold, goes through as it is: it is the app's connection.
 */
export function submitIn(connection: unknown, { path, sqlite, clock }: Own, submission: Submission): Submitted {
  const db = usable(connection, { path, sqlite, clock })
  const app = db.connection
  const [begin, end, undo] = app.isTransaction
    ? ['SAVEPOINT submission', 'RELEASE submission', 'ROLLBACK TO submission; RELEASE submission']
    : ['BEGIN IMMEDIATE', 'COMMIT', 'ROLLBACK']
  try {
    app.exec(begin)
    // The write lock before the first look: SQLite lets a transaction that has read wait for no lock, and a stale one not write.
    db.run('UPDATE gq_queues SET paused = paused WHERE 0')
    db.now = clock.now()
    mustBeCurrent(db)
    const submitted = submit(db, submission)
    db.writeCounts()
    app.exec(end)
    return submitted
  } catch (error) {
    if (app.isTransaction) app.exec(undo)
    if (tableMissed(error)) throw tablesGone(tableMissed(error)!)
    if (codeOf(error) === 8) throw invalid(`The connection cannot write: ${(error as Error).message}.`)
    throw error
  }
}

/** The connection, if what is committed on it is as durable as what the queue commits. */
function usable(connection: unknown, { path, sqlite, clock }: Own): Db {
  // Two copies of SQLite in one process do not see each other's locks (POSIX locks belong to the process), and lose
  // each other's commits.
  const own = sqlite.adopt(connection)
  if (!own) throw invalid(sqlite.driver === null ? takesNodes : takesDrivers(sqlite.driver))
  if (!own.isOpen) throw invalid('The connection is closed.')
  const file = own.location()
  if (file === null || path === ':memory:' || !isSameFile(file, path))
    throw invalid(
      `The connection's main database is ${file ?? 'in memory'}, the queue's is ${path}: a transaction covers both only if they are one file, not attached.`,
    )
  const db = new Db(own, clock)
  // Not one SELECT from the pragmas' tables: that would be the transaction's first read.
  const { synchronous } = db.get<{ synchronous: number }>('PRAGMA synchronous')!
  const { fullfsync } = db.get<{ fullfsync: number }>('PRAGMA fullfsync')!
  if (synchronous < 2 || (!platform.fsyncReachesDisk && fullfsync === 0))
    throw invalid(
      "The connection commits without waiting for the disk: run 'PRAGMA synchronous = FULL; PRAGMA fullfsync = 1' on it after opening it.",
    )
  return db
}

const takesNodes =
  "submitWith takes a DatabaseSync of node:sqlite. Another driver brings its own copy of SQLite, and two copies in one process damage a file that both have open. If the app uses better-sqlite3, open the queue on that: GopherQueue.open(file, { driver: import.meta.resolve('better-sqlite3') }); submitWith then takes its connections."
const takesDrivers = (driver: string) =>
  `submitWith takes a connection that was opened with the queue's driver, the better-sqlite3 of ${driver}; of Drizzle that is db.$client. One of node:sqlite, or of another copy of better-sqlite3, has an SQLite of its own, and two copies in one process damage a file that both have open.`

/** By device and inode of the WAL: a hard link is the same file, but SQLite gives it another WAL. */
function isSameFile(one: string, other: string): boolean {
  const [a, b] = [one, other].map((path) => {
    if (!existsSync(path)) return undefined
    return statSync(`${realpathSync(path)}-wal`, { bigint: true, throwIfNoEntry: false })
  })
  return a !== undefined && b !== undefined && a.dev === b.dev && a.ino === b.ino
}
