import { systemClock } from '../model/clock.ts'
import { invalid } from '../model/errors.ts'
import { SqliteStore } from '../store/sqlite/store.ts'
import type { Store } from '../store/store.ts'
import { checkOpen, isUrl, type OpenOptions } from './options.ts'

/** The store that a path or an URL names. Throws as `GopherQueue.open`. */
export async function storeAt(place: string, options: OpenOptions): Promise<Store> {
  const { token, ...own } = checkOpen(place, options)
  if (isUrl(place)) {
    const { HttpStore } = await import('../store/http/store.ts') // an app with a file of its own never loads it
    return HttpStore.open(place, { ...(token && { token }) }, systemClock)
  }
  if (/^[a-z]+:\/\//i.test(place)) throw invalid(`open takes a path or an http URL; got ${JSON.stringify(place)}.`)
  return SqliteStore.open(place, own)
}
