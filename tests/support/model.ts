import type { ErrorCode } from '../../src/model/errors.ts'
import type { State } from '../../src/model/lifecycle.ts'

// The contract's sections 2, 3, 5, 6 and 8 once more, in the plainest way: a list of jobs and loops over it. It shares
// no code with the store, so that a test can hold the one against the other.

export interface ModelJob {
  id: number
  queue: string
  type: string
  key: string | null
  priority: number
  state: State
  attempt: number
  /** Attempts made before the present budget. */
  before: number
  maxAttempts: number
  /** Constant backoff. */
  backoff: number
  timeout: number
  onTimeout: 'retry' | 'dead'
  visibility: number
  runAt: number | null
  deadline: number | null
  startedAt: number
  expiresAt: number | null
  /** When its own process last gave or renewed its lease; a handler's heartbeat does not put that off. */
  renewedHere: number
  /** When its lease was last renewed by anyone; null: never. */
  renewedAt: number | null
  /** When its lease was found over. */
  overSince: number | null
  /** The end of its lease as it was seen last, and since when: who takes it has seen it unchanged for a second. */
  seen: { expiresAt: number | null; from: number }
  worker: number | null
  /** Number of the present lease among all leases. */
  lease: number
  cancelRequested: boolean
  /** Beside how many others of one process it may run; null: any number. */
  company: number | null
  /** Its losses alone, in a row. */
  losses: number
  /** Leases that ended without a word of their remote worker. */
  unheard: number
  reason: string | null
  finishedAt: number
}

/** A process that runs jobs: the store's own, or one that is reached over the network. */
interface ModelProcess {
  isOwn: boolean
  /** When it last said that it lives; written at most each 10 s. */
  seenAt: number
  /** Beside how many others each of its jobs is lost, from the first that is taken until its next sign of life. */
  others: number | null
  /** Handlers that go on although their attempts are over. */
  overdue: { id: number; lease: number; since: number }[]
  /** It has begun to stop. */
  stops: boolean
  /** The job that it is to start next, for which it has no room, and since when it waits for such: until one has its room. */
  next: { job: ModelJob; since: number } | null
}

/** How long a handler that goes on keeps its job from starting in its process. */
const goesOn = 30_000

/** How long after its timeout an attempt's lease lasts, for the worker to report the timeout itself. */
const grace = 1000

/** How long a lease lasts. */
const lifeOf = ({ visibility, timeout }: ModelJob): number => Math.min(visibility, timeout + grace)

/** A process that holds others back lets higher classes pass for 5 s, none for 5 s, then for 10 s, none for 20 s, and so on. */
function drains(heldBackFor: number): boolean {
  let is = false
  for (let from = 5000; heldBackFor >= from; from *= 2) is = !is
  return is
}

export class Refusal extends Error {
  readonly code: ErrorCode

  constructor(code: ErrorCode) {
    super(code)
    this.code = code
  }
}

export class Model {
  now: number
  jobs: ModelJob[] = []
  readonly paused = new Set<string>()
  readonly maxDepth = new Map<string, number>()
  /** By queue; how many jobs may run at once, and how many of a type and concurrency key. */
  readonly maxRunning = new Map<string, number>()
  readonly perKey = new Map<string, number>()
  /** How long succeeded and cancelled jobs are kept. */
  readonly keep = new Map<State, number>()
  /** By worker: each is alone in its process. */
  readonly #processes = new Map<number, ModelProcess>()
  #leases = 0

  constructor(now: number) {
    this.now = now
  }

  register(worker: number, isOwn: boolean): void {
    const nothing = { others: null, overdue: [], stops: false, next: null }
    this.#processes.set(worker, { isOwn, seenAt: this.now, ...nothing })
  }

