import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import pg from 'pg'
import postgres from 'postgres'
import { GopherQueue, type JobOptions } from '../../src/index.ts'
import { PostgresServer, without } from '../support/postgres.ts'

// Jobs in the app's own transactions: on whichever connection, stored with its rows or not at all, and nobody waits for them.

if (without) test('submitWith on PostgreSQL', { skip: without })
else withServer(new PostgresServer())

function withServer(server: PostgresServer): void {
  after(() => server[Symbol.dispose]())
  const connection = { host: server.folder, user: 'postgres', database: 'postgres' }

  async function client(database = 'postgres'): Promise<pg.Client & AsyncDisposable> {
    const one = new pg.Client({ ...connection, database })
    await one.connect()
    return Object.assign(one, { [Symbol.asyncDispose]: () => one.end() })
  }

  const within = async <T>(app: pg.Client, work: () => Promise<T>, end = 'COMMIT'): Promise<T> => {
    await app.query('BEGIN')
    const value = await work()
    await app.query(end)
    return value
  }

  const stored = (schema: string) =>
    server.sql(`SELECT payload FROM ${schema}.gq_jobs ORDER BY id`).split('\n').filter(Boolean)

  test('a key with a NUL is refused, as another would be stored', async () => {
    await using queue = await GopherQueue.open(server.url('nul'))
    await using app = await client()
    for (const option of ['idempotencyKey', 'uniqueKey', 'concurrencyKey']) {
      const [refused, key] = [{ code: 'INVALID_ARGUMENT', message: /NUL/ }, { [option]: 'a\0b' }]
      await assert.rejects(queue.submit('work', 1, key), refused)
      await within(app, () => assert.rejects(queue.submitWith(app, 'work', 1, key), refused))
    }
    assert.deepEqual(stored('nul'), [])
  })

  test('several submissions at once on one connection take turns', async () => {
    await using queue = await GopherQueue.open(server.url('turns'))
    await using app = await client()
    const made = await within(app, () => Promise.all([1, 2, 3, 4].map((n) => queue.submitWith(app, 'work', n))))
    assert.equal(new Set(made.map(({ id }) => id)).size, 4)
    assert.deepEqual(stored('turns'), ['1', '2', '3', '4'])
  })

  test('a job is committed or rolled back with the rows of the app, by pg and by postgres', async () => {
    await using queue = await GopherQueue.open(server.url('rows'))
    await using app = await client()
    const sql = postgres({ ...connection, max: 1, onnotice: () => undefined })
    await app.query('CREATE TABLE orders (id int)')
    const receipt = queue.define<number, string>('receipt', {}, ({ payload }) => `for ${payload}`)
    const { id, duplicate } = await within(app, async () => {
      await app.query('INSERT INTO orders VALUES (1)')
      return receipt.submitWith(app, 1)
    })
    assert.equal(duplicate, false)
    await within(app, () => receipt.submitWith(app, 2), 'ROLLBACK')
    const third = await sql.begin((tx) => receipt.submitWith(tx, 3))
    const prisma = {
      $queryRawUnsafe: async (text: string, ...values: unknown[]) => (await app.query(text, values)).rows,
    }
    await within(app, () => receipt.submitWith(prisma, 5))
    await assert.rejects(
      sql.begin(async (tx) => {
        await receipt.submitWith(tx, 4)
        throw new Error('no stock')
      }),
      /no stock/,
    )
    await sql.end()
    assert.deepEqual(stored('rows'), ['1', '3', '5'])
    queue.work()
    assert.deepEqual([await queue.wait(id), await queue.wait(third.id)], ['for 1', 'for 3'])
    assert.equal((await queue.job(id))?.id, id)
    assert.equal((await queue.stats()).queues[0]?.counts.succeeded, 3)
  })

  test('all options are kept as submit keeps them; due ones wait', async () => {
    await using queue = await GopherQueue.open(server.url('options'))
    await using app = await client()
    const options: JobOptions = {
      ...{ queue: 'mail', priority: 'high', maxAttempts: 3, backoff: { kind: 'table', delays: [1, 2] }, timeout: 7000 },
      ...{ onTimeout: 'dead', visibilityTimeout: 9000, concurrencyKey: 'ü', delay: '1h', deadline: '2h' },
    }
    const one = await queue.submit('work', { ü: '\0' }, { ...options, idempotencyKey: 'a', uniqueKey: 'b' })
    const other = await within(app, () =>
      queue.submitWith(app, 'work', { ü: '\0' }, { ...options, idempotencyKey: 'c', uniqueKey: 'd' }),
    )
    await queue.submit('work', null) // admits it
    const [a, b] = await Promise.all([queue.job(one.id), queue.job(other.id)])
    const alike = (job: typeof a) => ({ ...job, id: 0, createdAt: 0, runAt: 0, deadline: 0, idempotencyKey: '', uniqueKey: '' }) // biome-ignore format: one line
    assert.deepEqual(alike(b), alike(a))
    assert.ok(Math.abs(b!.runAt! - a!.runAt!) < 60_000)
  })

  test('its place is that of the call, its id is of no other job, and the order can be proved', async () => {
    await using queue = await GopherQueue.open(server.url('places'))
    await using second = await GopherQueue.open(server.url('places'))
    await using app = await client()
    const called: number[] = []
    for (let i = 0; i < 5; i++) {
      called.push((await queue.submit('work', i)).id)
      const inside = await within(app, async () => {
        const first = await queue.submitWith(app, 'work', 'first')
        called.push(first.id, (await second.submit('work', i)).id) // it is committed before the app's
        return queue.submitWith(app, 'work', 'second')
      })
      called.push(inside.id)
      await second.submitMany(
        'other',
        Array.from({ length: 350 }, () => null),
      ) // blocks are used up
    }
    assert.deepEqual(called, called.toSorted((a, b) => a - b)) // biome-ignore format: one call
    assert.equal(new Set(called).size, called.length)
    const ran: number[] = []
    queue.define('work', {}, ({ id }) => void ran.push(id))
    const worker = queue.work({ concurrency: 1 })
    for (const id of called) await queue.wait(id)
    await worker.stop()
    assert.deepEqual(ran, called)
    const passedOver = `SELECT COUNT(*) FROM places.gq_jobs younger JOIN places.gq_jobs older
      ON older.queue = younger.queue AND older.type = younger.type AND older.priority = younger.priority
      AND older.id < younger.id AND COALESCE(older.ready_seq, older.id) < younger.lease_seq AND older.lease_seq > younger.lease_seq`
    assert.equal(server.sql(passedOver), '0')
  })

  test('an open transaction with keys keeps nobody waiting but who submits these keys', async () => {
    await using queue = await GopherQueue.open(server.url('keys'))
    await using app = await client()
    for (const kind of ['idempotencyKey', 'uniqueKey'] as const)
      for (const end of ['COMMIT', 'ROLLBACK']) {
        const key = `${kind} ${end}`
        await app.query('BEGIN')
        const first = await queue.submitWith(app, 'work', 1, { [kind]: key })
        let told: string | undefined
        const same = queue.submit('work', 1, { [kind]: key }).then((result) => {
          told = `${result.duplicate} ${result.id === first.id}`
        })
        for (let i = 0; i < 20; i++) await queue.submit('work', i, { [kind]: `${key} ${i}` })
        assert.equal(told, undefined)
        await app.query(end)
        await same
        assert.equal(told, end === 'COMMIT' ? 'true true' : 'false false')
      }
    await queue.submit('work', 2, { idempotencyKey: 'held' })
    const again = await within(app, () => queue.submitWith(app, 'work', 2, { idempotencyKey: 'held' }))
    assert.deepEqual([again.duplicate, again.state], [true, 'ready'])
    await app.query('BEGIN')
    await assert.rejects(queue.submitWith(app, 'work', 3, { idempotencyKey: 'held' }), { code: 'IDEMPOTENCY_CONFLICT' })
    assert.equal((await queue.submitWith(app, 'work', 2, { idempotencyKey: 'held' })).id, again.id)
    assert.equal((await queue.submit('work', 2, { idempotencyKey: 'held' })).id, again.id) // no lock is in the way of an answer
    await app.query('COMMIT')
  })

  test('two transactions of apps with one key: the second waits for the first', async () => {
    await using queue = await GopherQueue.open(server.url('two'))
    await using app = await client()
    await using other = await client()
    for (const options of [{ idempotencyKey: 'k' }, { uniqueKey: 'u' }]) {
      await app.query('BEGIN')
      await other.query('BEGIN')
      const first = await queue.submitWith(app, 'work', 1, options)
      const second = queue.submitWith(other, 'work', 1, options)
      await queue.submit('work', 2)
      await app.query('COMMIT')
      assert.deepEqual(await second, { id: first.id, duplicate: true, state: 'ready' })
      await other.query('COMMIT')
    }
  })

  test('a key whose window is over is taken anew, and retention goes on beside it', async () => {
    await using queue = await GopherQueue.open(server.url('over'))
    await using app = await client()
    const { id } = await queue.submit('work', 1, { idempotencyKey: 'k', idempotencyWindow: '1d' })
    server.sql(`DELETE FROM over.gq_jobs; UPDATE over.gq_keys SET expires_at = 1 WHERE job_id = ${id}`)
    const taken = await within(app, async () => {
      const result = await queue.submitWith(app, 'work', 2, { idempotencyKey: 'k' })
      queue.define('other', {}, () => undefined)
      queue.work()
      await queue.wait((await queue.submit('other', null)).id) // whoever works prunes
      return result
    })
    assert.equal(taken.duplicate, false)
    assert.equal((await queue.submit('work', 2, { idempotencyKey: 'k' })).id, taken.id)
  })

  test('retry of a job whose unique key is being taken waits until that is decided', async () => {
    await using queue = await GopherQueue.open(server.url('retry'))
    await using app = await client()
    const { id } = await queue.submit('work', 1, { uniqueKey: 'u' })
    await queue.cancel(id)
    await app.query('BEGIN')
    const taking = await queue.submitWith(app, 'work', 2, { uniqueKey: 'u' })
    const retried = assert.rejects(queue.retry(id), { code: 'KEY_TAKEN', details: { jobId: taking.id } })
    assert.equal(await queue.retryAll({ state: 'cancelled' }), 0)
    await app.query('COMMIT')
    await retried
  })

  test('limits are those of submit: a full queue, a deadline that is past, a payload', async () => {
    await using queue = await GopherQueue.open(server.url('limits'))
    await using app = await client()
    await queue.configure('default', { maxDepth: 2 })
    await within(app, async () => {
      const first = await queue.submitWith(app, 'work', 1, { uniqueKey: 'u' })
      await queue.submitWith(app, 'work', 2)
      await assert.rejects(queue.submitWith(app, 'work', 3), { code: 'QUEUE_FULL', accepted: 'no' })
      assert.equal((await queue.submitWith(app, 'work', 1, { uniqueKey: 'u' })).id, first.id)
      await assert.rejects(queue.submitWith(app, 'work', 4, { deadline: new Date(1) }), { code: 'INVALID_ARGUMENT' })
      await assert.rejects(queue.submitWith(app, 'work', 2n), { code: 'INVALID_PAYLOAD' })
    })
    assert.deepEqual(stored('limits'), ['1', '2'])
    // A step of admission comes to the first of them only.
    await assert.rejects(queue.submit('work', 3), { code: 'QUEUE_FULL', accepted: 'no' })
  })

  test('what is no transaction on the queue, or a weaker one, is refused before anything is written', async () => {
    await using queue = await GopherQueue.open(server.url('ours'))
    await using other = await GopherQueue.open(server.url('theirs'))
    await using app = await client()
    const refused = (connection: pg.Client | pg.Pool | postgres.Sql, message: RegExp, at = queue) =>
      assert.rejects(at.submitWith(connection as pg.Client, 'work', 1), (error: Error & { code: string }) => {
        assert.equal(error.code, 'INVALID_ARGUMENT')
        assert.match(error.message, message)
        return true
      })
    await refused(app, /No transaction/)
    const pool = new pg.Pool(connection)
    await refused(pool, /No transaction/)
    await pool.end()
    const sql = postgres({ ...connection, max: 2 })
    await refused(sql, /No transaction/)
    await sql.end()
    assert.throws(() => queue.submitWith({} as pg.Client, 'work', 1), { code: 'INVALID_ARGUMENT' })
    for (const weak of ['off', 'local', 'remote_write'])
      await within(app, async () => {
        await app.query(`SET LOCAL synchronous_commit = ${weak}`)
        await refused(app, new RegExp(`synchronous_commit is ${weak}`))
      })
    await app.query('BEGIN READ ONLY')
    await refused(app, /read-only/)
    await app.query('COMMIT')
    server.sql('CREATE DATABASE elsewhere')
    await using stranger = await client('elsewhere')
    await stranger.query('BEGIN')
    await refused(stranger, /no queue/)
    assert.equal((await stranger.query('SELECT 1 AS one')).rows[0].one, 1) // its transaction goes on
    await using there = await GopherQueue.open(server.url('ours').replace('/postgres?', '/elsewhere?'))
    await refused(stranger, /another queue/)
    await stranger.query('ROLLBACK')
    await there.close()
    assert.deepEqual([...stored('ours'), ...stored('theirs')], [])
    await other.close()
    await assert.rejects(other.submitWith(app, 'work', 1), { code: 'CLOSED' })
  })

  test('a serializable transaction that cannot be is told so by PostgreSQL, and nothing of it is stored', async () => {
    await using queue = await GopherQueue.open(server.url('serial'))
    await using app = await client()
    await app.query('BEGIN ISOLATION LEVEL SERIALIZABLE')
    await app.query('SELECT COUNT(*) FROM serial.gq_jobs')
    const { id } = await queue.submit('work', 1, { idempotencyKey: 'k' })
    await assert.rejects(queue.submitWith(app, 'work', 1, { idempotencyKey: 'k' }), /duplicate key|serialize/)
    await app.query('ROLLBACK')
    const again = await within(app, () => queue.submitWith(app, 'work', 1, { idempotencyKey: 'k' }))
    assert.deepEqual([again.id, again.duplicate], [id, true])
  })

  test('plain SQL inserts with the same defaults, and is admitted', async () => {
    await using queue = await GopherQueue.open(server.url('plainsql'))
    queue.define<number, number>('double', {}, ({ payload }) => payload * 2)
    queue.work()
    const id = Number(server.sql(`INSERT INTO plainsql.gq_jobs (type, payload) VALUES ('double', '4') RETURNING id`))
    assert.equal(await queue.wait(id), 8)
  })

  test('plain SQL that takes a unique key and stays open keeps nobody waiting either', async () => {
    await using queue = await GopherQueue.open(server.url('slow'))
    await using app = await client()
    await app.query('BEGIN')
    const text = `INSERT INTO slow.gq_jobs (type, payload, unique_key) VALUES ('work', '1', 'u') ON CONFLICT DO NOTHING RETURNING id`
    const { rows } = await app.query(text)
    const same = queue.submit('work', 1, { uniqueKey: 'u' })
    for (let i = 0; i < 5; i++) await queue.submit('work', i, { uniqueKey: `u ${i}` })
    await app.query('COMMIT')
    assert.deepEqual(await same, { id: Number(rows[0].id), duplicate: true, state: 'ready' })
  })

  test('a sequence that fell behind, as replication of rows alone leaves it, goes on after the last number', async () => {
    await using queue = await GopherQueue.open(server.url('behind'))
    const many = await queue.submitMany('work', Array.from({ length: 2500 }, (_, i) => i)) // biome-ignore format: one call
    server.sql(`SELECT setval('behind.gq_blocks', 0)`)
    await using app = await client()
    const next = await queue.submit('work', 'next')
    const { id } = await within(app, () => queue.submitWith(app, 'work', 'inside'))
    const last = await queue.submit('work', 'last')
    assert.deepEqual([next.id > many.at(-1)!.id, id > next.id, last.id > id], [true, true, true])
  })
}
