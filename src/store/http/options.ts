import { type JobSpec, priorities } from '../../model/job.ts'

/** A policy as the API takes it; no backoff is the default one. */
export function policyOf(spec: JobSpec) {
  return {
    queue: spec.queue,
    priority: priorities[spec.priority]!,
    maxAttempts: spec.maxAttempts,
    ...(spec.backoff && { backoff: spec.backoff }),
    timeout: spec.timeout,
    onTimeout: spec.onTimeout,
    visibilityTimeout: spec.visibilityTimeout,
  }
}

/** The options of a submission that come to this spec: its delay as a text, for a long one as a number is taken for an instant. */
export function optionsOf(spec: JobSpec) {
  return {
    type: spec.type,
    ...policyOf(spec),
    ...(spec.runAt === null ? spec.delay > 0 && { delay: `${spec.delay}ms` } : { runAt: spec.runAt }),
    ...(spec.deadline !== null && { deadline: spec.deadline }),
    ...(spec.deadlineIn !== null && { deadline: `${spec.deadlineIn}ms` }),
    idempotencyWindow: spec.idempotencyWindow,
    ...(spec.uniqueKey !== null && { uniqueKey: spec.uniqueKey }),
    ...(spec.concurrencyKey !== null && { concurrencyKey: spec.concurrencyKey }),
  }
}
