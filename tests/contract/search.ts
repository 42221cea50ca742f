import assert from 'node:assert/strict'
import { jobSpec } from '../../src/model/job.ts'
import type { JobFilter } from '../../src/store/store.ts'
import type { Suite } from './contract.ts'

export function search({ holds, holdsOverTime }: Suite): void {
  holds('jobs: found by a text in the payload or a key, whatever the case and however it looks', async (at) => {
    const find = async (text: string) => (await at.store.call('jobs', { text })).jobs.map(({ id }) => id)
    const ada = await at.submit({}, { to: 'Ada@example.com', part: '100%' })
    const keyed = await at.submit({ idempotencyKey: 'order_17', concurrencyKey: 'customer-5' }, 'ADA')
    assert.deepEqual(await find('ada'), [keyed, ada])
    assert.deepEqual(await find('0%'), [ada])
    assert.deepEqual([await find('r_1'), await find('er-'), await find('_'), await find('%%')], [[keyed], [keyed], [keyed], []]) // biome-ignore format: short
  })

  holdsOverTime('jobs: by when they were submitted', async (at) => {
    const ids: number[] = []
    for (let i = 0; i < 9; i++) {
      ids.push(await at.submit())
      at.advance(1000)
    }
    await at.store.call('cancel', ids[4]!)
    await at.store.call('remove', ids[4]!)
    const began = (await at.store.call('job', ids[0]!))!.createdAt
    const find = async (filter: JobFilter) =>
      (await at.store.call('jobs', { ...filter, order: 'oldest' })).jobs.map(({ id }) => ids.indexOf(id))
    assert.deepEqual(await find({ since: began + 3000 }), [3, 5, 6, 7, 8])
    assert.deepEqual(await find({ since: began + 3001, until: began + 7000 }), [5, 6])
    assert.deepEqual(await find({ until: began + 1000 }), [0])
    assert.deepEqual(await find({ since: began + 60_000 }), [])
    const { jobs, next } = await at.store.call('jobs', { since: began + 6000, limit: 2 })
    const rest = await at.store.call('jobs', { since: began + 6000, limit: 2, cursor: next })
    assert.deepEqual([...jobs, ...rest.jobs].map(({ id }) => ids.indexOf(id)), [8, 7, 6]) // biome-ignore format: short
    assert.equal(rest.next, null)
  })

  holds('dead letters: counted by what their last errors have in common, and each cause found again', async (at) => {
    const fail = async (message: string, type = 'work') => {
      const lease = await at.running({ type })
      const error = { name: 'TypeError', message, stack: null }
      await at.store.call('fail', { lease, kind: 'permanent', error, retryAfter: null })
      return lease.id
    }
    const orders = [
      await fail('no order 17 for ada@example.com'),
      await fail('no order 4711 for bob@example.com\nat x'),
    ]
    const other = await fail('no order 17 for ada@example.com', 'other')
    const hex = [await fail('lost 0af3-77'), await fail('lost deadbeef12')]
    const { causes, next, counting } = await at.store.call('deadLetters', {})
    const short = causes.map(({ type, cause, count, newest, oldest }) => [type, cause, count, newest, oldest])
    assert.deepEqual(short.sort(), [
      ['other', 'TypeError: no order # for #', 1, other, other],
      ['work', 'TypeError: lost #', 2, hex[1], hex[0]],
      ['work', 'TypeError: no order # for #', 2, orders[1], orders[0]],
    ])
    assert.deepEqual([next, counting], [null, false])
    const cause = 'TypeError: no order # for #'
    const find = async (filter: JobFilter) => (await at.store.call('jobs', filter)).jobs.map(({ id }) => id)
    assert.deepEqual(await find({ state: 'dead', type: 'work', cause }), orders.toReversed())
    assert.deepEqual(await find({ cause }), [other, ...orders.toReversed()])
    assert.deepEqual(await find({ cause, order: 'oldest', limit: 2 }), orders)
    assert.deepEqual(await find({ cause, state: 'ready' }), [])
    assert.deepEqual(await find({ cause: 'TypeError: no order 17 for #' }), [])
    const first = await at.store.call('deadLetters', { limit: 2 })
    const second = await at.store.call('deadLetters', { limit: 2, cursor: first.next })
    assert.deepEqual([...first.causes, ...second.causes], causes)
    assert.equal(second.next, null)
    assert.deepEqual(await at.store.call('deadLetters', { type: 'other' }), { causes: causes.filter(({ type }) => type === 'other'), counting, next }) // biome-ignore format: long
    assert.deepEqual((await at.store.call('failing', {})).causes, [])
  })

  holds(
    'causes: counted by each event, from the first failure to the end, and gone with their last job',
    async (at) => {
      const error = (message: string) => ({ name: 'Error', message, stack: null })
      const told = async (which: 'deadLetters' | 'failing') =>
        (await at.store.call(which, {})).causes.map(({ cause, count }) => [cause, count])
      const both = async () => [await told('failing'), await told('deadLetters')]
      const lease = await at.running({ maxAttempts: 3 })
      assert.deepEqual(await both(), [[], []])
      await at.store.call('fail', { lease, kind: 'temporary', error: error('status 503'), retryAfter: 0 })
      assert.deepEqual(await both(), [[['Error: status 503', 1]], []])
      assert.equal((await at.store.call('job', lease.id))?.lastError, 'Error: status 503')
      const second = (await at.lease(await at.worker(), { slots: 1 }))[0]!
      assert.deepEqual(await both(), [[['Error: status 503', 1]], []], 'its next attempt runs')
      await at.store.call('fail', { lease: second, kind: 'temporary', error: error('status 404'), retryAfter: 0 })
      assert.deepEqual(await both(), [[['Error: status 404', 1]], []])
      const third = (await at.lease(await at.worker(), { slots: 1 }))[0]!
      await at.store.call('fail', { lease: third, kind: 'temporary', error: error('status 404'), retryAfter: 0 })
      assert.deepEqual(await both(), [[], [['Error: status 404', 1]]], 'the last of three')
      await at.store.call('retry', lease.id)
      assert.deepEqual(await both(), [[], []])
      const fourth = (await at.lease(await at.worker(), { slots: 1 }))[0]!
      await at.store.call('fail', { lease: fourth, kind: 'temporary', error: error('status 404'), retryAfter: 0 })
      const fifth = (await at.lease(await at.worker(), { slots: 1 }))[0]!
      await at.store.call('succeed', { lease: fifth, result: '1' })
      assert.deepEqual(await both(), [[], []])
      assert.equal((await at.store.call('job', lease.id))?.lastError, null)
      const other = await at.running({})
      await at.store.call('fail', { lease: other, kind: 'temporary', error: error('status 404'), retryAfter: 60_000 })
      await at.store.call('cancel', other.id)
      assert.deepEqual(await both(), [[], []])
      const dead = await at.running({})
      await at.store.call('fail', { lease: dead, kind: 'permanent', error: error('no'), retryAfter: null })
      assert.deepEqual(await both(), [[], [['Error: no', 1]]])
      await at.store.call('remove', dead.id)
      assert.deepEqual(await both(), [[], []])
    },
  )

  holds('many: all jobs of one cause, whatever else is dead', async (at) => {
    const ids: number[] = []
    for (const message of ['gone 1', 'kept', 'gone 2', 'gone 3']) {
      const lease = await at.running({})
      await at.store.call('fail', { lease, kind: 'permanent', error: { name: 'E', message, stack: null }, retryAfter: null }) // biome-ignore format: long
      ids.push(lease.id)
    }
    assert.deepEqual(await at.many('retry', { cause: 'E: gone #', limit: 1 }), { changed: 1, next: ids[3] })
    assert.deepEqual(await at.many('retry', { cause: 'E: gone #' }), { changed: 2, next: null })
    assert.deepEqual(await Promise.all(ids.map((id) => at.state(id))), ['ready', 'dead', 'ready', 'ready'])
  })

  holds('many: the event for each job of a page that it fits, and where to go on', async (at) => {
    const { ids } = await at.submitMany({}, [0, 1, 2, 3, 4])
    const [running] = await at.lease(await at.worker(), { slots: 1 })
    const some = await at.many('cancel', { order: 'oldest', limit: 3 })
    assert.deepEqual(some, { changed: 3, next: ids[2] })
    assert.deepEqual(await at.many('cancel', { order: 'oldest', limit: 3, cursor: some.next }), {
      changed: 2,
      next: null,
    })
    const states = () => Promise.all(ids.map((id) => at.state(id)))
    assert.deepEqual(await states(), ['running', 'cancelled', 'cancelled', 'cancelled', 'cancelled'])
    assert.ok(at.events.some((event) => event.event === 'cancelRequested' && event.id === running!.id))
    assert.deepEqual(await at.many('retry', { type: 'other' }), { changed: 0, next: null })
    assert.deepEqual(await at.many('retry', { limit: 2 }), { changed: 2, next: ids[3] })
    assert.deepEqual(await at.many('remove'), { changed: 2, next: null })
    const { ids: later } = await at.submitMany({ delay: '1h' }, [0, 1, 2])
    assert.deepEqual(await at.many('runNow', { queue: 'default' }), { changed: 3, next: null })
    assert.deepEqual(await Promise.all(later.map((id) => at.state(id))), ['ready', 'ready', 'ready'])
    const { queues } = await at.store.call('stats', null)
    assert.deepEqual([queues[0]?.counts.ready, queues[0]?.counts.running, queues[0]?.counts.cancelled], [5, 1, 0])
  })

  holds('a schedule run at once: its job, its payload, and no tick', async (at) => {
    const spec = jobSpec('work', { priority: 'high' })
    const schedule = { name: 'nightly', cron: '0 3 * * *', timezone: 'UTC', spec, payload: '{"n":1}' }
    await at.store.call('setSchedule', { ...schedule, missed: 'once', overlap: 'allow' })
    const { schedules } = await at.store.call('schedules', {})
    const [before] = schedules
    const id = await at.store.call('runSchedule', 'nightly')
    const job = await at.store.call('job', id)
    assert.deepEqual([job?.type, job?.priority, job?.payload, job?.state], ['work', 'high', { n: 1 }, 'ready'])
    assert.deepEqual(await at.store.call('schedules', {}), { schedules: [{ ...before, lastJob: id }], next: null })
    await assert.rejects(at.store.call('runSchedule', 'daily'), { code: 'NOT_FOUND' })
  })
}
