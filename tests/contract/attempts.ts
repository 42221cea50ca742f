import assert from 'node:assert/strict'
import { type Subject, stranger } from '../support/subject.ts'
import type { Suite } from './contract.ts'

const constant = { kind: 'constant', delay: '10s' } as const

/** Leases the one job again as soon as it is due, and fails it: the delays before each attempt but the first. */
async function failures(at: Subject, id: number): Promise<number[]> {
  const delays: number[] = []
  for (;;) {
    const [job] = await at.lease(stranger)
    const fate = await at.fail(job!)
    if (fate.state !== 'scheduled') return delays
    delays.push(fate.runAt! - at.now)
    assert.equal((await at.job(id)).runAt, fate.runAt)
    at.advance(fate.runAt! - at.now)
  }
}

export function attempts({ holds, holdsOverTime }: Suite): void {
  holdsOverTime('a failed job comes back after its backoff until its attempts are used up', async (at) => {
    await at.worker()
    const id = await at.submit({ maxAttempts: 4, backoff: { kind: 'exponential', delay: '1s', factor: 3 } })
    assert.deepEqual(await failures(at, id), [1000, 3000, 9000])
    const { state, reason, attempt, attemptsLeft, finishedAt } = await at.job(id)
    assert.deepEqual([state, reason, attempt, attemptsLeft, finishedAt], ['dead', 'exhausted', 4, 0, at.now])
  })

  holdsOverTime('a retry is due at its instant, not before', async (at) => {
    const job = await at.running({ backoff: constant })
    await at.fail(job)
    at.time.clock.advance(9999)
    assert.deepEqual(await at.lease(stranger), [])
    at.time.clock.advance(1)
    const [again] = await at.lease(stranger)
    assert.deepEqual([again!.id, again!.attempt, again!.tries], [job.id, 2, 2])
  })

  holdsOverTime('retryAfter overrules the backoff, for one attempt', async (at) => {
    await at.worker()
    const job = await at.running({ backoff: constant })
    assert.equal((await at.fail(job, 'temporary', 77_000)).runAt, at.now + 77_000)
    at.advance(77_000)
    assert.equal((await at.fail((await at.lease(stranger))[0]!)).runAt, at.now + 10_000)
  })

  holds('a wait of years is taken as a text and by a handler that names a Date', async (at) => {
    const years = 800 * 86_400_000
    const { runAt, createdAt } = await at.job(await at.submit({ delay: '800d' }))
    assert.equal(runAt! - createdAt, years)
    const job = await at.running()
    assert.ok((await at.fail(job, 'temporary', years)).runAt! >= job.createdAt + years)
  })

  holdsOverTime('what its handler puts off comes back at that instant, as if it had not been tried', async (at) => {
    await at.worker()
    const job = await at.running({ maxAttempts: 1, backoff: constant })
    const fate = await at.fail(job, 'postpone', 77_000)
    assert.deepEqual(fate, { state: 'scheduled', runAt: at.now + 77_000, reason: null })
    const { attempt, attemptsLeft, postponed } = await at.job(job.id)
    assert.deepEqual([attempt, attemptsLeft, postponed, await at.store.call('attempts', job.id)], [0, 1, 1, []])
    assert.match(
      await at.store.call('why', job.id),
      /as its handler has put it off \(1 of at most 1000 times; 1 attempts left\)/,
    )
    assert.deepEqual(await at.fail(job, 'postpone', 1), fate, 'a report that is sent again moves nothing')
    at.time.clock.advance(76_999)
    assert.deepEqual(await at.lease(stranger), [])
    at.time.clock.advance(1)
    const [again] = await at.lease(stranger)
    assert.deepEqual([again!.id, again!.attempt, again!.tries], [job.id, 1, 1])
    assert.equal((await at.fail(again!)).reason, 'exhausted')
  })

  holdsOverTime('a job is put off 1,000 times in a budget, then that counts as a failure', async (at) => {
    const worker = await at.worker()
    const id = await at.submit({ maxAttempts: 2 })
    const putOff = async () => {
      at.tick() // it is due
      const [job] = await at.store.call('lease', at.request(worker)) // not at.lease, which waits for more: 58 s of it on PostgreSQL
      return at.fail(job!, 'postpone', 0)
    }
    for (let i = 0; i < 1000; i++) assert.equal((await putOff()).state, 'scheduled')
    assert.deepEqual([(await at.job(id)).attempt, await at.store.call('attempts', id)], [0, []])
    assert.equal((await putOff()).state, 'scheduled')
    assert.equal((await at.job(id)).attempt, 1)
    assert.equal((await putOff()).reason, 'exhausted')
    assert.match((await at.store.call('attempts', id))[1]!.error!.message, /^Put off 1000 times before/)
    await at.store.call('retry', id)
    assert.equal((await putOff()).state, 'scheduled')
    const { attempt, postponed } = await at.job(id)
    assert.deepEqual([attempt, postponed], [2, 1])
  })

  holdsOverTime('nothing is put off past its deadline: it expires then', async (at) => {
    await at.worker()
    const job = await at.running({ deadline: '1m' })
    const deadline = at.now + 60_000
    assert.equal((await at.fail(job, 'postpone', 120_000)).runAt, deadline)
    at.advance(60_000)
    at.advance(250)
    const { state, reason } = await at.job(job.id)
    assert.deepEqual([state, reason], ['dead', 'expired'])
  })

  holdsOverTime('a person runs what waits for its time: at its old place, its attempts as they are', async (at) => {
    await at.worker()
    const failed = await at.running({ backoff: constant })
    await at.fail(failed)
    const older = await at.submit({ delay: '1h' })
    const younger = await at.submit()
    for (const id of [older, failed.id]) assert.equal((await at.store.call('runNow', id)).state, 'ready')
    const { attempt, attemptsLeft, runAt } = await at.job(failed.id)
    assert.deepEqual([attempt, attemptsLeft, runAt], [1, 11, null])
    const leased = await at.lease(stranger, { slots: 3 })
    assert.deepEqual(leased.map(({ id }) => id), [failed.id, older, younger]) // biome-ignore format: one line
    at.advance(3_600_000) // its delay is over once more: that is nothing to it
    assert.equal(await at.state(older), 'running')
  })

  holds('who waits for a job gets one that a person runs now', async (at) => {
    const id = await at.submit({ delay: '1h' })
    const asked = at.ask(stranger)
    const got = () => asked.jobs?.map((job) => job.id)
    await at.settle()
    assert.equal(got(), undefined)
    await at.store.call('runNow', id)
    await at.settle()
    assert.deepEqual(got(), [id])
  })

  holds('a permanent failure is the last, however many attempts are left', async (at) => {
    const { id } = await at.fail(await at.running(), 'permanent').then(async () => (await at.all())[0]!)
    const { state, reason, attemptsLeft } = await at.job(id)
    assert.deepEqual([state, reason, attemptsLeft], ['dead', 'permanent', 11])
  })

  holds('onTimeout decides what a timeout means: one more failure, or the end', async (at) => {
    assert.equal((await at.fail(await at.running(), 'timeout')).state, 'scheduled')
    const last = await at.fail(await at.running({ maxAttempts: 1 }), 'timeout')
    assert.deepEqual([last.state, last.reason], ['dead', 'exhausted'])
    const dead = await at.fail(await at.running({ onTimeout: 'dead' }), 'timeout')
    assert.deepEqual([dead.state, dead.reason], ['dead', 'timeout'])
  })

  holdsOverTime('a timeout that nobody reports is found by the reaper, and follows onTimeout too', async (at) => {
    await at.worker()
    const again = await at.running({ timeout: '5s', backoff: constant })
    const dead = await at.running({ timeout: '5s', onTimeout: 'dead' })
    at.advance(4000)
    for (const job of [again, dead]) await at.store.call('heartbeat', job)
    at.advance(2000)
    at.advance(3000)
    const [one, two] = await at.all()
    assert.deepEqual([one!.state, one!.runAt], ['scheduled', at.now + 10_000])
    assert.deepEqual([two!.state, two!.reason], ['dead', 'timeout'])
    for (const { id } of [again, dead]) {
      const [record] = await at.store.call('attempts', id)
      assert.deepEqual([record?.outcome, record?.error?.name], ['timeout', 'Timeout'])
    }
  })

  holdsOverTime('a holder that was silent at the timeout makes it a loss, however late that is found', async (at) => {
    const policy = { timeout: '5s', onTimeout: 'dead', backoff: constant } as const
    const jobs = [await at.running(policy), await at.running(policy)]
    at.advance(1_200_000)
    await at.worker()
    at.tick()
    at.lapse()
    for (const { id } of jobs) {
      const [record] = await at.store.call('attempts', id)
      assert.deepEqual([await at.state(id), record?.outcome], ['ready', 'lost'])
    }
  })

  holds('cancel of a running job: asked once, told, and it ends cancelled unless it succeeds', async (at) => {
    const outcomes: [string, (at: Subject, job: Awaited<ReturnType<Subject['running']>>) => Promise<unknown>][] = [
      ['cancelled', (_, job) => at.fail(job)],
      ['cancelled', (_, job) => at.fail(job, 'permanent')],
      ['cancelled', (_, job) => at.fail(job, 'timeout')],
      ['cancelled', (_, job) => at.store.call('release', job)],
      ['succeeded', (_, job) => at.succeed(job)],
    ]
    for (const [state, report] of outcomes) {
      const job = await at.running()
      at.events.length = 0
      assert.equal((await at.store.call('cancel', job.id)).state, 'running')
      assert.ok((await at.job(job.id)).cancelRequestedAt)
      assert.deepEqual(at.events, [{ event: 'cancelRequested', id: job.id, token: job.token }])
      await report(at, job)
      const ended = await at.job(job.id)
      assert.deepEqual([ended.state, ended.reason], [state, null])
    }
    await at.counts()
  })

  holdsOverTime('a second cancel asks for no more than the first, and keeps its time', async (at) => {
    const { id } = await at.running()
    await at.store.call('cancel', id)
    const first = at.now
    at.advance(1000)
    assert.equal((await at.store.call('cancel', id)).state, 'running')
    assert.equal((await at.job(id)).cancelRequestedAt, first)
  })

  holds('a job whose handler does not stop is given up: cancelled, told, and its late report refused', async (at) => {
    const job = await at.running()
    await at.refused('INVALID_STATE', () => at.store.call('endLease', job.id))
    await at.store.call('cancel', job.id)
    assert.equal((await at.store.call('endLease', job.id)).state, 'cancelled')
    const [attempt] = await at.store.call('attempts', job.id)
    assert.deepEqual([attempt!.outcome, attempt!.error!.name], ['cancelled', 'AbortError'])
    await at.refused('LEASE_LOST', () => at.succeed(job))
    await at.refused('INVALID_STATE', () => at.store.call('endLease', job.id))
    await at.refused('NOT_FOUND', () => at.store.call('endLease', 999))
    await at.store.call('retry', job.id)
    assert.deepEqual(await at.lease(stranger), [], 'its handler may still run in that process')
    await at.store.call('settled', job)
    assert.deepEqual((await at.lease(stranger)).map(({ id }) => id), [job.id]) // biome-ignore format: short
    await at.counts()
  })

  holds('a cancelled job that is retried has forgotten that it was to stop', async (at) => {
    const job = await at.running()
    await at.store.call('cancel', job.id)
    await at.fail(job)
    await at.store.call('retry', job.id)
    const [again] = await at.lease(stranger)
    assert.equal((await at.store.call('heartbeat', again!)).cancelRequested, false)
    assert.equal((await at.fail(again!)).state, 'scheduled')
  })

  holdsOverTime('a cancelled job whose worker is lost ends cancelled as well', async (at) => {
    await at.worker()
    const { id } = await at.running()
    await at.store.call('cancel', id)
    at.lapse()
    assert.equal(await at.state(id), 'cancelled')
    assert.equal((await at.store.call('attempts', id))[0]!.outcome, 'cancelled')
  })

  holdsOverTime('a deadline kills what has not started by then, and nothing that runs', async (at) => {
    await at.worker()
    const running = await at.running({ deadline: '10s' })
    const retrying = await at.running({ deadline: '10s', backoff: { kind: 'constant', delay: '1m' } })
    await at.fail(retrying)
    const later = await at.running({ deadline: at.now + 10_000, backoff: { kind: 'constant', delay: '20s' } })
    await at.fail(later)
    const ready = await at.submit({ deadline: new Date(at.now + 10_000) })
    at.advance(9999)
    assert.deepEqual(
      (await at.all()).map(({ state }) => state),
      ['running', 'scheduled', 'scheduled', 'ready'],
    )
    at.advance(250)
    for (const id of [retrying.id, later.id, ready]) {
      const { state, reason } = await at.job(id)
      assert.deepEqual([state, reason], ['dead', 'expired'])
    }
    assert.equal(at.events.filter(({ event }) => event === 'expired').length, 3)
    assert.equal((await at.succeed(running)).state, 'succeeded')
  })

  holdsOverTime('a job past its deadline is never leased, not even before the reaper has looked', async (at) => {
    const { ids } = await at.submitMany({ deadline: '10s' }, Array(1200).fill(0))
    const fresh = await at.submit({ priority: 'bulk' })
    at.time.clock.advance(10_000)
    assert.deepEqual(
      (await at.lease(stranger, { slots: 1 })).map(({ id }) => id),
      [fresh],
    )
    for (let i = 0; i < 3; i++) await at.lease(stranger + 1)
    assert.deepEqual([...new Set(await Promise.all(ids.map((id) => at.state(id))))], ['dead'])
  })

  holds('an operator retries with a fresh budget; the history stays, and attempts go on counting', async (at) => {
    const first = await at.running({ maxAttempts: 1 })
    await at.fail(first)
    assert.deepEqual(await at.store.call('retry', first.id), { state: 'ready', runAt: null, reason: null })
    const { reason, finishedAt, attempt, attemptsLeft } = await at.job(first.id)
    assert.deepEqual([reason, finishedAt, attempt, attemptsLeft], [null, null, 1, 1])
    const [second] = await at.lease(stranger)
    assert.deepEqual([second!.attempt, second!.tries], [2, 1])
    await at.fail(second!)
    const history = await at.store.call('attempts', first.id)
    assert.deepEqual(
      history.map(({ attempt, outcome }) => [attempt, outcome]),
      [
        [1, 'failed'],
        [2, 'failed'],
      ],
    )
  })

  holdsOverTime('the backoff starts again with a fresh budget', async (at) => {
    await at.worker()
    const id = await at.submit({ maxAttempts: 3, backoff: { kind: 'exponential', delay: '1s' } })
    assert.deepEqual(await failures(at, id), [1000, 2000])
    await at.store.call('retry', id)
    assert.deepEqual(await failures(at, id), [1000, 2000])
  })

  holdsOverTime('a retried job whose deadline has passed runs all the same', async (at) => {
    await at.worker()
    const id = await at.submit({ deadline: '1s' })
    at.advance(1250)
    await at.store.call('retry', id)
    at.advance(1000)
    assert.deepEqual(
      (await at.lease(stranger)).map((job) => job.id),
      [id],
    )
  })

  holdsOverTime(
    'history: each failed attempt with worker, times and error, then the one that succeeded',
    async (at) => {
      const worker = await at.worker(1, [{ queue: 'default', type: 'work' }], 'mule')
      const job = await at.running({ backoff: constant }, worker)
      at.advance(300)
      await at.fail(job)
      at.advance(10_000)
      const [again] = await at.lease(worker)
      const history = () => at.store.call('attempts', job.id)
      const failed = {
        attempt: 1,
        worker: 'mule',
        startedAt: job.startedAt,
        finishedAt: job.startedAt + 300,
        outcome: 'failed',
        error: { name: 'Boom', message: 'no', stack: 'at x' },
        beside: null,
      }
      const second = {
        attempt: 2,
        worker: 'mule',
        startedAt: at.now,
        finishedAt: null,
        outcome: 'running',
        error: null,
        beside: null,
      }
      assert.deepEqual(await history(), [failed, second])
      at.advance(50)
      await at.succeed(again!)
      assert.deepEqual(await history(), [failed, { ...second, finishedAt: at.now, outcome: 'succeeded' }])
    },
  )
}
