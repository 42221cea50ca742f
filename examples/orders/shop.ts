import type { DatabaseSync } from 'node:sqlite'
import type { GopherQueue } from 'gopherqueue'

// A shop with its own tables in the queue's file. An order and the job that ships it are stored by one transaction:
// there is no outbox to empty, and no moment at which one is there without the other.

export function createShop(db: DatabaseSync): void {
  db.exec('PRAGMA synchronous = FULL; PRAGMA fullfsync = 1') // as durable as the queue; with less, submitWith refuses
  db.exec(`
    CREATE TABLE IF NOT EXISTS stock (item TEXT PRIMARY KEY, pieces INTEGER NOT NULL CHECK (pieces >= 0)) STRICT;
    CREATE TABLE IF NOT EXISTS orders (
      id INTEGER PRIMARY KEY,
      item TEXT NOT NULL REFERENCES stock,
      job INTEGER, -- that ships it
      shipped_at INTEGER
    ) STRICT`)
}

export class SoldOut extends Error {
  override readonly name = 'SoldOut'
}

export function shop(queue: GopherQueue, db: DatabaseSync) {
  const ship = queue.define<{ order: number }>('ship', { timeout: '30s' }, ({ payload: { order }, startedAt }) => {
    // At least once: an order that an earlier attempt has shipped stays as it is.
    db.prepare('UPDATE orders SET shipped_at = ? WHERE id = ? AND shipped_at IS NULL').run(startedAt, order)
  })

  /** Stores an order; when this returns, it and its job are on disk. Throws SoldOut, and then neither is there. */
  function place(item: string): { order: number; job: number } {
    return transaction(db, () => {
      const { lastInsertRowid } = db.prepare('INSERT INTO orders (item) VALUES (?)').run(item)
      const order = Number(lastInsertRowid)
      const { id: job } = ship.submitWith(db, { order }) // options as in submit
      db.prepare('UPDATE orders SET job = ? WHERE id = ?').run(job, order)
      const { changes } = db.prepare('UPDATE stock SET pieces = pieces - 1 WHERE item = ? AND pieces > 0').run(item)
      if (changes === 0) throw new SoldOut(`${item} is sold out`) // takes the order and its job back
      return { order, job }
    })
  }

  return { ship, place }
}

/** Runs `work` inside a transaction: committed when it returns, rolled back when it throws. */
function transaction<T>(db: DatabaseSync, work: () => T): T {
  db.exec('BEGIN IMMEDIATE')
  try {
    const result = work()
    db.exec('COMMIT')
    return result
  } catch (error) {
    if (db.isTransaction) db.exec('ROLLBACK')
    throw error
  }
}
