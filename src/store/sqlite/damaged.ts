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
import type { Row } from './recover.ts'
import { newestSchema } from './schema.ts'
import { committedFrames } from './wal.ts'

// Reading of a database that is damaged: a copy of it, always.

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

/** Opens the copy; if its header or table of contents is damaged, with those of a fresh file: its tables lie in the same places. */
export function openCopy(copy: string, fresh: DatabaseSync, damage: string[]): Damaged | null {
  const tables = fresh.prepare(
    `SELECT 'SELECT ' || group_concat(c.name) || ' FROM ' || t.name || ' LIMIT 0' AS whole
     FROM sqlite_schema t, pragma_table_info(t.name) c WHERE t.type = 'table' AND t.name LIKE 'gq%' GROUP BY t.name`,
  )
  const probes = tables.all().map(({ whole }) => String(whole))
  const contents = fresh.prepare(`SELECT pageno FROM dbstat WHERE name = 'sqlite_schema'`).all()
  fresh.exec('PRAGMA wal_checkpoint(TRUNCATE)')
  const model = readFileSync(fresh.location()!)
  model[24]! ^= 1 // else the number of pages in the header would count, and not the file's size
  const transplants = [[], [[0, 100]], contents.map(({ pageno }) => [(Number(pageno) - 1) * 4096, 4096])] as const
  for (const parts of transplants) {
    const file = openSync(copy, 'r+')
    for (const [at, length] of parts) writeSync(file, model, at, length, at)
    closeSync(file)
    if (parts.length === 1)
      damage.push("its header or its table of contents is damaged: a new file's was taken instead")
    const opened = new Damaged(copy, damage)
    const version = Number(opened.get(`SELECT value FROM gq_meta WHERE key = 'schema'`)?.value)
    if (version < newestSchema || probes.every((sql) => opened.each(sql, () => undefined))) return opened
    opened.close()
  }
  return null
}

/** Most ranges that are tried to read a table around its damage: some ten seconds. */
const mostProbes = 500_000

/** A database of which any read may fail. */
export class Damaged {
  readonly #db: DatabaseSync
  readonly #damage: string[]

  constructor(path: string, damage: string[]) {
    this.#db = new DatabaseSync(path)
    this.#damage = damage
  }

  /** Visits rows up to the first that cannot be read; false when there is one. */
  each(sql: string, visit: (row: Row) => void, ...values: SQLInputValue[]): boolean {
    try {
      const statement = this.#db.prepare(sql)
      statement.setReadBigInts(true)
      for (const row of statement.iterate(...values)) visit(row as Row)
      return true
    } catch (error) {
      if (isSqlite(error)) return false
      throw error
    }
  }

  /** The first row, or undefined when it is not there or cannot be read. */
  get(sql: string): Row | undefined {
    let first: Row | undefined
    this.each(sql, (row) => {
      first ??= row
    })
    return first
  }

  /** Reads from the start up to the first damage, and then from the end. */
  bothWays(sql: string, order: string, what: string): Row[] {
    const rows: Row[] = []
    if (this.each(`${sql} ORDER BY ${order}`, (row) => rows.push(row))) return rows
    this.each(`${sql} ORDER BY ${order.replaceAll(/,|$/g, ' DESC$&')}`, (row) => rows.push(row))
    this.#damage.push(`${what} is damaged: what only it knows is not listed`)
    return rows
  }

  /** Reads all that can be read of a table with rowids, around its damage; answers with the ranges that cannot. */
  walk(table: string, last: number, keep: (row: Row) => void): [number, number][] {
    const select = (direction: string) =>
      `SELECT rowid AS walked, * FROM ${table} NOT INDEXED WHERE rowid BETWEEN ?1 AND ?2 ORDER BY rowid ${direction}`
    const holes: [number, number][] = []
    const pending: [number, number][] = [[-Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER]]
    for (let probes = 0; pending.length > 0; probes++) {
      let [from, to] = pending.pop()!
      const visit = (direction: 'ASC' | 'DESC') =>
        this.each(
          select(direction),
          ({ walked, ...row }) => {
            if (direction === 'ASC') from = Number(walked) + 1
            else to = Number(walked) - 1
            keep(row)
          },
          ...[from, to],
        )
      if (probes < mostProbes && (visit('ASC') || visit('DESC'))) continue
      from = Math.max(from, 1)
      to = Math.min(to, last)
      const middle = Math.floor((from + to) / 2)
      const before = holes.at(-1)
      if (from < to && probes < mostProbes) pending.push([middle + 1, to], [from, middle])
      else if (before && before[1] + 1 >= from) before[1] = Math.max(before[1], to)
      else if (from <= to) holes.push([from, to])
    }
    return holes
  }

  /** What SQLite itself says of it. */
  check(): string[] {
    const found: string[] = []
    const whole = this.each('PRAGMA integrity_check(100)', (row) => found.push(String(row.integrity_check)))
    if (!whole) found.push('it is so damaged that it could not be checked to the end')
    return found.filter((line) => line !== 'ok')
  }

  close(): void {
    this.#db.close()
  }
}
