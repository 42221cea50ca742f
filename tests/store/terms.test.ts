import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Db } from '../../src/store/sqlite/db.ts'
import { Terms } from '../../src/store/sqlite/terms.ts'

/** What a process sees of a lease of 30 s that another holds. */
function rig() {
  const terms = new Terms()
  const row = { id: 1, token: 1, expiresAt: 30_000, overSince: null as number | null, life: 30_000, over: 900_000 }
  return {
    row,
    /** Looks at that instant of both clocks; says whether the lease may be taken. */
    looks(wall: number, monotonic: number): boolean {
      terms.look({ now: wall, all: () => [{ ...row }] } as unknown as Db, monotonic)
      return terms.toTake(monotonic).length > 0
    },
  }
}

test('a lease is taken half of its life after it was found over, of which a new process trusts the wall clock', () => {
  const { row, looks } = rig()
  row.overSince = 30_000
  assert.deepEqual([looks(46_000, 0), looks(46_999, 999), looks(47_000, 1000)], [false, false, true])
})

test('a wall clock that is set forward a second time does not shorten that half for who was there', () => {
  const { row, looks } = rig()
  assert.equal(looks(30_000, 0), false) // it was set forward by 30 s
  row.overSince = 34_000
  assert.deepEqual([looks(65_000, 5000), looks(66_250, 6250), looks(74_999, 14_999)], [false, false, false])
  assert.equal(looks(75_000, 15_000), true)
})
