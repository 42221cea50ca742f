import assert from 'node:assert/strict'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { GopherQueue } from '../../src/queue/gopherqueue.ts'
import { queuesOf, Sources } from '../../src/queue/sources.ts'
import { serve } from '../../src/server/server.ts'
import { SqliteStore } from '../../src/store/sqlite/store.ts'
import type { Operation, Store } from '../../src/store/store.ts'
import { VirtualClock } from '../../src/testing/clock.ts'
import { testQueue } from '../../src/testing/index.ts'
import { temporaryFolder } from '../support/folder.ts'
import { next, virtualQueue } from './support.ts'

const here = ({ queue }: { queue: string }) => queue
const settled = async () => {
  for (let i = 0; i < 20; i++) await turn()
}

test('a queue that comes while a worker runs is served within a second, and not before anybody looks', async () => {
  const { queue, store } = virtualQueue()
  queue.define('t', {}, here)
  await queue.submit('t', null, { queue: 'tenant-1' })
  const worker = queue.work({ queues: ['mail', 'tenant-*'] })
  await settled()
  assert.deepEqual(
    worker.sources.map((source) => source.queue),
    ['mail', 'tenant-1'],
  )
  const { id } = await queue.submit('t', null, { queue: 'tenant-0' })
  const { id: other } = await queue.submit('t', null, { queue: 'other' })
  store.advance(999)
  await settled()
  assert.equal((await queue.job(id))?.state, 'ready')
  store.advance(1)
  await settled()
  assert.equal((await queue.job(id))?.result, 'tenant-0')
  assert.equal((await queue.job(other))?.state, 'ready')
  const { workers, unhandled } = await queue.stats()
  assert.deepEqual([workers[0]?.sources, unhandled], [worker.sources, [{ queue: 'other', type: 't' }]])
  await queue.close()
  assert.equal(store.clock.untilTimer, Number.POSITIVE_INFINITY, 'a worker that has stopped looks no more')
})

test('patterns that overlap, and a queue named besides, are a source once; a queue may be named like a pattern', async () => {
  const queue = testQueue()
  queue.define('t', {}, here)
  queue.define('u', {}, here)
  const worker = queue.work({ queues: ['a*', 'ab*', 'abc', '*', 'a*'] })
  for (const name of ['abc', 'ab*', 'z']) await queue.submit('t', null, { queue: name })
  await queue.drain()
  await queue.advance('1s')
  assert.deepEqual(
    worker.sources.map((source) => `${source.queue} ${source.type}`),
    ['abc t', 'abc u', 'ab* t', 'ab* u', 'z t', 'z u'],
  )
  assert.deepEqual((await queue.stats()).unhandled, [])
  assert.equal((await queue.jobs({ state: 'succeeded' })).jobs.length, 3)
  await queue.close()
})

test('the order over all queues that match is that of the jobs: class, then id', async () => {
  await using queue = testQueue()
  const order: string[] = []
  queue.define('t', {}, ({ queue: name }) => void order.push(name))
  for (const name of ['t-3', 't-1', 't-2', 't-1']) await queue.submit('t', null, { queue: name })
  await queue.submit('t', null, { queue: 't-9', priority: 'high' })
  queue.work({ queues: ['t-*'], concurrency: 1 })
  await queue.advance('1s')
  assert.deepEqual(order, ['t-9', 't-3', 't-1', 't-2', 't-1'])
})

test('a paused queue of a pattern waits, one that only its settings made is taken, and a type defined later counts in all', async () => {
  await using queue = testQueue()
  queue.define('t', {}, here)
  const worker = queue.work({ queues: ['t-*'] })
  await queue.pause('t-1')
  const { id } = await queue.submit('t', null, { queue: 't-1' })
  await queue.advance('2s')
  assert.equal((await queue.job(id))?.state, 'ready')
  assert.deepEqual(worker.sources, [{ queue: 't-1', type: 't' }])
  queue.define('later', {}, here)
  const later = await queue.submit('later', null, { queue: 't-1' })
  await queue.resume('t-1')
  await queue.drain()
  for (const one of [id, later.id]) assert.equal((await queue.job(one))?.result, 't-1')
})

