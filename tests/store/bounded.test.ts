import assert from 'node:assert/strict'
import { test } from 'node:test'
import { jobSpec } from '../../src/model/job.ts'
import { meteredStore } from '../support/metered.ts'

// How long a transaction holds the write lock, on a store whose time passes with each statement and row.

test('a read beside a write: the lock is not held for it', async () => {
  const { store, longest, sql } = meteredStore()
  sql(`WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
       INSERT INTO gq_queues (name) SELECT 'q' || i FROM n`)
  longest()
  const [{ queues }] = await Promise.all([
    store.call('stats', null),
    store.call('submit', { specs: jobSpec('work', {}), payloads: ['1'], keys: null }),
  ])
  assert.equal(queues.length, 2001, 'it sees what was asked for beside it')
  assert.ok(longest() < 10, 'ms')
  await store.close()
})
