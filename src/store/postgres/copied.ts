import { hash } from 'node:crypto'
import type { DatabaseSync, SQLOutputValue } from 'node:sqlite'

// Rows of a file on their way into a server: how they are read, sent, and proved to be the same there. Each is a line of COPY,
// which SQLite writes: to make it of values here takes more than twice as long.

/** A column of a table of the file. */
interface Column {
  name: string
  type: 'bigint' | 'text' | 'double precision'
}

/** A table of the file, with what is needed to copy it. */
export interface Copied {
  name: string
  /** Numbers that are no integers are the last ones. */
  columns: Column[]
  /** The primary key. */
  key: Column[]
}

/** In the order in which they are copied: an attempt refers to its job. gq_meta is not copied as a table, gq_marks is the server's own. */
export const tables =
  `gq_queues gq_types gq_causes gq_losses gq_workers gq_schedules gq_jobs gq_attempts gq_keys gq_requests gq_starts gq_hours
  gq_tokens gq_audit`.split(/\s+/)

const typeOf: Record<string, Column['type']> = { INTEGER: 'bigint', TEXT: 'text', REAL: 'double precision' }
const isReal = ({ type }: Column) => type === 'double precision'
const listed = (columns: Column[]): string => columns.map(({ name }) => name).join(', ')

/** What the file says of a table. */
export function copiedOf(file: DatabaseSync, name: string): Copied {
  const rows = file.prepare(`SELECT name, type, pk FROM pragma_table_info('${name}')`).all()
  const columns = rows.map(({ name, type, pk }) => ({ name: `${name}`, type: typeOf[`${type}`]!, pk: Number(pk) }))
  const key = columns.filter(({ pk }) => pk > 0).sort((a, b) => a.pk - b.pk)
  return { name, columns: [...columns.filter((column) => !isReal(column)), ...columns.filter(isReal)], key }
}

/** How a text is written in the file's SQL, and in the server's whatever its standard_conforming_strings. */
const quoted = {
  file: (text: string): string => `'${text}'`,
  server: (text: string): string => `E'${text.replaceAll('\\', '\\\\')}'`,
}
const escapes = Object.entries({ '\\': '\\\\', '\t': '\\t', '\n': '\\n', '\r': '\\r' })

/** The line of a row, but for its numbers that are no integers. */
function lineSql(columns: Column[], at: keyof typeof quoted): string {
  const [quote, none] = [quoted[at], quoted[at]('\\N')]
  const escaped = (name: string) =>
    escapes.reduce((sql, [found, by]) => `replace(${sql}, ${quote(found)}, ${quote(by)})`, name)
  const values = columns.filter((column) => !isReal(column)).map(({ name, type }) => (type === 'text' ? escaped(name) : `CAST(${name} AS text)`)) // biome-ignore format: one line
  return `concat_ws(${quote('\t')}, ${values.map((value) => `COALESCE(${value}, ${none})`).join(', ')})`
}

/** Of each row of the file: its line, whether it comes after `last` in the order of the key, and its numbers that are no integers. */
export function rowsSql({ name, columns, key }: Copied, last: unknown[] | null): string {
  const isNew = last ? `(${listed(key)}) > (${key.map(({ type }) => (type === 'text' ? '?' : 'CAST(? AS INTEGER)')).join(', ')})` : '1' // biome-ignore format: one line
  return `SELECT ${[lineSql(columns, 'file'), isNew, ...columns.filter(isReal).map(({ name }) => name)].join(', ')} FROM ${name} ORDER BY ${listed(key)}`
}

export const copySql = ({ name, columns }: Copied): string => `COPY @${name} (${listed(columns)}) FROM STDIN`

/** The key of the last row that is there. */
export const lastKeySql = ({ name, key }: Copied): string =>
  `SELECT ${listed(key)} FROM @${name} ORDER BY ${key.map(({ name }) => `${name} DESC`).join(', ')} LIMIT 1`

/** PostgreSQL keeps no NUL in a text: as a submission there, it gets the character for what cannot be shown. */
const asKept = (line: string): string => (line.includes('\0') ? line.replaceAll('\0', '\uFFFD') : line)

/** A row as it is sent, and as it is hashed: of a number that is no integer by its bits, for the two write some of them differently. */
export function linesOf([line, , ...reals]: SQLOutputValue[]): { sent: string; hashed: string } {
  const kept = asKept(line as string)
  if (reals.length === 0) return { sent: kept, hashed: kept }
  const ended = (text: (value: number) => string) =>
    [kept, ...reals.map((value) => (value === null ? '\\N' : text(value as number)))].join('\t')
  return { sent: ended(String), hashed: ended(bitsOf) }
}

function bitsOf(value: number): string {
  const bytes = Buffer.alloc(8)
  bytes.writeDoubleBE(value)
  return bytes.toString('hex')
}

/** A table's rows in any order: their number, and the sum of their hashes. */
export class Digest {
  rows = 0
  readonly #sums: [bigint, bigint] = [0n, 0n]

  add(line: string): void {
    const hex = hash('sha256', line)
    this.rows++
    this.#sums[0] += BigInt(`0x${hex.slice(0, 15)}`)
    this.#sums[1] += BigInt(`0x${hex.slice(15, 30)}`)
  }

  get text(): string {
    return `${this.rows} ${this.#sums[0]} ${this.#sums[1]}`
  }
}

/** The same, computed by the server. */
export function digestSql({ name, columns }: Copied): string {
  const reals = columns
    .filter(isReal)
    .map(({ name }) => `COALESCE(encode(float8send(${name}), 'hex'), ${quoted.server('\\N')})`)
  const sum = (from: number) => `COALESCE(SUM(CAST(CAST('x' || substr(hex, ${from}, 15) AS bit(60)) AS bigint)), 0)`
  return `SELECT COUNT(*) || ' ' || ${sum(1)} || ' ' || ${sum(16)} FROM (
    SELECT encode(sha256(convert_to(concat_ws(${[quoted.server('\t'), lineSql(columns, 'server'), ...reals].join(', ')}), 'UTF8')), 'hex') AS hex FROM @${name}) AS hashed`
}

/** Lines that go together. */
export class Batch {
  rows = 0
  #text = ''

  add(line: string): void {
    this.#text += `${line}\n`
    this.rows++
  }

  get isFull(): boolean {
    return this.rows >= 2000 || this.#text.length >= 4 * 1024 * 1024
  }

  take(): Buffer {
    const bytes = Buffer.from(this.#text)
    this.#text = ''
    this.rows = 0
    return bytes
  }
}
