import type { Instant } from './clock.ts'
import { overdueFor } from './company.ts'
import { mostPostponed, notAdmitted } from './decide.ts'
import { formatMs } from './duration.ts'
import { type Job, priorities } from './job.ts'
import { type Rate, rateText } from './rate.ts'

// One sentence that says why a job is not running, or what became of it, and what happens next: from facts that a store reads.

/** Ready jobs of a class that are counted at most. */
export const countedAhead = 10_000

/** What is recorded of the last attempt of a job. */
export interface LastAttempt {
  outcome: string
  name: string
  message: string
}

/** What a ready job waits for besides others of its line. */
export interface Hurdles {
  /** Whether it counts in its queue: what plain SQL inserted does not at first. */
  isAdmitted: boolean
  /** Whether it waits for a place of its concurrency key. */
  waitsForPlace: boolean
  paused: boolean
  running: number
  maxRunning: number | null
  maxRunningPerKey: number
  /** Its queue's rate if that is used up, and when there is room again. */
  usedUp: (Rate & { again: Instant }) | null
  /** Live workers that handle its type. */
  workers: number
  /** Slots of these that are free. */
  free: number
}

/** Who goes before a ready job, or keeps it from starting although it is the first of its line. */
export interface Turn {
  /** By class, its own last: ready jobs before it. */
  ahead: number[]
  /** For each worker that handles its type: the job of limited company that has no room for another beside it, if there is one. */
  heldUp: ({ id: number; company: number; worker: string } | undefined)[]
  /** For each of these with a free slot: since when a handler of the job goes on in its process, if one does. */
  keptBack: ({ worker: string; since: Instant } | undefined)[]
}

/** Whether nothing but its turn keeps a ready job from running: only then a store has to look for who goes before it. */
export const waitsForItsTurn = (facts: Hurdles): boolean =>
  facts.isAdmitted &&
  !facts.paused &&
  facts.workers > 0 &&
  !facts.waitsForPlace &&
  facts.usedUp === null &&
  (facts.maxRunning === null || facts.running < facts.maxRunning)

/** Of a job that is not ready. `isPaused`: its queue is. */
export function whyNotReady(job: Job, last: LastAttempt | undefined, isPaused: boolean, now: Instant): string {
  const { id, attempt, state } = job
  const at = (instant: Instant) => instantText(instant, now)
  switch (state) {
    case 'succeeded':
      return `Job ${id} succeeded at ${at(job.finishedAt!)}, on attempt ${attempt}; nothing more happens.${job.warning ? ` ${job.warning}` : ''}`
    case 'cancelled':
      return `Job ${id} was cancelled at ${at(job.finishedAt!)}; it runs again only if an operator retries it.`
    case 'dead':
      return `Job ${id} is dead since ${at(job.finishedAt!)}: ${reasonOf(job, last)}; it runs again only if an operator retries it.`
    case 'scheduled':
      return whyScheduled(job, last, isPaused, now)
    default:
      return whyRunning(job, now)
  }
}

function whyScheduled(job: Job, last: LastAttempt | undefined, isPaused: boolean, now: Instant): string {
  const { id, queue, attempt, attemptsLeft, postponed, runAt, deadline } = job
  const due = instantText(runAt!, now)
  const retry = attempt > 0 ? `to retry: ${lastEnd(job, last)} (${attemptsLeft} attempts left)` : 'as it was submitted for later' // biome-ignore format: one line
  const isPutOff = postponed > 0 && job.startedAt === null // else an attempt has failed since
  const reason = isPutOff ? `as its handler has put it off (${postponed} of at most ${mostPostponed} times; ${attemptsLeft} attempts left)` : retry // biome-ignore format: one line
  if (deadline !== null && deadline <= runAt!)
    return `Job ${id} waits ${reason}; but it is due ${due}, and no attempt starts from its deadline, ${instantText(deadline, now)}, on: it ends dead (expired).`
  const then = isPaused ? `queue '${queue}' is paused, so it runs after a resume` : 'it is ready, in its old place'
  return [`Job ${id} waits until ${due}, ${reason}; then ${then}.`, deadlineOf(job, now)].filter(Boolean).join(' ')
}

function whyRunning(job: Job, now: Instant): string {
  const { id, attempt, attemptsLeft, onTimeout, worker, leaseExpiresAt, cancelRequestedAt } = job
  const end = job.startedAt! + job.timeout
  const renewal =
    leaseExpiresAt! <= now
      ? '(not renewed: it is taken soon, unless it is renewed first)'
      : leaseExpiresAt! > end
        ? '(the last time: no lease is renewed past the timeout)'
        : '(renewed while the worker lives)'
  const lease = `leased by worker ${worker ?? 'unknown'} until ${instantText(leaseExpiresAt!, now)} ${renewal}`
  const timeout = `its timeout is at ${instantText(end, now)}`
  if (cancelRequestedAt !== null)
    return `Job ${id} is running attempt ${attempt} and was asked to stop, ${lease}; it ends cancelled unless its handler succeeds first, at the latest when ${timeout.replace(' is at', ' has come,')}.`
  const then = onTimeout === 'dead' || attemptsLeft === 0 ? 'the job is dead' : 'it is tried again by its backoff'
  return `Job ${id} is running attempt ${attempt}, ${lease}; ${timeout}, and then ${then}.`
}

