import { invalid } from '../../model/errors.ts'
import { type Input, type Operation, type Output, operations } from '../operations.ts'
import { answerAll } from '../sqlite/answer.ts'
import { storageError } from '../sqlite/connection.ts'
import { mustBeCurrent } from '../sqlite/newer.ts'
import type { Reply } from '../sqlite/request.ts'
import type { ServerStats, Store, StoreHealth } from '../store.ts'
import type { ServerDb } from './db.ts'
import { loadable } from './driver.ts'
import { Looks, lookAt } from './looks.ts'
import { connectToRead } from './open.ts'
import { type Place, placeOf } from './place.ts'

/**
 * A queue to look at: answers reads, in the caller's thread, and refuses everything else. It waits for no writer, and
 * needs no right but SELECT. What has come due is shown as it stands.
 */
export class ServerReader implements Store {
  readonly health: StoreHealth = { status: 'ok', causes: [], works: { submit: false, lease: false, complete: false } }
  readonly #db: ServerDb
  readonly #looks: Looks

  private constructor(place: Place, db: ServerDb) {
    this.#db = db
    this.#looks = new Looks(() => lookAt(place))
  }

  /** Null where the schema is of an older version, which `open` brings forward. Throws as `open`. */
  static async open(url: string): Promise<ServerReader | null> {
    const place = placeOf(url)
    await loadable()
    const db = connectToRead(place)
    return db && new ServerReader(place, db)
  }

  async call<K extends Operation>(operation: K, input: Input<K>): Promise<Output<K>> {
    if (operations[operation].kind !== 'read')
      throw invalid(`The queue was opened to be read: '${operation}' was not done.`)
    const reply = this.#answer(operation, input)
    if ('error' in reply) throw reply.error
    if (operation !== 'stats') return reply.value as Output<K>
    return { ...(reply.value as Output<'stats'>), server: await this.server() } as Output<K>
  }

  #answer(operation: Operation, input: unknown): Reply {
    try {
      this.#db.begin('read')
      mustBeCurrent(this.#db) // of a move that has not ended, what is here is not all
      return answerAll(this.#db, [{ seq: 0, operation, input } as Parameters<typeof answerAll>[1][number]])[0]!
    } catch (error) {
      return { seq: 0, error: storageError(error, 'The database cannot be read') }
    } finally {
      if (this.#db.connection.isTransaction) this.#db.rollback()
    }
  }

  server(): Promise<ServerStats> {
    return this.#looks.latest()
  }

  onEvent(): void {
    // nothing happens here
  }

  async close(): Promise<void> {
    this.#db.connection.close()
    await this.#looks.ended()
  }
}
