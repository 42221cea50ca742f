import assert from 'node:assert/strict'
import { jobSpec } from '../../src/model/job.ts'
import { stranger } from '../support/subject.ts'
import type { Suite } from './contract.ts'

export function limits({ holds }: Suite): void {
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
    await at.store.call('setQueue', { queue: 'q', keepDead: 5 })
    const { queues } = await at.store.call('stats', null)
    assert.deepEqual(
      queues.map(({ queue, paused, maxDepth }) => [queue, paused, maxDepth]),
      [['q', true, 7]],
    )
  })
}
