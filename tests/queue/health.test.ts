import assert from 'node:assert/strict'
import { test } from 'node:test'
import { GopherQueue } from '../../src/index.ts'
import { gate, next, virtualQueue } from './support.ts'

test('all is well: ok, no causes', async () => {
  await using queue = await GopherQueue.open(':memory:')
  assert.deepEqual(await queue.health(), {
    status: 'ok',
    causes: [],
    works: { submit: true, lease: true, complete: true },
  })
})

test('jobs that no live worker handles degrade health, until one does', async () => {
  const { queue, store } = virtualQueue()
  await using _ = queue
  await queue.submit('email', null, { queue: 'mail' })
  await queue.submit('email', null, { queue: 'mail' })
  const { status, causes } = await queue.health()
  assert.equal(status, 'degraded')
  assert.deepEqual(causes, [
    {
      code: 'NO_WORKER',
      message: "Jobs of type 'email' wait in queue 'mail' and no live worker handles them: start one.",
      since: store.clock.now(),
    },
  ])
  queue.define('email', { queue: 'mail' }, () => null)
  queue.work()
  await queue.wait(2)
  assert.equal((await queue.health()).status, 'ok')
})

test('handlers that go on after their attempt degrade health, until they settle', async () => {
  const { queue, store } = virtualQueue()
  await using _ = queue
  const [release, settled] = [gate(), gate()]
  queue.define('deaf', { timeout: '1s', onTimeout: 'dead' }, async () => {
    await release.opened
    queueMicrotask(settled.open)
  })
  await queue.submitMany('deaf', [1, 2])
  const second = gate()
  queue.on('started', ({ id }) => id === 2 && second.open())
  queue.work()
  await second.opened
  assert.equal((await queue.health()).status, 'ok')
  const dead = next(queue, 'dead')
  store.advance(1000)
  await dead
  const { status, causes } = await queue.health()
  assert.equal(status, 'degraded')
  assert.deepEqual(
    causes.map(({ code, message }) => [code, message]),
    [['OVERDUE_HANDLERS', '2 handler(s) still run although their attempt is over: they ignore their signal.']],
  )
  release.open()
  await settled.opened
  assert.deepEqual((await queue.health()).causes, [])
})

test('a closed queue says so', async () => {
  const queue = await GopherQueue.open(':memory:')
  await queue.close()
  const { status, causes } = await queue.health()
  assert.deepEqual([status, causes[0]?.code], ['degraded', 'CLOSED'])
})
