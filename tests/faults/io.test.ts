import assert from 'node:assert/strict'
import { copyFileSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { folderFor, lookInto, until } from '../crash/processes.ts'
import {
  App,
  allEnded,
  busyApp,
  faultyDisk,
  fileWithHeldJobs,
  finishLost,
  found,
  healthOf,
  noCompiler,
  untilRunning,
} from './support.ts'

// A disk that fails for a while, and a file that is not where it was: nothing is believed that was not written, handlers
// go on, and all of it recovers by itself.

const jobs = 40

/** The keys of the jobs that the file holds. */
function keysIn(file: string): Set<string> {
  const db = lookInto(file)
  const rows = db.prepare(`SELECT idempotency_key AS key FROM gq_jobs WHERE idempotency_key IS NOT NULL`).all()
  db.close()
  return new Set(rows.map(({ key }) => String(key)))
}

/** Each submission that was acknowledged is in the file, each that was refused with 'no' is not. */
function assertTrue(app: App, file: string): void {
  const keys = keysIn(file)
  for (const { what, of, accepted } of app.told) {
    if (what === 'accepted') assert.ok(keys.has(of!), `${of} was acknowledged and is gone`)
    if (what === 'refused' && accepted === 'no') assert.ok(!keys.has(of!), `${of} was refused and is there`)
  }
}

const faults: [what: string, calls: 'fsync' | 'write', suffix: string, error: 'EIO' | 'EROFS' | 'ENOSPC'][] = [
  ['fsync of the WAL fails', 'fsync', '-wal', 'EIO'],
  ['writes to the WAL fail', 'write', '-wal', 'EIO'],
  ['the filesystem became read-only', 'write', '-wal', 'EROFS'],
]
for (const [what, calls, suffix, error] of faults)
  for (const works of [true, false])
    test(`${what} for a while (${works ? 'jobs run' : 'only submissions'}): refused, held, delivered`, {
      skip: noCompiler,
    }, async (t) => {
      const folder = folderFor(t)
      const file = await fileWithHeldJobs(folder, jobs)
      const disk = faultyDisk(folder)
      const config = { file, diskReserve: 0 }
      const app = works
        ? await busyApp(t, { ...config, concurrency: jobs }, disk.environment)
        : new App(t, config, disk.environment)
      app.tell('wait 1')
      assert.equal((await app.submits('before')).what, 'accepted')

      disk.break(calls, suffix, error)
      const first = await app.submits('first')
      assert.deepEqual([first.code, first.accepted], ['STORAGE_UNAVAILABLE', 'unknown'], 'COMMIT itself failed')
      const refused = await app.submits('second')
      assert.deepEqual([refused.code, refused.accepted], ['STORAGE_UNAVAILABLE', 'no'])
      const { status, works: still } = await app.asksHealth()
      assert.deepEqual([status, still], ['degraded', { submit: false, lease: false, complete: false }])
      if (works) {
        app.tell(`finish ${jobs}`)
        await app.hears('end', jobs)
      }
      // Several tries of its own fail meanwhile: what they find is not told again.
      for (let i = 0; i < 10; i++) {
        const { what: answer, code } = await app.submits(`during-${i}`)
        assert.deepEqual([answer, code], ['refused', 'STORAGE_UNAVAILABLE'])
        await new Promise((resolve) => setTimeout(resolve, 150))
      }
      assert.deepEqual([app.all('succeeded').length, app.all('waited').length], [0, 0])
      if (works) assert.equal(found(file).running, jobs)

      disk.mend()
      await app.submitsAtLast('after')
      if (works) {
        await untilRunning(file, 0)
        await app.hears('waited')
        await app.hears('succeeded', jobs / 2)
      }
      assert.deepEqual(healthOf(app), ['degraded STORAGE_UNAVAILABLE', 'ok'])
      assert.deepEqual(app.all('leaseLost'), [])
      await app.child.kill()
      assertTrue(app, file)
      if (works) assert.deepEqual(found(file), allEnded(jobs))
    })

test('the database file cannot grow, the WAL can: outcomes are durable in the WAL alone', {
  skip: noCompiler,
}, async (t) => {
  const folder = folderFor(t)
  const count = 1000
  const file = await fileWithHeldJobs(folder, count)
  const disk = faultyDisk(folder)
  const app = await busyApp(t, { file, diskReserve: 0, concurrency: count }, disk.environment)
  disk.break('write', 'jobs.db', 'ENOSPC')
  app.tell(`finish ${count} one-by-one`)
  await app.hears('succeeded', count / 2, 60)
  await untilRunning(file, 0)
  await app.child.kill()
  assert.deepEqual(found(file), allEnded(count))
})

test('a checkpoint fails at fsync of the database file: the WAL keeps all of it', { skip: noCompiler }, async (t) => {
  const folder = folderFor(t)
  const count = 1000
  const file = await fileWithHeldJobs(folder, count)
  const disk = faultyDisk(folder)
  const app = await busyApp(t, { file, diskReserve: 0, concurrency: count }, disk.environment)
  disk.break('fsync', 'jobs.db')
  app.tell(`finish ${count} one-by-one`)
  await app.hears('succeeded', count / 2, 60)
  assert.equal((await app.submits('during')).what, 'accepted')
  await untilRunning(file, 0)
  await app.child.kill()
  assertTrue(app, file)
  assert.deepEqual(found(file), allEnded(count))
})

test("the database's folder is renamed for a while: refused, held, delivered when it is back", async (t) => {
  const parent = folderFor(t)
  const [folder, away] = [join(parent, 'here'), join(parent, 'away')]
  mkdirSync(folder)
  const file = await fileWithHeldJobs(folder, 8)
  const app = await busyApp(t, { file, diskReserve: 0, concurrency: 8 })
  const submitter = new App(t, { file, diskReserve: 0 })
  await submitter.hears('opened')
  renameSync(folder, away)
  for (const each of [app, submitter]) {
    const first = await each.submits(`first-${each === app}`)
    assert.equal(first.code, 'STORAGE_UNAVAILABLE')
    assert.match(first.message!, /jobs\.db is gone/)
    const { code, accepted } = await each.submits(`second-${each === app}`)
    assert.deepEqual([code, accepted], ['STORAGE_UNAVAILABLE', 'no'])
  }
  app.tell('finish 8')
  await app.hears('end', 8)
  assert.equal((await app.asksHealth()).status, 'degraded')
  assert.ok(!existsSync(folder))

  renameSync(away, folder)
  await app.submitsAtLast('app')
  await submitter.submitsAtLast('submitter')
  await untilRunning(file, 0)
  for (const each of [app, submitter]) assert.deepEqual(healthOf(each), ['degraded STORAGE_UNAVAILABLE', 'ok'])
  await app.child.kill()
  await submitter.child.stop()
  assertTrue(app, file)
  assertTrue(submitter, file)
  assert.deepEqual(found(file), allEnded(8))
})

test('another file is in the place of the database: it is not written to, and nothing is believed until the old one is back', async (t) => {
  const folder = folderFor(t)
  const file = await fileWithHeldJobs(folder, 8)
  const app = await busyApp(t, { file, diskReserve: 0, concurrency: 8 })
  const copy = join(folder, 'copy')
  copyFileSync(file, copy)
  const bytes = readFileSync(copy)
  renameSync(file, join(folder, 'old'))
  renameSync(copy, file)
  assert.match((await app.submits('first')).message!, /another file is in the place of/)
  app.tell('finish 8')
  await app.hears('end', 8)
  const { code, accepted } = await app.submits('second')
  assert.deepEqual([code, accepted], ['STORAGE_UNAVAILABLE', 'no'])
  assert.deepEqual(app.all('succeeded'), [])
  assert.ok(readFileSync(file).equals(bytes))

  renameSync(join(folder, 'old'), file)
  await app.submitsAtLast('after')
  await app.hears('succeeded', 4)
  await untilRunning(file, 0)
  assert.deepEqual(healthOf(app), ['degraded STORAGE_UNAVAILABLE', 'ok'])
  await app.child.kill()
  assertTrue(app, file)
  assert.deepEqual(found(file), allEnded(8))
})

for (const suffix of ['-wal', '-shm'])
  test(`the ${suffix} is deleted while in use: all that was acknowledged reaches the file, and nothing more is until a restart`, async (t) => {
    const folder = folderFor(t)
    const file = await fileWithHeldJobs(folder, 4)
    const app = await busyApp(t, { file, diskReserve: 0, concurrency: 4 })
    assert.equal((await app.submits('before')).what, 'accepted')
    rmSync(`${file}${suffix}`)
    assert.match((await app.submits('first')).message!, /is gone: stop all processes/)
    const { code, accepted } = await app.submits('second')
    assert.deepEqual([code, accepted], ['STORAGE_UNAVAILABLE', 'no'])
    const copy = join(folder, 'copy.db')
    await until('the file alone has what was acknowledged', 10, () => {
      copyFileSync(file, copy)
      return keysIn(copy).has('before')
    })
    await app.child.kill()
    const next = new App(t, { file, diskReserve: 0, concurrency: 4 })
    await finishLost(next, 4)
    await untilRunning(file, 0)
    await next.child.stop()
    assertTrue(app, file)
    assert.deepEqual(found(file), { ...allEnded(4), 'lost attempts': 4 })
  })
