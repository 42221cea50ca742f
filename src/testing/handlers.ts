import { AsyncLocalStorage } from 'node:async_hooks'
import type { Duration } from '../model/clock.ts'
import { toMs } from '../model/duration.ts'
import type { ActiveJob, Handler } from '../queue/definition.ts'
import type { VirtualClock } from './clock.ts'

/** A handler that runs in a test queue. */
export interface Run {
  job: Pick<ActiveJob, 'id' | 'type'>
  clock: VirtualClock
  /** What it waits for that only virtual time, or another job, can bring. */
  waits: number
}

/** The run that a piece of code belongs to. */
export const runs = new AsyncLocalStorage<Run>()

/** Marks the run as waiting until `promise` settles: nothing else has to wait for it meanwhile. */
export async function waiting<T>(promise: Promise<T>): Promise<T> {
  const run = runs.getStore()
  if (!run) return promise
  run.waits++
  try {
    return await promise
  } finally {
    run.waits--
  }
}

/**
 * For handlers in a test queue and whatever they call: resolves when `duration` (ms, or '10s') of virtual time has
 * passed. Rejects with the signal's reason when it fires; throws when no handler of a test queue is running.
 */
export async function sleep(duration: Duration, signal?: AbortSignal): Promise<void> {
  const ms = toMs(duration)
  const clock = runs.getStore()?.clock
  if (!clock) throw new Error('sleep() and slow() wait on the clock of a test queue: call them in its handlers.')
  signal?.throwIfAborted()
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  const cancel = clock.timer(ms, resolve)
  const wake = () => {
    cancel()
    reject(signal?.reason)
  }
  signal?.addEventListener('abort', wake)
  await waiting(promise).finally(() => signal?.removeEventListener('abort', wake))
}

const succeed: Handler<unknown, never> = () => undefined as never // whatever type its result was declared to have

/** A handler that throws `error` (or an Error with that message) in the first `times` attempts of a job, then does as `then`. */
export function fail<Payload = unknown, Result = unknown>(
  times: number,
  error: Error | string,
  then: Handler<Payload, Result> = succeed,
): Handler<Payload, Result> {
  return (job, context) => {
    if (job.attempt > times) return then(job, context)
    throw typeof error === 'string' ? new Error(error) : error
  }
}

/** A handler that first takes `duration` (ms, or '10s') of virtual time, or until its signal fires, then does as `then`. */
export function slow<Payload = unknown, Result = unknown>(
  duration: Duration,
  then: Handler<Payload, Result> = succeed,
): Handler<Payload, Result> {
  const ms = toMs(duration)
  return async (job, context) => {
    await sleep(ms, context.signal)
    return then(job, context)
  }
}

/** A handler that does in attempt n of a job what the nth step says, and the last one from there on. An error is thrown. */
export function script<Payload = unknown, Result = unknown>(
  ...steps: [Error | string | Handler<Payload, Result>, ...(Error | string | Handler<Payload, Result>)[]]
): Handler<Payload, Result> {
  return (job, context) => {
    const step = steps[Math.min(job.attempt, steps.length) - 1]!
    return typeof step === 'function' ? step(job, context) : fail<Payload, Result>(job.attempt, step)(job, context)
  }
}
