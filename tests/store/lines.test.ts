import assert from 'node:assert/strict'
import { test } from 'node:test'
import { jobSpec } from '../../src/model/job.ts'
import { Engine } from '../../src/store/sqlite/commit.ts'
import { connect } from '../../src/store/sqlite/connection.ts'
import { Lines } from '../../src/store/sqlite/lines.ts'
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

test('a rate has room again at the instant of a submission: the job that waited for it goes first', () => {
  const clock = new VirtualClock()
  const engine = new Engine(':memory:', clock)
  let seq = 0
  const ask = <Name extends Operation>(operation: Name, input: Input<Name>): Map<number, unknown> => {
    const replies = engine.execute([{ seq: ++seq, operation, input }])
    return new Map(replies.map((reply) => [reply.seq, 'error' in reply ? reply.error : reply.value]))
  }
  const submit = (type: string) => ask('submit', { specs: jobSpec(type, {}), payloads: ['1'], keys: null })
  const both = [...sources, { queue: 'default', type: 'b' }]
  ask('setQueue', { queue: 'default', rate: { max: 1, per: 1000 } })
  submit('a')
  const worker = ask('register', { name: 'w', sources: both, slots: 10 }).get(seq) as number
  const lease = () => ask('lease', { worker, sources: both, slots: 10, exclude: [] })
  const types = (jobs: unknown) => (jobs as LeasedJob[] | undefined)?.map(({ type }) => type)
  assert.deepEqual(types(lease().get(seq)), ['a'])
  submit('b')
  assert.equal(lease().size, 0, 'it waits')
  const waiting = seq
  clock.advance(2000) // and no look of the engine comes between
  assert.deepEqual(types(submit('a').get(waiting)), ['b'])
  engine.close()
})
