import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type ActiveJob, GopherQueue, type ScheduleOptions } from '../../src/index.ts'
import { newestTimes } from '../../src/model/cron.ts'
import { EngineStore } from '../../src/testing/store.ts'
import { meteredStore } from '../support/metered.ts'

const start = Date.UTC(2030, 0, 1)
const minute = 60_000
const day = 1440 * minute

/** A worker that takes nothing off the queue, and one schedule of each minute. */
async function scheduled(options: ScheduleOptions = {}, store = new EngineStore()) {
  const queue = new GopherQueue(store, store.clock)
  queue.define('other', { queue: 'elsewhere' }, () => undefined)
  queue.work()
  await queue.schedule('s', '* * * * *', 'report', null, options)
  const ticks = async () => {
    const { jobs } = await queue.jobs({ type: 'report', order: 'oldest', limit: 1000 })
    return jobs.map(({ tick }) => (tick! - start) / minute)
  }
  const problem = async () => (await queue.schedules())[0]!.problem
  return { queue, store, ticks, problem }
}

test("missed 'once': two days down are one job, of the newest tick", async () => {
  const { store, ticks, queue } = await scheduled({ missed: 'once' })
  store.clock.advance(2 * day + 1000)
  store.advance(0)
  assert.deepEqual(await ticks(), [2880])
  assert.equal((await queue.schedules())[0]!.nextAt, start + 2881 * minute)
})

test("missed 'all': the newest 1,000, oldest first", async () => {
  const { store, ticks } = await scheduled({ missed: 'all' })
  store.clock.advance(2 * day + 1000)
  store.advance(0)
  assert.deepEqual(
    await ticks(),
    Array.from({ length: 1000 }, (_, i) => 1881 + i),
  )
  store.advance(minute)
  assert.equal((await ticks()).length, 1000, 'a page')
})

for (const [missed, down, taken] of [
  ['once', 2 * day + 1000, [2880]],
  ['skip', 2 * day + 1000, [2880]],
  ['skip', 2 * day - 1, [2879]],
  ['all', 3 * minute + 1000, [1, 2, 3]],
] as const)
  test(`a deploy after ${down} ms changes the line, missed '${missed}': what the old one owed is taken`, async () => {
    const { queue, store, ticks } = await scheduled({ missed })
    store.clock.advance(down) // nobody has looked yet
    await queue.schedule('s', '0 4 * * *', 'report', null, { missed })
    assert.deepEqual(await ticks(), taken)
    await queue.schedule('s', '0 5 * * *', 'report', null, { missed })
    assert.deepEqual(await ticks(), taken)
  })

test('a tick that was refused is lost when its line is changed, and that is told', async () => {
  const { queue, store, ticks } = await scheduled({ missed: 'once', queue: 'full' })
  const warnings: string[] = []
  queue.on('warning', (warning) => warnings.push(String(warning)))
  await queue.configure('full', { maxDepth: 1 })
  await queue.submit('other', null, { queue: 'full' })
  store.advance(minute)
  await queue.schedule('s', '0 4 * * *', 'report', null, { missed: 'once', queue: 'full' })
  await new Promise(setImmediate)
  assert.deepEqual(await ticks(), [])
  assert.match(warnings.join(), /QUEUE_FULL|Schedule 's'/)
})

for (const [schedules, down, missed] of [
  [50, 2 * day, 'once'],
  [5, 2 * day, 'all'],
  [500, 7 * day, 'once'],
] as const)
  test(`${schedules} schedules of each minute, missed '${missed}': the lock is held for moments only`, async () => {
    const { store, longest, sql } = meteredStore()
    const { queue } = await scheduled({ missed }, store)
    sql(`WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${schedules - 1})
         INSERT INTO gq_schedules (name, cron, timezone, spec, payload, missed, overlap, next_at, defined_at, defined_by)
         SELECT 's' || i, cron, 'Europe/Berlin', spec, payload, missed, overlap, next_at, defined_at, defined_by
         FROM n, gq_schedules WHERE name = 's'`)
    longest()
    store.clock.advance(down)
    const { now } = { now: store.clock.now() }
    const all = schedules * (missed === 'all' ? 1000 : 1)
    const submitted = async () => (await queue.stats()).queues[0]?.totals.submitted ?? 0
    for (let looks = 0; looks < 20_000 && (await submitted()) < all; looks += 10)
      for (let i = 0; i < 10; i++) store.advance(5)
    assert.ok((await submitted()) >= all, `${await submitted()} jobs`)
    assert.ok(store.clock.now() - now < 5 * minute, 'and it does not take for ever')
    assert.ok(longest() < 10, 'ms')
  })

