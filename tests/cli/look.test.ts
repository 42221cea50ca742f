import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, cpSync, existsSync, readdirSync, rmSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import { GopherQueue } from '../../src/index.ts'
import { systemClock } from '../../src/model/clock.ts'
import { connect } from '../../src/store/sqlite/connection.ts'
import { close, done, seal } from '../../src/store/sqlite/seal.ts'
import { temporaryFolder } from '../support/folder.ts'
import { Bench, runAll } from './support.ts'

// Commands that only read, run by a user who may not write: another one where these tests run as root, who may all.

const skip = process.platform === 'win32' // where a mode of 444 is no refusal of its folder

function gopherqueue(file: string, ...args: string[]) {
  const program = JSON.stringify(join(import.meta.dirname, '../../src/cli/program.ts'))
  const script = `
    process.argv = [process.argv[0], ...${JSON.stringify(['--db', file, ...args])}]
    const { main } = await import(${program})
    if (process.getuid() === 0) process.setuid(65534)
    await main()`
  const { stdout, stderr, status } = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
    encoding: 'utf8',
  })
  return { stdout, stderr, status }
}

async function filled(file: string): Promise<GopherQueue> {
  const queue = await GopherQueue.open(file)
  for (let n = 1; n <= 3; n++) await queue.submit('mail', { n })
  await queue.schedule('nightly', '0 3 * * *', 'mail', {})
  return queue
}

/** Lets others read what is there, and nothing more. */
function lock(file: string): void {
  for (const suffix of ['', '-wal', '-shm']) if (existsSync(file + suffix)) chmodSync(file + suffix, 0o444)
  chmodSync(dirname(file), 0o555)
}

test('jobs are listed by the filters with which they are changed; a duration back is an instant as well', async (t) => {
  const bench = new Bench(t)
  const queue = await bench.open()
  for (const text of ['tomato', 'leek', 'tomato']) await queue.submit('soup', { text })
  using sql = new DatabaseSync(bench.file)
  sql.exec(`UPDATE gq_jobs SET created_at = created_at - 3600000 * (3 - id)`) // 2 h, 1 h and 0 h ago
  const found = (filter: string[]) => {
    const [listed, changed] = runAll(bench.file, [
      ['jobs', ...filter],
      ['cancel', '--dry-run', ...filter],
    ])
    assert.deepEqual([listed!.err, changed!.err], ['', ''])
    const ids = (text: string, row: RegExp) => [...text.matchAll(row)].map(([, id]) => Number(id))
    const all = ids(listed!.out, /^(\d+)\t/gm)
    assert.deepEqual(all, ids(changed!.out, /^job\t(\d+)/gm))
    return all
  }
  assert.deepEqual(found(['--text', 'tomato']), [3, 1])
  assert.deepEqual(found(['--since', '90m']), [3, 2])
  assert.deepEqual(found(['--until', '30m', '--since', new Date(Date.now() - 5_400_000).toISOString()]), [2])
  assert.deepEqual(found(['--until', '30m', '--text', 'tomato', '--since', '36500d']), [1])
  for (const args of [
    ['jobs', '--since', 'soon'],
    ['retry', '--until', '3 days'],
  ])
    assert.match(runAll(bench.file, [args])[0]!.err, /INVALID_ARGUMENT.*such as 7d/)
})

function readsAll(file: string, ids: number[]): void {
  const jobs = gopherqueue(file, '--json', 'jobs', '--oldest')
  const lines = jobs.stdout.split('\n').filter((line) => line !== '')
  assert.deepEqual(lines.map((line) => JSON.parse(line).id), ids, jobs.stderr) // biome-ignore format: short
  assert.match(jobs.stderr, /^gopherqueue: read as it stands in \S+jobs\.db, which this user may not write\n$/)
  assert.match(gopherqueue(file, 'why', '3').stdout, /Job 3 is ready/)
  assert.equal(JSON.parse(gopherqueue(file, '--json', 'job', '2').stdout).payload.n, 2)
  assert.equal(JSON.parse(gopherqueue(file, '--json', 'stats').stdout).queues[0].counts.ready, ids.length)
  assert.match(gopherqueue(file, 'schedule', 'list').stdout, /nightly/)
}

test('commands that read need no right to write: a file that nobody has open', { skip }, async () => {
  using folder = temporaryFolder()
  const file = folder.file('jobs.db')
  await (await filled(file)).close()
  lock(file)
  try {
    readsAll(file, [1, 2, 3])
    const cancel = gopherqueue(file, 'cancel', '1')
    assert.equal(cancel.status, 1)
    assert.match(cancel.stderr, /STORAGE_UNAVAILABLE.* may not read and write/s)
    const doctor = gopherqueue(file, 'doctor')
    assert.deepEqual([doctor.status, /^warn\tfsync\tnot measured/m.test(doctor.stdout)], [0, true], doctor.stdout)
  } finally {
    chmodSync(dirname(file), 0o700)
  }
})

