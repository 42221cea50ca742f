import type { Instant } from '../model/clock.ts'
import type { ErrorCode } from '../model/errors.ts'
import type { Attempt, DeadReason, Job, JobError, JobSpec, Priority } from '../model/job.ts'
import type { State } from '../model/lifecycle.ts'
import type { Scope } from '../model/token.ts'

/** Jobs to store together: all or none. `keys[i]` is the idempotency key of `payloads[i]`. */
export interface Submission {
  /** One spec for all, or one for each. */
  specs: JobSpec | JobSpec[]
  /** JSON texts. */
  payloads: string[]
  keys: (string | null)[] | null
  /** JSON text of the submitter's trace context. */
  trace?: string | null
  /** Names this call: sent again because its answer was lost, it is answered as the first time, and stores nothing. */
  request?: string | null
  /** SHA-256 of what the request asks for, where its maker has it already: it may be made of 64 MiB. */
  digest?: string
}

/** Ids in the order submitted; `duplicates` are the positions whose key had a job already. */
export interface Submitted {
  ids: number[]
  duplicates: number[]
  /** Of the duplicates, in their order: null where retention has deleted the job and its key is still held. None without duplicates. */
  states?: (State | null)[]
  /** This is the answer of an earlier submission of the same request: nothing was stored now. */
  replayed?: true
}

/** One line of jobs: those of one queue and one type. */
export interface Source {
  /** Its queue. */
  queue: string
  /** Its type. */
  type: string
}

/** What a worker wants next. Waits until there is at least one job; a newer request of the same worker replaces it. */
export interface LeaseRequest {
  worker: number
  sources: Source[]
  /** Most jobs that this worker may hold at once, those it holds already included. */
  slots: number
  /** Jobs that it must not have, besides those whose handlers go on in its process. */
  exclude: number[]
  /**
   * Tokens of the jobs that it has, of a worker on the network. What it was given and neither names nor ever confirmed was
   * not received: it goes back, uncharged. Undefined when it does not say.
   */
  holds?: number[]
  /** Number of the request among those of its worker, growing: one that arrives after a newer one gets nothing. */
  ask?: number
  /** The first of its requests whose answer it may still receive; this one if not given. What that gave does not go back. */
  since?: number
}

/** The right to report on one attempt. A stale one is refused with LEASE_LOST. */
export interface Lease extends Source {
  id: number
  token: number
  /** Of the file that gave it, where it came over the network: in another file it fits nothing. */
  epoch?: string
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
  /** The tick of the schedule that submitted it, or null. */
  tick: Instant | null
  startedAt: Instant
  /** Ms from when it became ready to this lease; null where that is not known: a delayed job, or not its first lease. */
  waited?: number | null
}

export interface Failure {
  lease: Lease
  kind: 'temporary' | 'permanent' | 'timeout'
  error: JobError
  /** Overrules the backoff. */
  retryAfter: number | null
  /** Its handler still runs: the job is not to start beside it in the same process, until `settled` or for 30 s. */
  goesOn?: boolean
}

/** How far a running job is, for people to see. */
export interface Progress {
  lease: Lease
  /** 0 to 100. */
  percent: number
  message: string | null
}

/** What an event made of a job. */
export interface Fate {
  /** Where it is now; `running` if it was only asked to stop. */
  state: State
  /** When its next attempt is due (Unix ms), in state `scheduled`. */
  runAt: Instant | null
  /** Why it is dead, in state `dead`. */
  reason: DeadReason | null
}

/** Which jobs to list: those that fit all that is given. */
export interface JobFilter {
  /** Default: any. */
  state?: State
  /** Default: any. */
  queue?: string
  /** Default: any. */
  type?: string
  /** In its payload or one of its keys, whatever the case. Default: any. */
  text?: string
  /** Of the group of errors that `deadLetters` names so: its latest attempt failed with one of those. Default: any. */
  error?: string
  /** Submitted then or later (Unix ms), by the order of ids. Default: any. */
  since?: Instant
  /** Submitted before (Unix ms), by the order of ids. Default: any. */
  until?: Instant
  /** Newest first by default. */
  order?: 'oldest' | 'newest'
  /** Most jobs in the page: 1 to 1000, default 100. */
  limit?: number
  /** The `next` of the page before. */
  cursor?: number | null
}

