import { receiveMessageOnPort, workerData } from 'node:worker_threads'
import { isPermanent, isPostpone, isTemporary } from '../model/errors.ts'
import { unpackError } from '../store/sqlite/wire.ts'
import type { Store } from '../store/store.ts'
import { contextOf } from './context.ts'
import { handlerOf } from './definition.ts'
import { inWords } from './evidence.ts'
import { fieldsOf } from './fields.ts'
import { awaitable, resultOf } from './result.ts'
import { type FromThread, handlerThread, type ThreadData, type ToThread } from './threads.ts'
import { within } from './trace.ts'

// What a handler in a thread has around it: the same context, whose calls go through the app's thread.

const { port } = workerData as ThreadData // and not parentPort, which is the handler's
;(globalThis as { [handlerThread]?: true })[handlerThread] = true
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

function hear(message: ToThread): void {
  if ('file' in message) void answer(message)
  else if ('reason' in message) controller.abort(Object.assign(new Error(), message.reason))
  else {
    const caller = callers.get(message.seq)!
    callers.delete(message.seq)
    if ('failure' in message) caller.reject(unpackError(message.failure))
    else caller.resolve(message.value)
  }
}
port.on('message', hear)

const kindOf = (error: unknown) =>
  isPostpone(error) ? 'postpone' : isPermanent(error) ? 'permanent' : isTemporary(error) ? 'temporary' : 'plain'

async function answer({ file, job, lease, carrier }: Extract<ToThread, { file: string }>): Promise<void> {
  controller = new AbortController()
  const { signal } = controller
  let loaded = false
  let flush = (): void => undefined
  const run = async (): Promise<FromThread> => {
    try {
      const handler = handlerOf(await import(file), file)
      loaded = true
      // The attempt may have ended while its module was loaded: nothing of it may begin now.
      for (let next = receiveMessageOnPort(port); next; next = receiveMessageOnPort(port)) hear(next.message)
      signal.throwIfAborted()
      const made = contextOf({ call }, lease, () => signal)
      flush = made.flush
      return { result: resultOf(await within(carrier, () => awaitable(handler(job, made.context)))) }
    } catch (error) {
      return { thrown: { error: inWords(error), fields: fieldsOf(error), kind: kindOf(error) }, loaded }
    }
  }
  const outcome = await run()
  flush()
  send(outcome)
}
