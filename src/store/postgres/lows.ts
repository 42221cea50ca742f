import type { Instant } from '../../model/clock.ts'
import { line, type ReadyRow } from '../sqlite/db.ts'
import type { Session } from '../sqlite/session.ts'
import type { Source } from '../store.ts'

/** Ids are below it. */
export const beyondIds = Number.MAX_SAFE_INTEGER
const classes = [0, 1, 2, 3, 4]
/** Lines that are remembered. */
const mostLines = 1000
/** After so many ms all is read from its beginning: for jobs that somebody made ready with plain SQL. */
const keptFor = 10_000

/** Each class by itself, from where its ready jobs begin. */
const select = classes
  .map(
    (c) => `SELECT * FROM (
      SELECT id, priority, MIN(company, 1000000) AS company FROM gq_jobs
      WHERE state = 'ready' AND blocked = 0 AND queue = ?1 AND type = ?2 AND priority = ${c} AND id >= ?${c + 5}
        AND (deadline IS NULL OR deadline > ?4)
      ORDER BY priority, id LIMIT +?3) AS class${c}`,
  )
  .join(' UNION ALL ')

/**
 * Where the ready jobs of each line and class begin, as far as this process knows. While somebody holds an old snapshot, the
 * index of ready jobs keeps an entry of each job that was ready since: a claim that read from its beginning would walk them all.
 */
export class Lows {
  /** By line, of each class: no job with a lower id is ready. */
  readonly #lines = new Map<string, number[]>()
  #since = 0
  /** The lowest id of a job that the running transaction made ready, other than by storing it. */
  readied = beyondIds

  /** The first ready jobs of a line, from class `from` on. `next`: the id that the next job gets. */
  first(db: Session & { now: Instant }, { queue, type }: Source, from: number, most: number, next: number): ReadyRow[] {
    const lows = this.#of(line(queue, type))
    const asked = classes.map((c) => (c < from ? beyondIds : lows[c]!))
    const rows = db.arrays(select, queue, type, most, db.now, ...asked) as ReadyRow[]
    rows.sort((a, b) => a[1] - b[1] || a[0] - b[0])
    for (const c of classes) if (c >= from) lows[c] = rows.find(([, priority]) => priority === c)?.[0] ?? next
    return rows.slice(0, most)
  }

  #of(key: string): number[] {
    const known = this.#lines.get(key)
    if (known) return known
    if (this.#lines.size >= mostLines) this.#lines.clear()
    const lows = classes.map(() => 0)
    this.#lines.set(key, lows)
    return lows
  }

  /** The running transaction has made a job ready. */
  again({ queue, type }: Source, id: number): void {
    this.readied = Math.min(this.readied, id)
    this.#lower(this.#of(line(queue, type)), id)
  }

  /** Others have made jobs ready, with ids from `id` on. */
  lower(id: number): void {
    if (id < beyondIds) for (const lows of this.#lines.values()) this.#lower(lows, id)
  }

  #lower(lows: number[], id: number): void {
    for (const c of classes) lows[c] = Math.min(lows[c]!, id)
  }

  /** A transaction begins. */
  begin(monotonic: number): void {
    this.readied = beyondIds
    if (monotonic - this.#since < keptFor) return
    this.#since = monotonic
    this.forget()
  }

  forget(): void {
    this.#lines.clear()
  }
}
