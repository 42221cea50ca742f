import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { copyFileSync, existsSync, lstatSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs' // biome-ignore format: one line
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import { GopherQueue } from '../src/index.ts'
import { systemClock } from '../src/model/clock.ts'
import { backup } from '../src/store/sqlite/backup.ts'
import { examine } from '../src/store/sqlite/doctor.ts'
import { salvage } from '../src/store/sqlite/salvage.ts'
import { Bench } from './cli/support.ts'
import { fill, rowsOf } from './support/filled.ts'

const writer = (file: string) => `
  import { GopherQueue } from ${JSON.stringify(new URL('../src/index.ts', import.meta.url).href)}
  const queue = await GopherQueue.open(${JSON.stringify(file)}, { diskReserve: 0 })
  queue.define('work', {}, ({ payload }) => payload)
  queue.work({ concurrency: 5 })
  for (let n = 0; ; n++) {
    // The pair of one transaction: a backup holds both or none.
    await queue.submitMany('work', [n, n])
    console.log(n)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }`

test('a backup under load is one instant of the queue; restored, it opens, is sound, and drains', {
  timeout: 120_000,
}, async (t) => {
  const bench = new Bench(t)
  await fill(bench.file, 2000)
  const children = [1, 2].map(() => spawn(process.execPath, ['--input-type=module', '-e', writer(bench.file)]))
  t.after(() => {
    for (const child of children) child.kill('SIGKILL')
  })
  await Promise.all(children.map((child) => once(child.stdout, 'data')))
  for (const name of ['first.db', 'second.db', 'third.db']) {
    const acknowledged = rowsOf(bench.file, 'SELECT COUNT(*) AS jobs FROM gq_jobs')[0]!.jobs as number
    const { code, stdout, stderr } = await bench.run('backup', name, '--json')
    assert.deepEqual([code, stderr], [0, ''])
    assert.equal(JSON.parse(stdout).file, name)
    const path = `${bench.folder}/${name}`
    assert.deepEqual(examine(path, 0, true).filter(({ verdict }) => verdict === 'FAIL'), []) // biome-ignore format: short
    const [{ jobs }] = rowsOf(path, 'SELECT COUNT(*) AS jobs FROM gq_jobs') as [{ jobs: number }]
    assert.ok(jobs >= acknowledged)
    const halves = rowsOf(path, `SELECT COUNT(*) AS jobs FROM gq_jobs WHERE type = 'work'`) as [{ jobs: number }]
    assert.equal(halves[0].jobs % 2, 0)
  }
  for (const child of children) child.kill('SIGKILL')
  await Promise.all(children.map((child) => child.exitCode ?? child.signalCode ?? once(child, 'close')))

  const restored = `${bench.folder}/restored.db`
  copyFileSync(`${bench.folder}/third.db`, restored)
  const queue = await GopherQueue.open(restored, { diskReserve: 0 })
  for (const type of ['work', 'never', 'good', 'later']) queue.define(type, {}, () => null)
  queue.work({ concurrency: 50 })
  for (;;) {
    const { queues } = await queue.stats()
    if (queues.every(({ counts }) => counts.ready + counts.running === 0)) break
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  await queue.close()
  assert.deepEqual(examine(restored, 0, true).filter(({ verdict }) => verdict === 'FAIL'), []) // biome-ignore format: short
})

test('it overwrites only when told to, never a database in use, and leaves no half backup', async (t) => {
  const bench = new Bench(t)
  await fill(bench.file, 200)
  const target = `${bench.folder}/backup.db`
  writeFileSync(target, 'precious')
  const refused = await bench.run('backup', 'backup.db')
  assert.deepEqual([refused.code, readFileSync(target, 'utf8')], [2, 'precious'])
  assert.match(refused.stderr, /exists\. Nothing was written/)
  assert.equal((await bench.run('backup', 'backup.db', '--force')).code, 0)
  const count = 'SELECT COUNT(*) AS jobs FROM gq_jobs'
  assert.deepEqual(rowsOf(target, count), rowsOf(bench.file, count))
  await using _ = await GopherQueue.open(bench.file, { diskReserve: 0 })
  const itself = await bench.run('backup', 'jobs.db', '--force')
  assert.equal(itself.code, 2)
  assert.match(itself.stderr, /is a database in use/)
  const nowhere = await bench.run('backup', 'no/such/folder.db')
  assert.equal(nowhere.code, 1)
  const damaged = `${bench.folder}/damaged.db`
  const bytes = readFileSync(target)
  bytes.fill(0x55, 4096 * 5)
  writeFileSync(damaged, bytes)
  assert.equal((await bench.run('backup', 'of-damaged.db', '--db', damaged)).code, 1)
  assert.ok(!existsSync(`${bench.folder}/of-damaged.db`))
  assert.deepEqual(readdirSync(bench.folder).filter((name) => name.includes('partial')), []) // biome-ignore format: short
})

const pipeMaker = 'mkfifo'
const salvageInto = (path: string, into: string) => salvage(path, into, systemClock)

test('what is no file, and what belongs to a queue, is no place for a copy, whatever link leads there', async (t) => {
  const bench = new Bench(t)
  await fill(bench.file, 20)
  const at = (name: string) => `${bench.folder}/${name}`
  execFileSync(pipeMaker, [at('pipe')])
  mkdirSync(at('folder'))
  symlinkSync('.', at('here'))
  symlinkSync('pipe', at('to-pipe'))
  symlinkSync('jobs.db-shm', at('to-shm'))
  symlinkSync('jobs.db', at('to-queue'))
  symlinkSync('circle', at('circle'))
  await using queue = await GopherQueue.open(bench.file)
  const sidecars = ['jobs.db-wal', 'jobs.db-shm', 'jobs.db-reserve', 'jobs.db-journal', 'here/jobs.db-wal', 'to-shm']
  const before = readdirSync(bench.folder)
  for (const [names, says] of [
    [['pipe', 'to-pipe', 'folder'], /is not a file/],
    [sidecars, /belongs to the database/],
    [['to-queue', 'here/jobs.db'], /is a database in use/],
  ] as const)
    for (const name of names)
      for (const write of [backup, salvageInto])
        assert.throws(() => write(bench.file, at(name), true), { code: 'INVALID_ARGUMENT', message: says }, name)
  const { code, stderr } = await bench.run('backup', 'to-pipe', '--force')
  assert.deepEqual([code, /INVALID_ARGUMENT: to-pipe is not a file/.test(stderr)], [2, true])
  assert.throws(() => backup(bench.file, at('circle'), true), { code: 'STORAGE_UNAVAILABLE', accepted: 'no' })
  assert.deepEqual(readdirSync(bench.folder), before)
  assert.ok(lstatSync(at('pipe')).isFIFO())
  await queue.close()
  assert.throws(() => backup(bench.file, at('to-queue'), true), /is what is to be copied/)

  symlinkSync('folder/latest.db', at('latest.db'))
  backup(bench.file, at('latest.db'), false)
  backup(bench.file, at('latest.db'), true)
  assert.ok(lstatSync(at('latest.db')).isSymbolicLink() && lstatSync(at('folder/latest.db')).isFile())
})

test('the file says when its last backup was made and by whom; a database without a queue is copied all the same', async (t) => {
  const bench = new Bench(t)
  await fill(bench.file, 20)
  const before = Date.now()
  assert.equal((await bench.run('backup', 'b.db')).code, 0)
  const [made] = rowsOf(bench.file, `SELECT value FROM gq_meta WHERE key = 'backup_at'`)
  assert.ok(Number(made!.value) >= before)
  const [entry] = rowsOf(bench.file, `SELECT who, target FROM gq_audit WHERE action = 'backup'`)
  assert.match(`${entry!.who} ${entry!.target}`, /^cli:.+@.+ b\.db$/)
  const other = new DatabaseSync(`${bench.folder}/other.db`)
  other.exec('CREATE TABLE t (x)')
  other.close()
  assert.deepEqual(await bench.run('backup', 'c.db', '--db', 'other.db'), { code: 0, stdout: 'c.db\n', stderr: '' })
})