/** Some of the jobs that fit a filter. */
export interface JobPage {
  /** In the order asked for. */
  jobs: Job[]
  /** Hand it to the next call; null when this is the last page. */
  next: number | null
}

/** What has happened in a queue since its file was made, by all processes. */
export interface Totals {
  /** Jobs stored. */
  submitted: number
  /** Jobs that ended well. */
  succeeded: number
  /** Attempts that failed: a throw, a timeout, a lost lease. */
  failed: number
  /** Jobs that died. */
  dead: number
  /** Jobs that were cancelled. */
  cancelled: number
}

/** Dead jobs of one queue and type whose last errors differ in numbers and addresses at most. */
export interface DeadGroup extends Source {
  /** For people, and for `JobFilter.error`. */
  error: string
  count: number
  /** Ids: all of the group lie between them. */
  newest: number
  oldest: number
  /** When the newest died. */
  lastAt: Instant
}

/** One queue in numbers. */
export interface QueueStats {
  /** Its name. */
  queue: string
  /** No more of its jobs are leased. */
  paused: boolean
  /** Jobs that may wait, or null for no limit. */
  maxDepth: number | null
  /** Jobs that may run at once, or null for no limit. */
  maxRunning: number | null
  /** Jobs of one type and concurrency key that may run at once. */
  maxRunningPerKey: number
  /** Its jobs that are kept in the file, by state. */
  counts: Record<State, number>
  /** Grow for ever: their differences are rates. */
  totals: Totals
}

/** What a worker says of itself when it starts. */
export interface WorkerRegistration {
  /** As given, or process id and a number. */
  name: string
  /** What it takes jobs of. */
  sources: Source[]
  /** Handlers that it runs at once at most. */
  slots: number
  /** Its host, if it is reached over the network: then nobody here renews its leases. */
  remote?: string
  /** As it was signed on before: its row is brought up to date, if it is of the same instance. */
  known?: number
  /** Names its process, if it is reached over the network: all its workers say the same. */
  instance?: string
  /** Names this call: sent again because its answer was lost, it signs on no second worker. */
  request?: string | null
}

/** One worker, of any process, that has not signed off. */
export interface Worker extends WorkerRegistration {
  /** Its row in the file. */
  id: number
  /** Its process on its host; null when not known. */
  pid: number | null
  /** Its host's name. */
  host: string
  /** When it started (Unix ms). */
  startedAt: Instant
  /** When it last said that it lives (Unix ms). */
  seenAt: Instant
  /** Its process is there; where that cannot be seen from here, it was seen in the last minute. */
  alive: boolean
  /** Jobs that it holds. */
  running: number
}

/** The database file, in bytes on the disk. */
export interface FileStats {
  /** The file itself, without its WAL. */
  bytes: number
  /** Inside it: used again, and given back to the disk when it is more than 4 MiB and a quarter of the file. */
  freeBytes: number
  /** The WAL beside it, which is used again from its start after each checkpoint. */
  walBytes: number
  /** False for a file that another program made without incremental vacuum: its free space stays in it. */
  shrinks: boolean
  /** Set aside on the disk for the outcomes of running jobs. */
  reserveBytes: number
  /** Free on its disk, besides what is set aside. */
  diskFreeBytes: number
}

