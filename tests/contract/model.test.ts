import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { priorities } from '../../src/model/job.ts'
import { states } from '../../src/model/lifecycle.ts'
import type { LeasedJob } from '../../src/store/store.ts'
import { EngineStore } from '../../src/testing/store.ts'
import { Model, type ModelJob, Refusal } from '../support/model.ts'
import { Subject } from '../support/subject.ts'

const queue = fc.constantFrom('a', 'b')
const type = fc.constantFrom('x', 'y')
const seconds = (most: number) => fc.integer({ min: 1, max: most }).map((s) => s * 1000)
const sometimes = <T>(value: fc.Arbitrary<T>) => fc.option(value, { freq: 2 })

const submission = fc.record({
  queue,
  type,
  priority: fc.constantFrom(...priorities),
  maxAttempts: fc.integer({ min: 1, max: 3 }),
  backoff: seconds(30),
  timeout: fc.constantFrom(10_000, 60_000, 900_000),
  visibilityTimeout: fc.constantFrom(3000, 30_000),
  onTimeout: fc.constantFrom('retry' as const, 'dead' as const),
  delay: sometimes(seconds(60)),
  deadline: sometimes(seconds(120)),
  concurrencyKey: fc.option(fc.constantFrom('k', 'l'), { nil: undefined }),
})
/** Which of the jobs, or of all leases ever given, counted back from the youngest. */
const which = fc.nat(7)
const kind = fc.constantFrom('temporary' as const, 'permanent' as const, 'timeout' as const, 'postpone' as const)

/** What can happen, each drawn as often as it is listed. */
const step = fc.oneof(
  { weight: 4, arbitrary: fc.record({ does: fc.constant('submit' as const), submission }) },
  {
    weight: 5,
    arbitrary: fc.record({
      does: fc.constant('lease' as const),
      worker: fc.constantFrom('own', 'own', 'one', 'other'),
      queues: fc.subarray(['a', 'b'], { minLength: 1 }),
      types: fc.subarray(['x', 'y'], { minLength: 1 }),
      slots: fc.integer({ min: 1, max: 4 }),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      does: fc.constantFrom('succeed' as const, 'release' as const, 'heartbeat' as const, 'settled' as const),
      which,
    }),
  },
  { weight: 3, arbitrary: fc.record({ does: fc.constant('fail' as const), which, kind }) },
  {
    weight: 3,
    arbitrary: fc.record({
      does: fc.constantFrom('cancel' as const, 'retry' as const, 'runNow' as const, 'remove' as const),
      which,
    }),
  },
  { weight: 3, arbitrary: fc.record({ does: fc.constant('advance' as const), ms: seconds(40) }) },
  {
    weight: 1,
    arbitrary: fc.record({ does: fc.constant('stopping' as const), worker: fc.constantFrom('one', 'other') }),
  },
  { weight: 1, arbitrary: fc.record({ does: fc.constant('pause' as const), queue, paused: fc.boolean() }) },
  {
    weight: 1,
    arbitrary: fc.record({
      does: fc.constant('limit' as const),
      queue,
      maxRunning: fc.option(fc.integer({ min: 1, max: 3 })),
      maxRunningPerKey: fc.integer({ min: 1, max: 3 }),
    }),
  },
)
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never
type Of<Does extends Step['does']> = Extract<Step, { does: Does }>

/** The store and the model side by side: each step is taken by both, and must come to the same. */
class Pair {
  readonly at: Subject
  readonly model: Model
  readonly #leases: LeasedJob[] = []
  /** Numbers of those that their holder has ended. */
  readonly #ended = new Set<number>()
  /** The store's own worker, and two of other processes. */
  readonly #workers = new Map<string, number>()
  #lastId = 0

  constructor(store: EngineStore) {
    this.at = new Subject({ store, time: store, close: () => store.close() })
    this.model = new Model(store.clock.now())
  }

