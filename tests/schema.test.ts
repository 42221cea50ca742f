import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import { GopherQueue, type Job, PermanentError } from '../src/index.ts'
import { temporaryFolder } from './support/folder.ts'

const page = readFileSync(join(import.meta.dirname, '../docs/schema.md'), 'utf8')
const blocks = [...page.matchAll(/```sql\n(.*?)```/gs)].map((match) => match[1]!)
const queries = blocks.slice(0, 4)
/** The page's ways to submit. */
const submissions = blocks.slice(4)

test('the documented queries answer what the page says, while the queue works', async () => {
  using folder = temporaryFolder()
  await using queue = await GopherQueue.open(folder.file('jobs.db'))
  const { promise: release, resolve } = Promise.withResolvers<void>()
  const task = queue.define<string>('task', {}, async ({ payload }) => {
    if (payload === 'fails') throw new PermanentError('never')
    if (payload === 'waits') await release
  })
  const submitted = await task.submitMany(['fails', 'fine', 'fine', 'waits'])
  const later = await task.submit('fine', { delay: 5 })
  const worker = queue.work({ concurrency: 2, name: 'w' })
  for (const { id } of [...submitted.slice(1, 3), later]) await task.wait(id)

  const db = new DatabaseSync(folder.file('jobs.db'), { readOnly: true })
  const [byState, dead, running, order] = queries.map((sql) =>
    db
      .prepare(sql)
      .all()
      .map((row) => Object.values(row)),
  )
  assert.deepEqual(byState, [['dead', 1], ['running', 1], ['succeeded', 3]]) // biome-ignore format: a table
  assert.deepEqual(dead!.map(([id, type, reason, , error]) => [id, type, reason, error]), [[submitted[0]!.id, 'task', 'permanent', 'never']]) // biome-ignore format: a row
  assert.deepEqual(running!.map(([id, type, name]) => [id, type, name]), [[submitted[3]!.id, 'task', 'w']]) // biome-ignore format: a row
  assert.deepEqual(order, [])
  resolve()
  await worker.stop()

  // The proof can fail: exchange the first leases of two jobs.
  const broken = new DatabaseSync(folder.file('jobs.db'))
  broken.exec(`UPDATE gq_jobs SET lease_seq = lease_seq + 1000 WHERE id = ${submitted[1]!.id}`)
  assert.notEqual(broken.prepare(queries[3]!).all().length, 0)
  broken.close()
  db.close()
})

const orders = 'CREATE TABLE IF NOT EXISTS orders (id INTEGER PRIMARY KEY, item TEXT)'

/** Submits with each documented statement while a worker runs, and looks at what became of the jobs. */
async function submitAll(execute: (file: string, sql: string) => unknown): Promise<void> {
  using folder = temporaryFolder()
  const file = folder.file('app.db')
  await using queue = await GopherQueue.open(file)
  for (const type of ['email', 'receipt']) queue.define(type, {}, ({ payload }) => payload)
  queue.work({ queues: ['default', 'mail'] })
  const since = Date.now()
  execute(file, orders)
  for (const sql of submissions) execute(file, sql)
  const until = Date.now()
  const results = [await queue.wait(1), await queue.wait(2), await queue.wait(4)]
  assert.deepEqual(results, [{ to: 'ada@example.com' }, { to: 'ada@example.com' }, { order: 1 }])

  const jobs = (await queue.jobs({ order: 'oldest' })).jobs
  const [plain, urgent, delayed] = jobs
  assert.deepEqual(
    jobs.map(({ id, queue, type, state, priority, attempt }) => [id, queue, type, state, priority, attempt]),
    [
      [1, 'default', 'email', 'succeeded', 'normal', 1],
      [2, 'mail', 'email', 'succeeded', 'high', 1],
      [3, 'default', 'email', 'scheduled', 'normal', 0],
      [4, 'default', 'receipt', 'succeeded', 'normal', 1],
    ],
  )
  const policy = ({ maxAttempts, timeout, onTimeout, visibilityTimeout }: Job) =>
    [maxAttempts, timeout, onTimeout, visibilityTimeout] // biome-ignore format: one line
  assert.deepEqual([policy(plain!), policy(urgent!)], [[12, 900_000, 'retry', 30_000], [5, 30_000, 'dead', 30_000]]) // biome-ignore format: pairs
  for (const { createdAt } of jobs) assert.ok(createdAt >= since - 1 && createdAt <= until + 1, 'created_at is in ms')
  const { runAt, deadline } = delayed!
  assert.ok(runAt! > since + 298_000 && runAt! <= until + 300_000)
  assert.equal(deadline! - runAt!, 3_300_000)
  const counts = (await queue.stats()).queues.map(({ queue, counts }) => [queue, counts.scheduled, counts.succeeded])
  assert.deepEqual(counts, [['default', 1, 2], ['mail', 0, 1]]) // biome-ignore format: a table
}

