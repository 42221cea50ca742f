import {
  closeSync,
  copyFileSync,
  existsSync,
  fstatSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  writeSync,
} from 'node:fs'
import { DatabaseSync, type SQLInputValue, type StatementSync } from 'node:sqlite'
import { GopherQueueError } from '../../model/errors.ts'
import { isSqlite } from './connection.ts'
import type { Row } from './recover.ts'
import { newestSchema, version } from './schema.ts'
import { committedFrames } from './wal.ts'

// Reading of a database that is damaged: a copy of it, always.

/** Copies a database with all committed transactions of its WAL in it. Answers with what is wrong with the WAL. */
export function foldedCopy(path: string, copy: string): string[] {
  const damage: string[] = []
  if (existsSync(path)) copyFileSync(path, copy)
  if (existsSync(`${path}-wal`)) copyFileSync(`${path}-wal`, `${copy}-wal`)
  const file = openSync(copy, existsSync(copy) ? 'r+' : 'w+')
  try {
    const pageSize = pageSizeOf(file)
    let pages = fstatSync(file).size / pageSize
    for (const frame of committedFrames(copy, pageSize)) {
      if (!frame.sound)
        damage.push(`frame ${frame.number} of the WAL is damaged: rows of page ${frame.page} may be wrong or old`)
      if (frame.content.length === 0 || frame.page === 0 || frame.page > pages + 100_000) continue
      writeSync(file, frame.content, 0, pageSize, (frame.page - 1) * pageSize)
      pages = Math.max(pages, frame.page)
    }
  } finally {
    closeSync(file)
    rmSync(`${copy}-wal`, { force: true })
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

/** Opens the copy; if its header or table of contents is damaged, with those of a fresh file in their place. */
export function openCopy(copy: string, fresh: string, db: DatabaseSync, damage: string[]): DatabaseSync | null {
  const tables = db.prepare(`SELECT name FROM sqlite_schema WHERE type = 'table' AND name LIKE 'gq%'`).all()
  const columnsOf = (of: DatabaseSync, table: unknown) =>
    of
      .prepare('SELECT name FROM pragma_table_info(?1)')
      .all(String(table))
      .map(({ name }) => name)
  const expected = tables.map(({ name }) => ({ name, columns: new Set(columnsOf(db, name)) }))
  const open = () => {
    const opened = new DatabaseSync(copy)
    try {
      const found = expected.map(({ name, columns }) => ({ columns, own: columnsOf(opened, name) }))
      // A file of an older version has fewer columns and tables, but no other ones.
      const older = isOlderVersion(opened)
      if (found.every(({ columns, own }) => (older || own.length > 0) && own.every((name) => columns.has(name))))
        return opened
    } catch (error) {
      if (!isSqlite(error)) throw error
    }
    opened.close()
    return null
  }
  const asItIs = open()
  if (asItIs) return asItIs
  damage.push('the header or the table of contents is damaged: those of a new file were taken instead')
  const file = openSync(copy, 'r+')
  try {
    writeHeader(file)
    const withHeader = open()
    if (withHeader) return withHeader
    // Every file that GopherQueue made has its tables in the same places.
    db.exec('PRAGMA wal_checkpoint(TRUNCATE)')
    const content = readFileSync(fresh)
    for (const { pageno } of db.prepare(`SELECT pageno FROM dbstat WHERE name = 'sqlite_schema'`).all())
      writeSync(file, content, (Number(pageno) - 1) * 4096, 4096, (Number(pageno) - 1) * 4096)
    writeHeader(file)
  } finally {
    closeSync(file)
  }
  const transplanted = open()
  if (!transplanted) damage.push('even so no table can be found in it')
  return transplanted
}

function isOlderVersion(db: DatabaseSync): boolean {
  try {
    return version(db) < newestSchema
  } catch (error) {
    if (!isSqlite(error) && !(error instanceof GopherQueueError)) throw error
    return false // it cannot be read
  }
}

/** What stands in a header is the same for all files, or may be anything for reading; see sqlite.org/fileformat.html. */
function writeHeader(file: number): void {
  const pageSize = pageSizeOf(file)
  const header = Buffer.alloc(100)
  header.write('SQLite format 3\0', 'latin1')
  header.writeUInt16BE(pageSize === 65536 ? 1 : pageSize, 16)
  header.set([1, 1, 0, 64, 32, 32], 18)
  header.writeUInt32BE(1, 24)
  header.writeUInt32BE(Math.floor(fstatSync(file).size / pageSize), 28)
  header.writeUInt32BE(1, 40)
  header.writeUInt32BE(4, 44)
  header.writeUInt32BE(1, 56)
  header.writeUInt32BE(1, 92)
  header.writeUInt32BE(3_053_000, 96)
  writeSync(file, header, 0, 100, 0)
}

/** Most ranges that are tried to read a table around its damage: some ten seconds. */
const mostProbes = 500_000

/** Each index that knows of jobs, by what it holds and its order. */
const jobIndexes = [
  ['gq_jobs_ready', `state = 'ready'`, ['queue', 'type', 'priority', 'id']],
  ['gq_jobs_scheduled', `state = 'scheduled'`, ['run_at', 'id']],
  ['gq_jobs_running', `state = 'running'`, ['worker_id', 'lease_expires_at']],
  ['gq_jobs_prune', 'prune_at IS NOT NULL', ['prune_at']],
  ['gq_jobs_ended', `state IN ('dead', 'cancelled')`, ['state', 'id']],
] as const

/** A database of which any read may fail. */
export class Damaged {
  readonly #db: DatabaseSync
  readonly #damage: string[]

  constructor(db: DatabaseSync, damage: string[]) {
    this.#db = db
    this.#damage = damage
  }

  /** The row, or undefined when it is not there or cannot be read. */
  get(sql: string, ...values: SQLInputValue[]): Row | undefined {
    let row: Row | undefined
    this.#each(sql, values, (found) => {
      row ??= found
    })
    return row
  }

  jobsInIndexes(): number[] {
    return jobIndexes.flatMap(([index, where, order]) =>
      this.bothWays(`SELECT id FROM gq_jobs INDEXED BY ${index} WHERE ${where}`, order, `index ${index}`).map(
        ({ id }) => Number(id),
      ),
    )
  }

  /** Reads from the start up to the first damage, and then from the end. */
  bothWays(sql: string, order: readonly string[], what: string): Row[] {
    const rows: Row[] = []
    if (this.#each(`${sql} ORDER BY ${order.join(', ')}`, [], (row) => rows.push(row))) return rows
    this.#each(`${sql} ORDER BY ${order.map((column) => `${column} DESC`).join(', ')}`, [], (row) => rows.push(row))
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
      if (probes > mostProbes) {
        holes.push([from, to])
        continue
      }
      const visit = (direction: 'ASC' | 'DESC') =>
        this.#each(select(direction), [from, to], ({ walked, ...row }) => {
          if (direction === 'ASC') from = Number(walked) + 1
          else to = Number(walked) - 1
          keep(row)
        })
      if (visit('ASC') || visit('DESC')) continue
      from = Math.max(from, 1)
      to = Math.min(to, last)
      const middle = Math.floor((from + to) / 2)
      if (from < to) pending.push([middle + 1, to], [from, middle])
      else if (from === to) holes.push([from, to])
    }
    return merged(holes)
  }

  /** What SQLite itself says of it. */
  check(): string[] {
    const found: string[] = []
    const whole = this.#each('PRAGMA integrity_check(100)', [], (row) => found.push(String(row.integrity_check)))
    if (!whole) found.push('it is so damaged that it could not be checked to the end')
    return found.filter((line) => line !== 'ok')
  }

  readonly #statements = new Map<string, StatementSync>()

  /** False when not all could be read. */
  #each(sql: string, values: SQLInputValue[], visit: (row: Row) => void): boolean {
    try {
      let statement = this.#statements.get(sql)
      if (!statement) {
        statement = this.#db.prepare(sql)
        statement.setReadBigInts(true)
        this.#statements.set(sql, statement)
      }
      for (const row of statement.iterate(...values)) visit(row as Row)
      return true
    } catch (error) {
      if (isSqlite(error)) return false
      throw error
    }
  }
}

function merged(ranges: [number, number][]): [number, number][] {
  const result: [number, number][] = []
  for (const range of ranges.sort((a, b) => a[0] - b[0])) {
    const last = result.at(-1)
    if (last && last[1] + 1 >= range[0]) last[1] = Math.max(last[1], range[1])
    else result.push([...range])
  }
  return result
}
