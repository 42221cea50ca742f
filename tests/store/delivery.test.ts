import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { type JobOptions, jobSpec } from '../../src/model/job.ts'
import { Engine } from '../../src/store/sqlite/commit.ts'
import type { Reply } from '../../src/store/sqlite/request.ts'
import type { Input, Lease, LeasedJob, LeaseRequest, Operation, Output } from '../../src/store/store.ts'
import { VirtualClock } from '../../src/testing/clock.ts'
import { rowsOf } from '../support/filled.ts'
import { temporaryFolder } from '../support/folder.ts'

// What a worker on the network was given and did not receive, who it is when it comes back, and reports sent again.

const sources = [{ queue: 'default', type: 'a' }]

class Rig {
  readonly clock = new VirtualClock()
  readonly file: string
  #engine: Engine
  #seq = 0
  #ask = 0

  constructor(t: TestContext) {
    const folder = temporaryFolder()
    this.file = folder.file('jobs.db')
    this.#engine = new Engine(this.file, this.clock, { tends: true })
    t.after(() => {
      this.#engine.close()
      folder[Symbol.dispose]()
    })
  }

  restart(): void {
    this.#engine.close()
    this.#engine = new Engine(this.file, this.clock, { tends: true })
  }

  /** The answer at once, or undefined when it waits; `late` has the answers to what waited. */
  late: Reply[] = []
  tell<K extends Operation>(operation: K, input: Input<K>, epoch?: string): Reply | undefined {
    const seq = ++this.#seq
    const replies = this.#engine.execute([{ seq, operation, input, ...(epoch && { epoch }) }])
    this.late.push(...replies.filter((reply) => reply.seq !== seq))
    return replies.find((reply) => reply.seq === seq)
  }

  ask<K extends Operation>(operation: K, input: Input<K>, epoch?: string): Output<K> {
    const reply = this.tell(operation, input, epoch)
    if (!reply) throw new Error(`${operation} waits`)
    if ('error' in reply) throw reply.error
    return reply.value as Output<K>
  }

  code<K extends Operation>(operation: K, input: Input<K>, epoch?: string): string {
    const reply = this.tell(operation, input, epoch)
    return reply && 'error' in reply ? reply.error.code : 'taken'
  }

  worker(more: Partial<Input<'register'>> = {}): number {
    return this.ask('register', { name: 'w', sources, slots: 10, remote: '10.0.0.7', instance: 'p', ...more })
  }

  submit(count = 1, options: JobOptions = {}): void {
    this.ask('submit', { specs: jobSpec('a', options), payloads: Array(count).fill('1'), keys: null })
  }

