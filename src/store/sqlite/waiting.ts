import { type GopherQueueError, notFound } from '../../model/errors.ts'
import type { LeasedJob, LeaseRequest, Source } from '../store.ts'
import { someAreNew } from './admission.ts'
import { heldBy, lease } from './claim.ts'
import { Company } from './company.ts'
import { type Db, line, sourceOf } from './db.ts'
import { askerOf, gave, hear, slotsOf, unknownWorker } from './delivery.ts'
import { Lines } from './lines.ts'
import { endedAmong, job, mayLease, readyAmong } from './queries.ts'
import { ripen } from './reaper.ts'
import type { Reply, Request } from './request.ts'

export interface Fed {
  request: Request<'lease'>
  jobs: LeasedJob[]
  /** Why it gets none, now or later. */
  error?: GopherQueueError
}
export interface Told {
  id: number
  replies: Reply[]
}

/** How many workers of a line are looked at for one that starves: it is asked once a second. */
const looked = 100

interface Hungry extends Request<'lease'> {
  /** Its place among all that ask. */
  place: number
  /** What memory knows of its lines, when they are many. */
  lines: Lines | undefined
}

/** From so many lines on, memory is kept of a worker's lines between its requests; fewer are looked at anew each time. */
const manyLines = 64
/** Workers of which such memory is kept. */
const mostKnown = 100

const noLines: ReadonlySet<Lines> = new Set()

