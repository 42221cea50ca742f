import type { Server } from 'node:http'
import type { Clock } from '../model/clock.ts'
import { GopherQueueError } from '../model/errors.ts'
import { whenClosed } from './closed.ts'

const stopping = 'The server is stopping. Nothing was stored: send it again when it, or its successor, is there.'
/** Longer than a transaction waits for its turn at the file. */
const patience = 15_000

/** Knows what waits and what was begun. At the end it takes no more, answers what waits, and gives the rest `patience`. */
export class Drain {
  /** Each ends a long poll or a stream of events. */
  readonly ends = new Set<() => void>()
  readonly #mostWaiting: number
  readonly #clock: Clock
  readonly #listeners: Server[] = []
  #closing = false
  #begun = 0
  #drained: (() => void) | undefined

  constructor(mostWaiting: number, clock: Clock) {
    this.#mostWaiting = mostWaiting
    this.#clock = clock
  }

  watch(listener: Server): void {
    this.#listeners.push(listener)
    listener.on('request', (_request, response) => {
      this.#begun++
      whenClosed(response, () => --this.#begun === 0 && this.#drained?.())
    })
  }

  /** Throws STORAGE_UNAVAILABLE once the end has begun. */
  mustBeOpen(): void {
    if (this.#closing) throw new GopherQueueError('STORAGE_UNAVAILABLE', stopping)
  }

  /** Throws OVERLOADED when one more may not wait, and STORAGE_UNAVAILABLE once what waits was ended. */
  mustHaveRoom(): void {
    this.mustBeOpen()
    if (this.ends.size >= this.#mostWaiting)
      throw new GopherQueueError(
        'OVERLOADED',
        `${this.ends.size} requests wait at this server, as many as it takes. Nothing was accepted: try again later.`,
      )
  }

  async close(): Promise<void> {
    this.#closing = true
    for (const listener of this.#listeners) listener.close()
    for (const end of this.ends) end()
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#drained = resolve
    const stop = this.#clock.timer(this.#begun === 0 ? 0 : patience, resolve)
    await promise
    stop()
    for (const listener of this.#listeners) listener.closeAllConnections()
  }
}
