import { type Backoff, checkedBackoff, type StoredBackoff } from './backoff.ts'
import type { Duration, DurationText, Instant } from './clock.ts'
import { delayMs, toMs } from './duration.ts'
import { invalid } from './errors.ts'
import type { State } from './lifecycle.ts'
import { checkNames, inPaths } from './names.ts'
import { shown } from './text.ts'

/** Class of a job, from the most to the least urgent: all ready jobs of a class start before those of the next class. */
export type Priority = 'critical' | 'high' | 'normal' | 'low' | 'bulk'
/** Most urgent first. A class's number is its place in this list. */
export const priorities: readonly Priority[] = ['critical', 'high', 'normal', 'low', 'bulk']

/**
 * Why a job is dead. 'exhausted': its last allowed attempt failed. 'permanent': an attempt failed for good. 'timeout': an attempt took longer
 * than its `timeout`, with `onTimeout: 'dead'`. 'expired': its `deadline` passed while it waited.
 */
export type DeadReason = 'exhausted' | 'permanent' | 'timeout' | 'expired'

export const limits = {
  /** Bytes of a payload's JSON in UTF-8. */
  payloadBytes: 1024 * 1024,
  /** Bytes of a result's JSON in UTF-8. */
  resultBytes: 1024 * 1024,
  /** Bytes of a checkpoint's JSON in UTF-8. */
  checkpointBytes: 64 * 1024,
  /** Jobs in one submitMany. */
  bulkJobs: 10_000,
  /** Bytes of all payloads of one submitMany. */
  bulkBytes: 64 * 1024 * 1024,
  /** Jobs that one step of an event for many jobs changes. */
  stepJobs: 1000,
  /** Arrays and objects of a payload, result or checkpoint inside each other: SQLite reads no deeper JSON. */
  depth: 1000,
  /** Characters of a queue or type name. */
  nameLength: 128,
  /** Characters of an idempotency, unique or concurrency key. */
  keyLength: 256,
  /** Bytes of a stack kept in the history. */
  stackBytes: 8 * 1024,
} as const

/**
 * What a job's policy can be, set in `define` for all jobs of a type and overridden in `submit` for one. That of the program which
 * submits counts, and is stored with the job; a worker whose definition states another one tells it once, as a `warning` (POLICY_DIFFERS).
 */
export interface Policy {
  /** Name of the queue that its jobs wait in, 1 to 128 characters; a queue needs no setup. Default 'default'. */
  queue?: string
  /** Class in the order of jobs: 'critical', 'high', 'normal', 'low' or 'bulk'. Default 'normal'. */
  priority?: Priority
  /** Attempts before the job is dead, the first one included: 1 to 1000. Default 12. */
  maxAttempts?: number
  /** How long to wait after each failed attempt. Default: 5 s after the first, twice as long after each further one, at most 1 h. */
  backoff?: Backoff
  /** Longest run of one attempt, in ms or as '5m'; then `context.signal` fires, and the attempt has failed whatever the handler still does. Default 15 min. */
  timeout?: Duration
  /** What a timed-out attempt means: 'retry' (default) counts as a temporary failure, 'dead' as a permanent one. */
  onTimeout?: 'retry' | 'dead'
  /**
   * How long a worker may be silent before its job goes to another one, in ms or as '30s', at least 1 s. Leases are renewed by themselves
   * while the process lives, so this is not the longest run of a handler: that is `timeout`. Default 30 s.
   */
  visibilityTimeout?: Duration
}

/** What one submission can set: the policy of its type, overruled for this job, and when and how often it may run. */
export interface JobOptions extends Policy {
  /** The job does not start before this time (ms or '10m') has passed since its submission. Not together with `runAt`. Default 0. */
  delay?: Duration
  /** The job does not start before this instant (Unix ms or Date). Not together with `delay`. Default: at once. */
  runAt?: Instant | Date
  /**
   * No attempt starts from this instant on: a job that still waits then, for its first attempt or for a retry, is dead (reason `expired`); an attempt that
   * runs goes on. A future instant (Unix ms or Date), or a text such as '2h' from now; later than `delay` or `runAt`. Default: none.
   */
  deadline?: Instant | Date | DurationText
  /** 1 to 256 characters: a second submission with the same key (in the same queue, of the same type) stores nothing and returns the first job, also when that has ended. Default: none. */
  idempotencyKey?: string
  /** How long `idempotencyKey` is kept at least, in ms or as '7d', counted from the submission. Default 24 h. */
  idempotencyWindow?: Duration
  /**
   * 1 to 256 characters: at most one job with this key (in the same queue, of the same type) waits or runs. While it has not ended, a second
   * submission stores nothing and returns it, whatever the payload; when it has ended, in whichever state, the key is free again. Default: none.
   */
  uniqueKey?: string
  /**
   * 1 to 256 characters, such as a customer's id: of the jobs of one queue and type with the same key, at most the
   * queue's `maxRunningPerKey` run at once, over all processes; the others wait, in their order, and hold nobody up. One
   * that waits for its time, a delay or a retry, lets others of the key go first. Default: none.
   */
  concurrencyKey?: string
}

