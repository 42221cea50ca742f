import assert from 'node:assert/strict'
import { test } from 'node:test'
import { GopherQueueError } from '../../src/model/errors.ts'
import * as schedule from '../../src/model/schedule.ts'

const minute = 60_000
const at = (minutes: number) => Date.UTC(2026, 0, 1, 12) + minutes * minute
const each: schedule.Ticking = { cron: '* * * * *', timezone: 'UTC', missed: 'skip', nextAt: at(0), owedAt: null }

/** Of a schedule of each minute, looked at half a minute after: the ticks that it owes. */
const plans: [string, Partial<schedule.Ticking>, number, number[]][] = [
  ['one tick', {}, 0, [at(0)]],
  ['the newest of many', {}, 5, [at(5)]],
  ['the newest of many, made up for once', { missed: 'once' }, 5, [at(5)]],
  ['all of them', { missed: 'all' }, 2, [at(0), at(1), at(2)]],
  ['all that were missed, and the refused one first', { missed: 'all', owedAt: at(-1) }, 0, [at(-1), at(0)]],
  ['the refused one, while no newer one is due', { owedAt: at(0), nextAt: at(0) + 1000 }, 0, [at(0)]],
]

for (const [name, change, minutes, ticks] of plans)
  test(`a schedule owes ${name}`, () => {
    const row = { ...each, ...change }
    const now = at(minutes) + minute / 2
    const plan = schedule.planOf(row, now)
    assert.deepEqual([plan.ticks, plan.next], [ticks, at(minutes + 1)])
    assert.ok(schedule.isPlanOf(plan, row))
    assert.ok(!schedule.isPlanOf(plan, { ...row, cron: '0 * * * *' }))
    assert.deepEqual([schedule.isOutdated(plan, now), schedule.isOutdated(plan, at(minutes + 1))], [false, row.missed !== 'all']) // biome-ignore format: pairs
    assert.equal(schedule.isOutdated(plan, plan.ticks.at(-1)! - 1), true, 'the wall clock was set back since')
  })

test('a line that cannot be read owes nothing, and says why', () => {
  const plan = schedule.planOf({ ...each, cron: 'never' }, at(0))
  assert.deepEqual([plan.ticks, plan.next, plan.unreadable?.code], [[], null, 'INVALID_ARGUMENT'])
})

test('a refused tick that a newer one replaces is lost, where missed ticks are skipped', () => {
  const replaced = (change: Partial<schedule.Ticking>, minutes: number) => {
    const row = { ...each, owedAt: at(0), ...change }
    return schedule.replacedTick(row, schedule.planOf(row, at(minutes)))
  }
  assert.deepEqual([replaced({}, 5), replaced({}, 0), replaced({ missed: 'once' }, 5)], [at(0), null, null])
  assert.equal(replaced({ owedAt: null }, 5), null)
})

/** Ms after the tick, whether its last job still lives, and what becomes of it. */
const fates: [Partial<schedule.Ticking>, number, boolean, string][] = [
  [{}, 0, false, 'due'],
  [{}, 59_999, false, 'due'],
  [{}, 60_000, false, 'skipped'],
  [{ owedAt: at(0) }, 60_000, false, 'lost'],
  [{ missed: 'once' }, 60_000, false, 'due'],
  [{ missed: 'all' }, 60_000, false, 'due'],
  [{}, 0, true, 'skipped'],
  [{ missed: 'all' }, 60_000, true, 'skipped'],
]

for (const [change, late, overlaps, expected] of fates)
  test(`a tick of ${JSON.stringify(change)}, ${late} ms late${overlaps ? ', beside its last job' : ''}, is ${expected}`, () =>
    assert.equal(schedule.fateOf(at(0), { ...each, ...change }, overlaps, at(0) + late), expected))

test('a want of room ends by itself, another refusal does not', () => {
  const ends = (['QUEUE_FULL', 'STORAGE_FULL', 'INVALID_ARGUMENT'] as const).map((code) =>
    schedule.endsByItself(new GopherQueueError(code, '')),
  )
  assert.deepEqual(ends, [true, true, false])
})

test('where a schedule stands after some of its ticks', () => {
  const plan = schedule.planOf({ ...each, missed: 'all' }, at(2))
  const after = (tried: number, refused: boolean, now = at(2), last: { tick: number; at: number } | null = null) =>
    schedule.standingAfter(plan, tried, refused, now, last)
  const none = { owedAt: null, left: [] }
  assert.deepEqual(after(3, false), { lastAt: at(2), nextAt: at(3), ...none })
  assert.deepEqual(after(1, false), { lastAt: at(0), nextAt: at(1), owedAt: null, left: [at(1), at(2)] })
  assert.deepEqual(after(0, false), { lastAt: null, nextAt: at(0), owedAt: null, left: [at(0), at(1), at(2)] })
  // Refused: again after a second, however old it is; then each time after twice as long, and no later than the next tick.
  assert.deepEqual(after(3, true), { lastAt: at(1), nextAt: at(2) + 1000, owedAt: at(2), left: [] })
  assert.equal(after(1, true).nextAt, at(2) + 1000)
  assert.equal(after(1, true, at(2), { tick: at(0), at: at(2) - 4000 }).nextAt, at(2) + 8000)
  assert.equal(after(2, true, at(2), { tick: at(0), at: at(2) - 4000 }).nextAt, at(2) + 1000, 'one before it was taken')
  assert.equal(after(3, true, at(3) - 1).nextAt, at(3))
})

test('ticks that passed before a look are missed at any age: one job of the newest, or one each', () => {
  const ticksOf = (missed: schedule.Ticking['missed']) =>
    schedule
      .planOf({ ...each, cron: '*/2 * * * * *', missed }, at(0) + 20_000)
      .ticks.map((tick) => (tick - at(0)) / 1000)
  assert.deepEqual([ticksOf('skip'), ticksOf('once')], [[20], [20]])
  assert.deepEqual(ticksOf('all'), [0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20])
})
