import { countedAt, type Rate, roomBeside, type Starts } from '../../model/rate.ts'
import type { LeasedJob } from '../store.ts'
import { type QueueRow, roomIn } from './counts.ts'
import type { Db } from './db.ts'
import type { Read } from './session.ts'
import { chunk, inSteps, stepEnd } from './steps.ts'

// The rates of queues: each lease is counted in its transaction, so that processes together start no more than the rate.

/** As index gq_queues_rate_said has it. */
const saidAt = 'rate_free_at - rate_per - (rate_per + 999) / 1000'

/**
 * In SQL: a queue's rate is used up at `now`. Room never comes later than a period and a grain after the last start: an
 * instant beyond that is of a wall clock that was set back since, and the queue would stand still until it has caught up.
 */
export const isUsedUp = (now: string): string => `rate_free_at > ${now} AND ${saidAt} <= ${now}`

/** Selects the queues that may have room again. Apart, so that each reads its index: gq_queues_rate, gq_queues_rate_said. */
export const ratesDue = `SELECT name FROM gq_queues WHERE rate_free_at <= ?1
  UNION ALL SELECT name FROM gq_queues WHERE rate_free_at IS NOT NULL AND ${saidAt} > ?1`

export const rateOf = ({ rate_max: max, rate_per: per }: QueueRow): Rate | null =>
  max === null ? null : { max, per: per! }

/** How many more jobs of a queue may start now, over all processes. */
export function roomNow(db: Db, queue: string): number {
  const row = db.queue(queue)
  const room = roomIn(row)
  const rate = rateOf(row)
  if (!rate || room === 0) return room
  // Also where the wall clock was set back: starts count as of now then, and the file must say when there is room again.
  if (row.startsLeft === null) settleRate(db, row)
  return Math.min(room, row.startsLeft!)
}

/** Counts those of the jobs just leased that are of a queue: other claims of this transaction have what is left. */
export function started(db: Db, queue: string, jobs: LeasedJob[]): void {
  const row = db.queue(queue)
  const rate = rateOf(row)
  const starts = rate ? jobs.filter((job) => job.queue === queue).length : 0
  if (!rate || starts === 0) return
  db.run('DELETE FROM gq_starts WHERE queue = ?1 AND at <= ?2', queue, db.now - rate.per)
  count(db, queue, countedAt(rate, db.now), starts)
  row.startsLeft = row.startsLeft! - starts
  if (row.startsLeft === 0) settleRate(db, row)
}

/** Writes when a queue has room again: its rate is used up or was changed, or that instant has come. */
export function settleRate(db: Db, row: QueueRow): void {
  const rate = rateOf(row)
  const { left, again } = rate ? look(db, row.name, rate) : { left: null, again: null }
  row.startsLeft = left
  if (again === row.rate_free_at) return
  row.rate_free_at = again
  db.run('UPDATE gq_queues SET rate_free_at = ?2, changed = ?3 WHERE name = ?1', row.name, again, db.nextChange())
  if (again === null) db.resumed.add(row.name)
  else db.soonest = Math.min(db.soonest, again)
}

/** What `freeRates` reads. */
export const readFreed = ({ now }: Db): Read => [`${ratesDue} LIMIT ${chunk}`, now]

/** Lets workers that wait have the jobs of queues that have room again. */
export function freeRates(db: Db): void {
  const due = () => db.all<{ name: string }>(...readFreed(db))
  inSteps(db, stepEnd(db), due, ({ name }) => settleRate(db, db.queue(name)))
}

function look(db: Db, queue: string, rate: Rate): ReturnType<typeof roomBeside> {
  const latest = countedAt(rate, db.now)
  const beyond = 'FROM gq_starts WHERE queue = ?1 AND at > ?2'
  const { ahead } = db.get<{ ahead: number | null }>(`SELECT SUM(starts) AS ahead ${beyond}`, queue, latest)!
  if (ahead !== null) {
    // The wall clock was set back. They count as of now, or they would stand in the way for as long as it was set back.
    db.run(`DELETE ${beyond}`, queue, latest)
    count(db, queue, latest, ahead)
  }
  const since = db.now - rate.per
  const all = db.get<Starts>(`SELECT MIN(at) AS at, COALESCE(SUM(starts), 0) AS starts ${beyond}`, queue, since)!
  // As one, for these may be a thousand; each where the rate was lowered: then the oldest of them makes no room.
  const some = all.starts <= rate.max ? [all] : db.all<Starts>(`SELECT at, starts ${beyond} ORDER BY at DESC`, queue, since) // biome-ignore format: one line
  return roomBeside(rate, some)
}

function count(db: Db, queue: string, at: number, starts: number): void {
  const sql =
    'INSERT INTO gq_starts VALUES (?1, ?2, ?3) ON CONFLICT (queue, at) DO UPDATE SET starts = gq_starts.starts + ?3'
  db.run(sql, queue, at, starts)
}
