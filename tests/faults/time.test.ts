import assert from 'node:assert/strict'
import { syncBuiltinESMExports } from 'node:module'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { type TestContext, test } from 'node:test'
import { setTimeout } from 'node:timers/promises'
import { GopherQueue, type JobOptions } from '../../src/index.ts'
import { systemClock } from '../../src/model/clock.ts'
import { serve } from '../../src/server/server.ts'
import { SqliteStore } from '../../src/store/sqlite/store.ts'
import { folderFor, lookInto, until } from '../crash/processes.ts'
import { virtualQueue } from '../queue/support.ts'
import { App, fileWithHeldJobs, noFaketime, settableClock, untilRunning } from './support.ts'

// Clocks that jump, processes that stop, handlers that block: a lease is lost when its process does not renew it, and
// for no other reason; nothing runs twice at once.

const visibility = 1500
const each = 4

/** Lets real time pass while nothing may happen that the test forbids. */
async function meanwhile(ms: number, forbid: () => void): Promise<void> {
  const end = performance.now() + ms
  await until(`${ms} ms passed`, ms / 1000 + 5, () => {
    forbid()
    return performance.now() > end
  })
}

for (const to of ['+1h', '-1h'])
  for (const whose of ['one', 'both'] as const)
    test(`the wall clock of ${whose} of two processes jumps by ${to}: no lease is lost, nothing runs twice, nothing ready waits`, {
      skip: noFaketime,
    }, async (t) => {
      const folder = folderFor(t)
      const file = await fileWithHeldJobs(folder, 2 * each, { visibilityTimeout: visibility, timeout: '10m' })
      const clock = settableClock(folder, 'jumping')
      const still = settableClock(folder, 'still')
      const first = new App(t, { file, concurrency: each + 2 }, (whose === 'both' ? clock : still).environment)
      await first.hears('start', each)
      const second = new App(t, { file, concurrency: each + 2 }, clock.environment)
      await second.hears('opened')
      await until('all run', 20, () => first.all('start').length + second.all('start').length === 2 * each)
      const apps = [first, second]
      first.tell('submit later short 3s')
      await first.hears('accepted')

      clock.set(to)
      await meanwhile(3 * visibility, () => {
        for (const app of apps)
          assert.deepEqual([...app.all('leaseLost'), ...app.all('reclaimed'), ...app.all('aborted')], [])
      })
      for (const [i, app] of apps.entries()) assert.equal((await app.submits(`ready-${i}`)).what, 'accepted')
      const db = lookInto(file)
      const ended = db.prepare(`SELECT COUNT(*) AS n FROM gq_jobs WHERE type = 'short' AND state = 'succeeded'`)
      await until('what is ready has run, and what waited for 3 s', 10, () => ended.get()!.n === 3)
      for (const app of apps) app.tell(`finish ${2 * each}`)
      await untilRunning(file, 0)
      const wrong = db.prepare(`SELECT id, attempt, state FROM gq_jobs WHERE attempt > 1`).all()
      assert.deepEqual(wrong, [])
      assert.equal(db.prepare(`SELECT COUNT(*) AS n FROM gq_attempts WHERE outcome != 'failed'`).get()!.n, 0)
      db.close()
      for (const app of apps) await app.child.stop()
    })

test('the wall clock jumps while a process is stopped: its leases still end, by the clock of those that live', {
  skip: noFaketime,
}, async (t) => {
  const folder = folderFor(t)
  const file = await fileWithHeldJobs(folder, 1, { visibilityTimeout: visibility, timeout: '10m' })
  const clock = settableClock(folder, 'clock')
  const stopped = new App(t, { file, concurrency: 1 }, clock.environment)
  await stopped.hears('start')
  const heir = new App(t, { file, concurrency: 1 }, clock.environment)
  await heir.hears('opened')
  await heir.submits('knows-the-file')
  process.kill(stopped.child.pid, 'SIGSTOP')
  clock.set('-1h')
  const { attempt } = await heir.hears('start', 2)
  assert.equal(attempt, 2)
})

async function submitted(file: string, type: string, payload: unknown, options: JobOptions): Promise<number> {
  const queue = await GopherQueue.open(file)
  const { id } = await queue.submit(type, payload, options)
  await queue.close()
  return id
}

const workers = async (t: TestContext, file: string, { seconds = 20 } = {}) => {
  const first = new App(t, { file, concurrency: 1 })
  await first.hears('start', 1, seconds)
  const second = new App(t, { file, concurrency: 1 })
  await second.hears('opened')
  return { first, second }
}

