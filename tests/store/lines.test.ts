import assert from 'node:assert/strict'
import { test } from 'node:test'
import { jobSpec } from '../../src/model/job.ts'
import { Engine } from '../../src/store/sqlite/commit.ts'
import { connect } from '../../src/store/sqlite/connection.ts'
import { Lines } from '../../src/store/sqlite/lines.ts'
import type { Reply } from '../../src/store/sqlite/request.ts'
import type { Input, LeasedJob, Operation } from '../../src/store/store.ts'
import { VirtualClock } from '../../src/testing/clock.ts'

const sources = [{ queue: 'default', type: 'a' }]

for (const [what, excluded, from, empty] of [
  ['with no job', [], 0, sources],
  ['whose job its worker must not take', [1], 0, []],
  ['whose job stands before the class that the worker drains for', [], 3, []],
  ['whose job stands before that class, and its worker must not take it', [1], 3, []],
] as const)
  test(`a line ${what}, after a claim that found none`, () => {
    const db = connect(':memory:', new VirtualClock())
    const state = what === 'with no job' ? 'cancelled' : 'ready'
    const end = state === 'ready' ? 'NULL' : '1'
    db.connection.exec(`INSERT INTO gq_jobs (type, payload, blocked, priority, state, finished_at)
      VALUES ('a', '1', 0, 2, '${state}', ${end})`)
    db.begin('read')
    const claim = new Lines(sources).claim(db, () => 10, { limit: 5, excluded: new Set(excluded), before: null, from })
    assert.equal(claim.next(), undefined)
    assert.deepEqual(claim.end(new Set()), empty)
    db.rollback()
    db.connection.close()
  })

/** An engine with a queue of one start a second, and a worker. */
class Rated {
  readonly clock = new VirtualClock()
  readonly engine = new Engine(':memory:', this.clock)
  readonly both = [...sources, { queue: 'default', type: 'b' }]
  readonly worker: number
  seq = 0

  constructor() {
    this.ask('setQueue', { queue: 'default', rate: { max: 1, per: 1000 } })
    this.worker = this.ask('register', { name: 'w', sources: this.both, slots: 10 }).get(this.seq) as number
  }

  ask<Name extends Operation>(operation: Name, input: Input<Name>): Map<number, unknown> {
    return this.#heard(this.engine.execute([{ seq: ++this.seq, operation, input }]))
  }

  #heard(replies: Reply[]): Map<number, unknown> {
    return new Map(replies.map((reply) => [reply.seq, 'error' in reply ? reply.error : reply.value]))
  }

  submit(type: string): Map<number, unknown> {
    return this.ask('submit', { specs: jobSpec(type, {}), payloads: ['1'], keys: null })
  }

  lease(): Map<number, unknown> {
    return this.ask('lease', { worker: this.worker, sources: this.both, slots: 10, exclude: [] })
  }

  tick(): Map<number, unknown> {
    return this.#heard(this.engine.tick())
  }
}

const types = (jobs: unknown) => (jobs as LeasedJob[] | undefined)?.map(({ type }) => type)

test('a rate has room again at the instant of a submission: the job that waited for it goes first', () => {
  const at = new Rated()
  at.submit('a')
  assert.deepEqual(types(at.lease().get(at.seq)), ['a'])
  at.submit('b')
  assert.equal(at.lease().size, 0, 'it waits')
  const waiting = at.seq
  at.clock.advance(2000) // and no look of the engine comes between
  assert.deepEqual(types(at.submit('a').get(waiting)), ['b'])
  at.engine.close()
})

test('a rate whose starts are in the future, as the wall clock was set back, has room a period from now, and not later', () => {
  const at = new Rated()
  at.submit('a')
  assert.deepEqual(types(at.lease().get(at.seq)), ['a'])
  at.clock.advance(5000)
  at.tick() // there is room again
  at.clock.jump(-3_600_000)
  at.submit('b')
  assert.equal(at.lease().size, 0, 'it waits')
  const waiting = at.seq
  at.clock.advance(1001)
  assert.deepEqual(types(at.tick().get(waiting)), ['b'])
  at.engine.close()
})