/** What waits and who works, as of one instant. Its cost does not grow with the number of jobs. */
export interface Stats {
  /** By name. */
  queues: QueueStats[]
  /** Those that have not signed off, also when their process is gone. */
  workers: Worker[]
  /** Types with ready jobs that no live worker handles. */
  unhandled: Source[]
  /** Ms since the oldest ready job was submitted; null when none is ready. */
  oldestReadyMs: number | null
  /** The same for each class of each queue and type that has ready jobs, none of them blocked by its concurrency key. */
  waiting: (Source & { priority: Priority; oldestReadyMs: number })[]
  /** Null in memory. */
  file: FileStats | null
}

/** Numbers by size: `counts[i]` of them are at most `bounds[i]` and above the bound before; the last count is of the rest. */
export interface Histogram {
  bounds: readonly number[]
  counts: number[]
  sum: number
}

/** How the store itself does, in this process, since it was opened. */
export interface Vitals {
  /** A lease request waits although a job is there that it could have. Only something that is broken lasts longer than a moment. */
  starving: boolean
  /** Ms that COMMIT took, which is its fsync above all, and now and then a checkpoint. */
  commits: Histogram
  /** Operations that shared one transaction and its fsync. */
  groups: Histogram
}

/** Limits of a queue; undefined leaves as it is, null takes the limit away. Durations in ms. */
export interface QueueSettings {
  queue: string
  paused?: boolean
  maxDepth?: number | null
  maxRunning?: number | null
  maxRunningPerKey?: number
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
  /** What ticks are worth that nobody was there for: none, the newest only, or a job each (the newest 1,000). */
  missed: 'skip' | 'once' | 'all'
  /** Whether a tick is skipped while the job of an earlier one has not ended. */
  overlap: 'allow' | 'skip'
}

/** A schedule as the file holds it. Instants are Unix ms. */
export interface Schedule {
  /** Unique in the file. */
  name: string
  /** Five fields, or six with seconds first. */
  cron: string
  /** IANA name of the zone in which the cron line is read. */
  timezone: string
  /** Queue of its jobs. */
  queue: string
  /** Type of its jobs. */
  type: string
  /** Payload of its jobs. */
  payload: unknown
  /** What ticks are worth for which no process was there. */
  missed: 'skip' | 'once' | 'all'
  /** Whether a tick counts while the job of an earlier one has not ended. */
  overlap: 'allow' | 'skip'
  /** No ticks until it is resumed. */
  paused: boolean
  /** Its next tick, or when one that was refused is tried again. Null when the cron line has no further tick. */
  nextAt: Instant | null
  /** Its latest tick, or null. */
  lastAt: Instant | null
  /** Id of the latest job that it submitted, or null. */
  lastJob: number | null
  /**
   * Why its latest tick has no job. One refused with QUEUE_FULL or STORAGE_FULL is tried again, after a second at first,
   * for as long as `missed` makes a job of it: 'skip' for a minute, 'once' and 'all' until there is room. Null when all is well.
   */
  problem: { code: ErrorCode; message: string; at: Instant } | null
  /** When code last defined it. */
  definedAt: Instant
  /**
   * False when no process that runs has defined it, though workers do run: its line was taken out of the code, and it goes
   * on ticking until `removeSchedule`. Of processes in other containers, those that started since `definedAt` decide.
   */
  inCode: boolean
}

/** Lets its holder call a server. Only its hash is kept. */
export interface NewToken {
  name: string
  scopes: Scope[]
  /** SHA-256, in hex. */
  hash: string
}
export interface Token extends NewToken {
  createdAt: Instant
  /** To the minute. */
  lastUsedAt: Instant | null
  revokedAt: Instant | null
}

/** What an operator did. */
export interface AuditEntry {
  id: number
  at: Instant
  /** 'token:NAME', 'loopback' on a server without tokens, 'cli:USER' on the file itself. */
  who: string
  /** The operation. */
  action: string
  /** Id of the job, or name of the queue, schedule or token. */
  target: string
  /** What else was asked, without payloads. */
  details: unknown
}
export interface AuditPage {
  /** Newest first. */
  entries: AuditEntry[]
  /** The next call's cursor; null when this is the last page. */
  next: number | null
}

