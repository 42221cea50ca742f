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

  holds('dead letters: grouped by what their last errors have in common, and each group found again', async (at) => {
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
    const { groups, next } = await at.store.call('deadLetters', null)
    const short = groups.map(({ type, error, count, newest, oldest }) => [type, error, count, newest, oldest])
    assert.deepEqual(short.sort(), [
      ['other', 'TypeError: no order # for #', 1, other, other],
      ['work', 'TypeError: lost #', 2, hex[1], hex[0]],
      ['work', 'TypeError: no order # for #', 2, orders[1], orders[0]],
    ])
    assert.equal(next, null)
    assert.equal((await at.store.call('deadLetters', orders[1]!)).groups[0]?.count, 1)
    const error = 'TypeError: no order # for #'
    const { jobs } = await at.store.call('jobs', { state: 'dead', type: 'work', error })
    assert.deepEqual(jobs.map(({ id }) => id), orders.toReversed()) // biome-ignore format: short
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
    const [before] = await at.store.call('schedules', null)
    const id = await at.store.call('runSchedule', 'nightly')
    const job = await at.store.call('job', id)
    assert.deepEqual([job?.type, job?.priority, job?.payload, job?.state], ['work', 'high', { n: 1 }, 'ready'])
    assert.deepEqual(await at.store.call('schedules', null), [{ ...before, lastJob: id }])
    await assert.rejects(at.store.call('runSchedule', 'daily'), { code: 'NOT_FOUND' })
  })
}
