import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  closeSync,
  copyFileSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import { GopherQueue, GopherQueueError } from '../src/index.ts'
import { systemClock } from '../src/model/clock.ts'
import { Engine } from '../src/store/sqlite/commit.ts'
import { inspectWal } from '../src/store/sqlite/wal.ts'
import { randomFrom } from './crash/random.ts'
import { bytesOf, fill, leaveWal, rowsOf } from './support/filled.ts'
import { temporaryFolder } from './support/folder.ts'

const page = 4096
const frame = page + 24

/** Opens the file and closes it; answers with the error's code, or 'opened'. */
function open(path: string): string {
  try {
    new Engine(path, systemClock).close()
    return 'opened'
  } catch (error) {
    assert.ok(error instanceof GopherQueueError, String(error))
    return error.code
  }
}

function flip(path: string, at: number, mask = 0x10): void {
  const bytes = readFileSync(path)
  bytes[at]! ^= mask
  writeFileSync(path, bytes)
}

function refusedUntouched(path: string, code: string, what: string): void {
  const before = bytesOf(path)
  assert.equal(open(path), code, what)
  assert.equal(open(path), code, `${what}, again`)
  assert.deepEqual(bytesOf(path), before, what)
}

test('a sound WAL is no alarm, wherever it is torn', () => {
  using folder = temporaryFolder()
  const path = folder.file('jobs.db')
  leaveWal(path, 20)
  const { size } = statSync(`${path}-wal`)
  const { commits, frames, damage } = inspectWal(path)!
  assert.deepEqual([commits, damage, frames], [20, null, (size - 32) / frame])
  const cut = folder.file('cut.db')
  let before = 20
  for (let end = size; end >= 0; end -= 2999) {
    copyFileSync(path, cut)
    copyFileSync(`${path}-wal`, `${cut}-wal`)
    truncateSync(`${cut}-wal`, end)
    const state = inspectWal(cut)!
    assert.equal(state.damage, null, `cut at ${end}`)
    assert.ok(state.commits <= before)
    before = state.commits
  }
})

test('a byte that flips anywhere before the last two transactions of the WAL is found at open, and nothing is changed', () => {
  using folder = temporaryFolder()
  const path = folder.file('jobs.db')
  leaveWal(path, 30)
  const wal = readFileSync(`${path}-wal`)
  const commits = Array.from({ length: (wal.length - 32) / frame }, (_, i) => i).filter(
    (i) => wal.readUInt32BE(32 + i * frame + 4) > 0,
  )
  assert.equal(commits.length, 30)
  const detected = 32 + (commits[27]! + 1) * frame // after it there are two whole transactions
  const hidden = 32 + commits[28]! * frame
  const random = randomFrom(7)
  const copy = folder.file('flipped.db')
  const bytesOfHeaders = Array.from({ length: 24 + 32 }, (_, i) => i)
  const anywhere = Array.from({ length: 200 }, () => Math.floor(random() * wal.length))
  for (const at of [...bytesOfHeaders, ...bytesOfHeaders.map((i) => 32 + frame * 3 + i), ...anywhere]) {
    copyFileSync(path, copy)
    copyFileSync(`${path}-wal`, `${copy}-wal`)
    flip(`${copy}-wal`, at, 1 + Math.floor(random() * 255))
    if (at < detected) refusedUntouched(copy, 'STORAGE_CORRUPT', `byte ${at}`)
    else if (at >= hidden) assert.equal(open(copy), 'opened', `byte ${at}`) // not to be told from a power cut
    for (const suffix of ['-wal', '-shm']) rmSync(`${copy}${suffix}`, { force: true })
  }
})

test('what rolled back, failed and unfinished transactions leave in the WAL is no alarm', () => {
  using folder = temporaryFolder()
  const base = folder.file('base.db')
  leaveWal(base, 5)
  /** The base's WAL, continued by a transaction of so many pages. */
  const continued = (pages: number, end: 'COMMIT' | 'ROLLBACK') => {
    const path = folder.file(`${pages}${end}.db`)
    copyFileSync(base, path)
    copyFileSync(`${base}-wal`, `${path}-wal`)
    const db = new DatabaseSync(path)
    db.exec('PRAGMA cache_size = 5; PRAGMA wal_autocheckpoint = 0; BEGIN; CREATE TABLE filler (bytes TEXT)')
    for (let i = 0; i < pages; i++) db.prepare('INSERT INTO filler VALUES (?)').run('x'.repeat(4000))
    db.exec(end)
    const wal = readFileSync(`${path}-wal`)
    db.close()
    return wal
  }
  const [long, middle, short] = [continued(60, 'COMMIT'), continued(30, 'COMMIT'), continued(5, 'COMMIT')]
  const undone = continued(80, 'ROLLBACK')
  const path = folder.file('jobs.db')
  copyFileSync(base, path)
  // COMMITs whose sync failed are written over from their start: tails of longer ones stay behind shorter ones.
  const layers = Buffer.concat([short, middle.subarray(short.length), long.subarray(middle.length)])
  const begun = long.subarray(0, readFileSync(`${base}-wal`).length + 20 * frame)
  const torn = Buffer.concat([begun.subarray(0, -frame), Buffer.alloc(frame, 7), long.subarray(begun.length)])
  for (const [wal, commits] of [
    [layers, 6],
    [undone, 5],
    [begun, 5],
    [torn, 5],
  ] as const) {
    writeFileSync(`${path}-wal`, wal)
    const state = inspectWal(path)!
    assert.deepEqual([state.damage, state.commits], [null, commits])
  }
})

