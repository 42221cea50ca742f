import { givesWay, placesOwed } from '../../model/admission.ts'
import { type Db, line } from './db.ts'
import { mayForget } from './names.ts'
import type { Read } from './session.ts'

// Jobs of one concurrency key (queue, type, key). Those that run or may start hold a place; the others are blocked, and not
// in the index of the claim, which so never meets a job that it must pass over. Each event that makes a job ready, or takes
// it out of the line, settles its key before the transaction goes on.

/** What every event needs to know of its job. */
export interface Placed {
  id: number
  queue: string
  type: string
  priority: number
  concurrency_key: string | null
}

const ofKey = 'queue = ?1 AND type = ?2 AND concurrency_key = ?3'
const placed = `${ofKey} AND blocked = 0 AND run_at IS NULL AND finished_at IS NULL`
const waiting = `${ofKey} AND blocked = 1 AND run_at IS NULL AND finished_at IS NULL`

/**
 * A job has become ready. Without a concurrency key it may start. With one it waits for a place, and the last that has
 * not started makes room for one that comes before it. Answers whether it may start.
 */
export function enter(db: Db, job: Placed): boolean {
  const { id, queue, type, concurrency_key: key } = job
  if (key === null) return true
  db.later(`UPDATE gq_jobs SET blocked = 1 WHERE id = ?1 AND blocked <> 1`, id)
  db.waiting.set(line(queue, type), true)
  if (!hasRoom(db, queue, type, key)) {
    const last = db.get<Pick<Placed, 'id' | 'priority'>>(
      `SELECT id, priority FROM gq_jobs WHERE ${placed} AND state = 'ready' ORDER BY priority DESC, id DESC LIMIT 1`,
      ...[queue, type, key],
    )
    if (!givesWay(last, job)) return false
    db.later(`UPDATE gq_jobs SET blocked = 1 WHERE id = ?1`, last!.id)
  }
  return give(db, queue, type, key) === id
}

/** A job is no longer ready or running: the first that waits for a place of its key may have one. */
export function leave(db: Db, { queue, type, concurrency_key: key }: Omit<Placed, 'id' | 'priority'>): void {
  if (key !== null && mayWait(db, queue, type) && hasRoom(db, queue, type, key)) give(db, queue, type, key)
}

/** As `leave`, of a job whose row was not read. */
export function leaveUnread(db: Db, id: number, queue: string, type: string): void {
  if (!mayWait(db, queue, type)) return
  const { key } = db.get<{ key: string | null }>(`SELECT concurrency_key AS key FROM gq_jobs WHERE id = ?1`, id)!
  leave(db, { queue, type, concurrency_key: key })
}

export const readWaiting = (queue: string, type: string): Read => [
  `SELECT 1 FROM gq_jobs WHERE queue = ?1 AND type = ?2 AND blocked = 1 AND run_at IS NULL AND finished_at IS NULL LIMIT 1`,
  ...[queue, type],
]

/** Whether a job of a line waits for a place: looked at once in a transaction, as mostly none does. */
export function mayWait(db: Db, queue: string, type: string): boolean {
  const key = line(queue, type)
  const known = db.waiting.get(key)
  if (known !== undefined) return known
  const found = db.get(...readWaiting(queue, type))
  db.waiting.set(key, found !== undefined)
  return found !== undefined
}

const limitOf = (db: Db, queue: string): number => db.queue(queue).max_running_per_key

const heldOf = (db: Db, queue: string, type: string, key: string): number =>
  db.get<{ held: number }>(`SELECT COUNT(*) AS held FROM gq_jobs WHERE ${placed}`, queue, type, key)!.held

const hasRoom = (db: Db, queue: string, type: string, key: string): boolean =>
  heldOf(db, queue, type, key) < limitOf(db, queue)

/** Gives a free place to the first that waits: it is ready from this event on. */
function give(db: Db, queue: string, type: string, key: string): number | undefined {
  const given = db.get<{ id: number }>(
    `UPDATE gq_jobs SET blocked = 0, ready_seq = CASE WHEN lease_seq IS NULL THEN MAX(id, ?4) ELSE ready_seq END
     WHERE id = (SELECT id FROM gq_jobs WHERE ${waiting} ORDER BY priority, id LIMIT 1)
     RETURNING id`,
    ...[queue, type, key, db.sequence()],
  )
  if (given) db.readied.add(line(queue, type))
  if (given) db.again({ queue, type }, given.id)
  return given?.id
}