test('a * elsewhere than at the end is refused, with what is possible', () => {
  const queue = testQueue()
  queue.define('t', {}, here)
  for (const pattern of ['a*b', '**', '*a', 'a**'])
    assert.throws(() => queue.work({ queues: [pattern] }), { code: 'INVALID_ARGUMENT', message: /may only end it/ })
  assert.throws(() => queue.work({ queues: [`${'x'.repeat(129)}*`] }), { code: 'INVALID_ARGUMENT' })
  assert.deepEqual(queuesOf(['b*', 'a', 'ab*', 'a*', 'b']), { named: ['a', 'b'], prefixes: ['a', 'b'] })
})

test('jobs that plain SQL puts into a new queue of the file are served too', async () => {
  using folder = temporaryFolder()
  await using queue = await GopherQueue.open(folder.file('jobs.db'))
  queue.define('t', {}, here)
  const done = next(queue, 'succeeded')
  queue.work({ queues: ['*'] })
  const { DatabaseSync } = await import('node:sqlite')
  const db = new DatabaseSync(folder.file('jobs.db'))
  db.exec(`INSERT INTO gq_jobs (queue, type, payload) VALUES ('by-hand', 't', '1')`)
  db.close()
  assert.equal((await done)[1], '"by-hand"')
})

test('over a server too, with a token that may only work', async () => {
  using folder = temporaryFolder()
  const store = await SqliteStore.open(folder.file('jobs.db'), { tends: true })
  const server = await serve(store, { port: 0, logLevel: 'silent' })
  const queue = await GopherQueue.open(server.url)
  queue.define('t', {}, here)
  const worker = queue.work({ queues: ['acme,*', 'tenant-*'] }) // none is there: it has nothing to ask for
  const done = next(queue, 'succeeded')
  await queue.submit('t', null, { queue: 'tenant-ü' })
  assert.equal((await done)[1], '"tenant-ü"')
  assert.deepEqual(worker.sources, [{ queue: 'tenant-ü', type: 't' }])
  await queue.close()
  await server.close()
})

/** A store that has so many queues, and refuses while `fault` is set. */
function storeOf(count: () => number, mostSourceBytes?: number) {
  const asked: unknown[] = []
  const state = { fault: null as Error | null, asked }
  const name = (i: number) => `t-${String(i).padStart(6, '0')}`
  const store = {
    ...(mostSourceBytes && { mostSourceBytes }),
    async call(operation: Operation, input: { known?: number; after?: string }) {
      if (state.fault) throw state.fault
      asked.push(input)
      assert.equal(operation, 'queueNames')
      const from = input.after === undefined ? 0 : Number(input.after.slice(2)) + 1
      if (input.known === count()) return { names: [], next: null, count: count() }
      const names = Array.from({ length: Math.min(10_000, count() - from) }, (_, i) => name(from + i))
      return { names, next: from + names.length < count() ? names.at(-1)! : null, count: count() }
    },
  } as unknown as Store
  return { store, state }
}

async function looking(count: () => number, types: number, mostSourceBytes?: number) {
  const clock = new VirtualClock()
  const warnings: { code: string; message: string; details: unknown }[] = []
  const { store, state } = storeOf(count, mostSourceBytes)
  const definitions = new Map(
    Array.from({ length: types }, (_, i) => [`type${i}`, { type: `type${i}`, handler: here }]),
  )
  let changes = 0
  const sources = new Sources(definitions as never, queuesOf(['mail', 't-*']), {
    ...{ worker: 'w', store, clock },
    warn: (warning) => void warnings.push(warning),
  })
  sources.look(() => changes++)
  const pass = async () => {
    clock.advance(1000)
    await settled()
  }
  await settled()
  return { sources, warnings, state, pass, changes: () => changes }
}

