import { DatabaseSync } from 'node:sqlite'
import { setImmediate as turn } from 'node:timers/promises'
import { GopherQueue } from 'gopherqueue'
import { createShop, SoldOut, shop } from './shop.ts'

// Sells tea until none is left, while a worker ships. Kill it at any moment and start it again: no order is without its
// job, no job without its order.

const queue = await GopherQueue.open('./shop.db')
const db = new DatabaseSync('./shop.db', { timeout: 5000 }) // ms to wait for another's lock
createShop(db)
db.prepare(`INSERT OR IGNORE INTO stock VALUES ('tea', ?)`).run(Number(process.env.PIECES ?? 50))
const { ship, place } = shop(queue, db)
queue.work()

let placed = 0
try {
  for (;;) {
    const { order, job } = place('tea')
    console.log(`order ${order} is stored, and job ${job} that ships it`)
    placed++
    await turn() // lets the worker have a go
  }
} catch (error) {
  if (!(error instanceof SoldOut)) throw error
  console.log(`${error.message}: that order was rolled back, and its job with it`)
}

for (const { job } of db.prepare('SELECT job FROM orders').all()) await ship.wait(Number(job))
const { orders, shipped } = db.prepare('SELECT COUNT(*) AS orders, COUNT(shipped_at) AS shipped FROM orders').get()!
const [counts] = (await queue.stats()).queues
console.log(
  `placed now: ${placed}; orders: ${orders}, shipped: ${shipped}, jobs that succeeded: ${counts?.counts.succeeded}`,
)
await queue.close()
db.close()