test('the documented ways to submit with plain SQL', async () => {
  await submitAll((file, sql) => {
    const db = new DatabaseSync(file, { timeout: 5000 })
    db.exec(sql)
    db.close()
  })
})

test('the same from the sqlite3 shell', async (t) => {
  const { stdout = '', error } = spawnSync('sqlite3', ['--version'], { encoding: 'utf8' })
  if (error) return t.skip('sqlite3 is not installed')
  t.diagnostic(`SQLite ${stdout.split(' ')[0]}`)
  const shell = (file: string, sql: string) =>
    execFileSync('sqlite3', ['-bail', '-cmd', '.timeout 5000', file, sql], { encoding: 'utf8', stdio: 'pipe' })
  await submitAll(shell)

  using folder = temporaryFolder()
  await using queue = await GopherQueue.open(folder.file('app.db'))
  assert.equal(shell(folder.file('app.db'), submissions[0]!), '1\n')
  assert.throws(() => shell(folder.file('app.db'), `INSERT INTO gq_jobs (type, payload) VALUES ('email', 'no JSON')`))
  assert.throws(() =>
    shell(folder.file('app.db'), `INSERT INTO gq_jobs (type, payload, blocked) VALUES ('email', '1', 1)`),
  )
  for (const sql of queries) shell(folder.file('app.db'), sql)
  assert.equal((await queue.jobs()).jobs.length, 1)
})

test('concurrency keys hold for what the sqlite3 shell submits, as for the rest', async (t) => {
  if (spawnSync('sqlite3', ['--version']).error) return t.skip('sqlite3 is not installed')
  using folder = temporaryFolder()
  const file = folder.file('app.db')
  await using queue = await GopherQueue.open(file)
  await queue.configure('default', { maxRunningPerKey: 2 })
  let [running, most, firstToRun] = [0, 0, '']
  const task = queue.define<string>('email', {}, async ({ payload }) => {
    firstToRun ||= payload
    most = Math.max(most, ++running)
    await new Promise(setImmediate)
    running--
  })
  const key = 'Zoë 顧客 '.repeat(32)
  const insert = (payload: string, priority: number) =>
    `INSERT INTO gq_jobs (type, payload, concurrency_key, priority) VALUES ('email', '"${payload}"', '${key}', ${priority});`
  const shell = (sql: string) => execFileSync('sqlite3', ['-bail', '-cmd', '.timeout 5000', file, sql])
  shell(insert('first', 2).repeat(3))
  const { id } = await task.submit('second', { concurrencyKey: key })
  shell(`PRAGMA recursive_triggers = ON; ${insert('urgent', 0)}`)
  queue.work()
  await task.wait(id)
  assert.deepEqual([most, firstToRun], [2, 'urgent'])
})

test('every table and column is described', async () => {
  using folder = temporaryFolder()
  await (await GopherQueue.open(folder.file('jobs.db'))).close()
  const db = new DatabaseSync(folder.file('jobs.db'))
  const columns = db
    .prepare(
      `SELECT t.name AS tableName, c.name AS columnName
       FROM sqlite_schema t JOIN pragma_table_info(t.name) c
       WHERE t.type = 'table' AND t.name LIKE 'gq%'`,
    )
    .all() as { tableName: string; columnName: string }[]
  db.close()
  const countsPerState = new Set(['scheduled', 'ready', 'running', 'succeeded', 'dead', 'cancelled'])
  for (const { tableName, columnName } of columns) {
    assert.ok(page.includes(tableName), tableName)
    const described =
      page.includes(`\`${columnName}\``) || (tableName === 'gq_queues' && countsPerState.has(columnName))
    assert.ok(described, `${tableName}.${columnName}`)
  }
})
