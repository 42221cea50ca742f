import assert from 'node:assert/strict'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import { jobSpec } from '../src/model/job.ts'
import { auditOrder } from '../src/store/sqlite/audit.ts'
import { Engine } from '../src/store/sqlite/commit.ts'
import { examine } from '../src/store/sqlite/doctor.ts'
import { VirtualClock } from '../src/testing/clock.ts'
import { Bench } from './cli/support.ts'
import { randomFrom } from './crash/random.ts'
import { bytesOf, fill, leaveWal } from './support/filled.ts'
import { temporaryFolder } from './support/folder.ts'

const notWell = (path: string, order = false) =>
  examine(path, 0, order)
    .filter(({ name, verdict }) => verdict !== 'ok' && !['fsync', 'filesystem', 'space'].includes(name))
    .map(({ name, verdict }) => `${verdict} ${name}`)

test('a sound file is found so, with each line said, and nothing is changed', async (t) => {
  const bench = new Bench(t)
  await fill(bench.file, 300)
  const before = [bytesOf(bench.file), readdirSync(bench.folder).filter((name) => !/-(wal|shm)$/.test(name))]
  const { code, stdout, stderr } = await bench.run('doctor', '--order', '--json')
  const { ok, findings } = JSON.parse(stdout)
  assert.deepEqual([code, ok, stderr], [0, true, ''])
  assert.deepEqual(
    findings.map(({ name }: { name: string }) => name),
    'file filesystem space fsync wal engine schema integrity shapes counters leases keys limits attempts history causes sequence numbers order'.split(' '), // biome-ignore format: a list
  )
  assert.match(findings[18].says, /^none of \d{3} first leases/)
  assert.deepEqual([bytesOf(bench.file), readdirSync(bench.folder).filter((name) => !/-(wal|shm)$/.test(name))], before)
  const plain = await bench.run('doctor')
  for (const line of plain.stdout.trim().split('\n')) assert.match(line, /^(ok|warn)\t\w+\t.+/)
})

test('each rule is seen to be broken', async () => {
  using folder = temporaryFolder()
  const path = folder.file('jobs.db')
  await fill(path, 300)
  assert.deepEqual(notWell(path, true), [])
  const breaks: [sql: string, ...found: string[]][] = [
    [`UPDATE gq_queues SET ready = ready + 1 WHERE name = 'default'`, 'FAIL counters'],
    [`DELETE FROM gq_queues WHERE name = 'other'`, 'FAIL counters'],
    [`UPDATE gq_workers SET ended_at = 1 WHERE id = (SELECT worker_id FROM gq_jobs WHERE state = 'running')`, 'FAIL leases'], // biome-ignore format: short
    [`UPDATE gq_jobs SET concurrency_key = 'a', blocked = 1 WHERE id = (SELECT id FROM gq_jobs WHERE state = 'ready')`, 'FAIL limits'], // biome-ignore format: short
    [`DELETE FROM gq_keys WHERE key = 'key 3'`, 'FAIL keys'],
    [`UPDATE gq_keys SET job_id = 1 WHERE key = 'key 3'`, 'FAIL keys'],
    [`PRAGMA foreign_keys = OFF; UPDATE gq_attempts SET job_id = 99999 WHERE rowid = 1`, 'FAIL attempts', 'warn history'], // biome-ignore format: short
    [`DELETE FROM gq_attempts WHERE rowid = 1`, 'warn history'],
    [`UPDATE gq_causes SET jobs = jobs + 1 WHERE dead = 1`, 'FAIL causes'],
    [`UPDATE gq_jobs SET cause = NULL WHERE state = 'dead'`, 'FAIL causes'],
    [`UPDATE gq_causes SET dead = 1 - dead`, 'FAIL causes'],
    [`UPDATE gq_causes SET type = 'another'`, 'FAIL causes'],
    [`DELETE FROM gq_causes`, 'FAIL causes'],
    [`UPDATE sqlite_sequence SET seq = 5 WHERE name = 'gq_jobs'`, 'FAIL sequence'],
    [`UPDATE gq_jobs SET lease_seq = (SELECT seq FROM sqlite_sequence WHERE name = 'gq_jobs') WHERE id = 2`, 'FAIL order'], // biome-ignore format: short
    [`PRAGMA ignore_check_constraints = ON; UPDATE gq_jobs SET lease_token = NULL WHERE state = 'running'`, 'FAIL shapes', 'FAIL leases'], // biome-ignore format: short
    [`UPDATE gq_meta SET value = '99'`, 'FAIL schema'],
  ]
  const copy = folder.file('copy.db')
  for (const [sql, ...found] of breaks) {
    writeFileSync(copy, readFileSync(path))
    const db = new DatabaseSync(copy)
    db.exec(sql)
    db.close()
    assert.deepEqual(notWell(copy, true), found, sql)
  }
  leaveWal(folder.file('wal.db'), 20)
  const wal = readFileSync(folder.file('wal.db-wal'))
  wal[5000]! ^= 1
  writeFileSync(folder.file('wal.db-wal'), wal)
  const before = bytesOf(folder.file('wal.db'))
  assert.ok(notWell(folder.file('wal.db')).includes('FAIL wal'))
  assert.deepEqual(bytesOf(folder.file('wal.db')), before)
  writeFileSync(copy, 'this is a letter and no queue, long enough to be seen as one')
  assert.deepEqual(notWell(copy), ['FAIL contents'])
})

