import type { Source } from '../store.ts'
import type { Db } from './db.ts'
import { Lines } from './lines.ts'

/** From so many lines on, memory is kept of a worker's lines between its requests; fewer are looked at anew each time. */
export const manyLines = 64
/** Workers of which such memory is kept. */
const mostKnown = 100

const none: ReadonlySet<Lines> = new Set()

/** The lines of workers that take jobs of many, also between their requests. */
export class Known {
  readonly #lines = new Map<number, Lines>()
  /** Up to which change of the queues memory is true; null: nothing is known yet. */
  #heard: number | null = null
  /** `data_version` when that was last asked: while it is the same, no other process has changed anything. */
  #heardVersion = 0

  get size(): number {
    return this.#lines.size
  }

  of(worker: number, sources: Source[]): Lines {
    const known = this.#lines.get(worker)
    const lines = known?.areOf(sources) ? known : new Lines(sources)
    this.#lines.delete(worker)
    const [oldest] = this.#lines.keys()
    if (oldest !== undefined && this.#lines.size >= mostKnown) this.#lines.delete(oldest)
    this.#lines.set(worker, lines) // the last to be forgotten
    return lines
  }

  forget(worker: number): void {
    this.#lines.delete(worker)
  }

  /** The transaction did not take place, or the file is another one: what memory learned in it is not true. */
  forgetAll(): void {
    this.#heard = null
    this.#lines.clear()
  }

  /**
   * Hears which queues other processes have changed: looks through all, which an index would spare, at a page each COMMIT.
   * `asking`: those of workers that ask now, of which more may be than are kept.
   */
  hear(db: Db, asking: Iterable<Lines>): void {
    const all = this.#with(asking)
    if (all.size === 0) this.#heard = null
    if (all.size === 0) return
    const { data_version: version } = db.get<{ data_version: number }>('PRAGMA data_version')!
    if (this.#heard !== null && version === this.#heardVersion) return
    const upTo = db.sequence() // before the look: outside of a transaction others may commit in between
    if (this.#heard !== null)
      for (const { name } of db.all<{ name: string }>('SELECT name FROM gq_queues WHERE changed >= ?1', this.#heard))
        for (const lines of all) lines.changed(name)
    this.#heardVersion = version
    this.#heard = upTo
  }

  /** What this transaction made ready has to be looked at. */
  heed(db: Db, asking: Iterable<Lines>): void {
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

  /** The transaction is on disk: what it changed itself needs no second look. */
  committed({ change }: Db): void {
    if (this.#heard !== null && change !== null) this.#heard = change
  }
}
