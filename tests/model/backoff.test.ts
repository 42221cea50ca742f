import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  type Backoff,
  backoffDelay,
  checkedBackoff,
  defaultBackoff,
  retryTimes,
  type StoredBackoff,
  storedBackoff,
} from '../../src/model/backoff.ts'

const hour = 3_600_000
const delays = (backoff: Backoff, attempts: number): number[] =>
  Array.from({ length: attempts }, (_, i) => backoffDelay(storedBackoff(backoff), i + 1, 1))

test('the delays of each kind, attempt by attempt', () => {
  const table: [Backoff, number[]][] = [
    [{ kind: 'constant', delay: '3s' }, [3000, 3000, 3000]],
    [{ kind: 'linear', delay: 1000 }, [1000, 2000, 3000]],
    [{ kind: 'linear', delay: 1000, max: 1500 }, [1000, 1500, 1500]],
    [{ kind: 'exponential' }, [5000, 10_000, 20_000, 40_000]],
    [{ kind: 'exponential', delay: 10, factor: 3, max: 200 }, [10, 30, 90, 200, 200]],
    [{ kind: 'table', delays: ['1s', '1m', 5] }, [1000, 60_000, 5, 5, 5]],
    [{ kind: 'custom', name: 'mine' }, [5000, 10_000, 20_000]],
  ]
  for (const [backoff, expected] of table) assert.deepEqual(delays(backoff, expected.length), expected, backoff.kind)
})

test('the default is exponential, 5 s x 2, at most an hour, without jitter', () => {
  assert.deepEqual(defaultBackoff, { kind: 'exponential', delay: 5000, factor: 2, max: hour, jitter: 0 })
  assert.deepEqual(storedBackoff({ kind: 'exponential' }), defaultBackoff)
  assert.equal(backoffDelay(defaultBackoff, 1000, 1), hour)
})

test('a constant delay above an hour is meant: it is its own cap', () => {
  assert.deepEqual(delays({ kind: 'constant', delay: '1d' }, 2), [86_400_000, 86_400_000])
})

test('a wrong backoff is refused', () => {
  const refused: unknown[] = [
    null,
    'exponential',
    {},
    { kind: 'fibonacci' },
    { kind: 'constant' },
    { kind: 'constant', delay: -1 },
    { kind: 'linear', delay: 'soon' },
    { kind: 'constant', delay: 1, max: -1 },
    { kind: 'exponential', factor: 0.5 },
    { kind: 'exponential', factor: 101 },
    { kind: 'exponential', factor: Number.NaN },
    { kind: 'exponential', factor: '2' },
    { kind: 'exponential', jitter: -0.1 },
    { kind: 'exponential', jitter: 1.1 },
    { kind: 'exponential', jitter: '0.5' },
    { kind: 'table', delays: [] },
    { kind: 'table', delays: '5s' },
    { kind: 'table', delays: [1, -1] },
    { kind: 'table', delays: Array.from({ length: 1001 }, () => 1) },
    { kind: 'custom', name: '' },
    { kind: 'custom', name: 5 },
  ]
  for (const backoff of refused)
    assert.throws(() => checkedBackoff(backoff as Backoff), { code: 'INVALID_ARGUMENT' }, JSON.stringify(backoff))
})

const ms = fc.oneof(fc.constant(0), fc.nat(10 * hour))
const jitter = fc.oneof(fc.constant(0), fc.double({ min: 0, max: 1, noNaN: true }))
const attempt = fc.integer({ min: 1, max: 1000 })
const id = fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER })
const exponential = fc.record({
  kind: fc.constant('exponential' as const),
  delay: ms,
  factor: fc.double({ min: 1, max: 100, noNaN: true }),
  max: ms,
  jitter,
})
const stored: fc.Arbitrary<StoredBackoff> = fc.oneof(
  fc.record({ kind: fc.constantFrom('constant' as const, 'linear' as const), delay: ms, max: ms, jitter }),
  exponential,
  fc.record({ kind: fc.constant('table' as const), delays: fc.array(ms, { minLength: 1, maxLength: 20 }), jitter }),
  fc.record({ kind: fc.constant('custom' as const), name: fc.constant('mine') }),
)
const cap = (backoff: StoredBackoff): number => {
  if (backoff.kind === 'custom') return hour
  return backoff.kind === 'table' ? Math.max(...backoff.delays) : backoff.max
}
const jitterOf = (backoff: StoredBackoff): number => (backoff.kind === 'custom' ? 0 : backoff.jitter)
const steady = (backoff: StoredBackoff): StoredBackoff =>
  backoff.kind === 'custom' ? backoff : { ...backoff, jitter: 0 }

test('a delay is a whole number of ms, never negative, and capped', () => {
  fc.assert(
    fc.property(stored, attempt, id, (backoff, n, job) => {
      const delay = backoffDelay(backoff, n, job)
      assert.ok(Number.isSafeInteger(delay) && delay >= 0, String(delay))
      assert.ok(backoffDelay(steady(backoff), n, job) <= cap(backoff))
      assert.ok(delay <= Math.round(cap(backoff) * (1 + jitterOf(backoff))))
    }),
    { numRuns: 1000, examples: [[{ kind: 'exponential', delay: 0, factor: 100, max: hour, jitter: 0 }, 1000, 1]] },
  )
})

test('jitter repeats and stays within its part of the delay', () => {
  fc.assert(
    fc.property(stored, attempt, id, (backoff, n, job) => {
      const plain = backoffDelay(steady(backoff), n, job)
      const delay = backoffDelay(backoff, n, job)
      assert.equal(backoffDelay(structuredClone(backoff), n, job), delay)
      assert.ok(Math.abs(delay - plain) <= plain * jitterOf(backoff) + 1)
    }),
    { numRuns: 1000 },
  )
})

test('jitter spreads: jobs that fail together come back over the whole range', () => {
  const backoff = storedBackoff({ kind: 'constant', delay: 1000, jitter: 0.5 })
  const all = Array.from({ length: 1000 }, (_, i) => backoffDelay(backoff, 1, i + 1))
  assert.ok(Math.min(...all) < 550 && Math.max(...all) > 1450)
  assert.ok(new Set(all).size > 500)
})

test('exponential never shrinks from one attempt to the next', () => {
  fc.assert(
    fc.property(exponential, fc.integer({ min: 1, max: 999 }), id, (backoff, n, job) => {
      const calm = { ...backoff, jitter: 0 }
      assert.ok(backoffDelay(calm, n + 1, job) >= backoffDelay(calm, n, job))
    }),
  )
})

test('no try is foretold for the deadline or later', () => {
  const job = { id: 1, backoff: storedBackoff({ kind: 'constant', delay: 10 }), maxAttempts: 4, attemptsLeft: 4 }
  const times = (deadline?: number | null) => retryTimes({ ...job, state: 'ready', ...(deadline !== undefined && { deadline }) }, 100) // biome-ignore format: one line
  for (const none of [undefined, null, 131]) assert.deepEqual(times(none), [100, 110, 120, 130])
  assert.deepEqual([times(130), times(111), times(100)], [[100, 110, 120], [100, 110], []])
})
