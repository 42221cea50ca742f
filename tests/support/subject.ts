import assert from 'node:assert/strict'
import { type Clock, systemClock } from '../../src/model/clock.ts'
import type { ErrorCode } from '../../src/model/errors.ts'
import { type Job, type JobOptions, jobSpec } from '../../src/model/job.ts'
import { type State, states } from '../../src/model/lifecycle.ts'
import type {
  Failure,
  Fate,
  Input,
  JobFilter,
  LeasedJob,
  LeaseRequest,
  Source,
  Store,
  StoreEvent,
} from '../../src/store/store.ts'
import type { VirtualClock } from '../../src/testing/clock.ts'

/** Time as a test moves it: `advance` lets it pass and the store look at what is due, `clock.jump` sets the wall clock. */
export interface Time {
  clock: VirtualClock
  advance(ms: number): void
  tick(): void
}

/** A store just opened and empty; `time` where it runs on virtual time. */
export interface Opened {
  store: Store
  time: Time | null
  /** The store renews the leases of this process at times of its own, whatever a test does. */
  renews?: boolean
  /** Waits until nothing is on its way any more, where answers do not come in order. */
  settled?(): Promise<void>
  close(): Promise<void>
}
export type OpenStore = () => Promise<Opened>

/** What a test submits: the options of the library, with the type among them. */
export type Options = JobOptions & { type?: string }
type LeaseOptions = Partial<Omit<LeaseRequest, 'worker' | 'sources'>> & { types?: string[]; queues?: string[] }

/** This number and those above stand for workers on the network, signed on when they first ask: nobody here renews their leases. */
export const stranger = 999

/** The store under test, and the few things that tests ask of it again and again. */
export class Subject implements AsyncDisposable {
  readonly store: Store
  readonly events: StoreEvent[] = []
  readonly #opened: Opened
  /** Workers on the network by the number that a test gives them. */
  readonly #strangers = new Map<number, Promise<number>>()

  constructor(opened: Opened) {
    this.#opened = opened
    this.store = opened.store
    this.store.onEvent((event) => this.events.push(event))
  }

