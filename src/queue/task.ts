import type { JobOptions } from '../model/job.ts'
import type { State } from '../model/lifecycle.ts'
import type { Submitted } from '../store/store.ts'
import type { AppConnection, ScheduleOptions, WaitOptions } from './options.ts'
import type { BulkOptions } from './submission.ts'

/** A job's id, and whether it was there already under the same idempotency key. */
export interface SubmitResult {
  /** The job's id; of a duplicate that of the first one. */
  id: number
  /** Nothing was stored: a job with this idempotency key is there. */
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

/** A defined type of job: submits payloads that fit it. */
export interface Task<Payload, Result> {
  /** As defined. */
  readonly type: string
  /** As `GopherQueue.submit`. */
  submit(payload: Payload, options?: JobOptions): Promise<SubmitResult>
  /** As `GopherQueue.submitMany`. */
  submitMany(payloads: readonly Payload[], options?: BulkOptions<Payload>): Promise<SubmitResult[]>
  /** As `GopherQueue.submitWith`. */
  submitWith(connection: AppConnection, payload: Payload, options?: JobOptions): SubmitResult
  /** As `GopherQueue.schedule`. */
  schedule(name: string, cron: string, payload: Payload, options?: ScheduleOptions): Promise<void>
  /** As `GopherQueue.wait`. */
  wait(id: number, options?: WaitOptions): Promise<Result>
}
