import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Gaps } from '../../src/store/sqlite/gaps.ts'
import { VirtualClock } from '../../src/testing/clock.ts'

/** A process that expects its next look in 500 ms, and looks after `ms`. */
function rig() {
  const clock = new VirtualClock()
  const skipped: number[] = []
  const waited: number[] = []
  const gaps = new Gaps(
    clock,
    (ms) => skipped.push(ms),
    (ms) => waited.push(ms),
  )
  return {
    ...{ clock, gaps, skipped, waited },
    look(ms: number) {
      gaps.expect(500)
      clock.advance(ms)
      gaps.check(clock.monotonic())
      return gaps.mayTake
    },
  }
}

test('the first transaction after a gap takes nothing, the next one does; the time of the gap counts for nothing', () => {
  const { gaps, look, skipped } = rig()
  assert.deepEqual([look(500), look(1500), skipped], [true, true, []])
  assert.deepEqual([look(5000), skipped], [false, [4500]])
  assert.deepEqual([look(400), look(500)], [false, false]) // nothing was written yet
  gaps.written()
  assert.equal(look(500), true)
})

test('a long stop after a row of short gaps is a gap of its own; one that comes again and again is not', () => {
  const { gaps, look } = rig()
  const after = (...all: number[]) =>
    all.map((ms) => {
      const may = look(ms)
      gaps.written()
      return may
    })
  assert.deepEqual(after(20_000, 2000, 2000, 2000, 2000, 20_000).at(-1), false)
  assert.deepEqual(after(2000, 20_000, 2000, 20_000, 2000, 20_000).at(-1), true)
})

test('where each transaction follows a gap, the sixth takes leases', () => {
  const { gaps, look } = rig()
  const taking = [1, 2, 3, 4, 5, 6].map(() => {
    const may = look(5000)
    gaps.written()
    return may
  })
  assert.deepEqual(taking, [false, false, false, false, false, true])
})

test('a short wait for the lock is no gap, and counts once as time in which nobody could renew', () => {
  const { clock, gaps, look, skipped, waited } = rig()
  assert.equal(look(500), true)
  for (const ms of [99, 900, 300]) {
    gaps.expect(500)
    const before = clock.monotonic()
    clock.advance(ms)
    gaps.check(before)
    gaps.check(before)
    assert.equal(gaps.mayTake, true)
    gaps.written()
  }
  assert.deepEqual([skipped, waited], [[], [900, 300]])
})

test('looks that are always late, by less than a gap, count as time in which others could renew', () => {
  const { look, skipped, waited } = rig()
  for (const ms of [700, 1400, 900]) assert.equal(look(ms), true)
  assert.deepEqual([skipped, waited], [[], []])
})
