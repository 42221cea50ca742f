import { createHash } from 'node:crypto'
import { invalid } from '../../model/errors.ts'

/** Which queue of which database an URL means. */
export interface Place {
  /** For the driver: without what is ours in it. */
  connectionString: string
  schema: string
  /** The schema's name in its quotes. */
  identifier: string
  /** Of the advisory lock under which all processes of the queue write, one after the other: 63 bits of the schema's name. */
  lock: string
  /** Statements are prepared; not behind a pooler that knows none of them. */
  prepares: boolean
  /** It is told by NOTIFY when there is something to look at; not behind a pooler that gives each transaction another session. */
  listens: boolean
}

/** `postgres://user@host/database?schema=gopherqueue`. Throws INVALID_ARGUMENT. */
export function placeOf(url: string): Place {
  if (!URL.canParse(url)) throw invalid(`${withoutPassword(url)} is no URL: write postgres://user@host:5432/database.`)
  const parsed = new URL(url)
  const own = (name: string) => {
    const value = parsed.searchParams.get(name)
    parsed.searchParams.delete(name)
    return value
  }
  const schema = own('schema') ?? 'gopherqueue'
  const flag = (name: string) => {
    const value = own(name) ?? 'true'
    if (value !== 'true' && value !== 'false') throw invalid(`${name} takes true or false; got '${value}'.`)
    return value === 'true'
  }
  const [prepares, listens] = [flag('prepare'), flag('listen')]
  if (!/^[a-z_][a-z0-9_]{0,62}$/.test(schema))
    throw invalid(`schema takes up to 63 of a-z, 0-9 and _, no digit first; got '${schema}'.`)
  const lock = createHash('sha256').update(`gopherqueue ${schema}`).digest().readBigInt64BE() >> 1n
  const rest = { lock: String(lock), prepares, listens }
  return { connectionString: parsed.href, schema, identifier: `"${schema}"`, ...rest }
}

/** An URL as it may be shown. */
export const withoutPassword = (url: string): string =>
  url.replace(/(\/\/[^/@:]*):[^/@]*@/, '$1:***@').replace(/([?&]\w*password=)[^&]*/g, '$1***')

/** Where an URL leads, for everybody to read: without the password, and without how it is used. Throws INVALID_ARGUMENT. */
export function addressOf(url: string): string {
  placeOf(url)
  const parsed = new URL(url)
  parsed.password = ''
  for (const name of ['password', 'sslpassword', 'prepare', 'listen']) parsed.searchParams.delete(name)
  return parsed.href
}
