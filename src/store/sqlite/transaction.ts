import { existsSync, realpathSync, statSync } from 'node:fs'
import type { Clock } from '../../model/clock.ts'
import { invalid } from '../../model/errors.ts'
import type { Submission, Submitted } from '../store.ts'
import { isSqlite } from './connection.ts'
import { Db } from './db.ts'
import { mustKnowSchema } from './newer.ts'
import { platform } from './platform.ts'
import { DatabaseSync } from './sqlite.ts'
import { submit } from './submit.ts'

/**
 * Stores jobs through a connection of the app's own to the queue's file, inside the transaction that is open on it, or
 * in one of its own. What SQLite reports, such as a lock that others hold, goes through as it is: it is the app's connection.
 */
export function submitIn(connection: unknown, path: string, clock: Clock, submission: Submission): Submitted {
  const db = usable(connection, path, clock)
  const app = db.connection
  const [begin, end, undo] = app.isTransaction
    ? ['SAVEPOINT submission', 'RELEASE submission', 'ROLLBACK TO submission; RELEASE submission']
    : ['BEGIN IMMEDIATE', 'COMMIT', 'ROLLBACK']
  try {
    app.exec(begin)
    // The write lock before the first look: SQLite lets a transaction that has read wait for no lock, and a stale one not write.
    db.run('UPDATE gq_queues SET paused = paused WHERE 0')
    db.now = clock.now()
    mustKnowSchema(db)
    const submitted = submit(db, submission)
    db.writeCounts()
    app.exec(end)
    return submitted
  } catch (error) {
    if (app.isTransaction) app.exec(undo)
    if (isSqlite(error) && (error.errcode & 0xff) === 8) throw invalid(`The connection cannot write: ${error.message}.`)
    throw error
  }
}

/** The connection, if what is committed on it is as durable as what the queue commits. */
function usable(connection: unknown, path: string, clock: Clock): Db {
  // Two copies of SQLite in one process do not see each other's locks (POSIX locks belong to the process), and lose
  // each other's commits. That of better-sqlite3 is another copy than Node's, on which the queue runs.
  if (!(connection instanceof DatabaseSync))
    throw invalid(
      'submitWith takes a DatabaseSync of node:sqlite. Another driver, such as better-sqlite3, brings its own copy of SQLite, and two copies in one process damage a file that both have open: use it in a process that does not open the queue, and submit there with plain SQL.',
    )
  if (!connection.isOpen) throw invalid('The connection is closed.')
  const file = connection.location()
  if (file === null || path === ':memory:' || !isSameFile(file, path))
    throw invalid(
      `The connection's main database is ${file ?? 'in memory'}, the queue's is ${path}: a transaction covers both only if they are one file, not attached.`,
    )
  const db = new Db(connection, clock)
  // Not one SELECT from the pragmas' tables: that would be the transaction's first read.
  const { synchronous } = db.get<{ synchronous: number }>('PRAGMA synchronous')!
  const { fullfsync } = db.get<{ fullfsync: number }>('PRAGMA fullfsync')!
  if (synchronous < 2 || (!platform.fsyncReachesDisk && fullfsync === 0))
    throw invalid(
      "The connection commits without waiting for the disk: run 'PRAGMA synchronous = FULL; PRAGMA fullfsync = 1' on it after opening it.",
    )
  return db
}

/** By device and inode of the WAL: a hard link is the same file, but SQLite gives it another WAL. */
function isSameFile(one: string, other: string): boolean {
  const [a, b] = [one, other].map((path) => {
    if (!existsSync(path)) return undefined
    return statSync(`${realpathSync(path)}-wal`, { bigint: true, throwIfNoEntry: false })
  })
  return a !== undefined && b !== undefined && a.dev === b.dev && a.ino === b.ino
}
