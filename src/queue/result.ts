import { isQueueError } from '../model/errors.ts'
import type { JobError } from '../model/job.ts'
import { toJson } from '../model/json.ts'
import type { Failure } from '../store/store.ts'
import { cut, inWords } from './evidence.ts'

/** What is stored of a handler's result. */
export interface Result {
  /** JSON text. */
  result: string
  /** Why the result is null and not what the handler returned. */
  warning: string | null
}

/** What a handler returns that has said itself why there is no result. */
export class NoResult {
  readonly warning: string

  constructor(warning: string) {
    this.warning = warning
  }
}

/** What a handler returned, for an `await`, which reads its `then`: where that throws, the attempt would fail though the work was done. */
export function awaitable(returned: unknown): unknown {
  try {
    void (returned as { then?: unknown } | null | undefined)?.then
    return returned
  } catch (error) {
    return new NoResult(throwing(error))
  }
}

/**
 * The JSON of what a handler returned. Of what is no JSON, or too large, null and a warning: the work was done, and to
 * run it again would do it twice and return the same.
 */
export function resultOf(returned: unknown): Result {
  try {
    if (!(returned instanceof NoResult)) return { result: toJson('result', returned), warning: null }
    return without(returned.warning)
  } catch (error) {
    return without(isQueueError(error) ? error.message : throwing(error))
  }
}

const throwing = (error: unknown): string => `to look at it throws: ${inWords(error).message}`

const without = (why: string): Result => ({
  result: 'null',
  warning: cut(`The job succeeded, and its result was not kept: ${why}`),
})

/** What one attempt came to. `lost` and `released` are decided from outside, the rest by the handler or the clock. */
export type Outcome =
  | ({ kind: 'succeeded' } & Result)
  | { kind: Failure['kind']; error: JobError; retryAfter: number | null }
  | { kind: 'released' | 'lost' }
