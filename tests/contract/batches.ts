import assert from 'node:assert/strict'
import { jobSpec } from '../../src/model/job.ts'
import { stranger } from '../support/subject.ts'
import type { Suite } from './contract.ts'

/** All calls of one turn share a transaction: what one of them does or fails to do must not be felt by the others. */
export function batches({ holds }: Suite): void {
  holds('one that fails, fails alone', async (at) => {
    const stale = await at.running()
    await at.store.call('release', stale)
    const [job] = await at.lease(stranger)
    const results = await Promise.allSettled([
      at.submit(),
      at.succeed(stale),
      at.succeed(job!),
      at.store.call('cancel', 42),
      at.submit({ queue: 'new' }),
    ])
    assert.deepEqual(
      results.map((result) => (result.status === 'rejected' ? result.reason.code : 'done')),
      ['done', 'LEASE_LOST', 'done', 'NOT_FOUND', 'done'],
    )
    const counts = await at.counts()
    assert.deepEqual([counts.default!.ready, counts.default!.succeeded, counts.new!.ready], [1, 1, 1])
  })

  holds(
    'what a refused bulk had counted is counted back, at once: the depth stays exact within the batch',
    async (at) => {
      await at.store.call('setQueue', { queue: 'default', maxDepth: 3 })
      const results = await Promise.allSettled([
        at.submitMany({}, [1, 2, 3, 4], ['a', 'b', 'c', 'd']),
        at.submitMany({}, [1, 2], ['a', null]),
        at.submitMany({}, [1, 2], ['e', 'f']),
        at.submit(),
        at.submit(),
      ])
      assert.deepEqual(
        results.map((result) => (result.status === 'rejected' ? result.reason.code : 'done')),
        ['QUEUE_FULL', 'done', 'QUEUE_FULL', 'done', 'QUEUE_FULL'],
      )
      assert.equal((await at.counts()).default!.ready, 3)
    },
  )

  holds('a queue first named by a refused bulk is counted right by those after it', async (at) => {
    await at.submit({ queue: 'q', idempotencyKey: 'k' }, 1)
    const results = await Promise.allSettled([
      at.submitMany({ queue: 'fresh' }, [1, 2], ['a', 'a']),
      at.submit({ queue: 'fresh' }),
      at.submitMany({ queue: 'q' }, [1, 2], [null, 'k']),
      at.submitMany({ queue: 'fresh' }, [1, 2], ['a', 'b']),
      at.submitMany({ queue: 'fresh' }, [5, 6], ['c', 'a']),
      at.submit({ queue: 'q' }),
    ])
    assert.deepEqual(
      results.map(({ status }) => status[0]),
      ['r', 'f', 'r', 'f', 'r', 'f'],
    )
    const { fresh, q } = await at.counts()
    assert.deepEqual([fresh!.ready, q!.ready], [3, 2])
  })

  holds('settings made in the batch hold for what follows in it, also past a refusal', async (at) => {
    const results = await Promise.allSettled([
      at.store.call('setQueue', { queue: 'q', maxDepth: 1 }),
      at.submitMany({ queue: 'q' }, [1, 2], ['a', 'b']),
      at.submit({ queue: 'q' }),
      at.submit({ queue: 'q' }),
    ])
    assert.deepEqual(
      results.map(({ status }) => status[0]),
      ['f', 'r', 'f', 'r'],
    )
    await at.counts()
  })

  holds('a payload that is no JSON fails alone and is not counted', async (at) => {
    const results = await Promise.allSettled([
      at.submit(),
      at.store.call('submit', { specs: jobSpec('work', {}), payloads: ['{'], keys: null }),
      at.submitMany({}, [1, 2]),
    ])
    assert.deepEqual(
      results.map(({ status }) => status[0]),
      ['f', 'r', 'f'],
    )
    assert.equal((await at.counts()).default!.ready, 3)
  })

  holds('an outcome and the next lease travel together: the slot is free at once', async (at) => {
    const job = await at.running()
    const next = await at.submit()
    assert.deepEqual(await at.lease(stranger, { slots: 1 }), [])
    const worker = await at.strange(stranger)
    const request = at.request(worker, { slots: 1 })
    const [, leased] = await Promise.all([at.succeed(job), at.store.call('lease', request)])
    assert.deepEqual(
      leased.map(({ id }) => id),
      [next],
    )
  })

  holds(
    'a job can be submitted, leased and ended within few turns by many at once, and each is counted once',
    async (at) => {
      const lines = Array.from({ length: 20 }, (_, worker) => worker)
      const ids = await Promise.all(lines.map(() => at.worker()))
      await Promise.all(
        lines.map(async (worker) => {
          for (let i = 0; i < 5; i++) {
            await at.submit()
            const [job] = await at.store.call('lease', at.request(ids[worker]!, { slots: 1 }))
            await (i % 2 ? at.succeed(job!) : at.fail(job!, 'permanent'))
          }
        }),
      )
      const { ready, running, succeeded, dead } = (await at.counts()).default!
      assert.deepEqual({ ready, running, succeeded, dead }, { ready: 0, running: 0, succeeded: 40, dead: 60 })
    },
  )
}
