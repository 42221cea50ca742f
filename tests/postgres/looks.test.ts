import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { after, test } from 'node:test'
import { setTimeout } from 'node:timers/promises'
import pg from 'pg'
import { GopherQueue, type ServerFigures, type ServerStats } from '../../src/index.ts'
import { serverText } from '../../src/server/postgres.ts'
import { serve } from '../../src/server/server.ts'
import { isMissing } from '../../src/store/postgres/figures.ts'
import { judged, troublesOf } from '../../src/store/postgres/judged.ts'
import { Looks, lookAt } from '../../src/store/postgres/looks.ts'
import { placeOf } from '../../src/store/postgres/place.ts'
import { PostgresStore } from '../../src/store/postgres/store.ts'
import { VirtualClock } from '../../src/testing/clock.ts'
import { main } from '../support/bundled.ts'
import { PostgresServer, without } from '../support/postgres.ts'

// How a server is, as a process that has a queue on it finds out: seldom, one look at a time, and never a number that it may not see.

const sound: ServerFigures = {
  ...{
    role: 'app',
    seesAll: true,
    waitsFor: '',
    standbys: [],
    standbyMissing: false,
    writer: null,
    snapshots: [],
    slots: [],
  },
  ...{ connections: { ours: 2, all: 3, most: 100 }, tables: [] },
}

test('one look goes on at a time, the next begins when somebody asks 15 s after its end', async () => {
  const clock = new VirtualClock()
  const ends: PromiseWithResolvers<ServerFigures>[] = []
  const looks = new Looks(() => {
    ends.push(Promise.withResolvers())
    return ends.at(-1)!.promise
  }, clock)
  const [first, second] = [looks.latest(), looks.latest()]
  clock.advance(1000) // nobody waits longer
  assert.deepEqual(await Promise.all([first, second]), [await looks.latest(), await looks.latest()])
  assert.match((await first).problem!, /has not ended/)
  clock.advance(60_000)
  await looks.latest()
  assert.equal(ends.length, 1, 'none begins before the last one ended')
  ends[0]!.resolve(sound)
  await looks.ended()
  assert.deepEqual((await looks.latest()).figures, sound)
  clock.advance(14_999)
  await looks.latest()
  assert.equal(ends.length, 1)
  clock.advance(1)
  const third = looks.latest()
  assert.equal(ends.length, 2)
  ends[1]!.reject(new Error('too many clients already'))
  assert.deepEqual(await third, { at: clock.now(), problem: 'The server could not be looked at: too many clients already.', figures: null }) // biome-ignore format: one line
})

test('what is no trouble is none; each trouble is one, and says what to type', () => {
  const of = (figures: Partial<ServerFigures>) => troublesOf({ ...sound, ...figures }).map(({ name, advice }) => `${name}: ${advice}`) // biome-ignore format: one line
  const writer = { pid: 7, name: 'app', address: null, state: 'active', waiting: 3 }
  const standby = (name: string, sync: string) => ({ name, sync, behindBytes: 0 })
  const table = { name: 'gq_jobs', bytes: 1, vacuumedAt: null }
  assert.deepEqual(of({}), [])
  assert.deepEqual(of({ standbys: [standby('b', 'async')] }), [], 'set up on purpose')
  assert.match(of({ standbyMissing: true, waitsFor: 'b' })[0]!, /^standby: .*synchronous_standby_names$/)
  assert.deepEqual(
    of({ seesAll: false, standbys: null, standbyMissing: null, snapshots: null, waitsFor: 'b' }),
    [],
    'not seen',
  )
  assert.deepEqual(of({ writer: { ...writer, ms: 3000 } }), [])
  assert.deepEqual(of({ writer: { ...writer, ms: null } }), [])
  assert.match(of({ writer: { ...writer, ms: 3001 } })[0]!, /^writer: .*SELECT pg_terminate_backend\(7\)$/)
  assert.deepEqual(of({ snapshots: [{ pid: 8, name: 'report', ms: 60_000 }] }), [])
  assert.match(of({ snapshots: [{ pid: 8, name: 'report', ms: 60_001 }] })[0]!, /^snapshot: .*\(8\)$/)
  assert.match(of({ slots: [{ name: 'old', bytes: null }] })[0]!, /^slot: .*pg_drop_replication_slot\('old'\)$/)
  assert.deepEqual(of({ connections: { ours: 1, all: 90, most: 100 } }), [])
  assert.match(of({ connections: { ours: 1, all: 91, most: 100 } })[0]!, /^connections: .*max_connections$/)
  assert.deepEqual(of({ tables: [{ ...table, rows: 100_001, dead: 100_001 }] }), [])
  assert.match(of({ tables: [{ ...table, rows: 100_000, dead: 100_001 }] })[0]!, /^size: .* of gq_jobs$/)
  const missing = (waitsFor: string, ...syncs: string[]) =>
    isMissing(
      waitsFor,
      syncs.map((sync, i) => standby(`s${i}`, sync)),
    )
  assert.equal(missing(''), false)
  assert.equal(missing('s0'), true)
  assert.equal(missing('s0', 'async'), true)
  assert.equal(missing('s0', 'sync', 'potential'), false)
  assert.equal(missing('FIRST 2 (s0, s1)', 'sync'), true)
  assert.equal(missing('ANY 2 (s0, s1, s2)', 'quorum', 'quorum'), false)
  assert.equal(missing('2 (s0, s1)', 'sync', 'sync'), false)
})

