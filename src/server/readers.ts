import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { Clock } from '../model/clock.ts'
import { isClosed, whenClosed } from './closed.ts'

/** Reads that are answered at once; more wait. Each may be some megabytes, and what arrives together is copied in one turn. */
const mostReads = 2
/** Bytes that go to the socket at once: each piece that is read is progress. */
const pieceBytes = 64 * 1024
/** Bytes of all answers that their clients have not read to the end. */
const mostBytes = 64 * 1024 * 1024
/** Ms in which a client reads one piece. */
const patience = 10_000
/** Requests that a client may send on one connection before it has read an answer. */
const mostPipelined = 32

interface Answer {
  response: ServerResponse
  /** All of its bytes: one buffer, which is there until its last piece is read. */
  bytes: number
  left: number
  /** The last piece was taken then, on the monotonic clock. */
  at: number
}

/** Clients that read, or do not: what is kept for them has a bound, and who takes no piece in time is hung up on. */
export class Readers {
  readonly #clock: Clock
  readonly #answers = new Set<Answer>()
  readonly #turns = new WeakMap<Socket, { last: Promise<void> | undefined; waiting: number }>()
  readonly #waiting: { few: (() => void)[]; many: (() => void)[] } = { few: [], many: [] }
  #turnOfMany = false
  #bytes = 0
  #reads = 0

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** Bytes of answers that their clients have not read to the end. */
  get bytes(): number {
    return this.#bytes
  }

  /** Resolves when all earlier answers of the connection were read. Without it, Node would make the answers of a whole pipeline at once. */
  turn({ socket }: IncomingMessage, response: ServerResponse): Promise<void> | undefined {
    const turns = this.#turns.get(socket) ?? { last: undefined, waiting: 0 }
    const { last } = turns
    this.#turns.set(socket, turns)
    if (++turns.waiting > mostPipelined) socket.destroy()
    turns.last = new Promise<void>((resolve) =>
      whenClosed(response, () => {
        if (--turns.waiting === 0) this.#turns.delete(socket)
        resolve()
      }),
    )
    return last
  }

  /**
   * Reads when fewer than `mostReads` others do: a hundred pages at once would all be in memory. What asks for few things does
   * not wait for all pages of many: the two take turns.
   */
  async read<T>(size: 'few' | 'many', ask: () => Promise<T>): Promise<T> {
    if (this.#reads >= mostReads) await new Promise<void>((resolve) => this.#waiting[size].push(resolve))
    else this.#reads++
    try {
      return await ask()
    } finally {
      const { few, many } = this.#waiting
      const next = (this.#turnOfMany ? many : few).shift() ?? (this.#turnOfMany ? few : many).shift()
      this.#turnOfMany = !this.#turnOfMany
      if (next) next()
      else this.#reads--
    }
  }

  /** Sends the body of an answer and ends it. */
  send(response: ServerResponse, text: string | Buffer): void {
    if (text.length <= pieceBytes || isClosed(response)) return void response.end(text)
    const body = typeof text === 'string' ? Buffer.from(text) : text
    const answer = { response, bytes: body.length, left: body.length, at: this.#clock.monotonic() }
    this.#answers.add(answer)
    this.#bytes += answer.bytes
    let stopTimer = (): void => undefined
    const next = () => {
      stopTimer()
      while (answer.left > 0) {
        answer.at = this.#clock.monotonic()
        const from = body.length - answer.left
        const piece = body.subarray(from, from + pieceBytes)
        answer.left -= piece.length
        if (response.write(piece)) continue
        stopTimer = this.#clock.timer(patience, () => response.destroy())
        return void response.once('drain', next)
      }
      response.end()
    }
    whenClosed(response, () => {
      stopTimer()
      this.#bytes -= answer.bytes
      this.#answers.delete(answer)
    })
    next()
    this.#makeRoom()
  }

  /** Hangs up on who has read nothing for longest, until the rest is within bounds. */
  #makeRoom(): void {
    let over = this.#bytes - mostBytes
    if (over <= 0) return
    for (const answer of [...this.#answers].sort((a, b) => a.at - b.at)) {
      if (over <= 0) return
      over -= answer.bytes
      this.#bytes -= answer.bytes
      Object.assign(answer, { bytes: 0, left: 0 })
      answer.response.destroy()
    }
  }
}
