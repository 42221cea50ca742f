import assert from 'node:assert/strict'
import { test } from 'node:test'
import { givesWay, mustHaveRoom, placesOwed, startOf } from '../../src/model/admission.ts'
import { type JobOptions, jobSpec } from '../../src/model/job.ts'

const now = 10_000

const starts: [JobOptions, string, number | null, number | null][] = [
  [{}, 'ready', null, null],
  [{ delay: 1 }, 'scheduled', now + 1, null],
  [{ delay: 0 }, 'ready', null, null],
  [{ runAt: now }, 'ready', null, null],
  [{ runAt: now + 1 }, 'scheduled', now + 1, null],
  [{ deadline: now + 1 }, 'ready', null, now + 1],
  [{ deadline: '1m', delay: '1s' }, 'scheduled', now + 1000, now + 60_000],
  [{ deadline: now + 1, runAt: now - 1 }, 'ready', null, now + 1],
]

for (const [options, ...expected] of starts)
  test(`a job with ${JSON.stringify(options)} starts ${expected[0]}`, () => {
    const { state, runAt, deadline } = startOf(jobSpec('t', options), now)
    assert.deepEqual([state, runAt, deadline], expected)
  })

test('a deadline that is past is refused, as the mistake that it mostly is', () => {
  for (const deadline of [60, now])
    assert.throws(() => startOf(jobSpec('t', { deadline }), now), { code: 'INVALID_ARGUMENT', message: /is past/ })
  assert.throws(() => startOf(jobSpec('t', { deadline: '0s' }), now), { message: /0 ms from now/ })
})

test('a deadline by which the job is not even due is refused', () => {
  for (const options of [
    { deadline: '2h', delay: '3h' },
    { deadline: '2h', delay: '2h' },
    { deadline: now + 1000, delay: '2h' },
    { deadline: '1s', runAt: now + 1000 },
    { deadline: now + 1000, runAt: new Date(now + 1001) },
  ] satisfies JobOptions[])
    assert.throws(() => startOf(jobSpec('t', options), now), {
      code: 'INVALID_ARGUMENT',
      message: /is due at 1970-.*no attempt could start/,
    })
})

test('a queue takes as many waiting jobs as it may, all or none of a bulk', () => {
  for (const [maxDepth, waiting, more] of [[null, 1e9, 1], [3, 2, 1], [3, 0, 3]] as const) mustHaveRoom('q', maxDepth, waiting, more) // biome-ignore format: a table
  for (const [maxDepth, waiting, more] of [[3, 3, 1], [3, 2, 2], [3, 9, 0]] as const) // biome-ignore format: a table
    assert.throws(() => mustHaveRoom('q', maxDepth, waiting, more), { code: 'QUEUE_FULL' })
})

test('a place of a key is given up for what comes first by class and id', () => {
  const job = { id: 5, priority: 2 }
  const ways: [Parameters<typeof givesWay>[0], boolean][] = [[undefined, false], [{ id: 4, priority: 2 }, false], [{ id: 6, priority: 2 }, true], [{ id: 6, priority: 1 }, false], [{ id: 4, priority: 3 }, true]] // biome-ignore format: a table
  for (const [last, expected] of ways) assert.equal(givesWay(last, job), expected, JSON.stringify(last))
})

test('a new limit per key gives or takes places, so many at once', () => {
  const owed = [[1, 1, 50], [3, 1, 50], [1, 4, 50], [100, 1, 50], [1, 100, 50]].map(([limit, held, most]) => placesOwed(limit!, held!, most!)) // biome-ignore format: a table
  assert.deepEqual(owed, [0, 2, -3, 50, -50])
})
