import assert from 'node:assert/strict'
import { copyFileSync, existsSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { DatabaseSync } from 'node:sqlite'
import { type TestContext, test } from 'node:test'
import { systemClock } from '../../src/model/clock.ts'
import type { GopherQueueError } from '../../src/model/errors.ts'
import { type Job, type JobOptions, jobSpec } from '../../src/model/job.ts'
import { backup } from '../../src/store/sqlite/backup.ts'
import { Engine } from '../../src/store/sqlite/commit.ts'
import { connect } from '../../src/store/sqlite/connection.ts'
import { examine } from '../../src/store/sqlite/doctor.ts'
import { firstOpening } from '../../src/store/sqlite/epoch.ts'
import { planRecovery } from '../../src/store/sqlite/recover.ts'
import type { Input, LeasedJob, Operation } from '../../src/store/store.ts'
import { VirtualClock } from '../../src/testing/clock.ts'
import { rowsOf } from '../support/filled.ts'
import { temporaryFolder } from '../support/folder.ts'

// Files that take the place of another: restored from a backup, or copied over it.

const sources = [{ queue: 'default', type: 'a' }]
const epochOf = (file: string) => rowsOf(file, `SELECT value FROM gq_meta WHERE key = 'epoch'`)[0]!.value
const marks = (file: string) => rowsOf(file, `SELECT key FROM gq_meta WHERE key IN ('copied', 'returning')`)

function asker(engine: Engine) {
  let seq = 0
  return <K extends Operation>(operation: K, input: Input<K>) => {
    const own = ++seq
    const reply = engine.execute([{ seq: own, operation, input }]).find((one) => one.seq === own)
    return reply && 'error' in reply ? reply.error.code : reply?.value
  }
}

/** A file in which a worker of this process runs jobs with these options, and its backup. */
function running(t: TestContext, options: JobOptions[]) {
  const folder = temporaryFolder()
  const [file, copy] = [folder.file('jobs.db'), folder.file('backup.db')]
  const engine = new Engine(file, systemClock)
  const ask = asker(engine)
  for (const own of options) ask('submit', { specs: jobSpec('a', own), payloads: ['1'], keys: null })
  const worker = ask('register', { name: 'w', sources, slots: 2000 }) as number
  const jobs = ask('lease', { worker, sources, slots: 2000, exclude: [] }) as LeasedJob[]
  ask('cancel', jobs.at(-1)!.id)
  backup(file, copy, false)
  t.after(() => {
    engine.close()
    folder[Symbol.dispose]()
  })
  return { folder, file, copy, jobs, worker }
}

test('what a backup’s source ran goes back when the backup is first opened, uncharged and without evidence', (t) => {
  const { file, copy, jobs, worker } = running(t, [{}, { maxAttempts: 1 }, {}])
  assert.notEqual(epochOf(copy), epochOf(file))
  assert.ok(!existsSync(`${copy}-wal`))
  const plan = planRecovery(copy, systemClock).map(({ id, fate }) => [id, fate.state, fate.reason])
  const expected = [[1, 'ready', null], [2, 'dead', 'exhausted'], [3, 'cancelled', null]] // biome-ignore format: short
  assert.deepEqual(plan, expected)
  const engine = new Engine(copy, systemClock)
  t.after(() => engine.close())
  assert.deepEqual(rowsOf(copy, 'SELECT id, state, reason FROM gq_jobs').map((row) => Object.values(row)), expected) // biome-ignore format: short
  assert.deepEqual(rowsOf(copy, 'SELECT attempt, losses, company FROM gq_jobs WHERE id = 1').map((row) => Object.values(row)), [[0, 0, null]]) // biome-ignore format: short
  assert.deepEqual([marks(copy), rowsOf(copy, 'SELECT * FROM gq_losses')], [[], []])
  const ask = asker(engine)
  assert.equal(ask('lease', { worker, sources, slots: 5, exclude: [] }), 'WORKER_UNKNOWN')
  assert.equal(ask('succeed', { lease: jobs[0]!, result: '1' }), 'LEASE_LOST')
  assert.deepEqual(examine(copy, 0, true).filter(({ verdict }) => verdict === 'FAIL'), []) // biome-ignore format: short
})

test('each file that is made of one backup has an epoch of its own, and keeps it', (t) => {
  const { folder, copy } = running(t, [{}])
  const [one, two] = ['one.db', 'two.db'].map((name) => {
    const restored = folder.file(name)
    copyFileSync(copy, restored)
    new Engine(restored, systemClock).close()
    return restored
  }) as [string, string]
  const epochs = [epochOf(copy), epochOf(one), epochOf(two)]
  assert.equal(new Set(epochs).size, 3)
  new Engine(one, systemClock).close()
  assert.equal(epochOf(one), epochs[1])
})

test('no copy gives a number again that its source, or another copy, gave since the backup', (t) => {
  const { folder, file, copy } = running(t, [{}])
  const clock = new VirtualClock()
  const given = [file, copy, copy].map((from, i) => {
    const path = i === 0 ? from : folder.file(`restored-${i}.db`)
    if (i > 0) copyFileSync(from, path)
    const engine = new Engine(path, clock)
    const submission = { specs: jobSpec('a', {}), payloads: Array<string>(2000).fill('1'), keys: null }
    const { ids } = asker(engine)('submit', submission) as { ids: number[] }
    engine.close()
    clock.advance(60_000)
    return { first: ids[0]!, last: ids.at(-1)! }
  })
  assert.ok(given[0]!.last < given[1]!.first && given[1]!.last < given[2]!.first, JSON.stringify(given))
})

test('it takes as many short transactions as it needs', (t) => {
  const { copy } = running(t, Array(1200).fill({}))
  let begun = 0
  const first = connect(copy, systemClock)
  t.after(() => first.connection.close())
  const { begin } = first
  first.begin = (kind) => {
    begun++
    begin.call(first, kind)
  }
  const engine = new Engine(copy, systemClock, { open: () => first })
  assert.ok(begun >= 3, `${begun} transactions`)
  const states = rowsOf(copy, 'SELECT state, COUNT(*) AS jobs FROM gq_jobs GROUP BY state').map((row) => Object.values(row)) // biome-ignore format: short
  assert.deepEqual(states, [['cancelled', 1], ['ready', 1199]]) // biome-ignore format: short
  assert.deepEqual(marks(copy), [])
  assert.equal(engine.health.status, 'ok')
})

test('an engine whose file was replaced: handlers hear it, workers register again, what was held is refused', (t) => {
  const folder = temporaryFolder()
  const [file, other] = [folder.file('jobs.db'), folder.file('other.db')]
  const clock = new VirtualClock()
  let [path, fails] = [file, false]
  const open = () => {
    const db = connect(path, clock)
    const run = db.run.bind(db)
    db.run = (sql, ...values) => {
      if (fails && sql === 'COMMIT') throw Object.assign(new Error('disk I/O error'), { errcode: 10, errstr: 'I/O' })
      return run(sql, ...values)
    }
    return db
  }
  const engine = new Engine(file, clock, { open })
  t.after(() => {
    engine.close()
    folder[Symbol.dispose]()
  })
  const ask = asker(engine)
  const worker = ask('register', { name: 'w', sources, slots: 1 }) as number
  ask('submit', { specs: jobSpec('a', {}), payloads: ['1'], keys: null })
  const [job] = ask('lease', { worker, sources, slots: 1, exclude: [] }) as LeasedJob[]
  engine.execute([{ seq: 101, operation: 'lease', input: { worker, sources, slots: 1, exclude: [] } }])
  const { ids } = ask('submit', { specs: jobSpec('away', {}), payloads: ['1'], keys: null }) as { ids: number[] }
  engine.execute([{ seq: 103, operation: 'wait', input: ids[0]! }])
  const { id, token } = job!
  // The other file has the same numbers: a worker and a running job of this id and token.
  const twin = new Engine(other, clock)
  const askTwin = asker(twin)
  askTwin('register', { name: 'twin', sources, slots: 1 })
  askTwin('submit', { specs: jobSpec('a', {}), payloads: ['1'], keys: null })
  const [same] = askTwin('lease', { worker, sources, slots: 1, exclude: [] }) as LeasedJob[]
  assert.deepEqual([same!.id, same!.token], [id, token])
  twin.close()
  fails = true
  assert.deepEqual(engine.execute([{ seq: 102, operation: 'succeed', input: { lease: job!, result: '1' } }]), [])
  path = other
  fails = false
  const replies = []
  for (let i = 0; i < 10; i++) {
    clock.advance(1000)
    replies.push(...engine.tick())
  }
  const told = replies.map((reply) => [reply.seq, 'error' in reply && reply.error.code]).sort()
  assert.deepEqual(told, [[101, 'WORKER_UNKNOWN'], [102, 'LEASE_LOST'], [103, 'NOT_FOUND']]) // biome-ignore format: short
  const [gone] = replies.filter(({ seq }) => seq === 103) as { error: GopherQueueError }[]
  assert.match(gone!.error.message, /^There is no job/, 'that it has ended is not known')
  assert.deepEqual(engine.events.filter(({ event }) => event === 'leaseLost'), [{ event: 'leaseLost', id, token }]) // biome-ignore format: short
})

test('progress that names another file is not written, and does not stand in for that of the present lease', (t) => {
  const folder = temporaryFolder()
  const engine = new Engine(folder.file('jobs.db'), new VirtualClock())
  t.after(() => {
    engine.close()
    folder[Symbol.dispose]()
  })
  const ask = asker(engine)
  ask('submit', { specs: jobSpec('a', {}), payloads: ['1'], keys: null })
  const worker = ask('register', { name: 'w', sources, slots: 1 }) as number
  const [lease] = ask('lease', { worker, sources, slots: 1, exclude: [] }) as LeasedJob[]
  const say = (percent: number, epoch?: string) =>
    engine.execute([{ seq: 1, operation: 'progress', input: { lease: lease!, percent, message: null }, epoch }])
  const shown = () => {
    ask('heartbeat', lease!)
    return (ask('job', lease!.id) as Job).progress?.percent
  }
  say(99, '0'.repeat(16))
  assert.equal(shown(), undefined)
  say(10)
  say(99, '0'.repeat(16))
  assert.equal(shown(), 10)
})

test('a connection on which the first look fails, and the second too, is closed', (t) => {
  const { folder } = running(t, [{}])
  const db = connect(folder.file('other.db'), systemClock)
  db.get = () => {
    throw Object.assign(new Error('disk I/O error'), { code: 'ERR_SQLITE_ERROR', errcode: 10 })
  }
  assert.throws(() => firstOpening(db), /disk I\/O error/)
  assert.equal(db.connection.isOpen, false)
})

test('a copy that cannot be written at its first opening is not worked on, and the next opening does it', (t) => {
  const { copy } = running(t, [{}, {}])
  const before = epochOf(copy)
  const failing = (path: string) => {
    const db = connect(path, systemClock)
    db.commit = () => {
      throw Object.assign(new Error('disk I/O error'), {
        code: 'ERR_SQLITE_ERROR',
        errcode: 10,
        errstr: 'disk I/O error',
      })
    }
    return db
  }
  assert.throws(() => new Engine(copy, systemClock, { open: failing }), { code: 'STORAGE_UNAVAILABLE' })
  assert.deepEqual([epochOf(copy), marks(copy).length], [before, 1])
  new Engine(copy, systemClock).close()
  assert.notEqual(epochOf(copy), before)
  assert.equal(marks(copy).length, 0)
})

// What is left by SIGKILL: a file, and its -wal with what no checkpoint has brought there.
function killed(t: TestContext, jobs: number, checkpointed: boolean) {
  const folder = temporaryFolder()
  const live = folder.file('live.db')
  const engine = new Engine(live, systemClock)
  const ask = asker(engine)
  const submit = (payload: string) => ask('submit', { specs: jobSpec('mine', {}), payloads: [payload], keys: null })
  for (let i = 0; i < jobs; i++) submit('1')
  if (checkpointed) {
    using beside = new DatabaseSync(live)
    beside.exec('PRAGMA wal_checkpoint(TRUNCATE)')
  }
  backup(live, folder.file('backup.db'), false)
  submit('2')
  const file = folder.file('jobs.db')
  for (const suffix of ['', '-wal']) copyFileSync(`${live}${suffix}`, `${file}${suffix}`)
  engine.close()
  t.after(() => folder[Symbol.dispose]())
  return { folder, file }
}

const contents = (file: string) => ['', '-wal'].map((suffix) => readFileSync(`${file}${suffix}`, 'base64'))

for (const jobs of [1, 300])
  for (const checkpointed of [false, true])
    for (const what of ['another queue', 'a backup'])
      test(`the -wal of a file of ${jobs} jobs${checkpointed ? ' with a checkpoint' : ''} is not applied to ${what} that was put in its place`, (t) => {
        const { folder, file } = killed(t, jobs, checkpointed)
        const other = folder.file(what === 'a backup' ? 'backup.db' : 'other.db')
        if (what === 'another queue') {
          const engine = new Engine(other, systemClock)
          asker(engine)('submit', { specs: jobSpec('theirs', {}), payloads: ['1', '2'], keys: null })
          engine.close()
        }
        renameSync(other, file)
        const before = contents(file)
        const refused = (error: GopherQueueError) =>
          error.code === 'STORAGE_CORRUPT' && /-wal does not belong to .*Nothing was changed/.test(error.message)
        assert.throws(() => new Engine(file, systemClock), refused)
        assert.throws(() => backup(file, folder.file('of-both.db'), false), refused)
        const [finding] = examine(file, 0, false).filter(({ verdict }) => verdict === 'FAIL')
        assert.match(finding!.says, /keep .*-wal elsewhere .* remove .*-shm/)
        assert.deepEqual(contents(file), before)
        for (const suffix of ['-wal', '-shm']) rmSync(`${file}${suffix}`, { force: true })
        new Engine(file, systemClock).close()
        const [{ found }] = rowsOf(file, `SELECT COUNT(*) AS found FROM gq_jobs`) as [{ found: number }]
        assert.equal(found, what === 'a backup' ? jobs : 2)
      })

test('a file is opened with its own -wal, whatever of it is in the file', (t) => {
  for (const checkpointed of [false, true]) {
    const { file } = killed(t, 3, checkpointed)
    new Engine(file, systemClock).close()
    assert.equal(rowsOf(file, 'SELECT id FROM gq_jobs').length, 4)
  }
})

test('a copy that was killed in its first opening is opened again', (t) => {
  const { folder, copy } = running(t, [{}])
  const engine = new Engine(copy, systemClock)
  const file = folder.file('killed.db')
  for (const suffix of ['', '-wal']) copyFileSync(`${copy}${suffix}`, `${file}${suffix}`)
  engine.close()
  new Engine(file, systemClock).close()
})
