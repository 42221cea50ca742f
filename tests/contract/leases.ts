import assert from 'node:assert/strict'
import type { LeasedJob } from '../../src/store/store.ts'
import { stranger } from '../support/subject.ts'
import type { Suite } from './contract.ts'

/** Past a timeout, a lease lasts this much longer: a live worker reports the timeout itself. */
const grace = 1000

export function leases({ holds, holdsOverTime }: Suite): void {
  holds('a lease counts the attempt and names worker, start and expiry', async (at) => {
    const worker = await at.worker(5, [{ queue: 'default', type: 'work' }], 'mule')
    const leased = await at.running({ priority: 'high', maxAttempts: 3, timeout: '1h', deadline: '2h' }, worker)
    const job = await at.job(leased.id)
    assert.deepEqual([job.state, job.attempt, job.attemptsLeft, job.worker], ['running', 1, 2, 'mule'])
    const lasts = job.leaseExpiresAt! - job.startedAt!
    assert.ok(lasts >= 30_000 && lasts < 40_000, `${lasts}`) // a worker on the network confirms that it was received, which renews it
    const { priority, attempt, tries, maxAttempts, timeout, deadline, createdAt, startedAt, payload } = leased
    assert.deepEqual(
      { priority, attempt, tries, maxAttempts, payload },
      { priority: 1, attempt: 1, tries: 1, maxAttempts: 3, payload: 'null' },
    )
    assert.deepEqual([timeout, deadline, createdAt, startedAt], [3_600_000, job.deadline, job.createdAt, job.startedAt])
  })

  holds('a stale token gets LEASE_LOST for every report, and the newer attempt is untouched', async (at) => {
    const stale = await at.running()
    await at.store.call('release', stale)
    const [current] = await at.lease(stranger)
    assert.equal(current!.id, stale.id)
    assert.notEqual(current!.token, stale.token)
    for (const report of [
      () => at.succeed(stale, 'zombie'),
      () => at.fail(stale),
      () => at.fail(stale, 'permanent'),
      () => at.fail(stale, 'timeout'),
      () => at.store.call('heartbeat', stale),
      () => at.store.call('release', stale),
    ])
      await at.refused('LEASE_LOST', report)
    await at.succeed(current!, 'mine')
    assert.equal((await at.job(current!.id)).result, 'mine')
  })

  holds('the right token of another job is no right to this one', async (at) => {
    const one = await at.running()
    const other = await at.running()
    await at.refused('LEASE_LOST', () => at.succeed({ ...one, token: other.token }))
  })

  holds('an outcome is taken once', async (at) => {
    const job = await at.running()
    const fates = await Promise.all([at.succeed(job, 'first'), at.succeed(job, 'second'), at.fail(job)])
    assert.deepEqual(fates, Array(3).fill({ state: 'succeeded', runAt: null, reason: null }))
    assert.equal((await at.job(job.id)).result, 'first')
    assert.deepEqual((await at.store.call('attempts', job.id)).length, 1)
  })

  holds('a report that is sent again is answered with what came of it, and changes nothing', async (at) => {
    const job = await at.running({ maxAttempts: 2, backoff: { kind: 'constant', delay: '1h' } })
    const reports = () => [at.fail(job), at.fail(job, 'permanent'), at.succeed(job), at.store.call('release', job)]
    const scheduled = await at.fail(job)
    assert.equal(scheduled.state, 'scheduled')
    const before = await at.everything()
    for (const report of reports()) assert.deepEqual(await report, scheduled)
    for (const operation of ['heartbeat', 'checkpoint'] as const)
      await at.refused('LEASE_LOST', () =>
        operation === 'heartbeat'
          ? at.store.call('heartbeat', job)
          : at.store.call('checkpoint', { lease: job, state: '1' }),
      )
    assert.deepEqual(await at.everything(), before)
    await at.store.call('cancel', job.id)
    for (const report of reports()) assert.equal((await report).state, 'cancelled')
    await at.store.call('retry', job.id)
    const [next] = await at.lease(stranger)
    assert.equal((await at.fail(job)).state, 'running') // of the next attempt, which goes on
    assert.equal((await at.fail(next!, 'permanent')).reason, 'permanent')
    for (const report of reports()) assert.deepEqual(await report, { state: 'dead', runAt: null, reason: 'permanent' })
    await at.store.call('remove', job.id)
    assert.equal((await at.fail(next!)).reason, 'permanent')
    await assert.rejects(at.fail(job), { code: 'LEASE_LOST', accepted: 'unknown' }) // only the last report is known still
  })

  holds('what a release after a cancellation came to is told again; any other release is forgotten', async (at) => {
    const [cancelled, released] = [await at.running(), await at.running()]
    await at.store.call('cancel', cancelled.id)
    for (let times = 0; times < 2; times++) assert.equal((await at.store.call('release', cancelled)).state, 'cancelled')
    await at.store.call('release', released)
    await at.refused('LEASE_LOST', () => at.store.call('release', released))
    const message = /holds no lease on job \d+ \(the job is ready now\): .*the attempt gave the job back/
    await assert.rejects(at.store.call('release', released), { message })
  })

  holdsOverTime('a report of an attempt that was taken from its worker stays refused', async (at) => {
    await at.worker()
    const job = await at.running({ maxAttempts: 1 })
    for (let i = 0; i < 20; i++) at.advance(5000)
    assert.equal(await at.state(job.id), 'dead')
    await at.refused('LEASE_LOST', () => at.fail(job))
    await at.refused('LEASE_LOST', () => at.succeed(job))
  })

  holdsOverTime('a success whose job retention took at once is told again for an hour', async (at) => {
    await at.worker()
    await at.store.call('setQueue', { queue: 'default', keepSucceeded: 0 })
    const job = await at.running()
    await at.succeed(job)
    at.advance(1000)
    assert.equal(await at.state(job.id), 'gone')
    assert.equal((await at.succeed(job)).state, 'succeeded')
    for (let minutes = 0; minutes < 62; minutes++) at.advance(60_000)
    await assert.rejects(at.succeed(job), { code: 'LEASE_LOST', accepted: 'unknown' })
  })

  holds('a release is not charged and leaves no trace; the next attempt has the same number', async (at) => {
    const job = await at.running({ maxAttempts: 1 })
    assert.deepEqual(await at.store.call('release', job), { state: 'ready', runAt: null, reason: null })
    const { attempt, attemptsLeft, startedAt, worker, leaseExpiresAt } = await at.job(job.id)
    assert.deepEqual([attempt, attemptsLeft, startedAt, worker, leaseExpiresAt], [0, 1, null, null, null])
    assert.deepEqual(await at.store.call('attempts', job.id), [])
    assert.equal((await at.lease(stranger))[0]!.attempt, 1)
  })

  holdsOverTime('a heartbeat extends the lease by a whole visibility timeout, and says whether to stop', async (at) => {
    const job = await at.running({ visibilityTimeout: '10s' })
    at.advance(9000)
    const kept = await at.store.call('heartbeat', job)
    assert.deepEqual(kept, { expiresAt: at.now + 10_000, cancelRequested: false })
    await at.store.call('cancel', job.id)
    assert.equal((await at.store.call('heartbeat', job)).cancelRequested, true)
  })

  holdsOverTime('a heartbeat never carries an attempt past its timeout', async (at) => {
    const job = await at.running({ visibilityTimeout: '10s', timeout: '12s' })
    at.advance(9000)
    const { expiresAt } = await at.store.call('heartbeat', job)
    assert.equal(expiresAt, job.startedAt + 12_000 + grace)
  })

  holdsOverTime(
    'a lease without heartbeats is found over at its expiry, and taken half of its life later: the attempt is recorded',
    async (at) => {
      await at.worker()
      const job = await at.running()
      await at.store.call('heartbeat', job) // confirms that it was received
      at.advance(30_000)
      at.advance(14_750)
      assert.equal(await at.state(job.id), 'running')
      at.advance(250)
      const { state, attempt, attemptsLeft } = await at.job(job.id)
      assert.deepEqual([state, attempt, attemptsLeft], ['ready', 1, 11])
      const [record] = await at.store.call('attempts', job.id)
      assert.deepEqual([record?.attempt, record?.outcome, record?.error?.name], [1, 'lost', 'LeaseLost'])
      await at.refused('LEASE_LOST', () => at.succeed(job))
      assert.equal((await at.lease(stranger + 1))[0]!.attempt, 2)
    },
  )

  holdsOverTime('heartbeats carry no attempt past its timeout, however long they go on', async (at) => {
    await at.worker()
    const job = await at.running({ timeout: '1m' })
    for (let second = 0; second < 120 && (await at.state(job.id)) === 'running'; second += 10) {
      await at.store.call('heartbeat', job)
      at.advance(10_000)
    }
    const [record] = await at.store.call('attempts', job.id)
    assert.deepEqual([await at.state(job.id), record?.outcome], ['scheduled', 'timeout'])
  })

  holdsOverTime('a job that kills its worker each time ends dead', async (at) => {
    await at.worker()
    let job: LeasedJob | undefined = await at.running({ maxAttempts: 3, backoff: { kind: 'constant', delay: '1m' } })
    const { id } = job
    for (const state of ['ready', 'scheduled', 'dead']) {
      await at.store.call('heartbeat', job!)
      at.lapse()
      assert.equal(await at.state(id), state)
      at.advance(60_000)
      job = (await at.lease(stranger))[0]
    }
    assert.equal((await at.job(id)).reason, 'exhausted')
    assert.deepEqual(
      (await at.store.call('attempts', id)).map(({ outcome }) => outcome),
      ['lost', 'lost', 'lost'],
    )
  })

  holdsOverTime('the reaper tells what it took back', async (at) => {
    await at.worker()
    const { id } = await at.running()
    at.lapse()
    const fate = { state: 'ready', runAt: null, reason: null }
    const told = at.events.filter(({ event }) => event === 'reclaimed')
    assert.deepEqual(told, [{ event: 'reclaimed', id, queue: 'default', type: 'work', fate }])
  })

  holdsOverTime('the store itself renews what its own workers hold, up to the timeout', async (at) => {
    const worker = await at.worker()
    const job = await at.running({ visibilityTimeout: '3s', timeout: '20s' }, worker)
    for (let second = 1; second <= 20; second++) {
      at.advance(1000)
      const { state, leaseExpiresAt } = await at.job(job.id)
      assert.ok(state === 'running' && leaseExpiresAt! - at.now >= Math.min(2000, 21_000 - second * 1000))
    }
    at.advance(grace)
    const [record] = await at.store.call('attempts', job.id)
    assert.deepEqual([await at.state(job.id), record?.outcome], ['scheduled', 'timeout'])
  })

  holdsOverTime('what was reported is not told as lost', async (at) => {
    const worker = await at.worker()
    const [a, b, c] = [await at.running({}, worker), await at.running({}, worker), await at.running({}, worker)]
    await Promise.all([at.succeed(a), at.fail(b), at.store.call('release', c)])
    at.advance(20_000)
    assert.deepEqual(at.events, [])
  })

  holdsOverTime('a process that was stopped for a while still has its leases', async (at) => {
    const worker = await at.worker()
    const job = await at.running({}, worker)
    at.advance(120_000)
    assert.equal((await at.job(job.id)).leaseExpiresAt, at.now + 30_000)
    assert.equal((await at.succeed(job)).state, 'succeeded')
  })

  holdsOverTime('a wall clock set back delays nothing that is ready and keeps leases renewed', async (at) => {
    const worker = await at.worker()
    const ready = await at.submit({ type: 'other' })
    at.tick()
    at.time.clock.jump(-3_600_000)
    const job = await at.running({}, worker)
    assert.deepEqual(
      (await at.lease(worker, { types: ['other'] })).map(({ id }) => id),
      [ready],
    )
    for (let i = 0; i < 4; i++) at.advance(10_000)
    const { state, leaseExpiresAt } = await at.job(job.id)
    assert.ok(state === 'running' && leaseExpiresAt! > at.now)
  })

  holdsOverTime(
    'a wall clock set back stretches no backoff and no delay, only what is named by the clock',
    async (at) => {
      const worker = await at.worker()
      const retrying = await at.running({ backoff: { kind: 'constant', delay: 3000 } }, worker)
      const delayed = await at.submit({ delay: '3s' })
      const named = await at.submit({ runAt: at.now + 3000 })
      await at.fail(retrying)
      at.tick()
      at.time.clock.jump(-3_600_000)
      at.advance(2750)
      const states = () => Promise.all([retrying.id, delayed, named].map((id) => at.state(id)))
      assert.deepEqual(await states(), ['scheduled', 'scheduled', 'scheduled'])
      at.advance(500)
      assert.deepEqual(await states(), ['ready', 'ready', 'scheduled'])
      assert.deepEqual(at.store.health.causes.map(({ code }) => code), ['CLOCK_SET_BACK']) // biome-ignore format: one line
      assert.equal(at.store.health.works.submit, true)
      at.advance(3_600_000)
      assert.deepEqual(at.store.health.causes, [])
      assert.deepEqual(await states(), ['ready', 'ready', 'ready'])
    },
  )

  for (const watched of [0, 14_750])
    holdsOverTime(`a gap after ${watched} ms takes nothing in the next transaction: others renew first`, async (at) => {
      await at.worker()
      const [job, other] = [await at.running(), await at.running()]
      at.advance(30_000) // found over
      at.advance(watched)
      at.time.clock.advance(60_000) // the process stands still
      at.tick()
      assert.equal(await at.state(job.id), 'running')
      await at.store.call('heartbeat', job)
      at.advance(15_000)
      assert.deepEqual([await at.state(job.id), await at.state(other.id)], ['running', 'ready'])
    })

  for (const jump of [-5000, -3_600_000])
    holdsOverTime(`a foreign lease lasts its time although the wall clock jumps by ${jump} ms`, async (at) => {
      await at.worker()
      const { id } = await at.running()
      at.advance(250)
      at.advance(9750)
      at.time.clock.jump(jump)
      at.advance(20_250)
      at.advance(14_750)
      assert.equal(await at.state(id), 'running')
      at.advance(250)
      assert.notEqual(await at.state(id), 'running')
    })

  holdsOverTime('a wall clock that jumps ahead takes no lease that is renewed within half of its life', async (at) => {
    await at.worker()
    const job = await at.running()
    at.advance(10_000)
    at.time.clock.jump(3_600_000)
    at.tick()
    at.advance(14_000)
    await at.store.call('heartbeat', job)
    at.advance(14_000)
    assert.equal(await at.state(job.id), 'running')
  })

  holdsOverTime(
    'a wall clock that jumps ahead twice takes no lease that is renewed within half of its life',
    async (at) => {
      await at.worker()
      const job = await at.running()
      at.advance(10_000)
      at.time.clock.jump(3_600_000)
      at.tick()
      at.advance(2000)
      at.time.clock.jump(3_600_000)
      at.advance(12_000)
      assert.equal(await at.state(job.id), 'running')
      await at.store.call('heartbeat', job)
      at.advance(14_000)
      assert.equal(await at.state(job.id), 'running')
    },
  )

  holdsOverTime('heartbeats keep a lease up to its timeout although the wall clock jumps past it', async (at) => {
    await at.worker()
    const job = await at.running({ timeout: '1m' })
    at.advance(250)
    at.time.clock.jump(3_600_000)
    for (let i = 0; i < 4; i++) {
      const { expiresAt } = await at.store.call('heartbeat', job)
      assert.equal(expiresAt - at.now, Math.min(30_000, 60_750 - i * 10_000))
      at.advance(10_000)
    }
    const { expiresAt } = await at.store.call('heartbeat', job)
    assert.equal(expiresAt - at.now, 20_750)
    at.advance(10_000)
    assert.equal(await at.state(job.id), 'running')
  })

  holdsOverTime('an attempt has its time although the wall clock jumps past its timeout', async (at) => {
    const worker = await at.worker()
    const { id } = await at.running({ timeout: '1m' }, worker)
    at.advance(10_000)
    at.time.clock.jump(3_600_000)
    for (let i = 0; i < 5; i++) at.advance(10_000)
    assert.equal(await at.state(id), 'running')
    at.advance(grace)
    const [record] = await at.store.call('attempts', id)
    assert.deepEqual([await at.state(id), record?.outcome], ['scheduled', 'timeout'])
  })

  holds('a worker that leaves gives back all it holds, uncharged', async (at) => {
    const worker = await at.worker()
    const jobs = [await at.running({}, worker), await at.running({}, worker)]
    const other = await at.running()
    await at.store.call('cancel', jobs[1]!.id)
    await at.store.call('unregister', worker)
    const states = (await at.all()).map(({ id, state, attempt }) => [id, state, attempt])
    assert.deepEqual(states, [
      [jobs[0]!.id, 'ready', 0],
      [jobs[1]!.id, 'cancelled', 1],
      [other.id, 'running', 1],
    ])
    const { workers } = await at.store.call('stats', null)
    assert.deepEqual(workers.filter(({ id }) => id === worker), []) // biome-ignore format: short
    await at.refused('LEASE_LOST', () => at.succeed(jobs[0]!))
  })
}
