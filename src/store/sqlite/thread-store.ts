import { getHeapStatistics } from 'node:v8'
import { type MessagePort, receiveMessageOnPort, type Worker as Thread } from 'node:worker_threads'
import { inNextTurn, systemClock } from '../../model/clock.ts'
import { type ErrorCode, GopherQueueError, invalid } from '../../model/errors.ts'
import { operations } from '../operations.ts'
import { mayStall, Stalls } from '../stalls.ts'
import type { Input, Operation, Output, Store, StoreEvent, StoreHealth, Submission } from '../store.ts'
import { threadMissing } from './bundled.ts'
import { lockWait } from './connection.ts'
import { succeeded } from './receipts.ts'
import type { Request } from './request.ts'
import {
  type Answer,
  type FromThread,
  Lists,
  packError,
  packRequests,
  type Requests,
  unpackError,
  unpackLeased,
} from './wire.ts'

/** Most operations, and bytes of payloads, that may wait for the storage thread; submissions above it are refused. */
const mostWaiting = 100_000
const mostBytes = Math.min(256 * 1024 * 1024, getHeapStatistics().heap_size_limit / 8)
/** What a caller who waits takes besides the payload. */
const bytesEach = 1000
const mostPerMessage = 100

interface Caller {
  resolve(value: unknown): void
  reject(error: GopherQueueError): void
  bytes: number
  /** For a job, or a job's end: no disk answers that. */
  waits: boolean
  stalls: boolean
}

/** A storage thread, and the port to it. */
export interface Started {
  port: MessagePort
  thread: Thread
}

/** Waits until the thread has opened its storage. Throws what it was refused with. */
export async function opened({ port, thread }: Started): Promise<Started> {
  const first = await new Promise<FromThread>((ok, no) => {
    port.once('message', ok)
    thread.once('error', no)
    thread.once('exit', (code) => {
      const last = receiveMessageOnPort(port) // may have been overtaken by the end of its thread
      if (last) ok(last.message)
      else no(new Error(`it exited with code ${code}`))
    })
  }).catch((error) => {
    port.close()
    throw threadMissing('storage', error)
  })
  if ('failed' in first) {
    port.close()
    await thread.terminate()
    throw unpackError(first.failed)
  }
  return { port, thread }
}

/** A store's face on the app's thread: gathers what one turn of the event loop asks for into one message to the engine's. */
export abstract class ThreadStore implements Store {
  readonly #port: MessagePort
  readonly #thread: Thread
  readonly #callers = new Map<number, Caller>()
  readonly #listeners: ((event: StoreEvent) => void)[] = []
  health: StoreHealth = { status: 'ok', causes: [], works: { submit: true, lease: true, complete: true } }
  #outbox: Request[] = []
  readonly #lists = new Lists()
  readonly #stalls = new Stalls()
  #lastSeq = 0
  #bytes = 0
  #closing: Promise<void> | undefined
  /** It was told to close, and the thread has not ended. */
  #ends = false
  /** Ends `close` while the thread lives on, for what it must keep open. */
  #left: (() => void) | undefined

