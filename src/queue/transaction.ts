import { invalid } from '../model/errors.ts'
import type { JobOptions } from '../model/job.ts'
import type { Store } from '../store/store.ts'
import type { Definition } from './definition.ts'
import type { AppConnection, PostgresConnection } from './options.ts'
import { makeSubmission, makeSubmissionNow } from './submission.ts'
import { resultsOf, type SubmitResult } from './task.ts'
import { publishing } from './trace.ts'

/** Stores a job in a transaction of the app's: at once in a file, and in a promise's time in a PostgreSQL database. */
export type SubmitWith = ((
  connection: AppConnection,
  type: string,
  payload: unknown,
  options?: JobOptions,
) => SubmitResult) &
  ((connection: PostgresConnection, type: string, payload: unknown, options?: JobOptions) => Promise<SubmitResult>)

export function submitWith(
  store: Store,
  definition: Definition | undefined,
  ...[connection, type, payload, options]: [unknown, string, unknown, JobOptions?]
): SubmitResult | Promise<SubmitResult> {
  if (store.submitOn) return submitOn(store.submitOn(connection), definition, type, payload, options)
  const submission = makeSubmissionNow(type, definition, payload, options)
  if (!store.submitIn)
    throw invalid(
      'This queue is not in a file or a PostgreSQL database of its own: no transaction of the app covers it. submitWith needs GopherQueue.open on the file or the database of the connection, also in tests.',
    )
  return resultsOf(publishing(type, submission, (it) => store.submitIn!(connection, it), 'traceSync'))[0]!
}

async function submitOn(
  on: ReturnType<NonNullable<Store['submitOn']>>,
  definition: Definition | undefined,
  ...[type, payload, options]: [string, unknown, JobOptions?]
): Promise<SubmitResult> {
  const submission = await makeSubmission(type, definition, [payload], options)
  return resultsOf(await publishing(type, submission, on))[0]!
}
