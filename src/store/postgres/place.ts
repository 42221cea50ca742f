import { createHash } from 'node:crypto'
import { invalid } from '../../model/errors.ts'

/** Which queue of which database an URL means. */
export interface Place {
  /** For the driver, one for each host in their order: without what is ours in it. */
  connectionStrings: string[]
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

/** The same URL once for each of its hosts, as `postgres://user@one:5432,two:5432/database` names them. Throws INVALID_ARGUMENT. */
function urlsOf(url: string): URL[] {
  const [, before = '', hosts = '', rest = ''] = /^([a-z]+:\/\/(?:[^/?#@]*@)?)([^/?#]*)(.*)$/is.exec(url) ?? []
  const all = hosts.split(',').map((host) => `${before}${host}${rest}`)
  if (hosts === '' || hosts.split(',').includes('') || !all.every((one) => URL.canParse(one)))
    throw invalid(`${withoutPassword(url)} is no URL: write postgres://user@host:5432/database, or several hosts with commas between them.`) // biome-ignore format: one message
  return all.map((one) => new URL(one))
}

/** `postgres://user@host/database?schema=gopherqueue`, with one host or several, of which the one that takes writes is used. Throws INVALID_ARGUMENT. */
export function placeOf(url: string): Place {
  const urls = urlsOf(url)
  const [parsed] = urls as [URL, ...URL[]]
  const own = (name: string) => {
    const value = parsed.searchParams.get(name)
    for (const { searchParams } of urls) searchParams.delete(name)
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
  return { connectionStrings: urls.map(({ href }) => href), schema, identifier: `"${schema}"`, ...rest }
}

/** An URL as it may be shown. */
export const withoutPassword = (url: string): string =>
  url.replace(/(\/\/[^/@:]*):[^/@]*@/, '$1:***@').replace(/([?&]\w*password=)[^&]*/g, '$1***')

/** Where an URL leads, for everybody to read: without the password, and without how it is used. Throws INVALID_ARGUMENT. */
export function addressOf(url: string): string {
  placeOf(url)
  const [first, ...others] = urlsOf(url) as [URL, ...URL[]]
  first.password = ''
  for (const name of ['password', 'sslpassword', 'prepare', 'listen']) first.searchParams.delete(name)
  if (others.length === 0) return first.href
  return first.href.replace(first.host, [first, ...others].map(({ host }) => host).join(','))
}
