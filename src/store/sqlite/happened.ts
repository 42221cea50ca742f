import type { SQLInputValue } from 'node:sqlite'
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
import type { Lease, LeasedJob } from '../store.ts'
import type { Read } from './session.ts'

// The hours of each type, kept in the transactions of the events that they count.

/** Types of one hour that have a row of their own; more would let names fill the file. */
export const mostTypes = 1000
/** The row of all others. */
const others = ''
/** Leases of which it is known when they began. */
const mostStarts = 10_000
/** Types of which `reads` names the rows. */
const mostRead = 20

/** What this needs of the transaction: it is a part of Db. */
interface Transaction {
  now: Instant
  run(sql: string, ...values: SQLInputValue[]): number
  later(sql: string, ...values: SQLInputValue[]): void
  get<Row>(sql: string, ...values: SQLInputValue[]): Row | undefined
  arrays(sql: string, ...values: SQLInputValue[]): unknown[][]
}

/** What the running transaction adds to the present hour. */
export class Hours {
  readonly #types = new Map<string, Happened>()
  /** When a lease began, by its token: to read that of each job that succeeds would cost a statement. */
  readonly #starts = new Map<number, Instant>()
  /** The types that have a row of this hour. */
  readonly #rows = new Set<string>()
  #hour = 0

  clear(): void {
    if (this.#types.size > 0) this.#types.clear()
  }

  /** After a rollback, a row that was inserted may be gone. */
  forgetRows(): void {
    this.#rows.clear()
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
  succeeded(db: Transaction, { id, type, token }: Lease): void {
    const at = this.#starts.get(token) ?? startOf(db, id)
    spread(this.of(type).runs, Math.max(0, db.now - at))
  }

  /** An attempt failed, and was recorded so; `ranFor`: null where its process was lost. Returns what takes it back. */
  failed(type: string, ranFor: number | null, isRetried: boolean): () => void {
    const hour = this.of(type)
    hour.failed++
    hour.retried += Number(isRetried)
    const unspread = ranFor === null ? null : spread(hour.runs, Math.max(0, ranFor))
    return () => {
      hour.failed--
      hour.retried -= Number(isRetried)
      unspread?.()
    }
  }

  /** What `write` will read of the types that were counted so far. */
  reads({ now }: Transaction): Read[] {
    return [...this.#types.keys()].slice(0, mostRead).map((type) => [selectTimes, Math.floor(now / hourMs), type])
  }

  /** Adds all that was counted to the rows of the present hour. */
  write(db: Transaction): void {
    const hour = Math.floor(db.now / hourMs)
    if (hour !== this.#hour) this.#rows.clear()
    this.#hour = hour
    for (const [type, happened] of this.#types) {
      if (isNothing(happened)) continue // taken back: its operation was refused
      if (this.#add(db, type, happened)) continue
      const types = db.get<{ types: number }>(countTypes, hour)!.types
      if (types >= mostTypes && this.#add(db, others, happened)) continue
      db.run(forget, hour - hoursKept / hourMs)
      db.run(insert, hour, types >= mostTypes ? others : type)
      this.#add(db, types >= mostTypes ? others : type, happened)
    }
  }

  /** Adds to the row of a type; false when it has none. */
  #add(db: Transaction, type: string, { waits, runs, ...counts }: Happened): boolean {
    const { submitted, succeeded, failed, retried, dead } = counts
    const texts: (string | null)[] = [null, null]
    if (waits.counts.length > 0 || runs.counts.length > 0) {
      const row = db.arrays(selectTimes, this.#hour, type)[0]
      if (!row) return false
      this.#rows.add(type)
      for (const [i, { counts }] of [waits, runs].entries())
        if (counts.length > 0) texts[i] = packed(sumOf(unpacked(row[i] as string), counts))
    }
    const values = [this.#hour, type, submitted, succeeded, failed, retried, dead, ...texts, waits.max, runs.max]
    if (this.#rows.has(type)) db.later(update, ...values)
    else if (db.run(update, ...values) > 0) this.#rows.add(type)
    return this.#rows.has(type)
  }
}

const selectTimes = 'SELECT waits, runs FROM gq_hours WHERE hour = ?1 AND type = ?2'

const insert = `INSERT INTO gq_hours (hour, type, submitted, succeeded, failed, retried, dead, waits, runs, wait_max, run_max)
  VALUES (?1, ?2, 0, 0, 0, 0, 0, '[]', '[]', 0, 0)`
const update = `UPDATE gq_hours SET submitted = submitted + ?3, succeeded = succeeded + ?4, failed = failed + ?5,
    retried = retried + ?6, dead = dead + ?7, waits = COALESCE(?8, waits), runs = COALESCE(?9, runs),
    wait_max = MAX(wait_max, ?10), run_max = MAX(run_max, ?11)
  WHERE hour = ?1 AND type = ?2`

const isNothing = ({ waits, runs, ...counts }: Happened): boolean =>
  Object.values(counts).every((count) => count === 0) && [...waits.counts, ...runs.counts].every((count) => count === 0)

const countTypes = `SELECT COUNT(*) AS types FROM gq_hours WHERE hour = ?1`
/** One hour for each new row: as they come, so they go. */
const forget = `DELETE FROM gq_hours WHERE hour = (SELECT MIN(hour) FROM gq_hours) AND hour < ?1`

const startOf = (db: Transaction, id: number): Instant =>
  db.get<{ at: Instant }>(`SELECT started_at AS at FROM gq_jobs WHERE id = ?1`, id)!.at
