import assert from 'node:assert/strict'
import { execFile, spawnSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { DatabaseSync } from 'node:sqlite'
import { type TestContext, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import Database from 'better-sqlite3'
import { GopherQueue, type GopherQueueError } from '../../src/index.ts'
import { jobSpec } from '../../src/model/job.ts'
import { Engine } from '../../src/store/sqlite/commit.ts'
import { codeOf, connect } from '../../src/store/sqlite/connection.ts'
import { Db } from '../../src/store/sqlite/db.ts'
import { loadDriver } from '../../src/store/sqlite/driver.ts'
import { FileGuard } from '../../src/store/sqlite/guard.ts'
import { systemProcesses } from '../../src/store/sqlite/processes.ts'
import { VirtualClock } from '../../src/testing/clock.ts'
import { temporaryFolder } from '../support/folder.ts'

const driver = import.meta.resolve('better-sqlite3')
const source = new URL('../../src/index.ts', import.meta.url).href
const skip = process.platform !== 'linux' && 'looks at /proc'
const inWal = 'PRAGMA journal_mode = WAL; CREATE TABLE orders (id INTEGER PRIMARY KEY, item TEXT)'

function fileFor(t: TestContext): string {
  const folder = temporaryFolder()
  t.after(() => folder[Symbol.dispose]())
  return folder.file('app.db')
}

/** POSIX locks of this process on the file and its -shm. */
function locksOn(path: string): string[] {
  const files = [path, `${path}-shm`].filter((name) => existsSync(name)).map((name) => `:${statSync(name).ino}`)
  const held = readFileSync('/proc/locks', 'utf8').split('\n').map((line) => line.replace(/^\d+: /, '')) // biome-ignore format: one chain
  const own = held.filter(
    (line) => line.includes(` ${process.pid} `) && files.some((file) => line.includes(`${file} `)),
  )
  return [...new Set(own)].sort()
}

const failureOf = async (opening: Promise<GopherQueue>): Promise<GopherQueueError> => {
  const error = await opening.then(
    async (queue) => {
      await queue.close()
      return undefined
    },
    (error: GopherQueueError) => error,
  )
  assert.ok(error, 'it was opened')
  assert.equal(error.accepted, 'no')
  return error
}

const ways: [how: string, prepare: (app: Database.Database) => void][] = [
  ['has read it in WAL mode', (app) => app.exec(inWal)],
  ['has it with a rollback journal', (app) => app.exec('CREATE TABLE orders (id INTEGER PRIMARY KEY, item TEXT)')],
  ['has not read it yet', () => undefined],
]
for (const [how, prepare] of ways)
  test(`the app ${how}: the queue runs beside it on its SQLite, and drops none of its locks`, async (t) => {
    const path = fileFor(t)
    const app = new Database(path)
    prepare(app)
    const locks = skip ? [] : locksOn(path)
    await using queue = await GopherQueue.open(path, { driver })
    for (const lock of locks) assert.ok(locksOn(path).includes(lock), lock)
    app.pragma('synchronous = FULL')
    queue.define('double', {}, ({ payload }) => Number(payload) * 2)
    queue.work()
    const submitted = await queue.submit('double', 21)
    assert.equal(await queue.wait(submitted.id), 42)
    const inside = app.transaction((n: number) => queue.submitWith(app, 'double', n))
    assert.equal(await queue.wait(inside(4).id), 8)
    const undone = app.transaction(() => {
      queue.submitWith(app, 'double', 5)
      throw new Error('the app changes its mind')
    })
    const { jobs } = await queue.jobs()
    assert.throws(undone, /changes its mind/)
    assert.deepEqual((await queue.jobs()).jobs.length, jobs.length)
    assert.equal(await queue.wait(queue.submitWith(app, 'double', 6).id), 12) // in a transaction of its own
    await using second = await GopherQueue.open(path, { driver: fileURLToPath(driver) })
    assert.equal((await second.jobs()).jobs.length, 3)
    assert.equal((await queue.health()).status, 'ok')
    app.close()
  })

test('submitWith takes connections of the driver to this file that wait for the disk, and says so', async (t) => {
  const path = fileFor(t)
  await using queue = await GopherQueue.open(path, { driver })
  const refused = (connection: unknown, message: RegExp) =>
    assert.throws(() => queue.submitWith(connection as DatabaseSync, 'work', 1), { code: 'INVALID_ARGUMENT', message })
  refused(new DatabaseSync(':memory:'), /opened with the queue's driver.*better-sqlite3/)
  refused({ $client: 1 }, /\$client/)
  refused(new Database(':memory:'), /in memory/)
  refused(new Database(`${path}2`), /app\.db2/)
  const app = new Database(path)
  refused(app, /synchronous = FULL/)
  app.pragma('synchronous = FULL')
  app.defaultSafeIntegers(true)
  queue.submitWith(app, 'work', 1)
  const reader = new Database(path, { readonly: true })
  reader.pragma('synchronous = FULL')
  refused(reader, /cannot write/)
  app.close()
  refused(app, /closed/)
  await using plain = await GopherQueue.open(`${path}3`)
  assert.throws(() => plain.submitWith(new Database(':memory:'), 'work', 1), { code: 'INVALID_ARGUMENT', message: /driver: import\.meta\.resolve/ }) // biome-ignore format: one call
})

test("a lock that others hold, and a rule that is broken, come through as the app's own SQLite says them", async (t) => {
  const path = fileFor(t)
  await using queue = await GopherQueue.open(path, { driver })
  const [app, other] = [new Database(path, { timeout: 0 }), new Database(path)]
  app.pragma('synchronous = FULL')
  other.exec('BEGIN IMMEDIATE')
  assert.throws(() => queue.submitWith(app, 'work', 1), { name: 'SqliteError', code: 'SQLITE_BUSY' })
  other.exec('ROLLBACK')
  assert.equal(app.inTransaction, false)
  queue.submitWith(app, 'work', 1)
  for (const each of [app, other]) each.close()
})

test('node:sqlite has the file open in this process: open with a driver refuses, and drops none of its locks', {
  skip,
}, async (t) => {
  const path = fileFor(t)
  const app = new DatabaseSync(path)
  app.exec(inWal)
  const locks = locksOn(path)
  for (let i = 0; i < 2; i++) {
    const { code, message } = await failureOf(GopherQueue.open(path, { driver }))
    assert.equal(code, 'TWO_SQLITES')
    assert.match(message, /node:sqlite.*Nothing was opened or changed.*through the driver only/)
    assert.deepEqual(locksOn(path), locks)
  }
  app.close()
  await (await GopherQueue.open(path, { driver })).close()
})

test('better-sqlite3 has the file open: open without a driver refuses, and names it', { skip }, async (t) => {
  const path = fileFor(t)
  const app = new Database(path)
  app.exec(inWal)
  const { code, message } = await failureOf(GopherQueue.open(path))
  assert.equal(code, 'TWO_SQLITES')
  assert.match(message, /better-sqlite3.*\{ driver: import/)
  await using queue = await GopherQueue.open(path, { driver }) // what the refusal kept open stands in nobody's way
  await queue.submit('work', 1)
  app.close()
})

test('node:sqlite opens the file later: noticed within 100 ms, and nothing is written from then on', {
  skip,
}, async (t) => {
  const path = fileFor(t)
  const clock = new VirtualClock()
  const sqlite = await loadDriver(driver)
  const open = () => connect(path, clock, () => new Db(path, clock, systemProcesses, sqlite), sqlite)
  const engine = new Engine(path, clock, { guard: new FileGuard(path, sqlite), open })
  const submit = () => engine.execute([{ seq: 1, operation: 'submit', input: { specs: jobSpec('work', {}), payloads: ['1'], keys: null } }])[0]! // biome-ignore format: one call
  assert.ok('value' in submit())
  assert.ok(engine.tickIn(1e9) <= 100, 'looks although nobody asks for anything')
  const app = new DatabaseSync(path)
  app.prepare('SELECT COUNT(*) FROM gq_jobs').get()
  clock.advance(100)
  engine.tick()
  assert.deepEqual([engine.health.status, engine.health.causes.map(({ code }) => code)], ['failed', ['TWO_SQLITES']])
  const locks = locksOn(path)
  const reply = submit()
  assert.ok('error' in reply)
  assert.match(reply.error.message, /node:sqlite.*has opened this file beside the queue/)
  assert.equal(engine.close(), false)
  assert.deepEqual(locksOn(path), locks)
  app.close()
})

test('a driver that is none, or is not there, is refused, and nothing is made', async (t) => {
  const path = fileFor(t)
  const broken = `${path}.js`
  writeFileSync(broken, 'module.exports = class { prepare() {} }')
  const cases: [unknown, RegExp][] = [
    ['better-sqlite3', /takes a file URL or an absolute path; got 'better-sqlite3'.*import\.meta\.resolve/],
    [Database, /got a function.*import\.meta\.resolve/],
    [null, /got a object/],
    ['node:sqlite', /got 'node:sqlite'/],
    [import.meta.resolve('libsql'), /is no better-sqlite3/],
    [import.meta.resolve('zod'), /is no better-sqlite3/],
    [broken, /cannot be loaded: .*\. Nothing was opened/],
    [`${path}/nothing.js`, /cannot be loaded: .*Cannot find module/],
  ]
  for (const [given, message] of cases) {
    const error = await failureOf(GopherQueue.open(path, { driver: given as string }))
    assert.equal(error.code, 'INVALID_ARGUMENT')
    assert.match(error.message, message)
  }
  assert.equal(existsSync(path), false)
  await assert.rejects(GopherQueue.open('http://127.0.0.1:9', { driver }), { code: 'INVALID_ARGUMENT' })
  await assert.rejects(GopherQueue.open(`${path} `, { driver }), { code: 'INVALID_ARGUMENT', message: /space/ })
})

test('an SQLite that can lose writes is refused before it touches the file', async (t) => {
  const path = fileFor(t)
  writeFileSync(
    `${path}.js`,
    `const Database = require(${JSON.stringify(fileURLToPath(driver))})
     module.exports = class extends Database {
       prepare(sql) { return super.prepare(sql.replace('sqlite_version()', "'3.51.2'")) }
     }`,
  )
  const error = await failureOf(GopherQueue.open(path, { driver: `${path}.js` }))
  assert.equal(error.code, 'ENGINE_TOO_OLD')
  assert.match(error.message, /3\.51\.2.*update better-sqlite3/)
  assert.equal(existsSync(path), false)
})

/** Runs a module in a process of its own, in which `first` and `second` are two installed copies of better-sqlite3. */
async function withTwoCopies(t: TestContext, program: string): Promise<string> {
  const folder = fileURLToPath(new URL('.', `file://${fileFor(t)}`))
  for (const name of ['first', 'second']) {
    const copy = `${folder}/${name}/node_modules/better-sqlite3`
    mkdirSync(`${copy}/prebuilds`, { recursive: true })
    const from = fileURLToPath(new URL('..', driver))
    cpSync(`${from}/lib`, `${copy}/lib`, { recursive: true })
    cpSync(`${from}/prebuilds/linux-${process.arch}.node`, `${copy}/prebuilds/linux-${process.arch}.node`)
    writeFileSync(`${copy}/package.json`, JSON.stringify({ name: 'better-sqlite3', main: 'lib/index.js' }))
  }
  const text = `import { createRequire } from 'node:module'
    import { GopherQueue } from ${JSON.stringify(source)}
    const path = ${JSON.stringify(`${folder}/app.db`)}
    const [first, second] = ['first', 'second'].map((name) => createRequire(${JSON.stringify(folder)} + '/' + name + '/x.js'))
    const driver = first.resolve('better-sqlite3')
    const open = () => GopherQueue.open(path, { driver }).then(async (queue) => (await queue.close(), 'opened'), ({ code, message }) => code + ': ' + message)
    ${program}`
  writeFileSync(`${folder}/two.mjs`, text)
  return (await promisify(execFile)(process.execPath, [`${folder}/two.mjs`])).stdout
}
const noPrebuild =
  skip || (!existsSync(new URL(`../prebuilds/linux-${process.arch}.node`, driver)) && 'no such prebuild')

test('two loaded copies of better-sqlite3 are refused, whichever of them the app uses', {
  skip: noPrebuild,
}, async (t) => {
  const said = await withTwoCopies(
    t,
    `console.log(await open())
     new (second('better-sqlite3'))(':memory:')
     console.log(await open())`,
  )
  const [alone, both] = said.split('\n')
  assert.equal(alone, 'opened')
  assert.match(
    both!,
    /^TWO_SQLITES: better-sqlite3 is loaded 2 times.*(first.*second|second.*first).*npm ls better-sqlite3/,
  )
})

test('a second copy that is loaded and opens the file while the queue runs ends it', {
  skip: noPrebuild,
}, async (t) => {
  const said = await withTwoCopies(
    t,
    `const queue = await GopherQueue.open(path, { driver })
     await queue.submit('work', 1)
     const other = new (second('better-sqlite3'))(path)
     other.prepare('SELECT COUNT(*) FROM gq_jobs').get()
     const { promise, resolve } = Promise.withResolvers()
     setInterval(() => undefined, 1000) // the queue alone keeps no process alive
     queue.on('health', ({ status, causes }) => status === 'failed' && resolve(causes[0].code))
     console.log(await promise)
     console.log((await queue.submit('work', 2).catch((error) => error)).code)
     process.exit()`,
  )
  assert.equal(said, 'TWO_SQLITES\nTWO_SQLITES\n')
})

test('threads of one process open the same file, after the app has read it', { skip }, async (t) => {
  const path = fileFor(t)
  const program = `
    import { Worker, isMainThread } from 'node:worker_threads'
    import { fileURLToPath } from 'node:url'
    import Database from ${JSON.stringify(driver)}
    import { GopherQueue } from ${JSON.stringify(source)}
    const path = ${JSON.stringify(path)}
    const app = new Database(path)
    app.pragma('journal_mode = WAL')
    app.exec('CREATE TABLE IF NOT EXISTS orders (id)')
    const queue = await GopherQueue.open(path, { driver: ${JSON.stringify(driver)} })
    await queue.submit('work', 1)
    if (isMainThread) {
      const thread = new Worker(fileURLToPath(import.meta.url))
      const [code] = await new Promise((resolve, reject) => thread.once('exit', (code) => resolve([code])).once('error', reject))
      await queue.submit('work', 2)
      console.log(code, (await queue.stats()).queues[0].counts.ready, (await queue.health()).works.submit)
    }
    await queue.close()`
  writeFileSync(`${path}.mjs`, program)
  const { stdout, stderr } = spawnSync(process.execPath, [`${path}.mjs`], { encoding: 'utf8' })
  assert.equal(stdout, '0 3 true\n', stderr)
})

test('statements take numbered and plain parameters as those of node:sqlite do', async () => {
  const sqlite = await loadDriver(driver)
  using db = sqlite.open(':memory:')
  using node = new DatabaseSync(':memory:')
  for (const [sql, ...values] of [
    ['SELECT ?1 AS a, ?2 AS b', 1, 'two'],
    ['SELECT ?2 AS a, ?1 AS b, ?2 AS c', 1, 'two'],
    [`SELECT '?1' AS a, "b?" AS b, ?1 AS c FROM (SELECT 1 AS "b?") -- ?2`, 'x'],
    ['SELECT ? AS a, ?3 AS b, ? AS c', 1, 2, 3, 4],
    ['SELECT ?1 AS a, ?3 AS b', 1, 2],
    [`SELECT 'it''s ?1' AS a, ?1 AS b`, null],
  ] as [string, ...(string | number | null)[]][])
    assert.deepEqual({ ...db.prepare(sql).get(...values) }, { ...node.prepare(sql).get(...values) }, sql)
})

test("SQLite's codes are the same numbers from either driver", async (t) => {
  const path = fileFor(t)
  writeFileSync(path, 'no database'.repeat(1000))
  const sqlite = await loadDriver(driver)
  const failure = (open: (path: string) => { exec(sql: string): unknown }, at: string, sql: string) => {
    try {
      open(at).exec(sql)
    } catch (error) {
      return codeOf(error)
    }
    return null
  }
  const unique = 'CREATE TABLE t (a UNIQUE); INSERT INTO t VALUES (1), (1)'
  for (const [at, sql, code] of [[path, 'SELECT 1 FROM sqlite_schema', 26], [':memory:', unique, 19], [':memory:', 'nonsense', 1], [`${path}-no/x`, '', 0]] as const) // biome-ignore format: a table
    if (code !== 0) for (const open of [sqlite.open, (name: string) => new DatabaseSync(name)]) assert.equal(failure(open, at, sql), code) // biome-ignore format: one line
  assert.equal(codeOf(Object.assign(new Error(), { code: 'SQLITE_IOERR_FSYNC' })), 10)
  assert.equal(codeOf(Object.assign(new Error(), { code: 'UNKNOWN_SQLITE_ERROR_8714' })), 8714 & 0xff)
  assert.equal(codeOf(Object.assign(new Error(), { code: 'ENOENT' })), 0)
})
