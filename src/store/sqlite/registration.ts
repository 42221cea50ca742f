import type { WorkerRegistration } from '../store.ts'
import type { Db } from './db.ts'
import { keepAnswer, keptAnswer } from './kept.ts'
import { instanceOf } from './processes.ts'
import type { WorkerRow } from './workers.ts'

/**
 * Signs on a worker. One that was signed on before and is of the same instance keeps its row, also one that somebody has
 * ended meanwhile, and with it the jobs that still run there.
 */
export function register(db: Db, registration: WorkerRegistration): number {
  return db.atomic(() => {
    const before = signedOnBy(db, registration.request) ?? rowOfSame(db, registration)
    const id = before === undefined ? signOn(db, registration) : signOnAgain(db, before, registration)
    if (registration.request != null) keepAnswer(db, 'worker', registration.request, id)
    return id
  })
}

/** The row that the same call has made, sent before: its answer was lost. */
function signedOnBy(db: Db, request: string | null | undefined): number | undefined {
  if (request == null) return undefined
  const id = keptAnswer<number>(db, 'worker', request)?.answer
  return id === undefined ? undefined : db.get<{ id: number }>(`SELECT id FROM gq_workers WHERE id = ?1`, id)?.id
}

/** Its earlier row. In a file that was restored the same id may be another's. */
function rowOfSame(db: Db, { name, known, instance, remote }: WorkerRegistration): number | undefined {
  if (known === undefined) return undefined
  const row = db.get<Pick<WorkerRow, 'name' | 'pid' | 'instance'>>(
    `SELECT name, pid, instance FROM gq_workers WHERE id = ?1`,
    known,
  )
  const own = remote === undefined ? instanceOf(db.processes.me) : instance
  const isSame = own === undefined ? row?.name === name && row.pid === null : row?.instance === own
  return isSame ? known : undefined
}

function signOnAgain(db: Db, id: number, { sources, slots, remote }: WorkerRegistration): number {
  db.run(
    `UPDATE gq_workers SET sources = ?2, slots = ?3, host = ?4, seen_at = ?5, ended_at = NULL, stopping_at = NULL WHERE id = ?1`,
    ...[id, JSON.stringify(sources), slots, remote ?? db.processes.me.host, db.now],
  )
  return id
}

function signOn(db: Db, { name, sources, slots, remote, instance }: WorkerRegistration): number {
  const nobody = { pid: null, pid_started: null, boot: null, pid_space: null }
  const me = remote === undefined ? db.processes.me : { host: remote, ...nobody }
  const id = db.insert(
    `INSERT INTO gq_workers (name, sources, slots, host, pid, pid_started, boot, pid_space, started_at, seen_at, instance)
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?9, ?10)`,
    ...[name, JSON.stringify(sources), slots, me.host, me.pid, me.pid_started, me.boot, me.pid_space, db.now],
    remote === undefined ? instanceOf(db.processes.me) : (instance ?? ''),
  )
  // One that does not say of which process it is counts as a process of its own.
  if (remote !== undefined && instance === undefined)
    db.run(`UPDATE gq_workers SET instance = ?2 WHERE id = ?1`, id, `${remote} ${id}`)
  return id
}
