import type { Db } from './db.ts'

/** Most bytes of the texts of one lease or page: on the network it is one text, which must not grow beyond what V8 takes. */
const most = 16 * 1024 * 1024
/** So few jobs, of a payload and a result each, are always within it. */
const few = 7

/** The first of these jobs, as many as one answer carries, at least one. `columns`: the texts that go along. */
export function firstWithin(db: Db, ids: number[], columns: string[]): number[] {
  if (ids.length <= few) return ids
  const bytes = columns.map((column) => `IFNULL(octet_length(${column}), 0)`).join(' + ')
  const these = `FROM gq_jobs WHERE id IN (SELECT value FROM json_each(?1))`
  const { all } = db.get<{ all: number }>(`SELECT SUM(${bytes}) AS "all" ${these}`, JSON.stringify(ids))!
  if (all <= most) return ids
  const rows = db.arrays(`SELECT id, ${bytes} ${these}`, JSON.stringify(ids)) as [number, number][]
  const sizes = new Map(rows)
  let left = most
  const end = ids.findIndex((id, i) => {
    left -= sizes.get(id)!
    return left < 0 && i > 0
  })
  return end < 0 ? ids : ids.slice(0, end)
}
