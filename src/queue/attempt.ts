import { inspect } from 'node:util'
import type { Span } from '@opentelemetry/api'
import { backoffDelay, type CustomBackoff, parseBackoff } from '../model/backoff.ts'
import type { Clock } from '../model/clock.ts'
import { toMs } from '../model/duration.ts'
import { GopherQueueError, invalid, PermanentError, TemporaryError } from '../model/errors.ts'
import { type JobError, limits, priorities, toJson } from '../model/job.ts'
import type { Failure, Lease, LeasedJob, Store } from '../store/store.ts'
import { type ActiveJob, type Context, type Definition, validated } from './definition.ts'
import type { Threads } from './threads.ts'
import { endSpan, processing } from './trace.ts'

/** What one attempt came to. `lost` and `released` are decided from outside, the rest by the handler or the clock. */
export type Outcome =
  | { kind: 'succeeded'; result: string }
  | { kind: Failure['kind']; error: JobError; retryAfter: number | null }
  | { kind: 'released' | 'lost' }

export interface Surroundings {
  clock: Clock
  customBackoffs: ReadonlyMap<string, CustomBackoff>
  store: Pick<Store, 'call'>
  threads: Threads
}

/** One run of one handler. It has exactly one outcome, and perhaps a handler that goes on after it. */
export class Attempt {
  readonly leased: LeasedJob
  readonly lease: Lease
  readonly job: ActiveJob
  /** The handler returned or threw. */
  settled = false
  readonly #definition: Definition
  readonly #around: Surroundings
  #controller: AbortController | undefined
  #stopTimer: (() => void) | undefined
  #releasing = false
  #onOutcome: ((outcome: Outcome) => void) | undefined
  #span: Span | undefined

  constructor(leased: LeasedJob, definition: Definition, around: Surroundings) {
    const { id, type, queue, attempt, maxAttempts, tries, createdAt, startedAt, deadline, tick } = leased
    const priority = priorities[leased.priority]!
    const payload: unknown = JSON.parse(leased.payload)
    const attemptsLeft = maxAttempts - tries
    const checkpoint: unknown = leased.checkpoint === null ? null : JSON.parse(leased.checkpoint)
    this.job = {
      id,
      type,
      queue,
      priority,
      payload,
      attempt,
      maxAttempts,
      attemptsLeft,
      checkpoint,
      createdAt,
      tick: tick ?? null, // a server of an earlier version does not tell
      startedAt,
      deadline,
    }
    this.leased = leased
    this.lease = { id, queue, type, token: leased.token, ...(leased.epoch !== undefined && { epoch: leased.epoch }) }
    this.#definition = definition
    this.#around = around
  }

  /** Starts the handler. `onOutcome` is called once; `onSettled` when the handler is over, which may be later. */
  start(onOutcome: (outcome: Outcome) => void, onSettled: () => void): void {
    this.#onOutcome = onOutcome
    const settle = (outcome: Outcome) => {
      this.settled = true
      this.#decide(outcome)
      onSettled()
    }
    try {
      const returned = processing(this.leased, this.job, (span) => {
        this.#span = span
        return this.#run()
      })
      if (!isThenable(returned)) {
        settle(this.#succeeded(returned))
        return
      }
      this.#endAfter(this.leased.timeout)
      Promise.resolve(returned).then(
        (value) => settle(this.#succeeded(value)),
        (error: unknown) => settle(this.#failed(error)),
      )
    } catch (error) {
      settle(this.#failed(error))
    }
  }

  /** Time in which the process stood still was none of the handler's. */
  #endAfter(ms: number): void {
    const { clock } = this.#around
    const before = clock.stoodStill?.() ?? 0
    this.#stopTimer = clock.timer(ms, () => {
      const lost = (clock.stoodStill?.() ?? 0) - before
      if (lost > 0) {
        this.#endAfter(lost)
        return
      }
      const error = new Error(`The attempt ran longer than its timeout of ${this.leased.timeout} ms.`)
      error.name = 'Timeout'
      this.#decide(this.#failed(error, 'timeout'))
      this.#abort(error)
    })
  }

  /** Somebody asked for the job's end: the handler may stop, and its outcome decides. */
  cancel(): void {
    this.#abort(new DOMException(`Job ${this.job.id} was cancelled.`, 'AbortError'))
  }

  /** The worker shuts down: a handler that now throws gives the job back, uncharged. */
  giveBack(): void {
    this.#releasing = true
    this.#abort(new DOMException('The worker is shutting down; the job goes back to the queue.', 'AbortError'))
  }

  /** Another attempt owns the job, or nobody: nothing that this handler still does is reported. */
  lose(reason: string): void {
    this.#decide({ kind: 'lost' })
    this.#abort(new DOMException(reason, 'AbortError'))
  }

  #run(): unknown {
    const { handler, schema, type } = this.#definition
    const { store, threads } = this.#around
    const context = contextOf(store, this.lease, () => {
      this.#controller ??= new AbortController() // made when asked for: most handlers never ask
      return this.#controller.signal
    })
    const run = () =>
      handler instanceof URL ? threads.run(handler, this.job, this.lease, context.signal) : handler!(this.job, context)
    if (!schema) return run()
    return validated(schema, this.job.payload, type, '').then(
      (payload) => {
        this.#controller?.signal.throwIfAborted() // over, or asked to stop, while the validator took its time
        Object.assign(this.job, { payload })
        return run()
      },
      (error) => {
        const misfit = error instanceof GopherQueueError && error.code === 'INVALID_PAYLOAD'
        throw misfit ? new PermanentError(error.message) : error // a validator that breaks says nothing of the payload
      },
    )
  }

