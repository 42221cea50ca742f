import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import pg from 'pg'
import { Random } from '../../sim/random.ts'
import type { GopherQueueError } from '../../src/model/errors.ts'
import { jobSpec } from '../../src/model/job.ts'
import type { Sent } from '../../src/store/postgres/client-thread.ts'
import { connect } from '../../src/store/postgres/open.ts'
import { placeOf } from '../../src/store/postgres/place.ts'
import type { LeasedJob } from '../../src/store/store.ts'
import { VirtualClock } from '../../src/testing/clock.ts'
import { EngineStore } from '../../src/testing/store.ts'
import { PostgresServer, without } from '../support/postgres.ts'

// While somebody holds an old snapshot, as pg_dump does, PostgreSQL removes no row and no entry of an index. A claim must not
// walk those of all jobs that have run since: it begins where ready jobs may begin, and no ready job may be missed by that.

if (without) test('snapshots that are held', { skip: without })
else withServer(new PostgresServer())

function withServer(server: PostgresServer): void {
  after(() => server[Symbol.dispose]())

  const sources = [{ queue: 'default', type: 'work' }]

  /** A process with a worker. `sent`: the statements of its transactions. */
  async function rig(schema: string) {
    const clock = new VirtualClock()
    const db = connect(placeOf(server.url(schema)), clock)
    const sent: Sent[] = []
    const fly = db.connection.flight.bind(db.connection)
    db.connection.flight = (of, ...more) => {
      sent.push(...of)
      return fly(of, ...more)
    }
    const ask = db.connection.ahead.bind(db.connection)
    db.connection.ahead = (one) => {
      sent.push(one)
      ask(one)
    }
    const store = new EngineStore('postgres', clock, () => db)
    const worker = await store.call('register', { name: 'here', sources, slots: 100 })
    const lease = (slots = 100) => store.call('lease', { worker, slots, exclude: [], sources })
    const submit = (jobs: number) =>
      store.call('submit', {
        specs: jobSpec('work', { maxAttempts: 1 }),
        payloads: Array<string>(jobs).fill('1'),
        keys: null,
      })
    return { clock, store, worker, sent, lease, submit, [Symbol.dispose]: () => store.close() }
  }

  /** Pages that a statement reads. */
  function pages({ text, values }: Sent): number {
    const said = values.reduceRight<string>((sql, value, i) => sql.replaceAll(`$${i + 1}`, JSON.stringify(value).replaceAll('"', "'")), text) // biome-ignore format: one line
    const plan = server.sql(`SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_sort = off; EXPLAIN (ANALYZE, BUFFERS) ${said}`) // biome-ignore format: one line
    return Number(/Buffers: shared hit=(\d+)/.exec(plan)![1])
  }

  test('a claim, and a look at what runs, read few pages, however many jobs have run since the snapshot', async () => {
    using at = await rig('held')
    await at.submit(2000)
    const holder = new pg.Client({ host: server.folder, user: 'postgres', database: 'postgres' })
    holder.on('error', () => undefined) // the server ends it when the test has failed
    await holder.connect()
    await holder.query('BEGIN ISOLATION LEVEL REPEATABLE READ')
    await holder.query('SELECT COUNT(*) FROM held.gq_jobs')
    for (let round = 0; round < 19; round++) {
      const jobs = await at.lease()
      assert.equal(jobs.length, 100)
      at.store.advance(1000) // the engine looks at what runs
      await Promise.all(jobs.map((job) => at.store.call('succeed', { lease: job, result: '1' })))
    }
    at.sent.length = 0
    assert.equal((await at.lease()).length, 100)
    at.store.advance(1000)
    const find = (what: RegExp) => at.sent.findLast(({ text }) => what.test(text))!
    for (const what of [
      /^SELECT \* FROM \(\s*SELECT id, priority/,
      /^SELECT lost_answers/,
      /SELECT DISTINCT worker_id/,
    ]) {
      const read = pages(find(what))
      assert.ok(read <= 50, `${read} pages: ${find(what).text}`)
    }
    await holder.end()
  })

  test('a job that another process makes ready again is not passed over, be it of a version that does not say so', async () => {
    using here = await rig('again')
    using there = await rig('again')
    const { ids } = await here.submit(8)
    const ends = async (kind: 'permanent' | 'succeed', jobs = 1) => {
      for (const lease of await here.lease(jobs))
        if (kind === 'succeed') await here.store.call('succeed', { lease, result: '1' })
        else
          await here.store.call('fail', {
            lease,
            kind,
            error: { name: 'Error', message: 'no', stack: null },
            retryAfter: null,
          })
    }
    await ends('permanent', 2)
    await ends('succeed', 2)
    const first = async () => {
      const [job] = await here.lease(1)
      await here.store.call('succeed', { lease: job!, result: '1' })
      return ids.indexOf(job!.id)
    }
    assert.equal(await first(), 4)
    await there.store.call('retry', ids[1]!)
    here.clock.advance(there.clock.now() - here.clock.now())
    assert.equal(await first(), 1)
    assert.equal(await first(), 5)
    server.sql(`UPDATE again.gq_jobs SET state = 'ready', reason = NULL, finished_at = NULL, prune_at = NULL, cause = NULL, budget_from = attempt WHERE id = ${ids[0]};
      INSERT INTO again.gq_marks SELECT n + 1, gen_random_uuid(), seq FROM again.gq_marks ORDER BY n DESC LIMIT 1`)
    assert.equal(await first(), 0)
    assert.equal(await first(), 6)
  })

  test('two processes and whatever happens to their jobs: none that may start is passed over', async () => {
    const admin = new pg.Client({ host: server.folder, user: 'postgres', database: 'postgres' })
    await admin.connect()
    for (const seed of [3, 4, 7]) await happens(seed, async (sql) => (await admin.query({ text: sql, rowMode: 'array' })).rows.flat()) // biome-ignore format: one line
    await admin.end()
  })

  /** After each few steps both ask for jobs; then no job is ready of a queue that has room. */
  async function happens(seed: number, all: (sql: string) => Promise<string[]>): Promise<void> {
    const schema = `chance${seed}`
    const random = new Random(seed)
    const some = <T>(of: readonly T[]): T => of[random.below(of.length)]!
    using one = await rig(schema)
    using other = await rig(schema)
    const held = new Map<typeof one, LeasedJob[]>([
      [one, []],
      [other, []],
    ])
    const ask = async (at: typeof one) => {
      const patience = new AbortController()
      const jobs = at.store.call('lease', { worker: at.worker, slots: 100, exclude: [], sources }, patience.signal)
      await at.store.call('stats', null)
      patience.abort(new Error('none is ready'))
      held.get(at)!.push(...(await jobs.catch(() => [])))
    }
    const submit = (at: typeof one) => {
      const specs = jobSpec('work', {
        ...{ priority: some(['critical', 'high', 'normal', 'low'] as const), maxAttempts: 3 },
        ...(random.below(3) === 0 && { delay: 1 + random.below(3000) }),
        ...(random.below(3) === 0 && { concurrencyKey: some(['a', 'b']) }),
      })
      return at.store.call('submit', { specs, payloads: Array<string>(1 + random.below(3)).fill('1'), keys: null })
    }
    const end = (at: typeof one) => {
      const [lease] = held.get(at)!.splice(random.below(held.get(at)!.length), 1)
      const how = some(['succeed', 'release', 'temporary', 'permanent', 'postpone'] as const)
      if (!lease) return null
      if (how === 'succeed') return at.store.call('succeed', { lease, result: '1' })
      if (how === 'release') return at.store.call('release', lease)
      const error = { name: 'Error', message: 'no', stack: null }
      return at.store.call('fail', {
        lease,
        kind: how,
        error,
        retryAfter: how === 'permanent' ? null : some([0, 50, 2000]),
      })
    }
    const operate = async (at: typeof one) => {
      const [id] = await all(`SELECT id FROM ${schema}.gq_jobs ORDER BY id OFFSET ${random.below(60)} LIMIT 1`)
      if (id && random.below(2) === 0) return at.store.call(some(['retry', 'runNow', 'cancel'] as const), Number(id))
      return at.store.call('setQueue', {
        queue: 'default',
        maxRunning: some([null, 3, 6]),
        maxRunningPerKey: some([1, 2]),
      })
    }
    for (let step = 0; step < 200; step++) {
      const at = some([one, other])
      try {
        await some([submit, submit, ask, end, end, end, operate])(at)
      } catch (error) {
        assert.match((error as GopherQueueError).code, /LEASE_LOST|INVALID_STATE/)
      }
      const ms = some([0, 0, 100, 700])
      for (const { store } of [one, other]) store.advance(ms)
      if (step % 5 > 0) continue
      await ask(one)
      await ask(other)
      const left = await all(`SELECT j.id FROM ${schema}.gq_jobs j JOIN ${schema}.gq_queues q ON q.name = j.queue
        WHERE j.state = 'ready' AND j.blocked = 0 AND (q.max_running IS NULL OR q.running < q.max_running)`)
      assert.deepEqual(left, [], `seed ${seed}, step ${step}`)
    }
    const tried = await all(`SELECT id FROM ${schema}.gq_jobs WHERE attempt > 0`)
    assert.ok(tried.length > 15, `${tried.length} jobs`)
  }
}
