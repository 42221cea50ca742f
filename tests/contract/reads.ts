import assert from 'node:assert/strict'
import type { Job } from '../../src/model/job.ts'
import { states } from '../../src/model/lifecycle.ts'
import { waitForEnd } from '../../src/queue/wait.ts'
import type { Input, JobPage, Source } from '../../src/store/store.ts'
import { VirtualClock } from '../../src/testing/clock.ts'
import { type Subject, stranger } from '../support/subject.ts'
import type { Suite } from './contract.ts'

const source = (type: string, queue = 'default'): Source => ({ queue, type })

/** What a caller of `wait` has got so far. */
function waitFor(at: Subject, id: number): { job?: Job; error?: unknown } {
  const got: { job?: Job; error?: unknown } = {}
  at.store.call('wait', id).then(
    (job) => {
      got.job = job
    },
    (error) => {
      got.error = error
    },
  )
  return got
}

export function reads({ holds, holdsOverTime }: Suite): void {
  holds(
    'names of queues are told by their beginning, in order, in pages, and not again while there are as many',
    async (at) => {
      const ask = (input: Input<'queueNames'>) => at.store.call('queueNames', input)
      assert.deepEqual(await ask({ prefix: 'a' }), { names: [], next: null, count: 0, forgotten: 0 })
      for (const queue of ['b', 'a-2', 'a', 'a%', 'a-\u{10FFFF}z', 'A-1', 'a-1']) await at.submit({ queue })
      await at.store.call('setQueue', { queue: 'a-0', paused: true }) // it has no job
      const names = ['a-0', 'a-1', 'a-2', 'a-\u{10FFFF}z']
      assert.deepEqual(await ask({ prefix: 'a-' }), { names, next: null, count: 4, forgotten: 0 })
      assert.deepEqual((await ask({ prefix: 'a' })).names, ['a', 'a%', ...names])
      assert.deepEqual((await ask({})).names, ['A-1', 'a', 'a%', ...names, 'b'])
      assert.deepEqual(await ask({ prefix: 'a-', after: 'a-1' }), {
        names: names.slice(2),
        next: null,
        count: 4,
        forgotten: 0,
      })
      assert.deepEqual(await ask({ prefix: 'a-', known: 4 }), { names: [], next: null, count: 4, forgotten: 0 })
      assert.deepEqual((await ask({ prefix: 'a-', known: 3 })).names, names)
      assert.deepEqual(await ask({ prefix: 'a-\u{10FFFF}' }), {
        names: ['a-\u{10FFFF}z'],
        next: null,
        count: 1,
        forgotten: 0,
      })
    },
  )

  holds('wait answers when the job has ended, however it ends, and not before', async (at) => {
    const ends: ((job: Awaited<ReturnType<Subject['running']>>) => Promise<unknown>)[] = [
      (job) => at.succeed(job, { sum: 3 }),
      (job) => at.fail(job, 'permanent'),
      async (job) => {
        await at.store.call('release', job)
        await at.store.call('cancel', job.id)
      },
    ]
    for (const [i, end] of ends.entries()) {
      const job = await at.running()
      const got = [waitFor(at, job.id), waitFor(at, job.id)]
      await at.settle()
      assert.deepEqual(got, [{}, {}])
      await end(job)
      await at.settle()
      for (const { job: ended } of got) assert.equal(ended?.state, ['succeeded', 'dead', 'cancelled'][i])
    }
  })

  holds('wait for what has ended already answers at once, with the result', async (at) => {
    const job = await at.running()
    await at.succeed(job, { sum: 3 })
    assert.deepEqual((await at.store.call('wait', job.id)).result, { sum: 3 })
  })

  holds(
    'a wait whose time is over before any answer: what has ended is told, what is not there is not found',
    async (at) => {
      const [done, failed] = [await at.running(), await at.running()]
      await at.succeed(done, 'done')
      await at.fail(failed, 'permanent')
      const late = (id: number) => {
        const clock = new VirtualClock()
        const waiting = waitForEnd(at.store, clock, id, { timeout: 0 })
        clock.advance(0)
        return waiting
      }
      assert.equal(await late(done.id), 'done')
      await assert.rejects(late(failed.id), { code: 'JOB_FAILED' })
      await assert.rejects(late(failed.id + 1000), { code: 'NOT_FOUND' })
      const id = await at.submit({ type: 'other' })
      await assert.rejects(late(id), { code: 'WAIT_TIMEOUT', message: /had not ended/, accepted: 'yes' })
    },
  )

  holds('wait for a job that is not there, or that was removed meanwhile', async (at) => {
    await assert.rejects(at.store.call('wait', 42), { code: 'NOT_FOUND' })
  })

  holds('giving up a wait or a lease takes the request back', async (at) => {
    const patience = new AbortController()
    const waiting = at.store.call('wait', await at.submit({ type: 'other' }), patience.signal)
    patience.abort(new Error('enough'))
    await assert.rejects(waiting, /enough/)
    const asked = at.ask(stranger)
    await at.settle()
    asked.giveUp()
    await at.settle()
    assert.equal(await at.submit().then((id) => at.state(id)), 'ready')
  })

  holdsOverTime('wait sees the end that time brings', async (at) => {
    await at.worker()
    const got = waitFor(at, await at.submit({ deadline: '1s' }))
    await at.settle()
    at.advance(1250)
    await at.settle()
    assert.deepEqual([got.job?.state, got.job?.reason], ['dead', 'expired'])
  })

  holds('jobs: filtered by state, queue and type, in pages either way', async (at) => {
    const { ids } = await at.submitMany({}, [0, 1, 2, 3, 4])
    const other = await at.submit({ type: 'other' })
    const away = await at.submit({ queue: 'away', delay: '1h' })
    const all = [...ids, other, away]
    for (const order of ['oldest', 'newest'] as const) {
      const seen: number[] = []
      let cursor: number | null = null
      do {
        const page: JobPage = await at.store.call('jobs', { order, limit: 2, cursor })
        assert.ok(page.jobs.length <= 2)
        seen.push(...page.jobs.map(({ id }) => id))
        cursor = page.next
      } while (cursor !== null)
      assert.deepEqual(seen, order === 'oldest' ? all : all.toReversed())
    }
    const find = async (filter: Parameters<typeof at.store.call<'jobs'>>[1]) =>
      (await at.store.call('jobs', filter)).jobs.map(({ id }) => id)
    assert.deepEqual(await find({ type: 'other' }), [other])
    assert.deepEqual(await find({ queue: 'away' }), [away])
    assert.deepEqual(await find({ state: 'scheduled', queue: 'default' }), [])
    await at.lease(stranger)
    for (const state of states) for (const id of await find({ state })) assert.equal(await at.state(id), state)
    assert.deepEqual(await find({ state: 'running', order: 'oldest' }), ids)
  })

  holds(
    'scheduled jobs by when they are due: pages, filters, the first of several that are due at once',
    async (at) => {
      const due = [3, 1, 2, 1, 5, 4]
      const ids = await Promise.all(due.map((hours) => at.submit({ delay: `${hours}h`, type: hours === 2 ? 'other' : 'work' }))) // biome-ignore format: long
      await at.submit()
      const expected = ids.map((id, i) => [due[i]!, id] as const).sort(([a, x], [b, y]) => a - b || x - y).map(([, id]) => id) // biome-ignore format: long
      const find = async (filter: Partial<Parameters<typeof at.store.call<'jobs'>>[1]>) => {
        const seen: number[] = []
        for (let cursor: number | null | undefined; cursor !== null; ) {
          const page: JobPage = await at.store.call('jobs', { state: 'scheduled', order: 'due', limit: 2, ...(cursor !== undefined && { cursor }), ...filter }) // biome-ignore format: long
          seen.push(...page.jobs.map(({ id }) => id))
          cursor = page.next
        }
        return seen
      }
      assert.deepEqual(await find({}), expected)
      assert.deepEqual(await find({ limit: 6 }), expected)
      assert.deepEqual(await find({ type: 'other' }), [ids[2]])
      assert.deepEqual(await find({ queue: 'elsewhere' }), [])
      assert.deepEqual(await find({ failing: true }), [])
      const failed = await at.running()
      await at.fail(failed)
      assert.deepEqual(await find({ failing: true }), [failed.id])
      assert.deepEqual(await find({ cause: 'no such', failing: true }), [])
      const act = () => at.store.call('many', { event: 'cancel', filter: { state: 'scheduled', order: 'due' } })
      await at.refused('INVALID_ARGUMENT', act)
      await assert.rejects(act, { message: /leave order 'due' away\. Nothing was changed\.$/ })
    },
  )

  holds('totals count what has happened, also after its jobs are gone; what was refused never happened', async (at) => {
    await at.store.call('setQueue', { queue: 'default', maxDepth: 5 })
    await at.submitMany({}, [1, 2, 3, 4, 5])
    await at.refused('QUEUE_FULL', () => at.submitMany({}, [1, 2], ['a', 'b']))
    const [done, failed, again, cancelled] = await at.lease(stranger, { slots: 4 })
    await at.succeed(done!)
    await at.fail(failed!, 'permanent')
    await at.fail(again!)
    await at.store.call('cancel', cancelled!.id)
    await at.fail(cancelled!)
    await at.store.call('remove', done!.id)
    const { queues } = await at.store.call('stats', null)
    assert.deepEqual(queues[0]!.totals, { submitted: 5, succeeded: 1, failed: 3, dead: 1, cancelled: 1 })
  })

  holds('workers: known while they are there, with slots and what they run', async (at) => {
    const id = await at.worker(7, [source('work'), source('mail', 'out')], 'mule')
    await at.running({}, id)
    const { workers } = await at.store.call('stats', null)
    const [{ name, slots, sources, running, alive, pid }] = workers as [(typeof workers)[number]]
    assert.ok(pid === process.pid || pid === null, 'its process, where that is known')
    assert.deepEqual(
      { name, slots, sources, running, alive },
      {
        name: 'mule',
        slots: 7,
        sources: [source('work'), source('mail', 'out')],
        running: 1,
        alive: true,
      },
    )
    assert.notEqual(await at.worker(), id)
    await at.store.call('unregister', id)
    assert.equal((await at.store.call('stats', null)).workers.length, 1)
  })

  holdsOverTime('stats: types that nobody handles, and how long the oldest ready job has waited', async (at) => {
    assert.equal((await at.store.call('stats', null)).oldestReadyMs, null)
    await at.worker(1, [source('work'), source('mail', 'out')])
    for (const type of ['work', 'mail', 'mail', 'odd']) await at.submit({ type })
    await at.submit({ type: 'work', queue: 'out', delay: '1h' })
    at.advance(5000)
    const { unhandled, oldestReadyMs } = await at.store.call('stats', null)
    assert.deepEqual(unhandled, [source('mail'), source('odd')])
    assert.equal(oldestReadyMs, 5000)
  })

  holds('why: one sentence for each state', async (at) => {
    const why = (id: number) => at.store.call('why', id)
    const lonely = await at.submit({ type: 'lonely' })
    assert.match(await why(lonely), /is ready, but no live worker handles type 'lonely' of queue 'default'/)
    await at.worker(3)
    const first = await at.submit()
    assert.match(await why(first), /ready and first of its type.*\(3 free now\)/)
    for (const priority of ['critical', 'high', 'high', 'low'] as const) await at.submit({ priority })
    assert.match(await why(await at.submit()), /behind 1 critical, 2 high, 1 normal of type 'work'.* 3 free slot/)
    await at.store.call('setQueue', { queue: 'default', paused: true })
    assert.match(await why(first), /queue 'default' is paused; it runs after a resume/)
    await at.store.call('setQueue', { queue: 'default', paused: false })

    assert.match(
      await why(await at.submit({ delay: '2h' })),
      /waits until \S+Z \(in (2h|1h 59m)\), as it was submitted/,
    )
    const retrying = await at.running({ maxAttempts: 3 })
    await at.fail(retrying)
    assert.match(await why(retrying.id), /waits until .*to retry: its attempt failed \(2 attempts left\)/)

    const worker = await at.worker(1, [], 'mule')
    const running = await at.running({}, worker)
    assert.match(await why(running.id), /is running attempt 1, leased by worker mule until /)
    await at.store.call('cancel', running.id)
    assert.match(await why(running.id), /was asked to stop/)
    await at.succeed(running)
    assert.match(await why(running.id), /succeeded at .*on attempt 1/)

    for (const [reason, job, kind] of [
      ['all of its 1 attempts failed', await at.running({ maxAttempts: 1 }), 'temporary'],
      ['its handler reported a permanent error', await at.running(), 'permanent'],
      ['an attempt ran out of time', await at.running({ onTimeout: 'dead' }), 'timeout'],
    ] as const) {
      await at.fail(job, kind)
      assert.match(await why(job.id), new RegExp(`is dead since .*: ${reason}`))
    }
    await at.store.call('cancel', first)
    assert.match(await why(first), /was cancelled at/)
  })

  holdsOverTime('why: a deadline that passed', async (at) => {
    await at.worker()
    const id = await at.submit({ deadline: '1s' })
    at.advance(1250)
    assert.match(await at.store.call('why', id), /is dead .*its deadline passed before an attempt started/)
  })
}