test('the handler learns its tick, and a job of no schedule has none', async () => {
  const store = new EngineStore()
  const queue = new GopherQueue(store, store.clock)
  const seen: ActiveJob['tick'][] = []
  queue.define('report', {}, ({ tick }) => void seen.push(tick))
  queue.work()
  await queue.schedule('s', '*/10 * * * *', 'report', null)
  await queue.submit('report', null)
  store.advance(10 * minute + 1000) // it comes late
  await store.close().catch(() => undefined)
  assert.deepEqual(seen, [null, start + 10 * minute])
})

for (const [missed, after, expected] of [
  ['once', 10_000, [1]],
  ['once', 5 * minute, [6]],
  ['all', 3 * minute, [1, 2, 3, 4]],
  ['skip', 10_000, [1]],
  ['skip', 5 * minute, [6]],
] as const)
  test(`a tick that meets QUEUE_FULL is tried again, missed '${missed}', room after ${after} ms`, async () => {
    const { queue, store, ticks, problem } = await scheduled({ missed })
    const first = await queue.submit('blocker', null)
    await queue.configure('default', { maxDepth: 1 })
    store.advance(minute)
    assert.deepEqual(await ticks(), [])
    assert.deepEqual(await problem().then((known) => [known?.code, known?.at]), ['QUEUE_FULL', start + minute])
    for (let passed = 0; passed < after; passed += 1000) store.advance(1000)
    assert.deepEqual(await ticks(), [])
    await queue.configure('default', { maxDepth: null })
    await queue.cancel(first.id)
    for (let passed = 0; passed < minute; passed += 1000) {
      store.advance(1000)
      if ((await ticks()).length > 0) break
    }
    assert.deepEqual(await ticks(), expected)
    assert.equal(await problem(), null)
    assert.ok((await queue.schedules())[0]!.nextAt! > store.clock.now())
  })

test("missed 'skip': a tick that found no room within its minute is lost, and that is told", async () => {
  const { queue, store, ticks } = await scheduled({ missed: 'skip' })
  const warnings: unknown[] = []
  store.onEvent((event) => event.event === 'tickLost' && warnings.push([event.code, event.tick - start]))
  await queue.submit('blocker', null)
  await queue.configure('default', { maxDepth: 1 })
  store.advance(minute)
  assert.deepEqual([await ticks(), warnings], [[], []])
  store.advance(minute)
  assert.deepEqual([await ticks(), warnings], [[], [['QUEUE_FULL', minute]]])
})

test('a refused tick does not keep the process busy', async () => {
  const { queue, store } = await scheduled()
  await queue.submit('blocker', null)
  await queue.configure('default', { maxDepth: 1 })
  store.advance(minute)
  assert.ok(store.untilDue >= 250, 'ms')
})

test('a line without a next tick is refused; one that has ended may be defined again', async () => {
  const { queue, store } = await scheduled()
  for (const cron of ['0 0 30 2 *', '0 0 31 4,6 *', '2029-01-01T00:00:00'])
    await assert.rejects(queue.schedule('never', cron, 'report', null), { code: 'INVALID_ARGUMENT' }, cron)
  await queue.schedule('once', '2030-01-02T00:00:00', 'report', null)
  store.advance(day)
  assert.equal((await queue.schedules()).find(({ name }) => name === 'once')!.nextAt, null)
  await queue.schedule('once', '2030-01-02T00:00:00', 'report', null)
})

test('a line that plain SQL made unreadable is told, and the others tick on', async () => {
  const { store, longest, sql } = meteredStore()
  const { queue, ticks } = await scheduled({}, store)
  await queue.schedule('bad', '* * * * *', 'report', null)
  sql(`UPDATE gq_schedules SET cron = 'nonsense' WHERE name = 'bad'`)
  store.advance(minute)
  assert.deepEqual(await ticks(), [1])
  const [bad] = await queue.schedules()
  assert.deepEqual([bad?.name, bad?.problem?.code, bad?.nextAt], ['bad', 'INVALID_ARGUMENT', null])
  assert.ok(longest() < 10, 'ms')
})

test('two days of a line that a change of the clocks skips: each tick once', async () => {
  const store = new EngineStore()
  const { queue } = await scheduled({}, store)
  await queue.removeSchedule('s')
  store.clock.advance(Date.UTC(2030, 2, 30, 12) - store.clock.now())
  store.tick()
  await queue.schedule('spring', '0,30 2 * * *', 'report', null, { timezone: 'Europe/Berlin', missed: 'all' })
  for (let hours = 0; hours < 36; hours++) store.advance(60 * minute)
  const { jobs } = await queue.jobs({ type: 'report', order: 'oldest' })
  const until = store.clock.now()
  assert.deepEqual(
    jobs.map(({ tick }) => tick),
    newestTimes('0,30 2 * * *', 'Europe/Berlin', 10, until - 36 * 60 * minute, until),
  )
  assert.equal(jobs[0]!.tick, Date.UTC(2030, 2, 31, 1))
  assert.equal(jobs.length, 2)
})
