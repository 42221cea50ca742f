import type { DeadGroup, JobFilter, Output } from '../store.ts'
import type { Db } from './db.ts'

// Finding jobs among many. No question holds the others up: a look ends by the clock, and is gone on with from its cursor.

const lookMs = 20
/** Rows looked at between two looks at the clock; payloads are read too where a text is wanted, and may be large. */
const rowsAtOnce = { plain: 2000, text: 100, dead: 2000 }
/** The same where the look holds the write lock. */
const inWrite = { lookMs: 2, plain: 500, text: 5 }
const mostGroups = 500
const most = Number.MAX_SAFE_INTEGER

const lastError = `(SELECT IFNULL(error_name, '') || ': ' || IFNULL(error_message, '') FROM gq_attempts WHERE job_id = j.id AND attempt = j.attempt)`

/** What errors of one cause have in common: the first line, without numbers, ids and addresses. */
export function errorGroup(error: string): string {
  const [first] = error.split('\n', 1)
  return first!.replace(/\S+@\S+|\b(?=[a-f-]*\d)[\da-f-]+\b|\d+/gi, '#').slice(0, 200)
}

/** The ids of a page's jobs, in its order. */
export function pick(
  db: Db,
  filter: JobFilter,
  within: 'read' | 'write' = 'read',
): { ids: number[]; next: number | null } {
  const { state, queue, type, text, error, since, until, order = 'newest', limit = 100, cursor } = filter
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
  const size = text === undefined && error === undefined ? bounds.plain : bounds.text
  const like = text === undefined ? null : `%${text.replace(/[\\%_]/g, '\\$&')}%`
  const end = db.clock.monotonic() + bounds.lookMs
  const ids: number[] = []
  while (ids.length <= limit) {
    const { last, looked } = db.get<{ last: number | null; looked: number }>(
      `SELECT ${far}(id) AS last, COUNT(*) AS looked FROM (
         SELECT j.id FROM gq_jobs j WHERE j.id BETWEEN ?1 AND ?2 ${few} ORDER BY j.id ${direction} LIMIT ${size})`,
      ...[low, high],
    )!
    if (last === null) break
    const rows = db.all<{ id: number; error: string | null }>(
      `SELECT j.id, CASE WHEN ?7 THEN IFNULL(${lastError}, j.reason) END AS error FROM gq_jobs j
       WHERE j.id BETWEEN ?1 AND ?2 ${few} AND (?3 IS NULL OR j.state = ?3) AND (?4 IS NULL OR j.queue = ?4) AND (?5 IS NULL OR j.type = ?5)
         AND (?6 IS NULL OR j.payload LIKE ?6 ESCAPE '\\' OR j.idempotency_key LIKE ?6 ESCAPE '\\' OR j.concurrency_key LIKE ?6 ESCAPE '\\')
       ORDER BY j.id ${direction} LIMIT +?8`,
      ...[newest ? last : low, newest ? high : last, state ?? null, queue ?? null, type ?? null, like],
      ...[Number(error !== undefined), error === undefined ? limit + 1 - ids.length : size],
    )
    for (const row of rows) if (error === undefined || errorGroup(row.error ?? '') === error) ids.push(row.id)
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

type Dead = { id: number; queue: string; type: string; error: string; diedAt: number }

/** The newest dead jobs before the cursor, grouped by queue, type and what their last errors have in common. */
export function deadLetters(db: Db, cursor: number | null): Output<'deadLetters'> {
  const groups = new Map<string, DeadGroup>()
  const end = db.clock.monotonic() + lookMs
  let at = cursor ?? (most as number | null)
  do {
    const rows: Dead[] = db.all<Dead>(
      `SELECT j.id, j.queue, j.type, j.finished_at AS diedAt, IFNULL(${lastError}, j.reason) AS error FROM gq_jobs j
       WHERE j.id < ?1 AND j.state = 'dead' AND j.state IN ('dead', 'cancelled') ORDER BY j.id DESC LIMIT ${rowsAtOnce.dead}`,
      at,
    )
    for (const { id, queue, type, error: whole, diedAt } of rows) {
      const error = errorGroup(whole)
      const key = JSON.stringify([queue, type, error])
      const group = groups.get(key) ?? { queue, type, error, count: 0, newest: id, oldest: id, lastAt: diedAt }
      groups.set(key, { ...group, count: group.count + 1, oldest: id, lastAt: Math.max(group.lastAt, diedAt) })
    }
    at = rows.length === rowsAtOnce.dead ? rows.at(-1)!.id : null
  } while (at !== null && db.clock.monotonic() < end)
  return { groups: [...groups.values()].sort((a, b) => b.count - a.count).slice(0, mostGroups), next: at }
}
