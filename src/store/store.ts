import type { Instant } from '../model/clock.ts'
import type { ErrorCode } from '../model/errors.ts'
import type { Attempt, Job, JobSpec } from '../model/job.ts'
import type { State } from '../model/lifecycle.ts'

/** Jobs to store together: all or none. `keys[i]` is the idempotency key of `payloads[i]`. */
export interface Submission {
  /** One spec for all, or one for each. */
  specs: JobSpec | JobSpec[]
  /** JSON texts. */
  payloads: string[]
  keys: (string | null)[] | null
  /** JSON text of the submitter's trace context. */
  trace?: string | null
}

/** Ids in the order submitted; `duplicates` are the positions whose key had a job already. */
export interface Submitted {
  ids: number[]
  duplicates: number[]
}

/** One line of jobs: those of one queue and one type. */
export interface Source {
  queue: string
  type: string
}

/** What a worker wants next. Waits until there is at least one job; a newer request of the same worker replaces it. */
export interface LeaseRequest {
  worker: number
  sources: Source[]
  /** Most jobs that this worker may hold at once, those it holds already included. */
  slots: number
  /** Jobs whose timed-out handler still runs in this process. */
  exclude: number[]
}

/** The right to report on one attempt. A stale one is refused with LEASE_LOST. */
export interface Lease extends Source {
  id: number
  token: number
}

export interface LeasedJob extends Lease {
  priority: number
  /** JSON text. */
  payload: string
  attempt: number
  /** Place of this attempt in the present budget: 1 is the first. */
  tries: number
  maxAttempts: number
  /** JSON text of a StoredBackoff; null is the default one. */
  backoff: string | null
  timeout: number
  visibilityTimeout: number
  deadline: Instant | null
  /** JSON text that an earlier attempt left, or null. */
  checkpoint: string | null
  /** JSON text of the submitter's trace context, or null. */
  trace: string | null
  createdAt: Instant
  startedAt: Instant
}

export interface Failure {
  lease: Lease
  kind: 'temporary' | 'permanent' | 'timeout'
  error: { name: string; message: string; stack: string | null }
  /** Overrules the backoff. */
  retryAfter: number | null
}

/** How far a running job is, for people to see. */
export interface Progress {
  lease: Lease
  /** 0 to 100. */
  percent: number
  message: string | null
}

/** What became of a failed or reclaimed attempt. */
export interface Fate {
  state: State
  runAt: Instant | null
  reason: string | null
}

export interface JobFilter {
  state?: State
  queue?: string
  type?: string
  /** Newest first by default. */
  order?: 'oldest' | 'newest'
  /** Most jobs in the page: 1 to 1000, default 100. */
  limit?: number
  /** The `next` of the page before. */
  cursor?: number | null
}

export interface JobPage {
  jobs: Job[]
  /** Hand it to the next call; null when this is the last page. */
  next: number | null
}

export interface QueueStats {
  queue: string
  paused: boolean
  maxDepth: number | null
  counts: Record<State, number>
}

export interface WorkerRegistration {
  name: string
  sources: Source[]
  slots: number
}

export interface Worker extends WorkerRegistration {
  id: number
  pid: number | null
  host: string
  startedAt: Instant
  seenAt: Instant
  alive: boolean
  running: number
}

export interface Stats {
  queues: QueueStats[]
  workers: Worker[]
  /** Types with ready jobs that no live worker handles. */
  unhandled: Source[]
  /** Age of the oldest ready job in ms; null when none is ready. */
  oldestReadyMs: number | null
}

/** Limits of a queue; undefined leaves as it is, null takes the limit away. Durations in ms. */
export interface QueueSettings {
  queue: string
  paused?: boolean
  maxDepth?: number | null
  keepSucceeded?: number | null
  keepCancelled?: number | null
  keepDead?: number | null
}

/** A cron line that submits a job at each tick. */
export interface ScheduleSettings {
  name: string
  cron: string
  timezone: string
  spec: JobSpec
  /** JSON text. */
  payload: string
  /** What ticks are worth that nobody was there for: none, one job for all of them, or a job each (1,000 at most). */
  missed: 'skip' | 'once' | 'all'
  /** Whether a tick is skipped while the job of an earlier one has not ended. */
  overlap: 'allow' | 'skip'
}

export interface Schedule {
  name: string
  cron: string
  timezone: string
  queue: string
  type: string
  payload: unknown
  missed: 'skip' | 'once' | 'all'
  overlap: 'allow' | 'skip'
  paused: boolean
  /** Null when the cron line has no further tick. */
  nextAt: Instant | null
  lastAt: Instant | null
  lastJob: number | null
  /** When code last defined it: one that no deployed code defines any more stays behind. */
  definedAt: Instant
}

/** Everything a store can be asked: one entry for each event of the lifecycle, plus reads. Each is atomic and durable when it answers. */
export interface Operations {
  submit(submission: Submission): Submitted
  lease(request: LeaseRequest): LeasedJob[]
  succeed(outcome: { lease: Lease; result: string }): Fate
  fail(failure: Failure): Fate
  release(lease: Lease): Fate
  /** Answers at once; stored with the next transaction, or a second later. */
  progress(input: Progress): null
  checkpoint(input: { lease: Lease; state: string }): null
  heartbeat(lease: Lease): { expiresAt: Instant; cancelRequested: boolean }
  cancel(id: number): Fate
  retry(id: number): Fate
  remove(id: number): null
  setQueue(settings: QueueSettings): null
  setSchedule(settings: ScheduleSettings): null
  pauseSchedule(input: { name: string; paused: boolean }): null
  removeSchedule(name: string): null
  schedules(input: null): Schedule[]
  register(worker: WorkerRegistration): number
  /** Gives back what the worker still holds, uncharged. */
  unregister(worker: number): null
  /** Answers when the job has ended. */
  wait(id: number): Job
  job(id: number): Job | null
  jobs(filter: JobFilter): JobPage
  attempts(id: number): Attempt[]
  stats(input: null): Stats
  why(id: number): string
}

export type Operation = keyof Operations
export type Input<K extends Operation> = Parameters<Operations[K]>[0]
export type Output<K extends Operation> = ReturnType<Operations[K]>

/** What a store tells without being asked. */
export type StoreEvent =
  | { event: 'cancelRequested'; id: number; token: number }
  | { event: 'leaseLost'; id: number; token: number }
  | { event: 'reclaimed'; id: number; type: string; queue: string; fate: Fate }
  | { event: 'expired'; id: number; type: string; queue: string }
  | { event: 'tickLost'; schedule: string; tick: Instant; code: ErrorCode; message: string }
  | { event: 'health'; health: StoreHealth }

export interface StoreHealth {
  status: 'ok' | 'degraded' | 'failed'
  causes: { code: string; message: string; since: Instant }[]
  /** What goes on all the same. */
  works: { submit: boolean; lease: boolean; complete: boolean }
}

/** Where jobs live. SQLite, memory, HTTP and PostgreSQL each implement this and nothing more. */
export interface Store {
  call<K extends Operation>(operation: K, input: Input<K>, signal?: AbortSignal): Promise<Output<K>>
  /**
   * Stores jobs through a connection of the app's own, inside the transaction that is open on it, where a store can.
   * Refuses a connection that it cannot use with INVALID_ARGUMENT.
   */
  submitIn?(connection: unknown, submission: Submission): Submitted
  onEvent(listener: (event: StoreEvent) => void): void
  /** As last heard of; `health` events tell of each change. */
  readonly health: StoreHealth
  close(): Promise<void>
}