test('of more queues than a worker can take, the first by name are taken, and how many are not is told', async () => {
  let count = 50_000
  const { sources, warnings, pass, changes } = await looking(() => count, 5)
  assert.deepEqual([sources.list.length, sources.list.at(-1)], [100_000, { queue: 't-019998', type: 'type4' }])
  assert.deepEqual(
    warnings.map(({ code, details }) => [code, details]),
    [['QUEUES_NOT_TAKEN', { taken: 20_000, notTaken: 30_001 }]],
  )
  assert.match(warnings[0]!.message, /of 30001 more it takes none, from 't-019999' on/)
  count++
  await pass()
  assert.deepEqual([warnings.length, changes()], [1, 1], 'one more is no news, and changes nothing')
  count = 150_000
  await pass()
  assert.deepEqual(warnings.at(-1)?.details, { taken: 20_000, notTaken: 130_001 })
})

test('over a network the sources fit into a request', async () => {
  const { sources, warnings } = await looking(() => 20_000, 5, 768 * 1024)
  const bytes = Buffer.byteLength(JSON.stringify(sources.list))
  assert.ok(bytes <= 768 * 1024 && bytes > 767 * 1024, `${bytes} bytes`)
  assert.equal(warnings[0]?.code, 'QUEUES_NOT_TAKEN')
  assert.match(warnings[0]!.message, /768 KiB/)
})

test('a look that fails is told once, keeps what is known, and goes on', async () => {
  let count = 1
  const { sources, warnings, state, pass } = await looking(() => count, 1)
  state.fault = new Error('away')
  for (let i = 0; i < 3; i++) await pass()
  assert.deepEqual([warnings.map(({ code }) => code), sources.list.length], [['STORAGE_UNAVAILABLE'], 2])
  assert.match(warnings[0]!.message, /goes on with those that it knows/)
  state.fault = null
  count = 2
  await pass()
  assert.equal(sources.list.length, 3)
  sources.forget() // the file was replaced: another has as many queues
  state.asked.length = 0
  await pass()
  assert.deepEqual(state.asked, [{ prefix: 't-', known: 0, forgotten: 0 }])
})

test('queues that are forgotten between two pages of names are not told as not taken', async () => {
  const pages = [
    { names: ['t-1', 't-2', 't-\u0007'], next: 't-2', count: 6, forgotten: 0 },
    { names: ['t-3'], next: null, count: 4, forgotten: 2 },
  ]
  const warnings: unknown[] = []
  const sources = new Sources(new Map([['mail', { type: 'mail', handler: here }]]) as never, queuesOf(['t-*']), {
    ...{ worker: 'w', store: { call: async () => pages.shift() } as unknown as Store, clock: new VirtualClock() },
    warn: (warning) => void warnings.push(warning),
  })
  sources.look(() => undefined)
  await settled()
  assert.deepEqual(sources.list.map(({ queue }) => queue), ['t-1', 't-2', 't-3'], 'and a name that no server takes is none of them') // biome-ignore format: long
  assert.deepEqual(warnings, [])
  sources.stop()
})

test('a queue with an empty name, as plain SQL makes it, is listed, and is none that a worker does not take', async () => {
  using folder = temporaryFolder()
  const file = folder.file('jobs.db')
  await using queue = await GopherQueue.open(file)
  const warnings: unknown[] = []
  queue.on('warning', (warning) => void warnings.push(warning))
  using sql = new DatabaseSync(file)
  sql.exec(`INSERT INTO gq_jobs (queue, type, payload) VALUES ('', 't', '1')`)
  queue.define('t', {}, here)
  const { id } = await queue.submit('t', null, { queue: 'mail' })
  const { queues, next } = await queue.queues()
  assert.deepEqual([queues.map((one) => [one.queue, one.counts.dead]), next], [[['', 1], ['mail', 0]], null]) // biome-ignore format: one line
  const worker = queue.work({ queues: ['*'] })
  await queue.wait(id)
  assert.deepEqual([worker.sources.map((one) => one.queue), warnings], [['mail'], []])
  await worker.stop()
})
