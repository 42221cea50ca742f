import { MessageChannel, Worker as Thread } from 'node:worker_threads'
import { GopherQueueError } from '../../model/errors.ts'
import { threadMissing } from '../sqlite/bundled.ts'
import { opened, ThreadStore } from '../sqlite/thread-store.ts'
import type { Submitted } from '../store.ts'
import { loadable } from './driver.ts'
import { placeOf } from './place.ts'
import type { ThreadData } from './postgres-thread.ts'

/** A queue in a PostgreSQL database. */
export class PostgresStore extends ThreadStore {
  /** `postgres://user@host/database?schema=gopherqueue`. Throws INVALID_ARGUMENT, STORAGE_UNAVAILABLE, SCHEMA_TOO_NEW, ENGINE_TOO_OLD. */
  static async open(url: string, { tends = false }: { tends?: boolean } = {}): Promise<PostgresStore> {
    const place = placeOf(url)
    await loadable()
    const { port1, port2 } = new MessageChannel()
    return new PostgresStore(await opened({ port: port1, thread: start({ place, port: port2, tends }) }))
  }

  submitIn(): Submitted {
    throw new GopherQueueError(
      'INVALID_ARGUMENT',
      'submitWith takes no transaction of PostgreSQL yet. Nothing was accepted: submit after the transaction has committed, with an idempotency key that it stored.',
    )
  }
}

/** Bundlers find the thread by this literal, as that of SQLite; its name is another, as they may lie in one folder. */
function start(workerData: ThreadData): Thread {
  try {
    const options = { workerData, transferList: [workerData.port], name: 'gopherqueue', execArgv: [] }
    return new Thread(new URL('./postgres-thread.ts', import.meta.url), options)
  } catch (error) {
    workerData.port.close()
    throw threadMissing('storage', error)
  }
}
