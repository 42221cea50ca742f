import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { after, test } from 'node:test'
import { setTimeout } from 'node:timers/promises'
import { GopherQueue } from '../../src/index.ts'
import { examineServer } from '../../src/store/postgres/doctor.ts'
import { placeOf } from '../../src/store/postgres/place.ts'
import { PostgresServer, psql, without } from '../support/postgres.ts'

// doctor on a server: what it says when all is well, and of each thing that is not.

if (without) test('doctor on PostgreSQL', { skip: without })
else withServer(new PostgresServer())

function withServer(server: PostgresServer): void {
  after(() => server[Symbol.dispose]())

  const all = async (url: string, order = false) =>
    new Map((await examineServer(url, order)).map((finding) => [finding.name, finding]))

  /** A queue in which some jobs ran in their order. */
  async function worked(schema: string): Promise<string> {
    const url = server.url(schema)
    await using queue = await GopherQueue.open(url)
    queue.define('work', () => 'done')
    const jobs = await queue.submitMany(
      'work',
      Array.from({ length: 20 }, (_, i) => i),
    )
    queue.work()
    for (const { id } of jobs) await queue.wait(id)
    await queue.submit('later', 1, { delay: '1h' })
    return url
  }

  /** A transaction of somebody's, which stays open until `end`. */
  async function somebody(sql: string) {
    const args = ['-h', server.folder, '-U', 'postgres', '-qAtX']
    const session = spawn(psql!, args, { ...server.as, stdio: ['pipe', 'pipe', 'inherit'] })
    session.stdin.write(`BEGIN ISOLATION LEVEL REPEATABLE READ; ${sql}; SELECT 'begun';\n`)
    for await (const text of session.stdout) if (String(text).includes('begun')) break
    return { [Symbol.dispose]: () => void session.kill() }
  }

  test('a sound queue: each finding is ok, and the order of all first leases is proved', async () => {
    const url = await worked('sound')
    const findings = await all(url, true)
    assert.deepEqual([...findings.values()].filter(({ verdict }) => verdict !== 'ok'), []) // biome-ignore format: one call
    assert.deepEqual([...findings.keys()], ['server', 'standby', 'writer', 'snapshot', 'connections', 'size', 'schema', 'counters', 'leases', 'order']) // biome-ignore format: one list
    assert.match(findings.get('order')!.says, /none of 20 first leases/)
    assert.equal(findings.get('writer')!.says, 'nobody writes right now')
  })

  test('what breaks a rule is named: a counter, the order', async () => {
    const url = await worked('broken')
    server.sql(`UPDATE broken.gq_queues SET ready = 7`)
    server.sql(`UPDATE broken.gq_jobs SET ready_seq = lease_seq - 1, lease_seq = lease_seq + 1000 WHERE id = 1`)
    const findings = await all(url, true)
    const failed = [...findings.values()].filter(({ verdict }) => verdict === 'FAIL').map(({ name }) => name)
    assert.deepEqual(failed, ['counters', 'order'])
    assert.match(findings.get('counters')!.says, /not so that .*: queue default$/)
  })

  test('who has the lock of the queue, and who keeps dead rows, is named with what ends it', async () => {
    const url = await worked('held')
    using _ = await somebody(`SET application_name = 'migration'; SELECT pg_advisory_xact_lock(${placeOf(url).lock})`)
    for (let says = ''; !says.includes('into its transaction'); await setTimeout(10)) says = (await all(url)).get('writer')!.says // biome-ignore format: one line
    const { writer, snapshot } = Object.fromEntries(await all(url))
    assert.match(writer!.says, /^backend \d+ \(migration, on this machine, idle in transaction\) has the queue's lock, .* 0 wait$/) // biome-ignore format: one line
    assert.match(snapshot!.says, /^the oldest is backend \d+ \(migration\)/)
  })

  test('a standby that is not there, one that no commit waits for, a host that does not answer, no queue', async () => {
    const none = await all(server.url('none'))
    assert.equal(none.get('schema')!.says, 'there is no queue in the schema none')
    const two = await examineServer(server.url('none').replace('@', '@localhost:1,'), false)
    assert.match(two[0]!.says, /^localhost:1 \(host 1\): .*ECONNREFUSED/)
    assert.equal(two[0]!.verdict, 'FAIL')
    using standby = new PostgresServer({}, server)
    while (server.sql('SELECT state FROM pg_stat_replication') !== 'streaming') await setTimeout(20)
    assert.match((await all(server.url('none'))).get('standby')!.says, /^standby \(async(, .* MiB behind)?\)$/)
    assert.match((await all(standby.url('none'))).get('server')!.says, /a standby/)
    server.sql(`ALTER SYSTEM SET synchronous_standby_names = 'gone'`)
    server.sql('SELECT pg_reload_conf()')
    for (let verdict = ''; verdict !== 'FAIL'; await setTimeout(20)) verdict = (await all(server.url('none'))).get('standby')!.verdict // biome-ignore format: one line
    server.sql('ALTER SYSTEM RESET synchronous_standby_names')
    server.sql('SELECT pg_reload_conf()')
  })
}
