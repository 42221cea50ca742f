import type { State } from '../../model/lifecycle.ts'
import type { Totals } from '../store.ts'

// The counters of a queue, which each event of a job changes in the transaction of that event.

/** A row of gq_queues as the running transaction sees it; its counts are written back at commit. */
export interface QueueRow {
  name: string
  paused: number
  max_depth: number | null
  max_running: number | null
  max_running_per_key: number
  keep_succeeded: number | null
  keep_cancelled: number | null
  keep_dead: number | null
  rate_max: number | null
  rate_per: number | null
  /** When a rate that is used up has room again. */
  rate_free_at: number | null
  /** What its rate has left, once this transaction has looked. */
  startsLeft: number | null
  counts: Record<State, number>
  /** Since the file was made. */
  totals: Totals
  /** Jobs of plain SQL that wait and are not admitted yet, once this transaction has counted them. */
  unadmitted: number | null
  /** Jobs counted in or out by this transaction; 0: nothing to write back. */
  moves: number
  /** It has no row, and nobody has made it yet. */
  isNew: boolean
  /** How many types it has, once this transaction has counted them. */
  types: number | null
  /** A setting or schedule has gone: without jobs it may be forgotten. */
  touched: boolean
}

type Limit = number | null
type Counts = [scheduled: number, ready: number, running: number, succeeded: number, dead: number, cancelled: number]
type Sums = [submitted: number, succeeded: number, failed: number, dead: number, cancelled: number]
type Limits = [depth: Limit, running: Limit, perKey: number, Limit, Limit, Limit, max: Limit, per: Limit, freeAt: Limit]
type Columns = [paused: number, ...Limits, ...Counts, ...Sums]
/** Of a queue that was never heard of: as the defaults of gq_queues. */
const limitless: Limits = [null, null, 1, 86_400_000, 604_800_000, null, null, null, null]
const unheardOf: Columns = [0, ...limitless, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]

export const selectCounts = `SELECT paused, max_depth, max_running, max_running_per_key, keep_succeeded, keep_cancelled, keep_dead,
    rate_max, rate_per, rate_free_at, scheduled, ready, running, succeeded, dead, cancelled,
    all_submitted, all_succeeded, all_failed, all_dead, all_cancelled
  FROM gq_queues WHERE name = ?1`

/** The row that `selectCounts` found, or that of a queue which was never heard of: all zeros. */
export function countsOf(name: string, found: unknown[] | undefined): QueueRow {
  const columns = (found ?? unheardOf) as Columns
  // By place: to take an object of SQLite's apart by names took 10 us, and 50 us in code that is not hot.
  const [paused, max_depth, max_running, max_running_per_key, keep_succeeded, keep_cancelled, keep_dead] = columns
  const [, , , , , , , rate_max, rate_per, rate_free_at] = columns
  const limits = { paused, max_depth, max_running, max_running_per_key, keep_succeeded, keep_cancelled, keep_dead }
  const [scheduled, ready, running, succeeded, dead, cancelled] = columns.slice(10) as Counts
  const [submitted, ...ended] = columns.slice(16) as Sums
  return {
    name,
    ...limits,
    ...{ rate_max, rate_per, rate_free_at, startsLeft: null, unadmitted: null },
    counts: { scheduled, ready, running, succeeded, dead, cancelled },
    totals: { submitted, succeeded: ended[0], failed: ended[1], dead: ended[2], cancelled: ended[3] },
    ...{ moves: 0, isNew: found === undefined, types: null, touched: false },
  }
}

export const upsertCounts = `INSERT INTO gq_queues
    (name, scheduled, ready, running, succeeded, dead, cancelled,
     all_submitted, all_succeeded, all_failed, all_dead, all_cancelled, changed)
  VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)
  ON CONFLICT (name) DO UPDATE SET scheduled = ?2, ready = ?3, running = ?4, succeeded = ?5, dead = ?6, cancelled = ?7,
    all_submitted = ?8, all_succeeded = ?9, all_failed = ?10, all_dead = ?11, all_cancelled = ?12, changed = ?13`

/** What `upsertCounts` writes of a row, but for `changed`. */
export function valuesOf({ name, counts, totals }: QueueRow): [name: string, ...Counts, ...Sums] {
  const { scheduled, ready, running, succeeded, dead, cancelled } = counts
  const sums: Sums = [totals.submitted, totals.succeeded, totals.failed, totals.dead, totals.cancelled]
  return [name, scheduled, ready, running, succeeded, dead, cancelled, ...sums]
}

/** Counts `count` jobs out of one state and into another; null is outside the queue. Negative: takes back what was counted. */
export function count(row: QueueRow, from: State | null, to: State | null, count: number): void {
  const jobs = Math.abs(count)
  if (from) row.counts[from] -= jobs
  if (to) row.counts[to] += jobs
  row.moves += count
  const [before, after] = count > 0 ? [from, to] : [to, from]
  if (before === null) row.totals.submitted += count
  else if (after === 'succeeded' || after === 'dead' || after === 'cancelled') row.totals[after] += count
}

/** JSON of a queue's totals. */
export const totalsOf = `json_object('submitted', all_submitted, 'succeeded', all_succeeded, 'failed', all_failed,
  'dead', all_dead, 'cancelled', all_cancelled)`

/** How many more jobs of a queue may run beside those that run, over all processes. */
export function roomIn({ paused, max_running, counts }: QueueRow): number {
  return paused ? 0 : Math.max(0, (max_running ?? Number.MAX_SAFE_INTEGER) - counts.running)
}

/** What is known of the names in the file. */
export class KnownNames {
  /** The client on the network whose operation runs: the queues that it makes are counted. */
  who: string | null = null
  /** Queues in the file, once this transaction has counted them. */
  queues: number | null = null
  /** Lines that are in gq_types, as far as they were looked for. Another process that forgets a queue may have removed some. */
  readonly lines = new Set<string>()

  begin(): void {
    this.who = null
    this.queues = null
    if (this.lines.size > 10_000) this.lines.clear()
  }
}
