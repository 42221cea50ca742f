import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import { GopherQueue, PermanentError } from '../src/index.ts'
import { temporaryFolder } from './support/folder.ts'

const page = readFileSync(join(import.meta.dirname, '../docs/schema.md'), 'utf8')
const queries = [...page.matchAll(/```sql\n(.*?)```/gs)].map((match) => match[1]!)

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
