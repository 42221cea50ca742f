import { type State, states } from '../../model/lifecycle.ts'
import type { Input, Others, Output, QueueStats, Totals } from '../store.ts'
import { totalsOf } from './counts.ts'
import type { Db } from './db.ts'
import { forgottenQueues } from './names.ts'

// Queues in numbers: the largest in `stats`, all of them in pages. With 50,000 of them, to make an object of each would take
// the storage thread 200 ms and the network 20 MB, several times a second for each dashboard that is open.

/** Most queues of an answer. */
const mostListed = 1000

type Row = Omit<QueueStats, 'paused' | 'rate' | 'counts' | 'totals'> &
  Record<State, number> & { paused: number; rate: string; totals: string }

const selectQueues = `SELECT name AS queue, paused, max_depth AS maxDepth, max_running AS maxRunning,
    max_running_per_key AS maxRunningPerKey, keep_succeeded AS keepSucceeded, keep_cancelled AS keepCancelled, keep_dead AS keepDead,
    CASE WHEN rate_max IS NULL THEN 'null' ELSE json_object('max', rate_max, 'per', rate_per) END AS rate,
    scheduled, ready, running, succeeded, dead, cancelled, ${totalsOf} AS totals
  FROM gq_queues`

function toStats({ queue, paused, maxDepth, maxRunning, maxRunningPerKey, rate, totals, ...rest }: Row): QueueStats {
  const limits = { maxDepth, maxRunning, maxRunningPerKey, rate: JSON.parse(rate) as QueueStats['rate'] }
  const { keepSucceeded, keepCancelled, keepDead, ...counts } = rest
  const kept = { keepSucceeded, keepCancelled, keepDead }
  return { queue, paused: paused === 1, ...limits, ...kept, counts, totals: JSON.parse(totals) as Totals }
}

/** A page of all queues, in the order of their names. */
export function queues(db: Db, { after, limit = mostListed }: Input<'queues'>): Output<'queues'> {
  const rows = db.all<Row>(
    `${selectQueues} WHERE name >= ?1 AND name IS DISTINCT FROM ?2 ORDER BY name LIMIT +?3`,
    after ?? '',
    after ?? null,
    limit,
  )
  return { queues: rows.map(toStats), next: rows.length < limit ? null : rows.at(-1)!.queue }
}

/** The queues with the most jobs to do or to look after, largest first, and what the others come to. */
export function largest(db: Db): { queues: QueueStats[]; others: Pick<Others, 'queues' | 'counts' | 'totals'> } {
  const rows = db.all<Row>(`${selectQueues} ORDER BY scheduled + ready + running + dead DESC, name LIMIT ${mostListed}`)
  const listed = rows.map(toStats)
  const sums = states.map((state) => `COALESCE(SUM(${state}), 0) AS ${state}`)
  const all = db.get<Record<State, number> & { queues: number } & Record<`all_${keyof Totals}`, number>>(
    `SELECT COUNT(*) AS queues, ${sums}, COALESCE(SUM(all_submitted), 0) AS all_submitted, COALESCE(SUM(all_succeeded), 0) AS all_succeeded,
            COALESCE(SUM(all_failed), 0) AS all_failed, COALESCE(SUM(all_dead), 0) AS all_dead, COALESCE(SUM(all_cancelled), 0) AS all_cancelled
     FROM gq_queues`,
  )!
  const forgotten = forgottenQueues(db)
  const { counts, totals } = emptyQueue(db, '')
  for (const state of states) counts[state] = listed.reduce((left, queue) => left - queue.counts[state], all[state])
  for (const total of Object.keys(totals) as (keyof Totals)[])
    totals[total] = listed.reduce((left, queue) => left - queue.totals[total], all[`all_${total}`]) + forgotten[total]
  addNew(db, listed)
  return { queues: listed, others: { queues: all.queues - rows.length, counts, totals } }
}

/** Jobs that others have inserted count in their queues before they are admitted. */
function addNew(db: Db, queues: QueueStats[]): void {
  const some = db.all<{ queue: string; state: State; jobs: number }>(
    // index gq_jobs_new
    `SELECT queue, state, COUNT(*) AS jobs FROM gq_jobs WHERE blocked = 2 GROUP BY queue, state ORDER BY queue, state`,
  )
  if (some.length === 0) return
  const byName = new Map(queues.map((queue) => [queue.queue, queue]))
  for (const { queue, state, jobs } of some) {
    const known = byName.get(queue)
    if (!known && queues.length >= mostListed) continue
    const stats = known ?? emptyQueue(db, queue)
    if (!known) queues.push(stats)
    byName.set(queue, stats)
    stats.counts[state] += jobs
    stats.totals.submitted += jobs
  }
}

/** A queue that has no row yet. */
function emptyQueue(db: Db, queue: string): QueueStats {
  const counts = Object.fromEntries(states.map((state) => [state, 0])) as Record<State, number>
  const totals: Totals = { submitted: 0, succeeded: 0, failed: 0, dead: 0, cancelled: 0 }
  const row = db.queue(queue)
  const limits = { maxDepth: null, maxRunning: null, maxRunningPerKey: row.max_running_per_key, rate: null }
  const kept = { keepSucceeded: row.keep_succeeded, keepCancelled: row.keep_cancelled, keepDead: row.keep_dead }
  return { queue, paused: false, ...limits, ...kept, counts, totals }
}
