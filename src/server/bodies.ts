import type { ServerResponse } from 'node:http'
import type { Clock } from '../model/clock.ts'
import { GopherQueueError } from '../model/errors.ts'
import { whenClosed } from './closed.ts'

/** Bytes of all bodies that arrive, or whose requests have no answer yet: the largest bulk, and some others. Each is copied twice on its way to the file. */
const mostBytes = 72 * 1024 * 1024
/** Bytes that count as progress: one byte a second is none. */
const pieceBytes = 64 * 1024

/** What is held of one request. */
export interface Body {
  bytes: number
  /** Since the last progress. */
  fresh: number
  /** When that was, on the monotonic clock. */
  at: number
  /** Ends what it waits for; null while the store has it. */
  giveWay: ((why: GopherQueueError) => void) | null
  refused: GopherQueueError | null
}

/** The bodies of all requests: together they have a bound, and beyond it who holds much for long gives way to who does not. */
export class Bodies {
  readonly #clock: Clock
  readonly #all = new Set<Body>()
  #bytes = 0

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** Bytes that are held. */
  get bytes(): number {
    return this.#bytes
  }

  /** Of a request, until it is answered. */
  of(response: ServerResponse): Body {
    const body: Body = { bytes: 0, fresh: 0, at: this.#clock.monotonic(), giveWay: null, refused: null }
    this.#all.add(body)
    whenClosed(response, () => {
      this.leave(body)
      this.#all.delete(body)
    })
    return body
  }

  /** Its request waits for something to happen: how many do has a bound of its own, and 72 of 1 MiB must not shut all others out. */
  leave(body: Body): void {
    this.#bytes -= body.bytes
    body.bytes = 0
  }

  /** Counts what has arrived. Throws OVERLOADED where all others are in the store already. */
  take(body: Body, bytes: number): void {
    if (!this.#all.has(body)) return // its client has gone: nothing would take them off again
    body.bytes += bytes
    body.fresh += bytes
    this.#bytes += bytes
    if (body.fresh >= pieceBytes) Object.assign(body, { fresh: 0, at: this.#clock.monotonic() })
    while (this.#bytes > mostBytes) {
      const heaviest = this.#heaviest() ?? body
      const { giveWay } = heaviest
      this.#bytes -= heaviest.bytes
      Object.assign(heaviest, { bytes: 0, giveWay: null, refused: overloaded() })
      if (!giveWay) throw heaviest.refused
      giveWay(heaviest.refused!)
    }
  }

  /** A large one that goes on arriving is lighter than a small one that has stopped, and each is heavier than a new one. */
  #heaviest(): Body | undefined {
    const now = this.#clock.monotonic()
    let [heaviest, most]: [Body | undefined, number] = [undefined, -1]
    for (const body of this.#all) {
      const weight = body.bytes * (now - body.at + 1)
      if (body.giveWay && weight > most) [heaviest, most] = [body, weight]
    }
    return heaviest
  }
}

const overloaded = () =>
  new GopherQueueError(
    'OVERLOADED',
    `The bodies of all requests at this server have more than ${mostBytes} bytes, as many as it holds. Nothing of this one was accepted: send it again later, and all of it at once.`,
  )