/** What a server with these figures tells, by names with labels. */
const metrics = (figures: ServerFigures | null) =>
  Object.fromEntries(serverText({ at: 0, problem: null, figures }).split('\n').filter((line) => line && !line.startsWith('#')).map((line) => line.replace('gopherqueue_', '').split(' '))) as Record<string, string> // biome-ignore format: one line

test('metrics have a sample of what was seen, and none of what was not', () => {
  const all = metrics(sound)
  assert.equal(all['server_visible{what="others"}'], '1')
  assert.deepEqual([all.standbys, all.standby_missing, all.writer_lock_seconds, all.snapshot_age_seconds], ['0', '0', '0', '0']) // biome-ignore format: one line
  const writer = { pid: 1, name: 'x', address: null, state: null, ms: null, waiting: 4 }
  const hidden = metrics({ ...sound, seesAll: false, standbys: null, standbyMissing: null, snapshots: null, writer })
  assert.deepEqual(hidden, {
    ...{ 'server_visible{what="server"}': '1', 'server_visible{what="others"}': '0', writer_lock_waiting: '4' },
    ...{ unused_slots: '0', server_connections: '3', server_connections_max: '100' },
  })
  assert.deepEqual(metrics(null), { 'server_visible{what="server"}': '0' })
  const twice = [5, null, 7].map((behindBytes) => ({ name: 'walreceiver', sync: 'async', behindBytes }))
  const full = metrics({ ...sound, standbys: twice, writer: { ...writer, ms: 2500 }, snapshots: [{ pid: 2, name: 'y', ms: 500 }] }) // biome-ignore format: one line
  assert.deepEqual([full.standbys, full['standby_behind_bytes{standby="walreceiver"}'], full.writer_lock_seconds, full.snapshot_age_seconds], ['3', '7', '2.5', '0.5']) // biome-ignore format: one line
})

if (without) test('looks at PostgreSQL', { skip: without })
else withServer(new PostgresServer())