  /** What a worker that has these tokens is given at once. */
  lease(worker: number, more: Partial<LeaseRequest> = {}): LeasedJob[] {
    const request = { worker, sources, slots: 10, exclude: [], ask: ++this.#ask, holds: [], ...more }
    const reply = this.tell('lease', request)
    if (reply && 'error' in reply) throw reply.error
    return (reply?.value ?? []) as LeasedJob[]
  }

  /** The engine looks this much later than it had announced. */
  standStill(ms: number): void {
    this.#engine.expect(20)
    this.pass(ms)
    this.#engine.expect(Number.POSITIVE_INFINITY)
  }

  pass(ms: number): void {
    this.clock.advance(ms)
    this.late.push(...this.#engine.tick())
  }

  row(id = 1): Record<string, unknown> {
    return { ...rowsOf(this.file, `SELECT state, attempt, undelivered FROM gq_jobs WHERE id = ${id}`)[0]! }
  }

  lostAnswers(worker: number): unknown {
    return rowsOf(this.file, `SELECT lost_answers AS lost FROM gq_workers WHERE id = ${worker}`)[0]!.lost
  }
}

const leaseOf = ({ id, token, queue, type }: LeasedJob): Lease => ({ id, token, queue, type })

test('what a worker was given and does not name goes back, uncharged; what it names or has confirmed stays', (t) => {
  const rig = new Rig(t)
  const worker = rig.worker()
  rig.submit(4)
  const given = [1, 2, 3, 4].map((slots, i, all) => {
    const before = all.slice(0, i).map((_, n) => tokens[n]!)
    const [job] = rig.lease(worker, { slots, holds: before })
    tokens.push(job!.token)
    return job!
  })
  const [, beaten, saved, lost] = given as [LeasedJob, LeasedJob, LeasedJob, LeasedJob]
  rig.ask('heartbeat', leaseOf(beaten))
  rig.ask('checkpoint', { lease: leaseOf(saved), state: '1' })
  assert.deepEqual(rig.lease(worker, { slots: 0 }), []) // it names none: it has confirmed three before
  assert.deepEqual([1, 2, 3].map((id) => rig.row(id).state), ['running', 'running', 'running']) // biome-ignore format: short
  assert.deepEqual(rig.row(4), { state: 'ready', attempt: 0, undelivered: 1 })
  assert.deepEqual(rig.ask('attempts', 4), [])
  assert.equal(rig.code('succeed', { lease: leaseOf(lost), result: '1' }), 'LEASE_LOST')
  rig.restart()
  assert.equal(rig.row(1).state, 'running')
})
const tokens: number[] = []

test('a job goes back three times; the fourth time it is lost at once, and leased again', (t) => {
  const rig = new Rig(t)
  const worker = rig.worker()
  rig.submit()
  for (const undelivered of [0, 1, 2, 3]) {
    assert.equal(rig.lease(worker).length, 1)
    assert.deepEqual(rig.row(), { state: 'running', attempt: 1, undelivered })
  }
  assert.equal(rig.lease(worker).length, 1)
  assert.deepEqual(rig.row(), { state: 'running', attempt: 2, undelivered: 3 })
  const [{ outcome, error } = {}] = rig.ask('attempts', 1)
  assert.equal(outcome, 'lost')
  assert.match(error!.message, /did not have it while it ran alone .* never received it, as 3 times before/)
  assert.deepEqual(rig.lease(worker), [], 'it waits for its backoff')
  assert.equal(rig.row().state, 'scheduled')
})

test('one that is lost so, with a backoff of 0, starts before a job of a lower class that waits', (t) => {
  const rig = new Rig(t)
  const worker = rig.worker()
  rig.submit(1, { priority: 'high', backoff: { kind: 'constant', delay: 0 }, maxAttempts: 9 })
  for (let i = 0; i < 4; i++) assert.equal(rig.lease(worker, { slots: 1 }).length, 1)
  rig.submit()
  for (let i = 0; i < 4; i++) assert.deepEqual(rig.lease(worker, { slots: 1 }).map(({ id }) => id), [1], `${i}`) // biome-ignore format: short
  assert.equal(rig.row().attempt, 5)
})

test('one that is lost so beside others is not charged, and starts beside half as many from then on', (t) => {
  const rig = new Rig(t)
  const worker = rig.worker()
  rig.submit(4)
  const held = rig.lease(worker, { slots: 3 })
  const holds = held.map(({ token }) => token)
  for (const undelivered of [0, 1, 2, 3]) {
    rig.lease(worker, { holds })
    assert.deepEqual(rig.row(4), { state: 'running', attempt: 1, undelivered })
  }
  assert.deepEqual(rig.lease(worker, { holds }), [])
  const { state, attemptsLeft, maxAttempts } = rig.ask('job', 4)!
  assert.deepEqual([state, attemptsLeft], ['ready', maxAttempts])
  for (const [i, after] of ['ready', 'running'].entries()) {
    rig.ask('succeed', { lease: leaseOf(held[i]!), result: '1' })
    assert.equal(rig.row(4).state, after)
  }
})

test('a worker that lost three answers in a row gets one job at a time until it confirms one', (t) => {
  const rig = new Rig(t)
  const worker = rig.worker()
  rig.submit(9)
  for (const lost of [0, 1, 2]) assert.deepEqual([rig.lease(worker, { slots: 3 }).length, rig.lostAnswers(worker)], [3, lost]) // biome-ignore format: short
  const [one, ...others] = rig.lease(worker, { slots: 3 })
  assert.deepEqual([others, rig.lostAnswers(worker)], [[], 3])
  const rest = rig.lease(worker, { slots: 3, holds: [one!.token] })
  assert.deepEqual([rest.length, rig.lostAnswers(worker)], [2, 0])
  rig.ask('succeed', { lease: leaseOf(one!), result: '1' })
})

test('answers that arrive in between are no row: jobs that ended at once were received', (t) => {
  const rig = new Rig(t)
  const worker = rig.worker()
  rig.submit(9)
  for (let i = 0; i < 4; i++) {
    rig.lease(worker, { slots: 1 })
    const [job] = rig.lease(worker, { slots: 1 })
    rig.ask('succeed', { lease: leaseOf(job!), result: '1' })
  }
  rig.lease(worker, { slots: 1 })
  assert.equal(rig.lostAnswers(worker), 0)
})

test('what an answer gave that may still arrive does not go back; an old request gets nothing and gives nothing back', (t) => {
  const rig = new Rig(t)
  const worker = rig.worker()
  rig.submit(1)
  const [job] = rig.lease(worker, { ask: 100 })
  assert.deepEqual(rig.lease(worker, { ask: 200, since: 100 }), [])
  assert.equal(rig.row().state, 'running')
  const early = rig.late.length
  assert.deepEqual(rig.lease(worker, { ask: 50 }), []) // it was on its way for long: the one of 200 goes on waiting
  assert.equal(rig.late.length, early)
  assert.equal(rig.row().state, 'running')
  rig.submit(1)
  assert.deepEqual(rig.late.slice(early).map((reply) => 'value' in reply && (reply.value as LeasedJob[])[0]!.id), [3]) // biome-ignore format: short
  assert.equal(rig.code('succeed', { lease: leaseOf(job!), result: '1' }), 'taken')
})

test('a request without a word on what its worker has gives nothing back', (t) => {
  const rig = new Rig(t)
  const worker = rig.worker()
  rig.submit(1)
  rig.ask('lease', { worker, sources, slots: 1, exclude: [] })
  assert.equal(rig.tell('lease', { worker, sources, slots: 1, exclude: [] }), undefined)
  assert.equal(rig.row().state, 'running')
})

test('what goes back goes to who has waited longest', (t) => {
  const rig = new Rig(t)
  const [deaf, other] = [rig.worker(), rig.worker({ name: 'other', instance: 'q' })]
  rig.submit(1)
  rig.lease(deaf)
  rig.lease(other)
  assert.deepEqual(rig.lease(deaf), [])
  assert.deepEqual(rig.late.map((reply) => 'value' in reply && (reply.value as LeasedJob[])[0]?.id), [1]) // biome-ignore format: short
})

test('a worker that is unknown or was signed off is refused, at once or while it waits, and is the same when it comes back', (t) => {
  const rig = new Rig(t)
  const request = (worker: number): LeaseRequest => ({ worker, sources, slots: 1, exclude: [], ask: 1, holds: [] })
  assert.equal(rig.code('lease', request(17)), 'WORKER_UNKNOWN')
  const worker = rig.worker()
  rig.submit(1)
  const [job] = rig.lease(worker)
  rig.tell('lease', request(worker))
  rig.ask('unregister', worker)
  assert.equal(rig.code('lease', request(worker)), 'WORKER_UNKNOWN')
  assert.equal(rig.worker({ known: worker }), worker)
  assert.deepEqual(rig.lease(worker), [], 'its handler may go on')
  rig.tell('settled', job!)
  const [again] = rig.lease(worker)
  assert.deepEqual([again!.id, again!.token > job!.token], [1, true])
  const impostor = rig.worker({ known: worker, instance: 'another process' })
  assert.notEqual(impostor, worker)
})

test('a registration that is sent again signs on no second worker', (t) => {
  const rig = new Rig(t)
  const [one, two] = [rig.worker({ request: 'r' }), rig.worker({ request: 'r' })]
  assert.equal(one, two)
  assert.notEqual(rig.worker({ request: 's' }), one)
  assert.equal(rig.ask('stats', null).workers.length, 2)
})

test('a token or worker id of another file fits nothing', (t) => {
  const rig = new Rig(t)
  const epoch = rig.ask('epoch', null)
  const worker = rig.worker()
  rig.submit(1)
  const [job] = rig.lease(worker)
  const lease = leaseOf(job!)
  const request = { worker, sources, slots: 5, exclude: [] }
  const other = 'f'.repeat(16)
  for (const operation of ['heartbeat', 'release'] as const) assert.equal(rig.code(operation, lease, other), 'LEASE_LOST') // biome-ignore format: short
  const error = { name: 'E', message: 'm', stack: null }
  assert.equal(rig.code('fail', { lease, kind: 'temporary', error, retryAfter: null }, other), 'LEASE_LOST')
  assert.equal(rig.code('succeed', { lease, result: '1' }, other), 'LEASE_LOST')
  assert.equal(rig.code('checkpoint', { lease, state: '1' }, other), 'LEASE_LOST')
  for (const [operation, input] of [['lease', request], ['unregister', worker]] as const) assert.equal(rig.code(operation, input as never, other), 'WORKER_UNKNOWN') // biome-ignore format: short
  assert.equal(rig.row().state, 'running')
  assert.equal(rig.code('succeed', { lease, result: '1' }, epoch), 'taken')
})

test('a wall clock that is set right after a lease ends no attempt whose worker renews', (t) => {
  const rig = new Rig(t)
  const worker = rig.worker()
  rig.submit(1, { timeout: 60_000 })
  const [job] = rig.lease(worker)
  rig.clock.jump(3_600_000) // before the first look at the lease
  for (let i = 0; i < 10; i++) {
    rig.pass(5000)
    assert.equal(rig.code('heartbeat', leaseOf(job!)), 'taken', `${i}`)
  }
  assert.equal(rig.row().state, 'running')
})

test('the wall clock was set forward, and no server saw it: an attempt whose worker renews has its time, and no more', (t) => {
  const rig = new Rig(t)
  const worker = rig.worker()
  rig.submit(1, { timeout: 10_000, maxAttempts: 1 })
  const [job] = rig.lease(worker)
  rig.clock.jump(3_600_000)
  rig.restart()
  for (let i = 0; i < 3; i++) {
    assert.equal(rig.code('heartbeat', leaseOf(job!)), 'taken', `${i}`)
    rig.pass(2500)
  }
  assert.equal(rig.row().state, 'running')
  for (let i = 0; i < 6; i++) {
    rig.code('heartbeat', leaseOf(job!))
    rig.pass(2500)
  }
  assert.equal(rig.row().state, 'dead')
})

test('a handler that goes on keeps its job from its process as long as another does, however long the server stood still', (t) => {
  const rig = new Rig(t)
  const worker = rig.worker()
  const timedOut = (job: LeasedJob): unknown =>
    rig.ask('fail', { lease: leaseOf(job), kind: 'timeout', error: { name: 'E', message: 'm', stack: '' }, retryAfter: null, goesOn: true }) // biome-ignore format: one call
  rig.submit(2, { backoff: { kind: 'constant', delay: 0 } })
  const [first, second] = rig.lease(worker) as [LeasedJob, LeasedJob]
  timedOut(first)
  rig.standStill(60_000) // the first handler could not be told in that time
  timedOut(second) // lists its handler beside the first one's
  assert.deepEqual(rig.lease(worker), [])
  rig.pass(29_000)
  assert.deepEqual(rig.lease(worker), [])
  rig.pass(2000)
  assert.deepEqual(rig.lease(worker).map(({ id }) => id), [1, 2]) // biome-ignore format: one line
})

// By an hour, and by less than its timeout: then only the lease that was renewed beyond its end tells.
for (const jump of [3_600_000, 40_000])
  test(`a server that begins after the wall clock was set forward by ${jump} ms ends no attempt whose worker renews, and ends it in time`, (t) => {
    const rig = new Rig(t)
    const worker = rig.worker()
    rig.submit(1, { timeout: 60_000, maxAttempts: 1 })
    const [job] = rig.lease(worker)
    rig.clock.jump(jump)
    rig.pass(5000)
    assert.equal(rig.code('heartbeat', leaseOf(job!)), 'taken') // by a server that saw the attempt begin
    rig.restart()
    for (let i = 0; i < 10; i++) {
      rig.pass(5000)
      assert.equal(rig.code('heartbeat', leaseOf(job!)), 'taken', `${i}`)
    }
    assert.equal(rig.row().state, 'running')
    for (let i = 0; i < 10; i++) {
      rig.pass(5000)
      rig.code('heartbeat', leaseOf(job!))
    }
    assert.equal(rig.row().state, 'dead')
  })
