/**
 * What an app needs: begin at `GopherQueue`.
 * @module gopherqueue
 */

export { type Backoff, type CustomBackoff, retryTimes, type StoredBackoff } from './model/backoff.ts'
export type { Duration, DurationText, Instant } from './model/clock.ts'
export { nextTimes } from './model/cron.ts'
export { retryAfter } from './model/delay.ts'
export {
  type Accepted,
  type ErrorCode,
  GopherQueueError,
  PermanentError,
  Postpone,
  TemporaryError,
} from './model/errors.ts'
export type { Durations } from './model/hours.ts'
export type { Attempt, DeadReason, Job, JobError, JobOptions, Policy, Priority } from './model/job.ts'
export type { State } from './model/lifecycle.ts'
export type {
  ActiveJob,
  Context,
  DefinitionOptions,
  Handler,
  HandlerOptions,
  JobTypeOptions,
} from './queue/definition.ts'
export type { QueueEvents } from './queue/events.ts'
export { GopherQueue } from './queue/gopherqueue.ts'
export { type Define, type JobType, jobType, type OptionsOf, type OutputOf, type Wanted } from './queue/jobtype.ts'
export type { JobsFilter, ManyOptions } from './queue/many.ts'
export type {
  AppConnection,
  BetterSqlite3Connection,
  OpenOptions,
  PgConnection,
  PostgresConnection,
  PostgresTransaction,
  PrismaTransaction,
  QueueOptions,
  ScheduleOptions,
  StopOptions,
  WaitOptions,
  WorkOptions,
} from './queue/options.ts'
export type { GivenHandler, Keeping, Lost, NoJson, Storable, Stored, StoredPart } from './queue/stored.ts'
export type { BulkOptions } from './queue/submission.ts'
export type { SubmitResult, Task } from './queue/task.ts'
export type { SubmitWith } from './queue/transaction.ts'
export type { Counted, TypeStats, TypesOptions, TypesReport } from './queue/types.ts'
export type { Worker } from './queue/worker.ts'
export type {
  Cause,
  CauseFilter,
  CausePage,
  Fate,
  FileStats,
  JobFilter,
  JobPage,
  Others,
  QueuePage,
  QueueStats,
  Schedule,
  ServerFigures,
  ServerStats,
  Source,
  Stats,
  StoreHealth,
  Totals,
  Worker as WorkerStats,
  WorkerRegistration,
} from './store/store.ts'
