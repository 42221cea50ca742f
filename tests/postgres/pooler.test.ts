import assert from 'node:assert/strict'
import { test } from 'node:test'
import pg from 'pg'
import { GopherQueue } from '../../src/index.ts'
import { Pooler, without } from '../support/pgbouncer.ts'
import { PostgresServer } from '../support/postgres.ts'

// Behind PgBouncer in transaction mode, each transaction may have another session.

test('several queues behind a pooler with fewer sessions submit, work, and store jobs in transactions', {
  skip: without,
}, async () => {
  using server = new PostgresServer()
  using pooler = await Pooler.start(server)
  const url = `${pooler.url('pooled')}&listen=false`
  const queues = await Promise.all([1, 2, 3, 4, 5].map(() => GopherQueue.open(url)))
  await using open = new AsyncDisposableStack() // closed before the pooler ends
  for (const queue of queues) open.use(queue)
  const ran: number[] = []
  for (const queue of queues) {
    queue.define('work', {}, ({ id }) => void ran.push(id))
    queue.work({ concurrency: 2 })
  }
  const first = await Promise.all(queues.flatMap((queue) => [1, 2, 3, 4].map((n) => queue.submit('work', n, { idempotencyKey: `${n}` })))) // biome-ignore format: one line
  assert.equal(new Set(first.map(({ id }) => id)).size, 4)
  const app = new pg.Client(url.replace(/\?.*/, ''))
  await app.connect()
  await app.query('BEGIN')
  const inside = await queues[0]!.submitWith(app, 'work', 5)
  const kept = await queues[0]!.submitWith(app, 'kept', 5, { uniqueKey: 'u' }) // nobody works on it: its key stays taken
  const same = queues[1]!.submit('kept', 5, { uniqueKey: 'u' })
  await queues[2]!.submit('work', 6)
  await app.query('COMMIT')
  assert.equal((await same).id, kept.id)
  await assert.rejects(queues[0]!.submitWith(app, 'work', 7), { code: 'INVALID_ARGUMENT', message: /No transaction/ })
  await app.end()
  await queues[3]!.wait(inside.id)
  for (const { id } of first) await queues[4]!.wait(id)
  assert.equal(new Set(ran).size, ran.length)
  assert.ok(Number(server.sql(`SELECT COUNT(*) FROM pg_stat_activity WHERE usename = 'postgres' AND backend_type = 'client backend'`)) <= 5) // biome-ignore format: one line
})

test('a process that listens through a pooler leaves no session there whose commits do not wait', {
  skip: without,
}, async () => {
  using server = new PostgresServer()
  using pooler = await Pooler.start(server)
  await using queue = await GopherQueue.open(pooler.url('listening'))
  queue.define('work', {}, () => 'done')
  queue.work()
  assert.equal(await queue.wait((await queue.submit('work', 1)).id), 'done')
  const app = new pg.Client(pooler.url('listening').replace(/\?.*/, ''))
  await app.connect()
  try {
    for (let i = 0; i < 20; i++) {
      const { rows } = await app.query('SHOW synchronous_commit') // of whichever session is next
      assert.deepEqual(rows, [{ synchronous_commit: 'on' }])
    }
  } finally {
    await app.end()
  }
})
