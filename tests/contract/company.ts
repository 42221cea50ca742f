import assert from 'node:assert/strict'
import type { LeasedJob } from '../../src/store/store.ts'
import type { Options, Subject } from '../support/subject.ts'
import type { Suite } from './contract.ts'

const sources = [{ queue: 'default', type: 'work' }]

/** A worker on the network; those with the same `instance` are one process. */
function far(at: Subject, instance?: string): Promise<number> {
  return at.store.call('register', {
    name: 'far',
    sources,
    slots: 10,
    remote: '10.0.0.7',
    ...(instance && { instance }),
  })
}

/** Lets the leases of these jobs run out, after a word of their worker: so they were surely received. */
async function lapse(at: Subject, jobs: LeasedJob[]): Promise<void> {
  at.advance(1000)
  for (const job of jobs) await at.store.call('heartbeat', job)
  at.lapse()
}

const ids = (jobs: LeasedJob[]) => jobs.map(({ id }) => id)

/** n jobs that were lost beside each other. */
async function lostTogether(at: Subject, n: number, options: Options = {}): Promise<number[]> {
  await at.submitMany(options, Array(n).fill(0))
  const jobs = await at.lease(await far(at), { slots: n, queues: [options.queue ?? 'default'] })
  assert.equal(jobs.length, n)
  await lapse(at, jobs)
  return ids(jobs)
}

