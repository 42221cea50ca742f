import assert from 'node:assert/strict'
import { once } from 'node:events'
import { rmSync } from 'node:fs'
import { test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import { systemClock } from '../../src/model/clock.ts'
import { GopherQueue } from '../../src/queue/gopherqueue.ts'
import { serve } from '../../src/server/server.ts'
import { HttpStore } from '../../src/store/http/store.ts'
import { SqliteStore } from '../../src/store/sqlite/store.ts'
import type { Store } from '../../src/store/store.ts'
import { VirtualClock } from '../../src/testing/clock.ts'
import { temporaryFolder } from '../support/folder.ts'

const notKnown = { code: 'STORAGE_UNAVAILABLE', accepted: 'unknown' }

/** Closes a queue whose worker has a job, after storage went away and is not to come back. */
async function closed(store: Store, goAway: () => Promise<void>): Promise<void> {
  const clock = new VirtualClock()
  const queue = new GopherQueue(store, clock)
  queue.on('warning', () => undefined)
  const goOn = Promise.withResolvers<void>()
  queue.define('t', {}, () => goOn.promise)
  await queue.submit('t', null)
  queue.work()
  await once(queue, 'started')
  await goAway()
  goOn.resolve()
  const closing = queue.close()
  let over = false
  const end = () => {
    over = true
  }
  closing.then(end, end)
  while (!over) {
    clock.advance(1000)
    for (let turn = 0; turn < 100 && !over; turn++) await setImmediate()
  }
  return closing
}

test('a queue whose file was removed can be closed: after 10 s it says what is not known', async () => {
  using folder = temporaryFolder()
  const file = folder.file('jobs.db')
  const remove = async () => {
    for (const suffix of ['', '-wal', '-shm']) rmSync(file + suffix, { force: true })
  }
  await assert.rejects(closed(await SqliteStore.open(file), remove), notKnown)
})

test('so can one whose server is away', async () => {
  using folder = temporaryFolder()
  const server = await serve(await SqliteStore.open(folder.file('jobs.db'), { tends: true }), { port: 0, logLevel: 'silent' }) // biome-ignore format: short
  const store = await HttpStore.open(server.url, {}, systemClock)
  await assert.rejects(
    closed(store, () => server.close()),
    notKnown,
  )
})

test('and a worker that never signed on, since its server was away from the start', async () => {
  using folder = temporaryFolder()
  const server = await serve(await SqliteStore.open(folder.file('jobs.db'), { tends: true }), { port: 0, logLevel: 'silent' }) // biome-ignore format: short
  const store = await HttpStore.open(server.url, {}, systemClock)
  await server.close()
  const clock = new VirtualClock()
  const queue = new GopherQueue(store, clock)
  queue.define('t', {}, () => null)
  const stopped = queue.work().stop()
  clock.advance(10_000)
  await assert.rejects(stopped, notKnown)
  await store.close()
})
