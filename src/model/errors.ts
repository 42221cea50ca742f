import type { Duration } from './clock.ts'

/** What went wrong. Codes are stable: they are part of the API. */
export type ErrorCode =
  | 'INVALID_ARGUMENT' // an option or argument is wrong; nothing was stored
  | 'INVALID_PAYLOAD' // the payload is not JSON or its validator refused it
  | 'PAYLOAD_TOO_LARGE' // payload over 1 MiB, or a bulk over its limits
  | 'RESULT_TOO_LARGE' // a result over 1 MiB, reported over HTTP
  | 'INVALID_RESULT' // a warning: the job succeeded, and what its handler returned could not be kept
  | 'THREAD_GONE' // a warning: a handler's thread died in which other jobs had run before; its job goes back, uncharged
  | 'POLICY_DIFFERS' // a warning: the job was submitted with another policy than its worker's definition has
  | 'QUEUES_NOT_TAKEN' // a warning: more queues match a worker's patterns than it can take jobs of
  | 'WAIT_STARVES' // a warning: handlers that wait for jobs hold all slots in which these could run
  | 'IDEMPOTENCY_CONFLICT' // same key, another payload
  | 'KEY_TAKEN' // a job that has not ended holds the unique key
  | 'KEY_BUSY' // a transaction that is open is taking the key, and did not end for 10 s; on PostgreSQL
  | 'QUEUE_FULL' // the queue holds maxDepth waiting jobs
  | 'TOO_MANY_QUEUES' // the file has 50,000 names of queues, or a token of a server has made 1,000 within an hour
  | 'TOO_MANY_TYPES' // the queue has 10,000 names of types
  | 'OVERLOADED' // too many operations wait in this process's memory
  | 'STORAGE_FULL' // the disk has no room: submissions refused, processing goes on
  | 'STORAGE_UNAVAILABLE' // the file cannot be made durable now
  | 'STORAGE_CORRUPT' // the file is damaged; nothing was overwritten
  | 'TWO_SQLITES' // another copy of SQLite has the file open in this process
  | 'NOT_A_QUEUE' // the file is not a GopherQueue file, or its folder is missing
  | 'SCHEMA_TOO_NEW' // written by a newer GopherQueue
  | 'SCHEMA_TOO_OLD' // written by an older GopherQueue, which does not count what is asked for
  | 'ENGINE_TOO_OLD' // SQLite is older than 3.51.3
  | 'UNSUPPORTED_FILESYSTEM' // network filesystem: locks and fsync cannot be trusted
  | 'MOVED' // the queue was moved to a server, or is being moved: the message says where
  | 'NOT_FOUND' // no such job
  | 'INVALID_STATE' // the event does not fit the job's state; or a file to be replaced is in use; or fake timers were there first
  | 'LEASE_LOST' // the lease token is stale: another attempt owns the job
  | 'WORKER_UNKNOWN' // the worker's id is not known here, or it was signed off: it registers again
  | 'JOB_FAILED' // wait(): the job ended dead or cancelled
  | 'WAIT_TIMEOUT' // wait(): the job had not ended in time, or storage did not say; it goes on
  | 'CLOSED' // the queue was closed
  | 'UNAUTHORIZED' // a server asks for a token, or does not know this one
  | 'FORBIDDEN' // the token does not allow this

/**
 * By what errors are known: `instanceof` knows neither those of another copy of this package nor what crossed between
 * threads. On the prototypes, where nothing that lists an error's own fields sees them.
 */
const brands = {
  queue: Symbol.for('gopherqueue.error'),
  permanent: Symbol.for('gopherqueue.permanent'),
  temporary: Symbol.for('gopherqueue.temporary'),
  postpone: Symbol.for('gopherqueue.postpone'),
}

function brand(prototype: object, symbol: symbol): void {
  Object.defineProperty(prototype, symbol, { value: true })
}

/** False for whatever throws when it is looked at. */
function bears(value: unknown, symbol: symbol): boolean {
  try {
    return typeof value === 'object' && value !== null && (value as Record<symbol, unknown>)[symbol] === true
  } catch {
    return false
  }
}

/** A `GopherQueueError` of any copy of this package. */
export const isQueueError = (error: unknown): error is GopherQueueError => bears(error, brands.queue)

/** A `PermanentError` of any copy of this package. */
export const isPermanent = (error: unknown): error is PermanentError => bears(error, brands.permanent)

