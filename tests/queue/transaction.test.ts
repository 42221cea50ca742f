import assert from 'node:assert/strict'
import { linkSync, symlinkSync } from 'node:fs'
import { DatabaseSync, type DatabaseSyncOptions } from 'node:sqlite'
import { type TestContext, test } from 'node:test'
import { setTimeout as pause } from 'node:timers/promises'
import { z } from 'zod'
import { GopherQueue, type JobOptions } from '../../src/index.ts'
import { temporaryFolder } from '../support/folder.ts'
import { virtualQueue } from './support.ts'

const minute = 60_000

/** A queue, and an app's connection with a table of its own in the same file. */
async function appBesideQueue(t: TestContext, options: DatabaseSyncOptions = { timeout: 5000 }) {
  const folder = temporaryFolder()
  const path = folder.file('app.db')
  const queue = await GopherQueue.open(path)
  const app = new DatabaseSync(path, options)
  app.exec('CREATE TABLE orders (id INTEGER PRIMARY KEY, item TEXT) STRICT')
  t.after(async () => {
    if (app.isOpen) app.close()
    await queue.close()
    folder[Symbol.dispose]()
  })
  const waiting = async (name = 'default') => {
    const counts = (await queue.stats()).queues.find((row) => row.queue === name)?.counts
    return [counts?.ready ?? 0, counts?.scheduled ?? 0]
  }
  const rows = (table: string) => new Set(app.prepare(`SELECT * FROM ${table}`).all()).size
  return { queue, app, path, folder, waiting, rows }
}

const refused = { code: 'INVALID_ARGUMENT', accepted: 'no' }

test('committed, the job is there with the row beside it; rolled back, nothing of it is', async (t) => {
  const { queue, app, waiting, rows } = await appBesideQueue(t)
  const receipt = queue.define<{ order: number }, number>('receipt', { queue: 'mail', priority: 'high' })
  app.exec(`BEGIN; INSERT INTO orders (item) VALUES ('tea')`)
  const { id, duplicate } = receipt.submitWith(app, { order: 1 }, { idempotencyKey: 'order 1' })
  assert.deepEqual([duplicate, await queue.job(id), await waiting('mail')], [false, null, [0, 0]])
  app.exec('COMMIT')
  const job = await queue.job(id)
  assert.deepEqual(
    [job?.type, job?.queue, job?.priority, job?.state, job?.payload, job?.idempotencyKey],
    ['receipt', 'mail', 'high', 'ready', { order: 1 }, 'order 1'],
  )
  assert.deepEqual([rows('orders'), await waiting('mail')], [1, [1, 0]])

  app.exec(`BEGIN; INSERT INTO orders (item) VALUES ('milk')`)
  receipt.submitWith(app, { order: 2 }, { idempotencyKey: 'order 2' })
  queue.submitWith(app, 'other', null, { queue: 'never heard of' })
  app.exec('ROLLBACK')
  assert.deepEqual([rows('orders'), rows('gq_jobs'), rows('gq_keys'), rows('gq_queues')], [1, 1, 1, 1])
  assert.deepEqual([await waiting('mail'), await waiting('never heard of')], [[1, 0], [0, 0]]) // biome-ignore format: pairs
  assert.equal(receipt.submitWith(app, { order: 2 }, { idempotencyKey: 'order 2' }).duplicate, false)
})

test('without an open transaction it is one of its own', async (t) => {
  const { queue, app, waiting } = await appBesideQueue(t)
  const { id } = queue.submitWith(app, 'work', { n: 1 })
  assert.equal(app.isTransaction, false)
  assert.equal((await queue.job(id))?.state, 'ready')
  await queue.configure('default', { maxDepth: 1 })
  assert.throws(() => queue.submitWith(app, 'work', { n: 2 }), { code: 'QUEUE_FULL', accepted: 'no' })
  assert.deepEqual([app.isTransaction, await waiting()], [false, [1, 0]])
})

test('savepoints: what is rolled back to one is gone, the rest stays', async (t) => {
  const { queue, app, waiting } = await appBesideQueue(t)
  app.exec('SAVEPOINT submission')
  const kept = queue.submitWith(app, 'work', 'kept', { idempotencyKey: 'a' })
  app.exec('SAVEPOINT operation')
  queue.submitWith(app, 'work', 'gone', { idempotencyKey: 'b' })
  queue.submitWith(app, 'work', 'gone later', { delay: '1h', queue: 'later' })
  app.exec('ROLLBACK TO operation')
  const again = queue.submitWith(app, 'work', 'again', { idempotencyKey: 'b' })
  app.exec('RELEASE submission')
  assert.equal(app.isTransaction, false)
  const { jobs } = await queue.jobs({ order: 'oldest' })
  assert.deepEqual(jobs.map(({ id, payload }) => [id, payload]), [[kept.id, 'kept'], [again.id, 'again']]) // biome-ignore format: pairs
  assert.deepEqual([await waiting(), await waiting('later')], [[2, 0], [0, 0]]) // biome-ignore format: pairs
})

