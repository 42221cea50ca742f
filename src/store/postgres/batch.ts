import type { Instant } from '../../model/clock.ts'
import { lifecycle } from '../../model/lifecycle.ts'
import type { Input } from '../operations.ts'
import type { Sent } from './client-thread.ts'

/** Successes of many attempts, by id and token. A job that failed before is counted by its cause, and not meant. */
export const success = (schema: string): string =>
  `UPDATE ${schema}.gq_jobs AS j
   SET state = '${lifecycle.running.succeed}', result = r.result, finished_at = $7, lease_expires_at = NULL, prune_at = CAST($7 AS bigint) + r.keep,
       warning = r.warning
   FROM unnest(CAST($1 AS bigint[]), CAST($2 AS text[]), CAST($3 AS bigint[]), CAST($4 AS text[]), CAST($5 AS bigint[]), CAST($6 AS text[]))
     AS r (id, queue, token, result, keep, warning)
   WHERE j.id = r.id AND j.lease_token = r.token AND j.queue = r.queue AND COALESCE(j.state, '') = 'running' AND j.cause IS NULL
   RETURNING j.id, j.lease_token`

export const valuesOf = (inputs: Input<'succeed'>[], keeps: (number | null)[], now: Instant): Sent['values'] => [
  inputs.map(({ lease }) => lease.id),
  inputs.map(({ lease }) => lease.queue),
  inputs.map(({ lease }) => lease.token),
  inputs.map(({ result }) => result),
  keeps,
  inputs.map(({ warning = null }) => warning),
  now,
]
