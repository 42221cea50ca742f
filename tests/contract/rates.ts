import assert from 'node:assert/strict'
import type { LeasedJob } from '../../src/store/store.ts'
import { stranger } from '../support/subject.ts'
import type { Suite } from './contract.ts'

/** A queue starts at most so many jobs in a period. */
export function rates({ holds, holdsOverTime, holdsTogether }: Suite): void {
  const ids = (jobs: LeasedJob[] | undefined) => jobs?.map(({ id }) => id)
  const jobs = (count: number) => Array(count).fill(0)
  const day = 86_400_000

  holds(
    'a queue with a rate starts no more jobs, over all workers and types; queues beside it go on; why says so',
    async (at) => {
      await at.store.call('setQueue', { queue: 'default', rate: { max: 3, per: day } })
      await at.submitMany({}, jobs(3))
      await at.submit({ type: 'other', priority: 'high' })
      await at.submit({ queue: 'free' })
      const [one, two] = [await at.worker(10, [{ queue: 'default', type: 'work' }]), await at.worker()]
      assert.deepEqual(ids(await at.lease(stranger, { types: ['work', 'other'], slots: 2 })), [4, 1])
      const waiting = at.ask(one)
      await at.settle()
      assert.deepEqual(ids(waiting.jobs), [2])
      assert.deepEqual(ids(await at.lease(two, { queues: ['default', 'free'] })), [5])
      assert.match(await at.store.call('why', 3), /'default' has used up its rate of 3 in 1d; it may run from/)
      const { queues } = await at.store.call('stats', null)
      assert.deepEqual(
        queues.map(({ queue, rate }) => [queue, rate]),
        [
          ['default', { max: 3, per: day }],
          ['free', null],
        ],
      )
    },
  )

  holds('each attempt is a start: a retry, and one that is given back', async (at) => {
    await at.store.call('setQueue', { queue: 'default', rate: { max: 3, per: day } })
    await at.submitMany({}, jobs(4))
    const [job] = await at.lease(stranger, { slots: 1 })
    await at.store.call('release', job!)
    const [again] = await at.lease(stranger, { slots: 1 })
    assert.equal(again!.id, job!.id)
    await at.fail(again!, 'temporary', 0)
    assert.deepEqual((await at.lease(stranger)).length, 1)
    assert.deepEqual(await at.lease(stranger), [])
  })

  holds('a rate that is raised or taken away lets waiting workers go on at once', async (at) => {
    await at.store.call('setQueue', { queue: 'default', rate: { max: 1, per: day } })
    await at.submitMany({}, jobs(9))
    assert.deepEqual(ids(await at.lease(stranger)), [1])
    const worker = await at.worker()
    const ask = async (change: () => Promise<unknown>) => {
      const waiting = at.ask(worker)
      await at.settle()
      assert.equal(waiting.jobs, undefined)
      await change()
      await at.settle()
      waiting.giveUp()
      return ids(waiting.jobs)
    }
    const set = (rate: { max: number; per: number } | null) => () =>
      at.store.call('setQueue', { queue: 'default', rate })
    assert.equal(await ask(set({ max: 1, per: day })), undefined, 'what was started stays counted')
    assert.deepEqual(await ask(set({ max: 3, per: day })), [2, 3])
    assert.equal(await ask(() => at.store.call('setQueue', { queue: 'default', maxRunning: 1000 })), undefined)
    assert.equal(await ask(set({ max: 2, per: day / 2 })), undefined)
    assert.deepEqual(await ask(set(null)), [4, 5, 6, 7, 8, 9])
    await at.submitMany({}, jobs(2))
    await set({ max: 1, per: day })()
    assert.equal((await at.lease(stranger)).length, 1, 'it counts from when it was set')
  })

  holds(
    'a paused queue starts nothing, and one with keys and a limit of running jobs starts the least of them',
    async (at) => {
      await at.store.call('setQueue', { queue: 'default', rate: { max: 4, per: day }, maxRunning: 2, paused: true })
      for (const concurrencyKey of ['a', 'a', 'b', 'c']) await at.submit({ concurrencyKey })
      await at.submitMany({}, jobs(4))
      assert.deepEqual(await at.lease(stranger), [])
      await at.store.call('setQueue', { queue: 'default', paused: false })
      const [one, three] = await at.lease(stranger)
      assert.deepEqual([one!.id, three!.id], [1, 3])
      await at.succeed(one!)
      await at.succeed(three!)
      assert.deepEqual(ids(await at.lease(stranger)), [2, 4])
      await at.store.call('setQueue', { queue: 'default', maxRunning: null })
      assert.deepEqual(await at.lease(stranger), [])
    },
  )

  holdsTogether('requests of one turn share what the rate has left', async (at) => {
    await at.store.call('setQueue', { queue: 'default', rate: { max: 5, per: day } })
    await at.submitMany({}, jobs(20))
    const workers = await Promise.all([1, 2, 3].map(() => at.worker(2)))
    const asked = workers.map((worker) => at.ask(worker, { slots: 2 }))
    await at.settle()
    assert.deepEqual(asked.map(({ jobs }) => ids(jobs)), [[1, 2], [3, 4], [5]]) // biome-ignore format: one line
  })

  holdsOverTime('there is room at the instant at which a start has left the period, and not before', async (at) => {
    await at.store.call('setQueue', { queue: 'default', rate: { max: 2, per: 1000 } })
    await at.submitMany({}, jobs(6))
    const worker = await at.worker()
    assert.deepEqual(ids(await at.lease(worker, { slots: 1 })), [1])
    at.advance(600)
    assert.deepEqual(ids(await at.lease(worker, { slots: 2 })), [2])
    const waiting = at.ask(worker)
    at.advance(399)
    await at.settle()
    assert.equal(waiting.jobs, undefined)
    at.advance(1)
    await at.settle()
    assert.deepEqual(ids(waiting.jobs), [3], 'one: the other start is 400 ms ago')
    const next = at.ask(worker)
    at.advance(599)
    await at.settle()
    assert.equal(next.jobs, undefined)
    at.advance(1)
    await at.settle()
    assert.deepEqual(ids(next.jobs), [4])
  })

  holdsOverTime('no interval holds more starts than the rate, and no room of it is lost beyond a grain', async (at) => {
    const [max, per] = [5, 60_000]
    await at.store.call('setQueue', { queue: 'default', rate: { max, per } })
    await at.submitMany({}, jobs(30))
    const worker = await at.worker(100)
    const starts: number[] = []
    while (starts.length < 30) {
      const leased = await at.lease(worker)
      for (const _ of leased) starts.push(at.now)
      at.advance(2477)
    }
    for (const [i, start] of starts.entries()) assert.ok(i < max || start - starts[i - max]! >= per, `start ${i}`)
    assert.ok(starts.at(-1)! - starts[0]! < 5 * (per + 2477 + 60), 'it starts as many as it may')
  })

  holdsOverTime('the order is kept when room comes back: what came first, by class', async (at) => {
    await at.store.call('setQueue', { queue: 'default', rate: { max: 1, per: 1000 } })
    await at.submitMany({}, jobs(3))
    const worker = await at.worker()
    assert.deepEqual(ids(await at.lease(worker)), [1])
    const waiting = at.ask(worker)
    await at.submit({ priority: 'low' })
    const urgent = await at.submit({ priority: 'high' })
    at.advance(1000)
    await at.settle()
    assert.deepEqual(ids(waiting.jobs), [urgent])
    at.advance(1000)
    assert.deepEqual(ids(await at.lease(worker)), [2])
  })

  holdsOverTime('a rate that was lowered makes room when fewer than it allows are left in the period', async (at) => {
    await at.store.call('setQueue', { queue: 'default', rate: { max: 4, per: 1000 } })
    await at.submitMany({}, jobs(9))
    const worker = await at.worker()
    for (let i = 0; i < 4; i++) {
      assert.equal((await at.lease(worker, { slots: i + 1 })).length, 1)
      at.advance(100)
    }
    await at.store.call('setQueue', { queue: 'default', rate: { max: 2, per: 1000 } })
    const waiting = at.ask(worker)
    at.advance(799) // at 1199: the third start was at 200
    await at.settle()
    assert.equal(waiting.jobs, undefined)
    at.advance(1)
    await at.settle()
    assert.deepEqual(ids(waiting.jobs), [5])
  })

  holdsOverTime(
    'a wall clock that is set back by an hour: no start too many, and no more than a period of waiting',
    async (at) => {
      await at.store.call('setQueue', { queue: 'default', rate: { max: 2, per: 10_000 } })
      await at.submitMany({}, jobs(5))
      const worker = await at.worker()
      assert.equal((await at.lease(worker)).length, 2)
      at.time.clock.jump(-3_600_000)
      at.tick()
      const waiting = at.ask(worker)
      at.advance(9_999)
      await at.settle()
      assert.equal(waiting.jobs, undefined, 'the limit holds')
      at.advance(500) // the clock was looked at within 250 ms
      await at.settle()
      assert.deepEqual(ids(waiting.jobs), [3, 4])
    },
  )

  holdsOverTime(
    'a wall clock that is set back after some of the rate: what was started counts as of now',
    async (at) => {
      await at.store.call('setQueue', { queue: 'default', rate: { max: 2, per: 10_000 } })
      await at.submitMany({}, jobs(5))
      const worker = await at.worker()
      assert.equal((await at.lease(worker, { slots: 1 })).length, 1)
      at.time.clock.jump(-3_600_000)
      assert.deepEqual(ids(await at.lease(worker)), [2])
      const waiting = at.ask(worker)
      at.advance(9_999)
      await at.settle()
      assert.equal(waiting.jobs, undefined)
      at.advance(11)
      await at.settle()
      assert.deepEqual(ids(waiting.jobs), [3, 4])
    },
  )

  holdsOverTime('a worker of many lines hears that there is room', async (at) => {
    const types = Array.from({ length: 80 }, (_, i) => `t${i}`)
    await at.store.call('setQueue', { queue: 'default', rate: { max: 1, per: 1000 } })
    for (const type of ['t3', 't5']) await at.submit({ type })
    const worker = await at.worker(10, at.request(0, { types }).sources)
    assert.deepEqual(ids(await at.lease(worker, { types })), [1])
    const waiting = at.ask(worker, { types })
    at.advance(1000)
    await at.settle()
    assert.deepEqual(ids(waiting.jobs), [2])
  })
}