  mustTake(queue: string): void {
    const waiting = this.jobs.filter(
      (job) => job.queue === queue && (job.state === 'ready' || job.state === 'scheduled'),
    )
    if (waiting.length >= (this.maxDepth.get(queue) ?? Number.POSITIVE_INFINITY)) throw new Refusal('QUEUE_FULL')
  }

  /** The first ready jobs by (class, id), as many as the worker has free slots and its process room. Answers with their ids. */
  lease(worker: number, queues: string[], types: string[], slots: number): number[] {
    this.#dueAndExpired()
    const process = this.#processes.get(worker)!
    const held = this.#heldBy(worker)
    if (held.length >= slots) return []
    const overdue = process.overdue.filter(({ since }) => this.now - since < goesOn).map(({ id }) => id)
    const handles = (job: ModelJob) => queues.includes(job.queue) && types.includes(job.type)
    const line = this.jobs
      .filter(
        (job) => job.state === 'ready' && handles(job) && !this.paused.has(job.queue) && !overdue.includes(job.id),
      )
      .sort((a, b) => a.priority - b.priority || a.id - b.id)
    const next = this.#nextOf(process)
    let before = next && handles(next.job) ? next : null
    const taken: ModelJob[] = []
    let passed = false
    for (const job of line) {
      if (taken.length >= slots - held.length || !this.#mayRun(job)) continue
      const isHigher = before !== null && job.priority < before.job.priority
      const isYounger = before !== null && !isHigher && (job.priority > before.job.priority || job.id > before.job.id)
      if (isYounger || (isHigher && drains(this.now - before!.since))) {
        passed = true
        continue
      }
      const beside = held.length + taken.length
      if ([...held, ...taken, job].some(({ company }) => company !== null && beside > company)) {
        const since = process.next?.since ?? this.now
        if (job.company !== null && beside > job.company) process.next = { job, since }
        break
      }
      taken.push(job)
      if (process.next?.job === job) process.next = null
      this.#start(job, worker)
      if (before?.job === job) before = null
      if (passed) break // those passed over come first now
    }
    if (taken.length > 0) Object.assign(process, { others: null, stops: false })
    return taken.map(({ id }) => id)
  }

  /** The job that a process is to start next, if that may start now. */
  #nextOf(process: ModelProcess): ModelProcess['next'] {
    const areLimited = this.jobs.some(({ company, finishedAt }) => company !== null && finishedAt === 0)
    if (!areLimited) for (const each of this.#processes.values()) each.next = null
    const job = process.next?.job
    const isReady = job?.state === 'ready' && this.jobs.includes(job) && job.company !== null
    if (!isReady || this.paused.has(job.queue) || !this.#mayRun(job)) process.next = null
    return process.next
  }

  #heldBy(worker: number): ModelJob[] {
    return this.jobs.filter((job) => job.state === 'running' && job.worker === worker)
  }

  #start(job: ModelJob, worker: number): void {
    const expiresAt = this.now + lifeOf(job)
    Object.assign(job, { state: 'running', attempt: job.attempt + 1, expiresAt, worker, lease: ++this.#leases })
    Object.assign(job, { startedAt: this.now, renewedHere: this.now, renewedAt: null, overSince: null })
  }

  /** Those that are ready before it hold a place of its concurrency key, whoever may take them. */
  #mayRun({ id, priority, queue, type, key }: ModelJob): boolean {
    const running = this.jobs.filter((job) => job.state === 'running' && job.queue === queue)
    if (running.length >= (this.maxRunning.get(queue) ?? Number.POSITIVE_INFINITY)) return false
    const alike = this.jobs.filter((job) => job.queue === queue && job.type === type && job.key === key)
    const isBefore = (job: ModelJob) => job.priority < priority || (job.priority === priority && job.id < id)
    const placed = alike.filter((job) => job.state === 'running' || (job.state === 'ready' && isBefore(job)))
    return key === null || placed.length < (this.perKey.get(queue) ?? 1)
  }

  succeed(job: ModelJob): void {
    this.#end(job, 'succeeded', null)
  }

  /** Ends what losses have limited. */
  fail(job: ModelJob, kind: 'temporary' | 'permanent' | 'timeout' | 'postpone'): void {
    if (kind === 'postpone' && !job.cancelRequested) {
      const runAt = Math.min(this.now + job.backoff, job.deadline ?? Number.POSITIVE_INFINITY)
      Object.assign(job, { state: 'scheduled', attempt: job.attempt - 1, runAt, expiresAt: null })
      return
    }
    Object.assign(job, { company: null, losses: 0 })
    if (job.cancelRequested) this.#end(job, 'cancelled', null)
    else if (kind === 'permanent') this.#end(job, 'dead', 'permanent')
    else if (kind === 'timeout' && job.onTimeout === 'dead') this.#end(job, 'dead', 'timeout')
    else if (job.attempt - job.before >= job.maxAttempts) this.#end(job, 'dead', 'exhausted')
    else Object.assign(job, { state: 'scheduled', runAt: this.now + job.backoff, expiresAt: null })
  }

  /** `others`: beside how many others it ran in its process; null when that it was lost is no evidence. */
  #lose(job: ModelJob, beside: number | null): void {
    const others = beside === null ? null : Math.min(beside, job.company ?? beside) // any beyond are handlers that go on
    const isLast = job.maxAttempts === 1 || (others === 0 && job.attempt - job.before >= job.maxAttempts)
    if (others === 0) job.losses++
    else if (others !== null) job.company = Math.floor(others / 2)
    if (job.cancelRequested) this.#end(job, 'cancelled', null)
    else if (isLast) this.#end(job, 'dead', 'exhausted')
    else if (others === 0 && job.losses > 1)
      Object.assign(job, { state: 'scheduled', runAt: this.now + job.backoff, expiresAt: null })
    else {
      if (others !== 0) job.before++
      Object.assign(job, { state: 'ready', expiresAt: null })
    }
  }

