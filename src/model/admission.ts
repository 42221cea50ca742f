import type { Instant } from './clock.ts'
import { GopherQueueError, invalid } from './errors.ts'
import type { JobSpec } from './job.ts'
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

/** Throws QUEUE_FULL for jobs that a queue has no room for. `maxDepth`: how many may wait; null for any number. */
export function mustHaveRoom(queue: string, maxDepth: number | null, waiting: number, more: number): void {
  if (maxDepth === null || waiting + more <= maxDepth) return
  throw new GopherQueueError(
    'QUEUE_FULL',
    `Queue '${queue}' holds ${waiting} waiting jobs and takes at most ${maxDepth}. The submission was not accepted: submit again when workers have caught up.`,
  )
}

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