export function company({ holdsOverTime }: Suite): void {
  holdsOverTime('jobs lost beside each other are not charged, and run beside half as many next time', async (at) => {
    await at.worker()
    const lost = await lostTogether(at, 5)
    for (const id of lost) {
      const { state, attempt, attemptsLeft } = await at.job(id)
      assert.deepEqual([state, attempt, attemptsLeft], ['ready', 1, 12])
      const [record] = await at.store.call('attempts', id)
      assert.match(record!.error!.message, /fell silent while it and 4 others ran/)
    }
    const worker = await far(at)
    const three = await at.lease(worker)
    assert.deepEqual(ids(three), lost.slice(0, 3))
    await lapse(at, three)
    assert.equal((await at.lease(await far(at))).length, 2)
    assert.equal((await at.lease(await far(at))).length, 2)
    const alone = await at.lease(await far(at))
    assert.equal(alone.length, 1)
    await at.succeed(alone[0]!)
  })

  holdsOverTime('a job lost alone is charged: ready once, then by its backoff, then dead', async (at) => {
    await at.worker()
    let job = await at.running({ maxAttempts: 3, backoff: { kind: 'constant', delay: '1m' } }, await far(at))
    const { id } = job
    for (const expected of ['ready 2', 'scheduled 1', 'dead 0']) {
      await lapse(at, [job])
      const { state, attemptsLeft } = await at.job(id)
      assert.equal(`${state} ${attemptsLeft}`, expected)
      at.advance(60_000)
      job = (await at.lease(await far(at)))[0]!
    }
    const [first] = await at.store.call('attempts', id)
    assert.match(first!.error!.message, /it ran alone/)
  })

  holdsOverTime(
    'a job with one attempt is never started again after a loss; retried, it has less company',
    async (at) => {
      await at.worker()
      const lost = await lostTogether(at, 4, { maxAttempts: 1 })
      for (const id of lost) {
        const { state, reason } = await at.job(id)
        assert.deepEqual([state, reason], ['dead', 'exhausted'])
      }
      for (const id of lost) await at.store.call('retry', id)
      assert.deepEqual(ids(await at.lease(await far(at))), lost.slice(0, 2))
    },
  )

  for (const kind of ['temporary', 'permanent', 'timeout'] as const)
    holdsOverTime(`a failure (${kind}) ends what losses have limited, also of a job that it ends`, async (at) => {
      await at.worker()
      const [lost, other] = await lostTogether(at, 2, { backoff: { kind: 'constant', delay: '1s' } })
      const worker = await far(at)
      const [job] = await at.lease(worker)
      assert.equal(job!.id, lost)
      assert.deepEqual(await at.lease(worker), [], 'it runs alone')
      const { state } = await at.fail(job!, kind)
      await at.store.call('cancel', other!)
      if (state === 'dead') await at.store.call('retry', lost!)
      at.advance(1000)
      const more = await at.submit()
      assert.deepEqual(ids(await at.lease(worker)), [lost, more])
    })

  holdsOverTime('workers of one instance are one process: for losses, and for what it may hold', async (at) => {
    await at.worker()
    await at.submitMany({}, Array(4).fill(0))
    const workers = [await far(at, 'p'), await far(at, 'p')]
    const jobs = [...(await at.lease(workers[0]!, { slots: 2 })), ...(await at.lease(workers[1]!, { slots: 2 }))]
    await lapse(at, jobs)
    const [record] = await at.store.call('attempts', jobs[3]!.id)
    assert.match(record!.error!.message, /it and 3 others/)
    const again = [await far(at, 'q'), await far(at, 'q')]
    assert.equal((await at.lease(again[0]!, { slots: 1 })).length, 1)
    assert.equal((await at.lease(again[1]!)).length, 1)
    assert.deepEqual(await at.lease(again[0]!), [])
  })

  holdsOverTime(
    'a loss is known until all of its jobs are taken, however late and whatever has become of the others',
    async (at) => {
      await at.worker()
      const worker = await far(at, 'p')
      const first = await at.running({}, worker)
      const last = await at.running({ visibilityTimeout: '8d', timeout: '30d' }, worker)
      await lapse(at, [first, last])
      const [again] = await at.lease(await far(at))
      await at.succeed(again!)
      await at.store.call('remove', first.id)
      at.lapse(8 * 86_400_000)
      const [record] = await at.store.call('attempts', last.id)
      assert.match(record!.error!.message, /it and 1 other ran/)
      assert.equal((await at.job(last.id)).attemptsLeft, 12)
    },
  )

  holdsOverTime('two that registered from one address are two processes', async (at) => {
    await at.worker()
    await at.submitMany({}, Array(4).fill(0))
    const workers = [await far(at), await far(at)]
    const jobs = [...(await at.lease(workers[0]!, { slots: 2 })), ...(await at.lease(workers[1]!, { slots: 2 }))]
    await lapse(at, jobs)
    const [record] = await at.store.call('attempts', jobs[3]!.id)
    assert.match(record!.error!.message, /it and 1 other ran/)
  })

  holdsOverTime('a worker that had begun to stop: no evidence, until it takes jobs again', async (at) => {
    await at.worker()
    const worker = await far(at)
    const job = await at.running({}, worker)
    await at.store.call('stopping', worker)
    await lapse(at, [job])
    assert.deepEqual([(await at.job(job.id)).state, (await at.job(job.id)).attemptsLeft], ['ready', 12])
    at.advance(30_000)
    const [again] = await at.lease(worker)
    await lapse(at, [again!])
    assert.equal((await at.job(job.id)).attemptsLeft, 11)
  })

  holdsOverTime('who asks for other types is not held back for a job that it would not get', async (at) => {
    await at.worker()
    const long = await at.submit({ type: 'long' })
    const [first] = await lostTogether(at, 2)
    const worker = await far(at)
    assert.deepEqual(ids(await at.lease(worker, { types: ['long'] })), [long])
    assert.deepEqual(await at.lease(worker, { types: ['work', 'other'] }), [])
    const other = await at.submit({ type: 'other' })
    assert.deepEqual(await at.lease(worker, { types: ['work', 'other'] }), [])
    assert.deepEqual(ids(await at.lease(worker, { types: ['other'] })), [other])
    assert.equal(await at.state(first!), 'ready')
  })

  holdsOverTime('others are held back for it too when the worker that found it first no longer waits', async (at) => {
    await at.worker()
    const [one, two] = [await far(at, 'p'), await far(at, 'p')]
    await at.submit({ type: 'long', visibilityTimeout: '1h' })
    assert.equal((await at.lease(one, { types: ['long'] })).length, 1)
    await lostTogether(at, 2)
    const waiting = at.ask(two, { types: ['work', 'other'] })
    await at.settle()
    assert.deepEqual(await at.lease(one), [])
    const other = await at.submit({ type: 'other' })
    await at.settle()
    assert.deepEqual([waiting.jobs, await at.state(other)], [undefined, 'ready'])
  })

  holdsOverTime('a job of limited company that may not start holds nobody back', async (at) => {
    await at.worker()
    await at.submit({ type: 'long' })
    await lostTogether(at, 2, { queue: 'slow' })
    const worker = await far(at)
    await at.lease(worker, { types: ['long'] })
    const both = { queues: ['slow', 'default'] }
    const other = await at.submit({})
    assert.deepEqual(await at.lease(worker, both), [])
    await at.store.call('setQueue', { queue: 'slow', paused: true })
    assert.deepEqual(ids(await at.lease(worker, both)), [other])
  })

  holdsOverTime('a worker that is held back for a job gets the others at once when that is cancelled', async (at) => {
    await at.worker()
    await at.submit({ type: 'long' })
    const [waits, second] = await lostTogether(at, 2)
    await at.store.call('cancel', second!)
    const worker = await far(at)
    await at.lease(worker, { types: ['long'] })
    const other = await at.submit()
    const asked = at.ask(worker)
    await at.settle()
    assert.equal(asked.jobs, undefined)
    await at.store.call('cancel', waits!)
    await at.settle()
    assert.deepEqual(ids(asked.jobs!), [other])
  })

  holdsOverTime('higher classes pass a job that waits for room, but not for ever', async (at) => {
    await at.worker()
    await at.submit({ type: 'long' })
    const [waits] = await lostTogether(at, 2)
    const worker = await far(at)
    const both = { types: ['long', 'work'] }
    const held = await at.lease(worker, { types: ['long'] })
    assert.deepEqual(await at.lease(worker, both), [])
    const steady = await at.submitMany({ type: 'long', priority: 'high' }, Array(100).fill(0))
    let leased = 0
    for (let second = 0; second < 60 && (await at.state(waits!)) === 'ready'; second++) {
      for (const job of held.splice(0)) await at.succeed(job)
      at.advance(1000)
      held.push(...(await at.lease(worker, { ...both, slots: 1 })))
      leased++
    }
    assert.equal(await at.state(waits!), 'running')
    assert.ok(leased > 4 && (await at.job(steady.ids[0]!)).state === 'succeeded', `${leased}`)
  })

  holdsOverTime(
    'an older job of its class goes first, however many of higher classes a drained process leaves',
    async (at) => {
      await at.worker()
      const old = await at.submit({ type: 'old' })
      const [waits] = await lostTogether(at, 2)
      await at.submitMany({ type: 'long' }, Array(2).fill(0))
      const worker = await far(at)
      const [first] = await at.lease(worker, { types: ['long'] })
      assert.deepEqual(await at.lease(worker, { types: ['work'] }), [])
      const high = await at.submitMany({ type: 'old', priority: 'high' }, Array(3).fill(0))
      at.advance(6000)
      await at.succeed(first!)
      assert.deepEqual(ids(await at.lease(worker, { types: ['old', 'work'], slots: 3 })), [old])
      assert.deepEqual(await at.lease(worker, { types: ['old', 'work'], slots: 3 }), [])
      assert.equal(await at.state(waits!), 'ready')
      assert.deepEqual(ids(await at.lease(await far(at), { types: ['old'], slots: 1 })), [high.ids[0]])
    },
  )

  holdsOverTime('the next job that waits for room has higher classes pass it for 5 s of its own wait', async (at) => {
    await at.worker()
    await at.submitMany({ type: 'long', visibilityTimeout: '1h' }, Array(3).fill(0))
    const worker = await far(at)
    const long = await at.lease(worker, { types: ['long'] })
    const lost = await lostTogether(at, 5)
    assert.deepEqual(await at.lease(worker), [])
    at.advance(6000)
    for (const job of long) await at.succeed(job)
    const three = await at.lease(worker)
    assert.deepEqual(ids(three), lost.slice(0, 3))
    for (const job of three) await at.succeed(job)
    const high = await at.submit({ priority: 'high' })
    assert.equal((await at.lease(worker))[0]!.id, high)
  })

  holdsOverTime('a job that waits for room, and is lost elsewhere meanwhile, waits for more room', async (at) => {
    await at.worker()
    await at.submitMany({ type: 'long', visibilityTimeout: '1h' }, Array(3).fill(0))
    const worker = await far(at)
    const long = await at.lease(worker, { types: ['long'] })
    const lost = await lostTogether(at, 5)
    const work = { types: ['work'] }
    assert.deepEqual(await at.lease(worker, work), [])
    const elsewhere = await at.lease(await far(at), work)
    assert.deepEqual(ids(elsewhere), lost.slice(0, 3))
    await lapse(at, elsewhere)
    await at.succeed(long[0]!)
    assert.deepEqual(await at.lease(worker, work), [], 'two run here, and it may run beside one')
    await at.succeed(long[1]!)
    assert.equal((await at.lease(worker, work))[0]!.id, lost[0])
  })

  holdsOverTime(
    'a lost lease whose handler may go on keeps its job from that worker for 30 s, from no other',
    async (at) => {
      await at.worker()
      const [here, there] = [await far(at), await far(at)]
      const job = await at.running({ visibilityTimeout: '3s' }, here)
      at.lapse(3000)
      assert.deepEqual(await at.lease(here), [])
      at.advance(29_000)
      assert.deepEqual(await at.lease(here), [])
      const [other] = await at.lease(there)
      assert.equal(other!.id, job.id)
      await at.store.call('release', other!)
      at.advance(1000)
      assert.equal((await at.lease(here))[0]!.id, job.id)
    },
  )

  holdsOverTime(
    'a worker that stood back for a job, which another process has now, is tried for all of its lines',
    async (at) => {
      await at.worker()
      await lostTogether(at, 2)
      const [here, there] = [await far(at), await far(at)]
      await at.succeed((await at.lease(there))[0]!) // the other one is alone in what it may run beside
      await at.running({ type: 'long' }, here)
      const older = await at.submit()
      const asked = at.ask(here, { types: ['work', 'other'], slots: 3 })
      await at.settle()
      assert.equal(asked.jobs, undefined)
      assert.equal((await at.lease(there)).length, 1)
      const younger = await at.submit({ type: 'other' })
      await at.settle()
      assert.deepEqual(ids(asked.jobs!), [older, younger])
    },
  )

  for (const jump of [3_600_000, -3_600_000])
    holdsOverTime(
      `a handler that goes on keeps its job for 30 s although the wall clock jumps by ${jump} ms`,
      async (at) => {
        const worker = await at.worker()
        const lease = await at.running({}, worker)
        const error = { name: 'Timeout', message: '', stack: null }
        await at.store.call('fail', { lease, kind: 'timeout', error, retryAfter: 0, goesOn: true })
        at.time.clock.jump(jump)
        at.advance(29_000)
        assert.deepEqual(await at.lease(worker), [])
        at.advance(1000)
        assert.equal((await at.lease(worker))[0]!.id, lease.id)
      },
    )

  holdsOverTime('what a leaving worker still runs does not start beside it in its process for 30 s', async (at) => {
    const [leaves, stays] = [await at.worker(), await at.worker()]
    const job = await at.running({}, leaves)
    await at.store.call('unregister', leaves)
    assert.deepEqual(await at.lease(stays), [])
    assert.match(await at.store.call('why', job.id), /is ready, but the process of worker w still runs a handler of it/)
    const [other] = await at.lease(await far(at))
    assert.deepEqual([other!.id, other!.tries], [job.id, 1])
    await at.store.call('release', other!)
    at.advance(29_000)
    assert.deepEqual(await at.lease(stays), [])
    at.advance(1000)
    assert.equal((await at.lease(stays))[0]!.id, job.id)
  })

  holdsOverTime('of several handlers that go on in a worker one ends: it may have that job again', async (at) => {
    const worker = await at.worker(3)
    const leases = [await at.running({}, worker), await at.running({}, worker), await at.running({}, worker)]
    const error = { name: 'Timeout', message: '', stack: null }
    for (const lease of leases)
      await at.store.call('fail', { lease, kind: 'timeout', error, retryAfter: 0, goesOn: true })
    await at.store.call('settled', leases[1]!)
    assert.deepEqual(ids(await at.lease(worker)), [leases[1]!.id])
  })

  holdsOverTime('once its handler has ended, the worker may have the job again', async (at) => {
    const here = await far(at)
    const job = await at.running({ visibilityTimeout: '3s' }, here)
    const local = await at.worker()
    at.lapse(3000)
    assert.deepEqual(await at.lease(here), [])
    const why = () => at.store.call('why', job.id)
    assert.match(await why(), /first of its type/) // of the worker here
    await at.store.call('unregister', local)
    assert.match(await why(), /worker far still runs a handler of it.*at the latest 30s after that process heard of it/)
    await at.store.call('settled', job)
    assert.match(await why(), /first of its type/)
    assert.equal((await at.lease(here))[0]!.id, job.id)
  })

  holdsOverTime('handlers that a remote worker never reports as ended are no company for ever', async (at) => {
    await at.worker()
    const worker = await far(at)
    const first = await at.running({}, worker)
    await lapse(at, [first])
    await at.succeed((await at.lease(await far(at)))[0]!)
    at.advance(1000)
    const next = await at.running({}, worker)
    await lapse(at, [next])
    assert.equal((await at.job(next.id)).attemptsLeft, 11)
  })

  holdsOverTime('a lease that nobody confirmed is not charged either while a handler goes on beside it', async (at) => {
    await at.worker()
    const [lost] = await lostTogether(at, 2, { visibilityTimeout: '5s' })
    const worker = await far(at)
    await lapse(at, [await at.running({ priority: 'high' }, worker)]) // its handler goes on, as far as anyone can tell
    const job = (await at.lease(await far(at)))[0]!
    await at.succeed(job)
    const [alone] = await at.lease(worker)
    assert.equal(alone!.id, lost)
    at.lapse(5000)
    assert.equal((await at.job(lost!)).attemptsLeft, 12)
  })

  holdsOverTime(
    'own attempts that run out while the app says nothing: beside others a loss, alone a timeout',
    async (at) => {
      const worker = await at.worker()
      const policy = { timeout: '5s', onTimeout: 'dead' } as const
      const jobs = [await at.running(policy, worker), await at.running(policy, worker)]
      for (let second = 0; second < 6; second++) at.advance(1000)
      for (const { id } of jobs) {
        const [record] = await at.store.call('attempts', id)
        assert.deepEqual([await at.state(id), record?.outcome, (await at.job(id)).attemptsLeft], ['ready', 'lost', 12])
        assert.match(record!.error!.message, /stood still while it and 1 other ran/)
      }
      for (const job of jobs) await at.store.call('settled', job)
      const [alone] = await at.lease(worker)
      for (let second = 0; second < 6; second++) at.advance(1000)
      assert.deepEqual([(await at.job(alone!.id)).state, (await at.job(alone!.id)).reason], ['dead', 'timeout'])
    },
  )

  holdsOverTime(
    "a process whose app's thread stands still is given no further job, until something comes from it",
    async (at) => {
      const worker = await at.worker()
      const hangs = await at.running({ timeout: '5s', backoff: { kind: 'constant', delay: '1h' } }, worker)
      const asked = at.ask(worker)
      const given = () => asked.jobs?.length
      await at.submit({ delay: '10s' })
      for (let second = 0; second < 12; second++) at.advance(1000)
      for (let turn = 0; turn < 5; turn++) await Promise.resolve()
      assert.equal(given(), undefined)
      await at.settle()
      assert.equal(given(), 1)
      assert.equal(await at.state(hangs.id), 'scheduled')
    },
  )
}
