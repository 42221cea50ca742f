import { parentPort } from 'node:worker_threads'
import { PermanentError, TemporaryError } from '../model/errors.ts'
import { toJson } from '../model/json.ts'
import { unpackError } from '../store/sqlite/wire.ts'
import type { Store } from '../store/store.ts'
import { contextOf, inWords } from './attempt.ts'
import type { Handler } from './definition.ts'
import type { FromThread, ToThread } from './threads.ts'
import { within } from './trace.ts'

// What a handler in a thread has around it: the same context, whose calls go through the app's thread.

const port = parentPort!
const send = (message: FromThread) => port.postMessage(message)
const callers = new Map<number, PromiseWithResolvers<unknown>>()
let calls = 0
let controller: AbortController

const call = ((operation, input) => {
  const caller = Promise.withResolvers()
  callers.set(++calls, caller)
  send({ seq: calls, operation: operation as 'heartbeat', input })
  return caller.promise
}) as Store['call']

port.on('message', (message: ToThread) => {
  if ('file' in message) void run(message)
  else if ('reason' in message) controller.abort(Object.assign(new Error(), message.reason))
  else {
    const caller = callers.get(message.seq)!
    callers.delete(message.seq)
    if ('failure' in message) caller.reject(unpackError(message.failure))
    else caller.resolve(message.value)
  }
})

async function run({ file, job, lease, carrier }: Extract<ToThread, { file: string }>): Promise<void> {
  controller = new AbortController()
  const { signal } = controller
  let [loaded, returned] = [false, false]
  try {
    const { default: handler } = (await import(file)) as { default: Handler<unknown, unknown> }
    if (typeof handler !== 'function') throw new TypeError(`The default export of ${file} must be a function.`)
    loaded = true
    const context = contextOf({ call }, lease, () => signal)
    const result = await within(carrier, () => handler(job, context))
    returned = true
    send({ result: toJson('result', result) })
  } catch (error) {
    const permanent = returned || error instanceof PermanentError // running it again gives the same that is no JSON
    const retryAfter = error instanceof TemporaryError ? error.retryAfter : undefined
    const { code } = Object(error) as { code?: unknown }
    const plain = typeof code === 'string' || typeof code === 'number' ? code : undefined // anything else may not be copied
    send({ thrown: { ...inWords(error), code: plain, permanent, retryAfter }, loaded })
  }
}