test('commands that read need no right to write: beside a writer, whose newest jobs are in the WAL', {
  skip,
}, async () => {
  using folder = temporaryFolder()
  const file = folder.file('jobs.db')
  const queue = await filled(file)
  try {
    lock(file)
    readsAll(file, [1, 2, 3])
    await queue.submit('mail', { n: 4 })
    readsAll(file, [1, 2, 3, 4])
  } finally {
    chmodSync(dirname(file), 0o700)
    await queue.close()
  }
})

test('without the -shm that a WAL needs, no older jobs are shown in place of the newest', { skip }, async () => {
  using folder = temporaryFolder()
  const file = folder.file('jobs.db')
  const queue = await filled(file)
  const copy = folder.file('copy.db')
  cpSync(file, copy)
  cpSync(`${file}-wal`, `${copy}-wal`)
  await queue.close()
  for (const suffix of ['', '-wal']) rmSync(file + suffix, { force: true })
  lock(copy)
  try {
    const jobs = gopherqueue(copy, 'jobs')
    assert.equal(jobs.status, 1)
    assert.equal(jobs.stdout, '')
    assert.match(jobs.stderr, /STORAGE_UNAVAILABLE.*newest jobs of \S+ are in \S+copy\.db-wal, which needs \S+-shm, and this user may not make it/s) // biome-ignore format: long
  } finally {
    chmodSync(dirname(copy), 0o700)
  }
})

test('a read leaves nothing that its owner could not open beside the file, whoever may write the folder', {
  skip,
}, async () => {
  using folder = temporaryFolder()
  const file = folder.file('jobs.db')
  await (await filled(file)).close()
  chmodSync(file, 0o444)
  chmodSync(dirname(file), 0o777)
  if (process.getuid?.() !== 0) return // the owner may write its own
  readsAll(file, [1, 2, 3])
  gopherqueue(file, 'doctor')
  assert.deepEqual(readdirSync(dirname(file)).filter((name) => /wal|shm/.test(name)), []) // biome-ignore format: short
})

test('what others write after the file was opened without its WAL is read, not mixed with what was there', {
  skip,
}, async () => {
  using folder = temporaryFolder()
  const file = folder.file('jobs.db')
  await (await filled(file)).close()
  lock(file)
  const reader = JSON.stringify(join(import.meta.dirname, '../../src/store/sqlite/reader.ts'))
  const script = `
    const { Reader } = await import(${reader})
    if (process.getuid() === 0) process.setuid(65534)
    const reader = new Reader(${JSON.stringify(file)})
    for await (const _ of process.stdin) console.log((await reader.call('jobs', {})).jobs.length)`
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: ['pipe', 'pipe', 'inherit'] })
  const counted = async () => {
    child.stdin.write('count')
    const [said] = await once(child.stdout, 'data')
    return Number(said)
  }
  try {
    assert.equal(await counted(), 3)
    chmodSync(dirname(file), 0o755)
    chmodSync(file, 0o644)
    const queue = await GopherQueue.open(file)
    await queue.submitMany('mail', [4, 5])
    await queue.close()
    lock(file)
    assert.equal(await counted(), 5)
  } finally {
    child.stdin.end()
    await once(child, 'close')
    chmodSync(dirname(file), 0o700)
  }
})

test('a file that moves says where to; one that has moved shows nothing that would be taken for what is now', async (t) => {
  const bench = new Bench(t)
  const { file } = bench
  await (await filled(file)).close()
  const db = connect(file, systemClock)
  const mark = seal(db, 'postgres://app@db.example/app', 'me')
  const jobs = await bench.run('--json', 'jobs')
  assert.equal(jobs.stdout.trim().split('\n').length, 3)
  assert.match(jobs.stderr, /^gopherqueue: The queue moves to postgres:\/\/app@db\.example\/app since 2/)
  const { health } = JSON.parse((await bench.run('--json', 'stats')).stdout)
  assert.deepEqual([health.status, health.causes[0].code], ['degraded', 'MOVED'])
  done(db, close(db, mark))
  db.connection.close()
  for (const args of [
    ['stats'],
    ['jobs'],
    ['job', '1'],
    ['why', '1'],
    ['dead'],
    ['failing'],
    ['queue'],
    ['schedule', 'list'],
  ]) {
    const { stdout, stderr, code } = await bench.run(...args)
    assert.deepEqual([args, code, stdout], [args, 1, ''])
    assert.match(stderr, /MOVED.*The queue has moved to postgres:\/\/app@db\.example\/app\..* open it there/s)
  }
})
