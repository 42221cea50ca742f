import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import { setTimeout as pause } from 'node:timers/promises'
import { GopherQueue } from '../../src/index.ts'
import { nanoseconds, readJournal } from './journal.ts'
import { folderFor, fromEnvironment, lookInto, start, until } from './processes.ts'
import { randomFrom } from './random.ts'
import type { TransactionConfig } from './transaction.child.ts'
import type { WorkConfig } from './work.child.ts'

const rounds = fromEnvironment('CRASH_TRANSACTION_ROUNDS', 6)
const seed = fromEnvironment('CRASH_SEED', Date.now() % 1_000_000)

const engines: [name: string, options: { driver?: string }][] = [
  ['node:sqlite', {}],
  ["the app's better-sqlite3", { driver: import.meta.resolve('better-sqlite3') }],
]
for (const [name, options] of engines)
  test(`${rounds} SIGKILLs around COMMIT of ${name}: an order and its job are both there, or neither is`, async (t) => {
    t.diagnostic(`CRASH_SEED=${seed}`)
    const folder = folderFor(t)
    const file = join(folder, 'app.db')
    const random = randomFrom(seed)
    let committed = 0
    let torn = 0
    for (let round = 0; round < rounds; round++) {
      const log = join(folder, `app-${round}.log`)
      const app = start(t, 'transaction.child.ts', { file, log, ...options } satisfies TransactionConfig)
      await until('it stores', 60, () => existsSync(log) && readJournal(log).length > 4)
      await pause(random() * 100)
      await app.kill()
      assert.equal(app.complaints, '')

      const words = readJournal(log)
      const acknowledged = words.filter(([word]) => word === 'committed')
      torn += words.filter(([word]) => word === 'stored').length - acknowledged.length
      const db = lookInto(file)
      const alone = db
        .prepare(
          `SELECT o.id, j.id FROM orders o
         FULL JOIN gq_jobs j ON j.id = o.job AND j.payload ->> 'order' = o.id AND j.idempotency_key = 'order ' || o.id
         FULL JOIN gq_keys k ON k.job_id = j.id
         WHERE o.id IS NULL OR j.id IS NULL OR k.job_id IS NULL`,
        )
        .all()
      assert.deepEqual(alone, [])
      for (const [, order, job] of acknowledged)
        assert.equal(db.prepare('SELECT job FROM orders WHERE id = ?').get(order!)?.job, Number(job))
      const { jobs, counted } = db
        .prepare('SELECT COUNT(*) AS jobs, (SELECT SUM(ready) FROM gq_queues) AS counted FROM gq_jobs')
        .get()!
      assert.equal(jobs, counted)
      db.close()
      committed += acknowledged.length
    }
    t.diagnostic(
      `${committed} transactions were committed, ${torn} were killed between their last statement and COMMIT`,
    )
  })

test("an idle worker in another process notices the app's commit within 50 ms", async (t) => {
  const folder = folderFor(t)
  const file = join(folder, 'app.db')
  const log = join(folder, 'work.log')
  const worker = start(t, 'work.child.ts', { file, log, concurrency: 4 } satisfies WorkConfig)
  await until('the worker works', 20, () => readJournal(log).some(([word]) => word === 'working'))
  const queue = await GopherQueue.open(file)
  const app = new DatabaseSync(file, { timeout: 10_000 })
  const committedAt = new Map<string, bigint>()
  for (let i = 0; i < 30; i++) {
    app.exec('BEGIN IMMEDIATE')
    const { id } = queue.submitWith(app, 'work', null)
    app.exec('COMMIT')
    committedAt.set(String(id), nanoseconds())
    await queue.wait(id, { timeout: '10s' })
    await pause((i * 7) % 20) // so that they fall anywhere between two looks of the worker
  }
  app.close()
  await queue.close()
  await worker.stop()
  const delays = readJournal(log)
    .filter(([word]) => word === 'start')
    .map(([, id, , at]) => Number(BigInt(at!) - committedAt.get(id!)!) / 1e6)
    .sort((a, b) => a - b)
  assert.equal(delays.length, 30)
  t.diagnostic(
    `COMMIT to start in another process: median ${delays[15]!.toFixed(1)} ms, longest ${delays[29]!.toFixed(1)} ms`,
  )
  assert.ok(delays[15]! < 50, `median ${delays[15]} ms`)
})
