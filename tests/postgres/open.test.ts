import assert from 'node:assert/strict'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { after, test } from 'node:test'
import { setTimeout } from 'node:timers/promises'
import pg from 'pg'
import { GopherQueue } from '../../src/index.ts'
import { examineServer } from '../../src/store/postgres/doctor.ts'
import { bringForward } from '../../src/store/postgres/open.ts'
import { addressOf } from '../../src/store/postgres/place.ts'
import { settings } from '../../src/store/postgres/statements.ts'
import { PostgresStore } from '../../src/store/postgres/store.ts'
import { PostgresServer, without } from '../support/postgres.ts'

// What a queue asks of a server before it takes a job.

if (without) test('opening PostgreSQL', { skip: without })
else withServer(new PostgresServer())

function withServer(server: PostgresServer): void {
  after(() => server[Symbol.dispose]())

  const refused = (url: string, code: string, message: RegExp) =>
    assert.rejects(PostgresStore.open(url), (error: Error & { code: string; accepted: string }) => {
      assert.deepEqual([error.code, error.accepted], [code, 'no'])
      assert.match(error.message, message)
      assert.match(error.message, /Nothing was/)
      return true
    })

  test('a server that would lose jobs is refused: asynchronous commits, no fsync, no full pages', async () => {
    for (const commit of ['off', 'local', 'remote_write']) {
      const url = `${server.url('weak')}&options=${encodeURIComponent(`-c synchronous_commit=${commit}`)}`
      await refused(url, 'STORAGE_UNAVAILABLE', /synchronous_commit/)
    }
    for (const setting of ['fsync', 'full_page_writes']) {
      server.sql(`ALTER SYSTEM SET ${setting} = off`)
      server.sql('SELECT pg_reload_conf()')
      while (server.sql(`SHOW ${setting}`) === 'on');
      await refused(server.url('weak'), 'STORAGE_UNAVAILABLE', new RegExp(`${setting} = off`))
      server.sql(`ALTER SYSTEM SET ${setting} = on`)
      server.sql('SELECT pg_reload_conf()')
      while (server.sql(`SHOW ${setting}`) === 'off');
    }
    assert.equal(server.sql(`SELECT COUNT(*) FROM pg_namespace WHERE nspname = 'weak'`), '0')
  })

  test('each transaction commits durably and reads its texts as written, whatever its session was left with', () => {
    const names = ['synchronous_commit', 'standard_conforming_strings']
    const left = names.map((name) => `SET ${name} = off`).join(';')
    const shown = server.sql(`${left}; BEGIN; SELECT ${settings}; ${names.map((name) => `SHOW ${name}`).join(';')}`)
    assert.match(shown, /on\s+on$/)
  })

  test('a job of plain SQL that says it was tried is admitted, and keeps nobody from submitting', async () => {
    await using queue = await GopherQueue.open(server.url('tried'))
    server.sql(`INSERT INTO tried.gq_jobs (type, payload, attempt) VALUES ('work', '1', 5)`)
    await queue.submit('work', 1)
    assert.equal((await queue.stats()).queues[0]!.counts.ready, 2)
  })

  test('an outcome waits while a column or a right is gone', async () => {
    await using queue = await GopherQueue.open(server.url('renamed'))
    const { promise: done, resolve: finish } = Promise.withResolvers<string>()
    queue.define('work', {}, () => done)
    const { id } = await queue.submit('work', 1)
    const started = once(queue, 'started')
    queue.work()
    await started
    server.sql('ALTER TABLE renamed.gq_jobs RENAME COLUMN result TO was_result')
    finish('made')
    for (let look = 0; look < 1000 && (await queue.health()).status === 'ok'; look++) await setTimeout(10)
    server.sql('ALTER TABLE renamed.gq_jobs RENAME COLUMN was_result TO result')
    assert.equal(await queue.wait(id), 'made')
  })

  test('a database whose encoding does not have every character is refused', async () => {
    server.sql(`CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'`)
    await refused(server.url('q').replace('/postgres?', '/latin?'), 'STORAGE_UNAVAILABLE', /encoding LATIN1/)
  })

  test('a schema of a newer version is refused, and left as it is', async () => {
    const url = server.url('newer')
    await (await PostgresStore.open(url)).close()
    server.sql(`UPDATE newer.gq_meta SET value = '1000' WHERE key IN ('schema', 'schema_min')`)
    await refused(url, 'SCHEMA_TOO_NEW', /version 1000/)
  })

  test('a newer schema that says that this version works beside it is used as it is', async () => {
    const url = server.url('beside')
    await using queue = await GopherQueue.open(url)
    const app = new pg.Client({ host: server.folder, user: 'postgres', database: 'postgres' })
    await app.connect()
    after(() => app.end())
    const inside = async () => {
      await app.query('BEGIN')
      return queue.submitWith(app, 'work', 1).finally(() => app.query('COMMIT'))
    }
    const forward = (key: string) => server.sql(`UPDATE beside.gq_meta SET value = '1000' WHERE key = '${key}'`)
    forward('schema')
    await queue.submit('work', 1)
    await inside()
    await (await PostgresStore.open(url)).close()
    assert.deepEqual(await bringForward(url, []), { schema: 'beside', from: 1000, to: 1000, granted: [] })
    const finding = async () => (await examineServer(url, false)).find(({ name }) => name === 'schema')!
    assert.deepEqual([(await finding()).verdict, (await finding()).says], ['warn', 'beside, version 1000'])
    forward('schema_min')
    await assert.rejects(inside(), { code: 'SCHEMA_TOO_NEW' })
    assert.equal((await finding()).verdict, 'FAIL')
    assert.equal(server.sql('SELECT COUNT(*) FROM beside.gq_jobs'), '2')
  })

  test('eight open an empty database at once: one makes the tables', async () => {
    const url = server.url('eight')
    const stores = await Promise.all(Array.from({ length: 8 }, () => PostgresStore.open(url)))
    for (const store of stores) await store.close()
    assert.equal(server.sql(`SELECT COUNT(*) FROM eight.gq_marks WHERE n = 0`), '1')
  })

  test('an URL that is wrong is refused with what is wrong in it', async () => {
    await refused('postgres://postgres@localhost:1/postgres', 'STORAGE_UNAVAILABLE', /ECONNREFUSED/)
    for (const hosts of ['', ',localhost', 'localhost,', 'localhost:x'])
      await refused(`postgres://postgres:geheim@${hosts}/postgres`, 'INVALID_ARGUMENT', /is no URL: write (?!.*geheim)/)
    await refused(`${server.url('Jobs')}`, 'INVALID_ARGUMENT', /schema/)
    await refused(`${server.url()}&prepare=maybe`, 'INVALID_ARGUMENT', /prepare/)
    await assert.rejects(GopherQueue.open(server.url(), { driver: 'x' }), { code: 'INVALID_ARGUMENT' })
  })

  test('of several hosts the one that takes writes is used; what is shown names all, and no password', async () => {
    using standby = new PostgresServer({}, server)
    const there = [standby, server].map(({ folder }) => encodeURIComponent(folder))
    const url = (...hosts: string[]) =>
      `postgres://postgres:geheim@${hosts.join(',')}/postgres?schema=hosts&prepare=true`
    await using queue = await GopherQueue.open(url('localhost:1', ...there))
    const { id } = await queue.submit('work', { a: 1 })
    assert.equal((await queue.job(id))?.state, 'ready')
    assert.equal(addressOf(url('a:1', 'b')), 'postgres://postgres@a:1,b/postgres?schema=hosts')
    await refused(url('localhost:1', there[0]!), 'STORAGE_UNAVAILABLE', /each is a standby/)
    await refused(url(there[0]!), 'STORAGE_UNAVAILABLE', /is a standby/)
    await refused(url('localhost:1', 'localhost:2'), 'STORAGE_UNAVAILABLE', /ECONNREFUSED/)
  })

  test('without prepared statements, as behind a pooler that knows none', async () => {
    await using queue = await GopherQueue.open(`${server.url('plain')}&prepare=false`)
    const { id } = await queue.submit('work', { a: 1 })
    assert.equal((await queue.job(id))?.state, 'ready')
  })

  test('a role with the rights that docs/scaling.md grants works in a schema that another made', async () => {
    await (await PostgresStore.open(server.url('gopherqueue'))).close()
    const grants = /```sql\n([^`]*)```/.exec(
      readFileSync(new URL('../../docs/scaling.md', import.meta.url), 'utf8'),
    )![1]!
    server.sql(`CREATE ROLE app LOGIN; REVOKE CREATE ON DATABASE postgres FROM PUBLIC; ${grants}`)
    await using queue = await GopherQueue.open(server.url('gopherqueue').replace('postgres@', 'app@'))
    queue.define('work', () => 'done')
    const { id } = await queue.submit('work', 1)
    queue.work()
    assert.equal(await queue.wait(id), 'done')
  })
}
