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
  renewedAt: number
  worker: number | null
  /** Number of the present lease among all leases. */
  lease: number
  cancelRequested: boolean
  reason: string | null
  finishedAt: number
}

/** How long after its timeout an attempt's lease lasts, for the worker to report the timeout itself. */
const grace = 1000

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
  /** The workers of this process: their leases are renewed. */
  readonly own = new Set<number>()
  #leases = 0

  constructor(now: number) {
    this.now = now
  }

  mustTake(queue: string): void {
    const waiting = this.jobs.filter(
      (job) => job.queue === queue && (job.state === 'ready' || job.state === 'scheduled'),
    )
    if (waiting.length >= (this.maxDepth.get(queue) ?? Number.POSITIVE_INFINITY)) throw new Refusal('QUEUE_FULL')
  }

  /** The first ready jobs by (class, id), as many as the worker has free slots. Answers with their ids. */
  lease(worker: number, queues: string[], types: string[], slots: number): number[] {
    this.#dueAndExpired()
    const held = this.jobs.filter((job) => job.state === 'running' && job.worker === worker).length
    const line = this.jobs
      .filter((job) => job.state === 'ready' && queues.includes(job.queue) && types.includes(job.type))
      .filter((job) => !this.paused.has(job.queue))
      .sort((a, b) => a.priority - b.priority || a.id - b.id)
    const taken: ModelJob[] = []
    for (const job of line) {
      if (taken.length >= slots - held || !this.#mayRun(job)) continue
      taken.push(job)
      const expiresAt = this.now + Math.min(job.visibility, job.timeout + grace)
      const lease = ++this.#leases
      Object.assign(job, {
        state: 'running',
        attempt: job.attempt + 1,
        startedAt: this.now,
        renewedAt: this.now,
        expiresAt,
        worker,
        lease,
      })
    }
    return taken.map(({ id }) => id)
  }

  #mayRun({ queue, type, key }: ModelJob): boolean {
    const running = this.jobs.filter((job) => job.state === 'running' && job.queue === queue)
    if (running.length >= (this.maxRunning.get(queue) ?? Number.POSITIVE_INFINITY)) return false
    const alike = running.filter((job) => job.type === type && job.key === key)
    return key === null || alike.length < (this.perKey.get(queue) ?? 1)
  }

  succeed(job: ModelJob): void {
    this.#end(job, 'succeeded', null)
  }

  fail(job: ModelJob, kind: 'temporary' | 'permanent' | 'timeout' | 'lost'): void {
    const left = job.maxAttempts - (job.attempt - job.before)
    if (job.cancelRequested) this.#end(job, 'cancelled', null)
    else if (kind === 'permanent') this.#end(job, 'dead', 'permanent')
    else if (kind === 'timeout' && job.onTimeout === 'dead') this.#end(job, 'dead', 'timeout')
    else if (left === 0) this.#end(job, 'dead', 'exhausted')
    else if (kind === 'lost') Object.assign(job, { state: 'ready', expiresAt: null })
    else Object.assign(job, { state: 'scheduled', runAt: this.now + job.backoff, expiresAt: null })
  }

  release(job: ModelJob): void {
    if (job.cancelRequested) this.#end(job, 'cancelled', null)
    else Object.assign(job, { state: 'ready', attempt: job.attempt - 1, expiresAt: null })
  }

  heartbeat(job: ModelJob): void {
    job.expiresAt = Math.min(this.now + job.visibility, job.startedAt + job.timeout + grace)
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
  }

  remove(job: ModelJob): void {
    if (job.state !== 'succeeded' && job.state !== 'dead' && job.state !== 'cancelled')
      throw new Refusal('INVALID_STATE')
    this.jobs = this.jobs.filter((other) => other !== job)
  }

  /** Time passes, and the reaper looks once. */
  advance(ms: number): void {
    this.now += ms
    for (const job of this.jobs.filter(({ state }) => state === 'running')) {
      if (this.own.has(job.worker!) && this.now >= job.renewedAt + job.visibility / 3) {
        this.heartbeat(job)
        job.renewedAt = this.now
      }
      if (job.expiresAt! <= this.now) this.fail(job, this.now >= job.startedAt + job.timeout ? 'timeout' : 'lost')
    }
    this.#dueAndExpired()
    this.jobs = this.jobs.filter(({ state, finishedAt }) => !(finishedAt + this.keep.get(state)! <= this.now))
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
