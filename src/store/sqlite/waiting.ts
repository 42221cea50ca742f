import type { GopherQueueError } from '../../model/errors.ts'
import type { LeasedJob, LeaseRequest } from '../store.ts'
import { someAreNew } from './admission.ts'
import { Callers, type Ended } from './callers.ts'
import { lease, runningBy } from './claim.ts'
import { Company } from './company.ts'
import { type Db, line, sourceOf } from './db.ts'
import { askerOf, confirmReceived, gave, readAsker, slotsOf, unknownWorker } from './delivery.ts'
import { Known, manyLines } from './known.ts'
import { Lines } from './lines.ts'
import { mayLease, readyAmong } from './queries.ts'
import { freeRates, readFreed } from './rate.ts'
import { dueReads, makeDueReady } from './reaper.ts'
import type { Reply, Request } from './request.ts'

/** The jobs that a transaction leased for one request. */
export interface Assigned {
  request: Request<'lease'>
  jobs: LeasedJob[]
  /** Why the request is refused. */
  error?: GopherQueueError
}
/** Most workers of a line of which `starving` asks: it is called once a second. */
const mostAsked = 100

interface PendingLease extends Request<'lease'> {
  /** Requests get jobs in this order. */
  place: number
  /** Where its lines are many: what memory knows of them. */
  lines: Lines | undefined
}

/** Requests without an answer yet: workers that wait for a job, callers that wait for a job's end. There may be many thousands. */
export class Waiting {
  /** By worker: a newer request replaces the older one. */
  readonly #pending = new Map<number, PendingLease>()
  /** The workers that wait for a line, in the order in which they asked; those with many lines are in #known alone. */
  readonly #lines = new Map<string, Set<number>>()
  readonly #known = new Known()
  /** For which jobs others are held back. */
  readonly company = new Company((worker, { queue, type }) => {
    const waits = this.#waitsFor(worker, line(queue, type))
    return waits && this.#pending.get(worker)!.input.slots > 0 // a worker that stops asks with no slots
  })
  /** Workers that had no free slot when they were last tried, or whose process had no room for the next job. */
  readonly #full = new Set<number>()
  /** Lines that had ready jobs when `findReady` read them. */
  #found = new Set<string>()
  /** The last transaction passed over a worker that might have had a job, since the app's thread stands still. */
  passedOver = false
  readonly #callers = new Callers()
  /** Workers whose request no transaction has tried to serve yet. */
  readonly #untried = new Set<number>()
  #places = 0

  get size(): number {
    return this.#pending.size + this.#callers.size
  }

