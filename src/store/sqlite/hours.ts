import type { Instant } from '../../model/clock.ts'
import {
  type Happened,
  hourMs,
  hoursKept,
  nothingHappened,
  packed,
  spread,
  sumOf,
  unpacked,
} from '../../model/hours.ts'
import type { State } from '../../model/lifecycle.ts'
import type { Input, Lease, LeasedJob, Output } from '../store.ts'
import type { Db } from './db.ts'

// The hours of each type, kept in the transactions of the events that they count.

/** Types of one hour that have a row of their own; more would let names fill the file. */
const mostTypes = 1000
/** The row of all others. */
const others = ''
/** Rows of one answer, after which its hour is the last. */
const rowsPerPage = 1000
/** Leases of which it is known when they began. */
const mostStarts = 10_000

type Row = [submitted: number, succeeded: number, failed: number, retried: number, dead: number, waits: string, runs: string, number, number] // biome-ignore format: long
const columns = 'submitted, succeeded, failed, retried, dead, waits, runs, wait_max, run_max'

function fromRow(row: unknown[]): Happened {
  const [submitted, succeeded, failed, retried, dead, waits, runs, waitMax, runMax] = row as Row
  return {
    submitted,
    succeeded,
    failed,
    retried,
    dead,
    waits: { counts: unpacked(waits), max: waitMax },
    runs: { counts: unpacked(runs), max: runMax },
  }
}

/** What the running transaction adds to the present hour. */
export class Hours {
  readonly #types = new Map<string, Happened>()
  /** When a lease began, by its token: to read that of each job that succeeds would cost a statement. */
  readonly #starts = new Map<number, Instant>()

  clear(): void {
    if (this.#types.size > 0) this.#types.clear()
  }

  of(type: string): Happened {
    const known = this.#types.get(type)
    if (known) return known
    const none = nothingHappened()
    this.#types.set(type, none)
    return none
  }

  /** Jobs went from one state into another; null is outside the queue. Negative: takes back what was counted. */
  moved(type: string, from: State | null, to: State | null, jobs: number): void {
    if (from === null) this.of(type).submitted += jobs
    if (to === 'succeeded' || to === 'dead') this.of(type)[to] += jobs
  }

  started(token: number, at: Instant, jobs: LeasedJob[]): void {
    for (const { type, waited } of jobs) if (waited != null) spread(this.of(type).waits, waited)
    this.#starts.set(token, at)
    if (this.#starts.size > mostStarts) this.#starts.delete(this.#starts.keys().next().value!)
  }

  /** An attempt succeeded that began with this lease. A clock that was set back makes its time 0. */
  succeeded(db: Db, { id, type, token }: Lease): void {
    const at = this.#starts.get(token) ?? startOf(db, id)
    spread(this.of(type).runs, Math.max(0, db.now - at))
  }

  /** An attempt failed, and was recorded so; `ranFor`: null where its process was lost. Returns what takes it back. */
  failed(type: string, ranFor: number | null, isRetried: boolean): () => void {
    const hour = this.of(type)
    const before = structuredClone(hour)
    hour.failed++
    if (isRetried) hour.retried++
    if (ranFor !== null) spread(hour.runs, Math.max(0, ranFor))
    return () => this.#types.set(type, before)
  }

  /** Adds all that was counted to the rows of the present hour. */
  write(db: Db): void {
    const hour = Math.floor(db.now / hourMs)
    for (const [type, happened] of this.#types) {
      if (add(db, hour, type, happened)) continue
      const types = db.get<{ types: number }>(countTypes, hour)!.types
      if (types >= mostTypes && add(db, hour, others, happened)) continue
      db.run(forget, hour - hoursKept / hourMs)
      db.run(insert, hour, types >= mostTypes ? others : type)
      add(db, hour, types >= mostTypes ? others : type, happened)
    }
  }
}

const insert = `INSERT INTO gq_hours (hour, type, ${columns}) VALUES (?1, ?2, 0, 0, 0, 0, 0, '[]', '[]', 0, 0)`
const update = `UPDATE gq_hours SET submitted = submitted + ?3, succeeded = succeeded + ?4, failed = failed + ?5,
    retried = retried + ?6, dead = dead + ?7, waits = COALESCE(?8, waits), runs = COALESCE(?9, runs),
    wait_max = MAX(wait_max, ?10), run_max = MAX(run_max, ?11)
  WHERE hour = ?1 AND type = ?2`

/** Adds to the row of a type; false when it has none. */
function add(db: Db, hour: number, type: string, { waits, runs, ...counts }: Happened): boolean {
  const { submitted, succeeded, failed, retried, dead } = counts
  const texts: (string | null)[] = [null, null]
  if (waits.counts.length > 0 || runs.counts.length > 0) {
    const row = db.arrays('SELECT waits, runs FROM gq_hours WHERE hour = ?1 AND type = ?2', hour, type)[0]
    if (!row) return false
    for (const [i, { counts }] of [waits, runs].entries())
      if (counts.length > 0) texts[i] = packed(sumOf(unpacked(row[i] as string), counts))
  }
  const values = [submitted, succeeded, failed, retried, dead, ...texts, waits.max, runs.max]
  return db.run(update, hour, type, ...values) > 0
}

const countTypes = `SELECT COUNT(*) AS types FROM gq_hours WHERE hour = ?1`
/** One hour for each new row: as they come, so they go. */
const forget = `DELETE FROM gq_hours WHERE hour = (SELECT MIN(hour) FROM gq_hours) AND hour < ?1`

const startOf = (db: Db, id: number): Instant =>
  db.get<{ at: Instant }>(`SELECT started_at AS at FROM gq_jobs WHERE id = ?1`, id)!.at

/** The hours from `since` on, the earliest first: whole hours, as many as one answer carries. */
export function hours(db: Db, { since, until, type }: Input<'hours'>): Output<'hours'> {
  const from = Math.max(Math.floor(since / hourMs), Math.floor((db.now - hoursKept) / hourMs))
  const to = Math.floor((until ?? db.now) / hourMs)
  const rows = db.arrays(
    `SELECT hour, type, ${columns} FROM gq_hours WHERE hour BETWEEN ?1 AND ?2 AND (?3 IS NULL OR type = ?3)
     ORDER BY hour LIMIT ${rowsPerPage + mostTypes + 1}`,
    ...[from, to, type ?? null],
  )
  const last = rows[rowsPerPage]?.[0] as number | undefined
  const page = last === undefined ? rows : rows.filter(([hour]) => (hour as number) <= last)
  const next = last !== undefined && last < to ? (last + 1) * hourMs : null
  return { hours: page.map(([hour, name, ...row]) => ({ at: (hour as number) * hourMs, type: name as string, ...fromRow(row) })), next } // biome-ignore format: long
}
