import assert from 'node:assert/strict'
import { test } from 'node:test'
import { connect } from '../../src/store/sqlite/connection.ts'
import { Lines } from '../../src/store/sqlite/lines.ts'
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
