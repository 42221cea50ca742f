import { MessageChannel, type MessagePort, receiveMessageOnPort, Worker as Thread } from 'node:worker_threads'
import { threadMissing } from '../sqlite/bundled.ts'
import type { ClientData, FromClient, ToClient } from './client-thread.ts'
import { lostConnection } from './fault.ts'

/** Longer than any answer may take: the thread itself gives a connection up long before. */
const mostPatience = 60_000

/** The way to the thread that speaks to servers, of whichever thread runs engines: one each, made when it is needed. */
class Bridge {
  readonly #port: MessagePort
  readonly #signal = new Int32Array(new SharedArrayBuffer(4))
  #lastId = 0

  constructor() {
    const { port1, port2 } = new MessageChannel()
    this.#port = port1
    const workerData: ClientData = { port: port2, signal: this.#signal }
    try {
      const url = new URL('./client-thread.ts', import.meta.url)
      const options = { workerData, transferList: [port2], name: 'gopherqueue-postgres', execArgv: [] }
      new Thread(url, options).unref()
    } catch (error) {
      throw threadMissing('PostgreSQL', error)
    }
  }

  newId(): number {
    return ++this.#lastId
  }

  /** Waits for the answer: until then, nothing else happens in this thread. */
  ask(message: ToClient): FromClient {
    let seen = Atomics.load(this.#signal, 0)
    this.#port.postMessage(message)
    for (;;) {
      const answer = receiveMessageOnPort(this.#port)
      if (answer) return answer.message as FromClient
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
