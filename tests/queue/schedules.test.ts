import assert from 'node:assert/strict'
import { test } from 'node:test'
import { GopherQueue, nextTimes, type ScheduleOptions } from '../../src/index.ts'
import { connect } from '../../src/store/sqlite/connection.ts'
import { Db } from '../../src/store/sqlite/db.ts'
import { VirtualClock } from '../../src/testing/clock.ts'
import { EngineStore } from '../../src/testing/store.ts'
import { temporaryFolder } from '../support/folder.ts'

const start = Date.UTC(2030, 0, 1)
const minute = 60_000
const hour = 60 * minute
const iso = (instants: number[]) => instants.map((instant) => new Date(instant).toISOString())

/** A worker that takes nothing off the queue, so that what the ticks submit can be counted. */
function working(path?: string, clock?: VirtualClock) {
  const store = new EngineStore(path, clock)
  const queue = new GopherQueue(store, store.clock)
  queue.define('other', { queue: 'elsewhere' }, () => undefined)
  return { queue, store, worker: queue.work() }
}

async function ticks(queue: GopherQueue): Promise<unknown[]> {
  const { jobs } = await queue.jobs({ order: 'oldest', limit: 1000 })
  return jobs.map((job) => job.createdAt - start)
}

async function scheduled(cron: string, options?: ScheduleOptions) {
  const at = working()
  await at.queue.schedule('s', cron, 'report', { month: 1 }, options)
  return at
}

test('a job at each tick, of the given type, payload and policy', async () => {
  const { queue, store } = await scheduled('*/10 * * * *', { priority: 'low', maxAttempts: 3 })
  for (let i = 0; i < 30; i++) store.advance(minute)
  assert.deepEqual(await ticks(queue), [10 * minute, 20 * minute, 30 * minute])
  const job = (await queue.jobs()).jobs[0]!
  assert.deepEqual(
    [job.type, job.payload, job.priority, job.maxAttempts, job.queue],
    ['report', { month: 1 }, 'low', 3, 'default'],
  )
  const [schedule] = await queue.schedules()
  assert.deepEqual(
    [schedule?.nextAt, schedule?.lastAt, schedule?.lastJob],
    [start + 40 * minute, start + 30 * minute, job.id],
  )
})

for (const [missed, expected] of [
  ['once', [5 * hour]],
  ['skip', []],
  ['all', Array(4).fill(5 * hour)],
] as const)
  test(`ticks that nobody was there for, missed: '${missed}'`, async () => {
    const { queue, store } = await scheduled('30 * * * *', { missed })
    store.clock.advance(5 * hour - minute) // nobody looks
    store.advance(minute)
    assert.deepEqual(await ticks(queue), missed === 'all' ? [...expected, 5 * hour] : expected)
    store.advance(30 * minute)
    assert.equal((await ticks(queue)).at(-1), 5.5 * hour, 'the next tick is on time again')
  })

test('overlap skip: no job beside the one that has not ended', async () => {
  const { queue, store } = await scheduled('* * * * *', { overlap: 'skip' })
  for (let i = 0; i < 5; i++) store.advance(minute)
  assert.deepEqual(await ticks(queue), [minute])
  await queue.cancel((await queue.jobs()).jobs[0]!.id)
  store.advance(minute)
  assert.deepEqual(await ticks(queue), [minute, 6 * minute])
})

test('paused, it does not tick; resumed, it does not make up for it', async () => {
  const { queue, store } = await scheduled('* * * * *')
  await queue.pauseSchedule('s')
  store.advance(10 * minute)
  assert.deepEqual(await ticks(queue), [])
  await queue.resumeSchedule('s')
  store.advance(minute)
  assert.deepEqual(await ticks(queue), [11 * minute])
  await queue.removeSchedule('s')
  store.advance(10 * minute)
  assert.equal((await ticks(queue)).length, 1)
  await assert.rejects(queue.pauseSchedule('s'), { code: 'NOT_FOUND' })
})

test('defined again on deploy: the same line goes on, another one starts anew', async () => {
  const { queue, store } = await scheduled('0 * * * *')
  store.advance(30 * minute)
  await queue.schedule('s', '0 * * * *', 'report', { month: 2 })
  store.advance(30 * minute)
  assert.deepEqual((await queue.jobs()).jobs.map((job) => job.payload), [{ month: 2 }]) // biome-ignore format: short
  await queue.schedule('s', '15 * * * *', 'report', { month: 2 })
  assert.equal((await queue.schedules())[0]?.nextAt, start + hour + 15 * minute)
})

test('daylight saving: a time that does not exist comes once, an hour that comes twice ticks once', () => {
  const spring = nextTimes('30 2 * * *', 'Europe/Berlin', 3, Date.UTC(2030, 2, 30, 12))
  assert.deepEqual(iso(spring), ['2030-03-31T01:00:00.000Z', '2030-04-01T00:30:00.000Z', '2030-04-02T00:30:00.000Z'])
  const autumn = nextTimes('30 2 * * *', 'Europe/Berlin', 3, Date.UTC(2030, 9, 26, 12))
  assert.deepEqual(iso(autumn), ['2030-10-27T00:30:00.000Z', '2030-10-28T01:30:00.000Z', '2030-10-29T01:30:00.000Z'])
})

