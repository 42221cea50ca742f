import { statSync } from 'node:fs'
import type { StandardSchemaV1 } from '@standard-schema/spec'
import type { Instant } from '../model/clock.ts'
import { GopherQueueError, invalid } from '../model/errors.ts'
import { type JobSpec, jobSpec, optionNames, type Policy, type Priority } from '../model/job.ts'
import { checkNames } from '../model/names.ts'
import { shown } from '../model/text.ts'

/** The job as its handler sees it. Instants are Unix ms. */
export interface ActiveJob<Payload = unknown> {
  /** The same in all attempts: with it a handler can make its effects idempotent. */
  id: number
  /** The name under which its handler was defined. */
  type: string
  /** Name of the queue that it came from. */
  queue: string
  /** Its class in the order of jobs. */
  priority: Priority
  /** The payload as JSON gives it back; where the definition has a schema, that schema's output. */
  payload: Payload
  /** 1 for the first attempt. It counts starts, and may exceed `maxAttempts`: a loss beside other jobs is not charged. */
  attempt: number
  /** How many attempts it has before it is dead, the first one included. */
  maxAttempts: number
  /** How many attempts remain after this one; 0 for the last. */
  attemptsLeft: number
  /** What an earlier attempt left with `context.checkpoint`, or null. */
  checkpoint: unknown
  /** When it was submitted (Unix ms). */
  createdAt: Instant
  /** The tick of the schedule that submitted it (Unix ms): what it is for, however late it runs. Null if none did. */
  tick: Instant | null
  /** When this attempt began (Unix ms). */
  startedAt: Instant
  /** The instant from which on no attempt starts (Unix ms), or null. */
  deadline: Instant | null
}

/** The second argument of a handler: what it can use besides its job. */
export interface Context {
  /** Fires when the attempt is over from outside: timeout, cancellation, lost lease, shutdown. `signal.reason` says which: an error whose name is 'Timeout', else 'AbortError' and in words. */
  readonly signal: AbortSignal
  /** Renews the right to run this job for another `visibilityTimeout` and resolves when that is on disk. Rarely needed: it is renewed by itself. Throws LEASE_LOST when the attempt is over. */
  heartbeat(): Promise<void>
  /** Tells people how far the job is, 0 to 100 percent: the latest is stored with the next transaction, at no cost. Throws INVALID_ARGUMENT. */
  progress(percent: number, message?: string): void
  /**
   * Keeps a small state (JSON, at most 64 KiB) on disk, from which the next attempt can go on: it gets it as
   * `job.checkpoint`. Throws LEASE_LOST, INVALID_PAYLOAD, PAYLOAD_TOO_LARGE.
   */
  checkpoint(state: unknown): Promise<void>
}

/**
 * Does the work. What it returns (JSON, at most 1 MiB) is the job's result; where it is no JSON, the job succeeds with null
 * and a `warning`, as the work was done. It fails for good by throwing a `PermanentError`, is put off uncharged by a `Postpone`; anything else is tried again.
 */
export type Handler<Payload, Result> = (job: ActiveJob<Payload>, context: Context) => Result | Promise<Result>

/** What concerns only the program that works on a type of job. */
export interface HandlerOptions {
  /** Overrules how a thrown error is taken; undefined leaves it as it is: PermanentError permanent, all else temporary. Not asked of a Postpone. */
  classify?: (error: unknown) => 'temporary' | 'permanent' | undefined
  /**
   * Takes the place of a definition of the same type, as a program that loads its handlers again while it runs needs it: attempts
   * that run end as they began, and the next one has the new handler; without a new one, the handler stays. Default false: a
   * type defined twice is refused.
   */
  replace?: boolean
}

/** What a job type is: the policy of its jobs, which a submission can overrule, and how its handlers' errors are taken. */
export interface JobTypeOptions extends Policy, Pick<HandlerOptions, 'classify'> {}

/** What `define` takes: the policy of all jobs of the type, which a submission can overrule, and what concerns its handler. */
export interface DefinitionOptions extends Policy, HandlerOptions {}

