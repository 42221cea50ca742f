import assert from 'node:assert/strict'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { type TestContext, test } from 'node:test'
import { testQueue } from '../../src/testing/index.ts'
import { Example, folderOf } from './support.ts'
import '../../examples/from-source.ts'

const { createSales, nightlyReport } = await import('../../examples/nightly/report.ts')

/** A shop with one sale at each of these instants, and its report on a clock that starts at `now`. */
async function shop(t: TestContext, now: string, sales: string[]) {
  const db = new DatabaseSync(':memory:')
  createSales(db)
  for (const at of sales) db.prepare(`INSERT INTO sales (at, item, cents) VALUES (?, 'tea', 450)`).run(Date.parse(at))
  const queue = testQueue({ now: new Date(now) })
  t.after(() => queue.close())
  const folder = join(folderOf(), 'reports')
  await nightlyReport(queue, db, folder)
  const runs = async () => {
    const { jobs } = await queue.jobs({ order: 'oldest' })
    return jobs.map(({ state, createdAt, result }) => {
      const days = (result as string[] | null)?.map((file) => file.match(/sales-(.+)\.csv$/)![1])
      return [new Date(createdAt).toISOString(), state, days]
    })
  }
  return { db, queue, folder, runs }
}

test('a night passes: the report of the day that is over is there after 3 in Berlin, and not before', async (t) => {
  const { queue, folder, runs } = await shop(t, '2030-01-10T12:00Z', [
    '2030-01-10T11:00Z',
    '2030-01-10T22:59Z',
    '2030-01-10T23:00Z',
  ])
  await queue.advance('13h')
  assert.deepEqual(await runs(), [])
  await queue.advance('1h')
  assert.deepEqual(await runs(), [['2030-01-11T02:00:00.000Z', 'succeeded', ['2030-01-10']]])
  assert.equal(readFileSync(join(folder, 'sales-2030-01-10.csv'), 'utf8'), 'item,sold,euros\n"tea",2,9.00\n')
  await queue.advance('1d') // the sale at midnight is the next day's
  assert.deepEqual((await runs())[1], ['2030-01-12T02:00:00.000Z', 'succeeded', ['2030-01-11']])
})

test('when clocks go forward it still runs at 3, an hour earlier, and that day has 23 hours', async (t) => {
  const sales = ['2030-03-30T22:59Z', '2030-03-30T23:00Z', '2030-03-31T21:59Z', '2030-03-31T22:00Z']
  const { queue, folder, runs } = await shop(t, '2030-03-29T12:00Z', sales)
  await queue.advance('4d')
  assert.deepEqual(await runs(), [
    ['2030-03-30T02:00:00.000Z', 'succeeded', []],
    ['2030-03-31T01:00:00.000Z', 'succeeded', ['2030-03-30']],
    ['2030-04-01T01:00:00.000Z', 'succeeded', ['2030-03-31']],
    ['2030-04-02T01:00:00.000Z', 'succeeded', ['2030-04-01']],
  ])
  assert.match(readFileSync(join(folder, 'sales-2030-03-31.csv'), 'utf8'), /"tea",2,9\.00/)
})

test('when clocks go back it runs once, and that day has 25 hours', async (t) => {
  const sales = ['2030-10-26T22:00Z', '2030-10-27T22:59Z', '2030-10-27T23:00Z']
  const { queue, folder, runs } = await shop(t, '2030-10-26T12:00Z', sales)
  await queue.advance('2d')
  assert.deepEqual(await runs(), [
    ['2030-10-27T02:00:00.000Z', 'succeeded', []],
    ['2030-10-28T02:00:00.000Z', 'succeeded', ['2030-10-27']],
  ])
  assert.match(readFileSync(join(folder, 'sales-2030-10-27.csv'), 'utf8'), /"tea",2,9\.00/)
})

test('a disk that takes no reports for two nights: the third night makes up for them, by one job', async (t) => {
  const sales = ['2030-01-10T11:00Z', '2030-01-11T11:00Z', '2030-01-12T11:00Z']
  const { queue, folder, runs } = await shop(t, '2030-01-10T12:00Z', sales)
  writeFileSync(folder, 'a file where the folder should be')
  await queue.advance('16h')
  assert.deepEqual(await runs(), [['2030-01-11T02:00:00.000Z', 'dead', undefined]]) // 12 attempts, 10 minutes apart
  await queue.advance('1d')
  rmSync(folder)
  await queue.advance('1d')
  assert.deepEqual((await runs()).slice(1), [
    ['2030-01-12T02:00:00.000Z', 'dead', undefined],
    ['2030-01-13T02:00:00.000Z', 'succeeded', ['2030-01-10', '2030-01-11', '2030-01-12']],
  ])
})

test('a report that was cut off after its file is made again, the same', async (t) => {
  const { db, queue, folder, runs } = await shop(t, '2030-01-10T12:00Z', ['2030-01-10T11:00Z'])
  await queue.advance('1d')
  const file = join(folder, 'sales-2030-01-10.csv')
  const before = readFileSync(file, 'utf8')
  db.exec('DELETE FROM reports') // as if the process had died before it could write this down
  mkdirSync(folder, { recursive: true })
  writeFileSync(`${file}.part`, 'half a rep')
  await queue.advance('1d')
  assert.deepEqual((await runs())[1], ['2030-01-12T02:00:00.000Z', 'succeeded', ['2030-01-10']])
  assert.equal(readFileSync(file, 'utf8'), before)
  assert.deepEqual(readdirSync(folder), ['sales-2030-01-10.csv'])
})

test('npm run example nightly: two runs, the second finds nothing to do', async (t) => {
  const folder = folderOf()
  const { code, output, complaints } = await new Example(t, 'nightly', folder).ended()
  assert.deepEqual([code, complaints], [0, ''])
  assert.match(output, /^At '0 3 \* \* \*' in Berlin it would run at \S+T0[12]:00:00\.000Z/)
  assert.match(
    output,
    /^run 1 \(job \d+\): 2 reports\n(reports\/sales-\d{4}-\d\d-\d\d\.csv\nitem,sold,euros\n"cake",1,3\.90\n"tea",2,9\.00\n\n){2}run 2 \(job \d+\): 0 reports$/m,
  )
  assert.ok(existsSync(join(folder, 'shop.db')))
})
