import type { Instant } from './clock.ts'
import { GopherQueueError, invalid, isQueueError } from './errors.ts'
import { checkKey, checkName, type JobSpec } from './job.ts'
import type { Waiting } from './lifecycle.ts'

// What a submission starts as, and what it is refused for; which jobs of a concurrency key may start.

/** A new job, as its row begins. */
export interface Start {
  state: Waiting
  /** When it is due; null if it is ready. */
  runAt: Instant | null
  deadline: Instant | null
}

/** What a submission starts as. Throws INVALID_ARGUMENT for a deadline before which no attempt can start. */
export function startOf(spec: JobSpec, now: Instant): Start {
  const due = spec.runAt ?? now + spec.delay
  const deadline = spec.deadline ?? (spec.deadlineIn === null ? null : now + spec.deadlineIn)
  if (deadline !== null) {
    mustBeAhead(deadline, spec.deadline === null, now)
    mustBeDueBefore(deadline, due)
  }
  return due > now ? { state: 'scheduled', runAt: due, deadline } : { state: 'ready', runAt: null, deadline }
}

/** Refuses a deadline that is past: mostly it is a duration that was given as a number. */
function mustBeAhead(deadline: Instant, relative: boolean, now: Instant): void {
  if (deadline > now) return
  const at = relative ? `${deadline - now} ms from now` : `${deadline} (${new Date(deadline).toISOString()})`
  throw invalid(
    `The deadline, ${at}, is past: no attempt could start. A number is an instant in Unix ms; a time from now is a string, such as '60s'.`,
  )
}

/** Refuses a job that is due when no attempt of it may start any more. */
export function mustBeDueBefore(deadline: Instant, due: Instant): void {
  if (due < deadline) return
  throw invalid(
    `The job is due at ${new Date(due).toISOString()}, and its deadline is ${due === deadline ? 'then' : `before, at ${new Date(deadline).toISOString()}`}: no attempt could start.`,
  )
}

/** What is wrong with the names of a job, as plain SQL can give it: as long as it has them, no handler can be defined that it would run in. */
export function wrongName(job: { queue: string; type: string; concurrencyKey: string | null }): string | null {
  return refusalBy(() => {
    checkName('queue', job.queue)
    checkName('type', job.type)
    if (job.concurrencyKey !== null) checkKey(job.concurrencyKey, 'concurrencyKey')
    return null
  })
}

/** A refusal's message, as no caller is there to hear it; what became of the submission is told elsewhere. */
export function refusalBy(check: () => string | null): string | null {
  try {
    return check()
  } catch (error) {
    if (isQueueError(error)) return error.message.replace(/ Nothing was \w+\.$/, '')
    throw error
  }
}

/** Throws QUEUE_FULL for jobs that a queue has no room for. `maxDepth`: how many may wait; null for any number. */
export function mustHaveRoom(queue: string, maxDepth: number | null, waiting: number, more: number): void {
  if (maxDepth === null || waiting + more <= maxDepth) return
  throw new GopherQueueError(
    'QUEUE_FULL',
    `Queue '${queue}' holds ${waiting} waiting jobs and takes at most ${maxDepth}. The submission was not accepted: submit again when workers have caught up.`,
  )
}

/** Most queues in a file: a look at all of them takes 30 ms. */
export const mostQueues = 50_000
/** Most queues that one token makes in an hour, or all clients of a server without tokens. */
export const mostNewQueues = 1000
/** Most types in a queue: a look hops from one to the next, 5 us each. */
export const mostTypes = 10_000

const refusedName = (code: 'TOO_MANY_QUEUES' | 'TOO_MANY_TYPES', message: string, details: object) =>
  new GopherQueueError(code, message, { details })

const named = 'What differs by customer belongs into the payload or a concurrencyKey.'

/** Refuses a queue that would be one too many in its file. */
export const tooManyQueues = (queue: string): GopherQueueError =>
  refusedName(
    'TOO_MANY_QUEUES',
    `Queue '${queue}' is new, and the file has ${mostQueues} queues, the most that it takes. Nothing was accepted: use a queue that is there, or remove the jobs of queues that are not needed, which are forgotten with their last job. ${named}`,
    { most: mostQueues },
  )

/** Refuses a queue that would be one too many of its client within an hour. */
export const tooManyNewQueues = (queue: string, until: Instant): GopherQueueError =>
  refusedName(
    'TOO_MANY_QUEUES',
    `Queue '${queue}' is new, and this token (without tokens: this server's clients) has made ${mostNewQueues} queues within an hour, the most that is taken. Nothing was accepted: use a queue that is there, or try again after ${new Date(until).toISOString()}. ${named}`,
    { most: mostNewQueues, until },
  )

/** Refuses a type that would be one too many in its queue. */
export const tooManyTypes = (queue: string, type: string): GopherQueueError =>
  refusedName(
    'TOO_MANY_TYPES',
    `Type '${type}' is new in queue '${queue}', which has ${mostTypes} types, the most that it takes. Nothing was accepted: use a type that is there, or another queue. ${named}`,
    { most: mostTypes },
  )

interface InLine {
  id: number
  priority: number
}

/**
 * Whether the last of a key's jobs that may start and has not started gives its place to one that becomes ready: that one
 * comes first by class and id. `last` is undefined where all places are held by running jobs.
 */
export function givesWay(last: InLine | undefined, job: InLine): boolean {
  if (!last || last.priority < job.priority) return false
  return last.priority > job.priority || last.id > job.id
}

/** Places of a key that are to be given (more than 0) or taken back (less), at most `most` at once, for its queue's limit. */
export const placesOwed = (limit: number, held: number, most: number): number =>
  Math.max(-most, Math.min(limit - held, most))
