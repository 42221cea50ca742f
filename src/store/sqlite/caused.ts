import type { Cause, CauseFilter, CausePage, Output } from '../store.ts'
import { isCounting } from './causes.ts'
import type { Db } from './db.ts'

// What the rows of gq_causes say: no job is read but the first and the last of each, by an index.

const mostInPage = 200

/** How many jobs are dead, by cause. */
export const deadLetters = (db: Db, filter: CauseFilter): Output<'deadLetters'> => pageOf(db, 1, filter)

/** How many jobs fail now, by cause. */
export const failing = (db: Db, filter: CauseFilter): Output<'failing'> => pageOf(db, 0, filter)

/** The cursor is the place of a row: its count and its id. What changes its count meanwhile may come twice, or not. */
function pageOf(db: Db, dead: 0 | 1, { queue, type, limit = mostInPage, cursor }: CauseFilter): CausePage {
  const [jobs, id] = cursor?.split('.').map(Number) ?? [Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER]
  const of = `SELECT MAX(id) FROM gq_jobs WHERE cause = c.id AND cause IS NOT NULL`
  const rows = db.all<Cause & { row: number }>(
    `SELECT c.id AS row, queue, type, cause, jobs AS count, last_at AS lastAt,
            (${of}) AS newest, (${of.replace('MAX', 'MIN')}) AS oldest
     FROM gq_causes c
     WHERE dead = ?1 AND jobs > 0 AND (jobs, c.id) < (?2, ?3) AND (CAST(?4 AS TEXT) IS NULL OR queue = ?4) AND (CAST(?5 AS TEXT) IS NULL OR type = ?5)
     ORDER BY jobs DESC, c.id DESC LIMIT ?6`,
    ...[dead, jobs!, id!, queue ?? null, type ?? null, limit + 1],
  )
  const page = rows.slice(0, limit)
  const last = rows.length > limit ? page.at(-1)! : null
  return {
    causes: page.map(({ row: _, ...cause }) => cause),
    counting: db.get<{ counting: number }>(`SELECT ${isCounting} AS counting`)!.counting === 1,
    next: last && `${last.count}.${last.row}`,
  }
}
