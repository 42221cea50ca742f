import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import { GopherQueueError } from '../../src/model/errors.ts'
import type { Input, Operation } from '../../src/store/store.ts'
import { aborted, gate, next, virtualQueue } from './support.ts'

const backoff = { kind: 'constant', delay: '1s' } as const

test('a timeout fires the signal, and the attempt is over although the handler goes on', async () => {
  const { queue, store } = virtualQueue()
  await using _ = queue
  const release = gate()
  let reason: Promise<Error> | undefined
  const task = queue.define('slow', { timeout: '2s', backoff }, async (_job, { signal }) => {
    reason = aborted(signal)
    await release.opened
    return 'too late'
  })
  const { id } = await task.submit(null)
  const started = next(queue, 'started')
  const worker = queue.work({ concurrency: 2 })
  await started
  const retrying = next(queue, 'retrying')
  store.advance(1999)
  assert.equal((await queue.job(id))?.state, 'running')
  store.advance(1)
  const [, error, fate] = await retrying
  assert.equal((await reason)?.name, 'Timeout')
  assert.deepEqual([error.name, fate.state, fate.runAt], ['Timeout', 'scheduled', store.clock.now() + 1000])
  assert.deepEqual([worker.running, worker.overdue], [0, 1])
  const [attempt] = await queue.history(id)
  assert.deepEqual(
    [attempt?.outcome, attempt?.error?.message],
    ['timeout', 'The attempt ran longer than its timeout of 2000 ms.'],
  )
  release.open()
})

test('its retry is not started beside it, nor within a second of its end, while other slots go on', async () => {
  const { queue, store } = virtualQueue()
  await using _ = queue
  const first = gate()
  const attempts: number[] = []
  const slow = queue.define('slow', { timeout: '2s', backoff }, async ({ attempt }) => {
    attempts.push(attempt)
    if (attempt === 1) await first.opened
    return attempt
  })
  const quick = queue.define('quick', {}, () => 'done')
  const { id } = await slow.submit(null)
  const started = next(queue, 'started')
  const worker = queue.work({ concurrency: 2 })
  await started
  const retrying = next(queue, 'retrying')
  store.advance(2000)
  await retrying

  store.advance(1000)
  assert.equal(await quick.wait((await quick.submit(null)).id), 'done') // the other slot
  assert.deepEqual([attempts, worker.overdue], [[1], 1])
  assert.equal((await queue.job(id))?.state, 'ready', 'due, but kept from this process')

  first.open() // what it returns now is not reported
  await setImmediate()
  assert.deepEqual([attempts, worker.overdue], [[1], 0])
  store.advance(1000) // what it left under way may take a moment to end
  assert.equal(await slow.wait(id), 2)
  assert.deepEqual([attempts, worker.overdue], [[1, 2], 0])
})

test('a timeout whose report is refused says nothing of a handler that goes on: only its end does', async () => {
  const { queue, store } = virtualQueue()
  await using _ = queue
  const told: unknown[] = []
  const call = store.call.bind(store)
  store.call = <K extends Operation>(operation: K, input: Input<K>, signal?: AbortSignal) => {
    if (operation === 'fail') return Promise.reject(new GopherQueueError('LEASE_LOST', 'another attempt owns the job'))
    if (operation === 'settled') told.push(input)
    return call(operation, input, signal)
  }
  const [first, ended] = [gate(), gate()]
  queue.define('slow', { timeout: '2s' }, async () => {
    await first.opened
    setImmediate().then(ended.open)
  })
  await queue.submit('slow', null)
  const started = next(queue, 'started')
  queue.work()
  await started
  const refused = next(queue, 'leaseLost')
  store.advance(2000)
  await refused
  store.advance(5000)
  assert.equal(told.length, 0)
  first.open()
  await ended.opened
  store.advance(1000)
  assert.equal(told.length, 1)
})

test('one that never settles holds its slot for 30 s, and is counted for as long as it runs', async () => {
  const { queue, store } = virtualQueue()
  await using _ = queue
  const release = gate()
  const slow = queue.define('slow', { timeout: '2s', backoff }, async ({ attempt }) => {
    if (attempt === 1) await release.opened
    return attempt
  })
  const { id } = await slow.submit(null)
  const started = next(queue, 'started')
  const worker = queue.work({ concurrency: 1 })
  await started
  const retrying = next(queue, 'retrying')
  store.advance(2000)
  await retrying
  store.advance(29_999)
  const { state, attempt } = (await queue.job(id))!
  assert.deepEqual([state, attempt], ['ready', 1])
  store.advance(1)
  assert.equal(await slow.wait(id), 2)
  assert.equal(worker.overdue, 1)
  const settled = gate()
  release.opened.then(settled.open)
  release.open()
  await settled.opened
  await queue.stats()
  assert.equal(worker.overdue, 0)
})

test('onTimeout dead ends the job', async () => {
  const { queue, store } = virtualQueue()
  await using _ = queue
  const task = queue.define('slow', { timeout: '2s', onTimeout: 'dead' }, (_job, { signal }) => aborted(signal))
  const { id } = await task.submit(null)
  const started = next(queue, 'started')
  const worker = queue.work()
  await started
  const dead = next(queue, 'dead')
  store.advance(2000)
  assert.equal((await dead)[2].reason, 'timeout')
  await assert.rejects(task.wait(id), { code: 'JOB_FAILED', message: /ended dead \(timeout\)/ })
  assert.equal(worker.overdue, 0, 'a handler that minds its signal is not overdue')
})

test('a handler that ends in time is not timed out later', async () => {
  const { queue, store } = virtualQueue()
  await using _ = queue
  let signal: AbortSignal | undefined
  const task = queue.define('fast', { timeout: '2s' }, async (_job, context) => {
    signal = context.signal
  })
  const { id } = await task.submit(null)
  queue.work()
  await task.wait(id)
  store.advance(10_000)
  assert.equal(signal?.aborted, false)
  assert.equal((await queue.history(id)).length, 1)
})

test('heartbeat extends the lease, up to the timeout', async () => {
  const { queue, store } = virtualQueue()
  await using _ = queue
  const [beat, end] = [gate(), gate()]
  const task = queue.define('long', { timeout: '70s' }, async (_job, { heartbeat }) => {
    await beat.opened
    await heartbeat()
    queue.emit('warning', 'beaten')
    await end.opened
  })
  const { id } = await task.submit(null)
  const started = next(queue, 'started')
  queue.work()
  await started
  const begin = store.clock.now()
  store.clock.advance(5000)
  const beaten = next(queue, 'warning')
  beat.open()
  await beaten
  assert.equal((await queue.job(id))?.leaseExpiresAt, begin + 35_000)
  end.open()
  await task.wait(id)
})
