import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { DatabaseSync } from 'node:sqlite'
import { GopherQueue, nextTimes } from 'gopherqueue'
import { createSales, nightlyReport } from './report.ts'

// The nightly report without the night: its line is due every second here. Ends after two runs.

const [next] = nextTimes('0 3 * * *', 'Europe/Berlin', 1, Date.now())
console.log(`At '0 3 * * *' in Berlin it would run at ${new Date(next!).toISOString()}; here it runs every second.`)

const db = new DatabaseSync('./shop.db', { timeout: 5000 })
await using queue = await GopherQueue.open('./shop.db') // the queue's tables lie beside the shop's
createSales(db)
const sale = db.prepare('INSERT INTO sales (at, item, cents) VALUES (?, ?, ?)')
for (const daysAgo of [4, 2, 0])
  for (const [item, cents] of [
    ['tea', 450],
    ['cake', 390],
    ['tea', 450],
  ] as const)
    sale.run(Date.now() - daysAgo * 86_400_000, item, cents)

await nightlyReport(queue, db, './reports', '* * * * * *')
queue.work()
for (let run = 1; run <= 2; run++) {
  const [{ id }, result] = (await once(queue, 'succeeded')) as [{ id: number }, string]
  const files = JSON.parse(result) as string[]
  console.log(`run ${run} (job ${id}): ${files.length} reports`)
  for (const file of files) console.log(`${file}\n${readFileSync(file, 'utf8')}`)
}
await queue.close()
db.close()
