import { type Db, line } from './db.ts'

// A queue's limit per concurrency key changes for all of its keys, of which there may be a million: in steps, key by key.
// The triggers of gq_jobs follow the new limit at once; how far the jobs that waited before do stands in gq_queues.settling.

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
    const found = db.get<{ queue: string; settling: string; most: number }>(
      `SELECT name AS queue, settling, max_running_per_key AS most FROM gq_queues WHERE settling IS NOT NULL LIMIT 1`,
    )
    if (!found) return false
    const [type = '', key = ''] = JSON.parse(found.settling) as string[]
    const at = settleKeys(db, found.queue, found.most, { type, key }, end)
    const settling = at && JSON.stringify([at.type, at.key])
    db.resumed = true // what has a place now is worth a try of everyone who waits
    const change = db.nextChange()
    db.run(`UPDATE gq_queues SET settling = ?2, changed = ?3 WHERE name = ?1`, ...[found.queue, settling, change])
    if (at) return true
  }
}

/** Settles the keys after one; answers the last that is settled when the step is over, null when all are. */
function settleKeys(db: Db, queue: string, most: number, from: Key, end: number): Key | null {
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
    while (settleSome(db, queue, most, next)) if (db.clock.monotonic() >= end) return at
    at = next
    if (db.clock.monotonic() >= end) return at
  }
}

/** Gives or takes some places of one key; false when it has as many as it may. */
function settleSome(db: Db, queue: string, most: number, { type, key }: Key): boolean {
  const { placed } = db.get<{ placed: number }>(
    `SELECT COUNT(*) AS placed FROM gq_jobs
     WHERE queue = ?1 AND type = ?2 AND concurrency_key = ?3 AND blocked = 0 AND run_at IS NULL AND finished_at IS NULL`,
    ...[queue, type, key],
  )!
  const room = most - placed
  const some = Math.min(Math.abs(room), rows)
  if (room > 0) {
    const given = db.run(
      `UPDATE gq_jobs SET blocked = 0, ready_seq = CASE WHEN lease_seq IS NULL THEN ?4 ELSE ready_seq END
       WHERE id IN (
         SELECT id FROM gq_jobs
         WHERE queue = ?1 AND type = ?2 AND concurrency_key = ?3 AND blocked = 1 AND run_at IS NULL AND finished_at IS NULL
         ORDER BY priority, id LIMIT ?5)`,
      ...[queue, type, key, db.nextSequence(), some],
    )
    db.readied.add(line(queue, type))
    return given === rows
  }
  if (room === 0) return false
  const taken = db.run(
    `UPDATE gq_jobs SET blocked = 1
     WHERE id IN (
       SELECT id FROM gq_jobs
       WHERE queue = ?1 AND type = ?2 AND concurrency_key = ?3 AND blocked = 0 AND run_at IS NULL AND finished_at IS NULL
         AND state = 'ready'
       ORDER BY priority DESC, id DESC LIMIT ?4)`,
    ...[queue, type, key, some],
  )
  return taken === rows
}
