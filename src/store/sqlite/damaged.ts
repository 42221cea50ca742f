import {
  closeSync,
  constants,
  copyFileSync,
  existsSync,
  fstatSync,
  openSync,
  readFileSync,
  readSync,
  writeSync,
} from 'node:fs'
import { DatabaseSync, type SQLInputValue } from 'node:sqlite'
import { isSqlite } from './connection.ts'
import { newestSchema } from './schema.ts'
import { committedFrames } from './wal.ts'

// Makes a copy of a damaged database that can be read as far as its pages allow.

export type Row = Record<string, SQLInputValue>

/** Copies a database with all committed transactions of its WAL in it. Answers with what is wrong with the WAL. */
export function foldedCopy(path: string, copy: string): string[] {
  const damage: string[] = []
  if (existsSync(path)) copyFileSync(path, copy)
  const file = openSync(copy, constants.O_RDWR | constants.O_CREAT)
  try {
    const pageSize = pageSizeOf(file)
    let pages = fstatSync(file).size / pageSize
    for (const { number, page, sound, content } of committedFrames(path, pageSize)) {
      if (!sound) damage.push(`frame ${number} of the WAL is damaged: rows of page ${page} may be wrong or old`)
      if (page === 0 || page > pages + 100_000) continue
      writeSync(file, content, 0, pageSize, (page - 1) * pageSize)
      pages = Math.max(pages, page)
    }
  } finally {
    closeSync(file)
  }
  return damage
}

function pageSizeOf(file: number): number {
  const header = Buffer.alloc(100)
  readSync(file, header, 0, 100, 0)
  const said = header.readUInt16BE(16) === 1 ? 65536 : header.readUInt16BE(16)
  const right = said >= 512 && Number.isInteger(Math.log2(said)) && fstatSync(file).size % said === 0
  return right ? said : 4096
}

/**
 * If the copy's header or table of contents is damaged, puts those of a fresh file there, which has its tables in the same
 * places. Answers whether the tables of a queue can then be found in it.
 */
export function mendContents(copy: string, fresh: DatabaseSync, damage: string[]): boolean {
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
    const db = new DatabaseSync(copy)
    const isOlder = Number(first(db, `SELECT value FROM gq_meta WHERE key = 'schema'`)?.value) < newestSchema
    const found = isOlder || probes.every(({ probe }) => first(db, String(probe)))
    db.close()
    if (parts.length > 0)
      damage.push(`its ${parts.length === 1 ? 'header' : 'table of contents'} is damaged: that of a new file was taken`)
    if (found) return true
  }
  return false
}

/** The first row, or undefined when it is not there or cannot be read. */
export function first(db: DatabaseSync, sql: string): Row | undefined {
  try {
    const statement = db.prepare(sql)
    statement.setReadBigInts(true)
    return statement.get() as Row | undefined
  } catch (error) {
    if (isSqlite(error)) return undefined
    throw error
  }
}