/** A type of job: its policy, its payload's schema and, in processes that work, its handler. */
export interface Definition {
  readonly type: string
  readonly policy: Policy
  readonly classify: HandlerOptions['classify']
  readonly schema: StandardSchemaV1 | undefined
  /** A URL is that of a module whose default export is the handler: it runs in a thread. */
  readonly handler: Handler<unknown, unknown> | URL | undefined
  /** The policy with all defaults, for submissions that add none of their own. */
  readonly spec: JobSpec
}

export function makeDefinition(
  type: string,
  options: JobTypeOptions & { payload?: StandardSchemaV1 | undefined },
  handler: Handler<never, unknown> | URL | undefined,
): Definition {
  checkNames('job option', options, [...optionNames, 'payload', 'classify'])
  const { payload: schema, classify, ...policy } = options
  if (schema && typeof schema['~standard']?.validate !== 'function')
    throw invalid(`The payload of '${type}' must be a Standard Schema validator (zod, valibot, arktype, ...).`)
  if (classify !== undefined && typeof classify !== 'function')
    throw invalid(`classify of '${type}' must be a function; got ${shown(classify)}.`)
  checkHandler(type, handler)
  return {
    type,
    policy,
    classify,
    schema,
    handler: handler as Definition['handler'], // its payload was checked by the schema that gave its type
    spec: jobSpec(type, policy),
  }
}

function checkHandler(type: string, handler: unknown): void {
  if (handler === undefined || typeof handler === 'function') return
  if (!(handler instanceof URL))
    throw invalid(`The handler of '${type}' must be a function, or the URL of a module that exports one as default.`)
  // Else each attempt of its jobs would fail, until they are dead.
  if (!isModule(handler))
    throw invalid(`The handler of '${type}' is to be the module ${handler.href}, which is no file that can be read.`)
}

function isModule(url: URL): boolean {
  try {
    return url.protocol === 'data:' || statSync(url).isFile()
  } catch {
    return false // also for an URL that names no file
  }
}

/** The handler that is a module's default export. Throws TypeError. */
export function handlerOf(module: unknown, file: string): Handler<unknown, unknown> {
  const { default: given } = module as { default?: { __esModule?: true; default?: unknown } | null }
  // Of what TypeScript compiles to CommonJS, import() gives all exports as the default.
  const handler = given?.__esModule ? given.default : given
  if (typeof handler !== 'function') throw new TypeError(`The default export of ${file} must be a function.`)
  return handler as Handler<unknown, unknown>
}

/** Issues that an error message names; all of them are in its `details`. */
const mostNamed = 10

/**
 * The payload as the schema gives it back. Throws INVALID_PAYLOAD with the validator's issues in `details`, and
 * `consequence` at the end of its message; what the validator itself throws goes through.
 */
export async function validated(
  schema: StandardSchemaV1 | undefined,
  payload: unknown,
  type: string,
  consequence: string,
): Promise<unknown> {
  return schema ? fitting(await schema['~standard'].validate(payload), type, consequence) : payload
}

/** As `validated`, for a caller that cannot wait. Throws INVALID_ARGUMENT when the schema does. */
export function validatedNow(
  schema: StandardSchemaV1 | undefined,
  payload: unknown,
  type: string,
  consequence: string,
): unknown {
  if (!schema) return payload
  const result = schema['~standard'].validate(payload)
  if (!('then' in result)) return fitting(result, type, consequence)
  result.catch(() => undefined) // nobody waits for it
  throw invalid(`The schema of '${type}' validates asynchronously: it cannot be used inside a transaction.`)
}

function fitting(result: StandardSchemaV1.Result<unknown>, type: string, consequence: string): unknown {
  if (!result.issues) return result.value
  const issues = result.issues.map(({ message, path }) => ({
    message,
    path: path?.map((part) => (typeof part === 'object' ? part.key : part)),
  }))
  const named = issues.slice(0, mostNamed).map(({ message, path }) => {
    return path?.length ? `${path.map(String).join('.')}: ${message}` : message
  })
  const more = issues.length > mostNamed ? ` (and ${issues.length - mostNamed} more)` : ''
  throw new GopherQueueError(
    'INVALID_PAYLOAD',
    `The payload of '${type}' does not fit its schema: ${named.join('; ')}${more}.${consequence}`,
    { details: { issues } },
  )
}
