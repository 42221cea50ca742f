import { MessageChannel, type MessagePort, receiveMessageOnPort, Worker as Thread } from 'node:worker_threads'
import type { Clock } from '../model/clock.ts'
import { GopherQueueError, invalid, PermanentError, Postpone, TemporaryError } from '../model/errors.ts'
import { threadMissing } from '../store/sqlite/bundled.ts'
import { packError } from '../store/sqlite/wire.ts'
import type { Failure, Lease, Store } from '../store/store.ts'
import type { ActiveJob } from './definition.ts'
import { described } from './evidence.ts'
import { withFields } from './fields.ts'
import type { Result } from './result.ts'
import { carried } from './trace.ts'

/** Set in the threads of handlers: what another copy of this package does there, it does in a thread of ours too. */
export const handlerThread = Symbol.for('gopherqueue.handlerThread')

/** Throws INVALID_ARGUMENT in the thread of a handler. */
export function mustNotBeInThread(): void {
  if (handlerThread in globalThis)
    throw invalid("A handler's thread cannot open a worker of its own: its jobs would end with the thread. Define their handlers where the first worker is made, and submit jobs from here.") // biome-ignore format: long
}

/**
 * Thrown for a handler whose thread died after other jobs had run in it: one of these may have left a timer or a promise
 * behind. To charge the job would make it pay for another's crash; it runs next in a new thread, and is charged there.
 */
export const goesBack = new WeakSet<object>()
/** Most jobs that are remembered to need a new thread. */
const mostRemembered = 1000

/** How long a handler in a thread may go on after its signal has fired; then its thread is ended. */
const patience = 5000

/** An error taken apart in the thread: a copy of the object would lose its name, class and code. */
interface Thrown {
  error: Failure['error']
  /** Its own fields, as far as they can be copied. */
  fields: Record<string, unknown>
  kind: keyof typeof made
}
const made = {
  permanent: (message: string) => new PermanentError(message),
  temporary: (message: string) => new TemporaryError(message),
  postpone: (message: string) => Object.assign(new Postpone(0), { message }), // its own fields say when
  plain: (message: string) => new Error(message),
}
/** The error as `classify` and the history are to see it: its class is told by its kind, and it is described already. */
function rebuilt({ error, fields, kind }: Thrown): Error {
  const { name, message, stack } = error
  const whole = withFields(made[kind](message), fields)
  Object.defineProperty(whole, 'name', { value: name, writable: true, configurable: true })
  if (stack !== null) whole.stack = stack
  described.set(whole, error)
  return whole
}

/**
 * Both sides speak over a port of the queue's own. What a handler's module posts on `parentPort` may look like anything,
 * an outcome too: nobody here listens to it.
 */
export interface ThreadData {
  port: MessagePort
}
export type ToThread =
  | { file: string; job: ActiveJob; lease: Lease; carrier: Record<string, string> }
  | { reason: { name: string; message: string } }
  | { seq: number; value: unknown }
  | { seq: number; failure: ReturnType<typeof packError> }
export type FromThread =
  | { seq: number; operation: 'heartbeat' | 'progress' | 'checkpoint'; input: unknown }
  | { result: Result }
  | { thrown: Thrown; loaded: boolean }

/** Threads of one worker, each for one handler at a time: as many as have run at once, kept for the next. */
export class Threads {
  readonly #clock: Clock
  readonly #store: Pick<Store, 'call'>
  readonly #warn: (warning: GopherQueueError) => void
  readonly #all = new Set<Thread>()
  readonly #idle = new Set<Thread>()
  readonly #ports = new WeakMap<Thread, MessagePort>()
  /** Threads in which a job has run. */
  readonly #used = new WeakSet<Thread>()
  /** Jobs that run in a new thread next. */
  readonly #needsNew = new Set<number>()

  constructor(clock: Clock, store: Pick<Store, 'call'>, warn: (warning: GopherQueueError) => void) {
    this.#clock = clock
    this.#store = store
    this.#warn = warn
  }

