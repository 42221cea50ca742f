import {
  mostNewQueues,
  mostQueues,
  mostTypes,
  tooManyNewQueues,
  tooManyQueues,
  tooManyTypes,
} from '../../model/admission.ts'
import type { Totals } from '../stats.ts'
import type { QueueRow } from './counts.ts'
import { type Db, line } from './db.ts'
import { answersKept } from './kept.ts'
import { chunk } from './steps.ts'

// Names of queues and types are chosen by clients, and whatever looks at all of them takes longer with each: they have
// bounds. A queue is made by its first job, its first setting or its schedule, and is forgotten when none of these is left.

/** Makes a queue that is new in the file. Refuses with TOO_MANY_QUEUES. */
export function makeQueue(db: Db, row: QueueRow): void {
  if (!row.isNew) return
  db.names.queues ??= db.get<{ count: number }>('SELECT COUNT(*) AS count FROM gq_queues')!.count
  if (db.names.queues >= mostQueues) throw tooManyQueues(row.name)
  if (db.names.who !== null) countNew(db, row.name, db.names.who)
  row.isNew = false
  db.names.queues++
  db.undone(() => {
    row.isNew = true
    db.names.queues!--
  })
}

/** As `makeQueue`, for a job of a type, which may be new in the queue. Refuses with TOO_MANY_TYPES, too. */
export function makeLine(db: Db, row: QueueRow, type: string): void {
  makeQueue(db, row)
  const key = line(row.name, type)
  if (db.names.lines.has(key)) return
  if (!db.get('SELECT 1 FROM gq_types WHERE queue = ?1 AND type = ?2', row.name, type)) {
    row.types ??= db.get<{ count: number }>('SELECT COUNT(*) AS count FROM gq_types WHERE queue = ?1', row.name)!.count
    if (row.types >= mostTypes) throw tooManyTypes(row.name, type)
    db.later('INSERT INTO gq_types (queue, type) VALUES (?1, ?2)', row.name, type)
    row.types++
    db.undone(() => {
      row.types = null
    })
  }
  db.names.lines.add(key)
}

/** Counts the queues that a client on the network makes: an hour begins with the first of them. */
function countNew(db: Db, queue: string, who: string): void {
  const request = `queues ${who}`
  const made = db.get<{ answer: string; expires_at: number }>(
    'SELECT answer, expires_at FROM gq_requests WHERE request = ?1 AND expires_at > ?2',
    ...[request, db.now],
  )
  const count = Number(made?.answer ?? 0)
  const until = made?.expires_at ?? db.now + answersKept
  if (count >= mostNewQueues) throw tooManyNewQueues(queue, until)
  db.run(
    `INSERT INTO gq_requests (request, answer, expires_at) VALUES (?1, ?2, ?3)
     ON CONFLICT (request) DO UPDATE SET answer = ?2, expires_at = ?3`,
    ...[request, String(count + 1), until],
  )
}

/** In SQL: a queue without settings. */
const hasDefaults = `paused = 0 AND max_depth IS NULL AND max_running IS NULL AND max_running_per_key = 1 AND rate_max IS NULL
  AND keep_succeeded IS NOT DISTINCT FROM 86400000 AND keep_cancelled IS NOT DISTINCT FROM 604800000 AND keep_dead IS NULL AND settling IS NULL`

/** What has happened in queues that were forgotten, and how many these are: with each, the names in the file are others. */
export interface Forgotten extends Totals {
  queues: number
}

export function forgottenQueues(db: Db): Forgotten {
  const none = { queues: 0, submitted: 0, succeeded: 0, failed: 0, dead: 0, cancelled: 0 }
  const kept = db.get<{ value: string }>(`SELECT value FROM gq_meta WHERE key = 'forgotten'`)
  return kept ? (JSON.parse(kept.value) as Forgotten) : none
}

/** A setting or schedule of the queue has gone: the end of the transaction forgets it, if there is nothing left of it. */
export function mayForget(db: Db, queue: string): void {
  db.queue(queue).touched = true
}

