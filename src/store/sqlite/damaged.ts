import { closeSync, constants, copyFileSync, existsSync, fstatSync, openSync, readFileSync, writeSync } from 'node:fs'
import type { SQLInputValue } from 'node:sqlite'
import { isSqlite } from './connection.ts'
import { newestSchema } from './schema.ts'
import { type Connection, DatabaseSync } from './sqlite.ts'
import { committedFrames } from './wal.ts'

// Makes a copy of a damaged database that can be read as far as its pages allow.

export type Row = Record<string, SQLInputValue>

/** A frame that makes the file grow by more is not believed. */
const mostGrowth = 512 * 1024 * 1024

/** Copies a database with all committed transactions of its WAL in it. Answers with what is wrong with the WAL. */
export function foldedCopy(path: string, copy: string): string[] {
  const damage: string[] = []
  if (existsSync(path)) copyFileSync(path, copy)
  const file = openSync(copy, constants.O_RDWR | constants.O_CREAT)
  try {
    let bytes = fstatSync(file).size
    for (const { number, page, sound, content } of committedFrames(path)) {
      if (!sound) damage.push(`frame ${number} of the WAL is damaged: rows of page ${page} may be wrong or old`)
      const at = (page - 1) * content.length
      if (page === 0 || at > bytes + mostGrowth) continue // no such page
      writeSync(file, content, 0, content.length, at)
      bytes = Math.max(bytes, at + content.length)
    }
  } finally {
    closeSync(file)
  }
  return damage
}

/**
 * If the copy's header or table of contents is damaged, puts those of a fresh file there, which has its tables in the same
 * places. Answers whether the tables of a queue can then be found in it.
 */
export function mendContents(copy: string, fresh: Connection, damage: string[]): boolean {
  const probes = fresh
    .prepare(
      `SELECT 'SELECT COUNT(*) FROM (SELECT ' || group_concat(c.name) || ' FROM ' || t.name || ' LIMIT 0)' AS probe
       FROM sqlite_schema t, pragma_table_info(t.name) c WHERE t.type = 'table' AND t.name LIKE 'gq%' GROUP BY t.name`,
    )
    .all()
  const contents = fresh.prepare(`SELECT pageno FROM dbstat WHERE name = 'sqlite_schema'`).all()
  fresh.exec('PRAGMA wal_checkpoint(TRUNCATE)')
  const model = readFileSync(fresh.location()!)
  model[24]! ^= 1 // else the number of pages in the header would count, and not the file's size
  for (const parts of [[], [[0, 100]], contents.map(({ pageno }) => [(Number(pageno) - 1) * 4096, 4096])] as const) {
    const file = openSync(copy, 'r+')
    for (const [at, length] of parts) writeSync(file, model, at, length, at)
    closeSync(file)
    using db = new DatabaseSync(copy)
    const isOlder = Number(first(db, `SELECT value FROM gq_meta WHERE key = 'schema'`)?.value) < newestSchema
    const found = isOlder || probes.every(({ probe }) => first(db, String(probe)))
    if (parts.length > 0)
      damage.push(`its ${parts.length === 1 ? 'header' : 'table of contents'} is damaged: that of a new file was taken`)
    if (found) return true
  }
  return false
}

/** The first row, or undefined when it is not there or cannot be read. */
export function first(db: Connection, sql: string): Row | undefined {
  try {
    const statement = db.prepare(sql)
    statement.setReadBigInts(true)
    return statement.get() as Row | undefined
  } catch (error) {
    if (isSqlite(error)) return undefined
    throw error
  }
}
