import type { Instant } from '../model/clock.ts'
import type { ErrorCode } from '../model/errors.ts'
import type { Fate, Submission, Submitted } from './jobs.ts'
import type { Input, Operation, Output } from './operations.ts'
import type { ServerStats } from './stats.ts'

export type {
  Cause,
  CauseFilter,
  CausePage,
  Failure,
  Fate,
  JobFilter,
  JobPage,
  Lease,
  LeasedJob,
  LeaseRequest,
  Progress,
  Source,
  Submission,
  Submitted,
} from './jobs.ts'
export type { Input, Operation, Output } from './operations.ts'
export type {
  AuditEntry,
  AuditPage,
  NewToken,
  QueueSettings,
  Schedule,
  SchedulePage,
  ScheduleSettings,
  Token,
} from './settings.ts'
export type {
  FileStats,
  Histogram,
  Others,
  QueuePage,
  QueueStats,
  ServerFigures,
  ServerStats,
  Stats,
  Totals,
  Vitals,
  Worker,
  WorkerRegistration,
} from './stats.ts'

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
   * Each with an error code, or NO_WORKER, OVERDUE_HANDLERS, RESERVE_MISSING, CHECKPOINTS_FAIL, WAL_LARGE, LOCKS_DROPPED,
   * or of a PostgreSQL server (docs/scaling.md); a sentence for people, and its beginning in Unix ms.
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
  /** The same where the connection is asynchronous. What cannot be a connection is refused at once. */
  submitOn?(connection: unknown): (submission: Submission) => Promise<Submitted>
  /**
   * Waits on this thread, at most `ms`, for the answers to what was asked before: whoever else hears a signal may end the
   * process in this turn of the event loop. Absent where answers come over a network.
   */
  settleNow?(ms: number): void
  /**
   * How long calls have waited for the storage so far, in ms, each wait of a second and more in which nobody was answered:
   * another program had the write lock, the disk was slow, or the server was away.
   */
  stalledMs?(): number
  onEvent(listener: (event: StoreEvent) => void): void
  /** How the server under it is, where there is one: answers also while the engine waits for the lock of the queue. */
  server?(): Promise<ServerStats>
  /** Most bytes of the JSON of a worker's sources, where a request carries them over a network; undefined where none does. */
  readonly mostSourceBytes?: number
  /** As last heard of; `health` events tell of each change. */
  readonly health: StoreHealth
  close(): Promise<void>
}