  get time(): Time {
    assert.ok(this.#opened.time, 'this test needs virtual time')
    return this.#opened.time
  }

  get clock(): Clock {
    return this.#opened.time?.clock ?? systemClock
  }

  get now(): number {
    return this.time.clock.now()
  }

  advance(ms: number): void {
    this.time.advance(ms)
  }

  /** Lets a lease that nobody renews run out: it is found over, and taken half of its life later. */
  lapse(life = 30_000): void {
    this.advance(life)
    this.advance(Math.max(1000, life / 2))
  }

  tick(): void {
    this.time.tick()
  }

  async submit(options: Options = {}, payload: unknown = null): Promise<number> {
    return (await this.submitMany(options, [payload])).ids[0]!
  }

  submitMany(options: Options, payloads: unknown[], keys: (string | null)[] | null = null) {
    const { type = 'work', idempotencyKey, ...rest } = options
    return this.store.call('submit', {
      specs: jobSpec(type, rest),
      payloads: payloads.map((payload) => JSON.stringify(payload)),
      keys: keys ?? (idempotencyKey === undefined ? null : payloads.map(() => idempotencyKey)),
    })
  }

  worker(slots = 10, sources: Source[] = [{ queue: 'default', type: 'work' }], name = 'w'): Promise<number> {
    return this.store.call('register', { name, sources, slots })
  }

  request(worker: number, options: LeaseOptions = {}): LeaseRequest {
    const { types = ['work'], queues = ['default'], slots = 1000, exclude = [] } = options
    const sources = queues.flatMap((queue) => types.map((type) => ({ queue, type })))
    return { worker, sources, slots, exclude }
  }

  /** What a worker gets at once; nothing if it would have to wait. */
  async lease(worker: number, options: LeaseOptions = {}): Promise<LeasedJob[]> {
    const asked = this.ask(worker, options)
    await this.settle()
    asked.giveUp()
    return asked.jobs ?? []
  }

  /** The id of a stranger, who is there again if it was silent for too long. */
  strange(worker: number): Promise<number> {
    const registration = { name: `stranger ${worker}`, sources: [], slots: 1000, remote: 'elsewhere' }
    const before = this.#strangers.get(worker)
    const id = before
      ? before.then((known) => this.store.call('register', { ...registration, known }))
      : this.store.call('register', registration)
    this.#strangers.set(worker, id)
    return id
  }

  /** A lease request that waits: `jobs` is undefined until it is answered. */
  ask(worker: number, options: LeaseOptions = {}): { jobs: LeasedJob[] | undefined; giveUp(): void } {
    const patience = new AbortController()
    const asked = { jobs: undefined as LeasedJob[] | undefined, giveUp: () => patience.abort(new Error('gave up')) }
    const ask = (id: number) => this.store.call('lease', this.request(id, options), patience.signal)
    const answered = worker >= stranger ? this.strange(worker).then(ask) : ask(worker)
    answered.then(
      (jobs) => {
        asked.jobs = jobs
        if (worker >= stranger) this.#opened.time?.tick() // a lease of others is watched from the first look at it
      },
      (error) => assert.ok(patience.signal.aborted || error.code === 'CLOSED', error),
    )
    return asked
  }

  /** Lets the store answer all that it was asked so far: it answers in order, so three answers later nothing is under way. */
  async settle(): Promise<void> {
    for (let i = 0; i < 3; i++) await this.store.call('stats', null)
    await this.#opened.settled?.()
  }

  /** Submits one job and leases it, whatever else is ready. */
  async running(options: Options = {}, worker = stranger): Promise<LeasedJob> {
    const exclude = (await this.all()).map((job) => job.id)
    const id = await this.submit(options)
    const { type = 'work', queue = 'default' } = options
    const [job] = await this.lease(worker, { types: [type], queues: [queue], exclude })
    assert.equal(job?.id, id)
    return job
  }

  succeed(lease: LeasedJob, result: unknown = null): Promise<Fate> {
    return this.store.call('succeed', { lease, result: JSON.stringify(result) })
  }

  fail(lease: LeasedJob, kind: Failure['kind'] = 'temporary', retryAfter: number | null = null): Promise<Fate> {
    return this.store.call('fail', { lease, kind, error: { name: 'Boom', message: 'no', stack: 'at x' }, retryAfter })
  }

  /** One page of `many`, whole: a step ends by the clock, so that a busy machine takes several for it. */
  async many(event: Input<'many'>['event'], { limit = 100, cursor, ...filter }: JobFilter = {}) {
    for (let changed = 0, from = cursor; ; ) {
      const page = { ...filter, limit: limit - changed, ...(from !== undefined && { cursor: from }) }
      const some = await this.store.call('many', { event, filter: page })
      changed += some.changed
      if (some.next === null || changed === limit) return { changed, next: some.next }
      from = some.next
    }
  }

  async job(id: number): Promise<Job> {
    const job = await this.store.call('job', id)
    assert.ok(job, `job ${id} is gone`)
    return job
  }

  async state(id: number): Promise<State | 'gone'> {
    return (await this.store.call('job', id))?.state ?? 'gone'
  }

  /** Refused with `code`, and nothing changed: neither any job nor any counter. */
  async refused(code: ErrorCode, act: () => Promise<unknown>): Promise<void> {
    const before = await this.everything()
    await assert.rejects(act(), { code, accepted: 'no' })
    assert.deepEqual(await this.everything(), before)
  }

  /** All jobs, oldest first. */
  async all(): Promise<Job[]> {
    return (await this.store.call('jobs', { order: 'oldest', limit: 1000 })).jobs
  }

  /** All that only calls and time change: not when leases end that the store renews by itself. */
  async everything() {
    const jobs = (await this.all()).map(({ leaseExpiresAt, ...job }) =>
      this.#opened.renews ? job : { ...job, leaseExpiresAt },
    )
    return { jobs, counts: await this.counts() }
  }

  /** The counters of all queues that hold jobs, after proof that they agree with the jobs themselves. */
  async counts(): Promise<Record<string, Record<State, number>>> {
    const { queues } = await this.store.call('stats', null)
    const used = queues.filter(({ counts }) => Object.values(counts).some((count) => count !== 0))
    const counts = Object.fromEntries(used.map(({ queue, counts }) => [queue, counts]))
    for (const queue of Object.keys(counts)) {
      const { jobs } = await this.store.call('jobs', { queue, limit: 1000 })
      for (const state of states) {
        const found = jobs.filter((job) => job.state === state)
        assert.equal(counts[queue]![state], found.length, `counter of ${state} in queue ${queue}`)
      }
    }
    return counts
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#opened.close()
  }
}
