import assert from 'node:assert/strict'
import { priorities } from '../../src/model/job.ts'
import { type Subject, stranger } from '../support/subject.ts'
import type { Suite } from './contract.ts'

const ids = (jobs: { id: number }[]): number[] => jobs.map(({ id }) => id)

const server = stranger + 1

/** Leases one job at a time until there is none: the order in which a line is served. */
async function served(at: Subject, options: Parameters<Subject['lease']>[1] = {}): Promise<number[]> {
  const order: number[] = []
  for (let slots = 1; ; slots++) {
    const [job] = await at.lease(server, { ...options, slots })
    if (!job) return order
    order.push(job.id)
  }
}

export function order({ holds, holdsOverTime, holdsTogether }: Suite): void {
  holds('ids grow in the order of submission, also within a bulk and beside it', async (at) => {
    const { ids } = await at.submitMany(
      {},
      Array.from({ length: 100 }, (_, i) => i),
    )
    const single = await at.submit()
    const all = [...ids, single]
    assert.deepEqual(
      all,
      [...all].sort((a, b) => a - b),
    )
    assert.equal(new Set(all).size, 101)
    assert.deepEqual(
      (await at.all()).map((job) => job.payload),
      [...Array(100).keys(), null],
    )
  })

  holds('within a class, the older job first', async (at) => {
    const submitted = [await at.submit(), await at.submit(), await at.submit()]
    assert.deepEqual(await served(at), submitted)
  })

  holds('an urgent class goes first, whatever its age', async (at) => {
    const byClass = new Map<string, number>()
    for (const priority of priorities.toReversed()) byClass.set(priority, await at.submit({ priority }))
    assert.deepEqual(
      await served(at),
      priorities.map((name) => byClass.get(name)),
    )
  })

  holds('one lease of several types and queues is in one order', async (at) => {
    const submitted: number[] = []
    for (const priority of ['high', 'low'] as const)
      for (const queue of ['b', 'a'])
        for (const type of ['y', 'x']) submitted.push(await at.submit({ queue, type, priority }))
    const all = { types: ['x', 'y'], queues: ['a', 'b'] }
    const first = await at.lease(stranger, { ...all, slots: 3 })
    assert.deepEqual(ids(first), submitted.slice(0, 3))
    assert.deepEqual(ids(await at.lease(stranger, { ...all, slots: 8 })), submitted.slice(3))
  })

  holds('a worker of hundreds of types finds what is ready among them, and nothing else', async (at) => {
    const types = Array.from({ length: 300 }, (_, i) => `type ${i}`)
    const asked = { types, queues: ['a', 'b', 'paused'], slots: 10 }
    await at.store.call('setQueue', { queue: 'paused', paused: true })
    await at.submit({ queue: 'a', type: 'of another' })
    await at.submit({ queue: 'paused', type: 'type 7' })
    await at.submit({ queue: 'a', type: 'type 7', delay: '1h' })
    const low = await at.submit({ queue: 'b', type: 'type 299', priority: 'low' })
    const [first, blocked] = await Promise.all([1, 2].map(() => at.submit({ queue: 'a', type: 'type 0', concurrencyKey: 'k' }))) // biome-ignore format: one line
    const leased = await at.lease(stranger, asked)
    assert.deepEqual(ids(leased), [first, low])
    const waiting = at.ask(stranger, asked)
    await at.settle()
    assert.equal(waiting.jobs, undefined)
    await at.succeed(leased[0]!)
    await at.settle()
    assert.deepEqual(waiting.jobs && ids(waiting.jobs), [blocked])
  })

  holds('the first n, never more than the slots that are free', async (at) => {
    const { ids: submitted } = await at.submitMany({}, [1, 2, 3, 4, 5])
    const first = await at.lease(stranger, { slots: 2 })
    assert.deepEqual(ids(first), submitted.slice(0, 2))
    assert.deepEqual(await at.lease(stranger, { slots: 2 }), [])
    await at.succeed(first[0]!)
    assert.deepEqual(ids(await at.lease(stranger, { slots: 2 })), [submitted[2]])
    assert.deepEqual(ids(await at.lease(stranger + 1, { slots: 2 })), submitted.slice(3), 'slots are per worker')
  })

  holds('a type or queue that was not asked for stays, untouched, and blocks nobody', async (at) => {
    const other = await at.submit({ type: 'other', priority: 'critical' })
    const elsewhere = await at.submit({ queue: 'elsewhere', priority: 'critical' })
    const mine = await at.submit({ priority: 'bulk' })
    assert.deepEqual(await served(at), [mine])
    for (const id of [other, elsewhere]) {
      const { state, attempt } = await at.job(id)
      assert.deepEqual([state, attempt], ['ready', 0])
    }
  })

  holds('a paused queue gives nothing and takes submissions; resumed, it goes on where it was', async (at) => {
    const first = await at.submit()
    await at.store.call('setQueue', { queue: 'default', paused: true })
    const second = await at.submit()
    assert.deepEqual(await served(at), [])
    const waiting = at.ask(stranger)
    await at.settle()
    assert.equal(waiting.jobs, undefined)
    await at.store.call('setQueue', { queue: 'default', paused: false })
    await at.settle()
    assert.deepEqual(ids(waiting.jobs ?? []), [first, second])
  })

  holds('a pause stops its own queue alone, and what runs goes on', async (at) => {
    const job = await at.running()
    await at.store.call('setQueue', { queue: 'default', paused: true })
    const other = await at.submit({ queue: 'other' })
    assert.deepEqual(await served(at, { queues: ['default', 'other'] }), [other])
    assert.equal((await at.succeed(job)).state, 'succeeded')
  })

  holds('released and retried jobs keep their place', async (at) => {
    const first = await at.running()
    const second = await at.running()
    const third = await at.submit()
    await at.fail(second, 'permanent')
    await at.store.call('retry', second.id)
    await at.store.call('release', first)
    assert.deepEqual(await served(at), [first.id, second.id, third])
  })

  holdsOverTime('due and reclaimed jobs keep their place', async (at) => {
    await at.worker()
    const reclaimed = await at.running()
    const delayed = await at.submit({ delay: '10s' })
    const failed = await at.running({ backoff: { kind: 'constant', delay: '20s' } })
    await at.fail(failed)
    const young = await at.submit()
    at.lapse()
    assert.deepEqual(await served(at), [reclaimed.id, delayed, failed.id, young])
  })

  holdsOverTime('a job is due at its instant, not before; a lease needs no reaper for that', async (at) => {
    const id = await at.submit({ delay: 1000 })
    at.time.clock.advance(999)
    assert.deepEqual(await served(at), [])
    at.time.clock.advance(1)
    assert.deepEqual(await served(at), [id])
  })

  holds(
    'a request that waits is answered by the job that comes, in the order in which the requests came',
    async (at) => {
      const early = at.ask(stranger)
      const late = at.ask(server)
      await at.settle()
      assert.deepEqual([early.jobs, late.jobs], [undefined, undefined])
      const first = await at.submit()
      await at.settle()
      assert.deepEqual([ids(early.jobs!), late.jobs], [[first], undefined])
      const second = await at.submit()
      await at.settle()
      assert.deepEqual(ids(late.jobs!), [second])
    },
  )

  holds('a newer request of the same worker replaces the older, which ends empty', async (at) => {
    const older = at.ask(stranger)
    await at.settle()
    const newer = at.ask(stranger)
    await at.settle()
    assert.deepEqual([older.jobs, newer.jobs], [[], undefined])
  })

  holds('no job stays ready while some worker waits for it: one slot each', async (at) => {
    const waiting = [0, 1, 2].map((n) => at.ask(stranger + n, { slots: 1 }))
    await at.settle()
    const submitted = await at.submitMany({}, [1, 2, 3])
    await at.settle()
    assert.deepEqual(
      waiting.map(({ jobs }) => jobs && ids(jobs)),
      submitted.ids.map((id) => [id]),
    )
  })

  holdsTogether('no job stays ready while some worker waits for it: several types, few slots', async (at) => {
    const all = at.ask(stranger, { types: ['x', 'y', 'z'], slots: 2 })
    const one = at.ask(server, { types: ['z'], slots: 1 })
    await at.settle()
    const [x, y, z] = await Promise.all(['x', 'y', 'z'].map((type) => at.submit({ type })))
    await at.settle()
    assert.deepEqual([ids(all.jobs!), one.jobs && ids(one.jobs)], [[x, y], [z]])
  })

  holds('no job stays ready while some worker waits for it: excluded by another', async (at) => {
    const id = await at.submit({ delay: 1e6 })
    const excluding = at.ask(stranger, { exclude: [id] })
    const other = at.ask(server)
    await at.settle()
    await at.store.call('cancel', id)
    await at.store.call('retry', id)
    await at.settle()
    assert.deepEqual([excluding.jobs, other.jobs && ids(other.jobs)], [undefined, [id]])
  })

  holds('an excluded job is passed over, with the next one in its slot', async (at) => {
    const first = await at.submit()
    const second = await at.submit()
    assert.deepEqual(ids(await at.lease(stranger, { exclude: [first], slots: 1 })), [second])
    assert.equal(await at.state(first), 'ready')
  })
}
