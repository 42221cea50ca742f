import { isAbsolute } from 'node:path'
import type { SQLInputValue, SQLOutputValue } from 'node:sqlite'
import { pathToFileURL } from 'node:url'
import { GopherQueueError, invalid } from '../../model/errors.ts'
import { isOlder, oldestEngine } from './connection.ts'
import { contains, otherLibraries } from './copies.ts'
import { platform } from './platform.ts'
import type { Connection, Sqlite, Statement } from './sqlite.ts'

// The app's own better-sqlite3 in place of node:sqlite: with it, app and queue share one copy of SQLite, and its locks.

type Row = Record<string, SQLOutputValue>

interface BetterStatement {
  readonly reader: boolean
  run(...values: unknown[]): { changes: number; lastInsertRowid: number | bigint }
  get(...values: unknown[]): Row | undefined
  all(...values: unknown[]): Row[]
  raw(on: boolean): unknown
  safeIntegers(on: boolean): unknown
}

interface BetterSqlite {
  readonly open: boolean
  readonly inTransaction: boolean
  prepare(sql: string): BetterStatement
  exec(sql: string): unknown
  close(): unknown
}

type BetterSqliteClass = new (path: string, options: { readonly: boolean; timeout: number }) => BetterSqlite

/** Loads better-sqlite3 from where the app has it. Throws INVALID_ARGUMENT, ENGINE_TOO_OLD, TWO_SQLITES. */
export async function loadDriver(driver: string): Promise<Sqlite> {
  const url = urlOf(driver)
  const { Better, engine } = await load(url)
  const library = theAddon(url)
  if (isOlder(engine.split('.').map(Number), oldestEngine))
    throw new GopherQueueError(
      'ENGINE_TOO_OLD',
      `The SQLite of ${url} is ${engine}; those before ${oldestEngine.join('.')} can lose writes. Nothing was opened: update better-sqlite3.`,
    )
  return {
    driver: url,
    open(path, readOnly = false) {
      if (path !== path.trim())
        throw invalid(`better-sqlite3 opens no path that begins or ends with a space: '${path}'.`)
      return new Adapted(new Better(path, { readonly: readOnly, timeout: 0 })) // this engine waits for locks in its own way
    },
    adopt: (connection) => (connection instanceof Better ? new Adapted(connection) : null),
    isIn: (other) => other === library,
  }
}

const where = `Nothing was opened. Give where the app has better-sqlite3: driver: import.meta.resolve('better-sqlite3'), or require.resolve('better-sqlite3') in CommonJS.`

function urlOf(driver: string): string {
  if (typeof driver === 'string' && driver.startsWith('file:') && URL.canParse(driver)) return driver
  if (typeof driver === 'string' && isAbsolute(driver)) return pathToFileURL(driver).href
  throw invalid(`driver takes a file URL or an absolute path; got ${typeof driver === 'string' ? `'${driver}'` : `a ${typeof driver}`}. ${where}`) // biome-ignore format: one message
}

/** The class, and the version of its SQLite, which loads the addon. */
async function load(url: string): Promise<{ Better: BetterSqliteClass; engine: string }> {
  try {
    const Better = ((await import(url)) as { default?: BetterSqliteClass }).default
    if (typeof Better !== 'function' || !('prepare' in Better.prototype)) throw noDriver(url)
    const memory = new Better(':memory:', { readonly: false, timeout: 0 })
    const version = memory.prepare('SELECT sqlite_version() AS engine')
    const engine = String(version.get()!.engine)
    if (!saysSign(version.constructor)) throw noDriver(url)
    memory.close()
    return { Better, engine }
  } catch (cause) {
    if (cause instanceof GopherQueueError) throw cause
    const { message } = cause as Error
    throw new GopherQueueError(
      'INVALID_ARGUMENT',
      `The driver ${url} cannot be loaded: ${message}. Nothing was opened: install better-sqlite3 with the Node that runs the app, or correct the path; in an app that is bundled, keep gopherqueue out of the bundle: serverExternalPackages: ['gopherqueue'] in next.config; docs/bundlers.md shows others.`,
      { cause },
    )
  }
}