/** Everything a store can be asked: one entry for each event of the lifecycle, plus reads. Each is atomic and durable when it answers. */
export interface Operations {
  submit(submission: Submission): Submitted
  lease(request: LeaseRequest): LeasedJob[]
  /** `warning`: why what the handler returned was not kept; `result` is null then. */
  succeed(outcome: { lease: Lease; result: string; warning?: string | null }): Fate
  fail(failure: Failure): Fate
  release(lease: Lease): Fate
  /** The handler of an attempt that was over has ended: the job may run in its process again. */
  settled(lease: Lease): null
  /** Answers at once; stored with the next transaction, or a second later. */
  progress(input: Progress): null
  checkpoint(input: { lease: Lease; state: string }): null
  heartbeat(lease: Lease): { expiresAt: Instant; cancelRequested: boolean }
  cancel(id: number): Fate
  retry(id: number): Fate
  remove(id: number): null
  /** The event for each job of one page of the filter that it fits. */
  many(input: { event: 'cancel' | 'retry' | 'remove'; filter: JobFilter }): { changed: number; next: number | null }
  setQueue(settings: QueueSettings): null
  setSchedule(settings: ScheduleSettings): null
  pauseSchedule(input: { name: string; paused: boolean }): null
  removeSchedule(name: string): null
  /** A job of the schedule at once, besides its ticks: its id. */
  runSchedule(name: string): number
  schedules(input: null): Schedule[]
  register(worker: WorkerRegistration): number
  /** The worker takes no more jobs and ends soon: if its process then ends, that is no evidence against what it runs. */
  stopping(worker: number): null
  /** Gives back what the worker still holds, uncharged. */
  unregister(worker: number): null
  /** Names the file: a restored or replaced one has another. */
  epoch(input: null): string
  /** Answers when the job has ended. */
  wait(id: number): Job
  job(id: number): Job | null
  /** A page may be short of its limit, or empty, when much had to be looked through: its `next` leads on. */
  jobs(filter: JobFilter): JobPage
  /** Groups of the newest dead jobs before the cursor, as many as it looks at in a moment. */
  deadLetters(cursor: number | null): { groups: DeadGroup[]; next: number | null }
  attempts(id: number): Attempt[]
  stats(input: null): Stats
  why(id: number): string
  /** Answers when a transaction has held the write lock: it proves that this store is not stuck. Writes nothing. */
  vitals(input: null): Vitals
  tokens(input: null): Token[]
  createToken(token: NewToken): null
  revokeToken(name: string): null
  tokenUsed(name: string): null
  auditLog(page: { limit?: number; cursor?: number | null }): AuditPage
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
  /** Asks the app's thread for a sign of life. Not told to listeners. */
  | { event: 'ping' }

/** How storage and the work are. */
export interface StoreHealth {
  /** 'degraded' recovers by itself once its causes are gone; 'failed' needs somebody to look at the file. */
  status: 'ok' | 'degraded' | 'failed'
  /**
   * Each with an error code, or NO_WORKER, OVERDUE_HANDLERS, RESERVE_MISSING, CHECKPOINTS_FAIL, WAL_LARGE, LOCKS_DROPPED;
   * a sentence for people, and its beginning in Unix ms.
   */
  causes: { code: string; message: string; since: Instant }[]
  /** What goes on all the same: submissions, leases, outcomes of attempts. */
  works: { submit: boolean; lease: boolean; complete: boolean }
}

/** Where jobs live. SQLite, memory, HTTP and PostgreSQL each implement this and nothing more. */
export interface Store {
  /**
   * `who` is the operator whose doing it is: with it goes an entry of the audit log, in the same transaction. `epoch` is
   * that of the file that gave the token or worker id: another file refuses it with LEASE_LOST or WORKER_UNKNOWN.
   */
  call<K extends Operation>(
    operation: K,
    input: Input<K>,
    signal?: AbortSignal,
    who?: string,
    epoch?: string,
  ): Promise<Output<K>>
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
