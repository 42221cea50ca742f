import type { JobOptions } from '../model/job.ts'
import type { State } from '../model/lifecycle.ts'
import type { Submitted } from '../store/store.ts'
import type { AppConnection, PostgresConnection, ScheduleOptions, WaitOptions } from './options.ts'
import type { BulkOptions } from './submission.ts'

/** A job's id, and whether it was there already under the same idempotency or unique key. */
export interface SubmitResult {
  /** The job's id; of a duplicate that of the first one. */
  id: number
  /** Nothing was stored: a job with this idempotency key is there, or one with this unique key has not ended. */
  duplicate: boolean
  /** Of a duplicate: where in its life the first job is; null when retention has deleted it and its key is still held. */
  state?: State | null
  /** Nothing was stored now: over a server, the answer to this submission was lost and is told again. */
  replayed?: true
}

/** What a submission came to, job by job. */
export function resultsOf({ ids, duplicates, states, replayed }: Submitted): SubmitResult[] {
  const results: SubmitResult[] = ids.map((id) => ({ id, duplicate: false, ...(replayed && { replayed }) }))
  for (const [i, at] of duplicates.entries())
    Object.assign(results[at]!, { duplicate: true, state: states?.[i] ?? null })
  return results
}

/**
 * A defined type of job: submits payloads that fit it. Its calls also throw CLOSED, STORAGE_UNAVAILABLE and STORAGE_CORRUPT; all are
 * `GopherQueueError`s, whose `accepted` says whether the job was stored.
 */
export interface Task<Payload, Result = unknown> {
  /** Name of the type, as defined. */
  readonly type: string
  /**
   * Stores a job; resolves when it is on disk. The payload is JSON, at most 1 MiB. Options overrule the type's policy for this job. Throws
   * INVALID_ARGUMENT, INVALID_PAYLOAD, PAYLOAD_TOO_LARGE, IDEMPOTENCY_CONFLICT, QUEUE_FULL, TOO_MANY_QUEUES, TOO_MANY_TYPES, OVERLOADED, STORAGE_FULL.
   */
  submit(payload: Payload, options?: JobOptions): Promise<SubmitResult>
  /**
   * Stores up to 10,000 jobs (64 MiB of payloads), all or none, in the order given; resolves when they are on disk. Throws
   * INVALID_ARGUMENT, INVALID_PAYLOAD, PAYLOAD_TOO_LARGE, IDEMPOTENCY_CONFLICT, QUEUE_FULL, OVERLOADED, STORAGE_FULL.
   */
  submitMany(payloads: readonly Payload[], options?: BulkOptions<Payload>): Promise<SubmitResult[]>
  /**
   * Stores a job inside the transaction that is open on `connection`, the app's own to the queue's file: it is committed
   * or rolled back with it. Without an open one, the job is on disk when this returns. Throws INVALID_ARGUMENT,
   * INVALID_PAYLOAD, PAYLOAD_TOO_LARGE, IDEMPOTENCY_CONFLICT, QUEUE_FULL, and what SQLite throws.
   */
  submitWith(connection: AppConnection, payload: Payload, options?: JobOptions): SubmitResult
  /**
   * The same in a PostgreSQL database: stores a job inside the transaction that is open on `connection`, and resolves when it is
   * inserted. Await it before the transaction ends. Throws also KEY_BUSY, and what PostgreSQL reports.
   */
  submitWith(connection: PostgresConnection, payload: Payload, options?: JobOptions): Promise<SubmitResult>
  /**
   * Submits a job at each tick of a cron line (five fields, or six with seconds first), once however many processes work.
   * Call it at each start; the schedule lives in the file until `queue.removeSchedule(name)`. Ticks are taken while a process works.
   * Throws INVALID_ARGUMENT, INVALID_PAYLOAD, PAYLOAD_TOO_LARGE.
   */
  schedule(name: string, cron: string, payload: Payload, options?: ScheduleOptions): Promise<void>
  /**
   * Resolves with the job's result, as JSON gives it back, when it has succeeded, in whichever process. Throws JOB_FAILED
   * when it ended dead or cancelled (`details` is `{ state, reason, error }`), WAIT_TIMEOUT, NOT_FOUND (also when the job has
   * ended and is not kept: `keepSucceeded`), INVALID_ARGUMENT.
   */
  wait(id: number, options?: WaitOptions): Promise<Result>
}

/** The calls of a queue that take a type's name. */
interface Calls {
  submit(type: string, payload: unknown, options?: JobOptions): Promise<SubmitResult>
  submitMany<P>(type: string, payloads: readonly P[], options?: BulkOptions<P>): Promise<SubmitResult[]>
  submitWith(connection: AppConnection, type: string, payload: unknown, options?: JobOptions): SubmitResult
  submitWith(connection: PostgresConnection, type: string, payload: unknown, options?: JobOptions): Promise<SubmitResult> // biome-ignore format: one line
  schedule(name: string, cron: string, type: string, payload: unknown, options?: ScheduleOptions): Promise<void>
  wait<Result>(id: number, options?: WaitOptions): Promise<Result>
}

export const taskOf = (type: string, queue: Calls): Task<unknown, unknown> => ({
  type,
  submit: (payload, options) => queue.submit(type, payload, options),
  submitMany: (payloads, options) => queue.submitMany(type, payloads, options),
  submitWith: ((connection: AppConnection, payload: unknown, options?: JobOptions) =>
    queue.submitWith(connection, type, payload, options)) as Task<unknown>['submitWith'],
  schedule: (name, cron, payload, options) => queue.schedule(name, cron, type, payload, options),
  wait: (id, options) => queue.wait(id, options),
})