test('the same limits and options as submit; a refusal leaves the transaction open and as it was', async (t) => {
  const { queue, app, waiting, rows } = await appBesideQueue(t)
  await queue.configure('default', { maxDepth: 4 })
  const unique = queue.submitWith(app, 'work', 1, { queue: 'other', uniqueKey: 'u' })
  const submit = (payload: unknown, options?: JobOptions) => queue.submitWith(app, 'work', payload, options)
  const at = Date.now()
  app.exec(`BEGIN IMMEDIATE; INSERT INTO orders (item) VALUES ('tea')`)
  assert.deepEqual(submit(2, { queue: 'other', uniqueKey: 'u' }), { id: unique.id, duplicate: true, state: 'ready' })
  const delayed = submit(1, { delay: '5m', priority: 'bulk', deadline: '1h' })
  const dated = submit(2, { runAt: at + 10 * minute, deadline: at + 20 * minute, maxAttempts: 3, onTimeout: 'dead' })
  const first = submit(3, { idempotencyKey: 'k', backoff: { kind: 'constant', delay: '1s' } })
  assert.deepEqual(submit(3, { idempotencyKey: 'k' }), { id: first.id, duplicate: true, state: 'ready' })
  assert.throws(() => submit(4, { idempotencyKey: 'k' }), {
    code: 'IDEMPOTENCY_CONFLICT',
    details: { jobId: first.id },
  })
  assert.throws(() => submit('x'.repeat(1024 * 1024)), { code: 'PAYLOAD_TOO_LARGE' })
  assert.throws(() => submit(1n), { code: 'INVALID_PAYLOAD' })
  assert.throws(() => submit(1, { delay: '1h', runAt: 0 }), refused)
  assert.throws(() => submit(1, { color: 'red' } as JobOptions), refused)
  const before = [rows('gq_jobs'), rows('gq_keys'), rows('gq_queues')]
  submit(5)
  assert.throws(() => submit(6), { code: 'QUEUE_FULL', accepted: 'no' })
  assert.throws(() => submit(6, { idempotencyKey: 'new' }), { code: 'QUEUE_FULL', accepted: 'no' })
  assert.deepEqual([rows('gq_jobs'), rows('gq_keys'), rows('gq_queues')], [before[0]! + 1, before[1], before[2]])
  assert.equal(app.isTransaction, true)
  app.exec('COMMIT')
  assert.deepEqual([await waiting(), rows('orders')], [[2, 2], 1])
  await assert.rejects(queue.submit('work', 6), { code: 'QUEUE_FULL' })

  const [late, later, third] = [await queue.job(delayed.id), await queue.job(dated.id), await queue.job(first.id)]
  assert.deepEqual([late?.state, late?.priority, later?.maxAttempts], ['scheduled', 'bulk', 3])
  assert.ok(late!.runAt! >= at + 5 * minute && late!.deadline! >= at + 60 * minute)
  assert.deepEqual([later!.runAt, later!.deadline, later!.onTimeout], [at + 10 * minute, at + 20 * minute, 'dead'])
  assert.equal(third!.backoff.kind, 'constant')
  assert.deepEqual(await queue.submit('work', 3, { idempotencyKey: 'k' }), {
    ...{ id: first.id, duplicate: true, state: 'ready' },
  })
})

test('ids grow with those of other submissions, and so does the order of work', async (t) => {
  const { queue, app } = await appBesideQueue(t)
  const ran: unknown[] = []
  const task = queue.define<string>('work', {}, ({ payload }) => void ran.push(payload))
  const a = await task.submit('a')
  app.exec('BEGIN IMMEDIATE')
  const b = task.submitWith(app, 'b')
  const held = task.submit('d') // waits for the transaction, while the app goes on
  const c = task.submitWith(app, 'c')
  const urgent = task.submitWith(app, 'urgent', { priority: 'critical' })
  await pause(50)
  app.exec('COMMIT')
  const d = await held
  assert.ok(a.id < b.id && b.id < c.id && c.id < urgent.id && urgent.id < d.id)
  queue.work({ concurrency: 1 })
  await task.wait(d.id)
  assert.deepEqual(ran, ['urgent', 'a', 'b', 'c', 'd'])
})

