import { randomUUID } from 'node:crypto'
import { restored } from '../../model/decide.ts'
import { GopherQueueError } from '../../model/errors.ts'
import { runningBy } from './claim.ts'
import { whileBusy } from './connection.ts'
import type { Db } from './db.ts'
import { type RunningJob, selectRunning, write } from './decided.ts'
import { type Moved, movedFrom, movedKey } from './moved.ts'
import { inWrite, stepEnd } from './steps.ts'
import { workersGone } from './workers.ts'

// A file is closed for a move in steps. What each process writes is a transaction that reads the mark under the write
// lock, see newer.ts; triggers hold off plain SQL, and processes of an older version, which know no mark.

const stepRows = 500
const held = ['gq_jobs', 'gq_queues', 'gq_schedules', 'gq_tokens']

/** The mark of the file, null without one. */
export function markOf(db: Db): Moved | null {
  const row = db.get<{ value: string }>(`SELECT value FROM gq_meta WHERE key = '${movedKey}'`)
  return row ? movedFrom(row.value) : null
}

function put(db: Db, mark: Moved): Moved {
  db.run(
    `INSERT INTO gq_meta (key, value) VALUES ('${movedKey}', ?1) ON CONFLICT (key) DO UPDATE SET value = ?1`,
    JSON.stringify(mark),
  )
  return mark
}

/** From here on submissions are refused and no job starts. Goes on with a move to the same place; throws INVALID_STATE of one to another. */
export function seal(db: Db, to: string, who: string): Moved {
  return inWrite(db, () => {
    const known = markOf(db)
    if (known?.to === to) return known
    if (known)
      throw new GopherQueueError(
        'INVALID_STATE',
        `The file moves to ${known.to} already. Nothing was changed: move it there, or end that with --abort first.`,
      )
    hold(db, to, 'gq_jobs', 'INSERT')
    note(db, who, 'move', to)
    return put(db, { id: randomUUID(), to, since: new Date(db.now).toISOString(), phase: 'sealed' })
  })
}

/** Jobs that run in a process that may live. */
export function jobsAtWork(db: Db): number {
  whileBusy(() => db.begin('read'))
  try {
    const all = db.get<{ jobs: number }>(`SELECT COUNT(*) AS jobs FROM gq_jobs WHERE state = 'running'`)!.jobs
    return all === 0 ? 0 : all - workersGone(db).reduce((sum, { id }) => sum + runningBy(db, id), 0)
  } finally {
    db.rollback()
  }
}

/** From here on nobody writes but the move: what still runs goes back, uncharged. One that may be tried once may have run, and ends dead. */
export function close(db: Db, mark: Moved): Moved {
  if (mark.phase === 'sealed') inWrite(db, () => put(db, { ...mark, phase: 'frozen' }))
  while (inWrite(db, () => giveBackSome(db)));
  return inWrite(db, () => {
    db.run('UPDATE gq_workers SET ended_at = ?1 WHERE ended_at IS NULL', db.now)
    for (const table of held) for (const event of ['INSERT', 'UPDATE', 'DELETE']) hold(db, mark.to, table, event)
    return put(db, { ...mark, phase: 'closed' })
  })
}

/** True while there may be more. */
function giveBackSome(db: Db): boolean {
  const jobs = db.all<RunningJob>(`${selectRunning} WHERE j.state = 'running' LIMIT ${stepRows}`)
  const end = stepEnd(db)
  for (const job of jobs) {
    write(db, job, restored(job, db.now, wasMoved))
    if (db.clock.monotonic() > end) break
  }
  return jobs.length > 0
}

const wasMoved = {
  name: 'Moved',
  message: 'It still ran when its queue was moved to a server: it may have run, and may be tried once only.',
  stack: null,
}

/** All of it is at the new place. */
export const done = (db: Db, mark: Moved): Moved => inWrite(db, () => put(db, { ...mark, phase: 'done' }))

/** The file is a queue again. */
export function unseal(db: Db, { to }: Moved, who: string): void {
  inWrite(db, () => {
    const triggers = db.all<{ name: string }>(
      `SELECT name FROM sqlite_schema WHERE type = 'trigger' AND name LIKE 'gq\\_moved\\_%' ESCAPE '\\'`,
    )
    for (const { name } of triggers) db.connection.exec(`DROP TRIGGER ${name}`)
    db.run(`DELETE FROM gq_meta WHERE key = '${movedKey}'`)
    note(db, who, 'abortMove', to)
  })
}

function hold(db: Db, to: string, table: string, event: string): void {
  const says = `MOVED: the queue moves to ${to}: open it there`.replaceAll("'", "''")
  db.connection.exec(
    `CREATE TRIGGER IF NOT EXISTS gq_moved_${event.toLowerCase()}_${table} BEFORE ${event} ON ${table}
     BEGIN SELECT RAISE(ABORT, '${says}'); END`,
  )
}

const note = (db: Db, who: string, action: string, target: string): number =>
  db.run(`INSERT INTO gq_audit (at, who, action, target) VALUES (?1, ?2, ?3, ?4)`, db.now, who, action, target)
