import { GopherQueueError } from '../../model/errors.ts'
import type { JobFilter } from '../store.ts'
import { isCounting } from './causes.ts'
import type { Db } from './db.ts'

// Finding jobs among many. No question holds the others up: a look ends by the clock, and is gone on with from its cursor.

const lookMs = 20
/** Rows looked at between two looks at the clock; payloads are read too where a text is wanted, and may be large. */
const rowsAtOnce = { plain: 2000, text: 100 }
/** The same where the look holds the write lock. */
const inWrite = { lookMs: 2, plain: 500, text: 5 }
const most = Number.MAX_SAFE_INTEGER

/** A page's jobs, in its order; `places`: what to go on with after each, where that is not its id. */
interface Picked {
  ids: number[]
  next: number | null
  places?: number[]
}

const likeOf = (text: string | undefined) => (text === undefined ? null : `%${text.replace(/[\\%_]/g, '\\$&')}%`)

/** Parameters ?4 to ?6: queue, type and text, each perhaps null. */
const fits = `(CAST(?4 AS TEXT) IS NULL OR j.queue = ?4) AND (CAST(?5 AS TEXT) IS NULL OR j.type = ?5)
         AND (CAST(?6 AS TEXT) IS NULL OR j.payload LIKE ?6 ESCAPE '\\' OR j.idempotency_key LIKE ?6 ESCAPE '\\' OR j.concurrency_key LIKE ?6 ESCAPE '\\')`

/** Scheduled jobs by when they are due, by index gq_jobs_scheduled. The cursor counts those that were looked at. */
export function pickDue(db: Db, filter: JobFilter): Picked {
  const { queue, type, text, cause, failing = false, since, until, endedBefore, limit = 100, cursor } = filter
  if (endedBefore !== undefined) return { ids: [], next: null } // none of them has
  const causes = cause === undefined && !failing ? null : JSON.stringify(rowsOf(db, filter))
  const low = since === undefined ? 0 : firstSince(db, since)
  const high = until === undefined ? most : firstSince(db, until) - 1
  const size = text === undefined ? rowsAtOnce.plain : rowsAtOnce.text
  const end = db.clock.monotonic() + lookMs
  const ids: number[] = []
  const places: number[] = []
  for (let place = cursor ?? 0; ; ) {
    const rows = db.all<{ id: number; isMeant: number }>(
      `SELECT j.id, j.id BETWEEN ?1 AND ?2 AND ${fits} AND (CAST(?7 AS TEXT) IS NULL OR j.cause IN (SELECT value FROM json_each(?7))) AS isMeant
       FROM gq_jobs j WHERE j.state = 'scheduled' AND j.blocked < 2 ORDER BY j.run_at, j.id LIMIT ${size} OFFSET ?3`,
      ...[low, high, place, queue ?? null, type ?? null, likeOf(text), causes],
    )
    for (const { id, isMeant } of rows) {
      if (isMeant && ids.length === limit) return { ids, next: places.at(-1)!, places }
      place++
      if (!isMeant) continue
      ids.push(id)
      places.push(place)
    }
    if (rows.length < size) return { ids, next: null, places }
    if (db.clock.monotonic() >= end) return { ids, next: place, places }
  }
}

/** The ids of a page's jobs, in the order of submission. */
export function pick(db: Db, filter: JobFilter, within: 'read' | 'write' = 'read'): Picked {
  const {
    state,
    queue,
    type,
    text,
    cause,
    failing = false,
    since,
    until,
    endedBefore,
    order = 'newest',
    limit = 100,
    cursor,
  } = filter
  // The few states have indexes of their own (gq_jobs_ended, gq_jobs_running); the planner takes one when the query
  // says the very words of the index.
  const few =
    state === 'dead' || state === 'cancelled'
      ? `AND j.state = '${state}' AND j.state IN ('dead', 'cancelled')`
      : state === 'running'
        ? `AND j.id IN (SELECT id FROM gq_jobs WHERE state = 'running')`
        : ''
  const newest = order === 'newest'
  const [direction, far] = newest ? ['DESC', 'MIN'] : ['ASC', 'MAX']
  let low = since === undefined ? 0 : firstSince(db, since)
  let high = until === undefined ? most : firstSince(db, until) - 1
  if (cursor != null) [low, high] = newest ? [low, Math.min(high, cursor - 1)] : [Math.max(low, cursor + 1), high]
  const bounds = within === 'write' ? inWrite : { lookMs, ...rowsAtOnce }
  const size = text === undefined ? bounds.plain : bounds.text
  const causes = cause === undefined && !failing ? null : rowsOf(db, filter)
  const end = db.clock.monotonic() + bounds.lookMs
  const ids: number[] = []
  while (ids.length <= limit) {
    const { last, looked, of } = causes
      ? counted(db, causes, low, high, newest, size)
      : look(
          db,
          `SELECT j.id FROM gq_jobs j WHERE j.id BETWEEN ?1 AND ?2 ${few} ORDER BY j.id ${direction} LIMIT ${size}`,
          far,
          low,
          high,
        )
    if (last === null) break
    const rows = db.all<{ id: number }>(
      `SELECT j.id FROM gq_jobs j
       WHERE j.id BETWEEN ?1 AND ?2 ${few} AND (CAST(?3 AS TEXT) IS NULL OR j.state = ?3) AND ${fits} AND (CAST(?9 AS INTEGER) IS NULL OR j.finished_at < ?9) ${of === null ? 'AND CAST(?8 AS TEXT) IS NULL' : 'AND j.id IN (SELECT value FROM json_each(?8))'}
       ORDER BY j.id ${direction} LIMIT +?7`,
      ...[newest ? last : low, newest ? high : last, state ?? null, queue ?? null, type ?? null, likeOf(text)],
      ...[limit + 1 - ids.length, of, endedBefore ?? null],
    )
    for (const { id } of rows) ids.push(id)
    if (newest) high = last - 1
    else low = last + 1
    if (looked < size) break
    if (ids.length <= limit && db.clock.monotonic() >= end) return { ids, next: last }
  }
  const page = ids.slice(0, limit)
  return { ids: page, next: ids.length > limit ? page.at(-1)! : null }
}