test('a worker of the same process notices a commit within 50 ms, and runs what is delayed on time', async (t) => {
  const { queue, app } = await appBesideQueue(t)
  const started = new Map<number, number>()
  const task = queue.define<null>('work', {}, ({ id }) => void started.set(id, performance.now()))
  queue.work()
  await task.wait((await task.submit(null)).id)
  const delays: number[] = []
  for (let i = 0; i < 20; i++) {
    app.exec('BEGIN IMMEDIATE')
    const { id } = task.submitWith(app, null)
    app.exec('COMMIT')
    const committed = performance.now()
    await task.wait(id)
    delays.push(started.get(id)! - committed)
    await pause(7)
  }
  delays.sort((a, b) => a - b)
  t.diagnostic(`median ${delays[10]!.toFixed(1)} ms, longest ${delays.at(-1)!.toFixed(1)} ms`)
  assert.ok(delays[10]! < 50, `median ${delays[10]} ms`)

  const at = performance.now()
  const { id } = task.submitWith(app, null, { delay: 400 })
  await task.wait(id)
  const late = started.get(id)! - at - 400
  assert.ok(late > -5 && late < 250, `${late} ms late`)
})

test("a lock that others hold is the app's own error, as SQLite gave it", async (t) => {
  const { queue, app, path, waiting } = await appBesideQueue(t, { timeout: 0 })
  const other = new DatabaseSync(path)
  other.exec('BEGIN IMMEDIATE')
  const busy = { code: 'ERR_SQLITE_ERROR', errcode: 5, message: 'database is locked' }
  assert.throws(() => queue.submitWith(app, 'work', 1), busy)
  app.exec('BEGIN')
  assert.throws(() => queue.submitWith(app, 'work', 1), busy)
  assert.equal(app.isTransaction, true)
  other.exec('COMMIT')
  queue.submitWith(app, 'work', 1) // the transaction is as good as new
  app.exec('COMMIT')

  app.exec('BEGIN; SELECT * FROM orders')
  app.prepare('SELECT * FROM orders').all()
  other.exec(`INSERT INTO orders (item) VALUES ('tea')`)
  assert.throws(() => queue.submitWith(app, 'work', 1), { errcode: 517 }) // it has read what is no longer so
  app.exec('ROLLBACK')
  other.close()
  assert.deepEqual(await waiting(), [1, 0])
})

test('a transaction that has not read yet waits for its turn as the connection says', async (t) => {
  const { queue, app } = await appBesideQueue(t)
  app.exec('BEGIN') // deferred
  const submissions = Array.from({ length: 200 }, (_, i) => queue.submit('theirs', i))
  await pause(1)
  for (let i = 0; i < 20; i++) {
    queue.submitWith(app, 'ours', i)
    app.exec('COMMIT; BEGIN')
  }
  app.exec('COMMIT')
  await Promise.all(submissions)
  assert.equal((await queue.stats()).queues[0]!.counts.ready, 220)
})

test('a connection to another file, none, a closed one or one that cannot write is refused', async (t) => {
  const { queue, app, path, folder } = await appBesideQueue(t)
  const submit = (connection: DatabaseSync) => () => queue.submitWith(connection, 'work', 1)
  const elsewhere = new DatabaseSync(folder.file('elsewhere.db'))
  elsewhere.exec(`ATTACH '${path}' AS queue`)
  assert.throws(submit(elsewhere), { ...refused, message: /elsewhere\.db.*not attached/ })
  assert.throws(submit(new DatabaseSync(':memory:')), { ...refused, message: /in memory/ })
  assert.throws(submit(new DatabaseSync('')), refused)
  const reader = new DatabaseSync(path, { readOnly: true })
  assert.throws(submit(reader), { ...refused, message: /cannot write/ })
  reader.exec('BEGIN')
  assert.throws(submit(reader), { ...refused, message: /cannot write/ })
  app.exec('PRAGMA query_only = ON')
  assert.throws(submit(app), { ...refused, message: /cannot write/ })
  app.close()
  assert.throws(submit(app), { ...refused, message: /closed/ })
  for (const other of [elsewhere, reader]) other.close()
  assert.deepEqual((await queue.jobs()).jobs, [])
})

