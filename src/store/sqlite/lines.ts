import type { Source } from '../store.ts'
import type { Candidate, Heeded } from './company.ts'
import { type Db, line } from './db.ts'
import { Heap } from './heap.ts'

// A line is a queue and a type. A worker of 2,000 queues and 5 types has 10,000 lines. A claim merges them in the order of
// their first jobs (class, id). Memory keeps a lower bound of each line's first job, which a lease can only raise: so a claim
// reads only the lines with the lowest bounds, and costs by the job, not by the line.

/** Ids are below it: class and id as one number. */
const idsBelow = 2 ** 50
const placeOf = ({ priority, id }: { priority: number; id: number }): number => priority * idsBelow + id

/** The bounds of a line that has to be read, of one without a ready job, and of one whose queue has no room (set aside). */
const unknown = -1
const none = Number.POSITIVE_INFINITY
const aside = -2

/** The ready jobs of a line that a claim has read. */
interface Looked {
  i: number
  rows: { id: number; priority: number; company: number | null }[]
  /** Index of the next row. */
  at: number
  /** The line may have more jobs than `rows`. */
  isCut: boolean
  /** The line has jobs that this worker must not take, and another may. */
  isSpared: boolean
  /** The line's bound before. */
  was: number
}

/** A claim that goes on: what it heeds, and how far it has got. */
interface Merge extends Omit<Heeded, 'gate'> {
  db: Db
  /** How many more jobs of a queue may run. */
  room: (queue: string) => number
  limit: number
  /** `before`, until it was given. */
  awaited: Candidate | null
  looked: Map<number, Looked>
  /** Lines that were set aside. */
  full: number[]
  passed: boolean
  /** The line of the last candidate: it stays out of the heap as long as its next job comes first. */
  current: { bound: number; i: number } | null
}

/** Whether a line has a ready job of a class before `from`. */
const hasHigher = ({ db, from, excluded }: Merge, queue: string, type: string): boolean =>
  db.get(
    `SELECT 1 FROM gq_jobs
     WHERE state = 'ready' AND blocked = 0 AND queue = ?1 AND type = ?2 AND priority < ?4
       AND (deadline IS NULL OR deadline > ?3) AND id NOT IN (SELECT value FROM json_each(?5)) LIMIT 1`,
    ...[queue, type, db.now, from, JSON.stringify([...excluded])],
  ) !== undefined

export class Lines {
  readonly sources: readonly Source[]
  readonly #numbers = new Map<string, number>()
  readonly #ofQueue = new Map<string, number[]>()
  readonly #bounds: number[]
  #heap = new Heap()
  /** Bounds of lines whose queue had no room, by queue and line. */
  readonly #aside = new Map<string, Map<number, number>>()

  constructor(sources: readonly Source[]) {
    this.sources = sources
    this.#bounds = Array<number>(sources.length).fill(unknown)
    for (const [i, { queue, type }] of sources.entries()) {
      this.#numbers.set(line(queue, type), i)
      const others = this.#ofQueue.get(queue)
      if (others) others.push(i)
      else this.#ofQueue.set(queue, [i])
      this.#heap.push(unknown, i)
    }
  }

  has(key: string): boolean {
    return this.#numbers.has(key)
  }