function withServer(server: PostgresServer): void {
  after(() => server[Symbol.dispose]())
  const as = (role: string, url: string) => url.replace('//postgres@', `//${role}@`)

  test('stats and health of an embedded queue tell who has the lock, what keeps dead rows, and what is not used', async () => {
    const url = server.url('embedded')
    await using queue = await GopherQueue.open(url)
    await queue.submit('work', 1)
    server.sql(`SELECT pg_create_physical_replication_slot('forgotten', true)`)
    const blocker = new pg.Client({ host: server.folder, user: 'postgres', database: 'postgres', application_name: 'migration' }) // biome-ignore format: one line
    await blocker.connect()
    await blocker.query('BEGIN ISOLATION LEVEL REPEATABLE READ')
    await blocker.query(`SELECT pg_advisory_xact_lock(${placeOf(url).lock})`)
    const { server: found } = await queue.stats()
    const { writer, snapshots, slots, tables, connections, standbys } = found!.figures!
    assert.equal(found!.problem, null)
    assert.deepEqual([writer!.name, writer!.state, writer!.waiting], ['migration', 'idle in transaction', 0])
    assert.deepEqual([snapshots![0]!.name, snapshots![0]!.pid], ['migration', writer!.pid])
    assert.equal(slots[0]!.name, 'forgotten')
    assert.deepEqual([standbys, connections.most], [[], 100])
    assert.ok(connections.ours >= 2 && connections.all > connections.ours)
    assert.ok(tables.some(({ name, bytes }) => name === 'gq_jobs' && bytes > 0))
    const { status, causes } = await queue.health()
    assert.equal(status, 'degraded')
    assert.match(causes.find(({ code }) => code === 'POSTGRES_SLOT')!.message, /forgotten is not used .*pg_drop_replication_slot\('forgotten'\)/) // biome-ignore format: one line
    assert.equal((await queue.stats()).server!.at, found!.at, 'the look before is good for a while')
    const said = execFileSync(process.execPath, [main, '--db', url, 'stats'], { encoding: 'utf8' })
    assert.match(said, /^server\t\d+\t\d+\/100\t0\t\S+$/m)
    assert.doesNotMatch(said, /^file/m)
    await blocker.end()
    server.sql(`SELECT pg_drop_replication_slot('forgotten')`)
  })

  test('queues that are idle ask the server for little', async () => {
    const url = server.url('idle')
    const queues = [await GopherQueue.open(url), await GopherQueue.open(url)]
    for (const queue of queues) {
      queue.define('work', {}, () => null)
      queue.work()
    }
    await queues[0]!.submit('work', 1)
    const transactions = () => Number(server.sql('SELECT pg_stat_clear_snapshot(), SUM(xact_commit + xact_rollback) FROM pg_stat_database').split('|')[1]) // biome-ignore format: one line
    await setTimeout(3000) // until the job has run, and the workers have told that they live
    const [before, begun] = [transactions(), performance.now()]
    await setTimeout(10_000)
    const each = ((transactions() - before) * 1000) / (performance.now() - begun) / queues.length
    assert.ok(each < 5, `${each} transactions a second`) // a look each 250 ms and what the other's signs of life made were 20
    for (const queue of queues) await queue.close()
  })

  test('what a role may not see is said to be so: GRANT pg_monitor mends it', async () => {
    const url = server.url('hidden')
    await (await GopherQueue.open(url)).close()
    server.sql(`CREATE ROLE "my app" LOGIN; GRANT USAGE ON SCHEMA hidden TO "my app"`)
    const blocker = new pg.Client({ host: server.folder, user: 'postgres', database: 'postgres' })
    await blocker.connect()
    await blocker.query('BEGIN ISOLATION LEVEL REPEATABLE READ')
    await blocker.query(`SELECT pg_advisory_xact_lock(${placeOf(url).lock})`)
    const look = () => lookAt(placeOf(as('my%20app', url)))
    const hidden = await look()
    assert.deepEqual([hidden.standbys, hidden.snapshots, hidden.writer!.ms], [null, null, null])
    assert.ok(hidden.connections.all > hidden.connections.ours && hidden.tables.length > 5)
    const findings = new Map(judged(hidden).map((finding) => [finding.name, finding]))
    assert.equal(findings.get('role')!.advice, 'GRANT pg_monitor TO "my app"')
    assert.ok(!findings.has('standby') && !findings.has('snapshot'))
    server.sql('GRANT pg_monitor TO "my app"')
    const { standbys, snapshots, writer } = await look()
    assert.ok(standbys && snapshots!.length > 0 && writer!.ms! > 0)
    await blocker.end()
  })

  test('of several hosts the one that takes writes is looked at; one that hangs is given up', async () => {
    await (await GopherQueue.open(server.url('hosts'))).close()
    using standby = new PostgresServer({}, server)
    const both = server.url('hosts').replace('@', `@${encodeURIComponent(standby.folder)},`)
    const { tables } = await lookAt(placeOf(both))
    assert.ok(tables.length > 5)
    await assert.rejects(lookAt(placeOf(standby.url('hosts'))), /each is a standby/)
    const silent = createServer().listen(0, '127.0.0.1')
    await once(silent, 'listening')
    const { port } = silent.address() as { port: number }
    await assert.rejects(lookAt(placeOf(`postgres://app@127.0.0.1:${port}/shop`)), /timeout expired/)
    silent.close()
  })

  test('a server tells it at /metrics and by its API', async () => {
    const url = server.url('served')
    const store = await PostgresStore.open(url, { tends: true })
    server.sql(`SELECT pg_create_physical_replication_slot('left', true)`)
    const served = await serve(store, { port: 0, logLevel: 'silent' })
    await using queue = await GopherQueue.open(served.url)
    let text = ''
    while (!/^gopherqueue_server_visible/m.test(text)) text = await (await fetch(`${served.url}/metrics`)).text()
    assert.match(text, /^gopherqueue_unused_slots 1$/m)
    assert.match(text, /^gopherqueue_degraded\{cause="POSTGRES_SLOT"\} 1$/m)
    assert.match(text, /^gopherqueue_table_bytes\{table="gq_jobs"\} \d{4,}$/m)
    assert.equal((await queue.stats()).server!.figures!.slots[0]!.name, 'left')
    const causes = (await queue.health()).causes.map(({ code }) => code)
    assert.deepEqual(causes, ['POSTGRES_SLOT'], 'once, though server and client judge')
    await queue.close()
    await served.close()
    server.sql(`SELECT pg_drop_replication_slot('left')`)
  })
  test('while somebody keeps the lock and nothing can be written, a server tells who it is', async () => {
    const url = server.url('kept')
    const store = await PostgresStore.open(url, { tends: true })
    const blocker = new pg.Client({ host: server.folder, user: 'postgres', database: 'postgres', application_name: 'migration' }) // biome-ignore format: one line
    await blocker.connect()
    await blocker.query('BEGIN')
    await blocker.query(`SELECT pg_advisory_xact_lock(${placeOf(url).lock})`)
    const served = await serve(store, { port: 0, logLevel: 'silent' })
    let isStored = false
    const body = { method: 'POST', headers: { 'content-type': 'application/json' }, body: '{"type":"work"}' }
    const stored = fetch(`${served.url}/v1/jobs`, body).then(() => {
      isStored = true
    })
    const known = (await (await fetch(`${served.url}/v1/server`)).json()) as { server: ServerStats }
    assert.equal(known.server.figures!.writer!.name, 'migration')
    assert.ok(!isStored, 'nothing was')
    await blocker.end()
    await stored
    await served.close()
  })
}
