import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { closeSync, existsSync, openSync, readFileSync, statSync } from 'node:fs'
import { DatabaseSync } from 'node:sqlite'
import { type TestContext, test } from 'node:test'
import Libsql from 'libsql'
import { GopherQueue, type GopherQueueError } from '../../src/index.ts'
import { jobSpec } from '../../src/model/job.ts'
import { Engine } from '../../src/store/sqlite/commit.ts'
import { otherLibraries } from '../../src/store/sqlite/copies.ts'
import { FileGuard } from '../../src/store/sqlite/guard.ts'
import { VirtualClock } from '../../src/testing/clock.ts'
import { temporaryFolder } from '../support/folder.ts'

// A second copy of SQLite in this process: that of libsql. To look at the file, this test uses other processes: to open
// and close it here would drop the locks that it is about.

const skip = process.platform !== 'linux' && 'looks at /proc'

function fileFor(t: TestContext): string {
  const folder = temporaryFolder()
  t.after(() => folder[Symbol.dispose]())
  return folder.file('jobs.db')
}

/** POSIX locks of this process on the file and its -shm. The kernel lists one twice when others lock meanwhile. */
function locksOn(path: string): string[] {
  const files = [path, `${path}-shm`].filter((name) => existsSync(name)).map((name) => `:${statSync(name).ino}`)
  const held = readFileSync('/proc/locks', 'utf8')
    .split('\n')
    .map((line) => line.replace(/^\d+: /, ''))
    .filter((line) => line.includes(` ${process.pid} `) && files.some((file) => line.includes(`${file} `)))
  return [...new Set(held)].sort()
}

const digest = (path: string) =>
  ['', '-wal'].map((suffix) => existsSync(`${path}${suffix}`) && execFileSync('sha256sum', [`${path}${suffix}`], { encoding: 'utf8' })).join() // biome-ignore format: one call

const refused = async (path: string) => {
  const error = await GopherQueue.open(path).then(
    async (queue) => {
      await queue.close()
      return undefined
    },
    (error: GopherQueueError) => error,
  )
  assert.ok(error, 'it was opened')
  assert.deepEqual([error.code, error.accepted], ['TWO_SQLITES', 'no'])
  assert.match(
    error.message,
    /libsql.*Nothing was opened or changed.*a file of its own.*driver: import\.meta\.resolve\('better-sqlite3'\)/,
  )
}

const inWal = 'PRAGMA journal_mode = WAL; CREATE TABLE orders (id); INSERT INTO orders VALUES (1)'
const ways: [how: string, open: (path: string) => Libsql.Database][] = [
  [
    'in WAL mode',
    (path) => {
      const app = new Libsql(path)
      app.exec(inWal)
      return app
    },
  ],
  [
    'with a rollback journal',
    (path) => {
      const app = new Libsql(path)
      app.exec('CREATE TABLE orders (id)')
      return app
    },
  ],
  ['and has not read yet', (path) => new Libsql(path)],
]
for (const [how, open] of ways)
  test(`another copy of SQLite has the file open ${how}: open refuses, and drops none of its locks`, {
    skip,
  }, async (t) => {
    const path = fileFor(t)
    const app = open(path)
    const [locks, bytes] = [locksOn(path), digest(path)]
    for (let i = 0; i < 2; i++) await refused(path)
    assert.deepEqual([locksOn(path), digest(path)], [locks, bytes])
    app.close()
    const queue = await GopherQueue.open(path)
    await queue.submit('work', null)
    await queue.close()
    await refusedAgain(path)
  })

/** What a refusal kept open does not stand in the way of later ones. */
async function refusedAgain(path: string): Promise<void> {
  const app = new Libsql(path)
  app.prepare('SELECT COUNT(*) FROM gq_jobs').get()
  await refused(path)
  app.close()
}

test("the app's own connections of node:sqlite are no other copy, before and after, whatever libraries are there", async (t) => {
  const path = fileFor(t)
  const elsewhere = new Libsql(fileFor(t))
  elsewhere.exec(inWal)
  if (!skip) assert.deepEqual(otherLibraries().filter((library) => !library.includes('libsql')), []) // biome-ignore format: one call
  const app = new DatabaseSync(path)
  app.exec(inWal)
  const queue = await GopherQueue.open(path)
  const second = await GopherQueue.open(path)
  const later = new DatabaseSync(path)
  later.prepare('SELECT COUNT(*) FROM gq_jobs').get()
  await queue.submit('work', null)
  queue.submitWith(app, 'work', null)
  assert.equal((await second.stats()).queues[0]!.counts.ready, 2)
  await second.close()
  await queue.close()
  for (const each of [app, later, elsewhere]) each.close()
})

