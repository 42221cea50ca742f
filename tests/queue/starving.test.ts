import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { GopherQueue } from '../../src/queue/gopherqueue.ts'
import { testQueue } from '../../src/testing/index.ts'
import type { EngineStore } from '../../src/testing/store.ts'
import { hear, virtualQueue } from './support.ts'

interface Told {
  code: string
  message: string
  details: unknown
}

/** A queue whose jobs of type 'parent' each wait for a new one of type 'child', and what it warns of. */
function family(childQueue = 'default', timeout = '15m' as const) {
  const { queue, store } = virtualQueue()
  const warnings: Told[] = []
  hear(queue, 'warning', (warning) => warnings.push(warning as Told))
  const child = queue.define('child', { queue: childQueue }, () => 'done')
  const parent = queue.define('parent', { timeout, backoff: { kind: 'constant', delay: '1d' } }, async () =>
    child.wait((await child.submit(null)).id),
  )
  return { queue, store, warnings, child, parent }
}

async function pass(store: EngineStore, ms: number): Promise<void> {
  for (let left = ms; left > 0; left -= 1000) {
    store.advance(Math.min(1000, left))
    for (let i = 0; i < 8; i++) await turn()
  }
}

/** What ignores its signal is waited for: in virtual time, that has to pass. */
async function end(queue: GopherQueue, store: EngineStore): Promise<void> {
  let open = true
  const closed = queue.close({ drain: false }).finally(() => (open = false))
  while (open) {
    store.clock.advance(1000)
    for (let i = 0; i < 8; i++) await turn()
  }
  await closed
}

test('handlers that hold all slots and wait for jobs that only they could run are told, once for a type', async () => {
  const { queue, store, warnings, parent } = family()
  await parent.submitMany([1, 2])
  queue.work({ concurrency: 2, name: 'w' })
  await pass(store, 500)
  assert.equal(warnings.length, 0)
  await pass(store, 60_000)
  const [first] = (await queue.jobs({ type: 'child', order: 'oldest' })).jobs
  assert.deepEqual(
    warnings.map(({ code, details }) => [code, details]),
    [['WAIT_STARVES', { job: first!.id, type: 'child', worker: 'w' }]],
  )
  assert.match(
    warnings[0]!.message,
    /every slot of worker 'w' \(2\).*no other worker takes such jobs.*higher concurrency/,
  )
  await pass(store, 15 * 60_000)
  const [attempt] = await queue.history(1)
  const says = `timeout of 900000 ms. Its handler waited for the end of job ${first!.id}.`
  assert.ok(attempt!.error!.message.endsWith(says), attempt!.error!.message)
  await end(queue, store)
})

test('a free slot, a queue of its own for the child, or another worker with a free slot: no warning', async () => {
  const free = family()
  await free.parent.submitMany([1, 2])
  free.queue.work({ concurrency: 3 })
  const apart = family('children')
  await apart.parent.submitMany([1, 2])
  apart.queue.work({ concurrency: 2, queues: ['default'] }) // whoever takes 'children' is not here yet
  const both = family()
  await both.parent.submitMany([1, 2])
  both.queue.work({ concurrency: 2 })
  await pass(both.store, 100)
  both.queue.work({ concurrency: 1 })
  for (const { store, warnings, queue } of [free, apart, both]) {
    await pass(store, 120_000)
    assert.equal(warnings.length, 0)
    await end(queue, store)
  }
})

test('a handler that waits for many jobs holds one slot; one that computes may end', async () => {
  const { queue, store } = virtualQueue()
  const warnings: unknown[] = []
  hear(queue, 'warning', (warning) => warnings.push(warning))
  const child = queue.define('child', {}, () => 'done')
  queue.define('many', {}, async () => {
    const { promise: never } = Promise.withResolvers<void>()
    const jobs = await child.submitMany([1, 2, 3], { delay: '1h' })
    await Promise.race([Promise.all(jobs.map(({ id }) => child.wait(id))), never])
  })
  queue.define('busy', {}, async (_job, { signal }) => new Promise((_, no) => signal.addEventListener('abort', no)))
  await queue.submit('many', null)
  await queue.submit('busy', null)
  queue.work({ concurrency: 2 })
  await pass(store, 90_000)
  assert.equal(warnings.length, 0)
  await end(queue, store)
})

test('another worker that takes such jobs may be busy with others: no warning', async () => {
  const { queue, store, warnings, parent } = family()
  await parent.submitMany([1, 2])
  queue.work({ concurrency: 1, name: 'a' })
  queue.work({ concurrency: 1, name: 'b' })
  await pass(store, 90_000)
  assert.equal(warnings.length, 0)
  await end(queue, store)
})

test('an awaited job that runs in one of the slots, and waits itself, is no progress', async () => {
  const { queue, store } = virtualQueue()
  const warnings: Told[] = []
  hear(queue, 'warning', (warning) => warnings.push(warning as Told))
  const last = queue.define('last', () => 'done')
  const middle = queue.define('middle', async () => last.wait((await last.submit(null)).id))
  queue.define('first', async () => middle.wait((await middle.submit(null)).id))
  await queue.submit('first', null)
  queue.work({ concurrency: 2, name: 'w' })
  await pass(store, 5000)
  assert.deepEqual(warnings.map(({ details }) => (details as { type: string }).type), ['last']) // biome-ignore format: short
  await end(queue, store)
})

test('a job that waits for itself is told', async () => {
  const { queue, store } = virtualQueue()
  const warnings: Told[] = []
  hear(queue, 'warning', (warning) => warnings.push(warning as Told))
  queue.define('self', (job) => queue.wait(job.id))
  await queue.submit('self', null)
  queue.work({ concurrency: 1 })
  await pass(store, 5000)
  assert.match(warnings[0]?.message ?? '', /Job 1 of type 'self' .* cannot end/)
  await end(queue, store)
})

test('a wait that ends by itself is none that starves', async () => {
  const { queue, store } = virtualQueue()
  const codes: string[] = []
  hear(queue, 'warning', (warning) => codes.push((warning as Told).code))
  const child = queue.define('child', () => 'done')
  queue.define('parent', async () => child.wait((await child.submit(null)).id, { timeout: '10s' }).catch(() => 'late'))
  await queue.submit('parent', null)
  queue.work({ concurrency: 1 })
  await pass(store, 20_000)
  assert.deepEqual(codes, [])
  await end(queue, store)
})

test('it is told in drain of a test queue', async () => {
  await using queue = testQueue({ concurrency: 1 })
  const codes: string[] = []
  queue.on('warning', (warning) => codes.push((warning as Told).code))
  const child = queue.define('child', () => 'done')
  queue.define('parent', async () => child.wait((await child.submit(null)).id))
  await queue.submit('parent', null)
  await queue.drain()
  assert.deepEqual(codes, ['WAIT_STARVES'])
})

test('a wait outside of handlers, and one for a job of another file, count for nothing', async () => {
  const { queue, store, warnings, parent } = family()
  await using other = await GopherQueue.open(':memory:')
  const { id } = await other.submit('child', null)
  const task = queue.define('elsewhere', {}, async () => other.wait(id))
  const own = await task.submit(null)
  queue.work({ concurrency: 1 })
  const ended = assert.rejects(queue.wait((await parent.submit(null)).id, { timeout: '30s' }), { code: 'WAIT_TIMEOUT' })
  await pass(store, 60_000)
  await ended
  assert.deepEqual([warnings, (await queue.job(own.id))?.state], [[], 'running'])
  await end(queue, store)
})
