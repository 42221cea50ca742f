import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { jobSpec } from '../../src/model/job.ts'
import { Engine } from '../../src/store/sqlite/commit.ts'
import { connect } from '../../src/store/sqlite/connection.ts'
import { Db } from '../../src/store/sqlite/db.ts'
import type { Input, Lease, LeasedJob, Operation, Output } from '../../src/store/store.ts'
import { VirtualClock } from '../../src/testing/clock.ts'
import { temporaryFolder } from '../support/folder.ts'

// A server's store: what it does for workers that it knows by the network alone.

const sources = [{ queue: 'default', type: 'a' }]

class Rig {
  readonly clock = new VirtualClock()
  readonly #path: string
  #engine: Engine

  constructor(t: TestContext) {
    const folder = temporaryFolder()
    this.#path = folder.file('jobs.db')
    this.#engine = new Engine(this.#path, this.clock, { tends: true })
    t.after(() => {
      this.#engine.close()
      folder[Symbol.dispose]()
    })
  }

  /** The server goes and comes back after some ms; `open`: how its file is opened. */
  restart(after: number, open = connect): void {
    this.#engine.close()
    this.clock.advance(after)
    this.#engine = new Engine(this.#path, this.clock, { tends: true, open })
  }

  pass(ms: number): void {
    for (let passed = 0; passed < ms; passed += 1000) {
      this.clock.advance(1000)
      this.#engine.tick()
    }
  }

  /** Jobs whose workers were told that their lease is over. */
  lost(): number[] {
    return this.#engine.events.flatMap((event) => (event.event === 'leaseLost' ? [event.id] : []))
  }

  ask<K extends Operation>(operation: K, input: Input<K>): Output<K> {
    const reply = this.#engine.execute([{ seq: 1, operation, input }]).find(({ seq }) => seq === 1)
    if (!reply) throw new Error(`${operation} waits`)
    if ('error' in reply) throw reply.error
    return reply.value as Output<K>
  }

  /** A worker on the network, with a job. */
  work(): { worker: number; job: LeasedJob } {
    const worker = this.ask('register', { name: 'w', sources, slots: 1, remote: '10.0.0.7' })
    this.ask('submit', { specs: jobSpec('a', {}), payloads: ['1'], keys: null, trace: null })
    const [job] = this.ask('lease', { worker, sources, slots: 1, exclude: [] })
    return { worker, job: job! }
  }
}

const leaseOf = ({ id, token, queue, type }: LeasedJob): Lease => ({ id, token, queue, type })

test('a job that ran all through an outage of its server is still its worker’s, for half of a lease’s life', (t) => {
  const rig = new Rig(t)
  const { job } = rig.work()
  rig.restart(5 * 60_000)
  rig.pass(14_000)
  assert.equal(rig.ask('succeed', { lease: leaseOf(job), result: '2' }).state, 'succeeded')
})

test('and no longer: a worker that is gone has its job taken after that', (t) => {
  const rig = new Rig(t)
  const { job } = rig.work()
  rig.restart(5 * 60_000)
  rig.pass(15_000)
  assert.deepEqual([rig.ask('job', job.id)!.state, rig.ask('attempts', job.id)[0]!.outcome], ['ready', 'lost'])
})

test('a worker that nobody has seen for an hour is no longer listed, until it comes back', (t) => {
  const rig = new Rig(t)
  const { worker } = rig.work()
  const listed = () => rig.ask('stats', null).workers.map(({ id, slots }) => [id, slots])
  rig.pass(59 * 60_000)
  assert.deepEqual(listed(), [[worker, 1]])
  rig.pass(2 * 60_000)
  rig.ask('submit', { specs: jobSpec('a', { delay: 1000 }), payloads: ['1'], keys: null, trace: null })
  rig.pass(2000)
  assert.deepEqual(listed(), [])
  const again = { name: 'w', sources, slots: 2, remote: '10.0.0.7', known: worker }
  assert.equal(rig.ask('register', again), worker)
  assert.deepEqual(listed(), [[worker, 2]])
})

test('a worker that signed on with an earlier server is not told that its new leases are over', (t) => {
  const rig = new Rig(t)
  const { worker, job } = rig.work()
  rig.ask('succeed', { lease: leaseOf(job), result: '2' })
  rig.restart(1000)
  rig.ask('submit', { specs: jobSpec('a', { timeout: '20s' }), payloads: ['1'], keys: null, trace: null })
  const [next] = rig.ask('lease', { worker, sources, slots: 1, exclude: [] })
  rig.ask('submit', { specs: jobSpec('b', { delay: 500 }), payloads: ['1'], keys: null, trace: null })
  rig.pass(5000)
  assert.deepEqual(rig.lost(), [])
  rig.pass(30_000)
  assert.deepEqual(rig.lost(), [next!.id])
})

test('an opening that takes longer than a second takes no lease: its time counts for nothing', (t) => {
  const rig = new Rig(t)
  const { clock } = rig
  /** After its first look, and before it has the lock. */
  class Slow extends Db {
    override begin(kind: 'read' | 'write'): void {
      if (kind === 'write') clock.advance(600)
      super.begin(kind)
    }

    override rollback(): void {
      super.rollback()
      clock.advance(600)
    }
  }
  const { job } = rig.work()
  rig.pass(31_000) // found over
  rig.restart(20_000, (path) => connect(path, clock, () => new Slow(path, clock)))
  assert.equal(rig.ask('job', job.id)!.state, 'running')
  rig.ask('heartbeat', job)
})

test('progress is on disk a second later when nothing else is written', (t) => {
  const rig = new Rig(t)
  const { job } = rig.work()
  rig.pass(2000)
  rig.ask('progress', { lease: leaseOf(job), percent: 50, message: null })
  const shown = () => rig.ask('job', job.id)?.progress?.percent
  assert.equal(shown(), undefined)
  rig.pass(1000)
  assert.equal(shown(), 50)
})

test('a handler that hears late that its lease is lost keeps its job from its process for 30 s from then', (t) => {
  const rig = new Rig(t)
  const { clock } = rig
  let commitMs = 0
  class Slow extends Db {
    override commit(): void {
      super.commit()
      clock.advance(commitMs)
    }
  }
  rig.restart(0, (path) => connect(path, clock, () => new Slow(path, clock)))
  const { worker, job } = rig.work()
  rig.pass(44_000)
  commitMs = 40_000
  rig.pass(2000)
  commitMs = 0
  assert.deepEqual([rig.lost(), rig.ask('job', job.id)!.state], [[job.id], 'ready'])
  const request = { worker, sources, slots: 1, exclude: [] }
  assert.throws(() => rig.ask('lease', request), /waits/)
  rig.pass(25_000)
  assert.equal(rig.ask('job', job.id)!.state, 'ready')
  rig.pass(5000)
  assert.equal(rig.ask('job', job.id)!.state, 'running')
})

test('a worker that was seen last by a clock that was set back since is not there for ever', (t) => {
  const rig = new Rig(t)
  rig.ask('register', { name: 'w', sources, slots: 1, remote: 'far', instance: 'i' })
  rig.ask('submit', { specs: jobSpec('a', {}), payloads: ['1'], keys: null })
  rig.clock.jump(-3_600_000)
  rig.pass(61_000)
  assert.deepEqual(rig.ask('stats', null).unhandled, [{ queue: 'default', type: 'a' }])
})
