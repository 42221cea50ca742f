import assert from 'node:assert/strict'
import { test } from 'node:test'
import { countedAt, roomBeside, type Starts } from '../../src/model/rate.ts'

test('a start counts from the end of its thousandth of the period, never from before it', () => {
  const counted = [[1, 7, 7], [1000, 7, 7], [1001, 7, 8], [60_000, 0, 0], [60_000, 1, 60], [60_000, 60, 60], [86_400_000, 1, 86_400]] // biome-ignore format: a table
  for (const [per, now, expected] of counted) assert.equal(countedAt({ max: 1, per: per! }, now!), expected, `${per}`)
})

test('the room of a rate, and when there is some again', () => {
  const rate = { max: 3, per: 1000 }
  const starts = (...some: [at: number, starts: number][]): Starts[] => some.map(([at, starts]) => ({ at, starts }))
  const rooms: [Starts[], number, number | null][] = [
    [[], 3, null],
    [starts([10, 2]), 1, null],
    [starts([10, 3]), 0, 1010],
    [starts([30, 1], [20, 1], [10, 1]), 0, 1010],
    // The rate was lowered: more than it allows are in the period, and one of them that leaves makes no room.
    [starts([30, 2], [20, 3], [10, 7]), 0, 1020],
  ]
  for (const [some, left, again] of rooms) assert.deepEqual(roomBeside(rate, some), { left, again })
})

/** A clock that goes on in steps of all sizes, and starts whenever there is room. */
test('in no interval of the period are there more starts than the rate, and each is used as far as a thousandth', () => {
  for (const [max, per] of [
    [1, 1],
    [3, 1000],
    [5, 1001],
    [7, 60_000],
  ] as const) {
    // biome-ignore format: a table
    const rate = { max, per }
    const [counted, begun]: [Starts[], number[]] = [[], []]
    let steps = 1
    for (let now = 1; begun.length < 500; now += 1 + ((steps++ * 7919) % Math.ceil(per / 3))) {
      const { left } = roomBeside(rate, counted.filter(({ at }) => at > now - per).reverse()) // biome-ignore format: one call
      const starts = steps % 3 === 0 ? left : Math.min(1, left)
      if (starts > 0) counted.push({ at: countedAt(rate, now), starts })
      for (let i = 0; i < starts; i++) begun.push(now)
    }
    for (const [i, at] of begun.entries()) assert.ok(i < max || at - begun[i - max]! >= per, `${max} in ${per}: ${at}`)
  }
})