const noDriver = (url: string) => invalid(`${url} is no better-sqlite3. ${where}`)

/** What no other library says, such as libsql, which has the same classes: each copy of better-sqlite3's addon, whatever its name. */
const sign = 'Statements can only be constructed by the db.prepare() method'

/** Whether a class of statements is of that addon. */
function saysSign(statements: unknown): boolean {
  try {
    return !Reflect.construct(statements as () => void, [])
  } catch (error) {
    return (error as Error).message === sign
  }
}

/** The one addon of better-sqlite3 that is loaded; null where the system does not list libraries, as on Windows, which needs no list. */
function theAddon(url: string): string | null {
  const addons = otherLibraries().filter((name) => contains(name, sign) || /better.?sqlite3[^/]*\.node/i.test(name))
  if (addons.length > 1)
    throw new GopherQueueError(
      'TWO_SQLITES',
      `better-sqlite3 is loaded ${addons.length} times in this process (${addons.join(', ')}), each with an SQLite of its own. Two copies in one process do not see each other's locks and destroy a file that both have open. Nothing was opened: bring the app to one copy ('npm ls better-sqlite3' shows who installs them; mark it as external in a bundler), and give that one as driver.`,
    )
  if (addons.length === 0 && platform.libraries().length > 0) throw noDriver(url)
  return addons[0] ?? null
}

/** A connection of better-sqlite3 with the members of a DatabaseSync that the engine uses. */
class Adapted implements Connection {
  readonly #db: BetterSqlite

  constructor(db: BetterSqlite) {
    this.#db = db
  }

  get isOpen(): boolean {
    return this.#db.open
  }

  get isTransaction(): boolean {
    return this.#db.inTransaction
  }

  location(): string | null {
    const main = this.#db.prepare('PRAGMA database_list').all()[0]!
    return String(main.file) || null
  }

  prepare(sql: string): Statement {
    const { text, order } = unnumbered(sql)
    return new AdaptedStatement(this.#db.prepare(text), order)
  }

  exec(sql: string): void {
    this.#db.exec(sql)
  }

  close(): void {
    this.#db.close()
  }

  [Symbol.dispose](): void {
    this.#db.close()
  }
}

class AdaptedStatement implements Statement {
  readonly #statement: BetterStatement
  readonly #order: number[] | null
  #arrays = false

  constructor(statement: BetterStatement, order: number[] | null) {
    this.#statement = statement
    this.#order = order
  }

  run(...values: SQLInputValue[]) {
    return this.#order ? this.#statement.run(this.#ordered(values)) : this.#statement.run(...values)
  }

  get(...values: SQLInputValue[]): Row | undefined {
    return this.#order ? this.#statement.get(this.#ordered(values)) : this.#statement.get(...values)
  }

  all(...values: SQLInputValue[]): Row[] {
    return this.#order ? this.#statement.all(this.#ordered(values)) : this.#statement.all(...values)
  }

  setReadBigInts(on: boolean): void {
    this.#statement.safeIntegers(on)
  }

  setReturnArrays(on: boolean): void {
    if (on === this.#arrays) return
    this.#statement.raw(on)
    this.#arrays = on
  }

  #ordered(values: SQLInputValue[]): SQLInputValue[] {
    return this.#order!.map((number) => values[number - 1] ?? null)
  }
}

const parameter = /'[^']*'|"[^"]*"|--.*|\?(\d*)/g

/**
 * better-sqlite3 takes `?1` for a name, and binds names from an object's properties alone, which costs more. So each
 * becomes a plain `?`; `order`: which value each of them takes, null when they come as they are given.
 */
function unnumbered(sql: string): { text: string; order: number[] | null } {
  const order: number[] = []
  const text = sql.replace(parameter, (found, digits?: string) => {
    if (digits === undefined) return found
    order.push(digits === '' ? Math.max(0, ...order) + 1 : Number(digits))
    return '?'
  })
  return { text, order: order.every((number, i) => number === i + 1) ? null : order }
}
