import assert from 'node:assert/strict'
import { existsSync, linkSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { GopherQueue } from '../src/index.ts'
import { backup } from '../src/store/sqlite/backup.ts'
import { platform } from '../src/store/sqlite/platform.ts'
import { systemProcesses } from '../src/store/sqlite/processes.ts'
import { restore } from '../src/store/sqlite/restore.ts'
import { Bench } from './cli/support.ts'
import { rowsOf } from './support/filled.ts'
import { temporaryFolder } from './support/folder.ts'

const idsOf = (file: string) => rowsOf(file, 'SELECT id FROM gq_jobs ORDER BY id').map(({ id }) => id)
const epochOf = (file: string) => rowsOf(file, `SELECT value FROM gq_meta WHERE key = 'epoch'`)[0]!.value

async function submitted(file: string, jobs: number): Promise<void> {
  await using queue = await GopherQueue.open(file, { diskReserve: 0 })
  await queue.submitMany('mail', Array(jobs).fill(null))
}

test('a backup takes the place of the file, which is kept; epoch and numbers are new, and the audit log has it', async (t) => {
  const bench = new Bench(t)
  await submitted(bench.file, 2)
  backup(bench.file, `${bench.folder}/b.db`, false)
  await submitted(bench.file, 3)
  const epochs = [epochOf(bench.file), epochOf(`${bench.folder}/b.db`)]
  const { code, stdout, stderr } = await bench.run('restore', 'b.db', '--json')
  assert.deepEqual([code, stderr], [0, ''])
  const { from, file, kept, jobs } = JSON.parse(stdout)
  assert.deepEqual([from, file, jobs], ['b.db', bench.file, 2])
  assert.deepEqual(
    [idsOf(kept), idsOf(bench.file), idsOf(`${bench.folder}/b.db`)],
    [
      [1, 2, 3, 4, 5],
      [1, 2],
      [1, 2],
    ],
  )
  await submitted(bench.file, 1)
  assert.ok(Number(idsOf(bench.file).at(-1)) > 1e6, 'no id of what was there is given again')
  assert.equal(new Set([...epochs, epochOf(bench.file)]).size, 3)
  const [said] = rowsOf(bench.file, 'SELECT who, action, target FROM gq_audit')
  assert.match(`${said!.who} ${said!.action} ${said!.target}`, /^cli:.+@.+ restore b\.db$/)
})

test('it refuses while a process has the file open, and changes nothing', async (t) => {
  const bench = new Bench(t)
  await submitted(bench.file, 1)
  await bench.run('backup', 'b.db')
  await using queue = await GopherQueue.open(bench.file)
  await queue.submit('mail', null)
  const before = readdirSync(bench.folder)
  const refused = await bench.run('restore', 'b.db')
  assert.deepEqual([refused.code, refused.stdout], [1, ''])
  assert.match(refused.stderr, new RegExp(`INVALID_STATE: .*jobs\\.db is in use by process ${process.pid} \\(.+Nothing was changed: stop all processes`)) // biome-ignore format: long
  assert.deepEqual([readdirSync(bench.folder), (await queue.jobs()).jobs.length], [before, 2])
})

test('a process that the system does not show is known by its locks', async (t) => {
  using folder = temporaryFolder()
  const file = folder.file('jobs.db')
  await submitted(file, 1)
  backup(file, folder.file('b.db'), false)
  t.mock.method(platform, 'holdersOf', () => [])
  const bench = new Bench(t)
  const worker = bench.startWith({ GOPHERQUEUE_DB: file }, 'work', 'mail', '--exec', 'true')
  await worker.says(/takes jobs/)
  assert.throws(() => restore(folder.file('b.db'), file, 'cli:x'), { code: 'INVALID_STATE', accepted: 'no' })
  worker.child.kill('SIGTERM')
  await worker.ended
  assert.equal(restore(folder.file('b.db'), file, 'cli:x').jobs, 1)
})

test('who opens the file while it is exchanged is found, and all is as before', async (t) => {
  using folder = temporaryFolder()
  const file = folder.file('jobs.db')
  await submitted(file, 1)
  backup(file, folder.file('b.db'), false)
  let looks = 0
  t.mock.method(platform, 'holdersOf', () => (++looks > 3 ? [{ pid: 1, name: 'late' }] : []))
  assert.throws(() => restore(folder.file('b.db'), file, 'cli:x'), { code: 'INVALID_STATE', message: /\(late\)/ })
  const left = readdirSync(folder.file('.')).filter((name) => !/-(wal|shm)$/.test(name))
  assert.deepEqual([left, statSync(file).nlink, idsOf(file)], [['b.db', 'jobs.db'], 1, [1]])
  linkSync(file, folder.file('second')) // as it is in that moment
  await assert.rejects(GopherQueue.open(file), { code: 'UNSUPPORTED_FILESYSTEM' })
})

test('a restore that was killed midway says what to do, and the same one again mends it', async () => {
  using folder = temporaryFolder()
  const file = folder.file('jobs.db')
  await submitted(file, 1)
  backup(file, folder.file('b.db'), false)
  await submitted(file, 1)
  linkSync(file, `${file}-before-20260101T000000Z`) // as `swap` leaves it before its last step
  await assert.rejects(GopherQueue.open(file), {
    code: 'UNSUPPORTED_FILESYSTEM',
    message:
      /is also jobs\.db-before-20260101T000000Z, since a restore was stopped.*run the same 'gopherqueue restore' again/,
  })
  const { kept } = restore(folder.file('b.db'), file, 'cli:x')
  assert.deepEqual([idsOf(file), statSync(file).nlink, idsOf(kept!)], [[1], 1, [1, 2]])
})

test('a damaged file is kept as it is, with its WAL; what is not there needs no keeping', async () => {
  using folder = temporaryFolder()
  const file = folder.file('jobs.db')
  await submitted(file, 1)
  backup(file, folder.file('b.db'), false)
  writeFileSync(file, 'not what it was')
  writeFileSync(`${file}-wal`, 'nor this')
  const { kept } = restore(folder.file('b.db'), file, 'cli:x')
  assert.deepEqual(['', '-wal'].map((suffix) => readFileSync(kept + suffix, 'utf8')), ['not what it was', 'nor this']) // biome-ignore format: long
  assert.ok(!existsSync(`${file}-wal`))
  assert.deepEqual(idsOf(file), [1])
  rmSync(file)
  assert.deepEqual(restore(folder.file('b.db'), file, 'cli:x'), { file, kept: null, jobs: 1 })
})

test('what is no sound backup of a queue takes no place', async (t) => {
  const bench = new Bench(t)
  const file = (name: string) => `${bench.folder}/${name}`
  await submitted(bench.file, 200)
  backup(bench.file, file('b.db'), false)
  const bytes = readFileSync(file('b.db'))
  writeFileSync(file('damaged'), bytes.fill(0x55, 4096 * 5))
  writeFileSync(file('text'), 'a text that is long enough to be taken for a file of SQLite')
  writeFileSync(file('empty'), '')
  const before = readdirSync(bench.folder)
  for (const [name, code] of [['damaged', /STORAGE_CORRUPT/], ['text', /NOT_A_QUEUE/], ['empty', /NOT_A_QUEUE/], ['none', /NOT_A_QUEUE/], ['.', /NOT_A_QUEUE/], ['jobs.db', /INVALID_ARGUMENT/]] as const) {
    const refused = await bench.run('restore', name)
    assert.ok(refused.code !== 0 && refused.stdout === '', name)
    assert.match(refused.stderr, code, name)
  } // biome-ignore format: a table
  assert.deepEqual([readdirSync(bench.folder), idsOf(bench.file).length], [before, 200])
})

test('of two restores at once one is refused with a code; what a killed one has left is cleared away by the next', async () => {
  using folder = temporaryFolder()
  const file = folder.file('jobs.db')
  await submitted(file, 1)
  backup(file, folder.file('b.db'), false)
  const makes = (identity: object) => {
    writeFileSync(`${file}-making`, JSON.stringify(identity))
    writeFileSync(`${file}-partial`, 'a part of it')
  }
  makes(systemProcesses.me)
  const refused = { code: 'INVALID_STATE', accepted: 'no', message: new RegExp(`process ${process.pid} on .*remove .*jobs\\.db-making`) } // biome-ignore format: long
  assert.throws(() => restore(folder.file('b.db'), file, 'cli:x'), refused)
  makes({ ...systemProcesses.me, pid_started: 'before' })
  assert.equal(restore(folder.file('b.db'), file, 'cli:x').jobs, 1)
  const left = readdirSync(folder.file('.')).filter((name) => /partial|making/.test(name))
  assert.deepEqual(left, [])
  writeFileSync(`${folder.file('c.db')}-making`, JSON.stringify(systemProcesses.me))
  assert.throws(() => backup(file, folder.file('c.db'), false), { code: 'INVALID_STATE' })
})

test('restores that start in the same moment: one is there, each other says why not', async (t) => {
  const bench = new Bench(t)
  await submitted(bench.file, 3)
  await bench.run('backup', 'b.db')
  const all = await Promise.all([1, 2, 3].map(() => bench.run('restore', 'b.db')))
  for (const { code, stderr } of all) assert.ok(code === 0 || /^gopherqueue: INVALID_STATE: /.test(stderr), stderr)
  assert.ok(all.some(({ code }) => code === 0))
  assert.deepEqual(idsOf(bench.file), [1, 2, 3])
})
