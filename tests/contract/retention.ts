import assert from 'node:assert/strict'
import { stranger } from '../support/subject.ts'
import type { Suite } from './contract.ts'

const day = 86_400_000

export function retention({ holds, holdsOverTime }: Suite): void {
  holdsOverTime('succeeded jobs stay a day, cancelled a week, dead for ever', async (at) => {
    await at.worker()
    const succeeded = await at.running()
    await at.succeed(succeeded)
    const dead = await at.running()
    await at.fail(dead, 'permanent')
    const cancelled = await at.submit()
    await at.store.call('cancel', cancelled)
    const there = async () => (await at.all()).map(({ id }) => id)
    at.advance(day - 1)
    assert.deepEqual(await there(), [succeeded.id, dead.id, cancelled])
    at.advance(250)
    assert.deepEqual(await there(), [dead.id, cancelled])
    at.advance(6 * day)
    assert.deepEqual(await there(), [dead.id])
    at.advance(3650 * day)
    assert.deepEqual(await there(), [dead.id])
    assert.equal((await at.counts()).default!.succeeded, 0)
  })

  holdsOverTime('each queue has its own times; null keeps for ever', async (at) => {
    await at.worker()
    await at.store.call('setQueue', { queue: 'short', keepSucceeded: 1000, keepDead: 2000, keepCancelled: 3000 })
    await at.store.call('setQueue', { queue: 'long', keepSucceeded: null, keepCancelled: null })
    for (const queue of ['short', 'long']) {
      await at.succeed(await at.running({ queue }))
      await at.fail(await at.running({ queue }), 'permanent')
      await at.store.call('cancel', await at.submit({ queue }))
    }
    const left = async (queue: string) => (await at.store.call('jobs', { queue })).jobs.length
    for (const expected of [2, 1, 0]) {
      at.advance(1000)
      assert.equal(await left('short'), expected)
    }
    at.advance(365 * day)
    assert.equal(await left('long'), 3)
  })

  holdsOverTime('a time set in the same batch as the outcome holds for it', async (at) => {
    await at.worker()
    const jobs = [await at.running(), await at.running()]
    await Promise.all([
      at.succeed(jobs[0]!),
      at.store.call('setQueue', { queue: 'default', keepSucceeded: 1000 }),
      at.succeed(jobs[1]!),
    ])
    at.advance(1250)
    assert.deepEqual([await at.state(jobs[0]!.id), await at.state(jobs[1]!.id)], ['succeeded', 'gone'])
  })

  holdsOverTime('a retried job is kept: what would have pruned it is forgotten', async (at) => {
    await at.worker()
    await at.store.call('setQueue', { queue: 'default', keepDead: 1000 })
    const job = await at.running()
    await at.fail(job, 'permanent')
    await at.store.call('retry', job.id)
    at.advance(day)
    assert.equal(await at.state(job.id), 'ready')
  })

  holdsOverTime('a backlog of prunable jobs goes in small steps, and goes whole', async (at) => {
    await at.worker()
    await at.store.call('setQueue', { queue: 'default', keepCancelled: 1000 })
    const { ids } = await at.submitMany({}, Array(2500).fill(0))
    await Promise.all(ids.map((id) => at.store.call('cancel', id)))
    const left = async () => (await at.store.call('stats', null)).queues[0]!.counts.cancelled
    at.advance(1250)
    assert.ok((await left()) > 0, 'one step is small')
    at.advance(20) // the next one does not wait for the usual look
    assert.ok((await left()) < 1500, 'and the next one follows soon')
    for (let i = 0; i < 4; i++) at.advance(250)
    assert.equal(await left(), 0)
  })

  holdsOverTime('while others submit, retention goes on between its own looks', async (at) => {
    await at.worker()
    await at.store.call('setQueue', { queue: 'default', keepCancelled: 1000 })
    const { ids } = await at.submitMany({}, Array(2500).fill(0))
    await Promise.all(ids.map((id) => at.store.call('cancel', id)))
    const left = async () => (await at.store.call('stats', null)).queues[0]!.counts.cancelled
    at.advance(1250)
    const before = await left()
    at.time.clock.advance(20)
    await at.submit() // no tick
    assert.ok((await left()) < before)
  })

  holds('history goes with its job', async (at) => {
    const job = await at.running()
    await at.fail(job, 'permanent')
    assert.equal((await at.store.call('attempts', job.id)).length, 1)
    await at.store.call('remove', job.id)
    assert.deepEqual(await at.store.call('attempts', job.id), [])
  })

  holds('ids are never reused, also when the youngest jobs are removed', async (at) => {
    const first = await at.submit()
    const second = await at.submit()
    for (const id of [first, second]) {
      await at.store.call('cancel', id)
      await at.store.call('remove', id)
    }
    assert.ok((await at.submit()) > second)
  })

  holdsOverTime('ids are never reused, also when all is pruned', async (at) => {
    await at.worker()
    const job = await at.running()
    await at.succeed(job)
    at.advance(2 * day)
    assert.deepEqual(await at.all(), [])
    const next = await at.submit()
    assert.ok(next > job.id)
    assert.deepEqual(
      (await at.lease(stranger)).map(({ id }) => id),
      [next],
    )
  })
}