/** The first id that was given at an instant or later, by halving: ids grow as time does, unless a clock was set back. */
function firstSince(db: Db, at: number): number {
  let [low, high] = [1, db.sequence() + 1]
  while (low < high) {
    const middle = Math.floor((low + high) / 2)
    const row = db.get<{ id: number; at: number }>(
      `SELECT id, created_at AS at FROM gq_jobs WHERE id >= ?1 ORDER BY id LIMIT 1`,
      middle,
    )
    if (!row || row.at >= at) high = middle
    else low = row.id + 1
  }
  return low
}

interface Looked {
  /** The last id up to which all were looked at; null when there is none. */
  last: number | null
  /** How many there are up to it. */
  looked: number
  /** JSON of their ids, where not all in between are meant. */
  of: string | null
}

const look = (db: Db, ids: string, far: string, low: number, high: number): Looked =>
  db.get<Looked>(`SELECT ${far}(id) AS last, COUNT(*) AS looked, NULL AS of FROM (${ids}) AS ids`, low, high)!

/** The rows of gq_causes that count the jobs of a cause, or all that fail now. */
function rowsOf(db: Db, { cause, failing, queue, type, state }: JobFilter): number[] {
  if (db.get<{ counting: number }>(`SELECT ${isCounting} AS counting`)!.counting === 1)
    throw new GopherQueueError(
      'INVALID_STATE',
      "The jobs of this file are still being counted by cause, since an older version wrote it or 'doctor --repair' ran: a part of them would be found. Nothing was changed: wait until 'gopherqueue dead' no longer says that it counts.",
    )
  const dead = failing ? 0 : state === undefined ? null : Number(state === 'dead')
  const rows = db.all<{ id: number }>(
    `SELECT id FROM gq_causes WHERE (CAST(?1 AS TEXT) IS NULL OR cause = ?1) AND (CAST(?2 AS TEXT) IS NULL OR queue = ?2) AND (CAST(?3 AS TEXT) IS NULL OR type = ?3) AND (CAST(?4 AS INTEGER) IS NULL OR dead = ?4)`,
    ...[cause ?? null, queue ?? null, type ?? null, dead],
  )
  return rows.map(({ id }) => id)
}

/** As many of each row's jobs, by index gq_jobs_cause: beyond the nearest end of those that have more, nothing is known. */
function counted(db: Db, causes: number[], low: number, high: number, newest: boolean, size: number): Looked {
  const each = Math.ceil(size / Math.max(1, causes.length))
  const [direction, nearest] = newest ? (['DESC', Math.max] as const) : (['ASC', Math.min] as const)
  const all: number[] = []
  let end: number | null = null
  for (const cause of causes) {
    const ids = db.all<{ id: number }>(
      `SELECT id FROM gq_jobs WHERE cause = ?1 AND cause IS NOT NULL AND id BETWEEN ?2 AND ?3 ORDER BY id ${direction} LIMIT ?4`,
      ...[cause, low, high, each],
    )
    for (const { id } of ids) all.push(id)
    const last = ids.at(-1)?.id
    if (ids.length === each && last !== undefined) end = end === null ? last : nearest(end, last)
  }
  all.sort((a, b) => (newest ? b - a : a - b))
  const known = end === null ? all : all.slice(0, all.indexOf(end) + 1)
  return { last: known.at(-1) ?? null, looked: end === null ? 0 : size, of: JSON.stringify(known) }
}
