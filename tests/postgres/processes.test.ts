import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { setTimeout } from 'node:timers/promises'
import pg from 'pg'
import { jobSpec } from '../../src/model/job.ts'
import { PostgresStore } from '../../src/store/postgres/store.ts'
import { PostgresServer, without } from '../support/postgres.ts'

// Several processes on one database: the order of first leases, and what becomes of the jobs of one that is killed.

if (without) test('processes on PostgreSQL', { skip: without })
else withServer(new PostgresServer())

function withServer(server: PostgresServer): void {
  after(() => server[Symbol.dispose]())

  const submission = (payloads: unknown[]) => ({
    specs: jobSpec('work', {}),
    payloads: payloads.map((payload) => JSON.stringify(payload)),
    keys: null,
  })

  /** Jobs that were first leased before one of their line and class that was submitted before them. */
  const outOfOrder = (schema: string) =>
    server.sql(
      `SELECT COUNT(*) FROM (
         SELECT id, lease_seq, MAX(lease_seq) OVER (PARTITION BY queue, type, priority ORDER BY id) AS latest
         FROM ${schema}.gq_jobs WHERE lease_seq IS NOT NULL) AS leased
       WHERE lease_seq < latest`,
    )

  test('four processes submit and lease at once: each job is leased once, in the order of submission', async () => {
    const url = server.url('four')
    const stores = await Promise.all([1, 2, 3, 4].map(() => PostgresStore.open(url)))
    const leased: number[] = []
    let submitted = 0
    await Promise.all(
      stores.map(async (store) => {
        const sources = [{ queue: 'default', type: 'work' }]
        const worker = await store.call('register', { name: 'w', sources, slots: 1000 })
        for (let i = 0; i < 20; i++) {
          const { ids } = await store.call('submit', submission([i, i, i]))
          submitted += ids.length
          const jobs = await store.call('lease', { worker, sources, slots: 2, exclude: [] })
          leased.push(...jobs.map(({ id }) => id))
          for (const lease of jobs) await store.call('succeed', { lease, result: 'null' })
        }
      }),
    )
    for (const store of stores) await store.close()
    assert.equal(new Set(leased).size, leased.length)
    assert.ok(leased.length >= submitted / 3, `${leased.length} of ${submitted}`)
    assert.equal(outOfOrder('four'), '0')
    assert.equal(server.sql(`SELECT COUNT(*) FROM four.gq_jobs`), `${submitted}`)
  })

  /** A process that works; `said` waits until it has said so many lines. */
  function worker(url: string): { process: ChildProcess; said(lines: number): Promise<string[]> } {
    const child = spawn(process.execPath, [join(import.meta.dirname, 'worker.child.ts'), url], { stdio: ['ignore', 'pipe', 'inherit'] }) // biome-ignore format: one call
    let text = ''
    after(() => child.kill('SIGKILL'))
    const asked: (() => void)[] = []
    child.stdout!.on('data', (bytes) => {
      text += bytes
      for (const look of asked.splice(0)) look()
    })
    const lines = () => text.split('\n').slice(0, -1)
    return {
      process: child,
      async said(count) {
        while (lines().length < count) await new Promise<void>((look) => asked.push(look))
        return lines()
      },
    }
  }

  test('a process that is killed: another one runs its jobs', async () => {
    const url = server.url('killed')
    await using store = await PostgresStore.open(url)
    const first = worker(url)
    await first.said(1)
    const { ids } = await store.call('submit', submission([600_000, 600_000, 600_000]))
    assert.deepEqual(new Set((await first.said(4)).slice(1)), new Set(ids.map(String)))
    const second = worker(url)
    await second.said(1)
    first.process.kill('SIGKILL')
    const again = Number((await second.said(2))[1]) // not all at once: one of them may be what kills
    assert.ok(ids.includes(again))
    const history = await store.call('attempts', again)
    assert.equal(history[0]?.outcome, 'lost')
  })

  test('a process tells the others that it has submitted', async () => {
    const url = server.url('told')
    await using first = await PostgresStore.open(url)
    const listener = new pg.Client(url.replace(/[?].*/, ''))
    await listener.connect()
    await listener.query('LISTEN "gopherqueue told"')
    const told = new Promise((done) => listener.once('notification', done))
    while (server.sql(`SELECT COUNT(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'`) !== '2') await setTimeout(5)
    await first.call('submit', submission([1]))
    await told
    await listener.end()
  })
}
