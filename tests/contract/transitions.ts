import assert from 'node:assert/strict'
import type { State } from '../../src/model/lifecycle.ts'
import { states } from '../../src/model/lifecycle.ts'
import type { LeasedJob } from '../../src/store/store.ts'
import { type Subject, stranger } from '../support/subject.ts'
import type { Suite } from './contract.ts'

/** A lease token that was never given. */
const forged = (id: number): LeasedJob => ({ ...({} as LeasedJob), id, queue: 'default', type: 'work', token: -1 })

/** How a job gets into each state; answers with the lease it has or last had. */
const into: Record<State, (at: Subject) => Promise<LeasedJob>> = {
  scheduled: async (at) => forged(await at.submit({ delay: '1h' })),
  ready: async (at) => forged(await at.submit()),
  running: (at) => at.running(),
  succeeded: async (at) => {
    const job = await at.running()
    await at.succeed(job)
    return job
  },
  dead: async (at) => {
    const job = await at.running()
    await at.fail(job, 'permanent')
    return job
  },
  cancelled: async (at) => {
    const id = await at.submit()
    await at.store.call('cancel', id)
    return forged(id)
  },
}

interface Operation {
  refusal: 'INVALID_STATE' | 'LEASE_LOST'
  act(at: Subject, job: LeasedJob): Promise<unknown>
  /** Section 2 of the contract: from each allowed state to the state after it. Every other state refuses. */
  to: Partial<Record<State, State | 'gone'>>
}

const operations: Record<string, Operation> = {
  cancel: {
    refusal: 'INVALID_STATE',
    act: (at, { id }) => at.store.call('cancel', id),
    to: { scheduled: 'cancelled', ready: 'cancelled', running: 'running' },
  },
  retry: {
    refusal: 'INVALID_STATE',
    act: (at, { id }) => at.store.call('retry', id),
    to: { dead: 'ready', cancelled: 'ready' },
  },
  runNow: {
    refusal: 'INVALID_STATE',
    act: (at, { id }) => at.store.call('runNow', id),
    to: { scheduled: 'ready' },
  },
  remove: {
    refusal: 'INVALID_STATE',
    act: (at, { id }) => at.store.call('remove', id),
    to: { succeeded: 'gone', dead: 'gone', cancelled: 'gone' },
  },
  succeed: { refusal: 'LEASE_LOST', act: (at, job) => at.succeed(job), to: { running: 'succeeded' } },
  'fail (temporary)': { refusal: 'LEASE_LOST', act: (at, job) => at.fail(job), to: { running: 'scheduled' } },
  'fail (timeout)': { refusal: 'LEASE_LOST', act: (at, job) => at.fail(job, 'timeout'), to: { running: 'scheduled' } },
  'fail (permanent)': { refusal: 'LEASE_LOST', act: (at, job) => at.fail(job, 'permanent'), to: { running: 'dead' } },
  'fail (postpone)': {
    refusal: 'LEASE_LOST',
    act: (at, job) => at.fail(job, 'postpone'),
    to: { running: 'scheduled' },
  },
  heartbeat: {
    refusal: 'LEASE_LOST',
    act: (at, job) => at.store.call('heartbeat', job),
    to: { running: 'running' },
  },
  release: { refusal: 'LEASE_LOST', act: (at, job) => at.store.call('release', job), to: { running: 'ready' } },
}

export function transitions({ holds, holdsOverTime }: Suite): void {
  holds('a job starts ready, or scheduled if its time is ahead', async (at) => {
    assert.equal(await at.state(await at.submit()), 'ready')
    assert.equal(await at.state(await at.submit({ delay: '1h' })), 'scheduled')
    assert.equal(await at.state(await at.submit({ runAt: new Date('2999-01-01') })), 'scheduled')
    assert.equal(await at.state(await at.submit({ runAt: 1 })), 'ready')
  })

  for (const [name, { act, to, refusal }] of Object.entries(operations)) {
    for (const [from, expected] of Object.entries(to) as [State, State | 'gone'][])
      holds(`${name}: ${from} -> ${expected}`, async (at) => {
        const job = await into[from](at)
        await act(at, job)
        assert.equal(await at.state(job.id), expected)
        await at.counts()
      })

    holds(`${name} is refused in every other state and changes nothing`, async (at) => {
      for (const state of states.filter((s) => !(s in to))) {
        const job = await into[state](at)
        assert.equal(await at.state(job.id), state)
        await at.refused(refusal, () => act(at, { ...job, token: -1 }))
      }
    })
  }

  holds('lease takes ready jobs alone', async (at) => {
    for (const state of states.filter((s) => s !== 'ready')) await into[state](at)
    assert.deepEqual(await at.lease(stranger), [])
    const { id } = await into.ready(at)
    assert.deepEqual(
      (await at.lease(stranger)).map((job) => job.id),
      [id],
    )
    assert.equal(await at.state(id), 'running')
  })

  holdsOverTime('time moves scheduled and ready jobs alone', async (at) => {
    await at.worker()
    const before = new Map<State, number>()
    for (const state of states) before.set(state, (await into[state](at)).id)
    const running = await at.job(before.get('running')!)
    const now = () => Promise.all([...before.values()].map((id) => at.state(id)))
    at.advance(running.leaseExpiresAt! - at.now)
    assert.deepEqual(await now(), [...before.keys()])
    at.advance(15_000)
    assert.deepEqual(await now(), ['scheduled', 'ready', 'ready', 'succeeded', 'dead', 'cancelled'])
    at.advance(3_600_000)
    assert.deepEqual(await now(), ['ready', 'ready', 'ready', 'succeeded', 'dead', 'cancelled'])
  })

  holds('no such job: every event and every question says so', async (at) => {
    for (const operation of ['cancel', 'retry', 'runNow', 'remove'] as const)
      await at.refused('NOT_FOUND', () => at.store.call(operation, 42))
    for (const name of ['succeed', 'fail (temporary)', 'heartbeat', 'release'])
      await at.refused('LEASE_LOST', () => operations[name]!.act(at, forged(42)))
    assert.equal(await at.store.call('job', 42), null)
    assert.deepEqual(await at.store.call('attempts', 42), [])
    assert.match(await at.store.call('why', 42), /no job 42/)
  })

  holds('each fate tells the state that the job is in', async (at) => {
    const fates = [
      await at.succeed(await at.running()),
      await at.fail(await at.running(), 'permanent'),
      await at.fail(await at.running({ maxAttempts: 1 })),
      await at.fail(await at.running({ maxAttempts: 1, onTimeout: 'dead' }), 'timeout'),
      await at.fail(await at.running({ maxAttempts: 2 })),
      await at.fail(await at.running(), 'postpone', 1e6),
      await at.store.call('runNow', await at.submit({ delay: 1e6 })),
      await at.store.call('cancel', await at.submit({ delay: 1e6 })),
    ]
    const jobs = await at.all()
    const seen = jobs.map(({ state, reason, runAt }) => ({ state, reason, runAt }))
    assert.deepEqual(fates, seen)
    assert.deepEqual(
      seen.map(({ state, reason }) => reason ?? state),
      ['succeeded', 'permanent', 'exhausted', 'timeout', 'scheduled', 'scheduled', 'ready', 'cancelled'],
    )
  })
}
