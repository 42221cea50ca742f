import assert from 'node:assert/strict'
import { test } from 'node:test'
import { GopherQueue, type GopherQueueError } from '../../src/index.ts'
import { connect } from '../../src/store/sqlite/connection.ts'
import { Db } from '../../src/store/sqlite/db.ts'
import { close, seal } from '../../src/store/sqlite/seal.ts'
import { VirtualClock } from '../../src/testing/clock.ts'
import { EngineStore } from '../../src/testing/store.ts'
import { temporaryFolder } from '../support/folder.ts'
import { aborted, gate, next } from './support.ts'

test('concurrency is never exceeded, and is used', async () => {
  await using queue = await GopherQueue.open(':memory:')
  let [running, most] = [0, 0]
  const task = queue.define<number>('t', {}, async () => {
    most = Math.max(most, ++running)
    await new Promise(setImmediate)
    running--
  })
  const worker = queue.work({ concurrency: 3, name: 'three' })
  const jobs = await task.submitMany(Array.from({ length: 200 }, (_, i) => i))
  await Promise.all(jobs.map(({ id }) => task.wait(id)))
  assert.deepEqual([most, worker.running, worker.name, worker.concurrency], [3, 0, 'three', 3])
})

test('a critical job is next, though a thousand others were there before', async () => {
  await using queue = await GopherQueue.open(':memory:')
  const order: string[] = []
  const [first, all] = [gate(), gate()]
  const task = queue.define<string>('t', {}, async ({ payload }) => {
    order.push(payload)
    if (order.length === 1) await first.opened
    if (order.length === 5) all.open()
  })
  await task.submitMany(Array(1000).fill('normal'))
  const started = next(queue, 'started')
  queue.work({ concurrency: 1 })
  await started
  await task.submitMany(['low'], { priority: 'low' })
  await task.submitMany(['critical', 'high'], (payload) => ({ priority: payload as 'critical' | 'high' }))
  first.open()
  await all.opened
  assert.deepEqual(order.slice(0, 5), ['normal', 'critical', 'high', 'normal', 'normal'])
  await queue.close({ drain: false })
})

test('a worker takes jobs of the queues it names, or of those that its definitions name', async () => {
  await using queue = await GopherQueue.open(':memory:')
  queue.define('t', { queue: 'mail' }, ({ queue }) => queue)
  assert.deepEqual(queue.work().sources, [{ queue: 'mail', type: 't' }])
  const { id } = await queue.submit('t', null, { queue: 'other' })
  await queue.wait((await queue.submit('t', null)).id)
  assert.equal((await queue.job(id))?.state, 'ready')
  queue.work({ queues: ['other'] })
  assert.equal(await queue.wait(id), 'other')
})

test('a paused queue gives nothing out until it is resumed', async () => {
  await using queue = await GopherQueue.open(':memory:')
  const task = queue.define('t', {}, () => 'ran')
  await queue.pause()
  queue.work()
  const { id } = await task.submit(null)
  await queue.stats()
  assert.match(await queue.why(id), /paused/)
  await queue.resume()
  assert.equal(await task.wait(id), 'ran')
})

test('cancel fires the signal of a running job; it ends cancelled whatever it throws', async () => {
  await using queue = await GopherQueue.open(':memory:')
  const task = queue.define('t', {}, async (_job, { signal }) => {
    throw await aborted(signal)
  })
  const { id } = await task.submit(null)
  const started = next(queue, 'started')
  queue.work()
  await started
  const cancelled = next(queue, 'cancelled')
  assert.deepEqual(await queue.cancel(id), { state: 'running', runAt: null, reason: null })
  const [job, error, fate] = await cancelled
  assert.deepEqual([job.id, error.name, fate.state], [id, 'AbortError', 'cancelled'])
  const [attempt] = await queue.history(id)
  assert.deepEqual([attempt?.outcome, attempt?.error?.message], ['cancelled', `Job ${id} was cancelled.`])
  await assert.rejects(queue.cancel(id), { code: 'INVALID_STATE', details: { state: 'cancelled' } })
})

