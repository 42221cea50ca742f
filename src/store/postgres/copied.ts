import { hash } from 'node:crypto'
import type { SQLOutputValue } from 'node:sqlite'

// Rows of a file on their way into a server: how they are read, sent, and proved to be the same there.

/** A column of a table of the file. */
interface Column {
  name: string
  type: 'bigint' | 'text' | 'double precision'
}

/** A table of the file, with what is needed to copy it. */
export interface Copied {
  name: string
  columns: Column[]
  /** The primary key. */
  key: string[]
}

/** In the order in which they are copied: an attempt refers to its job. gq_meta is not copied as a table, gq_marks is the server's own. */
export const tables =
  `gq_queues gq_types gq_causes gq_losses gq_workers gq_schedules gq_jobs gq_attempts gq_keys gq_requests gq_starts gq_hours
  gq_tokens gq_audit`.split(/\s+/)

const typeOf: Record<string, Column['type']> = { INTEGER: 'bigint', TEXT: 'text', REAL: 'double precision' }

/** What the file says of a table; `rows`: of pragma_table_info. */
export function copiedOf(name: string, rows: { name: string; type: string; pk: number }[]): Copied {
  const columns = rows.map((row) => ({ name: row.name, type: typeOf[row.type]! }))
  const key = rows.filter(({ pk }) => pk > 0).sort((a, b) => a.pk - b.pk)
  return { name, columns, key: key.map(({ name }) => name) }
}

/** PostgreSQL keeps no NUL in a text: as a submission there, it gets the character for what cannot be shown. */
export const asKept = (value: SQLOutputValue): SQLOutputValue =>
  typeof value === 'string' && value.includes('\0') ? value.replaceAll('\0', '\uFFFD') : value

const separator = '\x1f'

/** A table's rows in any order: their number, and the sum of their hashes. */
export class Digest {
  rows = 0
  readonly #sums: [bigint, bigint] = [0n, 0n]

  add(columns: Column[], row: SQLOutputValue[]): void {
    const values = row.map((value, i) => {
      if (value === null) return '-'
      return columns[i]!.type === 'double precision' ? `=${bitsOf(value as number)}` : `=${value}`
    })
    const hex = hash('sha256', values.join(separator))
    this.rows++
    this.#sums[0] += BigInt(`0x${hex.slice(0, 15)}`)
    this.#sums[1] += BigInt(`0x${hex.slice(15, 30)}`)
  }

  get text(): string {
    return `${this.rows} ${this.#sums[0]} ${this.#sums[1]}`
  }
}

function bitsOf(value: number): string {
  const bytes = Buffer.alloc(8)
  bytes.writeDoubleBE(value)
  return bytes.toString('hex')
}

/** The same, computed by the server. */
export function digestSql({ name, columns }: Copied, schema: string): string {
  const values = columns.map(({ name, type }) =>
    type === 'double precision' ? `'=' || encode(float8send(${name}), 'hex')` : `'=' || ${name}`,
  )
  const text = values.map((value) => `COALESCE(${value}, '-')`).join(', ')
  const sum = (from: number) => `COALESCE(SUM(CAST(CAST('x' || substr(hex, ${from}, 15) AS bit(60)) AS bigint)), 0)`
  return `SELECT COUNT(*) || ' ' || ${sum(1)} || ' ' || ${sum(16)} FROM (
    SELECT encode(sha256(convert_to(concat_ws(chr(31), ${text}), 'UTF8')), 'hex') AS hex FROM ${schema}.${name}) AS hashed`
}

/** An INSERT of rows that come as one JSON text, while the mark of the move is still the given one. */
export function insertSql({ name, columns }: Copied, schema: string): string {
  const names = columns.map(({ name }) => name).join(', ')
  const typed = columns.map(({ name, type }) => `${name} ${type}`).join(', ')
  return `WITH mine AS MATERIALIZED (SELECT 1 FROM ${schema}.gq_meta WHERE key = 'moving' AND value = $2 FOR SHARE)
    INSERT INTO ${schema}.${name} (${names}) SELECT ${names} FROM mine, json_to_recordset(CAST($1 AS json)) AS r (${typed})`
}

/** Rows that go together, as JSON. */
export class Batch {
  #rows: string[] = []
  #bytes = 0

  add(columns: Column[], row: SQLOutputValue[]): void {
    const fields: Record<string, SQLOutputValue> = {}
    for (let i = 0; i < row.length; i++) if (row[i] !== null) fields[columns[i]!.name] = row[i]!
    const text = JSON.stringify(fields)
    this.#rows.push(text)
    this.#bytes += text.length
  }

  get rows(): number {
    return this.#rows.length
  }

  get isFull(): boolean {
    return this.#rows.length >= 1000 || this.#bytes >= 4 * 1024 * 1024
  }

  take(): string {
    const text = `[${this.#rows.join(',')}]`
    this.#rows = []
    this.#bytes = 0
    return text
  }
}
