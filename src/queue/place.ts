import { systemClock, timersAreFake } from '../model/clock.ts'
import { GopherQueueError, invalid } from '../model/errors.ts'
import { platform } from '../store/sqlite/platform.ts'
import { systemProcesses } from '../store/sqlite/processes.ts'
import { SqliteStore } from '../store/sqlite/store.ts'
import type { Store } from '../store/store.ts'
import { checkOpen, isPostgres, isUrl, type OpenOptions } from './options.ts'

/** Throws INVALID_STATE where the queue would wait for ever on timers that never fire. */
export function checkTimers(): void {
  if (timersAreFake)
    throw new GopherQueueError(
      'INVALID_STATE',
      'A test had put fake timers in the place of the real ones before gopherqueue was loaded: the queue would wait for ever. Nothing was opened. Import gopherqueue first, at the top of the file, and install the fake timers after it.',
    )
}

/** The store that a path or an URL names. Throws as `GopherQueue.open`. */
export async function storeAt(place: string, options: OpenOptions): Promise<Store> {
  checkTimers()
  const { token, ...own } = checkOpen(place, options)
  if (isUrl(place)) {
    const { HttpStore } = await import('../store/http/store.ts') // an app with a file of its own never loads it
    return HttpStore.open(place, { ...(token && { token }) }, systemClock)
  }
  if (isPostgres(place)) return ownStore(place)
  if (/^[a-z]+:\/\//i.test(place))
    throw invalid(`open takes a path, an http URL or a postgres URL; got ${JSON.stringify(place)}.`)
  checkProc()
  return SqliteStore.open(place, own)
}

/** Deno shows /proc to a program with all rights only: to another, a worker on a file gave no jobs, and nothing said why. */
function checkProc(): void {
  if ('Deno' in globalThis && platform.hasProc && systemProcesses.me.pid_started === null)
    throw new GopherQueueError(
      'STORAGE_UNAVAILABLE',
      'Deno does not let this program read /proc, by which processes of a file know each other. Nothing was opened. Start it with deno run -A.',
    )
}

/** The store of a file or a PostgreSQL database. `tends`: it does what time makes due also without workers, as a server's. */
export async function ownStore(place: string, options: { tends?: boolean } = {}): Promise<Store & AsyncDisposable> {
  if (!isPostgres(place)) return SqliteStore.open(place, options)
  const { PostgresStore } = await import('../store/postgres/store.ts') // and with it the driver, which others need not have
  return PostgresStore.open(place, options)
}