test('two processes commit while a third looks and opens 200 times: never a false alarm', {
  timeout: 120_000,
}, async () => {
  using folder = temporaryFolder()
  const path = folder.file('jobs.db')
  new Engine(path, systemClock).close()
  const writer = `
    import { GopherQueue } from ${JSON.stringify(new URL('../src/index.ts', import.meta.url).href)}
    const queue = await GopherQueue.open(${JSON.stringify(path)}, { diskReserve: 0 })
    let on = true
    process.stdin.once('end', () => { on = false }).resume()
    const line = async () => { while (on) await queue.submit('work', 'x'.repeat(Math.random() * 20000)) }
    console.log('ready')
    await Promise.all([line(), line(), line()])
    await queue.close()`
  const children = [1, 2].map(() => spawn(process.execPath, ['--input-type=module', '-e', writer]))
  await Promise.all(children.map((child) => once(child.stdout, 'data')))
  const begun = new Set<string>()
  for (let i = 0; i < 200; i++) {
    for (let j = 0; j < 3; j++) assert.equal(inspectWal(path)?.damage ?? null, null)
    assert.equal(open(path), 'opened')
    begun.add(readFileSync(`${path}-wal`).subarray(0, 32).toString('hex'))
  }
  for (const child of children) child.stdin.end()
  const codes = await Promise.all(children.map(async (child) => (await once(child, 'close'))[0]))
  assert.deepEqual(codes, [0, 0])
  assert.ok(begun.size > 3, `the WAL began anew ${begun.size} times meanwhile`)
})

test('a file that is none of ours is refused and left as it is', async () => {
  using folder = temporaryFolder()
  const path = folder.file('jobs.db')
  await fill(path, 500)
  const whole = readFileSync(path)
  const fresh = (content: Buffer | string) => {
    writeFileSync(path, content)
    for (const suffix of ['-wal', '-shm']) rmSync(`${path}${suffix}`, { force: true })
  }
  fresh('this is a letter and no queue, long enough to be seen as one')
  refusedUntouched(path, 'NOT_A_QUEUE', 'text')
  fresh(Buffer.alloc(whole.length))
  refusedUntouched(path, 'NOT_A_QUEUE', 'zeros')
  fresh(whole.subarray(0, Math.floor(whole.length / 2 / page) * page))
  refusedUntouched(path, 'STORAGE_CORRUPT', 'cut')
  fresh(Buffer.concat([whole.subarray(0, page), Buffer.alloc(whole.length - page)]))
  refusedUntouched(path, 'STORAGE_CORRUPT', 'all but its first page zeros')
  const renamed = Buffer.from(whole)
  for (let at = renamed.indexOf('gq_meta'); at >= 0; at = renamed.indexOf('gq_meta')) renamed.write('gq_mete', at)
  fresh(renamed)
  refusedUntouched(path, 'STORAGE_UNAVAILABLE', 'without gq_meta: not made anew beside the other tables')
})

test('a WAL whose file is missing, empty or no database is kept', () => {
  using folder = temporaryFolder()
  const path = folder.file('jobs.db')
  leaveWal(path, 10)
  const whole = readFileSync(path)
  writeFileSync(path, '')
  refusedUntouched(path, 'STORAGE_CORRUPT', 'empty')
  rmSync(path)
  refusedUntouched(path, 'STORAGE_CORRUPT', 'missing')
  writeFileSync(path, whole)
  assert.equal(open(path), 'opened')
  assert.equal(rowsOf(path, 'SELECT COUNT(*) AS jobs FROM gq_jobs')[0]!.jobs, 11)
})

test("the app's own database is welcome, and its tables are left in peace", () => {
  using folder = temporaryFolder()
  const path = folder.file('app.db')
  const app = new DatabaseSync(path)
  app.exec(`CREATE TABLE gq_of_mine (a); INSERT INTO gq_of_mine VALUES ('mine')`)
  app.close()
  assert.equal(open(path), 'opened')
  assert.deepEqual({ ...rowsOf(path, 'SELECT a FROM gq_of_mine')[0] }, { a: 'mine' })
})

test('damage met in use: all is refused, nothing is written, and closing does not touch the file either', async () => {
  using folder = temporaryFolder()
  const path = folder.file('jobs.db')
  await fill(path, 1000)
  const queue = await GopherQueue.open(path, { diskReserve: 0 })
  const { id } = await queue.submit('never', 'in the WAL')
  const waiting = assert.rejects(queue.wait(id), { code: 'STORAGE_CORRUPT' })
  queue.define('other', {}, () => null)
  const worker = queue.work({ queues: ['elsewhere'] })
  await queue.stats()
  const file = openSync(path, 'r+')
  const pages = statSync(path).size / page
  for (let i = 20; i < pages; i++) writeSync(file, Buffer.alloc(page, 0x5a), 0, page, i * page)
  closeSync(file)
  const heard = once(queue, 'health')
  const before = bytesOf(path)
  await assert.rejects(async () => {
    for (let cursor: number | null = null; ; ) cursor = (await queue.jobs({ limit: 1000, cursor })).next
  }, { code: 'STORAGE_CORRUPT' }) // biome-ignore format: one call
  const [{ status, causes, works }] = await heard
  assert.deepEqual([status, works], ['failed', { submit: false, lease: false, complete: false }])
  assert.deepEqual(causes.map((cause: { code: string }) => cause.code), ['STORAGE_CORRUPT']) // biome-ignore format: short
  await waiting
  for (const call of [
    () => queue.submit('a', 1),
    () => queue.job(1),
    () => queue.jobs(),
    () => queue.stats(),
    () => queue.cancel(id),
    () => queue.wait(id),
    () => queue.pause(),
    () => worker.stop(),
    () => queue.close(),
  ])
    await assert.rejects(call, { code: 'STORAGE_CORRUPT', accepted: 'no' }, String(call))
  assert.equal((await queue.health()).status, 'failed')
  assert.deepEqual(bytesOf(path), before)
})