  #decide(outcome: Outcome): void {
    this.#stopTimer?.()
    if (this.#span) endSpan(this.#span, outcome)
    this.#span = undefined
    const tell = this.#onOutcome
    this.#onOutcome = undefined
    tell?.(outcome)
  }

  #abort(reason: unknown): void {
    this.#controller ??= new AbortController()
    this.#controller.abort(reason)
  }

  #succeeded(value: unknown): Outcome {
    try {
      const isJson = this.#definition.handler instanceof URL // its thread has written it
      return { kind: 'succeeded', result: isJson ? (value as string) : toJson('result', value) }
    } catch (error) {
      return { kind: 'permanent', error: describe(error), retryAfter: null } // running it again gives the same
    }
  }

  #failed(error: unknown, verdict?: 'timeout'): Outcome {
    if (this.#releasing) return { kind: 'released' }
    try {
      const own = error instanceof PermanentError ? 'permanent' : 'temporary'
      const kind = verdict ?? this.#definition.classify?.(error) ?? own
      return { kind, error: describe(error), retryAfter: kind === 'permanent' ? null : this.#retryAfter(error) }
    } catch (fault) {
      return { kind: verdict ?? 'temporary', error: describe(fault), retryAfter: null } // in classify, retryAfter or a custom backoff
    }
  }

  #retryAfter(error: unknown): number | null {
    if (error instanceof TemporaryError && error.retryAfter !== undefined) return toMs(error.retryAfter, 'retryAfter')
    const backoff = parseBackoff(this.leased.backoff)
    if (backoff.kind !== 'custom') return null
    const custom = this.#around.customBackoffs.get(backoff.name)
    const { tries, id } = this.leased
    return custom ? toMs(custom(tries, error), `backoff '${backoff.name}'`) : backoffDelay(backoff, tries, id)
  }
}

/** What a handler can do while it runs. */
export function contextOf(store: Pick<Store, 'call'>, lease: Lease, signal: () => AbortSignal): Context {
  return {
    get signal() {
      return signal()
    },
    heartbeat: async () => void (await store.call('heartbeat', lease)),
    progress: (percent, message) => {
      const progress = { lease, percent: percentOf(percent), message: message === undefined ? null : cut(message) }
      store.call('progress', progress).catch(() => undefined) // only for people to see
    },
    checkpoint: async (state) => void (await store.call('checkpoint', { lease, state: toJson('checkpoint', state) })),
  }
}

const isThenable = (value: unknown): value is PromiseLike<unknown> =>
  typeof value === 'object' && value !== null && 'then' in value && typeof value.then === 'function'

function percentOf(percent: number): number {
  if (!(percent >= 0 && percent <= 100)) throw invalid(`progress takes 0 to 100 percent; got ${percent}.`)
  return percent
}

/** An error as the history keeps it: name, message, stack with its causes, each cut at 8 KiB. */
export function describe(error: unknown): JobError {
  const { name, message, stack } = inWords(error)
  return { name: cut(name), message: cut(message), stack: stack && cut(stack) }
}

const words = (value: unknown): string => (typeof value === 'string' ? value : inspect(value))

/** Whatever was thrown: its name and message may be anything, and to look at it may throw. */
export function inWords(error: unknown): JobError {
  try {
    if (!(error instanceof Error)) return { name: 'NonError', message: inspect(error), stack: null }
    const { name, message, stack, cause } = error
    const from = cause === undefined ? '' : `\nCaused by: ${cause instanceof Error ? cause.stack : inspect(cause)}`
    return { name: words(name), message: words(message), stack: stack ? words(stack) + from : null }
  } catch {
    return { name: 'NonError', message: 'What was thrown throws when it is looked at.', stack: null }
  }
}

/** At most 8 KiB of a text. */
export function cut(text: string): string {
  const bytes = Buffer.from(text)
  if (bytes.length <= limits.stackBytes) return text
  return `${bytes.subarray(0, limits.stackBytes).toString()}… [cut: ${bytes.length} bytes in all]`
}
