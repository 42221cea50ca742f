import assert from 'node:assert/strict'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import { GopherQueue } from '../../src/index.ts'
import { jobSpec } from '../../src/model/job.ts'
import { Engine } from '../../src/store/sqlite/commit.ts'
import { sql as first } from '../../src/store/sqlite/schema/001.ts'
import { newestSchema } from '../../src/store/sqlite/schema.ts'
import { VirtualClock } from '../../src/testing/clock.ts'
import { temporaryFolder } from '../support/folder.ts'
import { olderFile } from '../support/older.ts'

/** A file as the first version made it, with a job in each state and a schedule. */
function firstVersion(file: string): void {
  using db = new DatabaseSync(file)
  db.exec(`PRAGMA journal_mode = WAL; BEGIN; ${first}
    INSERT INTO gq_meta (key, value) VALUES ('schema', '1');
    INSERT INTO gq_jobs (type, payload, state, blocked, run_at) VALUES ('mail', '1', 'scheduled', 0, 8640000000000000);
    INSERT INTO gq_jobs (type, payload, blocked) VALUES ('mail', '2', 0);
    INSERT INTO gq_jobs (type, payload, state, blocked, finished_at, reason, attempt) VALUES ('mail', '3', 'dead', 0, 1, 'permanent', 1);
    INSERT INTO gq_queues (name, scheduled, ready, dead, all_submitted) VALUES ('default', 1, 1, 1, 3);
    INSERT INTO gq_schedules (name, cron, timezone, spec, payload, missed, overlap, defined_at, defined_by) VALUES ('nightly', '0 3 * * *', 'UTC',
      '{"queue":"default","type":"mail","priority":2,"maxAttempts":12,"backoff":null,"timeout":900000,"onTimeout":"retry","visibilityTimeout":30000,"delay":0,"runAt":null,"deadline":null,"deadlineIn":null,"idempotencyWindow":86400000,"concurrencyKey":null}',
      '4', 'once', 'allow', 1, '[]');
    COMMIT`)
}

test('a file of the first version is brought forward once, and its jobs and schedules go on', async () => {
  using folder = temporaryFolder()
  const file = folder.file('jobs.db')
  firstVersion(file)
  await using one = await GopherQueue.open(file)
  await using two = await GopherQueue.open(file)
  const { jobs } = await two.jobs({ order: 'oldest' })
  assert.deepEqual(jobs.map(({ state, postponed, uniqueKey }) => [state, postponed, uniqueKey]), [['scheduled', 0, null], ['ready', 0, null], ['dead', 0, null]]) // biome-ignore format: a table
  const db = new DatabaseSync(file, { readOnly: true })
  assert.equal(db.prepare(`SELECT value FROM gq_meta WHERE key = 'schema'`).get()!.value, String(newestSchema))
  db.close()
  const payloads: unknown[] = []
  one.define('mail', {}, ({ payload }) => void payloads.push(payload))
  assert.equal((await one.runNow(1)).state, 'ready')
  assert.equal((await one.retry(3)).state, 'ready')
  one.work({ concurrency: 1 })
  for (const id of [1, 2, 3]) await one.wait(id)
  assert.deepEqual(payloads, [1, 2, 3])
  const { id, duplicate } = await two.submit('mail', 5, { uniqueKey: 'k', delay: '1h' })
  assert.deepEqual([duplicate, await two.submit('mail', 6, { uniqueKey: 'k' })], [false, { id, duplicate: true, state: 'scheduled' }]) // biome-ignore format: one line
})

test('a schedule that an earlier version wrote submits jobs without a unique key', () => {
  using folder = temporaryFolder()
  const file = folder.file('jobs.db')
  firstVersion(file)
  const engine = new Engine(file, new VirtualClock())
  for (const seq of [1, 2]) engine.execute([{ seq, operation: 'runSchedule', input: 'nightly' }])
  engine.close()
  using db = new DatabaseSync(file)
  assert.deepEqual(db.prepare('SELECT unique_key FROM gq_jobs WHERE id > 3').all().map((row) => row.unique_key), [null, null]) // biome-ignore format: one line
})

test('types of jobs that an older version has stored count for the bound of their queue, and are taken on', async () => {
  using folder = temporaryFolder()
  const file = folder.file('jobs.db')
  const old = await olderFile(file, 6)
  const types = 10_000
  old.exec(`INSERT INTO gq_jobs (queue, type, payload, blocked)
      WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < ${types - 1}) SELECT 'q', 't' || i, '1', 0 FROM n;
    INSERT INTO gq_queues (name, ready, all_submitted) VALUES ('q', ${types}, ${types})`)
  old.close()
  const clock = new VirtualClock()
  const engine = new Engine(file, clock, { tends: true })
  for (let i = 0; i < 100; i++) {
    clock.advance(20)
    engine.tick()
  }
  const takes = (type: string) => {
    const specs = jobSpec(type, { queue: 'q' })
    const [reply] = engine.execute([{ seq: 1, operation: 'submit', input: { specs, payloads: ['1'], keys: null } }])
    return reply && 'error' in reply ? reply.error.code : 'yes'
  }
  assert.deepEqual([takes('new'), takes('t9999'), takes('t0')], ['TOO_MANY_TYPES', 'yes', 'yes'])
  engine.close()
})
