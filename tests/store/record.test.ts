import assert from 'node:assert/strict'
import { test } from 'node:test'
import { jobSpec } from '../../src/model/job.ts'
import { Engine } from '../../src/store/sqlite/commit.ts'
import type { Input, Operation, Output } from '../../src/store/store.ts'
import { VirtualClock } from '../../src/testing/clock.ts'

test('an entry of the audit log is of one action: a later one of the same filter has its own, and its own time', () => {
  const clock = new VirtualClock() // in which no step ends before its limit
  const engine = new Engine(':memory:', clock)
  let seq = 0
  const ask = <K extends Operation>(operation: K, input: Input<K>, who?: string): Output<K> => {
    const [reply] = engine.execute([{ seq: ++seq, operation, input, ...(who !== undefined && { who }) }])
    assert.ok(reply && 'value' in reply)
    return reply.value as Output<K>
  }
  for (const type of ['mail', 'other'])
    ask('submit', { specs: jobSpec(type, {}), payloads: Array(1500).fill('null'), keys: null, trace: null })
  const filter = { type: 'mail' }
  const steps = (limit: number | undefined, cursors: (number | null)[]) =>
    cursors.map((cursor) => {
      clock.advance(60_000)
      const page = { ...filter, cursor, order: 'newest' as const, ...(limit !== undefined && { limit }) }
      return ask('many', { event: 'cancel', filter: page }, 'token:ops')
    })
  const start = clock.now()
  assert.deepEqual(steps(10, [1501]), [{ changed: 10, next: 1491 }])
  assert.deepEqual(steps(500, [1501, 1001]), [{ changed: 490, next: 1001 }, { changed: 500, next: 501 }]) // biome-ignore format: short
  steps(1000, [1501, 501])
  steps(undefined, [1501, 1401])
  const { entries } = ask('auditLog', {})
  const found = entries.reverse().map(({ at, details }) => [(at - start) / 60_000, details])
  const event = { event: 'cancel', filter }
  assert.deepEqual(found, [
    [1, { ...event, limit: 10, changed: 10, next: 1491 }],
    [2, { ...event, limit: 990, changed: 990, next: 501 }],
    [4, { ...event, changed: 500 }],
    [6, { ...event, changed: 0, next: 1301 }],
  ])
  engine.close()
})
