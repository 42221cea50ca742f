import { MessageChannel, Worker as Thread } from 'node:worker_threads'
import { systemClock } from '../../model/clock.ts'
import { invalid, isQueueError } from '../../model/errors.ts'
import { threadMissing } from '../sqlite/bundled.ts'
import { opened, type Started, ThreadStore } from '../sqlite/thread-store.ts'
import type { Input, Operation, Output, ServerStats, Submission, Submitted } from '../store.ts'
import { loadable } from './driver.ts'
import { Looks, lookAt } from './looks.ts'
import { type Place, placeOf } from './place.ts'
import type { ThreadData } from './postgres-thread.ts'
import { senderOf, submitOn } from './transaction.ts'

/** How long to wait for the end of a transaction that takes a key, in ms, and between two tries. */
const busy = { patience: 10_000, wait: 25 }

/** A queue in a PostgreSQL database. */
export class PostgresStore extends ThreadStore {
  readonly #place: Place
  readonly #looks: Looks

  private constructor(place: Place, started: Started) {
    super(started)
    this.#place = place
    this.#looks = new Looks(() => lookAt(place))
  }

  /** `postgres://user@host/database?schema=gopherqueue`. Throws INVALID_ARGUMENT, STORAGE_UNAVAILABLE, SCHEMA_TOO_NEW, ENGINE_TOO_OLD. */
  static async open(url: string, { tends = false }: { tends?: boolean } = {}): Promise<PostgresStore> {
    const place = placeOf(url)
    await loadable()
    const { port1, port2 } = new MessageChannel()
    return new PostgresStore(place, await opened({ port: port1, thread: start({ place, port: port2, tends }) }))
  }

  override call<K extends Operation>(
    operation: K,
    input: Input<K>,
    ...more: [AbortSignal?, string?, string?]
  ): Promise<Output<K>> {
    // biome-ignore format: one line
    const call = () => super.call(operation, input, ...more)
    if (operation === 'submit' && hasNul(input as Submission)) return Promise.reject(nulInKey())
    if (operation === 'stats') return this.#withServer(call() as Promise<Output<'stats'>>) as Promise<Output<K>>
    return mayMeetKeys(operation, input) ? patiently(call) : call()
  }

  async #withServer(stats: Promise<Output<'stats'>>): Promise<Output<'stats'>> {
    const [found, server] = await Promise.all([stats, this.server()])
    return { ...found, server }
  }

  server(): Promise<ServerStats> {
    return this.#looks.latest()
  }

  override async close(): Promise<void> {
    await super.close()
    await this.#looks.ended()
  }

  submitOn(connection: unknown): (submission: Submission) => Promise<Submitted> {
    const send = senderOf(connection)
    return async (submission) => {
      if (hasNul(submission)) throw nulInKey()
      const epoch = await this.call('epoch', null)
      this.mustTakeSubmissions()
      return inTurn(connection as object, () => submitOn(send, { place: this.#place, epoch }, submission))
    }
  }
}

const turns = new WeakMap<object, Promise<unknown>>()

/** A submission is several statements: two at once on one connection would read each other's. */
function inTurn<T>(connection: object, submit: () => Promise<T>): Promise<T> {
  const turn = (turns.get(connection) ?? Promise.resolve()).then(submit)
  const ended = turn.catch(() => undefined) // who called hears of it
  turns.set(connection, ended)
  return turn
}

const hasNul = ({ keys, specs }: Submission): boolean =>
  [...(keys ?? []), ...[specs].flat().flatMap(({ uniqueKey, concurrencyKey }) => [uniqueKey, concurrencyKey])].some(
    (key) => key?.includes('\0'),
  )

const nulInKey = () =>
  invalid('A key has a NUL, which PostgreSQL does not keep: another key would be stored, and two could become one.')

function mayMeetKeys(operation: Operation, input: unknown): boolean {
  if (operation !== 'submit') return operation === 'retry'
  const { keys, specs } = input as Submission
  return keys !== null || [specs].flat().some(({ uniqueKey }) => uniqueKey !== null)
}

/** The engine waits for no transaction of an app's; who submits a key that one is taking can wait. */
async function patiently<T>(call: () => Promise<T>): Promise<T> {
  const until = systemClock.monotonic() + busy.patience
  for (;;) {
    try {
      return await call()
    } catch (error) {
      if (!isQueueError(error) || error.code !== 'KEY_BUSY' || systemClock.monotonic() > until) throw error
      await new Promise<void>((done) => systemClock.timer(busy.wait, done))
    }
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
