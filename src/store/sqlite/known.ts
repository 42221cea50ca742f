import type { Source } from '../store.ts'
import type { Db } from './db.ts'
import { Lines } from './lines.ts'

/** A worker with so many lines keeps its `Lines` between requests; with fewer, it costs less to read them each time. */
export const manyLines = 64
/** Most workers whose `Lines` are kept. */
const mostKnown = 100

const none: ReadonlySet<Lines> = new Set()

/** The `Lines` of workers with many lines, kept between their requests. */
export class Known {
  readonly #lines = new Map<number, Lines>()
  /** The sequence number up to which changes of queues were read; null before the first read. */
  #seenUpTo: number | null = null
  /** `dataVersion` at that read: while it is the same, no other connection has committed. */
  #seenVersion = 0

  get size(): number {
    return this.#lines.size
  }

  of(worker: number, sources: Source[]): Lines {
    const known = this.#lines.get(worker)
    const lines = known?.areOf(sources) ? known : new Lines(sources)
    this.#lines.delete(worker)
    const [oldest] = this.#lines.keys()
    if (oldest !== undefined && this.#lines.size >= mostKnown) this.#lines.delete(oldest)
    this.#lines.set(worker, lines) // at the end: the Map is in order of use, and its first is forgotten first
    return lines
  }

  forget(worker: number): void {
    this.#lines.delete(worker)
  }

  /** After a rollback, or when the file was replaced: what memory read may not be in the file. */
  forgetAll(): void {
    this.#seenUpTo = null
    this.#lines.clear()
  }

  /**
   * Reads which queues other connections have changed. It scans all queues: an index would cost each COMMIT a page.
   * `asking`: the lines of requests that wait, which may be more than are kept.
   */
  readChanges(db: Db, asking: Iterable<Lines>): void {
    const all = this.#with(asking)
    if (all.size === 0) this.#seenUpTo = null
    if (all.size === 0) return
    const version = db.dataVersion()
    if (this.#seenUpTo !== null && version === this.#seenVersion) return
    const upTo = db.sequence() // read first: outside of a transaction others may commit between the two reads
    if (this.#seenUpTo !== null)
      for (const { name } of db.all<{ name: string }>('SELECT name FROM gq_queues WHERE changed >= ?1', this.#seenUpTo))
        for (const lines of all) lines.changed(name)
    this.#seenVersion = version
    this.#seenUpTo = upTo
  }

  /** Marks the lines in which this transaction made jobs ready. */
  applyOwn(db: Db, asking: Iterable<Lines>): void {
    for (const lines of this.#with(asking)) {
      for (const queue of db.resumed) lines.resumed(queue)
      for (const key of db.readied) lines.readied(key)
    }
  }

  #with(asking: Iterable<Lines>): ReadonlySet<Lines> {
    if (this.#lines.size === 0) return none
    const all = new Set(this.#lines.values())
    if (all.size === mostKnown) for (const lines of asking) all.add(lines)
    return all
  }

  /** After COMMIT: the changes of this transaction itself are known, and need no read. */
  committed({ change }: Db): void {
    if (this.#seenUpTo !== null && change !== null) this.#seenUpTo = change
  }
}
