import assert from 'node:assert/strict'
import { jobSpec } from '../../src/model/job.ts'
import { stranger } from '../support/subject.ts'
import type { Suite } from './contract.ts'

export function limits({ holds, holdsOverTime }: Suite): void {
  holds(
    'a full queue refuses, and takes again when there is room: waiting jobs count, running and ended ones do not',
    async (at) => {
      await at.store.call('setQueue', { queue: 'default', maxDepth: 2 })
      await at.submit()
      await at.submit({ delay: '1h' })
      await at.refused('QUEUE_FULL', () => at.submit())
      const [job] = await at.lease(stranger)
      await at.submit()
      await at.refused('QUEUE_FULL', () => at.submit())
      await at.succeed(job!)
      await at.refused('QUEUE_FULL', () => at.submit({ delay: 5 }))
    },
  )

  holds('a lease ends at 4 MiB, and so does a page, in their order, and what is left comes next', async (at) => {
    const text = 'x'.repeat(1_000_000)
    const { ids } = await at.submitMany({}, Array.from({ length: 10 }, () => text)) // biome-ignore format: short
    const page = await at.store.call('jobs', { order: 'oldest' })
    const rest = await at.store.call('jobs', { order: 'oldest', cursor: page.next, limit: 4 })
    assert.deepEqual([page.jobs.length, page.next, rest.next], [4, ids[3], ids[7]])
    assert.deepEqual([...page.jobs, ...rest.jobs].map(({ id }) => id), ids.slice(0, 8)) // biome-ignore format: short
    const first = await at.lease(stranger)
    assert.deepEqual(first.map(({ id }) => id), ids.slice(0, 4)) // biome-ignore format: short
    for (const job of first) await at.succeed(job, text)
    assert.deepEqual((await at.lease(stranger)).map(({ id }) => id), ids.slice(4, 8)) // biome-ignore format: short
    const ended = await at.store.call('jobs', { state: 'succeeded' })
    assert.deepEqual([ended.jobs.length, ended.next], [2, ids[2]])
  })

  holds('a bulk is all or nothing', async (at) => {
    await at.store.call('setQueue', { queue: 'default', maxDepth: 3 })
    await at.refused('QUEUE_FULL', () => at.submitMany({}, [1, 2, 3, 4]))
    await at.refused('QUEUE_FULL', () => at.submitMany({}, [1, 2, 3, 4], ['a', null, null, 'b']))
    const { ids } = await at.submitMany({}, [1, 2, 3])
    assert.equal(ids.length, 3)
    await at.refused('QUEUE_FULL', () => at.submitMany({}, [1]))
  })

  holds('a limit holds for its own queue alone, can be raised and taken away', async (at) => {
    await at.store.call('setQueue', { queue: 'default', maxDepth: 1 })
    await at.submit()
    await at.submit({ queue: 'other' })
    await at.refused('QUEUE_FULL', () => at.submit())
    await at.store.call('setQueue', { queue: 'default', maxDepth: 2 })
    await at.submit()
    await at.refused('QUEUE_FULL', () => at.submit())
    await at.store.call('setQueue', { queue: 'default', maxDepth: null })
    await at.submitMany({}, Array(100).fill(0))
  })

  holds('what is in the queue already is never refused: retries come back above the limit', async (at) => {
    const job = await at.running()
    await at.store.call('setQueue', { queue: 'default', maxDepth: 1 })
    await at.submit()
    assert.equal((await at.fail(job, 'temporary', 60_000)).state, 'scheduled')
    await at.refused('QUEUE_FULL', () => at.submit())
  })

  holds('a bulk with one spec for each job keeps each to its own queue', async (at) => {
    const specs = ['a', 'b', 'a'].map((queue) => jobSpec('work', { queue }))
    const bulk = { specs, payloads: ['1', '2', '3'], keys: null }
    await at.store.call('setQueue', { queue: 'a', maxDepth: 1 })
    await at.refused('QUEUE_FULL', () => at.store.call('submit', bulk))
    await at.store.call('setQueue', { queue: 'a', maxDepth: 2 })
    await at.store.call('submit', bulk)
    assert.deepEqual(
      (await at.all()).map(({ queue, payload }) => [queue, payload]),
      [
        ['a', 1],
        ['b', 2],
        ['a', 3],
      ],
    )
  })

  holds('an empty bulk is stored at once', async (at) => {
    assert.deepEqual(await at.submitMany({}, []), { ids: [], duplicates: [] })
  })

  holds('settings not named stay as they are', async (at) => {
    await at.store.call('setQueue', { queue: 'q', paused: true, maxDepth: 7 })
    await at.store.call('setQueue', { queue: 'q', maxRunning: 3, maxRunningPerKey: 2 })
    await at.store.call('setQueue', { queue: 'q', keepDead: 5 })
    const { queues } = await at.store.call('stats', null)
    assert.deepEqual(
      queues.map(({ queue, paused, maxDepth, maxRunning, maxRunningPerKey }) => [
        ...[queue, paused, maxDepth, maxRunning, maxRunningPerKey],
      ]),
      [['q', true, 7, 3, 2]],
    )
  })

  const ids = (jobs: { id: number }[] | undefined) => jobs?.map(({ id }) => id)

  holds(
    'a queue runs at most maxRunning jobs, over all workers and types; the next one waits for a place',
    async (at) => {
      await at.store.call('setQueue', { queue: 'default', maxRunning: 3 })
      await at.submitMany({}, [1, 2, 3, 4])
      await at.submit({ type: 'other', priority: 'high' })
      await at.submit({ queue: 'free' })
      const types = ['work', 'other']
      const first = await at.lease(stranger, { types, queues: ['default', 'free'] })
      assert.deepEqual(ids(first), [5, 1, 2, 6])
      const worker = await at.worker()
      const waiting = at.ask(worker)
      await at.settle()
      assert.equal(waiting.jobs, undefined)
      assert.match(await at.store.call('why', 3), /queue 'default' runs 3 jobs and may run 3 at once/)
      await at.fail(first[0]!)
      await at.settle()
      assert.deepEqual(ids(waiting.jobs), [3])
      const raised = at.ask(worker)
      await at.settle()
      assert.equal(raised.jobs, undefined)
      await at.store.call('setQueue', { queue: 'default', maxRunning: null })
      await at.settle()
      assert.deepEqual(ids(raised.jobs), [4])
    },
  )

  holds('of one concurrency key one job runs at once, in order, and those that wait hold nobody up', async (at) => {
    const worker = await at.worker()
    for (const concurrencyKey of ['a', 'a', 'a', 'b']) await at.submit({ concurrencyKey })
    const first = await at.lease(worker)
    assert.deepEqual(ids(first), [1, 4])
    assert.match(await at.store.call('why', 2), /waits for others with its concurrency key 'a'.* at most 1 of a key/)
    const urgent = await at.submit({ concurrencyKey: 'a', priority: 'critical' })
    const waiting = at.ask(worker)
    await at.settle()
    assert.equal(waiting.jobs, undefined)
    await at.succeed(first[1]!) // of the other key
    await at.settle()
    assert.equal(waiting.jobs, undefined)
    await at.succeed(first[0]!)
    await at.settle()
    assert.deepEqual(ids(waiting.jobs), [urgent], 'the most urgent of the key')
    assert.equal((await at.job(urgent)).concurrencyKey, 'a')
  })

  holds('a more urgent job takes the place of one of its key that has not started', async (at) => {
    for (const priority of ['normal', 'low', 'high'] as const) await at.submit({ concurrencyKey: 'a', priority })
    const [urgent, ...others] = await at.lease(stranger)
    assert.deepEqual([urgent!.id, others], [3, []])
    await at.succeed(urgent!)
    assert.deepEqual(ids(await at.lease(stranger)), [1])
  })

  holds(
    'a place in a key is free again when its job fails, is given back, or is cancelled while it waits',
    async (at) => {
      for (let i = 0; i < 4; i++) await at.submit({ concurrencyKey: 'a' })
      const [one] = await at.lease(stranger)
      assert.equal((await at.fail(one!)).state, 'scheduled')
      const [two] = await at.lease(stranger)
      await at.store.call('release', two!)
      const [again] = await at.lease(stranger)
      assert.equal(again!.id, two!.id)
      await at.fail(again!, 'permanent')
      await at.store.call('cancel', 3)
      assert.deepEqual(ids(await at.lease(stranger)), [4])
    },
  )

  holds(
    'maxRunningPerKey holds at once for all keys of its queue, up and down; types have keys of their own',
    async (at) => {
      const jobs = Array(4).fill(0)
      await at.submitMany({ concurrencyKey: 'a' }, jobs)
      await at.submitMany({ concurrencyKey: 'b' }, jobs)
      await at.submit({ concurrencyKey: 'a', type: 'other' })
      await at.store.call('setQueue', { queue: 'default', maxRunningPerKey: 3 })
      await at.store.call('setQueue', { queue: 'default', maxRunningPerKey: 2 })
      const leased = await at.lease(stranger, { types: ['work', 'other'] })
      assert.deepEqual(ids(leased), [1, 2, 5, 6, 9])
      await at.store.call('setQueue', { queue: 'default', maxRunningPerKey: 1 })
      await at.succeed(leased[0]!)
      assert.deepEqual(await at.lease(stranger), [], 'one of it still runs')
      await at.succeed(leased[1]!)
      assert.deepEqual(ids(await at.lease(stranger)), [3])
    },
  )

  holds(
    'a limit per key that falls between two outcomes: what gave way to it has the place that is free then',
    async (at) => {
      await at.store.call('setQueue', { queue: 'default', maxRunningPerKey: 2 })
      await at.submit()
      await at.submitMany({ concurrencyKey: 'a' }, [1, 2])
      const [keyless, first] = await at.lease(stranger, { slots: 2 })
      await Promise.all([
        at.succeed(keyless!),
        at.store.call('setQueue', { queue: 'default', maxRunningPerKey: 1 }),
        at.succeed(first!),
      ])
      assert.deepEqual(ids(await at.lease(stranger)), [3])
    },
  )

  holdsOverTime('a retry that is due takes its old place in its key', async (at) => {
    for (let i = 0; i < 3; i++) await at.submit({ concurrencyKey: 'a' })
    const [one] = await at.lease(stranger)
    await at.fail(one!, 'temporary', 5000)
    const [two] = await at.lease(stranger)
    assert.equal(two!.id, 2, 'a job that waits for its retry holds no place')
    at.advance(5000)
    assert.deepEqual(await at.lease(stranger), [])
    await at.succeed(two!)
    assert.deepEqual(ids(await at.lease(stranger)), [1])
  })
}