  /** Runs a module's default export; resolves with its result. Once the signal has fired, it has 5 s. */
  run(file: URL, job: ActiveJob, lease: Lease, signal: AbortSignal): Promise<Result> {
    const [thread = this.#start()] = this.#needsNew.delete(job.id) ? [] : this.#idle
    const wasUsed = this.#used.has(thread)
    this.#used.add(thread)
    const port = this.#ports.get(thread)!
    const { promise, resolve, reject } = Promise.withResolvers<Result>()
    let fault = ''
    let stopTimer: (() => void) | undefined
    const send = (message: ToThread) => port.postMessage(message)
    const keep = () => void (this.#all.has(thread) && this.#idle.add(thread)) // it may be heard after its end
    const hear = (message: FromThread) => {
      if ('seq' in message) {
        const { seq, operation, input } = message
        this.#store.call(operation, input as never).then(
          (value) => send({ seq, value }),
          (error) => send({ seq, failure: packError(error) }),
        )
      } else if ('result' in message) {
        keep()
        resolve(message.result)
      } else {
        if (message.loaded) keep()
        else void thread.terminate() // it would keep the failure, which a deploy may mend
        reject(rebuilt(message.thrown))
      }
    }
    const abort = () => {
      const { name, message } = signal.reason as Error
      send({ reason: { name, message } })
      stopTimer = this.#clock.timer(patience, () => {
        fault = 'it went on after its signal had fired, and was ended'
        void thread.terminate()
      })
    }
    const crash = (error: unknown) => {
      const isOurs = /handler-thread/.test(String(error)) // and not a module that the handler asked for
      fault = isOurs ? threadMissing('handler', error).message : String(error)
    }
    const exit = (code: number) => {
      // What it said before its end may lie there still: of an attempt that was reported the end of its thread is no fault.
      for (let left = receiveMessageOnPort(port); left; left = receiveMessageOnPort(port)) hear(left.message)
      const error = new Error(`The thread of the handler is gone: ${fault || `it exited with code ${code}`}.`)
      if (wasUsed && !signal.aborted) this.#giveBack(job, error)
      reject(Object.assign(error, { name: 'ThreadGone' }))
    }
    send({ file: file.href, job, lease, carrier: carried() })
    this.#idle.delete(thread)
    port.on('message', hear)
    thread.on('error', crash).on('exit', exit)
    signal.addEventListener('abort', abort)
    if (signal.aborted) abort()
    return promise.finally(() => {
      stopTimer?.()
      signal.removeEventListener('abort', abort)
      port.off('message', hear)
      thread.off('error', crash).off('exit', exit)
    })
  }

  #giveBack({ id, type }: ActiveJob, error: Error): void {
    goesBack.add(error)
    if (this.#needsNew.size < mostRemembered) this.#needsNew.add(id)
    const says = `Job ${id} of type '${type}' goes back uncharged, since jobs before it ran in the thread too, and runs in a new thread next. Let no timer or promise outlive its job.`
    this.#warn(new GopherQueueError('THREAD_GONE', `${error.message} ${says}`))
  }

  async close(): Promise<void> {
    await Promise.all([...this.#all].map((thread) => thread.terminate()))
  }

  #start(): Thread {
    const { port1: ours, port2: port } = new MessageChannel()
    const options = {
      ...{ workerData: { port } satisfies ThreadData, transferList: [port] },
      name: 'gopherqueue handler',
      ...(process.execArgv.some((flag) => flag.startsWith('--input-type')) && { execArgv: [] }), // it refuses files
    }
    let thread: Thread
    try {
      thread = new Thread(new URL('./handler-thread.ts', import.meta.url), options)
    } catch (error) {
      ours.close()
      throw threadMissing('handler', error)
    }
    this.#ports.set(thread, ours)
    thread.on('error', () => undefined) // an idle one that dies is replaced
    thread.on('exit', () => this.#all.delete(thread) && this.#idle.delete(thread))
    this.#all.add(thread)
    this.#idle.add(thread)
    return thread
  }
}