test('a worker is stopped past its lease: another has the job, and the first hears that it lost it', async (t) => {
  const file = join(folderFor(t), 'jobs.db')
  const id = await submitted(file, 'held', { ending: 'success' }, { visibilityTimeout: '1s' })
  const { first, second } = await workers(t, file)
  process.kill(first.child.pid, 'SIGSTOP')
  const { attempt } = await second.hears('start')
  assert.equal(attempt, 2)
  second.tell('finish 1')
  await second.hears('succeeded')

  process.kill(first.child.pid, 'SIGCONT')
  assert.deepEqual(await first.hears('leaseLost'), { what: 'leaseLost', id, attempt: 1 })
  assert.deepEqual(await first.hears('aborted'), { what: 'aborted', id, attempt: 1 })
  first.tell('finish 1')
  await first.hears('end')
  await first.child.stop()
  assert.deepEqual([first.all('succeeded'), first.all('warning')], [[], []])
  const db = lookInto(file)
  const { state, result } = db.prepare(`SELECT state, result FROM gq_jobs WHERE id = ?`).get(id)!
  assert.deepEqual([state, JSON.parse(String(result))], ['succeeded', { attempt: 2, by: second.child.pid }])
  db.close()
})

test("a handler blocks the app's thread for longer than its visibility timeout: the storage thread keeps its lease", async (t) => {
  const file = join(folderFor(t), 'jobs.db')
  const id = await submitted(file, 'busy', { ms: 8000 }, { visibilityTimeout: '3s' })
  const { first, second } = await workers(t, file)
  await first.hears('succeeded')
  const db = lookInto(file)
  const { state, attempt } = db.prepare(`SELECT state, attempt FROM gq_jobs WHERE id = ?`).get(id)!
  assert.deepEqual([state, attempt], ['succeeded', 1])
  db.close()
  assert.deepEqual(second.all('start'), [])
})

test("a handler blocks the app's thread for ever: its lease ends with its timeout, and another process has the job", async (t) => {
  const file = join(folderFor(t), 'jobs.db')
  const options = { visibilityTimeout: '1s', timeout: '2s', backoff: { kind: 'constant', delay: 0 } } as const
  const id = await submitted(file, 'busy', { ms: 1e9 }, options)
  const { second } = await workers(t, file)
  const { attempt } = await second.hears('start')
  assert.equal(attempt, 2)
  await second.hears('succeeded')
  const db = lookInto(file)
  const [record] = db.prepare(`SELECT outcome FROM gq_attempts WHERE job_id = ?`).all(id)
  assert.equal(record!.outcome, 'timeout')
  db.close()
})

for (const over of ['the file', 'HTTP'])
  test(`a handler whose calls wait for the write lock does not run out of time meanwhile, over ${over}`, async (t) => {
    const file = join(folderFor(t), 'jobs.db')
    await using store = await SqliteStore.open(file)
    const server = over === 'HTTP' ? await serve(store, { port: 0, logLevel: 'silent' }) : null
    await using _ = { [Symbol.asyncDispose]: async () => server?.close() }
    await using queue = await GopherQueue.open(server?.url ?? file)
    const app = new DatabaseSync(file)
    t.after(() => app.close())
    const ends: string[] = []
    const types = ['checkpoint', 'heartbeat', 'submit'] as const
    for (const type of types)
      queue.define(type, { timeout: '2s', maxAttempts: 1 }, async (_job, context) => {
        app.exec('BEGIN IMMEDIATE')
        await Promise.all([
          type === 'submit' ? queue.submit('other', 1) : context[type](1),
          setTimeout(3000).then(() => app.exec('COMMIT')),
        ])
        context.signal.throwIfAborted()
      })
    for (const event of ['succeeded', 'dead'] as const)
      queue.on(event, ({ type }: { type: string }) => ends.push(`${type} ${event}`))
    queue.work({ concurrency: 1 })
    for (const type of types) await queue.submit(type, 1)
    await until('all have ended', 60, () => ends.length === 3)
    assert.deepEqual(ends, ['checkpoint succeeded', 'heartbeat succeeded', 'submit succeeded'])
  })

test('a delay of months is kept, at the engine', async () => {
  const { queue, store } = virtualQueue()
  await using _ = queue
  queue.define('rare', {}, () => 'done')
  queue.work()
  const day = 86_400_000
  const { id } = await queue.submit('rare', null, { delay: '100d' })
  for (let passed = 0; passed < 100; passed++) {
    assert.equal((await queue.job(id))!.state, 'scheduled')
    store.advance(day)
  }
  assert.equal(await queue.wait(id), 'done')
})

test('a timer of more than 2^31 ms does not fire at once, but when it is time', (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  syncBuiltinESMExports() // the clock has it from node:timers, so that the fake timers of apps do not reach it
  t.after(() => {
    t.mock.timers.reset()
    syncBuiltinESMExports()
  })
  let fired = 0
  systemClock.timer(2 ** 32, () => fired++)
  const cancel = systemClock.timer(2 ** 31 + 5, () => fired++)
  t.mock.timers.tick(2 ** 31 - 1)
  assert.equal(fired, 0)
  cancel()
  t.mock.timers.tick(2 ** 31 - 1)
  t.mock.timers.tick(1)
  assert.equal(fired, 0)
  t.mock.timers.tick(1)
  assert.equal(fired, 1)
})
