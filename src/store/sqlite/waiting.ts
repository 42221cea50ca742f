import type { LeasedJob, LeaseRequest } from '../store.ts'
import { lease } from './attempt.ts'
import type { Reply, Request } from './commit.ts'
import { type Db, line } from './db.ts'
import { notFound } from './operator.ts'
import { endedAmong, isKeyed, job, mayLease } from './queries.ts'
import { ripen } from './reaper.ts'

export interface Fed {
  request: Request<'lease'>
  jobs: LeasedJob[]
}
export interface Told {
  id: number
  replies: Reply[]
}

/** Requests that have no answer yet: workers that wait for a job, callers that wait for a job's end. */
export class Waiting {
  /** By worker: a newer request replaces the older one. */
  readonly #hungry = new Map<number, Request<'lease'>>()
  /** Those whose worker had no free slot when they were last tried. */
  readonly #full = new Set<number>()
  /** Seqs by job id. */
  readonly #waits = new Map<number, Set<number>>()
  /** Those not yet tried. */
  readonly #fresh = new Set<number>()

  get size(): number {
    return this.#hungry.size + this.#waits.size
  }

  /** Keeps or takes back what waits. Answers with replies that this settles, or null when the request is of another kind. */
  take({ seq, operation, input }: Request): Reply[] | null {
    if (operation === 'lease') {
      const { worker } = input as LeaseRequest
      const replies = this.forgetWorker(worker)
      this.#hungry.set(worker, { seq, operation, input: input as LeaseRequest })
      this.#fresh.add(seq)
      return replies
    }
    if (operation === 'wait') {
      this.#waits.set(input as number, (this.#waits.get(input as number) ?? new Set()).add(seq))
      this.#fresh.add(seq)
      return []
    }
    if (operation !== 'forget') return null
    for (const [worker, request] of this.#hungry) if (request.seq === input) this.#hungry.delete(worker)
    for (const [id, seqs] of this.#waits) if (seqs.delete(input as number) && seqs.size === 0) this.#waits.delete(id)
    return []
  }

  forgetWorker(worker: number): Reply[] {
    const older = this.#hungry.get(worker)
    this.#hungry.delete(worker)
    this.#full.delete(worker)
    return older ? [{ seq: older.seq, value: [] }] : []
  }

  workers(): Iterable<number> {
    return this.#hungry.keys()
  }

  /** Lets go of those that wait for a job's end: their seqs. */
  giveUp(): number[] {
    const seqs = [...this.#waits.values()].flatMap((waits) => [...waits])
    this.#waits.clear()
    return seqs
  }

  /** Whether a transaction could feed someone, so that an idle worker takes no write lock in vain. */
  mayFeed(db: Db, lookAround: boolean): boolean {
    for (const { seq, input } of this.#hungry.values())
      if (this.#fresh.has(seq) || (lookAround && mayLease(db, input))) return true
    return false
  }

  /** Gives ready jobs to the workers that wait for them, in the order in which they asked. */
  feed(db: Db, lookAround: boolean): Fed[] {
    if (this.#hungry.size === 0) return []
    ripen(db)
    const everywhere = lookAround || db.resumed
    for (const [key, source] of db.left) if (isKeyed(db, source)) db.readied.add(key)
    const fed: Fed[] = []
    const dry = new Set<string>() // lines with nothing left: thousands of requests may wait for one job
    for (const request of this.#hungry.values()) {
      const all = everywhere || this.#fresh.has(request.seq) || (db.freed && this.#full.has(request.input.worker))
      const sources = request.input.sources.filter(({ queue, type }) => {
        const key = line(queue, type)
        return !dry.has(key) && (all || db.readied.has(key))
      })
      if (sources.length === 0) continue
      const jobs = lease(db, { ...request.input, sources }, (source) => dry.add(line(source.queue, source.type)))
      if (jobs) this.#full.delete(request.input.worker)
      else this.#full.add(request.input.worker)
      if (jobs && jobs.length > 0) fed.push({ request, jobs })
    }
    return fed
  }

  /** What those are told whose job has ended or is gone. */
  tell(db: Db, lookAround: boolean): Told[] {
    const all = lookAround || this.#fresh.size > 0
    const worthALook = all ? [...this.#waits.keys()] : [...new Set(db.ended)].filter((id) => this.#waits.has(id))
    if (worthALook.length === 0) return []
    // What ended in this transaction may have been retried in it too.
    return endedAmong(db, worthALook).map((id) => {
      const found = job(db, id)
      const seqs = [...this.#waits.get(id)!]
      return { id, replies: seqs.map((seq) => (found ? { seq, value: found } : { seq, error: notFound(id) })) }
    })
  }

  /** The transaction is on disk. */
  settle(fed: Fed[], told: Told[]): Reply[] {
    this.#fresh.clear()
    for (const { request } of fed) this.#hungry.delete(request.input.worker)
    for (const { id } of told) this.#waits.delete(id)
    return [...fed.map(({ request, jobs }) => ({ seq: request.seq, value: jobs })), ...told.flatMap((t) => t.replies)]
  }
}
