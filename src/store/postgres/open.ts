import type { Clock } from '../../model/clock.ts'
import { GopherQueueError, isQueueError } from '../../model/errors.ts'
import { storageError } from '../sqlite/connection.ts'
import { type Processes, systemProcesses } from '../sqlite/processes.ts'
import { ServerClock } from './clock.ts'
import { ServerConnection } from './connection.ts'
import { ServerDb } from './db.ts'
import { loadable } from './driver.ts'
import { type Place, placeOf } from './place.ts'
import { grant, isNewest, migrate, mustHaveRights, newestSchema } from './schema.ts'

/** A process of another machine, though it has this one's name, is never judged by its number here: its leases decide. */
export const processesHere: Processes = {
  me: systemProcesses.me,
  isAlive: (row) => (row.boot === null || row.boot !== systemProcesses.me.boot ? null : systemProcesses.isAlive(row)),
}

/** Connects ready for use: durable commits, a lock that holds, the schema up to date, rights. Each of these is asserted. */
export function connect(place: Place, clock: Clock, processes = processesHere): ServerDb {
  return connected(place, (connection) => {
    migrate(connection)
    mustHaveRights(connection)
    return new ServerDb(connection, clock, processes)
  })
}

/** To look at the queue alone; null where its schema is of an older version. */
export function connectToRead(place: Place): ServerDb | null {
  return connected(place, (connection) => {
    if (isNewest(connection)) return new ServerDb(connection, new ServerClock(), processesHere)
    connection.close()
    return null
  })
}

function connected<T>(place: Place, use: (connection: ServerConnection) => T): T {
  let connection: ServerConnection | undefined
  try {
    connection = new ServerConnection(place)
    mustLock(connection)
    return use(connection)
  } catch (error) {
    if (connection?.isOpen) connection.close()
    throw isQueueError(error) ? error : storageError(error, 'Cannot use the PostgreSQL server')
  }
}

/** What `bringForward` has done: versions are 0 where there was no queue. */
export interface Forward {
  schema: string
  from: number
  to: number
  granted: string[]
}

/** Makes the queue's tables or brings them to this version, as their owner, and lets roles use them. Throws as `open`. */
export async function bringForward(url: string, roles: string[]): Promise<Forward> {
  const place = placeOf(url)
  await loadable()
  return connected(place, (connection) => {
    const from = migrate(connection)
    for (const role of roles) grant(connection, role)
    connection.close()
    return { schema: place.schema, from, to: Math.max(from, newestSchema), granted: roles }
  })
}

/** Servers that speak the protocol without advisory locks, such as CockroachDB, would run jobs in any order. */
function mustLock(connection: ServerConnection): void {
  const text = (sql: string) => ({ text: sql, values: [] })
  try {
    const find = `SELECT COUNT(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() AND granted`
    const lock = text('SELECT pg_advisory_xact_lock(pg_backend_pid())') // one that nobody else has: reads wait for no writer
    if (Number(connection.flight([text('BEGIN'), lock, text(find)]).at(-1)!.rows[0]![0]) > 0) return
  } finally {
    connection.undo([text('ROLLBACK')])
  }
  throw new GopherQueueError('STORAGE_UNAVAILABLE', 'The server does not hold advisory locks, as PostgreSQL does. Nothing was changed: use PostgreSQL 14 or newer.') // biome-ignore format: one message
}
