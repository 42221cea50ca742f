import { endedAndGone, notFound } from '../../model/errors.ts'
import type { Db } from './db.ts'
import { endedAmong, job } from './queries.ts'
import type { Reply } from './request.ts'

/** A job that has ended or is gone, and the answers to those who wait for that. */
export interface Ended {
  id: number
  replies: Reply[]
}

/** Requests that wait for the end of a job. There may be many thousands. */
export class Callers {
  /** Seqs by job id. */
  readonly #waits = new Map<number, Set<number>>()
  /** Jobs of new requests: each may have ended before its request came. */
  readonly #unchecked = new Set<number>()

  get size(): number {
    return this.#waits.size
  }

  add(seq: number, id: number): void {
    this.#waits.set(id, (this.#waits.get(id) ?? new Set()).add(seq))
    this.#unchecked.add(id)
  }

  forget(seq: number): void {
    for (const [id, seqs] of this.#waits) if (seqs.delete(seq) && seqs.size === 0) this.#waits.delete(id)
  }

  /** The file was replaced: a job that is not in the new one need not have ended. */
  forgetSeen(): void {
    for (const id of this.#waits.keys()) this.#unchecked.add(id)
  }

  /** Forgets all requests, and returns their seqs. */
  giveUp(): number[] {
    const seqs = [...this.#waits.values()].flatMap((waits) => [...waits])
    this.#waits.clear()
    return seqs
  }

  /** Finds the jobs that have ended or are gone. `othersChanged`: another process may have ended any of them. */
  findEnded(db: Db, othersChanged: boolean): Ended[] {
    if (this.#waits.size === 0) return []
    const some = new Set([...db.ended, ...this.#unchecked])
    const toCheck = othersChanged ? [...this.#waits.keys()] : [...some].filter((id) => this.#waits.has(id))
    if (toCheck.length === 0) return []
    // The file decides, not `db.ended`: a job may be retried in the transaction in which it ended.
    return endedAmong(db, toCheck).map((id) => {
      const found = job(db, id)
      const error = this.#unchecked.has(id) ? notFound(id) : endedAndGone(id)
      const seqs = [...this.#waits.get(id)!]
      return { id, replies: seqs.map((seq) => (found ? { seq, value: found } : { seq, error })) }
    })
  }

  /** After COMMIT: returns the answers. */
  settle(ended: Ended[]): Reply[] {
    if (this.#unchecked.size > 0) this.#unchecked.clear()
    for (const { id } of ended) this.#waits.delete(id)
    return ended.flatMap(({ replies }) => replies)
  }
}