/** A `TemporaryError` of any copy of this package. */
export const isTemporary = (error: unknown): error is TemporaryError => bears(error, brands.temporary)

/** A `Postpone` of any copy of this package. */
export const isPostpone = (error: unknown): error is Postpone => bears(error, brands.postpone)

/** What is known about the job or change that the failed call was about. */
export type Accepted = 'no' | 'yes' | 'unknown'

/** The one error class of this package. `code` is stable; `accepted` says whether the submission or change took effect. */
export class GopherQueueError extends Error {
  /** Always 'GopherQueueError'. */
  override readonly name = 'GopherQueueError'
  /** What went wrong, for code to decide by; the message is for people. */
  readonly code: ErrorCode
  /** 'no': nothing happened. 'yes': it took effect all the same. 'unknown': open the queue again and look. */
  readonly accepted: Accepted
  /** What more is known, by code: the issues of INVALID_PAYLOAD, the state of INVALID_STATE, the end of JOB_FAILED. */
  readonly details: unknown

  /** `accepted` is 'no' unless given. */
  constructor(
    code: ErrorCode,
    message: string,
    options: { accepted?: Accepted; details?: unknown; cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.code = code
    this.accepted = options.accepted ?? 'no'
    this.details = options.details
  }
}
brand(GopherQueueError.prototype, brands.queue)

/** Throw from a handler: trying again cannot help. The job goes to the dead letters at once. */
export class PermanentError extends Error {
  /** 'PermanentError', unless a subclass says otherwise; kept in the history. */
  override readonly name: string = 'PermanentError'
}
brand(PermanentError.prototype, brands.permanent)

/** Throw from a handler: try again, at `retryAfter` (ms or '5m' from now, or a Date) if given, else by the job's backoff. */
export class TemporaryError extends Error {
  /** 'TemporaryError', unless a subclass says otherwise; kept in the history. */
  override readonly name: string = 'TemporaryError'
  /** When it is tried again (ms or '5m' from now, or a Date); undefined leaves it to the job's backoff. */
  readonly retryAfter: Duration | Date | undefined

  /** `retryAfter` (ms or '5m' from now, or a Date) overrules the job's backoff, not its number of attempts. */
  constructor(message: string, options: ErrorOptions & { retryAfter?: Duration | Date | undefined } = {}) {
    super(message, options)
    this.retryAfter = options.retryAfter
  }
}
brand(TemporaryError.prototype, brands.temporary)

/**
 * Throw from a handler: not now. The job waits until then, and the attempt is not charged. It may do so 1,000 times in one
 * budget of attempts, and beyond that counts as failed; a job with a deadline is put off to that at the latest, when it
 * expires. `classify` is not asked. What is no delay is noted in the history, and the attempt counts as failed.
 */
export class Postpone extends Error {
  /** 'Postpone', unless a subclass says otherwise. */
  override readonly name: string = 'Postpone'
  /** When the job is tried again (ms or '5m' from now, or a Date). */
  readonly until: Duration | Date

  /** `until`: ms or '5m' from now, or a Date. */
  constructor(until: Duration | Date, options?: ErrorOptions) {
    super('The handler put its job off.', options)
    this.until = until
  }
}
brand(Postpone.prototype, brands.postpone)

/** Shorthand for the commonest refusal: an argument out of its range. */
export function invalid(message: string): GopherQueueError {
  return new GopherQueueError('INVALID_ARGUMENT', `${message} Nothing was changed.`)
}

/** An error as one of this package: of any other, nobody knows what it took effect. */
export function asQueueError(error: unknown): GopherQueueError {
  return isQueueError(error)
    ? error
    : new GopherQueueError('STORAGE_UNAVAILABLE', String(error), { accepted: 'unknown', cause: error })
}

/** There is no job with this id. */
export function notFound(id: number): GopherQueueError {
  return new GopherQueueError('NOT_FOUND', `There is no job ${id}: it never was, or it was removed or pruned.`)
}

/** The job was there while somebody waited for its end: only what has ended is deleted. */
export function endedAndGone(id: number): GopherQueueError {
  return new GopherQueueError(
    'NOT_FOUND',
    `Job ${id} has ended, and is deleted already: how it ended is not known here. Keep such jobs longer (keepSucceeded, keepCancelled, keepDead).`,
    { accepted: 'yes' },
  )
}