/** A policy with every default filled in, as the stores take it. Times relative to the submission are kept as ms. */
export interface JobSpec {
  queue: string
  type: string
  priority: number
  maxAttempts: number
  /** Null is the default one: most jobs have it, and need not carry it. */
  backoff: StoredBackoff | null
  timeout: number
  onTimeout: 'retry' | 'dead'
  visibilityTimeout: number
  delay: number
  runAt: Instant | null
  deadline: Instant | null
  deadlineIn: number | null
  idempotencyWindow: number
  uniqueKey: string | null
  concurrencyKey: string | null
}

/** A job as `queue.job` and `queue.jobs` read it. Instants are Unix ms, durations ms; a field is null where it does not apply. */
export interface Job<Payload = unknown, Result = unknown> {
  /** Grows in the order of submission, with gaps; never used again. */
  id: number
  /** Name of its queue. */
  queue: string
  /** Name of its type, which selects the handler. */
  type: string
  /** Its class in the order of jobs. */
  priority: Priority
  /** 'scheduled' (waits for `runAt`), 'ready', 'running', or its end: 'succeeded', 'dead', 'cancelled'. */
  state: State
  /** As submitted; its handler gets what the schema makes of it. */
  payload: Payload
  /** Attempts started so far, also before an operator's retry and those that were not charged: it may exceed `maxAttempts`. */
  attempt: number
  /** Attempts left in the present budget. */
  attemptsLeft: number
  /** Attempts in a budget, the first one included. */
  maxAttempts: number
  /** How often its handler has put it off (`Postpone`) since its submission or an operator's retry. */
  postponed: number
  /** How long it waits after each failed attempt, with all defaults filled in, in ms. */
  backoff: StoredBackoff
  /** Longest run of one attempt, in ms; then the attempt has failed. */
  timeout: number
  /** Whether a timed-out attempt is repeated or ends the job. */
  onTimeout: 'retry' | 'dead'
  /** How long its worker may be silent before the job goes to another one, in ms. */
  visibilityTimeout: number
  /** When it becomes ready; only in state `scheduled`. */
  runAt: Instant | null
  /** No attempt starts from then on: a job that waits then, also for a retry, ends dead (`expired`). An operator's `retry` after that instant removes it. */
  deadline: Instant | null
  /** When it was submitted. */
  createdAt: Instant
  /** The instant of the cron schedule for which it was submitted (Unix ms); null for a job of no schedule. */
  tick: Instant | null
  /** When its latest attempt started. */
  startedAt: Instant | null
  /** When it ended; only in a terminal state. */
  finishedAt: Instant | null
  /** Until when its worker holds it unless the lease is renewed, as happens by itself (Unix ms); null unless `running`. */
  leaseExpiresAt: Instant | null
  /** Name of the worker of its latest attempt. */
  worker: string | null
  /** The most other jobs beside which it may run in one process: limited after a process was lost that ran it beside others, to find out which of them ends processes. Null: no limit. */
  company: number | null
  /** Name and first line of the message of its last failed attempt, at most 200 characters; null when none failed, or it has succeeded. */
  lastError: string | null
  /** When `cancel` asked its running handler to stop (Unix ms); null if nobody did. */
  cancelRequestedAt: Instant | null
  /** What its handler last told with `context.progress`, 0 to 100 percent; null if it told nothing. */
  progress: { percent: number; message: string | null } | null
  /** What its handler returned; only in state `succeeded`. */
  result: Result | null
  /** Why `result` is null although the handler returned something; mostly null. */
  warning: string | null
  /** Why it is dead; null in each other state. */
  reason: DeadReason | null
  /** The `idempotencyKey` of its submission, or null. */
  idempotencyKey: string | null
  /** The `uniqueKey` of its submission, or null. */
  uniqueKey: string | null
  /** The `concurrencyKey` of its submission, or null. */
  concurrencyKey: string | null
}

/** What a handler threw, or what ended its attempt (a timeout, a lost worker). Each text longer than 8 KiB is cut, which its end says. */
export interface JobError {
  /** `name` of the error that was thrown; 'NonError' for a thrown value that is no error, 'Timeout' and 'LeaseLost' when no error was thrown. */
  name: string
  /** `message` of the error; of a thrown value that is no error the text that `util.inspect` gives. */
  message: string
  /** `stack` of the error, of its causes and of the errors of an AggregateError; null where there is none. */
  stack: string | null
}

/** One attempt in a job's history. Instants are Unix ms. */
export interface Attempt {
  /** 1 for the first; goes on counting after an operator's retry. */
  attempt: number
  /** Name of the worker that ran it. */
  worker: string | null
  /** When the worker got the job (Unix ms), just before its handler started. */
  startedAt: Instant
  /** When it ended (Unix ms); null while it runs. */
  finishedAt: Instant | null
  /** How it ended; 'running' for one that has not, 'lost' when its worker was gone or did not renew its lease. */
  outcome: 'running' | 'succeeded' | 'failed' | 'timeout' | 'lost' | 'cancelled'
  /** Why it failed; null for an attempt that runs or has succeeded. */
  error: JobError | null
  /** Of a lost attempt: how many other jobs ran in its process then, and the first 100 of them; null for all others, and for a loss that says nothing of its job, as after a power cut. */
  beside: { others: number; jobs: { id: number; type: string }[] } | null
}