  hasOne(keys: ReadonlySet<string>): boolean {
    for (const key of keys) if (this.#numbers.has(key)) return true
    return false
  }

  areOf(sources: readonly Source[]): boolean {
    const same = (source: Source, i: number) => {
      const own = this.sources[i]!
      return source.queue === own.queue && source.type === own.type
    }
    return sources === this.sources || (sources.length === this.sources.length && sources.every(same))
  }

  /** A job of the line became ready. */
  readied(key: string): void {
    const i = this.#numbers.get(key)
    if (i !== undefined) this.#lookAgain(i)
  }

  /** Something happened in a queue: any of its lines may have jobs, and it may have room. */
  changed(queue: string): void {
    this.resumed(queue)
    for (const i of this.#ofQueue.get(queue) ?? []) this.#lookAgain(i)
  }

  /** A queue may have room. */
  resumed(queue: string): void {
    for (const [i, bound] of this.#aside.get(queue) ?? []) this.#set(i, bound)
    this.#aside.delete(queue)
  }

  #lookAgain(i: number): void {
    const { queue } = this.sources[i]!
    if (this.#bounds[i] === aside) this.#aside.get(queue)!.set(i, unknown)
    else if (this.#bounds[i] !== unknown) this.#set(i, unknown)
  }

  #set(i: number, bound: number): void {
    if (this.#bounds[i] === bound) return
    this.#bounds[i] = bound
    if (bound < none) this.#heap.push(bound, i)
    if (this.#heap.size <= 4 * this.sources.length + 64) return
    this.#heap = new Heap()
    for (const [number, known] of this.#bounds.entries())
      if (known !== aside && known < none) this.#heap.push(known, number)
  }

  /** The line of the lowest bound. */
  #lowest(): { bound: number; i: number } | undefined {
    for (;;) {
      const { first } = this.#heap
      if (!first || this.#bounds[first.i] === first.bound) return first
      this.#heap.pop()
    }
  }

  /** Reads the first job of each line that has to be read, outside the write lock: a claim then has few left. */
  learn(db: Db): void {
    const some: number[] = []
    for (let lowest = this.#lowest(); lowest?.bound === unknown; lowest = this.#lowest()) {
      this.#heap.pop()
      this.#bounds[lowest.i] = none // until it is set below
      some.push(lowest.i)
    }
    if (some.length === 0) return
    const rows = db.arrays(
      `SELECT (SELECT priority * ${idsBelow} + id FROM gq_jobs
               WHERE state = 'ready' AND blocked = 0 AND queue = value ->> 0 AND type = value ->> 1
               ORDER BY priority, id LIMIT 1)
       FROM json_each(?1)`,
      JSON.stringify(some.map((i) => [this.sources[i]!.queue, this.sources[i]!.type])),
    )
    for (const [n, i] of some.entries()) this.#set(i, (rows[n]![0] as number | null) ?? none)
  }

  /** Whether a line may have ready jobs, of a queue that may have room. */
  get mayHaveSome(): boolean {
    return this.ready().next().done === false
  }

  /** Those that may have ready jobs, of queues that may have room. */
  *ready(): Generator<Source> {
    for (const [i, bound] of this.#bounds.entries()) if (bound !== aside && bound < none) yield this.sources[i]!
  }

  /** Goes through the ready jobs in order, from class `from` on, those of `excluded` left out, and `before` among them. */
  claim(db: Db, room: (queue: string) => number, heeded: { limit: number } & Omit<Heeded, 'gate'>): Claim {
    const { before } = heeded
    const awaited = before && this.has(line(before.source.queue, before.source.type)) ? before : null
    const merge: Merge = { db, room, ...heeded, awaited, looked: new Map(), full: [], passed: false, current: null }
    return {
      next: () => this.#next(merge),
      end: (taken) => this.#end(merge, taken),
      passed: () => merge.passed,
    }
  }

  /** A line that is met first is read, and queued again under the place of its first job; a candidate comes out the next time. */
  #next(merge: Merge): Candidate | undefined {
    const { room, before, excluded, looked, awaited } = merge
    for (;;) {
      const lowest = this.#lowest()
      const { current } = merge
      const goesOn = current !== null && current.bound <= (lowest?.bound ?? none)
      const first = goesOn ? current : lowest
      if (awaited && placeOf(awaited) <= (first?.bound ?? none)) {
        merge.awaited = null
        return awaited
      }
      if (!first) return undefined
      const { i, bound } = first
      const source = this.sources[i]!
      if (!goesOn) {
        this.#heap.pop()
        if (current) this.#set(current.i, current.bound)
      }
      merge.current = null
      const known = looked.get(i)
      if (!known && room(source.queue) === 0) {
        this.#setAside(i)
        merge.full.push(i)
        continue
      }
      const { rows, at } = known ?? this.#look(merge, i, bound)
      const row = known && rows[at]
      if (known) known.at++
      const following = rows[known ? at + 1 : 0]
      this.#bounds[i] = none
      if (following) merge.current = { i, bound: placeOf(following) }
      if (row && row.id !== before?.id && !excluded.has(row.id)) return Object.assign(row, { source })
    }
  }

  /** Reads the first ready jobs of a line. */
  #look(merge: Merge, i: number, was: number): Looked {
    const { db, room, limit, excluded, from } = merge
    const { queue, type } = this.sources[i]!
    const most = Math.min(limit, room(queue)) + excluded.size
    const found = db.firstReady({ queue, type }, from, most)
    const rows = found.map(([id, priority, company]) => ({ id, priority, company }))
    merge.passed ||= from > 0 && hasHigher(merge, queue, type)
    // A job that this worker must not take, or that stands before `from`, is another worker's in the same transaction.
    const isSpared = from > 0 || rows.some(({ id }) => excluded.has(id))
    const known = { i, rows, at: 0, isCut: rows.length === most, isSpared, was }
    merge.looked.set(i, known)
    return known
  }

  #end({ room, full, looked, from }: Merge, taken: ReadonlySet<number>): Source[] {
    const empty = full.map((i) => this.sources[i]!)
    for (const { i, rows, at, isCut, isSpared, was } of looked.values()) {
      const left = rows.find(({ id }) => !taken.has(id))
      const last = rows.at(-1)
      const bound = left ? placeOf(left) : isCut && last ? placeOf(last) + 1 : none
      this.#set(i, from > 0 ? was : bound) // what stands before `from` is not known
      const source = this.sources[i]!
      if ((!isCut && !isSpared && at === rows.length) || room(source.queue) === 0) empty.push(source)
    }
    return empty
  }

  #setAside(i: number): void {
    const { queue } = this.sources[i]!
    const others = this.#aside.get(queue) ?? new Map<number, number>()
    this.#aside.set(queue, others.set(i, this.#bounds[i]!))
    this.#bounds[i] = aside
  }
}

export interface Claim {
  /** The next candidate; undefined when there is none. */
  next(): Candidate | undefined
  /** Whether a job of a class before `from` could have been a candidate. */
  passed(): boolean
  /** Ends the claim with the ids that were taken; returns the lines that have no job left for any worker. */
  end(taken: ReadonlySet<number>): Source[]
}
