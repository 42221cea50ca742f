import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { after, test } from 'node:test'
import pg from 'pg'
import { GopherQueue } from '../../src/index.ts'
import { main } from '../support/bundled.ts'
import { PostgresServer, without } from '../support/postgres.ts'

// An owner makes the tables; who uses the queue may read and write its rows, and no more.

if (without) test('roles on PostgreSQL', { skip: without })
else withServer(new PostgresServer())

function withServer(server: PostgresServer): void {
  after(() => server[Symbol.dispose]())
  server.sql(
    `CREATE ROLE owner LOGIN; CREATE ROLE "my app" LOGIN; CREATE ROLE nobody LOGIN; GRANT CREATE ON DATABASE postgres TO owner`,
  )
  const as = (role: string, url: string) => url.replace('//postgres@', `//${encodeURIComponent(role)}@`)

  function gopherqueue(...args: string[]): { status: number | null; out: string; err: string } {
    const { status, stdout, stderr } = spawnSync(process.execPath, [main, ...args], { encoding: 'utf8' })
    return { status, out: stdout, err: stderr }
  }

  const refused = (url: string, message: RegExp) =>
    assert.rejects(GopherQueue.open(url), (error: Error & { code: string; accepted: string }) => {
      assert.deepEqual([error.code, error.accepted], ['STORAGE_UNAVAILABLE', 'no'])
      assert.match(error.message, message)
      assert.match(error.message, /gopherqueue migrate/)
      return true
    })

  test('a role with rights on the rows alone submits, works, schedules and submits inside; it changes no table', async () => {
    const url = server.url('least')
    await refused(as('my app', url), /may not make/)
    const made = gopherqueue('migrate', '--db', as('owner', url), '--grant', 'my app')
    assert.deepEqual([made.status, made.out], [0, 'least: made, version 4\nleast: my app may use it\n'], made.err)
    assert.equal(gopherqueue('migrate', '--db', as('owner', url)).out, 'least: has version 4 already\n')
    await refused(as('nobody', url), /may not read/)
    const client = new pg.Client({ host: server.folder, user: 'my app', database: 'postgres' })
    await client.connect()
    {
      await using queue = await GopherQueue.open(as('my app', url))
      queue.define<number, number>('double', {}, ({ payload }) => {
        if (payload < 0) throw new Error('negative')
        return payload * 2
      })
      queue.work()
      const { id } = await queue.submit('double', 2, { idempotencyKey: 'a', uniqueKey: 'b', concurrencyKey: 'c' })
      assert.equal(await queue.wait(id), 4)
      await queue.schedule('often', '* * * * * *', 'double', 4)
      const dead = await queue.submit('double', -1, { maxAttempts: 1 })
      await assert.rejects(queue.wait(dead.id), { code: 'JOB_FAILED' })
      await client.query('BEGIN')
      const inside = await queue.submitWith(client, 'double', 8, { idempotencyKey: 'i', uniqueKey: 'u' })
      await client.query('COMMIT')
      assert.equal(await queue.wait(inside.id), 16)
      await queue.configure('default', { maxDepth: 1000, rate: { max: 1000, per: '1s' } })
      await queue.retry(dead.id)
      while (((await queue.schedules())[0]?.lastJob ?? null) === null) await queue.submit('double', 1)
      await queue.removeSchedule('often')
    }
    for (const text of [
      'DROP TABLE least.gq_jobs',
      'ALTER TABLE least.gq_jobs ADD x int',
      'CREATE TABLE least.x (n int)',
    ])
      await assert.rejects(client.query(text), { code: '42501' })
    await client.end()
  })

  test('an older schema: the role is told who brings it forward, and the owner does', async () => {
    const url = server.url('older')
    gopherqueue('migrate', '--db', as('owner', url), '--grant', 'my app')
    server.sql(`DROP TRIGGER gq_jobs_hold_key ON older.gq_jobs; DROP FUNCTION older.gq_hold_key;
      ALTER TABLE older.gq_jobs ALTER id DROP DEFAULT; DROP SEQUENCE older.gq_blocks; ALTER TABLE older.gq_marks DROP COLUMN readied; UPDATE older.gq_meta SET value = '2' WHERE key = 'schema'`)
    await refused(as('my app', url), /from version 2 to 4/)
    const { out } = gopherqueue('migrate', '--json', '--db', as('owner', url))
    assert.deepEqual(JSON.parse(out), { schema: 'older', from: 2, to: 4, granted: [] })
    await (await GopherQueue.open(as('my app', url))).close() // by default privileges, as its owner granted them
  })

  test('a right that is missing is found at open, by name', async () => {
    const url = server.url('lacks')
    gopherqueue('migrate', '--db', as('owner', url), '--grant', 'my app')
    server.sql('REVOKE DELETE ON lacks.gq_keys FROM "my app"; REVOKE UPDATE ON SEQUENCE lacks.gq_blocks FROM "my app"')
    await refused(as('my app', url), /rights on gq_blocks, gq_keys/)
  })

  test('a file is not what migrate is for', () => {
    const { status, err } = gopherqueue('migrate', '--db', 'jobs.db')
    assert.equal(status, 2)
    assert.match(err, /first process that opens it/)
  })
}