/** Checks a queue or type name: 1 to 128 characters, no control characters. */
export function checkName(kind: 'queue' | 'type' | 'worker' | 'schedule' | 'token', name: string): string {
  if (
    typeof name !== 'string' ||
    name.length === 0 ||
    name.length > limits.nameLength ||
    /\p{Cc}/u.test(name) ||
    !name.isWellFormed()
  )
    throw invalid(
      `A ${kind} name must have 1 to ${limits.nameLength} characters, no control characters and no half of a surrogate pair; got ${shown(name)}.`,
    )
  return name
}

/** The latest instant of a Date. */
export const latestInstant = 8_640_000_000_000_000

function instant(value: Instant | Date, name: string): Instant {
  const at = value instanceof Date ? value.getTime() : value
  if (!Number.isInteger(at) || at < 0 || at > latestInstant)
    throw invalid(`${name} must be a Date or whole Unix milliseconds, from 0 to ${latestInstant}; got ${shown(value)}.`)
  return at
}

export function wholeNumber(value: number, from: number, to: number, name: string): number {
  if (!Number.isInteger(value) || value < from || value > to)
    throw invalid(`${name} must be a whole number from ${from} to ${to}; got ${shown(value)}.`)
  return value
}

export function oneOf<T extends string>(value: T, allowed: readonly T[], name: string): T {
  if (!allowed.includes(value)) throw invalid(`${name} must be one of ${allowed.join(', ')}; got ${shown(value)}.`)
  return value
}

/** A timeout that may not be so short that nothing can run. */
function atLeast(minimum: number, duration: Duration, name: string): number {
  const ms = toMs(duration, name)
  if (ms < minimum) throw invalid(`${name} must be at least ${minimum} ms; got ${ms}.`)
  return ms
}

export const policyNames = ['queue', 'priority', 'maxAttempts', 'backoff', 'timeout', 'onTimeout', 'visibilityTimeout']
const timeNames = ['delay', 'runAt', 'deadline']
const keyNames = ['idempotencyKey', 'idempotencyWindow', 'uniqueKey', 'concurrencyKey']
export const optionNames = [...policyNames, ...timeNames, ...keyNames]

/** The default: how long an idempotency key is kept, in ms. */
export const idempotencyWindow = 86_400_000

/** Checks options and fills in defaults. Throws INVALID_ARGUMENT, also for an option that does not exist. */
export function jobSpec(type: string, options: JobOptions): JobSpec {
  checkNames('job option', options, optionNames)
  if (options.delay !== undefined && options.runAt !== undefined) throw invalid('Give delay or runAt, not both.')
  const { deadline } = options
  return {
    queue: inPaths('queue', checkName('queue', options.queue ?? 'default')),
    type: checkName('type', type),
    priority: priorities.indexOf(oneOf(options.priority ?? 'normal', priorities, 'priority')),
    maxAttempts: wholeNumber(options.maxAttempts ?? 12, 1, 1000, 'maxAttempts'),
    backoff: options.backoff === undefined ? null : checkedBackoff(options.backoff),
    timeout: atLeast(1, options.timeout ?? 900_000, 'timeout'),
    onTimeout: oneOf(options.onTimeout ?? 'retry', ['retry', 'dead'], 'onTimeout'),
    visibilityTimeout: atLeast(1000, options.visibilityTimeout ?? 30_000, 'visibilityTimeout'),
    delay: delayMs(options.delay ?? 0, 'delay', 'Give an instant as runAt.'),
    runAt: options.runAt === undefined ? null : instant(options.runAt, 'runAt'),
    deadline: deadline === undefined || typeof deadline === 'string' ? null : instant(deadline, 'deadline'),
    deadlineIn: typeof deadline === 'string' ? toMs(deadline, 'deadline') : null,
    idempotencyWindow: toMs(options.idempotencyWindow ?? idempotencyWindow, 'idempotencyWindow'),
    uniqueKey: options.uniqueKey === undefined ? null : checkKey(options.uniqueKey, 'uniqueKey'),
    concurrencyKey: options.concurrencyKey === undefined ? null : checkKey(options.concurrencyKey, 'concurrencyKey'),
  }
}

export function checkId(id: number): number {
  if (!Number.isSafeInteger(id) || id < 1) throw invalid(`A job id is a whole number from 1; got ${shown(id)}.`)
  return id
}

export function checkKey(key: string, name = 'idempotencyKey'): string {
  if (typeof key !== 'string' || key.length === 0 || key.length > limits.keyLength)
    throw invalid(
      `${name} must be a text of 1 to ${limits.keyLength} characters; got ${typeof key === 'string' ? `${key.length} of them` : shown(key)}.`,
    )
  // The file stores every half of a surrogate pair as the same character: two keys would become one.
  if (!key.isWellFormed())
    throw invalid(`${name} must not have half of a surrogate pair, as a text cut inside an emoji has.`)
  return key
}
