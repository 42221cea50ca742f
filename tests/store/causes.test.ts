import assert from 'node:assert/strict'
import { test } from 'node:test'
import { mostCauses, otherCause } from '../../src/model/cause.ts'
import { jobSpec } from '../../src/model/job.ts'
import type { CausePage } from '../../src/store/store.ts'
import { meteredStore } from '../support/metered.ts'

// Counts by cause of files that an older version wrote, of many causes, and of many jobs.

/** Dead jobs of two causes, some that fail now and some that succeeded after failures, as an older version leaves them: not counted. */
const olderFile = (jobs: number) => `
  WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${jobs})
  INSERT INTO gq_jobs (type, payload, blocked, state, attempt, reason, finished_at, run_at, result)
  SELECT 'work', '1', 0, iif(i % 4 < 2, 'dead', iif(i % 4 = 2, 'scheduled', 'succeeded')), 2, iif(i % 4 < 2, 'exhausted', NULL), iif(i % 4 = 2, NULL, i), iif(i % 4 = 2, 8640000000000000, NULL), iif(i % 4 = 3, '1', NULL) FROM n;
  INSERT INTO gq_attempts (job_id, attempt, started_at, finished_at, outcome, error_name, error_message)
  SELECT id, 1, id, id, 'failed', 'Error', iif(id % 2, 'status 404 of ' || id, 'status 503') FROM gq_jobs WHERE attempt = 2;
  INSERT INTO gq_attempts (job_id, attempt, started_at, finished_at, outcome, error_name, error_message)
  SELECT id, 2, id, id, 'failed', 'Error', iif(id % 2, 'status 404 of ' || id, 'status 503') FROM gq_jobs WHERE state <> 'succeeded' AND attempt = 2;
  INSERT INTO gq_queues (name) VALUES ('default') ON CONFLICT DO NOTHING;
  UPDATE gq_queues SET dead = (SELECT COUNT(*) FROM gq_jobs WHERE state = 'dead'), scheduled = (SELECT COUNT(*) FROM gq_jobs WHERE state = 'scheduled'), succeeded = (SELECT COUNT(*) FROM gq_jobs WHERE state = 'succeeded');
  INSERT OR REPLACE INTO gq_meta VALUES ('causes', '0')`

test('jobs of an older file are counted in steps of 2 ms, while the answer says so, beside what happens to them', async () => {
  const { store, longest, sql } = meteredStore()
  await store.call('register', { name: 'w', sources: [{ queue: 'elsewhere', type: 'other' }], slots: 1 })
  sql(olderFile(4000))
  longest()
  const first = await store.call('deadLetters', {})
  assert.equal(first.counting, true)
  const part = { code: 'INVALID_STATE', message: /still being counted by cause/ }
  await assert.rejects(store.call('jobs', { failing: true }), part)
  const filter = { cause: 'Error: status 503' }
  await assert.rejects(store.call('many', { event: 'remove', filter }), part)
  await store.call('retry', 4)
  let steps = 0
  for (; (await store.call('deadLetters', {})).counting; steps++) store.advance(5)
  assert.ok(steps > 10 && longest() < 6, `${steps} steps, ${longest()} ms`)
  const counts = async (which: 'deadLetters' | 'failing') =>
    (await store.call(which, {})).causes.map(({ cause, count, newest, oldest }) => [cause, count, newest, oldest])
  assert.deepEqual(await counts('deadLetters'), [
    ['Error: status 404 of #', 1000, 3997, 1],
    ['Error: status 503', 999, 4000, 8],
  ])
  assert.deepEqual(await counts('failing'), [['Error: status 503', 1000, 3998, 2]])
  await store.close()
})

test('what an older rule has named is named anew, in steps', async () => {
  const { store, sql, longest, value } = meteredStore()
  await store.call('register', { name: 'w', sources: [{ queue: 'elsewhere', type: 'other' }], slots: 1 })
  sql(olderFile(400))
  while ((await store.call('deadLetters', {})).counting) store.advance(5)
  const causes = await store.call('deadLetters', {})
  sql(`UPDATE gq_causes SET rule = 0, cause = 'as it was ' || id, jobs = jobs + 7`)
  longest()
  assert.deepEqual((await store.call('deadLetters', {})).counting, true)
  while ((await store.call('deadLetters', {})).counting) store.advance(5)
  assert.ok(longest() < 6)
  assert.deepEqual(await store.call('deadLetters', {}), causes)
  assert.equal(value(`SELECT COUNT(*) FROM gq_causes WHERE cause LIKE 'as%'`), 0)
  await store.close()
})

test('beyond the most causes of a queue and type the rest is counted as other, and found by it', async () => {
  const { store, value } = meteredStore()
  const worker = await store.call('register', {
    name: 'w',
    sources: [{ queue: 'default', type: 'work' }],
    slots: 10_000,
  })
  const jobs = mostCauses + 5
  await store.call('submit', { specs: jobSpec('work', {}), payloads: Array<string>(jobs).fill('1'), keys: null })
  const leased = await store.call('lease', {
    worker,
    sources: [{ queue: 'default', type: 'work' }],
    slots: jobs,
    exclude: [],
  })
  const word = (n: number) => [...String(n)].map((digit) => 'ghijklmnop'[Number(digit)]).join('')
  for (const [i, lease] of leased.entries())
    await store.call('fail', { lease, kind: 'permanent', error: { name: 'E', message: `no ${word(i)}`, stack: null }, retryAfter: null }) // biome-ignore format: one line
  assert.equal(value('SELECT COUNT(*) FROM gq_causes'), mostCauses + 1)
  const [most] = (await store.call('deadLetters', { limit: 1 })).causes
  assert.deepEqual([most?.cause, most?.count], [otherCause, 5])
  let pages = 0
  let counted = 0
  for (let cursor: string | null = null; pages === 0 || cursor !== null; pages++) {
    const page: CausePage = await store.call('deadLetters', { cursor })
    assert.ok(page.causes.length <= 200)
    counted += page.causes.reduce((sum, { count }) => sum + count, 0)
    cursor = page.next
  }
  assert.deepEqual([pages, counted], [6, jobs])
  assert.equal((await store.call('jobs', { cause: otherCause })).jobs.length, 5)
  await store.close()
})