/** The last step of a transaction: forgets the queues that have neither a job, nor a setting, nor a schedule any more. */
export function forgetEmptied(db: Db): void {
  const emptied = db
    .queuesRead()
    .filter(
      ({ moves, touched, counts }) => (moves !== 0 || touched) && Object.values(counts).every((jobs) => jobs <= 0),
    )
  if (emptied.length === 0) return
  const scheduled = new Set(db.arrays(`SELECT DISTINCT spec ->> '$.queue' FROM gq_schedules`).flat())
  const gone = emptied.filter(
    ({ name }) =>
      !scheduled.has(name) && db.run(`DELETE FROM gq_queues WHERE name = ?1 AND ${hasDefaults}`, name) === 1,
  )
  if (gone.length === 0) return
  const forgotten = forgottenQueues(db)
  forgotten.queues += gone.length
  for (const row of gone) {
    for (const total of Object.keys(row.totals) as (keyof Totals)[]) forgotten[total] += row.totals[total]
    row.moves = 0 // or it would be written back
  }
  db.run(
    `INSERT INTO gq_meta (key, value) VALUES ('forgotten', ?1) ON CONFLICT (key) DO UPDATE SET value = ?1`,
    JSON.stringify(forgotten),
  )
}

/** In SQL: whether types of an older file's jobs are yet to be found. */
export const typesAreNew = `EXISTS (SELECT 1 FROM gq_meta WHERE key = 'types')`

/** Finds the types of jobs that an older version has stored, until the step is over: until then a queue may take more than its bound. True when some are left. */
export function findTypes(db: Db, end: number): boolean {
  const begun = db.get<{ at: number }>(`SELECT CAST(value AS INTEGER) AS at FROM gq_meta WHERE key = 'types'`)
  if (!begun) return false
  let { at } = begun
  do {
    const range = `FROM (SELECT id, queue, type FROM gq_jobs WHERE id > ?1 AND blocked < 2 ORDER BY id LIMIT 200) AS next`
    const { last } = db.get<{ last: number | null }>(`SELECT MAX(id) AS last ${range}`, at)!
    if (last === null) {
      db.run(`DELETE FROM gq_meta WHERE key = 'types'`)
      return false
    }
    db.run(`INSERT INTO gq_types (queue, type) SELECT queue, type ${range} WHERE true ON CONFLICT DO NOTHING`, at)
    at = last
  } while (db.clock.monotonic() < end)
  db.run(`UPDATE gq_meta SET value = ?1 WHERE key = 'types'`, String(at))
  return true
}

/** Up to which rows were looked at: in turn, so many a look. */
const seen = new WeakMap<Db, { queue: string; type: string; name: string }>()

/** Forgets what the transaction that emptied it has left: types of forgotten queues, and queues that an earlier version has kept. */
export function pruneNames(db: Db): boolean {
  const at = seen.get(db) ?? { queue: '', type: '', name: '' }
  const types = db.all<{ queue: string; type: string; left: 0 | 1 }>(
    `SELECT queue, type, NOT EXISTS (SELECT 1 FROM gq_queues WHERE name = t.queue) AS left
     FROM gq_types t WHERE (queue, type) > (?1, ?2) ORDER BY queue, type LIMIT ${chunk}`,
    ...[at.queue, at.type],
  )
  for (const { queue, type, left } of types)
    if (left && !db.names.lines.has(line(queue, type)))
      db.run('DELETE FROM gq_types WHERE queue = ?1 AND type = ?2', queue, type)
  const queues = db.all<{ name: string; empty: 0 | 1 }>(
    `SELECT name, scheduled + ready + running + succeeded + dead + cancelled = 0 AND ${hasDefaults} AS empty
     FROM gq_queues WHERE name > ?1 ORDER BY name LIMIT ${chunk}`,
    at.name,
  )
  for (const { name, empty } of queues) if (empty) mayForget(db, name)
  const { queue, type } = types.length < chunk ? { queue: '', type: '' } : types.at(-1)!
  seen.set(db, { queue, type, name: queues.length < chunk ? '' : queues.at(-1)!.name })
  return false // no hurry
}
