import assert from 'node:assert/strict'
import { rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { GopherQueue } from '../../src/index.ts'
import { fromEnvironment, until } from '../crash/processes.ts'
import {
  App,
  allEnded,
  busyApp,
  fileWithHeldJobs,
  fill,
  finishLost,
  found,
  freeIn,
  healthOf,
  mebibyte,
  noMount,
  smallDisk,
  untilRunning,
} from './support.ts'

// A disk without room: submissions are refused and come back alone, what runs is finished durably.

const running = fromEnvironment('FAULT_RUNNING', 1000)
const reserve = 8 * mebibyte

for (const how of ['all-at-once', 'one-by-one'])
  test(`the disk is full while ${running} jobs run: all outcomes become durable (${how}), submissions come back`, {
    skip: noMount,
  }, async (t) => {
    const folder = smallDisk(t, 64)
    const file = await fileWithHeldJobs(folder, running)
    const app = await busyApp(t, { file, diskReserve: reserve, concurrency: running })
    assert.equal((await app.submits('before')).what, 'accepted')

    const filler = fill(folder)
    const { code, accepted, message } = await app.submits('full')
    assert.deepEqual([code, accepted], ['STORAGE_FULL', 'no'], message)
    const { status, causes, works } = await app.asksHealth()
    assert.equal(status, 'degraded')
    assert.ok(causes!.includes('STORAGE_FULL'))
    assert.deepEqual(works, { submit: false, lease: true, complete: true })

    app.tell(`finish ${running} ${how}`)
    await app.hears('succeeded', running / 2, 30)
    await app.hears('retrying', running / 4, 30)
    await app.hears('dead', running / 4, 30)
    t.diagnostic(`free when all was told: ${freeIn(folder)} bytes`)
    assert.equal((await app.submits('still')).code, 'STORAGE_FULL')
    assert.deepEqual(healthOf(app), ['degraded STORAGE_FULL'])
    await app.child.kill()
    assert.deepEqual(found(file), allEnded(running))

    rmSync(filler)
    const next = new App(t, { file, diskReserve: reserve, concurrency: 10 })
    await next.submitsAtLast('after')
    assert.deepEqual(healthOf(next), [])
    await next.child.stop()
  })

test('room again: submissions work again by themselves, and health says each change once', {
  skip: noMount,
}, async (t) => {
  const folder = smallDisk(t, 64)
  const file = await fileWithHeldJobs(folder, 8)
  const app = await busyApp(t, { file, diskReserve: reserve, concurrency: 8 })
  for (let round = 1; round <= 3; round++) {
    const filler = fill(folder)
    assert.equal((await app.submits(`full-${round}`)).code, 'STORAGE_FULL')
    app.tell('finish 2')
    await until('two more ended', 10, () => app.all('end').length === 2 * round)
    await untilRunning(file, 8 - 2 * round)
    rmSync(filler)
    const { of } = await app.submitsAtLast(`room-${round}`)
    assert.match(of!, /-\d+$/)
    await app.hears('health', 2 * round)
  }
  assert.deepEqual(
    healthOf(app),
    Array.from({ length: 6 }, (_, i) => (i % 2 === 0 ? 'degraded STORAGE_FULL' : 'ok')),
  )
  await app.child.kill()
})

test('less than the reserve is free, but the disk is not full: only submissions are refused', {
  skip: noMount,
}, async (t) => {
  const folder = smallDisk(t, 64)
  const file = await fileWithHeldJobs(folder, 4)
  const submitter = new App(t, { file, diskReserve: reserve })
  const app = await busyApp(t, { file, diskReserve: reserve, concurrency: 4 })
  const filler = fill(folder, 4 * mebibyte)
  for (const [name, each] of Object.entries({ app, submitter }))
    assert.deepEqual((await each.submitsUntilRefused(name)).code, 'STORAGE_FULL')
  app.tell('finish 4')
  await untilRunning(file, 0)
  assert.deepEqual(found(file), allEnded(4))
  rmSync(filler)
  await app.submitsAtLast('again')
  await submitter.submitsAtLast('also')
  assert.deepEqual(healthOf(app), ['degraded STORAGE_FULL', 'ok'])
  await app.child.kill()
})

test('the disk is full before the first worker starts: jobs run, and submissions come back', {
  skip: noMount,
}, async (t) => {
  const folder = smallDisk(t, 64)
  const file = await fileWithHeldJobs(folder, 8)
  const app = new App(t, { file, diskReserve: reserve })
  await app.hears('opened')
  const filler = fill(folder)
  app.tell('work')
  const { code, accepted } = await app.submits('full')
  assert.deepEqual([code, accepted], ['STORAGE_FULL', 'no'])
  rmSync(filler)
  await app.hears('start', 1)
  await app.submitsAtLast('again')
  assert.equal(healthOf(app).at(-1), 'ok')
  await app.child.kill()
})

test('the disk is full at open: refused as such, or opened with the space that was set aside', {
  skip: noMount,
}, async (t) => {
  const folder = smallDisk(t, 64)
  const file = await fileWithHeldJobs(folder, 8)
  const filler = fill(folder)
  const early = new App(t, { file, diskReserve: reserve })
  const { code } = await early.hears('unopened')
  assert.equal(code, 'STORAGE_FULL')
  rmSync(filler)
  const app = await busyApp(t, { file, diskReserve: reserve, concurrency: 8 })
  await app.child.kill()

  fill(folder)
  const second = new App(t, { file, diskReserve: reserve, concurrency: 8 })
  assert.equal((await second.submits('full')).code, 'STORAGE_FULL')
  await finishLost(second, 8)
  await untilRunning(file, 0)
  await second.child.kill()
  assert.deepEqual(found(file), { ...allEnded(8), 'lost attempts': 8 })
})

test('even the reserve is gone: outcomes are held, and delivered when there is room', { skip: noMount }, async (t) => {
  const folder = smallDisk(t, 64)
  const file = await fileWithHeldJobs(folder, running)
  const app = await busyApp(t, { file, diskReserve: reserve, concurrency: running })
  const fillers = [fill(folder)]
  app.tell(`finish 4`)
  await app.hears('end', 4)
  let ended = 4
  for (let round = 0; app.all('health').at(-1)?.works?.complete !== false; round++) {
    fillers.push(fill(folder, 0, `filler-${round}`)) // whatever was given back
    app.tell('finish 8')
    ended += 8
    await app.hears('end', ended)
    assert.ok(round < running / 8 - 1, 'all of it had room')
  }
  assert.equal((await app.submits('full')).code, 'STORAGE_FULL')
  app.tell(`finish ${running}`)
  await app.hears('end', running)
  assert.ok(app.child.alive)
  const told = app.all('health').length
  t.diagnostic(`${ended} ended until nothing could be written; health said ${healthOf(app).join(', ')}`)
  for (const filler of fillers) rmSync(filler)
  await app.hears('succeeded', running / 2, 30)
  await untilRunning(file, 0)
  await app.submitsAtLast('again')
  assert.ok(app.all('health').length - told <= 2, healthOf(app).join(', '))
  await app.child.kill()
  assert.deepEqual(found(file), allEnded(running))
})

test('a worker starts on a nearly full disk: it sets aside what there is, so that the next start finishes its jobs durably', {
  skip: noMount,
}, async (t) => {
  const folder = smallDisk(t, 64)
  const file = await fileWithHeldJobs(folder, 8)
  const fillers = [fill(folder, 2.5 * mebibyte, 'nearly')]
  const app = await busyApp(t, { file, diskReserve: reserve, concurrency: 8 })
  assert.equal((await app.submits('nearly')).code, 'STORAGE_FULL')
  await app.child.kill()
  const aside = statSync(`${file}-reserve`).size
  assert.ok(aside > mebibyte / 2 && aside < reserve / 4, `${aside}`)
  fillers.push(fill(folder, 0, 'all'))

  const next = new App(t, { file, diskReserve: reserve, concurrency: 8 })
  assert.equal((await next.submits('full')).code, 'STORAGE_FULL')
  await finishLost(next, 8)
  await untilRunning(file, 0)
  await next.child.kill()
  assert.deepEqual(found(file), { ...allEnded(8), 'lost attempts': 8 })
})

test('the disk is short of room: what retention frees goes back to it, and submissions come back', {
  skip: noMount,
}, async (t) => {
  const folder = smallDisk(t, 64)
  const file = join(folder, 'jobs.db')
  const first = await GopherQueue.open(file, { diskReserve: 0 })
  await first.configure('default', { keepCancelled: 1 })
  const gone = await first.submitMany('gone', Array<string>(7000).fill('x'.repeat(2000)))
  for (const { id } of gone) void first.cancel(id)
  await first.stats()
  await first.close()
  fill(folder, 7 * mebibyte)
  const app = new App(t, { file, diskReserve: reserve })
  assert.equal((await app.submits('short')).code, 'STORAGE_FULL')
  app.tell('work')
  await app.submitsAtLast('after')
  assert.deepEqual(healthOf(app), ['degraded STORAGE_FULL', 'ok'])
  t.diagnostic(`free when submissions came back: ${freeIn(folder)} bytes`)
  await app.child.kill()
})