test('a file that fails makes the exit status 1 and says what to do; one that is not there is no file', async (t) => {
  const bench = new Bench(t)
  const absent = await bench.run('doctor')
  assert.deepEqual([absent.code, absent.stdout], [1, ''])
  assert.match(absent.stderr, /^gopherqueue: NOT_A_QUEUE: There is no file/)
  await fill(bench.file, 200)
  const db = new DatabaseSync(bench.file)
  db.exec('UPDATE gq_queues SET ready = ready + 7')
  db.close()
  const { code, stdout } = await bench.run('doctor')
  assert.equal(code, 1)
  assert.match(stdout, /^FAIL\tcounters\tnot so that .*: queue default, queue other\tkeep the file/m)
})

test('the proof of order in one pass finds what the documented query finds', () => {
  const page = readFileSync(join(import.meta.dirname, '../docs/schema.md'), 'utf8')
  const query = [...page.matchAll(/```sql\n(.*?)```/gs)].find(([, sql]) => sql!.includes('passed_over'))![1]!
  const db = new DatabaseSync(':memory:')
  db.exec('CREATE TABLE gq_jobs (id INTEGER PRIMARY KEY, queue, type, priority, ready_seq, lease_seq)')
  const insert = db.prepare('INSERT INTO gq_jobs VALUES (?, ?, ?, ?, ?, ?)')
  const random = randomFrom(3)
  const below = (most: number) => Math.floor(random() * most)
  let broken = 0
  for (let round = 0; round < 300; round++) {
    db.exec('DELETE FROM gq_jobs')
    // Mostly in order: jobs that come, some of them delayed, and requests that take the first one, two or three.
    let sequence = 0
    const waiting: { id: number; line: number; ready: number | null }[] = []
    const ends: [number, number, number | null, number][] = []
    const later: typeof waiting = []
    for (let step = 0; step < 60; step++) {
      const what = below(4)
      const line = below(2)
      if (what === 0) waiting.push({ id: ++sequence, line, ready: null })
      if (what === 1) later.push({ id: ++sequence, line, ready: null })
      // Due by an event of its own, or let in for its concurrency key by the one before.
      if (what === 2)
        for (const job of later.splice(0, 1 + below(2)))
          waiting.push({ ...job, ready: below(2) === 0 ? ++sequence : sequence })
      if (what === 3) {
        const mine = waiting.filter((job) => job.line === line).sort((a, b) => a.id - b.id)
        const wrong = random() < 0.05 ? 1 : 0
        sequence++
        for (const job of mine.slice(wrong, wrong + 1 + below(3))) {
          waiting.splice(waiting.indexOf(job), 1)
          ends.push([job.id, job.line, job.ready, sequence])
        }
      }
    }
    for (const [id, line, ready, lease] of ends) insert.run(id, 'q', 't', line, ready, lease)
    const documented = db.prepare(query).all().length > 0
    assert.equal(auditOrder(db).broken.length > 0, documented, `round ${round}`)
    if (documented) broken++
  }
  assert.ok(broken > 10 && broken < 290, `${broken} of 300`)
})

test('kills on the own disk: nothing acknowledged is lost, and nothing is left behind', {
  timeout: 120_000,
}, async (t) => {
  const bench = new Bench(t)
  await fill(bench.file, 100)
  const before = readdirSync(bench.folder).filter((name) => !/-(wal|shm)$/.test(name))
  const { code, stdout } = await bench.run('doctor', '--crash', '--json')
  const { says, verdict } = JSON.parse(stdout).findings.at(-1)
  assert.deepEqual([code, verdict], [0, 'ok'])
  assert.match(says, /^10 kills, [1-9]\d+ jobs acknowledged, 0 lost$/)
  assert.deepEqual(readdirSync(bench.folder).filter((name) => !/-(wal|shm)$/.test(name)), before) // biome-ignore format: short
})

test('a job with the highest of all ids: all say that ids are used up, and what doctor says mends it', (t) => {
  using folder = temporaryFolder()
  const path = folder.file('jobs.db')
  const submission = { specs: jobSpec('work', {}), payloads: ['1'], keys: null }
  const engine = new Engine(path, new VirtualClock())
  t.after(() => engine.close())
  const submit = (to = engine) => to.execute([{ seq: 1, operation: 'submit', input: submission }])[0]
  assert.ok('value' in submit()!)
  const db = new DatabaseSync(path)
  t.after(() => db.close())
  db.exec(`INSERT INTO gq_jobs (id, type, payload) VALUES (9007199254740991, 'work', '2')`)
  const [reply, health] = [submit(), engine.health]
  assert.ok(reply && 'error' in reply)
  assert.deepEqual([reply.error.code, reply.error.accepted], ['STORAGE_CORRUPT', 'no'])
  assert.match(reply.error.message, /ids are used up: .* the id 9007199254740991.*gopherqueue doctor/)
  assert.deepEqual([health.status, health.works.submit], ['failed', false])
  assert.throws(() => new Engine(path, new VirtualClock()), /ids are used up/)
  assert.deepEqual(notWell(path), ['FAIL numbers'])
  const { advice } = examine(path, 0, false).find(({ name }) => name === 'numbers')!
  db.exec(/run with sqlite3: (.*;) and/.exec(advice!)![1]!)
  assert.deepEqual(notWell(path), [])
  const mended = new Engine(path, new VirtualClock())
  t.after(() => mended.close())
  assert.ok('value' in submit(mended)!)
  assert.deepEqual(notWell(path), [])
})
