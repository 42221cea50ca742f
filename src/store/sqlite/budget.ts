import type { Db } from './db.ts'

/** Most bytes of the texts of one answer: on the network it is one text, which must not grow beyond what V8 takes, and many may wait for readers that do not read. `few` jobs, of two such texts each, are always within it. */
export const budgets = {
  lease: { columns: ['payload', 'checkpoint'], most: 4 * 1024 * 1024, few: 3 },
  page: { columns: ['payload', 'result'], most: 4 * 1024 * 1024, few: 2 },
}

/** The first of these jobs, as many as one answer carries, at least one. */
export function firstWithin(db: Db, ids: number[], { columns, most, few }: (typeof budgets)['page']): number[] {
  if (ids.length <= few) return ids
  const bytes = columns.map((column) => `COALESCE(octet_length(${column}), 0)`).join(' + ')
  const these = `FROM gq_jobs WHERE id IN (SELECT value FROM json_each(?1))`
  const { all } = db.get<{ all: number }>(`SELECT SUM(${bytes}) AS "all" ${these}`, JSON.stringify(ids))!
  if (all <= most) return ids
  const rows = db.arrays(`SELECT id, ${bytes} ${these}`, JSON.stringify(ids)) as [number, number][]
  const sizes = new Map(rows)
  return ids.slice(0, countWithin(ids.map((id) => sizes.get(id)!), most)) // biome-ignore format: one line
}

/** How many of these, from the first on, come to no more than `most` bytes; at least one. */
export function countWithin(sizes: number[], most: number): number {
  let left = most
  const end = sizes.findIndex((size, i) => {
    left -= size
    return left < 0 && i > 0
  })
  return end < 0 ? sizes.length : end
}
