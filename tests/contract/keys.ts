import assert from 'node:assert/strict'
import { type JobOptions, jobSpec } from '../../src/model/job.ts'
import type { LeasedJob } from '../../src/store/store.ts'
import { type Options, stranger } from '../support/subject.ts'
import type { Suite } from './contract.ts'

const day = 86_400_000

export function keys({ holds, holdsOverTime }: Suite): void {
  holds('a second submission with the key answers with the first job, in whatever state it is', async (at) => {
    const first = await at.submitMany({ idempotencyKey: 'k' }, [1])
    const again = () => at.submitMany({ idempotencyKey: 'k' }, [1])
    const { ids: _, duplicates } = first // a store behind a server says of each answer whether it is a replay
    assert.deepEqual(duplicates, [])
    const [job] = await at.lease(stranger)
    assert.deepEqual(await again(), { ids: first.ids, duplicates: [0], states: ['running'] })
    await at.succeed(job!)
    assert.deepEqual(await again(), { ids: first.ids, duplicates: [0], states: ['succeeded'] })
    assert.equal((await at.all()).length, 1)
    assert.equal((await at.job(first.ids[0]!)).idempotencyKey, 'k')
  })

  holds('a unique key has one job that waits or runs; however that ends, the key is free', async (at) => {
    const submit = (payload: unknown = 1, options: Options = {}) =>
      at.submitMany({ uniqueKey: 'k', ...options }, [payload])
    const ends: ((job: LeasedJob) => Promise<unknown>)[] = [
      (job) => at.succeed(job),
      (job) => at.fail(job, 'permanent'),
      async (job) => {
        await at.store.call('cancel', job.id)
        await at.store.call('release', job)
      },
    ]
    for (const end of ends) {
      const { ids, duplicates } = await submit()
      assert.deepEqual(duplicates, [])
      assert.deepEqual(await submit({ other: 'payload' }), { ids, duplicates: [0], states: ['ready'] })
      const [job] = await at.lease(stranger)
      assert.deepEqual(await submit(), { ids, duplicates: [0], states: ['running'] })
      await at.fail(job!, 'temporary', 0)
      const [again] = await at.lease(stranger)
      assert.equal(again?.id, ids[0])
      await end(again!)
    }
    const { ids } = await submit(1, { delay: '1h' })
    assert.deepEqual(await submit(), { ids, duplicates: [0], states: ['scheduled'] })
    await at.store.call('cancel', ids[0]!)
    assert.deepEqual((await submit()).duplicates, [])
    const elsewhere = [
      await submit(1, { queue: 'other' }),
      await submit(1, { type: 'other' }),
      await submit(1, { uniqueKey: 'l' }),
    ]
    assert.deepEqual(elsewhere.map(({ duplicates }) => duplicates), [[], [], []]) // biome-ignore format: one line
    assert.equal((await at.job(ids[0]!)).uniqueKey, 'k')
    await at.counts()
  })

  holds('an end by its deadline frees a unique key too, and so does a removal', async (at) => {
    const dead = await at.running({ uniqueKey: 'k', maxAttempts: 1 })
    await at.fail(dead)
    const next = await at.submit({ uniqueKey: 'k' })
    assert.notEqual(next, dead.id)
    await at.store.call('remove', dead.id)
    assert.equal(await at.submit({ uniqueKey: 'k' }), next)
  })

  holds('retry of a job whose unique key is taken is refused; the others of a filter are retried', async (at) => {
    const first = await at.running({ uniqueKey: 'k' })
    await at.fail(first, 'permanent')
    const second = await at.running({ uniqueKey: 'k' })
    await at.fail(second, 'permanent')
    const free = await at.running({ uniqueKey: 'free' })
    await at.fail(free, 'permanent')
    await at.store.call('retry', first.id)
    await at.refused('KEY_TAKEN', () => at.store.call('retry', second.id))
    await at.refused('INVALID_STATE', () => at.store.call('retry', first.id))
    assert.equal((await at.many('retry')).changed, 1)
    assert.equal(await at.state(free.id), 'ready')
    await at.store.call('cancel', first.id)
    assert.equal((await at.many('retry')).changed, 1, 'of two with one key, one')
    assert.deepEqual([await at.state(first.id), await at.state(second.id)], ['cancelled', 'ready'])
  })

  holds('a duplicate of a unique key is one in a full queue too, and stores no idempotency key', async (at) => {
    await at.store.call('setQueue', { queue: 'default', maxDepth: 1 })
    const id = await at.submit({ uniqueKey: 'k' })
    assert.equal(await at.submit({ uniqueKey: 'k', idempotencyKey: 'i' }, 'first'), id)
    assert.equal(await at.submit({ uniqueKey: 'k', idempotencyKey: 'i' }, 'second'), id)
    await at.refused('QUEUE_FULL', () => at.submit({ uniqueKey: 'other' }))
    await at.store.call('cancel', id)
    const other = await at.submit({ uniqueKey: 'k', idempotencyKey: 'i' }, 'third')
    assert.notEqual(other, id)
    await at.refused('IDEMPOTENCY_CONFLICT', () => at.submit({ uniqueKey: 'k', idempotencyKey: 'i' }, 'fourth'))
  })

  holds('of many at once with a unique key, one is first; in a bulk too', async (at) => {
    const all = await Promise.all(Array.from({ length: 50 }, () => at.submitMany({ uniqueKey: 'k' }, [1, 2])))
    assert.equal(new Set(all.flatMap(({ ids }) => ids)).size, 1)
    assert.deepEqual(all.map(({ duplicates }) => duplicates.length).sort(), [1, ...Array(49).fill(2)])
    assert.equal((await at.all()).length, 1)
  })

  holds('a key belongs to one queue and one type', async (at) => {
    const idempotencyKey = 'k'
    const ids = [
      await at.submit({ idempotencyKey }),
      await at.submit({ idempotencyKey, queue: 'other' }),
      await at.submit({ idempotencyKey, type: 'other' }),
    ]
    assert.equal(new Set(ids).size, 3)
  })

  holds('the same key with another payload is a conflict; the first job stands', async (at) => {
    const id = await at.submit({ idempotencyKey: 'k' }, { to: 'a' })
    await at.refused('IDEMPOTENCY_CONFLICT', () => at.submit({ idempotencyKey: 'k' }, { to: 'b' }))
    assert.equal(await at.submit({ idempotencyKey: 'k' }, { to: 'a' }), id)
  })

  holds('of many at once, one is first', async (at) => {
    const all = await Promise.all(Array.from({ length: 50 }, () => at.submitMany({ idempotencyKey: 'k' }, [1])))
    assert.equal(new Set(all.flatMap(({ ids }) => ids)).size, 1)
    assert.equal(all.filter(({ duplicates }) => duplicates.length === 0).length, 1)
  })

  holds('inside a bulk: positions of duplicates are told, jobs without a key are all stored', async (at) => {
    const first = await at.submit({ idempotencyKey: 'a' }, 1)
    const { ids, duplicates } = await at.submitMany({}, [1, 1, 1, 1, 1], ['a', 'b', null, 'b', null])
    assert.deepEqual(duplicates, [0, 3])
    assert.deepEqual([ids[0], ids[3]], [first, ids[1]])
    assert.equal(new Set(ids).size, 4)
    assert.deepEqual(
      (await at.all()).map(({ id, idempotencyKey }) => [id, idempotencyKey]),
      [first, ids[1], ids[2], ids[4]].map((id, i) => [id, ['a', 'b', null, null][i]]),
    )
  })

  holds('two jobs of one bulk with a key and different payloads: the conflict names both, and no job', async (at) => {
    const first = await at.submit({ idempotencyKey: 'a' }, 1)
    const clash = (keys: string[], error: object) =>
      assert.rejects(at.submitMany({}, [1, 2, 3], keys), { code: 'IDEMPOTENCY_CONFLICT', accepted: 'no', ...error })
    const message = /jobs at index 1 and 2 of this bulk have the idempotency key 'b'.*Nothing was stored/
    await clash(['a', 'b', 'b'], { message, details: undefined })
    await clash(['b', 'c', 'a'], { details: { jobId: first } })
    assert.equal((await at.all()).length, 1)
  })

  holds('one conflict inside a bulk refuses all of it, its keys included', async (at) => {
    await at.submit({ idempotencyKey: 'a' }, 1)
    await at.refused('IDEMPOTENCY_CONFLICT', () => at.submitMany({}, [1, 2], ['b', 'a']))
    assert.deepEqual((await at.submitMany({ idempotencyKey: 'b' }, [3])).duplicates, [])
  })

  holds('a duplicate is answered, not refused, when the queue is full', async (at) => {
    await at.store.call('setQueue', { queue: 'default', maxDepth: 1 })
    const id = await at.submit({ idempotencyKey: 'k' })
    assert.equal(await at.submit({ idempotencyKey: 'k' }), id)
    await at.refused('QUEUE_FULL', () => at.submit({ idempotencyKey: 'l' }))
    await at.store.call('cancel', id)
    assert.deepEqual((await at.submitMany({ idempotencyKey: 'l' }, [9])).duplicates, [], 'a refusal leaves no key')
  })

  holds('payloads of a key are compared as JSON values, however they are written', async (at) => {
    const submit = async (payload: string) =>
      (await at.store.call('submit', { specs: jobSpec('work', {}), payloads: [payload], keys: ['k'] })).duplicates
    assert.deepEqual(await submit('{"a":1,"b":[true,{"x":"é","y":null}]}'), [])
    assert.deepEqual(await submit('{ "b" : [true, {"y":null,"x":"\\u00e9"}], "a" : 1.0 }'), [0])
    assert.deepEqual(await submit('{"a":2,"a":10e-1,"b":[true,{"x":"é","y":null}]}'), [0])
    for (const other of ['{"a":2,"b":[true,{"x":"é","y":null}]}', '{"a":1,"b":[{"x":"é","y":null},true]}', '{"a":1}'])
      await at.refused('IDEMPOTENCY_CONFLICT', () => submit(other))
  })

  holds('a job that a person removes takes its key along, one by one or with many', async (at) => {
    const id = await at.submit({ idempotencyKey: 'k' }, 1)
    await at.store.call('cancel', id)
    await at.store.call('remove', id)
    const again = await at.submitMany({ idempotencyKey: 'k' }, [2])
    assert.deepEqual([again.duplicates, again.ids[0]! > id], [[], true])
    await at.store.call('cancel', again.ids[0]!)
    await at.store.call('many', { event: 'remove', filter: { state: 'cancelled' } })
    assert.deepEqual((await at.submitMany({ idempotencyKey: 'k' }, [3])).duplicates, [])
  })

  holds('a deadline that is past at submission is refused, and says what it may have been meant to be', async (at) => {
    for (const options of [{ deadline: 60_000 }, { deadline: '0s' }, { deadline: new Date(1) }] satisfies JobOptions[])
      await at.refused('INVALID_ARGUMENT', () => at.submit(options))
    const message = /60000 \(1970-01-01T00:01:00\.000Z\), is past.* a string, such as '60s'/
    await assert.rejects(at.submit({ deadline: 60_000 }), { message })
  })

  holds('a deadline that is not after delay or runAt is refused: no attempt could start', async (at) => {
    const far = Date.UTC(2090, 0)
    for (const options of [
      { deadline: '2h', delay: '3h' },
      { deadline: far, delay: '36500d' },
      { deadline: '1h', runAt: far },
      { deadline: far, runAt: far },
    ] satisfies JobOptions[]) {
      await at.refused('INVALID_ARGUMENT', () => at.submit(options))
      await at.refused('INVALID_ARGUMENT', () => at.submitMany(options, [1, 2]))
    }
    assert.deepEqual(await at.all(), [])
  })

  holdsOverTime('a submission with a key that is sent again after its deadline gets its job', async (at) => {
    const options = { idempotencyKey: 'k', deadline: at.now + 1000 }
    const id = await at.submit(options)
    at.time.clock.advance(2000)
    assert.equal(await at.submit(options), id)
  })

  holds('a request that is sent again is answered as the first time, one with another body is refused', async (at) => {
    const request = (payloads: string[], priority: 'high' | 'low' = 'high') =>
      at.store.call('submit', { specs: jobSpec('work', { priority }), payloads, keys: null, request: 'import' })
    const first = await request(['{"a":1,"b":2}', '2'])
    const { ids, replayed } = await request(['{"b":2.0,"a":1}', '2'])
    assert.deepEqual([ids, first.replayed, replayed], [first.ids, undefined, true])
    await at.refused('IDEMPOTENCY_CONFLICT', () => request(['{"a":1,"b":3}', '2']))
    await at.refused('IDEMPOTENCY_CONFLICT', () => request(['{"a":1,"b":2}', '2'], 'low'))
    await at.refused('IDEMPOTENCY_CONFLICT', () => request(['2', '{"a":1,"b":2}']))
  })

  holds('a request is answered as no registration or report that its name resembles', async (at) => {
    const sources = [{ queue: 'default', type: 'work' }]
    await at.store.call('register', { name: 'w', sources, slots: 1, request: 'abc' })
    const job = await at.running()
    await at.succeed(job)
    await at.store.call('remove', job.id)
    for (const request of ['worker abc', `report ${job.id} ${job.token}`]) {
      const submission = { specs: jobSpec('work', {}), payloads: ['1'], keys: null, request }
      const { ids, replayed } = await at.store.call('submit', submission)
      assert.deepEqual([ids.length, replayed], [1, undefined])
      assert.deepEqual((await at.store.call('submit', submission)).ids, ids)
    }
  })

  holdsOverTime('a bulk that is sent again is answered as the first time for an hour', async (at) => {
    await at.worker() // whose upkeep forgets the answer
    const submission = { specs: jobSpec('work', {}), payloads: ['1'], keys: null, request: 'import' }
    const { ids } = await at.store.call('submit', submission)
    at.advance(3_600_000 - 1)
    assert.deepEqual((await at.store.call('submit', submission)).ids, ids)
    for (let i = 0; i < 5; i++) at.advance(1000)
    assert.notDeepEqual((await at.store.call('submit', submission)).ids, ids)
  })

  holdsOverTime('a key outlives its window as long as its job is there', async (at) => {
    await at.worker()
    const options = { idempotencyKey: 'k', idempotencyWindow: '1h' } as const
    const id = await at.submit(options)
    at.advance(2 * 3_600_000)
    assert.equal(await at.submit(options), id)
    await at.store.call('cancel', id)
    await at.store.call('remove', id)
    const next = await at.submitMany(options, [null])
    assert.deepEqual(next.duplicates, [])
    assert.notEqual(next.ids[0], id)
  })

  holdsOverTime(
    'a key outlives its job until the window is over, then it is free, also for another payload',
    async (at) => {
      await at.worker()
      await at.store.call('setQueue', { queue: 'default', keepCancelled: 0 })
      const id = await at.submit({ idempotencyKey: 'k' }, 1)
      await at.store.call('cancel', id)
      at.time.clock.advance(day - 1)
      at.tick()
      assert.equal(await at.state(id), 'gone')
      assert.equal(await at.submit({ idempotencyKey: 'k' }, 1), id)
      at.time.clock.advance(1)
      const { ids, duplicates } = await at.submitMany({ idempotencyKey: 'k' }, [2])
      assert.deepEqual([duplicates, ids[0]! > id], [[], true])
    },
  )

  holdsOverTime('a pruned job: its key goes with it when the window is over', async (at) => {
    await at.worker()
    await at.store.call('setQueue', { queue: 'default', keepSucceeded: 1000 })
    const submit = (payload: number) => at.submitMany({ idempotencyKey: 'k', idempotencyWindow: '1m' }, [payload])
    const first = await submit(1)
    await at.succeed((await at.lease(stranger))[0]!)
    at.advance(1250)
    assert.equal(await at.state(first.ids[0]!), 'gone')
    assert.deepEqual(await submit(1), { ids: first.ids, duplicates: [0], states: [null] })
    at.advance(60_000)
    assert.deepEqual((await submit(2)).duplicates, [])
  })
}
