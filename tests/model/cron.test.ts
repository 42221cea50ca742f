import assert from 'node:assert/strict'
import { test } from 'node:test'
import { newestTimes, nextTime, nextTimes } from '../../src/model/cron.ts'

const at = (text: string) => Date.parse(`${text}:00.000Z`)
const texts = (ticks: number[]) => ticks.map((tick) => new Date(tick).toISOString().slice(0, 16))
const ticks = (cron: string, zone: string, count: number, after: string) =>
  texts(nextTimes(cron, zone, count, at(after)))

/** The ticks of the day on which the clocks are put forward, and of the first of the day after, in UTC. */
const gaps: [zone: string, after: string, cron: string, expected: string[]][] = [
  ['Europe/Berlin', '2030-03-31T00:00', '30 2 * * *', ['03-31T01:00', '04-01T00:30']],
  ['Europe/Berlin', '2030-03-31T00:00', '0,30 2 * * *', ['03-31T01:00', '04-01T00:00']],
  ['Europe/Berlin', '2030-03-31T00:00', '*/15 2 * * *', ['03-31T01:00', '04-01T00:00']],
  ['Europe/Berlin', '2030-03-31T00:00', '*/20 30 2 * * *', ['03-31T01:00', '04-01T00:30']],
  ['Europe/Berlin', '2030-03-31T00:00', '15,45 2,4 * * *', ['03-31T01:00', '03-31T02:15', '03-31T02:45']],
  ['Europe/Berlin', '2030-03-31T00:00', '0 2,3 * * *', ['03-31T01:00', '04-01T00:00']], // three o'clock is that instant
  ['Europe/Berlin', '2030-03-31T00:00', '30 1-3 * * *', ['03-31T00:30', '03-31T01:00', '03-31T01:30']],
  ['Europe/Berlin', '2030-03-31T00:00', '30 */2 * * *', ['03-31T01:00', '03-31T02:30']],
  ['Europe/Berlin', '2030-03-31T00:00', '*/30 * * * *', ['03-31T00:30', '03-31T01:00', '03-31T01:30']],
  ['Europe/Berlin', '2030-03-31T00:00', '20 * * * *', ['03-31T00:20', '03-31T01:20', '03-31T02:20']],
  ['Europe/Berlin', '2030-03-31T01:00', '0,30 2 * * *', ['04-01T00:00']], // it was taken at that very instant
  ['Europe/Berlin', '2030-03-31T00:00', '0,30 2 31 3 *', ['03-31T01:00']],
  ['America/New_York', '2030-03-10T06:00', '0,30 2 * * *', ['03-10T07:00', '03-11T06:00']],
  ['America/Sao_Paulo', '2018-11-04T02:00', '0,30 0 * * *', ['11-04T03:00', '11-05T02:00']], // midnight is left out
  ['Australia/Lord_Howe', '2030-10-05T15:00', '0,15 2 * * *', ['10-05T15:30', '10-06T15:00']], // half an hour is
  ['Australia/Lord_Howe', '2030-10-05T14:00', '0 * * * *', ['10-05T14:30', '10-05T16:00', '10-05T17:00']],
  ['Australia/Lord_Howe', '2030-10-05T15:00', '15,45 2 * * *', ['10-05T15:30', '10-05T15:45', '10-06T15:15']],
]
for (const [zone, after, cron, expected] of gaps)
  test(`clocks put forward in ${zone}, after ${after}: '${cron}'`, () => {
    const found = ticks(cron, zone, expected.length, after)
    assert.deepEqual(
      found,
      expected.map((tick) => `${after.slice(0, 5)}${tick}`),
    )
  })

/** The same where they are put back. */
const overlaps: [zone: string, after: string, cron: string, expected: string[]][] = [
  ['Europe/Berlin', '2030-10-26T23:00', '30 2 * * *', ['10-27T00:30', '10-28T01:30']],
  ['Europe/Berlin', '2030-10-26T23:00', '0,30 2 * * *', ['10-27T00:00', '10-27T00:30', '10-28T01:00']],
  ['Europe/Berlin', '2030-10-27T01:10', '0,30 2 * * *', ['10-28T01:00']], // within the hour that came again
  ['Europe/Berlin', '2030-10-26T23:00', '30 1-3 * * *', ['10-26T23:30', '10-27T00:30', '10-27T02:30']],
  ['Europe/Berlin', '2030-10-26T23:40', '*/30 * * * *', ['10-27T00:00', '10-27T00:30', '10-27T01:00', '10-27T01:30']],
  ['America/New_York', '2030-11-03T04:50', '0,30 1 * * *', ['11-03T05:00', '11-03T05:30', '11-04T06:00']],
  ['Australia/Lord_Howe', '2030-04-06T14:00', '40,50 1 * * *', ['04-06T14:40', '04-06T14:50', '04-07T15:10']],
]
for (const [zone, after, cron, expected] of overlaps)
  test(`clocks put back in ${zone}, after ${after}: '${cron}'`, () => {
    const found = ticks(cron, zone, expected.length, after)
    assert.deepEqual(
      found,
      expected.map((tick) => `${after.slice(0, 5)}${tick}`),
    )
  })

test('a day that a zone leaves out is not made up for', () => {
  const found = ticks('30 2 * * *', 'Pacific/Apia', 2, '2011-12-29T00:00')
  assert.deepEqual(found, ['2011-12-29T12:30', '2011-12-30T12:30'])
})

test('a line that ends, and one that never comes', () => {
  assert.equal(nextTime('0 0 30 2 *', 'UTC', 0), null)
  assert.deepEqual(ticks('2030-01-01T00:00:00', 'Europe/Berlin', 5, '2029-01-01T00:00'), ['2029-12-31T23:00'])
  assert.equal(nextTime('2030-01-01T00:00:00', 'Europe/Berlin', at('2030-01-01T00:00')), null)
  assert.deepEqual(ticks('0 0 29 2 *', 'Europe/Berlin', 2, '2026-01-01T00:00'), [
    '2028-02-28T23:00',
    '2032-02-28T23:00',
  ])
})

for (const [cron, after, until] of [
  ['* * * * *', '2030-03-29T00:00', '2030-04-02T12:34'],
  ['0,30 2 * * *', '2030-03-01T00:00', '2030-04-02T12:34'],
  ['*/5 1-3 * * *', '2030-10-20T00:00', '2030-10-27T02:00'],
  ['0 9 * * 1', '2020-01-01T00:00', '2030-10-28T08:00'],
  ['0 0 29 2 *', '2020-01-01T00:00', '2031-10-28T08:00'],
  ['30 2 * * *', '2030-05-01T00:00', '2030-05-01T00:01'],
] as const)
  test(`the newest ticks of '${cron}' are the last of all`, () => {
    const [from, to] = [at(after), at(until)]
    const all = nextTimes(cron, 'Europe/Berlin', 10_000, from).filter((tick) => tick <= to)
    for (const most of [1, 10, 1000])
      assert.deepEqual(newestTimes(cron, 'Europe/Berlin', most, from, to), all.slice(-most), `${most}`)
  })

test('a line has five fields, or six', () => {
  for (const line of ['0 0 * * *', '0 0 0 * * *', ' 0  0 * * * ']) assert.notEqual(nextTime(line, 'UTC', 0), null)
  assert.throws(
    () => nextTime('0 0 0 1 1 * 2030', 'UTC', 0),
    /has 7 fields; a line has five, or six with seconds first/,
  )
  assert.throws(() => nextTime('0 0 * *', 'UTC', 0), /has 4 fields; a line has five, or six with seconds first/)
})