  /** Keeps a request that waits, or forgets one. Returns the replies that this settles; null for a request of another kind. */
  keep({ seq, operation, input, epoch }: Request): Reply[] | null {
    if (operation === 'lease') {
      const { worker, sources, ask } = input as LeaseRequest
      // A request that was overtaken by a newer one on the network: its worker no longer waits for its answer.
      if (ask !== undefined && ask < (this.#pending.get(worker)?.input.ask ?? ask)) return [{ seq, value: [] }]
      const replies = this.forgetWorker(worker)
      const lines = sources.length < manyLines ? undefined : this.#known.of(worker, sources)
      this.#pending.set(worker, { seq, operation, input: input as LeaseRequest, epoch, place: ++this.#places, lines })
      if (!lines)
        for (const { queue, type } of sources) {
          const key = line(queue, type)
          this.#lines.set(key, (this.#lines.get(key) ?? new Set()).add(worker))
        }
      this.#untried.add(worker)
      return replies
    }
    if (operation === 'wait') {
      this.#callers.add(seq, input as number)
      return []
    }
    if (operation !== 'forget') return null
    for (const [worker, request] of this.#pending) if (request.seq === input) this.forgetWorker(worker)
    this.#callers.forget(input as number)
    return []
  }

  forgetWorker(worker: number): Reply[] {
    const older = this.#pending.get(worker)
    if (!older) return []
    this.#pending.delete(worker)
    this.#full.delete(worker)
    this.#untried.delete(worker)
    for (const { queue, type } of older.lines ? [] : older.input.sources) {
      const key = line(queue, type)
      if (this.#lines.get(key)?.delete(worker) && this.#lines.get(key)!.size === 0) this.#lines.delete(key)
    }
    return [{ seq: older.seq, value: [] }]
  }

  #waitsFor(worker: number, key: string): boolean {
    return this.#pending.get(worker)?.lines?.has(key) ?? this.#lines.get(key)?.has(worker) ?? false
  }

  /** Reads lines before the transaction, which then has few to read under the write lock. */
  prepare(db: Db): void {
    if (this.#known.size === 0) return
    try {
      this.#known.readChanges(db, this.#asking())
      for (const { lines } of this.#pending.values()) lines?.learn(db)
    } catch {
      this.forgetLines() // the transaction meets the same fault, and reports it
    }
  }

  /** After a rollback, or when the file was replaced: what memory read may not be in the file. */
  forgetLines(): void {
    this.#known.forgetAll()
    for (const request of this.#pending.values())
      if (request.lines) request.lines = this.#known.of(request.input.worker, request.input.sources)
  }

  /** The worker is gone. */
  forgetCompany(worker: number): void {
    this.company.forget(worker)
    this.#known.forget(worker)
  }

  /** The file was replaced: the workers of all requests are known to the file of `epoch` only, and the new one refuses them. */
  areOf(epoch: string): void {
    this.forgetLines()
    this.#callers.forgetSeen()
    for (const request of this.#pending.values()) {
      request.epoch ??= epoch
      this.#untried.add(request.input.worker)
    }
  }

  /** A worker that was passed over may have jobs again. */
  tryAgain(worker: number): void {
    if (this.#pending.has(worker)) this.#untried.add(worker)
  }

  workers(): Iterable<number> {
    return this.#pending.keys()
  }

  /** Forgets all requests, and returns their seqs. */
  giveUp(): number[] {
    const seqs = [...this.#pending.values()].map(({ seq }) => seq)
    for (const worker of [...this.#pending.keys()]) this.forgetWorker(worker)
    return [...seqs, ...this.#callers.giveUp()]
  }

  /** Another connection has committed: reads which lines have ready jobs for workers that wait here. */
  findReady(db: Db): void {
    const ready = readyAmong(db, [...this.#lines.keys()].map(sourceOf)).filter((source) => mayLease(db, source))
    this.#found = new Set(ready.map(({ queue, type }) => line(queue, type)))
  }

  /** Whether a transaction might have a job for some worker: else an idle process would take the write lock in vain. */
  mayAssign(db: Db, othersChanged: boolean): boolean {
    if (this.#untried.size > 0) return true
    if (!othersChanged) return false
    if (this.#found.size > 0 || db.get(`SELECT 1 WHERE ${someAreNew}`)) return true
    this.prepare(db)
    for (const { lines } of this.#pending.values())
      for (const source of lines?.ready() ?? []) if (mayLease(db, source)) return true
    return false
  }

  /**
   * Leases ready jobs to the workers that wait for them, in the order in which they asked; to none of `passOver`.
   * `othersChanged`: another connection may have made jobs ready in any line.
   */
  assign(db: Db, othersChanged: boolean, passOver: ReadonlySet<number>): Assigned[] {
    this.#known.readChanges(db, this.#asking())
    if (this.#pending.size === 0) {
      this.#known.applyOwn(db, [])
      return []
    }
    // Jobs that a worker never received go back before any are leased: it may be another worker's turn.
    for (const worker of this.#untried) confirmReceived(db, this.#pending.get(worker)!)
    const [first] = this.#pending.keys()
    db.ahead(() => [...dueReads(db), readFreed(db), readAsker(db, first!)])
    makeDueReady(db) // also what just went back with a backoff of 0
    freeRates(db) // at this instant: a job just submitted to a queue must not start before those that waited for its rate
    for (const key of this.#found) db.readied.add(key)
    this.#found.clear()
    for (const queue of db.resumed)
      for (const key of this.#lines.keys()) if (key.startsWith(line(queue, ''))) db.readied.add(key)
    this.passedOver = false
    const assigned: Assigned[] = []
    this.#known.applyOwn(db, this.#asking())
    const everywhere = othersChanged || this.company.isFree(db.begunAt)
    const empty = new Set<string>() // lines without a ready job: each is read once, though thousands of requests may wait for it
    for (const request of this.#worthATry(db, everywhere, empty)) {
      const isPassedOver = passOver.has(request.input.worker)
      this.passedOver ||= isPassedOver
      const lines = isPassedOver ? null : this.#toTry(db, request, everywhere, empty)
      const given = lines && this.#give(db, request, lines, empty)
      if (given) assigned.push(given)
    }
    return assigned
  }

  *#asking(): Generator<Lines> {
    for (const { lines } of this.#pending.values()) if (lines) yield lines
  }

  /** The lines that may have a job for a request; null for none. A new request is tried even so: it may have to be refused. */
  #toTry(db: Db, { input, lines }: PendingLease, everywhere: boolean, empty: ReadonlySet<string>): Lines | null {
    if (lines) return lines
    const { worker } = input
    // Its process had no room for a job that others were held back for. If another process has that job by now, they may start.
    const all = everywhere || this.#untried.has(worker) || this.#full.has(worker)
    const sources = input.sources.filter(({ queue, type }) => {
      const key = line(queue, type)
      return !empty.has(key) && (all || db.readied.has(key))
    })
    return sources.length === 0 && !this.#untried.has(worker) ? null : new Lines(sources)
  }

  #give(db: Db, request: PendingLease, lines: Lines, empty: Set<string>): Assigned | null {
    const { worker } = request.input
    const asker = askerOf(db, request)
    if (!asker) return { request, jobs: [], error: unknownWorker() }
    const slots = slotsOf(request.input, asker)
    const jobs = lease(db, { ...request.input, slots }, asker, lines, this.company, ({ queue, type }) =>
      empty.add(line(queue, type)),
    )
    if (!jobs) this.#full.add(worker)
    else this.#full.delete(worker)
    if (!jobs || jobs.length === 0) return null
    gave(db, request.input)
    return { request, jobs }
  }

  /**
   * In order: requests not yet tried, those that may have a slot again, and those for lines in which a job became ready.
   * Merges rows of workers by their place; the row with key '' has those that are worth a try whatever the line.
   */
  *#worthATry(db: Db, everywhere: boolean, empty: ReadonlySet<string>): Generator<PendingLease> {
    const full = db.freed || everywhere ? this.#full : []
    const some = [...this.#untried, ...full].map((worker) => this.#pending.get(worker)!)
    if (this.#known.size > 0)
      for (const request of this.#pending.values())
        if (request.lines?.hasOne(db.readied) || (everywhere && request.lines?.mayHaveSome)) some.push(request)
    some.sort((a, b) => a.place - b.place)
    const rows = [{ key: '', workers: some.map(({ input }) => input.worker).values() }]
    for (const key of db.readied) rows.push({ key, workers: (this.#lines.get(key) ?? new Set<number>()).values() })
    const next = (workers: Iterator<number>) => this.#pending.get(workers.next().value ?? Number.NaN)
    const heads = rows.map(({ key, workers }) => ({ key, workers, head: next(workers) }))
    for (let last = 0; ; ) {
      let first: (typeof heads)[number] | undefined
      for (const row of heads)
        if (row.head && !empty.has(row.key) && row.head.place < (first?.head?.place ?? Number.POSITIVE_INFINITY))
          first = row
      if (!first) return
      const request = first.head!
      first.head = next(first.workers)
      if (request.place > last) yield request // else it was yielded from another row
      last = request.place
    }
  }

  /** Whether a worker waits for a job that it could have: after `assign`, only one that was passed over. */
  starving(db: Db, assigned: Assigned[]): boolean {
    const served = new Set(assigned.map(({ request }) => request.input.worker))
    const isFree = ({ worker, slots, exclude }: LeaseRequest) =>
      exclude.length === 0 && !served.has(worker) && !this.#full.has(worker) && slots > runningBy(db, worker)
    for (const { lines, input } of this.#pending.values())
      for (const source of lines?.ready() ?? []) if (isFree(input) && mayLease(db, source)) return true
    for (const [key, workers] of this.#lines) {
      if (!mayLease(db, sourceOf(key))) continue
      for (const worker of [...workers].slice(0, mostAsked)) if (isFree(this.#pending.get(worker)!.input)) return true
    }
    return false
  }

  findEnded(db: Db, othersChanged: boolean): Ended[] {
    return this.#callers.findEnded(db, othersChanged)
  }

  /** After COMMIT: the changes of this transaction itself are known, and need no read. */
  committed(db: Db): void {
    this.#known.committed(db)
  }

  /** After COMMIT: returns the answers. `tried`: the transaction could lease jobs. */
  settle(assigned: Assigned[], ended: Ended[], tried: boolean): Reply[] {
    if (tried && this.#untried.size > 0) this.#untried.clear()
    for (const { request } of assigned) this.forgetWorker(request.input.worker)
    const replies = assigned.map(({ request: { seq }, jobs, error }) => (error ? { seq, error } : { seq, value: jobs }))
    return [...replies, ...this.#callers.settle(ended)]
  }
}