  protected constructor({ port, thread }: Started) {
    this.#port = port
    this.#thread = thread
    port.on('message', (message: FromThread) => this.#hear(message))
    thread.on('exit', () => this.#fail('The storage thread ended'))
    thread.on('error', (error) => this.#fail(`The storage thread failed: ${error.message}`))
    this.#hold()
  }

  #hear(message: FromThread): void {
    if ('left' in message) this.#left?.()
    if (!('answers' in message)) return
    for (const event of message.events) {
      if (event.event === 'ping') {
        this.#port.postMessage([] satisfies Requests)
        continue
      }
      if (event.event === 'health') this.health = event.health
      for (const listener of this.#listeners) listener(event)
    }
    for (const seq of message.succeeded) this.#settle({ seq, value: succeeded })
    for (const answer of message.answers) this.#settle(answer)
    if (message.answers.length + message.succeeded.length > 0) this.#stalls.heard()
  }

  stalledMs(): number {
    return this.#stalls.ms
  }

  settleNow(ms: number): void {
    this.#flush()
    const asked = [...this.#callers].filter(([, { waits }]) => !waits).map(([seq]) => seq)
    const until = systemClock.monotonic() + ms
    while (asked.some((seq) => this.#callers.has(seq)) && systemClock.monotonic() < until) {
      const received = receiveMessageOnPort(this.#port) as { message: FromThread } | undefined
      if (received) this.#hear(received.message)
      else lockWait.sleep(1)
    }
  }

  call<K extends Operation>(
    operation: K,
    input: Input<K>,
    signal?: AbortSignal,
    who?: string,
    epoch?: string,
  ): Promise<Output<K>> {
    if (this.#closing) return Promise.reject(closed())
    if (signal?.aborted) return Promise.reject(signal.reason)
    const bytes = operation === 'submit' ? sizeOf(input as Submission) : 0
    if (
      operation === 'submit' &&
      this.#callers.size > 0 &&
      (this.#callers.size >= mostWaiting || this.#bytes + bytes > mostBytes)
    )
      return Promise.reject(
        new GopherQueueError(
          'OVERLOADED',
          `${this.#callers.size} operations wait for the disk in this process. The submission was not accepted: wait for earlier ones before making more.`,
        ),
      )
    const seq = ++this.#lastSeq
    return new Promise((resolve, reject) => {
      const [waits, stalls] = [operations[operation].kind === 'memory', mayStall(operation)]
      this.#callers.set(seq, { resolve: resolve as Caller['resolve'], reject, bytes, waits, stalls })
      if (stalls) this.#stalls.begins()
      this.#bytes += bytes
      if (this.#callers.size === 1) this.#hold()
      const request: Request = { seq, operation, input }
      if (who !== undefined) request.who = who
      if (epoch !== undefined) request.epoch = epoch
      this.#post(request)
      signal?.addEventListener('abort', () => this.#forget(seq, signal.reason), { once: true })
    })
  }

  /** Throws what a submission would be refused with that waits for nothing. */
  protected mustTakeSubmissions(): void {
    if (this.#closing) throw closed()
    const { works, causes } = this.health
    if (!works.submit) throw new GopherQueueError(causes.at(-1)!.code as ErrorCode, causes.at(-1)!.message)
  }

  onEvent(listener: (event: StoreEvent) => void): void {
    this.#listeners.push(listener)
  }

  async close(): Promise<void> {
    this.#closing ??= new Promise<void>((done) => {
      this.#thread.removeAllListeners('exit')
      const ended = () => {
        this.#ends = false
        this.#fail('The queue was closed')
        done()
      }
      this.#thread.once('exit', ended)
      this.#left = () => {
        ended()
        this.#hold()
      }
      this.#ends = true
      this.#hold()
      this.#outbox.push({ seq: ++this.#lastSeq, operation: 'close', input: null })
      this.#flush()
    })
    await this.#closing
  }

  /** For `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  #post(request: Request): void {
    const waiting = this.#outbox.push(request)
    if (waiting === 1) inNextTurn(() => this.#flush())
    else if (waiting === mostPerMessage) this.#flush() // let the storage thread start while this turn goes on
  }

  #flush(): void {
    if (this.#outbox.length === 0) return
    const packed = packRequests(this.#outbox, this.#lists)
    this.#outbox = []
    try {
      this.#port.postMessage(packed)
    } catch {
      for (const one of packed) this.#postAlone(one)
    }
  }

  /** A symbol or a function cannot go to the thread: its caller hears of that, and no other. */
  #postAlone(one: Requests[number]): void {
    try {
      this.#port.postMessage([one])
    } catch (error) {
      const refused = invalid(
        `An argument has a value that cannot be stored (${error instanceof Error ? error.message : error}).`,
      )
      if ('seq' in one) this.#settle({ seq: one.seq, failure: packError(refused) })
    }
  }

  #settle(answer: Answer): void {
    const caller = this.#callers.get(answer.seq)
    if (!caller) return
    this.#release(answer.seq, caller)
    if ('value' in answer) caller.resolve(answer.value)
    else if ('rows' in answer) caller.resolve(unpackLeased(answer))
    else caller.reject(unpackError(answer.failure))
  }

  #release(seq: number, caller: Caller): void {
    this.#callers.delete(seq)
    this.#bytes -= caller.bytes
    if (caller.stalls) this.#stalls.ends()
    if (this.#callers.size === 0) this.#hold()
  }

  #forget(seq: number, reason: unknown): void {
    const caller = this.#callers.get(seq)
    if (!caller || this.#closing) return
    this.#release(seq, caller)
    this.#post({ seq: ++this.#lastSeq, operation: 'forget', input: seq })
    caller.reject(reason as GopherQueueError)
  }

  /** Keeps the process alive exactly while someone waits for an answer, or for the end. */
  #hold(): void {
    if (this.#callers.size > 0 || this.#ends) {
      this.#port.ref()
      this.#thread.ref()
    } else {
      this.#port.unref()
      this.#thread.unref()
    }
  }

  /** The thread is gone: nobody may wait for ever. */
  #fail(what: string): void {
    this.#closing ??= Promise.resolve()
    for (const [seq, caller] of this.#callers) {
      this.#release(seq, caller)
      caller.reject(
        new GopherQueueError(
          what.endsWith('closed') ? 'CLOSED' : 'STORAGE_UNAVAILABLE',
          `${what}. Whether this took effect is not known: open the queue again and look.`,
          { accepted: 'unknown' },
        ),
      )
    }
  }
}

function closed(): GopherQueueError {
  return new GopherQueueError('CLOSED', 'The queue was closed. Nothing was accepted: open it again.')
}

function sizeOf({ payloads }: Submission): number {
  let bytes = bytesEach
  for (const payload of payloads) bytes += payload.length
  return bytes
}
