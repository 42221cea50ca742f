import { parentPort, threadId } from 'node:worker_threads'
import { type ActiveJob, type Context, GopherQueue, PermanentError, Postpone, TemporaryError } from '../../src/index.ts'

/** Heard in every thread of the process, also from a handler that never comes back to its event loop. */
const said = new BroadcastChannel('threads.test')
said.unref() // a test queue imports this into the test's own thread, which must end

const deeds: Record<string, (job: ActiveJob, context: Context) => unknown> = {
  tell: ({ payload, attempt, type, checkpoint }) => ({ payload, attempt, type, checkpoint, threadId }),
  chatter: async ({ id }, context) => {
    const words = [{ hello: 1 }, null, undefined, 'text', 7, { seq: 1 }, { seq: 1, operation: 'progress', input: null }]
    for (const word of [...words, { result: { result: '"false"' } }, { thrown: 1, loaded: true }, { reason: 1 }])
      parentPort!.postMessage(word)
    parentPort!.on('message', () => said.postMessage(-1))
    await context.checkpoint({ id })
    parentPort!.close()
    return 'its own'
  },
  last: () => {
    setImmediate(() => process.exit(4))
    return 'said'
  },
  permanent: () => {
    throw new PermanentError('never', { cause: new Error('the cause') })
  },
  later: () => {
    throw new TemporaryError('busy', { retryAfter: '7s' })
  },
  postpone: () => {
    throw new Postpone('9s')
  },
  coded: () => {
    throw Object.assign(new RangeError('out of it'), { code: 'E_RANGE' })
  },
  text: () => {
    throw 'only text'
  },
  long: () => {
    throw new Error('x'.repeat(20_000))
  },
  odd: () => {
    throw Object.assign(new Error(), { name: undefined, message: { status: 503 }, code: () => 'no copy' })
  },
  bigint: () => 1n,
  revoked: () => {
    const { proxy, revoke } = Proxy.revocable({}, {})
    revoke()
    return proxy
  },
  axios: () => {
    const config: { self?: object } = {}
    config.self = config
    const response = { status: 429, headers: { 'x-a': '1' }, send: () => undefined }
    const cause = Object.assign(new Error('the cause'), { code: 'E_CAUSE' })
    throw Object.assign(new Error('too many', { cause }), { status: 429, retryAfter: 'soon', response, config })
  },
  foreign: () => {
    const error = Object.assign(new Error('of another copy'), { name: 'PermanentError' })
    throw Object.assign(error, { [Symbol.for('gopherqueue.permanent')]: true })
  },
  work: async () => {
    await using queue = await GopherQueue.open(':memory:')
    queue.define('t', {}, () => null)
    queue.work()
  },
  steps: async ({ checkpoint }, { progress, heartbeat, checkpoint: keep }) => {
    if (checkpoint) return checkpoint
    await heartbeat()
    progress(40, 'almost')
    const refused = await keep('x'.repeat(70_000)).catch((error) => [error.name, error.code])
    await keep({ refused })
    throw new TemporaryError('on to the next', { retryAfter: 0 })
  },
  obey: ({ id }, { signal }) => {
    signal.throwIfAborted()
    said.postMessage(id)
    return new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)))
  },
  loop: ({ id, attempt }) => {
    said.postMessage(id)
    if (attempt > 1) return threadId
    for (;;);
  },
  exit: () => process.exit(3),
  crash: () => {
    setTimeout(() => {
      throw new Error('from a timer')
    })
    return new Promise(() => undefined)
  },
}

export default (job: ActiveJob<{ deed: string }>, context: Context) => deeds[job.payload.deed]!(job, context)
