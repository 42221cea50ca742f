import assert from 'node:assert/strict'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { type TestContext, test } from 'node:test'
import { GopherQueue } from '../../src/index.ts'
import { Example, folderOf } from './support.ts'
import '../../examples/from-source.ts'

const { createShop, SoldOut, shop } = await import('../../examples/orders/shop.ts')

/** Orders without their job, and jobs without their order. */
const alone = `SELECT o.id AS "order", j.id AS job FROM orders o
  FULL JOIN gq_jobs j ON j.id = o.job AND j.payload ->> 'order' = o.id
  WHERE o.id IS NULL OR j.id IS NULL`

function start(t: TestContext, folder: string, pieces: number): Example {
  return new Example(t, 'orders', folder, { PIECES: String(pieces) })
}

test('npm run example orders: sells all there is, and ships all that is sold', async (t) => {
  const { code, output, complaints } = await start(t, folderOf(), 20).ended()
  assert.deepEqual([code, complaints], [0, ''])
  assert.equal(output.match(/^order \d+ is stored, and job \d+ that ships it$/gm)?.length, 20)
  assert.match(output, /^tea is sold out: that order was rolled back/m)
  assert.match(output, /^placed now: 20; orders: 20, shipped: 20, jobs that succeeded: 20$/m)
})

test('an order that is rolled back leaves no job, and the next one takes nothing from it', async () => {
  const file = join(folderOf(), 'shop.db')
  const queue = await GopherQueue.open(file)
  const db = new DatabaseSync(file, { timeout: 5000 })
  createShop(db)
  db.exec(`INSERT INTO stock VALUES ('tea', 1), ('cake', 1)`)
  const { place } = shop(queue, db)
  place('tea')
  assert.throws(() => place('tea'), SoldOut)
  place('cake')
  assert.deepEqual(
    db
      .prepare('SELECT item FROM orders ORDER BY id')
      .all()
      .map(({ item }) => item),
    ['tea', 'cake'],
  )
  assert.equal((await queue.jobs()).jobs.length, 2)
  assert.deepEqual(db.prepare(alone).all(), [])
  assert.deepEqual({ ...db.prepare('SELECT SUM(pieces) AS left FROM stock').get() }, { left: 0 })
  db.close()
  await queue.close()
})

test('killed among its orders, each one and its job are there together, or neither is', async (t) => {
  const folder = folderOf()
  const told: [order: number, job: number][] = []
  for (const orders of [1, 20, 60]) {
    const example = start(t, folder, 100_000)
    await example.prints(new RegExp(`(order \\d+ is stored.*\\n){${orders}}`))
    assert.equal(await example.end('SIGKILL'), 'SIGKILL')
    for (const [, order, job] of example.output.matchAll(/^order (\d+) is stored, and job (\d+) that ships it$/gm))
      told.push([Number(order), Number(job)])
    using db = new DatabaseSync(join(folder, 'shop.db'))
    assert.deepEqual(db.prepare(alone).all(), [])
    const stored = db.prepare('SELECT id, job FROM orders').all()
    const jobs = new Map(stored.map(({ id, job }) => [id, job]))
    for (const [order, job] of told) assert.equal(jobs.get(order), job)
    const { sold } = db.prepare('SELECT 100000 - pieces AS sold FROM stock').get()!
    assert.equal(sold, stored.length)
  }
  using db = new DatabaseSync(join(folder, 'shop.db'))
  db.exec('UPDATE stock SET pieces = 1')
  const { code, output, complaints } = await start(t, folder, 1).ended()
  assert.deepEqual([code, complaints], [0, ''])
  const [, orders, shipped, succeeded] = output.match(/orders: (\d+), shipped: (\d+), jobs that succeeded: (\d+)$/m)!
  assert.ok(Number(orders) > told.length)
  assert.deepEqual([shipped, succeeded], [orders, orders])
})
