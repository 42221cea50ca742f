import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { setTimeout as pause } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import Libsql from 'libsql'
import { GopherQueue } from '../src/index.ts'

// How often a file is damaged when the app opens it with another copy of SQLite beside a queue that is at work:
// `node bench/copies.ts [runs [seconds]]`. Each run is a process of its own that writes with both; its file is then
// looked at from outside.

interface Told {
  /** Ms from the other copy's opening to the health that tells of it. */
  noticed: number | null
  acknowledged: number
  rows: number
}

async function load(path: string, seconds: number): Promise<Told> {
  const told: Told = { noticed: null, acknowledged: 0, rows: 0 }
  const queue = await GopherQueue.open(path)
  queue.on('warning', () => undefined)
  const begun = performance.now()
  let since = Number.POSITIVE_INFINITY
  queue.on('health', ({ status }) => {
    if (status === 'failed') told.noticed ??= performance.now() - since
  })
  queue.define('work', {}, () => 'done')
  queue.work({ concurrency: 20 })
  const over = () => performance.now() - begun > seconds * 1000
  const submits = async () => {
    while (!over()) {
      try {
        await queue.submitMany('work', Array(5).fill('x'.repeat(500)))
        told.acknowledged += 5
      } catch {
        await pause(5) // refused: from here on only the other copy writes
      }
    }
  }
  const writes = async () => {
    await pause(1000 + Math.random() * 1000)
    const app = new Libsql(path)
    since = performance.now()
    try {
      app.exec('PRAGMA busy_timeout = 1000; CREATE TABLE IF NOT EXISTS orders (id INTEGER PRIMARY KEY, what TEXT)')
      const insert = app.prepare('INSERT INTO orders (what) VALUES (?)')
      for (; !over(); await pause(1)) {
        insert.run('x'.repeat(500))
        told.rows++
      }
    } catch (error) {
      process.stderr.write(`the other copy: ${(error as Error).message}\n`)
    }
  }
  await Promise.all([submits(), submits(), submits(), submits(), writes()])
  return told
}

/** What is wrong with the file, or null. */
function damage(path: string, { acknowledged, rows }: Told): string | null {
  try {
    using db = new DatabaseSync(path)
    const found = String(db.prepare('PRAGMA integrity_check(1)').get()!.integrity_check)
    if (found !== 'ok') return found
    const { jobs } = db.prepare(`SELECT COUNT(*) AS jobs FROM gq_jobs`).get() as { jobs: number }
    if (jobs < acknowledged) return `${acknowledged - jobs} acknowledged jobs are gone`
    const orders = rows === 0 ? 0 : Number(db.prepare('SELECT COUNT(*) AS n FROM orders').get()!.n)
    return orders < rows ? `${rows - orders} rows of the app are gone` : null
  } catch (error) {
    return (error as Error).message
  }
}

async function run(seconds: number): Promise<boolean> {
  const folder = mkdtempSync(join(tmpdir(), 'gopherqueue-copies-'))
  const path = join(folder, 'app.db')
  const child = spawn(process.execPath, [fileURLToPath(import.meta.url), path, String(seconds)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let output = ''
  for await (const text of child.stdout) output += text
  const told: Told = output === '' ? { noticed: null, acknowledged: 0, rows: 0 } : JSON.parse(output)
  const wrong = damage(path, told)
  console.log(
    `noticed after ${told.noticed?.toFixed(0) ?? '-'} ms, ${told.acknowledged} jobs, ${told.rows} rows: ${wrong ?? 'whole'}`,
  )
  rmSync(folder, { recursive: true })
  return wrong === null
}

const [first = '20', second = '10'] = process.argv.slice(2)
if (/^\d+$/.test(first)) {
  let whole = 0
  for (let i = 0; i < Number(first); i++) if (await run(Number(second))) whole++
  console.log(`${Number(first) - whole} of ${first} files damaged`)
} else {
  process.stdout.write(JSON.stringify(await load(first, Number(second))))
  process.exit()
}