test('a copy that opens the file later is noticed within 100 ms: from then on nothing is written, and every call says so', {
  skip,
}, (t) => {
  const path = fileFor(t)
  const clock = new VirtualClock()
  const engine = new Engine(path, clock, { guard: new FileGuard(path) })
  const submission = { specs: jobSpec('work', {}), payloads: ['1'], keys: null }
  const submit = () => engine.execute([{ seq: 1, operation: 'submit', input: submission }])[0]!
  assert.ok('value' in submit())
  const app = new Libsql(path)
  app.prepare('SELECT COUNT(*) FROM gq_jobs').get()
  assert.ok(engine.tickIn(1e9) <= 100, 'looks although nobody asks for anything')
  clock.advance(100)
  engine.tick()
  const { status, causes, works } = engine.health
  assert.deepEqual([status, causes.map(({ code }) => code)], ['failed', ['TWO_SQLITES']])
  assert.deepEqual(works, { submit: false, lease: false, complete: false })
  const bytes = digest(path)
  const locks = locksOn(path)
  for (const reply of [submit(), engine.execute([{ seq: 2, operation: 'stats', input: null }])[0]!]) {
    assert.ok('error' in reply)
    assert.deepEqual([reply.error.code, reply.error.accepted], ['TWO_SQLITES', 'no'])
  }
  clock.advance(60_000)
  assert.deepEqual(engine.tick(), [])
  assert.equal(engine.close(), false, 'the thread must live on: to end it would drop the locks of the other copy')
  assert.deepEqual([digest(path), locksOn(path)], [bytes, locks])
  app.close()
})

test('the file is opened and closed in this process, which drops the locks of SQLite: they are taken again', {
  skip,
}, (t) => {
  const path = fileFor(t)
  const clock = new VirtualClock()
  const engine = new Engine(path, clock, { guard: new FileGuard(path) })
  engine.tick()
  const locks = locksOn(path).length
  assert.ok(locks >= 2)
  for (const suffix of ['', '-shm']) {
    closeSync(openSync(`${path}${suffix}`, 'r'))
    assert.ok(locksOn(path).length < locks)
    clock.advance(250)
    engine.tick()
    assert.equal(locksOn(path).length, locks)
    assert.equal(engine.health.status, 'ok')
    clock.advance(10_000)
    engine.tick()
  }
  const app = new DatabaseSync(path)
  app.prepare('SELECT COUNT(*) FROM gq_jobs').get()
  closeSync(openSync(path, 'r'))
  for (let i = 0; i < 10; i++) {
    clock.advance(250)
    engine.tick()
  }
  assert.deepEqual(engine.health.causes.map(({ code }) => code), ['LOCKS_DROPPED']) // biome-ignore format: one line
  assert.deepEqual(engine.health.works, { submit: true, lease: true, complete: true })
  app.close()
  clock.advance(5000)
  for (let i = 0; i < 3; i++) {
    clock.advance(250)
    engine.tick()
  }
  assert.deepEqual([engine.health.status, locksOn(path).length], ['ok', locks])
  engine.close()
})

test('nothing but SQLite opens the file and its -shm in a process that uses them', {
  skip: skip || (spawnSync('strace', ['-V']).error !== undefined && 'strace is not installed'),
}, (t) => {
  const path = fileFor(t)
  const trace = `${path}-trace`
  const program = `
    import { GopherQueue } from ${JSON.stringify(new URL('../../src/index.ts', import.meta.url).href)}
    for (let opening = 0; opening < 2; opening++) {
      const queue = await GopherQueue.open(process.argv[1])
      queue.define('work', {}, () => 'done')
      queue.work()
      await queue.wait((await queue.submit('work', null)).id)
      await queue.stats()
      await queue.health()
      await queue.close()
    }`
  const node = [process.execPath, '--input-type=module', '-e', program, path]
  execFileSync('strace', ['-f', '-qq', '-s', '4096', '-e', 'trace=open,openat', '-o', trace, ...node])
  const opened = readFileSync(trace, 'utf8')
    .split('\n')
    .filter((line) => line.includes(`"${path}"`) || line.includes(`"${path}-shm"`))
  assert.ok(opened.length >= 4, opened.join('\n'))
  const bySqlite = /O_NOFOLLOW/ // fs.open does not ask for it
  assert.deepEqual(opened.filter((line) => !bySqlite.test(line) && !line.includes('resumed')), []) // biome-ignore format: one line
})
