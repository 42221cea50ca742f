import { mkdir, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { DatabaseSync } from 'node:sqlite'
import type { GopherQueue } from 'gopherqueue'

// A nightly report: at 3 in Berlin, one CSV file for each day that is over and has none yet. Run twice, it changes
// nothing; after nights on which nothing ran, or the disk was full, the next run makes up for all of them.

const timezone = 'Europe/Berlin'

export function createSales(db: DatabaseSync): void {
  db.exec(`
    CREATE TABLE IF NOT EXISTS sales (
      id INTEGER PRIMARY KEY,
      at INTEGER NOT NULL, -- Unix ms
      item TEXT NOT NULL,
      cents INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE IF NOT EXISTS reports (day TEXT PRIMARY KEY, file TEXT NOT NULL) STRICT`)
  db.function('day', { deterministic: true }, (at) => dayOf(Number(at)))
}

/** The job, and the line that runs it. Call it at each start: what the code says is what the file then holds. */
export async function nightlyReport(queue: GopherQueue, db: DatabaseSync, folder: string, cron = '0 3 * * *') {
  const report = queue.define('sales report', { timeout: '10m', backoff: { kind: 'constant', delay: '10m' } }, (job) =>
    writeReports(db, folder, job.createdAt),
  )
  await report.schedule('nightly sales', cron, null, { timezone, missed: 'once', overlap: 'skip' })
  return report
}

/** Writes the reports of all days before that of `now` that have none; answers their files. */
async function writeReports(db: DatabaseSync, folder: string, now: number): Promise<string[]> {
  const days = db
    .prepare('SELECT DISTINCT day(at) AS day FROM sales WHERE day(at) < day(?) EXCEPT SELECT day FROM reports')
    .all(now) as { day: string }[]
  const files: string[] = []
  await mkdir(folder, { recursive: true })
  for (const { day } of days) {
    const file = join(folder, `sales-${day}.csv`)
    await writeFile(`${file}.part`, csvOf(db, day))
    await rename(`${file}.part`, file) // cut off before the next line, the report is made again, the same
    db.prepare('INSERT INTO reports (day, file) VALUES (?, ?) ON CONFLICT DO NOTHING').run(day, file)
    files.push(file)
  }
  return files
}

function csvOf(db: DatabaseSync, day: string): string {
  const rows = db
    .prepare(
      'SELECT item, COUNT(*) AS sold, SUM(cents) AS cents FROM sales WHERE day(at) = ? GROUP BY item ORDER BY item',
    )
    .all(day) as { item: string; sold: number; cents: number }[]
  const lines = rows.map(
    ({ item, sold, cents }) => `"${item.replaceAll('"', '""')}",${sold},${(cents / 100).toFixed(2)}`,
  )
  return `${['item,sold,euros', ...lines].join('\n')}\n`
}

const isoDay = new Intl.DateTimeFormat('sv', { timeZone: timezone }) // Swedish dates are ISO dates

/** The day in the shop's time zone, such as 2030-03-31: it has 23 or 25 hours when clocks change. */
function dayOf(at: number): string {
  return isoDay.format(at)
}