  release(job: ModelJob): void {
    if (job.cancelRequested) this.#end(job, 'cancelled', null)
    else Object.assign(job, { state: 'ready', attempt: job.attempt - 1, expiresAt: null })
  }

  heartbeat(job: ModelJob): void {
    this.#renew(job)
    const process = this.#processes.get(job.worker!)!
    process.others = null
    if (!process.isOwn && this.now >= process.seenAt + 10_000) process.seenAt = this.now
  }

  #renew(job: ModelJob): void {
    const expiresAt = Math.min(this.now + job.visibility, job.startedAt + job.timeout + grace)
    const overSince = this.now < job.startedAt + job.timeout ? null : job.overSince // no lease goes on beyond the timeout
    Object.assign(job, { expiresAt, renewedAt: this.now, overSince })
  }

  /** The handler of a lease that was lost has ended. */
  settled(id: number, lease: number): void {
    for (const process of this.#processes.values())
      process.overdue = process.overdue.filter((one) => one.id !== id || one.lease !== lease)
  }

  stopping(worker: number): void {
    this.#processes.get(worker)!.stops = true
  }

  cancel(job: ModelJob): void {
    if (job.state === 'running') job.cancelRequested = true
    else if (job.state === 'ready' || job.state === 'scheduled') this.#end(job, 'cancelled', null)
    else throw new Refusal('INVALID_STATE')
  }

  retry(job: ModelJob): void {
    if (job.state !== 'dead' && job.state !== 'cancelled') throw new Refusal('INVALID_STATE')
    const deadline = job.deadline !== null && job.deadline <= this.now ? null : job.deadline
    Object.assign(job, { state: 'ready', before: job.attempt, reason: null, cancelRequested: false, deadline })
    Object.assign(job, { losses: 0, unheard: 0, finishedAt: 0 })
  }

  runNow(job: ModelJob): void {
    if (job.state !== 'scheduled') throw new Refusal('INVALID_STATE')
    Object.assign(job, { state: 'ready', runAt: null })
  }

  remove(job: ModelJob): void {
    if (job.state !== 'succeeded' && job.state !== 'dead' && job.state !== 'cancelled')
      throw new Refusal('INVALID_STATE')
    this.jobs = this.jobs.filter((other) => other !== job)
  }

  /** Time passes, and the reaper looks once. */
  advance(ms: number): void {
    this.now += ms
    const running = this.jobs.filter(({ state }) => state === 'running')
    for (const job of running) if (this.#processes.get(job.worker!)!.isOwn) this.#tend(job)
    for (const job of running) if (!this.#processes.get(job.worker!)!.isOwn) this.#watch(job)
    for (const process of this.#processes.values()) if (process.isOwn) process.others = null
    this.#dueAndExpired()
    this.jobs = this.jobs.filter(({ state, finishedAt }) => !(finishedAt + this.keep.get(state)! <= this.now))
  }

  /** A lease of the store's own worker is renewed until its attempt is over; the app should have said how that ended. */
  #tend(job: ModelJob): void {
    if (this.now < job.startedAt + job.timeout + grace) {
      if (this.now < job.renewedHere + job.visibility / 3) return
      this.#renew(job)
      job.renewedHere = this.now
      return
    }
    const others = this.#take(job)
    if (Math.min(others, job.company ?? others) === 0) this.fail(job, 'timeout')
    else this.#lose(job, others)
  }

  /** A lease of another process is found over, and taken half of its life later. */
  #watch(job: ModelJob): void {
    if (job.seen.expiresAt !== job.expiresAt) job.seen = { expiresAt: job.expiresAt, from: this.now }
    if (job.overSince === null) {
      if (job.expiresAt! > this.now) return
      job.overSince = this.now
      job.seen.from = this.now
      return
    }
    if (this.now < Math.max(job.seen.from + 1000, job.overSince + lifeOf(job) / 2)) return
    const process = this.#processes.get(job.worker!)!
    const over = job.startedAt + job.timeout
    const wasThere = job.renewedAt !== null && job.renewedAt >= over - lifeOf(job) / 3
    if (this.now >= over && wasThere) {
      this.#goesOn(process, job)
      this.fail(job, 'timeout')
    } else if (process.stops) {
      this.#goesOn(process, job)
      this.#lose(job, null)
    } else {
      const others = this.#take(job)
      const isAlone = Math.min(others, job.company ?? others) === 0
      const isUnheard = isAlone && job.renewedAt === null && job.unheard < 3
      if (isUnheard) job.unheard++
      this.#lose(job, isUnheard ? null : others)
    }
  }

  #goesOn(process: ModelProcess, { id, lease }: ModelJob): void {
    process.overdue.push({ id, lease, since: this.now })
  }

  /** How many others its process ran, its handlers that go on included. */
  #take(job: ModelJob): number {
    const process = this.#processes.get(job.worker!)!
    // Of one over the network nobody may ever hear that a handler has ended.
    const overdue = process.overdue.filter(({ since }) => process.isOwn || this.now - since < goesOn)
    const there = this.jobs.filter(({ id }) => overdue.some((one) => one.id === id))
    const all = new Set([...this.#heldBy(job.worker!), ...there])
    this.#goesOn(process, job)
    process.others ??= all.size - 1
    return process.others
  }

  #dueAndExpired(): void {
    for (const job of this.jobs) {
      if (job.state === 'scheduled' && job.runAt! <= this.now) Object.assign(job, { state: 'ready', runAt: null })
      const waits = job.state === 'scheduled' || job.state === 'ready'
      if (waits && job.deadline !== null && job.deadline <= this.now) this.#end(job, 'dead', 'expired')
    }
  }

  #end(job: ModelJob, state: State, reason: string | null): void {
    Object.assign(job, { state, reason, runAt: null, expiresAt: null, finishedAt: this.now })
  }
}
