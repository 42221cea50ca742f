import assert from 'node:assert/strict'
import { test } from 'node:test'
import { systemClock } from '../../src/model/clock.ts'
import { Company } from '../../src/store/sqlite/company.ts'
import { connect } from '../../src/store/sqlite/connection.ts'

/** Which jobs a worker must not take at `monotonic`; a handler of job 1 goes on in its process. */
function excludedAt(company: Company, monotonic: number): number[] {
  const db = connect(':memory:', systemClock)
  db.begunAt = monotonic
  const overdue = JSON.stringify([{ id: 1, token: 7, since: 0 }])
  const { excluded } = company.ask(db, 1, { instance: 'i', restricted: 0, overdue } as never, [])
  db.connection.close()
  return [...excluded]
}

test('a handler that goes on gets as much longer as its process stood still since then', () => {
  const company = new Company(() => true)
  company.goOn([{ id: 1, token: 7 }], 10_000)
  company.skip(60_000, 80_000) // the gap began at 20 s
  assert.deepEqual([excludedAt(company, 99_999), excludedAt(company, 100_000)], [[1], []])
})

test('a gap that was over when it heard that its lease is lost makes it no longer', () => {
  const company = new Company(() => true)
  company.goOn([{ id: 1, token: 7 }], 80_000)
  company.skip(60_000, 80_000) // counted after it was told, as a look that stood still counts its gap at its end
  assert.deepEqual([excludedAt(company, 109_999), excludedAt(company, 110_000)], [[1], []])
})