/** Requests that have no answer yet: workers that wait for a job, callers that wait for a job's end. There may be many thousands. */
export class Waiting {
  /** By worker: a newer request replaces the older one. */
  readonly #hungry = new Map<number, Hungry>()
  /** The workers that wait for a line, in the order in which they asked; those of many lines stand in #known alone. */
  readonly #lines = new Map<string, Set<number>>()
  /** The lines of workers that take jobs of many, also between their requests. */
  readonly #known = new Map<number, Lines>()
  /** Up to which change of the queues that memory is true; null: nothing is known yet. */
  #heard: number | null = null
  /** `data_version` when that was last asked: while it is the same, no other process has changed anything. */
  #heardVersion = 0
  /** For which jobs others are held back. */
  readonly #company = new Company((worker, { queue, type }) => {
    const waits = this.#waitsFor(worker, line(queue, type))
    return waits && this.#hungry.get(worker)!.input.slots > 0 // one that stops asks for none
  })
  /** Those whose worker had no free slot, or its process no room for the next job, when they were last tried. */
  readonly #full = new Set<number>()
  /** Lines that had jobs for somebody at the last look around. */
  #found = new Set<string>()
  /** The last transaction gave nothing to one that may have a job. */
  passedOver = false
  /** Seqs by job id. */
  readonly #waits = new Map<number, Set<number>>()
  /** Not yet tried: workers, and jobs that are waited for. */
  readonly #fresh = { workers: new Set<number>(), jobs: new Set<number>() }
  #places = 0

  get size(): number {
    return this.#hungry.size + this.#waits.size
  }

  /** Keeps or takes back what waits. Answers with replies that this settles, or null when the request is of another kind. */
  take({ seq, operation, input, epoch }: Request): Reply[] | null {
    if (operation === 'lease') {
      const { worker, sources, ask } = input as LeaseRequest
      // Sent before the one that waits and arrived after it: its worker no longer counts on it.
      if (ask !== undefined && ask < (this.#hungry.get(worker)?.input.ask ?? ask)) return [{ seq, value: [] }]
      const replies = this.forgetWorker(worker)
      const lines = sources.length < manyLines ? undefined : this.#linesOf(worker, sources)
      this.#hungry.set(worker, { seq, operation, input: input as LeaseRequest, epoch, place: ++this.#places, lines })
      if (!lines)
        for (const { queue, type } of sources) {
          const key = line(queue, type)
          this.#lines.set(key, (this.#lines.get(key) ?? new Set()).add(worker))
        }
      this.#fresh.workers.add(worker)
      return replies
    }
    if (operation === 'wait') {
      this.#waits.set(input as number, (this.#waits.get(input as number) ?? new Set()).add(seq))
      this.#fresh.jobs.add(input as number)
      return []
    }
    if (operation !== 'forget') return null
    for (const [worker, request] of this.#hungry) if (request.seq === input) this.forgetWorker(worker)
    for (const [id, seqs] of this.#waits) if (seqs.delete(input as number) && seqs.size === 0) this.#waits.delete(id)
    return []
  }

  forgetWorker(worker: number): Reply[] {
    const older = this.#hungry.get(worker)
    if (!older) return []
    this.#hungry.delete(worker)
    this.#full.delete(worker)
    this.#fresh.workers.delete(worker)
    for (const { queue, type } of older.lines ? [] : older.input.sources) {
      const key = line(queue, type)
      if (this.#lines.get(key)?.delete(worker) && this.#lines.get(key)!.size === 0) this.#lines.delete(key)
    }
    return [{ seq: older.seq, value: [] }]
  }

  #waitsFor(worker: number, key: string): boolean {
    return this.#hungry.get(worker)?.lines?.has(key) ?? this.#lines.get(key)?.has(worker) ?? false
  }

  #linesOf(worker: number, sources: Source[]): Lines {
    const known = this.#known.get(worker)
    const lines = known?.areOf(sources) ? known : new Lines(sources)
    this.#known.delete(worker)
    const [oldest] = this.#known.keys()
    if (oldest !== undefined && this.#known.size >= mostKnown) this.#known.delete(oldest)
    this.#known.set(worker, lines) // the last to be forgotten
    return lines
  }

  /** Hears which queues other processes have changed: looks through all, which an index would spare, at a page each COMMIT. */
  #hear(db: Db): void {
    const many = this.#many()
    if (many.size === 0) this.#heard = null
    if (many.size === 0) return
    const { data_version: version } = db.get<{ data_version: number }>('PRAGMA data_version')!
    if (this.#heard !== null && version === this.#heardVersion) return
    const upTo = db.sequence() // before the look: outside of a transaction others may commit in between
    if (this.#heard !== null)
      for (const { name } of db.all<{ name: string }>('SELECT name FROM gq_queues WHERE changed >= ?1', this.#heard))
        for (const lines of many) lines.changed(name)
    this.#heardVersion = version
    this.#heard = upTo
  }

  /** Lines of those that ask for many, now or again soon. */
  #many(): ReadonlySet<Lines> {
    if (this.#known.size === 0) return noLines
    const many = new Set(this.#known.values())
    if (many.size === mostKnown) for (const { lines } of this.#hungry.values()) if (lines) many.add(lines)
    return many
  }

  /** Looks at lines on reads, so that the transaction which follows has few to look at under the lock. */
  prepare(db: Db): void {
    if (this.#known.size === 0) return
    try {
      this.#hear(db)
      for (const { lines } of this.#hungry.values()) lines?.learn(db)
    } catch {
      this.forgetLines() // the transaction meets the same fault, and tells
    }
  }

  /** The transaction did not take place, or the file is another one: what memory learned in it is not true. */
  forgetLines(): void {
    this.#heard = null
    this.#known.clear()
    for (const request of this.#hungry.values())
      if (request.lines) request.lines = this.#linesOf(request.input.worker, request.input.sources)
  }

  /** This process stood still for `ms`. */
  skip(ms: number): void {
    this.#company.skip(ms)
  }

  /** Whether time alone has changed what the workers of a process may take. */
  isDue(monotonic: number): boolean {
    return this.#company.isDue(monotonic)
  }

  /** Handlers go on from that moment although their leases are over. */
  goOn(leases: readonly { id: number; token: number }[], monotonic: number): void {
    this.#company.goOn(leases, monotonic)
  }

  /** The worker is gone. */
  forgetCompany(worker: number): void {
    this.#company.forget(worker)
    this.#known.delete(worker)
  }

  /** Their workers were known to the file of this epoch. */
  areOf(epoch: string): void {
    this.forgetLines()
    for (const request of this.#hungry.values()) {
      request.epoch ??= epoch
      this.#fresh.workers.add(request.input.worker)
    }
  }

  /** What kept it from being fed is over. */
  tryAgain(worker: number): void {
    if (this.#hungry.has(worker)) this.#fresh.workers.add(worker)
  }

  workers(): Iterable<number> {
    return this.#hungry.keys()
  }

  /** Lets go of all that wait: their seqs. */
  giveUp(): number[] {
    const hungry = [...this.#hungry.values()].map(({ seq }) => seq)
    for (const worker of [...this.#hungry.keys()]) this.forgetWorker(worker)
    const seqs = [...this.#waits.values()].flatMap((waits) => [...waits])
    this.#waits.clear()
    return [...hungry, ...seqs]
  }

  /** Looks, on a read, which lines have jobs for those that wait: what others have changed is known to nobody here. */
  lookAround(db: Db): void {
    const ready = readyAmong(db, [...this.#lines.keys()].map(sourceOf)).filter((source) => mayLease(db, source))
    this.#found = new Set(ready.map(({ queue, type }) => line(queue, type)))
  }

  /** Whether a transaction could feed someone, so that an idle worker takes no write lock in vain. */
  mayFeed(db: Db, lookAround: boolean): boolean {
    if (this.#fresh.workers.size > 0) return true
    if (!lookAround) return false
    if (this.#found.size > 0 || db.get(`SELECT 1 WHERE ${someAreNew}`)) return true
    this.prepare(db)
    for (const { lines } of this.#hungry.values())
      for (const source of lines?.ready() ?? []) if (mayLease(db, source)) return true
    return false
  }

  /**
   * Gives ready jobs to the workers that wait for them, in the order in which they asked; to none of `passOver`.
   * `lookAround`: others may have made jobs ready in any line, which go first where their class is higher.
   */
  feed(db: Db, lookAround: boolean, passOver: ReadonlySet<number>): Fed[] {
    this.#hear(db)
    if (this.#hungry.size === 0) {
      this.#heed(db)
      return []
    }
    ripen(db)
    for (const key of this.#found) db.readied.add(key)
    this.#found.clear()
    for (const queue of db.resumed)
      for (const key of this.#lines.keys()) if (key.startsWith(line(queue, ''))) db.readied.add(key)
    this.passedOver = false
    const fed: Fed[] = []
    // What they have not received goes back before anyone is fed: it may be another's turn.
    for (const worker of this.#fresh.workers) hear(db, this.#hungry.get(worker)!)
    this.#heed(db)
    const everywhere = lookAround || this.#company.isFree(db.begunAt)
    const dry = new Set<string>() // lines with nothing left: thousands of requests may wait for one job
    for (const request of this.#worthATry(db, everywhere, dry)) {
      const isPassedOver = passOver.has(request.input.worker)
      this.passedOver ||= isPassedOver
      const lines = isPassedOver ? null : this.#toTry(db, request, everywhere, dry)
      const given = lines && this.#give(db, request, lines, dry)
      if (given) fed.push(given)
    }
    return fed
  }

  /** What this transaction made ready has to be looked at. */
  #heed(db: Db): void {
    const many = this.#many()
    if (many.size === 0 && this.#hungry.size === 0) return
    for (const lines of many) {
      for (const queue of db.resumed) lines.resumed(queue)
      for (const key of db.readied) lines.readied(key)
    }
  }

  /** The lines of a request that may have a job for it, also none when it is new: it may have to be refused. */
  #toTry(db: Db, { input, lines }: Hungry, everywhere: boolean, dry: ReadonlySet<string>): Lines | null {
    if (lines) return lines
    const { worker } = input
    // Where its process had no room, older jobs of other lines may wait: another process may have what they stood back for.
    const all = everywhere || this.#fresh.workers.has(worker) || this.#full.has(worker)
    const sources = input.sources.filter(({ queue, type }) => {
      const key = line(queue, type)
      return !dry.has(key) && (all || db.readied.has(key))
    })
    return sources.length === 0 && !this.#fresh.workers.has(worker) ? null : new Lines(sources)
  }

  #give(db: Db, request: Hungry, lines: Lines, dry: Set<string>): Fed | null {
    const { worker } = request.input
    const asker = askerOf(db, request)
    if (!asker) return { request, jobs: [], error: unknownWorker() }
    const slots = slotsOf(request.input, asker)
    const jobs = lease(db, { ...request.input, slots }, asker, lines, this.#company, ({ queue, type }) =>
      dry.add(line(queue, type)),
    )
    if (!jobs) this.#full.add(worker)
    else this.#full.delete(worker)
    if (!jobs || jobs.length === 0) return null
    gave(db, request.input)
    return { request, jobs }
  }

  /** By place: those not yet tried, those who may have a slot again, and those of lines in which something became ready. */
  *#worthATry(db: Db, everywhere: boolean, dry: ReadonlySet<string>): Generator<Hungry> {
    const full = db.freed || everywhere ? this.#full : []
    const some = [...this.#fresh.workers, ...full].map((worker) => this.#hungry.get(worker)!)
    if (this.#known.size > 0)
      for (const request of this.#hungry.values())
        if (request.lines?.hasOne(db.readied) || (everywhere && request.lines?.mayHaveSome)) some.push(request)
    const rows = [
      {
        key: '',
        workers: some
          .sort((a, b) => a.place - b.place)
          .map(({ input }) => input.worker)
          .values(),
      },
    ]
    for (const key of db.readied) rows.push({ key, workers: (this.#lines.get(key) ?? new Set<number>()).values() })
    const next = (workers: Iterator<number>) => this.#hungry.get(workers.next().value ?? Number.NaN)
    const heads = rows.map(({ key, workers }) => ({ key, workers, head: next(workers) }))
    for (let last = 0; ; ) {
      let first: (typeof heads)[number] | undefined
      for (const row of heads)
        if (row.head && !dry.has(row.key) && row.head.place < (first?.head?.place ?? Number.POSITIVE_INFINITY))
          first = row
      if (!first) return
      const request = first.head!
      first.head = next(first.workers)
      if (request.place > last) yield request // else it stands in two rows
      last = request.place
    }
  }

  /** Whether a request waits that could have a job. True after `feed` only if that passed one over. */
  starving(db: Db, fed: Fed[]): boolean {
    const served = new Set(fed.map(({ request }) => request.input.worker))
    const isFree = ({ worker, slots, exclude }: LeaseRequest) =>
      exclude.length === 0 && !served.has(worker) && !this.#full.has(worker) && slots > heldBy(db, worker)
    for (const { lines, input } of this.#hungry.values())
      for (const source of lines?.ready() ?? []) if (isFree(input) && mayLease(db, source)) return true
    for (const [key, workers] of this.#lines) {
      if (!mayLease(db, sourceOf(key))) continue
      for (const worker of [...workers].slice(0, looked)) if (isFree(this.#hungry.get(worker)!.input)) return true
    }
    return false
  }

  /** What those are told whose job has ended or is gone. */
  tell(db: Db, lookAround: boolean): Told[] {
    if (this.#waits.size === 0) return []
    const some = new Set([...db.ended, ...this.#fresh.jobs])
    const worthALook = lookAround ? [...this.#waits.keys()] : [...some].filter((id) => this.#waits.has(id))
    if (worthALook.length === 0) return []
    // What ended in this transaction may have been retried in it too.
    return endedAmong(db, worthALook).map((id) => {
      const found = job(db, id)
      const seqs = [...this.#waits.get(id)!]
      return { id, replies: seqs.map((seq) => (found ? { seq, value: found } : { seq, error: notFound(id) })) }
    })
  }

  /** The transaction is on disk: what it changed itself needs no second look. */
  committed({ change }: Db): void {
    if (this.#heard !== null && change !== null) this.#heard = change
  }

  /** The transaction is on disk; `tried`: it could give jobs. */
  settle(fed: Fed[], told: Told[], tried: boolean): Reply[] {
    if (tried && this.#fresh.workers.size > 0) this.#fresh.workers.clear()
    if (this.#fresh.jobs.size > 0) this.#fresh.jobs.clear()
    for (const { request } of fed) this.forgetWorker(request.input.worker)
    for (const { id } of told) this.#waits.delete(id)
    const replies = fed.map(({ request: { seq }, jobs, error }) => (error ? { seq, error } : { seq, value: jobs }))
    return [...replies, ...told.flatMap((t) => t.replies)]
  }
}
