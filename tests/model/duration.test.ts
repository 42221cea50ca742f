import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { Duration } from '../../src/model/clock.ts'
import { formatMs, toMs } from '../../src/model/duration.ts'

const century = 100 * 365 * 86_400_000

test('durations are milliseconds or a number with a unit', () => {
  const table: [Duration, number][] = [
    [0, 0],
    [250, 250],
    [0.6, 1],
    ['0ms', 0],
    ['500ms', 500],
    ['30s', 30_000],
    ['5m', 300_000],
    ['1.5h', 5_400_000],
    ['7d', 604_800_000],
    ['2w', 1_209_600_000],
    [century, century],
    ['36500d', century],
  ]
  for (const [duration, ms] of table) assert.equal(toMs(duration), ms, String(duration))
})

test('anything else is refused, and the message names the option', () => {
  const refused: unknown[] = [
    -1,
    Number.NaN,
    Number.POSITIVE_INFINITY,
    century + 1,
    '36501d',
    '',
    '5',
    's',
    '5 m',
    '-5m',
  ]
  refused.push('1e3s', '5M', '5min', ' 5m', '5m ', '5m3s', '0x5s', '.5s', '5.s', `${'9'.repeat(400)}d`)
  refused.push(null, undefined, true, {}, [], ['5s'], new Date(0))
  for (const duration of refused)
    assert.throws(() => toMs(duration as Duration, 'delay'), { code: 'INVALID_ARGUMENT', message: /^delay must be / })
})

test('every accepted duration is a whole number of ms from 0 to a century', () => {
  const units = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000, w: 604_800_000 } as const
  const unit = fc.constantFrom(...(Object.keys(units) as (keyof typeof units)[]))
  fc.assert(
    fc.property(fc.nat(5000), unit, (count, name) => {
      const ms = toMs(`${count}${name}`)
      assert.ok(Number.isSafeInteger(ms) && ms >= 0 && ms <= century)
      assert.equal(ms, count * units[name])
    }),
  )
})

test('for people: the two largest units', () => {
  const table: [number, string][] = [
    [0, '0ms'],
    [999, '999ms'],
    [1000, '1s'],
    [61_000, '1m 1s'],
    [3_600_000, '1h'],
    [90_061_000, '1d 1h'],
    [86_405_000, '1d 5s'],
  ]
  for (const [ms, text] of table) assert.equal(formatMs(ms), text)
})
