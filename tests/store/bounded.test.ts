import assert from 'node:assert/strict'
import { hostname } from 'node:os'
import { test } from 'node:test'
import { type JobOptions, jobSpec } from '../../src/model/job.ts'
import { systemProcesses } from '../../src/store/sqlite/processes.ts'
import type { JobFilter } from '../../src/store/store.ts'
import { meteredStore } from '../support/metered.ts'

// How long a transaction holds the write lock, on a store whose time passes with each statement and row.

test('a read beside a write: the lock is not held for it', async () => {
  const { store, longest, sql } = meteredStore()
  sql(`WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
       INSERT INTO gq_queues (name) SELECT 'q' || i FROM n`)
  longest()
  const [{ queues, others }] = await Promise.all([
    store.call('stats', null),
    store.call('submit', { specs: jobSpec('work', {}), payloads: ['1'], keys: null }),
  ])
  assert.equal(queues.length + others.queues, 2001, 'it sees what was asked for beside it')
  assert.ok(longest() < 10, 'ms')
  await store.close()
})

/** A store with a worker that takes nothing off the queue, and jobs of one kind in it. */
async function filled(jobs: number, options: JobOptions = {}) {
  const at = meteredStore()
  const sources = [{ queue: 'elsewhere', type: 'other' }]
  await at.store.call('register', { name: 'w', sources, slots: 1 })
  const payloads = Array<string>(jobs).fill('1')
  await at.store.call('submit', { specs: jobSpec('work', options), payloads, keys: null })
  at.longest()
  const count = (where: string) => Number(at.value(`SELECT COUNT(*) FROM gq_jobs WHERE ${where}`))
  return { ...at, count }
}

test('3,000 jobs that are due at once become ready in steps', async () => {
  const { store, longest, count } = await filled(3000, { delay: 1000 })
  store.advance(1000)
  const first = count(`state = 'ready'`)
  assert.ok(first > 0 && first < 1000, `${first}`)
  for (let i = 0; i < 2000 && count(`state = 'ready'`) < 3000; i++) store.advance(1)
  assert.equal(count(`state = 'ready'`), 3000)
  assert.ok(longest() < 10, 'ms')
})

test('3,000 jobs past their deadline die in steps', async () => {
  const { store, longest, count } = await filled(3000, { deadline: '1s' })
  store.advance(1000)
  for (let i = 0; i < 2000 && count(`state = 'dead'`) < 3000; i++) store.advance(1)
  assert.equal(count(`state = 'dead'`), 3000)
  assert.ok(longest() < 10, 'ms')
})

test('a job with a thousand attempts is deleted in steps', async () => {
  const { store, longest, sql, count } = await filled(3)
  sql(`UPDATE gq_jobs SET state = 'cancelled', finished_at = 1, prune_at = 1;
       UPDATE gq_queues SET ready = 0, cancelled = 3;
       WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
       INSERT INTO gq_attempts (job_id, attempt, started_at, finished_at, outcome) SELECT id, i, 1, 1, 'failed' FROM n, gq_jobs`)
  for (let i = 0; i < 1000 && count('1') > 0; i++) store.advance(10)
  assert.equal(count('1'), 0)
  assert.ok(longest() < 10, 'ms')
})

for (const event of ['cancel', 'retry', 'remove'] as const)
  test(`many, ${event}: a page ends by the clock, and its cursor leads on`, async () => {
    const { store, longest, sql, count } = await filled(2000)
    if (event !== 'cancel')
      sql(`UPDATE gq_jobs SET state = 'cancelled', finished_at = 1; UPDATE gq_queues SET ready = 0, cancelled = 2000`)
    let [changed, pages] = [0, 0]
    const filter: JobFilter = { limit: 1000 }
    do {
      const page = await store.call('many', { event, filter })
      changed += page.changed
      pages++
      filter.cursor = page.next
    } while (filter.cursor !== null)
    assert.equal(changed, 2000)
    assert.equal(
      count(`state = '${{ cancel: 'cancelled', retry: 'ready', remove: 'dead' }[event]}'`),
      event === 'remove' ? 0 : 2000,
    )
    assert.ok(pages > 5, `${pages}`)
    assert.ok(longest() < 10, 'ms')
  })

test('a new limit per concurrency key reaches a thousand keys in steps, up and down', async () => {
  const at = await filled(0)
  const { store, longest, sql, count } = at
  sql(`WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 3999)
       INSERT INTO gq_jobs (type, payload, concurrency_key) SELECT 'work', '1', iif(i < 500, 'one', i % 1000) FROM n`)
  await store.call('setQueue', { queue: 'default' }) // admits the first of them
  for (let i = 0; i < 3000 && count('blocked = 2') > 0; i++) store.advance(1)
  const placed = (most: number) =>
    at.value(`SELECT SUM(MIN(jobs, ${most})) FROM (SELECT COUNT(*) AS jobs FROM gq_jobs GROUP BY concurrency_key)`)
  for (const most of [3, 200, 2, 1]) {
    await store.call('setQueue', { queue: 'default', maxRunningPerKey: most })
    assert.ok(count('blocked = 0') !== placed(most), 'not all at once')
    for (let i = 0; i < 3000 && at.value('SELECT settling FROM gq_queues') !== null; i++) store.advance(1)
    assert.equal(count('blocked = 0'), placed(most), `${most}`)
    const wrong = at.value(
      `SELECT COUNT(*) FROM gq_jobs a JOIN gq_jobs b USING (concurrency_key) WHERE a.blocked > b.blocked AND a.id < b.id`,
    )
    assert.equal(wrong, 0, 'the first of each key')
    assert.ok(longest() < 10, 'ms')
  }
})