/** Of a ready job. `turn` is null where it does not wait for its turn. */
export function whyReady(
  job: Job,
  last: LastAttempt | undefined,
  facts: Hurdles,
  turn: Turn | null,
  now: Instant,
): string {
  const sentences = [
    turn ? behind(job, facts, turn, now) : hurdle(job, facts, now),
    lossOf(last),
    companyOf(job),
    deadlineOf(job, now),
  ]
  return sentences.filter((sentence) => sentence !== null).join(' ')
}

function reasonOf({ reason, maxAttempts, ...job }: Job, last: LastAttempt | undefined): string {
  switch (reason!) {
    case 'exhausted':
      return lossOf(last)
        ? `it has no attempt left: ${lastEnd(job, last)}`
        : `all of its ${maxAttempts} attempts failed`
    case 'permanent':
      return last?.name === notAdmitted ? `it could not be admitted: ${last.message.replace(/\.$/, '')}` : 'its handler reported a permanent error' // biome-ignore format: one line
    case 'timeout':
      return 'an attempt ran out of time and onTimeout is dead'
    case 'expired':
      return `its deadline passed before ${job.postponed > 0 ? 'it was tried again' : job.attempt === 0 ? 'an attempt started' : `attempt ${job.attempt + 1} started`}`
  }
}

/** What its last attempt came to, as a clause. */
function lastEnd({ attempt }: Pick<Job, 'attempt'>, last: LastAttempt | undefined): string {
  const loss = lossOf(last)
  if (loss) return loss.charAt(0).toLowerCase() + loss.slice(1, -1)
  return attempt === 1 ? 'its attempt failed' : `the last of its ${attempt} attempts failed`
}

const lossOf = (last: LastAttempt | undefined): string | null => (last?.outcome === 'lost' ? last.message : null)

function companyOf({ company }: Job): string | null {
  if (company === null) return null
  const room = company === 0 ? 'holds nothing else' : `holds at most ${company} others`
  return `Until an attempt of it ends, it starts only in a process that ${room}; a process whose next job it is takes none of its class or lower before it.`
}

const deadlineOf = ({ deadline }: Job, now: Instant): string | null =>
  deadline === null ? null : `Its deadline is ${instantText(deadline, now)}: no attempt starts from then on, and it ends dead (expired).` // biome-ignore format: one line

function hurdle({ id, queue, type, concurrencyKey }: Job, facts: Hurdles, now: Instant): string {
  if (!facts.isAdmitted)
    return `Job ${id} was inserted with plain SQL and is not admitted yet: the next transaction of any process that works on this file takes it in.`
  if (facts.paused) return `Job ${id} is ready, but queue '${queue}' is paused; it runs after a resume.`
  if (facts.workers === 0)
    return `Job ${id} is ready, but no live worker handles type '${type}' of queue '${queue}'; it runs when one starts.`
  if (facts.waitsForPlace)
    return `Job ${id} is ready and waits for others with its concurrency key '${concurrencyKey}': of type '${type}' in queue '${queue}' at most ${facts.maxRunningPerKey} of a key run at once; it is let in when its turn in the key comes.`
  if (facts.usedUp !== null)
    return `Job ${id} is ready, but queue '${queue}' has used up its rate of ${rateText(facts.usedUp)}; it may run from ${instantText(facts.usedUp.again, now)} on, when it is the first in line.`
  return `Job ${id} is ready, but queue '${queue}' runs ${facts.running} jobs and may run ${facts.maxRunning} at once; it runs when one of them has ended and it is the first in line.`
}

function behind({ id, queue, type }: Job, { workers, free }: Hurdles, turn: Turn, now: Instant): string {
  const ahead = turn.ahead
    .map((count, priority) => `${count >= countedAhead ? `${countedAhead} or more` : count} ${priorities[priority]}`)
    .filter((_, priority) => turn.ahead[priority]! > 0)
  if (ahead.length > 0)
    return `Job ${id} is ready and waits behind ${ahead.join(', ')} of type '${type}' in queue '${queue}', for ${workers} worker(s) with ${free} free slot(s).`
  const limited = heldUp(turn) ?? keptBack(turn, now)
  if (limited) return `Job ${id} is ready, but ${limited}`
  return `Job ${id} is ready and first of its type in queue '${queue}'; it runs when one of ${workers} worker(s) has a free slot (${free} free now).`
}

/** The first of what stands in the way of each worker; undefined when one is free of that. */
const ofAll = <T>(each: (T | undefined)[]): T | undefined => (each.includes(undefined) ? undefined : each[0])

/** Each worker that could take it is of a process that runs a job of limited company, and has no room beside it. */
function heldUp(turn: Turn): string | null {
  const first = ofAll(turn.heldUp)
  if (!first) return null
  const beside = first.company === 0 ? 'alone' : `beside ${first.company} others at most`
  return `worker ${first.worker} runs job ${first.id} ${beside}, as a process was lost with it; it runs when that has ended, or in another process.`
}

/** Each worker with a free slot is of a process in which a handler of the job goes on. */
function keptBack(turn: Turn, now: Instant): string | null {
  const first = ofAll(turn.keptBack)
  if (!first) return null
  return `the process of worker ${first.worker} still runs a handler of it whose attempt is over since ${instantText(first.since, now)}; it runs in another process, or there when that handler has ended, at the latest ${formatMs(overdueFor)} after that process heard of it.`
}

const instantText = (ms: Instant, now: Instant): string => `${new Date(ms).toISOString()} (${relative(ms - now)})`

const relative = (ms: number): string => (ms >= 0 ? `in ${formatMs(ms)}` : `${formatMs(-ms)} ago`)
