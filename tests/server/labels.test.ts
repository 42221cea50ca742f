import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Queues } from '../../src/server/labels.ts'
import type { Stats } from '../../src/store/store.ts'

type Queue = Stats['queues'][number]
const counts = { scheduled: 0, ready: 1, running: 0, succeeded: 0, dead: 0, cancelled: 0 }
const totals = (submitted: number) => ({ submitted, succeeded: 0, failed: 0, dead: 0, cancelled: 0 })
const queues = (given: Record<string, number>) =>
  Object.entries(given).map(([queue, submitted]) => ({ queue, paused: false, counts, totals: totals(submitted) }) as unknown as Queue) // biome-ignore format: long
const others = (queues = 0, submitted = 0): Stats['others'] => {
  return { queues, counts: { ...counts, ready: queues }, totals: totals(submitted), workers: 0, lines: false }
}

/** What is told: jobs submitted and ready, by label. */
function say(labels: Queues, given: Record<string, number>, rest = others()): Record<string, [number, number]> {
  const told = labels.told(queues(given), rest)
  return Object.fromEntries(told.map(({ queue, totals, counts }) => [queue, [totals.submitted, counts.ready]]))
}

test('queues up to the bound have series of their own, and without others there is none of that name', () => {
  const labels = new Queues(2)
  assert.deepEqual(say(labels, { a: 3, b: 5 }), { a: [3, 1], b: [5, 1] })
  assert.deepEqual(say(labels, { a: 4, b: 5 }), { a: [4, 1], b: [5, 1] })
})

test('the rest is one series, which grows by what happens there alone, whoever comes and goes', () => {
  const labels = new Queues(2)
  assert.deepEqual(say(labels, { a: 3, b: 5, c: 7 }, others(10, 100)), { a: [3, 1], b: [5, 1], other: [107, 11] })
  assert.deepEqual(say(labels, { a: 4, b: 6, c: 8 }, others(10, 100)).other, [108, 11])
  assert.deepEqual(say(labels, { b: 6, c: 9, d: 1 }, others(11, 104)).other![0], 110) // a is among the others now
  assert.deepEqual(say(labels, { a: 9, b: 6, c: 9 }, others(11, 101)).a, [9, 1])
})

test('a forgotten queue gives its place to another, and takes nothing from what was told of the rest', () => {
  const labels = new Queues(2)
  say(labels, { a: 3, b: 5 })
  assert.deepEqual(say(labels, { b: 5 }, others(0, 3)), { b: [5, 1] })
  assert.deepEqual(say(labels, { b: 5, c: 1 }, others(0, 3)), { b: [5, 1], c: [1, 1] })
  assert.deepEqual(say(labels, { b: 5, c: 1, d: 2 }, others(0, 3)), { b: [5, 1], c: [1, 1], other: [2, 1] })
})

test('a queue that is forgotten and made again goes on from where its counters were, and nothing is counted twice', () => {
  for (const isSeen of [true, false]) {
    const labels = new Queues(2)
    say(labels, { a: 5, b: 1 })
    if (isSeen) say(labels, { b: 1 }, others(0, 5))
    assert.deepEqual(say(labels, { a: 3, b: 1 }, others(0, 5)), { a: [8, 1], b: [1, 1] })
    assert.deepEqual(say(labels, { a: 4, b: 1 }, others(0, 5)), { a: [9, 1], b: [1, 1] })
    say(labels, { b: 1 }, others(0, 9))
    assert.deepEqual(say(labels, { a: 1, b: 1 }, others(0, 9)), { a: [10, 1], b: [1, 1] })
  }
})