// A queue's limit per key changes for all of its keys, of which there may be a million: in steps, key by key. Events follow
// the new limit at once; how far the jobs that waited before do stands in gq_queues.settling.

/** Rows that one statement changes. */
const rows = 50

interface Key {
  type: string
  key: string
}

/** The limit of a queue has changed: its keys follow from the first on. */
export function unsettle(db: Db, queue: string): void {
  db.run(`UPDATE gq_queues SET settling = '["",""]' WHERE name = ?1`, queue)
}

export const settlingDue = 'EXISTS (SELECT 1 FROM gq_queues WHERE settling IS NOT NULL)'

/** Goes on with what is unsettled until the clock says that the step is over. True when some is left. */
export function settle(db: Db, end: number): boolean {
  for (;;) {
    const found = db.get<{ queue: string; settling: string }>(
      `SELECT name AS queue, settling FROM gq_queues WHERE settling IS NOT NULL LIMIT 1`,
    )
    if (!found) return false
    const [type = '', key = ''] = JSON.parse(found.settling) as string[]
    const at = settleKeys(db, found.queue, { type, key }, end)
    const settling = at && JSON.stringify([at.type, at.key])
    db.resumed.add(found.queue)
    const change = db.nextChange()
    db.run(`UPDATE gq_queues SET settling = ?2, changed = ?3 WHERE name = ?1`, ...[found.queue, settling, change])
    if (at) return true
    mayForget(db, found.queue)
  }
}

/** Keys and rows that a step settles whatever the clock says: a queue with few of them is settled at once on any machine. */
const fewest = 20

/** Settles the keys after one; answers the last that is settled when the step is over, null when all are. */
function settleKeys(db: Db, queue: string, from: Key, end: number): Key | null {
  let settled = 0
  const over = (): boolean => settled > fewest && db.clock.monotonic() >= end
  for (let at = from; ; ) {
    // index gq_jobs_placed: a key of which jobs wait has others that hold its places
    const next = db.get<Key>(
      `SELECT type, concurrency_key AS key FROM gq_jobs
       WHERE queue = ?1 AND (type, concurrency_key) > (?2, ?3) AND concurrency_key IS NOT NULL AND blocked = 0
         AND run_at IS NULL AND finished_at IS NULL
       ORDER BY type, concurrency_key LIMIT 1`,
      ...[queue, at.type, at.key],
    )
    if (!next) return null
    for (let changed = rows; changed === rows; ) {
      if (over()) return at
      changed = settleSome(db, queue, next)
      settled += 1 + changed
    }
    at = next
    if (over()) return at
  }
}

/** Gives or takes some places of one key; answers how many. When these are fewer than `rows`, it has as many as it may. */
function settleSome(db: Db, queue: string, { type, key }: Key): number {
  const owed = placesOwed(limitOf(db, queue), heldOf(db, queue, type, key), rows)
  if (owed > 0) {
    const given = db.run(
      `UPDATE gq_jobs SET blocked = 0, ready_seq = CASE WHEN lease_seq IS NULL THEN ?4 ELSE ready_seq END
       WHERE id IN (
         SELECT id FROM gq_jobs WHERE ${waiting} ORDER BY priority, id LIMIT +?5)`,
      ...[queue, type, key, db.nextSequence(), owed],
    )
    db.readied.add(line(queue, type))
    db.again({ queue, type }, 0)
    return given
  }
  if (owed === 0) return 0
  db.waiting.set(line(queue, type), true) // or the key's last running job, if it ends in this transaction, would give its place to none of these
  return db.run(
    `UPDATE gq_jobs SET blocked = 1
     WHERE id IN (
       SELECT id FROM gq_jobs WHERE ${placed} AND state = 'ready' ORDER BY priority DESC, id DESC LIMIT +?4)`,
    ...[queue, type, key, -owed],
  )
}
