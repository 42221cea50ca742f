import { notFound } from '../../model/errors.ts'
import type { Db } from './db.ts'
import { endedAmong, job } from './queries.ts'
import type { Reply } from './request.ts'

/** What those are told who wait for the end of a job. */
export interface Told {
  id: number
  replies: Reply[]
}

/** Those who wait for a job's end. There may be many thousands. */
export class Callers {
  /** Seqs by job id. */
  readonly #waits = new Map<number, Set<number>>()
  /** Jobs that were not looked at yet for those who wait. */
  readonly #fresh = new Set<number>()

  get size(): number {
    return this.#waits.size
  }

  add(seq: number, id: number): void {
    this.#waits.set(id, (this.#waits.get(id) ?? new Set()).add(seq))
    this.#fresh.add(id)
  }

  forget(seq: number): void {
    for (const [id, seqs] of this.#waits) if (seqs.delete(seq) && seqs.size === 0) this.#waits.delete(id)
  }

  /** Lets go of all: their seqs. */
  giveUp(): number[] {
    const seqs = [...this.#waits.values()].flatMap((waits) => [...waits])
    this.#waits.clear()
    return seqs
  }

  /** What those are told whose job has ended or is gone. `lookAround`: another process may have ended any. */
  tell(db: Db, lookAround: boolean): Told[] {
    if (this.#waits.size === 0) return []
    const some = new Set([...db.ended, ...this.#fresh])
    const worthALook = lookAround ? [...this.#waits.keys()] : [...some].filter((id) => this.#waits.has(id))
    if (worthALook.length === 0) return []
    // What ended in this transaction may have been retried in it too.
    return endedAmong(db, worthALook).map((id) => {
      const found = job(db, id)
      const seqs = [...this.#waits.get(id)!]
      return { id, replies: seqs.map((seq) => (found ? { seq, value: found } : { seq, error: notFound(id) })) }
    })
  }

  /** The transaction is on disk. */
  settle(told: Told[]): Reply[] {
    if (this.#fresh.size > 0) this.#fresh.clear()
    for (const { id } of told) this.#waits.delete(id)
    return told.flatMap(({ replies }) => replies)
  }
}