test('the file is known by what it is, not by its name', async (t) => {
  const { queue, app, path, folder } = await appBesideQueue(t)
  symlinkSync(path, folder.file('link.db'))
  const linked = new DatabaseSync(folder.file('link.db'))
  assert.equal(queue.submitWith(linked, 'work', 1).id, 1)
  linked.close()
  app.exec('PRAGMA wal_checkpoint(TRUNCATE)')
  linkSync(path, folder.file('hard.db')) // the same file, but with a WAL of its own: two that overwrite each other
  const hard = new DatabaseSync(folder.file('hard.db'))
  assert.equal(hard.prepare('SELECT COUNT(*) AS jobs FROM gq_jobs').get()!.jobs, 1)
  assert.throws(() => queue.submitWith(hard, 'work', 1), { ...refused, message: /one file/ })
  hard.close()
})

test('a connection that does not wait for the disk is refused', async (t) => {
  const { queue, app } = await appBesideQueue(t)
  for (const weak of ['OFF', 'NORMAL']) {
    app.exec(`PRAGMA synchronous = ${weak}`)
    assert.throws(() => queue.submitWith(app, 'work', 1), { ...refused, message: /synchronous = FULL/ })
  }
  for (const strong of ['EXTRA', 'FULL']) {
    app.exec(`PRAGMA synchronous = ${strong}`)
    queue.submitWith(app, 'work', 1)
  }
})

test('another driver is refused: its copy of SQLite would not see the locks of this one', async (t) => {
  const { queue, app } = await appBesideQueue(t)
  const other = { open: true, inTransaction: false, prepare: (sql: string) => app.prepare(sql) }
  // @ts-expect-error: not a DatabaseSync
  assert.throws(() => queue.submitWith(other, 'work', 1), { ...refused, message: /copy of SQLite/ })
  // @ts-expect-error
  assert.throws(() => queue.submitWith(undefined, 'work', 1), refused)
})

test('connections of any settings: bigints, arrays, no bare names', async (t) => {
  const options = { readBigInts: true, returnArrays: true, allowBareNamedParameters: false, timeout: 5000 }
  const { queue, app } = await appBesideQueue(t, options)
  await queue.configure('default', { maxDepth: 2 })
  const first = queue.submitWith(app, 'work', 1, { idempotencyKey: 'k' })
  const again = queue.submitWith(app, 'work', 1, { idempotencyKey: 'k' })
  assert.deepEqual([again.id, again.duplicate], [first.id, true])
  queue.submitWith(app, 'work', 2)
  assert.throws(() => queue.submitWith(app, 'work', 3), { code: 'QUEUE_FULL' })
})

test('a schema is checked; one that cannot answer at once is refused', async (t) => {
  const { queue, app } = await appBesideQueue(t)
  const task = queue.define('email', { payload: z.object({ to: z.string() }) })
  assert.equal(task.submitWith(app, { to: 'ada' }).duplicate, false)
  // @ts-expect-error: of another type
  assert.throws(() => task.submitWith(app, { to: 1 }), { code: 'INVALID_PAYLOAD', message: /Nothing was stored/ })
  const slow = queue.define('slow', { payload: z.string().refine(async (text) => text === 'fine') })
  for (const text of ['fine', 'not']) assert.throws(() => slow.submitWith(app, text), { ...refused, message: /async/ })
  const validate = () => Promise.reject(new Error('no'))
  const broken = queue.define('broken', { payload: { '~standard': { version: 1, vendor: 'test', validate } } })
  assert.throws(() => broken.submitWith(app, 'x'), refused)
  await pause(5) // no unhandled rejection
  assert.equal((await queue.jobs()).jobs.length, 1)
})

test('a queue in memory and a closed one refuse', async (t) => {
  const { queue, app } = await appBesideQueue(t)
  await using memory = await GopherQueue.open(':memory:')
  assert.throws(() => memory.submitWith(app, 'work', 1), refused)
  const { queue: virtual } = virtualQueue()
  assert.throws(() => virtual.submitWith(app, 'work', 1), { ...refused, message: /not in a file/ })
  await virtual.close()
  await queue.close()
  assert.throws(() => queue.submitWith(app, 'work', 1), { code: 'CLOSED', accepted: 'no' })
})

test('a disk without room to spare refuses, as it does submit', async (t) => {
  const { path, app } = await appBesideQueue(t)
  await using queue = await GopherQueue.open(path, { diskReserve: 2 ** 50 })
  await assert.rejects(queue.submit('work', 1), { code: 'STORAGE_FULL' })
  assert.throws(() => queue.submitWith(app, 'work', 1), { code: 'STORAGE_FULL', accepted: 'no' })
})