test('a job that succeeds although it was cancelled has succeeded', async () => {
  await using queue = await GopherQueue.open(':memory:')
  const task = queue.define('t', {}, async (_job, { signal }) => {
    await aborted(signal)
    return 'finished all the same'
  })
  const { id } = await task.submit(null)
  const started = next(queue, 'started')
  queue.work()
  await started
  await queue.cancel(id)
  assert.equal(await task.wait(id), 'finished all the same')
})

test('a cancelled job runs again only when an operator says so, with a fresh budget', async () => {
  await using queue = await GopherQueue.open(':memory:')
  const task = queue.define('t', { maxAttempts: 1 }, ({ attempt, attemptsLeft }) => [attempt, attemptsLeft])
  const { id } = await task.submit(null)
  await queue.cancel(id)
  assert.deepEqual(await queue.retry(id), { state: 'ready', runAt: null, reason: null })
  queue.work()
  assert.deepEqual(await task.wait(id), [1, 0])
  await assert.rejects(queue.retry(id), { code: 'INVALID_STATE' })
  await queue.remove(id)
  assert.equal(await queue.job(id), null)
})

test('the handler is told all that it may want to know of its job', async () => {
  await using queue = await GopherQueue.open(':memory:')
  const task = queue.define('t', { queue: 'q', maxAttempts: 4, priority: 'high' }, (job) => job)
  const { id } = await task.submit({ n: 1 }, { deadline: '1h' })
  queue.work()
  const { createdAt, startedAt, deadline, ...rest } = await task.wait(id)
  assert.deepEqual(rest, {
    ...{ id, type: 't', queue: 'q', priority: 'high', payload: { n: 1 } },
    ...{ attempt: 1, maxAttempts: 4, attemptsLeft: 3, checkpoint: null, tick: null },
  })
  assert.ok(createdAt <= startedAt)
  assert.equal(deadline, createdAt + 3_600_000)
})

test('a registration whose COMMIT took place although it failed signs on no second worker', async () => {
  using folder = temporaryFolder()
  const [path, clock] = [folder.file('jobs.db'), new VirtualClock()]
  let fails = false
  class Late extends Db {
    override commit(): void {
      super.commit()
      if (!fails) return
      fails = false
      this.committing = true
      throw Object.assign(new Error('disk I/O error'), { errcode: 1034, errstr: 'disk I/O error' })
    }
  }
  const store = new EngineStore(path, clock, () => connect(path, clock, () => new Late(path, clock)))
  await using queue = new GopherQueue(store, clock)
  queue.define('t', {}, () => null)
  fails = true
  const warned = next(queue, 'warning')
  const worker = queue.work()
  const [warning] = await warned
  assert.deepEqual(
    [(warning as GopherQueueError).code, (warning as GopherQueueError).accepted],
    ['STORAGE_UNAVAILABLE', 'unknown'],
  )
  assert.match(
    (warning as GopherQueueError).message,
    /^Worker '.+' could not sign on: .* by itself\. .*disk I\/O error/,
  )
  for (let i = 0; i < 20; i++) store.advance(100)
  const { id } = await queue.submit('t', 1)
  await queue.wait(id)
  assert.equal((await queue.stats()).workers.length, 1)
  await worker.stop()
  assert.deepEqual((await queue.stats()).workers, [])
})

test('a worker on a file that was moved says so once, and then each minute how often', async () => {
  using folder = temporaryFolder()
  const [path, clock] = [folder.file('jobs.db'), new VirtualClock()]
  const store = new EngineStore(path, clock)
  await using queue = new GopherQueue(store, clock)
  queue.define('t', {}, () => null)
  const warnings: GopherQueueError[] = []
  queue.on('warning', (warning) => warnings.push(warning as GopherQueueError))
  const mover = connect(path, clock)
  close(mover, seal(mover, 'postgres://app@db.example/app', 'me'))
  mover.connection.close()
  const worker = queue.work()
  for (let s = 0; s < 130; s++) {
    for (let i = 0; i < 5; i++) await new Promise(setImmediate)
    store.advance(1000)
  }
  assert.deepEqual(
    warnings.map(({ code, message }) => [code, /(\d+) times by now/.exec(message)?.[1]]),
    [['MOVED', undefined], ['MOVED', '61'], ['MOVED', '121']], // biome-ignore format: short
  )
  await worker.stop()
})
