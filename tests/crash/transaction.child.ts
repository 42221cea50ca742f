import { DatabaseSync } from 'node:sqlite'
import Database from 'better-sqlite3'
import { GopherQueue } from '../../src/index.ts'
import { Journal } from './journal.ts'

// An app that stores an order and its job in one transaction, again and again, until it is killed.

export interface TransactionConfig {
  file: string
  log: string
  /** The app uses better-sqlite3, and the queue runs on it. */
  driver?: string
}

const { file, log, ...options } = JSON.parse(process.argv[2]!) as TransactionConfig
const journal = new Journal(log)
const queue = await GopherQueue.open(file, options)
const app = options.driver ? new Database(file, { timeout: 10_000 }) : new DatabaseSync(file, { timeout: 10_000 })
app.exec('PRAGMA synchronous = FULL')
app.exec('CREATE TABLE IF NOT EXISTS orders (id INTEGER PRIMARY KEY, job INTEGER NOT NULL) STRICT')
const insert = app.prepare('INSERT INTO orders (id, job) VALUES (?, ?)')
let order = Number((app.prepare('SELECT COALESCE(MAX(id), 0) AS last FROM orders').get() as { last: number }).last)

for (;;) {
  app.exec('BEGIN IMMEDIATE')
  order++
  const { id } = queue.submitWith(app, 'work', { order }, { idempotencyKey: `order ${order}` })
  insert.run(order, id)
  journal.write('stored', order, id)
  app.exec('COMMIT')
  journal.write('committed', order, id)
}