  async prepare(): Promise<this> {
    for (const name of ['own', 'one', 'other']) {
      const remote = name === 'own' ? {} : { remote: 'elsewhere' }
      const worker = await this.at.store.call('register', { name, sources: [], slots: 10, ...remote })
      this.#workers.set(name, worker)
      this.model.register(worker, name === 'own')
    }
    const keep = { keepSucceeded: 100_000, keepCancelled: 50_000, keepDead: null }
    await this.at.store.call('setQueue', { queue: 'a', ...keep })
    await this.at.store.call('setQueue', { queue: 'b', ...keep, maxDepth: 3 })
    this.model.keep.set('succeeded', 100_000).set('cancelled', 50_000)
    this.model.maxDepth.set('b', 3)
    return this
  }

  async take(step: Step): Promise<void> {
    switch (step.does) {
      case 'submit':
        return this.#both(
          () => this.model.mustTake(step.submission.queue),
          () => this.#submit(step.submission),
        )
      case 'lease':
        return this.#lease(step)
      case 'succeed':
      case 'release':
      case 'heartbeat':
      case 'settled':
      case 'fail':
        return this.#report(step)
      case 'stopping': {
        const worker = this.#workers.get(step.worker)!
        this.model.stopping(worker)
        await this.at.store.call('stopping', worker)
        return
      }
      case 'cancel':
      case 'retry':
      case 'runNow':
      case 'remove': {
        const job = this.model.jobs.at(-1 - step.which)
        if (!job) return
        return this.#both(
          () => this.model[step.does](job),
          () => this.at.store.call(step.does, job.id),
        )
      }
      case 'advance':
        this.at.advance(step.ms)
        return this.model.advance(step.ms)
      case 'pause':
        this.model.paused[step.paused ? 'add' : 'delete'](step.queue)
        await this.at.store.call('setQueue', { queue: step.queue, paused: step.paused })
        return
      case 'limit': {
        const { does, ...limits } = step
        this.model.maxRunning.set(limits.queue, limits.maxRunning ?? Number.POSITIVE_INFINITY)
        this.model.perKey.set(limits.queue, limits.maxRunningPerKey)
        await this.at.store.call('setQueue', limits)
      }
    }
  }

  /** The model decides whether it is allowed; the store must do it or refuse it with the same code. */
  async #both(model: () => void, store: () => Promise<unknown>): Promise<void> {
    try {
      model()
    } catch (error) {
      assert.ok(error instanceof Refusal, String(error))
      return assert.rejects(store(), { code: error.code })
    }
    await store()
  }

  async #submit({ delay, deadline, backoff, concurrencyKey, ...options }: Of<'submit'>['submission']): Promise<void> {
    const { now } = this.model
    const id = await this.at.submit({
      ...options,
      backoff: { kind: 'constant', delay: backoff },
      ...(concurrencyKey === undefined ? {} : { concurrencyKey }),
      ...(delay === null ? {} : { delay }),
      ...(deadline === null ? {} : { deadline: now + (delay ?? 0) + deadline }),
    })
    assert.ok(id > this.#lastId, 'ids grow and are never reused')
    this.#lastId = id
    const { priority, visibilityTimeout: visibility, ...rest } = options
    this.model.jobs.push({
      ...{ ...rest, id, key: concurrencyKey ?? null, visibility, backoff, priority: priorities.indexOf(priority) },
      ...{ state: delay === null ? 'ready' : 'scheduled', runAt: delay === null ? null : now + delay },
      ...{ deadline: deadline === null ? null : now + (delay ?? 0) + deadline, attempt: 0, before: 0, reason: null },
      ...{
        startedAt: 0,
        renewedHere: 0,
        renewedAt: null,
        overSince: null,
        seen: { expiresAt: null, from: 0 },
        expiresAt: null,
        worker: null,
        lease: 0,
      },
      ...{ company: null, losses: 0, unheard: 0, cancelRequested: false, finishedAt: 0 },
    })
  }

  async #lease({ worker: name, queues, types, slots }: Of<'lease'>): Promise<void> {
    const worker = this.#workers.get(name)!
    const leased = await this.at.lease(worker, { queues, types, slots })
    assert.deepEqual(
      leased.map(({ id }) => id),
      this.model.lease(worker, queues, types, slots),
      'the order of leases',
    )
    this.#leases.push(...leased)
  }

  async #report(step: Of<'succeed' | 'release' | 'heartbeat' | 'settled'> | Of<'fail'>): Promise<void> {
    const lease = this.#leases.at(-1 - step.which)
    if (!lease) return
    const number = this.#leases.length - step.which // as the model numbers them
    const job = this.model.jobs.find(({ id }) => id === lease.id)
    if (this.#ended.has(number) && step.does !== 'heartbeat') return this.#again(step, lease, job)
    const current = (): ModelJob => {
      if (job?.state !== 'running' || job.lease !== number) throw new Refusal('LEASE_LOST')
      if (step.does !== 'heartbeat' && (step.does !== 'release' || job.cancelRequested)) this.#ended.add(number)
      return job
    }
    if (step.does === 'settled')
      return this.#both(
        () => this.model.settled(lease.id, number),
        () => this.at.store.call('settled', lease),
      )
    if (step.does === 'fail')
      return this.#both(
        () => this.model.fail(current(), step.kind),
        () => this.at.fail(lease, step.kind),
      )
    if (step.does === 'succeed')
      return this.#both(
        () => this.model.succeed(current()),
        () => this.at.succeed(lease),
      )
    const { does } = step
    return this.#both(
      () => this.model[does](current()),
      () => this.at.store.call(does, lease),
    )
  }

  /** A report that was taken, sent again: answered with what came of it. Of a job that is gone that may be forgotten. */
  async #again(step: { does: string }, lease: LeasedJob, job: ModelJob | undefined): Promise<void> {
    const { store } = this.at
    const told = { succeed: () => this.at.succeed(lease), release: () => store.call('release', lease) }
    const heard = (told[step.does as keyof typeof told] ?? (() => this.at.fail(lease)))()
    if (!job) return void (await heard.catch((error) => assert.equal(error.code, 'LEASE_LOST')))
    const { state, runAt, reason } = job
    assert.deepEqual(await heard, { state, runAt, reason })
  }

  async agree(): Promise<void> {
    const jobs = (await this.at.all()).map((job) => ({
      ...{ id: job.id, state: job.state, reason: job.reason, attempt: job.attempt, attemptsLeft: job.attemptsLeft },
      ...{ runAt: job.runAt, expiresAt: job.leaseExpiresAt, deadline: job.deadline },
      cancelRequested: job.state === 'running' && job.cancelRequestedAt !== null,
    }))
    const expected = this.model.jobs.map((job) => ({
      ...{ id: job.id, state: job.state, reason: job.reason, attempt: job.attempt },
      attemptsLeft: job.maxAttempts - (job.attempt - job.before),
      ...{ runAt: job.runAt, expiresAt: job.expiresAt, deadline: job.deadline },
      cancelRequested: job.state === 'running' && job.cancelRequested,
    }))
    assert.deepEqual(jobs, expected)
    for (const { queue, counts } of (await this.at.store.call('stats', null)).queues)
      for (const state of states) {
        const count = this.model.jobs.filter((job) => job.queue === queue && job.state === state).length
        assert.equal(counts[state], count, `counter of ${state} in queue ${queue}`)
      }
  }
}

test('any sequence of events comes to what the contract says: order, states, refusals, counters', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 60, size: 'max' }), async (steps) => {
      const pair = await new Pair(new EngineStore()).prepare()
      await using _at = pair.at
      for (const step of steps) {
        await pair.take(step)
        await pair.agree()
      }
    }),
    { numRuns: 300 },
  )
})
