import { MessageChannel, type MessagePort, receiveMessageOnPort, Worker as Thread } from 'node:worker_threads'
import { threadMissing } from '../sqlite/bundled.ts'
import type { Asked, ClientData, FromClient, Result, ToClient } from './client-thread.ts'
import { lostConnection } from './fault.ts'

/** Longer than any answer may take: the thread itself gives a connection up long before. */
const mostPatience = 60_000

/** The way to the thread that speaks to servers, of whichever thread runs engines: one each, made when it is needed. */
class Bridge {
  readonly #port: MessagePort
  readonly #signal = new Int32Array(new SharedArrayBuffer(4))
  readonly #hearers = new Map<number, () => void>()
  #lastId = 0
  #lastSeq = 0

  constructor() {
    const { port1, port2 } = new MessageChannel()
    const { port1: here, port2: heard } = new MessageChannel()
    this.#port = port1
    here.on('message', (id: number) => this.#hearers.get(id)?.())
    here.unref()
    const workerData: ClientData = { port: port2, heard, signal: this.#signal }
    try {
      const url = new URL('./client-thread.ts', import.meta.url)
      const options = { workerData, transferList: [port2, heard], name: 'gopherqueue-postgres', execArgv: [] }
      new Thread(url, options).unref()
    } catch (error) {
      throw threadMissing('PostgreSQL', error)
    }
  }

  newId(): number {
    return ++this.#lastId
  }

  /** Calls `hear` in a turn of the event loop when another process has told something on the channel; undefined: no more. */
  onHeard(id: number, hear: (() => void) | undefined): void {
    if (hear) this.#hearers.set(id, hear)
    else this.#hearers.delete(id)
  }

  /** Tells the others on a connection's channel, soon; waits for nothing. */
  tell(id: number): void {
    this.#port.postMessage({ seq: 0, message: { tell: id } } satisfies Asked)
  }

  /** Waits for the answer: until then, nothing else happens in this thread. */
  ask(message: ToClient): Result[] {
    const seq = ++this.#lastSeq
    let seen = Atomics.load(this.#signal, 0)
    this.#port.postMessage({ seq, message } satisfies Asked)
    for (;;) {
      const answer = receiveMessageOnPort(this.#port)?.message as FromClient | undefined
      if (answer?.seq === seq) return answer.results
      if (answer) continue
      if (Atomics.wait(this.#signal, 0, seen, mostPatience) === 'timed-out')
        return [
          { fault: { message: 'The thread that speaks to PostgreSQL does not answer', sqlstate: lostConnection } },
        ]
      seen = Atomics.load(this.#signal, 0)
    }
  }
}

let bridge: Bridge | undefined
export const theBridge = (): Bridge => (bridge ??= new Bridge())
