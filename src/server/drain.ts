import type { Server } from 'node:http'
import type { Clock } from '../model/clock.ts'
import { GopherQueueError } from '../model/errors.ts'

const stopping = 'The server is stopping. Nothing was stored: send it again when it, or its successor, is there.'
/** Longer than a transaction waits for its turn at the file. */
const patience = 15_000

/** The end of a server: it takes no more, answers what waits, and lets what was begun be answered, for `patience` at most. */
export class Drain {
  readonly #ends: Set<() => void>
  readonly #clock: Clock
  readonly #listeners: Server[] = []
  #closing = false
  #begun = 0
  #drained: (() => void) | undefined

  /** `ends` ends what waits for something to happen. */
  constructor(ends: Set<() => void>, clock: Clock) {
    this.#ends = ends
    this.#clock = clock
  }

  watch(listener: Server): void {
    this.#listeners.push(listener)
    listener.on('request', (_request, response) => {
      this.#begun++
      response.once('close', () => --this.#begun === 0 && this.#drained?.())
    })
  }

  /** Throws STORAGE_UNAVAILABLE once the end has begun. */
  mustBeOpen(): void {
    if (this.#closing) throw new GopherQueueError('STORAGE_UNAVAILABLE', stopping)
  }

  async close(): Promise<void> {
    this.#closing = true
    for (const listener of this.#listeners) listener.close()
    for (const end of this.#ends) end()
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#drained = resolve
    const stop = this.#clock.timer(this.#begun === 0 ? 0 : patience, resolve)
    await promise
    stop()
    for (const listener of this.#listeners) listener.closeAllConnections()
  }
}
