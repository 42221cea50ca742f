import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { subscribe, tracingChannel, unsubscribe } from 'node:diagnostics_channel'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import { type ActiveJob, GopherQueue } from '../../src/index.ts'
import { temporaryFolder } from '../support/folder.ts'
import { next, virtualQueue } from './support.ts'

interface Message {
  type?: string
  queue?: string
  count?: number
  job?: ActiveJob
  carrier: Record<string, string>
  result?: unknown
  error?: Error
}

/** What a tracing channel publishes until its scope ends, as `[step, message]`; `onStart` may change the message. */
function watched(name: string, onStart?: (message: Message) => void) {
  const heard: [string, Message][] = []
  const note = (step: string) => (message: object) => void heard.push([step, { ...(message as Message) }])
  const start = (message: object) => {
    onStart?.(message as Message)
    note('start')(message)
  }
  const steps = {
    start,
    end: note('end'),
    asyncStart: note('asyncStart'),
    asyncEnd: note('asyncEnd'),
    error: note('error'),
  }
  const channel = tracingChannel(name)
  channel.subscribe(steps)
  return { heard, [Symbol.dispose]: () => channel.unsubscribe(steps) }
}

const ended = (heard: [string, Message][]) =>
  heard.filter(([step]) => step === 'asyncEnd').map(([, message]) => message)

test('each submission and each run of a handler can be watched, and a context sent along', async () => {
  const { queue } = virtualQueue()
  await using _ = queue
  using submits = watched('gopherqueue:submit', ({ carrier }) => Object.assign(carrier, { 'x-trace': '17' }))
  using runs = watched('gopherqueue:run')
  const task = queue.define<string>('email', { queue: 'mail', maxAttempts: 1 }, ({ payload }) => {
    if (payload === 'bad') throw new Error('broken')
    return { sent: payload }
  })
  await task.submitMany(['good', 'bad'])
  const dead = next(queue, 'dead')
  queue.work({ concurrency: 1 })
  await dead
  const [submitted, ...otherSubmissions] = ended(submits.heard)
  assert.deepEqual(submitted, {
    ...{ type: 'email', queue: 'mail', count: 2, carrier: { 'x-trace': '17' } },
    result: { ids: [1, 2], duplicates: [] },
  })
  assert.deepEqual(otherSubmissions, [])
  const seen = ended(runs.heard).map(({ job, carrier, result, error }) => [job?.id, carrier, result, error?.message])
  assert.deepEqual(seen, [
    [1, { 'x-trace': '17' }, { sent: 'good' }, undefined],
    [2, { 'x-trace': '17' }, undefined, 'broken'],
  ])
  assert.equal(runs.heard.filter(([step]) => step === 'error').length, 1)
})

test('a subscriber that leaves something in the carrier that is no text harms no job', async (t) => {
  t.mock.method(process, 'emitWarning', () => undefined)
  const { queue } = virtualQueue()
  await using _ = queue
  using _submits = watched('gopherqueue:submit', ({ carrier }) => Object.assign(carrier, { big: 1n }))
  const task = queue.define('email', {}, () => 'sent')
  queue.work()
  assert.equal(await task.wait((await task.submit(null)).id), 'sent')
})

test('submitWith is watched as the synchronous call that it is', async () => {
  using folder = temporaryFolder()
  await using queue = await GopherQueue.open(folder.file('jobs.db'))
  using submits = watched('gopherqueue:submit')
  const db = new DatabaseSync(folder.file('jobs.db'))
  assert.throws(() => queue.submitWith(db, 'email', null, { priority: 'none' as 'high' }), { code: 'INVALID_ARGUMENT' })
  db.exec('PRAGMA synchronous = OFF')
  assert.throws(() => queue.submitWith(db, 'email', null), { code: 'INVALID_ARGUMENT' })
  db.exec('PRAGMA synchronous = FULL; PRAGMA fullfsync = 1')
  queue.submitWith(db, 'email', null)
  db.close()
  const steps = submits.heard.map(([step, { result, error }]) => [step, result ?? error?.name])
  assert.deepEqual(steps, [
    ['start', undefined],
    ['error', 'GopherQueueError'],
    ['end', 'GopherQueueError'],
    ['start', undefined],
    ['end', { ids: [1], duplicates: [] }],
  ])
})

test('one channel tells the events of all queues', async () => {
  const told: unknown[] = []
  const tell = (message: unknown) => {
    const { queue, event, args } = message as { queue: GopherQueue; event: string; args: [ActiveJob] }
    told.push([queue === one || queue === other, event, args[0].type])
  }
  const [{ queue: one }, { queue: other }] = [virtualQueue(), virtualQueue()]
  await using _one = one
  await using _other = other
  subscribe('gopherqueue:event', tell)
  for (const [queue, type] of [
    [one, 'a'],
    [other, 'b'],
  ] as const) {
    // biome-ignore format: pairs
    const task = queue.define(type, {}, () => undefined)
    const { id } = await task.submit(null)
    const worker = queue.work()
    await task.wait(id)
    await worker.stop()
  }
  unsubscribe('gopherqueue:event', tell)
  assert.deepEqual(told, [
    [true, 'started', 'a'],
    [true, 'succeeded', 'a'],
    [true, 'started', 'b'],
    [true, 'succeeded', 'b'],
  ])
})

test('an app that does not use OpenTelemetry loads nothing of it', () => {
  const script = `
    import { registerHooks } from 'node:module'
    const loaded = []
    registerHooks({ load: (url, context, next) => (loaded.push(url), next(url, context)) })
    const { GopherQueue } = await import(${JSON.stringify(new URL('../../src/index.ts', import.meta.url))})
    await using queue = await GopherQueue.open(':memory:')
    const task = queue.define('task', {}, () => 'done')
    queue.work()
    await task.wait((await task.submit(null)).id)
    console.log(JSON.stringify([loaded, Object.getOwnPropertySymbols(globalThis).map(String)]))`
  const printed = execFileSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' })
  const [loaded, symbols] = JSON.parse(printed) as [string[], string[]]
  assert.ok(loaded.some((url) => url.endsWith('/src/queue/trace.ts')), 'the hook sees what is loaded') // biome-ignore format: one line
  assert.deepEqual([...loaded, ...symbols].filter((name) => /opentelemetry/i.test(name)), []) // biome-ignore format: one line
})