test('what cannot be a schedule is refused', async () => {
  const { queue } = working()
  for (const [cron, options] of [
    ['nonsense', {}],
    ['61 * * * *', {}],
    ['* * * * *', { timezone: 'Mars/Olympus' }],
    ['* * * * *', { missed: 'never' }],
    ['* * * * *', { delay: 5 }],
  ] as [string, ScheduleOptions][])
    await assert.rejects(queue.schedule('s', cron, 'report', null, options), { code: 'INVALID_ARGUMENT' }, cron)
  assert.deepEqual(await queue.schedules(), [])
})

test('two processes with the same 50 schedules: each tick of a month once, over the change to summer time', async () => {
  using folder = temporaryFolder()
  const [first, last] = [Date.UTC(2030, 2, 1), Date.UTC(2030, 3, 1)]
  const clock = new VirtualClock(first)
  const two = [working(folder.file('jobs.db'), clock), working(folder.file('jobs.db'), clock)]
  const zones = ['UTC', 'America/New_York', 'Europe/Berlin']
  const crons = Array.from({ length: 50 }, (_, i) => ({
    cron: `${i} ${i % 24} * * *`,
    timezone: zones[((i % 24) + 2 * Math.floor(i / 24)) % 3]!, // two in the morning also where that hour is left out
  }))
  for (const { queue } of two)
    for (const [i, { cron, timezone }] of crons.entries())
      await queue.schedule(`s${i}`, cron, 'report', i, { timezone })
  while (clock.now() < last) {
    clock.advance(hour)
    for (const { store } of clock.now() % (2 * hour) ? two : two.toReversed()) store.advance(0)
  }
  const { queue } = two[0]!
  const keys: (string | null)[] = []
  for (let cursor: number | null = null; cursor !== null || keys.length === 0; ) {
    const page = await queue.jobs({ cursor, limit: 1000 })
    keys.push(...page.jobs.map((job) => job.idempotencyKey))
    cursor = page.next
  }
  const expected = crons.flatMap(({ cron, timezone }, i) =>
    nextTimes(cron, timezone, 40, first).flatMap((tick) => (tick <= last ? [`schedule s${i} ${tick}`] : [])),
  )
  assert.ok(
    expected.includes(`schedule s2 ${Date.UTC(2030, 2, 31, 1)}`),
    '02:02 of that Sunday in Berlin does not exist',
  )
  assert.deepEqual(keys.toSorted(), expected.toSorted())
  for (const { queue } of two) await queue.close()
})

/** Processes on one file and one clock, of which each knows which others run, or cannot tell. */
function machine(folder: { file(name: string): string }, canTell = true) {
  const clock = new VirtualClock()
  const alive = new Set<number>()
  const isAlive = ({ pid }: { pid: number | null }) => (canTell ? alive.has(pid!) : null)
  let pid = 0
  return {
    clock,
    start(work = true) {
      const me = { host: 'here', pid: ++pid, pid_started: `${pid}`, boot: 'once', pid_space: 'one' }
      const path = folder.file('jobs.db')
      const open = () => connect(path, clock, () => new Db(path, clock, { me, isAlive }))
      const store = new EngineStore(path, clock, open)
      const queue = new GopherQueue(store, clock)
      queue.define('other', {}, () => undefined)
      alive.add(pid)
      const own = pid
      if (work) queue.work()
      const define = () => queue.schedule('s', '0 * * * *', 'report', null)
      const inCode = async () => (await queue.schedules())[0]!.inCode
      const stop = () => queue.close().then(() => alive.delete(own))
      return { store, define, inCode, stop }
    },
  }
}

for (const canTell of [true, false])
  test(`taken out of the code, it is seen to be, and ticks on (${canTell ? 'same host' : 'a container each'})`, async () => {
    using folder = temporaryFolder()
    const { start, clock } = machine(folder, canTell)
    const old = start()
    await old.define()
    assert.equal(await old.inCode(), true)
    clock.advance(minute)
    await old.stop()
    const looks = start(false)
    assert.equal(await looks.inCode(), true, 'nobody works: nothing is known of what would run')
    const next = start()
    clock.advance(minute)
    assert.deepEqual([await next.inCode(), await looks.inCode()], [false, false])
    next.store.advance(hour)
    assert.ok((await next.store.call('schedules', {})).schedules[0]!.lastAt)
    await next.define()
    assert.equal(await looks.inCode(), true)
    for (const one of [looks, next]) await one.stop()
  })

test('one of several processes defines it: it is in code while that one runs, whoever starts later', async () => {
  using folder = temporaryFolder()
  const { start, clock } = machine(folder)
  const webs = [start(false), start(false)]
  for (const web of webs) await web.define()
  clock.advance(minute)
  const worker = start()
  assert.equal(await worker.inCode(), true)
  await webs[1]!.stop()
  assert.equal(await worker.inCode(), true, 'the other one has it too')
  await webs[0]!.stop()
  assert.equal(await worker.inCode(), false)
  await worker.stop()
})

test('where it cannot be told who runs, whoever defined it and works counts', async () => {
  using folder = temporaryFolder()
  const { start, clock } = machine(folder, false)
  const defines = start(false)
  await defines.define()
  clock.advance(minute)
  await defines.store.call('register', { name: 'w', sources: [], slots: 1 }) // it works from here on
  const other = start()
  assert.equal(await other.inCode(), true)
  for (const one of [defines, other]) await one.stop()
})