test('200 workers of processes that are gone are ended, and a look asks of some only', async () => {
  const { store, longest, sql, value } = await filled(0)
  sql(`WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
       INSERT INTO gq_workers (name, sources, slots, host, pid, pid_started, boot, pid_space, instance, started_at, seen_at)
       SELECT 'x' || i, '[]', 1, w.host, iif(i % 5 = 0, 999999999, w.pid), w.pid_started, w.boot, w.pid_space, w.instance, 1, 1
       FROM n, gq_workers w WHERE w.id = 1`)
  const gone = () => Number(value('SELECT COUNT(*) FROM gq_workers WHERE ended_at IS NOT NULL'))
  store.advance(250)
  assert.ok(gone() > 0 && gone() <= 100, `${gone()}`)
  for (let i = 0; i < 60 && gone() < 200; i++) store.advance(250)
  assert.equal(gone(), 200)
  assert.ok(longest() < 10, 'ms')
})

/** 600 jobs that a process of this host ran; it is gone. */
const { boot, pid_space: space } = systemProcesses.me
const host = hostname()
const died = `
  INSERT INTO gq_workers (id, name, sources, slots, host, pid, pid_started, boot, pid_space, instance, started_at, seen_at)
  VALUES (9, 'gone', '[]', 600, '${host}', 4194303, '1', '${boot}', '${space}', 'gone', 1, 1);
  WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 600)
  INSERT INTO gq_jobs (type, payload, state, attempt, lease_token, lease_seq, worker_id, started_at, lease_expires_at, visibility_timeout, timeout)
  SELECT 'work', '1', 'running', 1, i, i, 9, 1, 4102444800000, 30000, 3000000000000 FROM n;
  UPDATE gq_queues SET running = 600 WHERE name = 'default'`

test('jobs of a dead process: an opening waits for some of them, and the rest follows at once', async () => {
  const { store, clock, longest, value } = meteredStore(died)
  assert.ok(clock.monotonic() < 300, `opened after ${clock.monotonic()} ms`)
  const left = () => Number(value(`SELECT COUNT(*) FROM gq_jobs WHERE state = 'running'`))
  assert.ok(left() > 0 && left() < 600, `${left()}`)
  await store.call('register', { name: 'w', sources: [{ queue: 'elsewhere', type: 'other' }], slots: 1 })
  const from = clock.monotonic()
  for (let i = 0; i < 2000 && left() > 0; i++) store.advance(5)
  assert.equal(left(), 0)
  assert.ok(clock.monotonic() - from < 10_000, `${clock.monotonic() - from} ms`)
  assert.ok(longest() < 10, 'ms')
  await store.close()
})

test('a worker that holds 3,000 jobs signs off in steps, and all of them are back when it has', async () => {
  const { store, longest, count } = await filled(3000)
  const source = { queue: 'default', type: 'work' }
  const worker = await store.call('register', { name: 'many', sources: [source], slots: 3000 })
  await store.call('lease', { worker, sources: [source], slots: 3000, exclude: [] })
  assert.equal(count(`state = 'running'`), 3000)
  longest()
  await store.call('unregister', worker)
  assert.equal(count(`state = 'ready' AND attempt = 0`), 3000)
  assert.ok(longest() < 10, 'ms')
})

test('rounds of the reaper while 3,000 jobs run: none reads them all under the lock', async () => {
  const { store, longest, count } = await filled(3001, { visibilityTimeout: '3s' })
  const source = { queue: 'default', type: 'work' }
  const worker = await store.call('register', { name: 'many', sources: [source], slots: 3000 })
  await store.call('lease', { worker, sources: [source], slots: 3000, exclude: [] })
  await store.call('submit', { specs: jobSpec('other', { delay: 1000 }), payloads: ['1'], keys: null })
  longest()
  store.advance(1000)
  assert.equal(count(`state = 'ready' AND type = 'other'`), 1)
  assert.ok(longest() < 10, 'ms')
})

test('a thousand workers that wait for other lines cost a transaction nothing', async () => {
  const { store, longest } = meteredStore()
  for (let i = 0; i < 1000; i++) {
    const sources = [{ queue: `q${i}`, type: 'work' }]
    const worker = await store.call('register', { name: `w${i}`, sources, slots: 1, remote: 'far', instance: `i${i}` })
    store.call('lease', { worker, sources, slots: 1, exclude: [] }).catch(() => undefined)
  }
  store.advance(50)
  longest()
  await store.call('setQueue', { queue: 'elsewhere', maxRunning: 5 })
  assert.ok(longest() < 10, 'ms')
  await store.close()
})
