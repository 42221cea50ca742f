import { systemClock } from '../model/clock.ts'
import { invalid } from '../model/errors.ts'
import { SqliteStore } from '../store/sqlite/store.ts'
import type { Store } from '../store/store.ts'
import { checkOpen, isPostgres, isUrl, type OpenOptions } from './options.ts'

/** The store that a path or an URL names. Throws as `GopherQueue.open`. */
export async function storeAt(place: string, options: OpenOptions): Promise<Store> {
  const { token, ...own } = checkOpen(place, options)
  if (isUrl(place)) {
    const { HttpStore } = await import('../store/http/store.ts') // an app with a file of its own never loads it
    return HttpStore.open(place, { ...(token && { token }) }, systemClock)
  }
  if (isPostgres(place)) return ownStore(place)
  if (/^[a-z]+:\/\//i.test(place))
    throw invalid(`open takes a path, an http URL or a postgres URL; got ${JSON.stringify(place)}.`)
  return SqliteStore.open(place, own)
}

/** The store of a file or a PostgreSQL database. `tends`: it does what time makes due also without workers, as a server's. */
export async function ownStore(place: string, options: { tends?: boolean } = {}): Promise<Store & AsyncDisposable> {
  if (!isPostgres(place)) return SqliteStore.open(place, options)
  const { PostgresStore } = await import('../store/postgres/store.ts') // and with it the driver, which others need not have
  return PostgresStore.open(place, options)
}
