import assert from 'node:assert/strict'
import { getEventListeners } from 'node:events'
import { nextTick } from 'node:process'
import { test } from 'node:test'
import { GopherQueue, PermanentError } from '../../src/index.ts'
import { SqliteStore } from '../../src/store/sqlite/store.ts'
import { VirtualClock } from '../../src/testing/clock.ts'
import { next, virtualQueue } from './support.ts'

test('wait gives the result, also of a job that ended long ago', async () => {
  await using queue = await GopherQueue.open(':memory:')
  const task = queue.define('add', {}, ({ payload }: { payload: [number, number] }) => payload[0] + payload[1])
  const { id } = await task.submit([1, 2])
  const early = task.wait(id)
  queue.work()
  assert.equal(await early, 3)
  assert.equal(await queue.wait(id), 3)
})

test('a job that failed is JOB_FAILED, with state, reason and last error', async () => {
  await using queue = await GopherQueue.open(':memory:')
  queue.define('t', {}, () => {
    throw new PermanentError('no such address')
  })
  const { id } = await queue.submit('t', null)
  queue.work()
  await assert.rejects(queue.wait(id), (error: { code: string; message: string; details: unknown }) => {
    assert.equal(error.code, 'JOB_FAILED')
    assert.match(error.message, new RegExp(`Job ${id} ended dead \\(permanent\\): no such address`))
    const { state, reason, error: last } = error.details as { state: string; reason: string; error: Error }
    assert.deepEqual(
      [state, reason, last.name, last.message],
      ['dead', 'permanent', 'PermanentError', 'no such address'],
    )
    return true
  })
})

test('a cancelled job, one past its deadline, and one that is removed meanwhile', async () => {
  const { queue, store } = virtualQueue()
  await using _ = queue
  const [one, two] = await queue.submitMany('t', [1, 2])
  const cancelled = assert.rejects(queue.wait(one!.id), {
    code: 'JOB_FAILED',
    details: { state: 'cancelled', reason: null, error: null },
  })
  assert.deepEqual(await queue.cancel(one!.id), { state: 'cancelled', runAt: null, reason: null })
  await cancelled
  await queue.cancel(two!.id)
  await queue.remove(two!.id)
  await assert.rejects(queue.wait(two!.id), { code: 'NOT_FOUND' })

  queue.define('other', {}, () => null)
  const { id } = await queue.submit('t', 3, { deadline: '1s' })
  queue.work() // a process that works also lets time take effect
  const expired = assert.rejects(queue.wait(id), { code: 'JOB_FAILED', message: /dead \(expired\)/ })
  await queue.stats()
  store.advance(1000)
  await expired
})

test('a failure without words is told by its name, one with a full stop by one, and an expired one as the last attempt', async () => {
  const { queue } = virtualQueue()
  await using _ = queue
  const say = async (error: Error) => {
    const type = `${error.name} ${error.message}`
    queue.define(type, { maxAttempts: 1 }, () => {
      throw error
    })
    const { id } = await queue.submit(type, null)
    const worker = queue.work()
    const { message } = await queue.wait(id).then(
      () => assert.fail(),
      (failed: Error) => failed,
    )
    await worker.stop()
    return message
  }
  assert.match(await say(new AggregateError([], '')), /\(exhausted\): AggregateError\. An operator/)
  assert.match(await say(new Error('It is over.')), /\(exhausted\): It is over\. An operator/)
})

test('wait tells the last error of an expired job as such', async () => {
  const { queue, store } = virtualQueue()
  await using _ = queue
  queue.define('t', { backoff: { kind: 'constant', delay: '1h' } }, () => {
    throw new Error('429')
  })
  const retrying = next(queue, 'retrying')
  const { id } = await queue.submit('t', null, { deadline: '1m' })
  queue.work()
  await retrying
  assert.match(await queue.why(id), /no attempt starts from its deadline, .*, on: it ends dead \(expired\)\.$/)
  const told = assert.rejects(queue.wait(id), { message: /dead \(expired\); its last attempt: 429\. An operator/ })
  await queue.stats()
  store.advance(60_000)
  await told
  assert.match(await queue.why(id), /its deadline passed before attempt 2 started;/)
})

test('wait gives up after its timeout, and the job goes on', async () => {
  const { queue, store } = virtualQueue()
  await using _ = queue
  const { id } = await queue.submit('t', null)
  const late = assert.rejects(queue.wait(id, { timeout: '10s' }), { code: 'WAIT_TIMEOUT', accepted: 'yes' })
  store.advance(10_000)
  await late
  assert.equal((await queue.job(id))?.state, 'ready')
  await assert.rejects(queue.wait(id, { timeout: 'soon' as '1s' }), { code: 'INVALID_ARGUMENT' })
})

test('a wait whose time is over looks once more, for a second at most', async () => {
  await using store = await SqliteStore.open(':memory:')
  const clock = new VirtualClock()
  await using queue = new GopherQueue(store, clock)
  const { id } = await queue.submit('t', null)
  const unknown = assert.rejects(queue.wait(id, { timeout: '1s' }), { code: 'WAIT_TIMEOUT', message: /is not known/ })
  for (let seconds = 0; seconds < 2; seconds++) {
    clock.advance(1000)
    await new Promise<void>(nextTick) // before any answer of the storage thread is heard
  }
  await unknown
})

test('wait gives up when its signal fires, with its reason; one that fired before is not waited for', async () => {
  await using queue = await GopherQueue.open(':memory:')
  const { id } = await queue.submit('t', null)
  const patience = new AbortController()
  const reason = new Error('the user left')
  const given = assert.rejects(queue.wait(id, { signal: patience.signal }), reason)
  patience.abort(reason)
  await given
  await assert.rejects(queue.wait(id, { signal: patience.signal }), reason)
})

test('a signal that outlives many waits gathers no listeners', async () => {
  await using queue = await GopherQueue.open(':memory:')
  const { signal } = new AbortController()
  const task = queue.define('t', {}, () => 1)
  queue.work()
  for (let i = 0; i < 20; i++) await task.wait((await task.submit(null)).id, { signal })
  assert.equal(getEventListeners(signal, 'abort').length, 0)
})
