import { AsyncLocalStorage } from 'node:async_hooks'
import type { Span } from '@opentelemetry/api'
import { backoffDelay, type CustomBackoff, parseBackoff } from '../model/backoff.ts'
import type { Clock, Instant } from '../model/clock.ts'
import { delayOf } from '../model/delay.ts'
import { delayMs } from '../model/duration.ts'
import { isPermanent, isPostpone, isQueueError, isTemporary, PermanentError } from '../model/errors.ts'
import { oneOf, priorities } from '../model/job.ts'
import { fromJson } from '../model/json.ts'
import type { Lease, LeasedJob, Store } from '../store/store.ts'
import { contextOf } from './context.ts'
import { type ActiveJob, type Definition, validated } from './definition.ts'
import { cut, describe, inWords } from './evidence.ts'
import { awaitable, type Outcome, type Result, resultOf } from './result.ts'
import type { Slot, Starving } from './starving.ts'
import { goesBack, type Threads } from './threads.ts'
import { endSpan, processing } from './trace.ts'

export interface Surroundings {
  clock: Clock
  customBackoffs: ReadonlyMap<string, CustomBackoff>
  store: Pick<Store, 'call' | 'stalledMs'>
  threads: Threads
  starving: Starving
  /** Runs something in the asynchronous context in which the worker was made: not in that of a job whose end led here. */
  context: <T>(run: () => T) => T
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
  #slot: Slot | undefined
  #flush: (() => void) | undefined
  /** Runs something in the asynchronous context of this attempt. */
  #inside: Surroundings['context'] = (run) => run()

  constructor(leased: LeasedJob, definition: Definition, around: Surroundings) {
    const { id, type, queue, attempt, maxAttempts, tries, createdAt, startedAt, deadline, tick } = leased
    const priority = priorities[leased.priority]!
    const payload = fromJson('payload', leased.payload)
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

  /** Jobs whose end its handler waits for now. */
  get waits(): number[] | undefined {
    return this.#slot?.waits
  }

  /** Starts the handler. `onOutcome` is called once; `onSettled` when the handler is over, which may be later. */
  start(onOutcome: (outcome: Outcome) => void, onSettled: () => void): void {
    const { starving, context } = this.#around
    const slot = starving.take(context)
    this.#slot = slot
    const settled = () => {
      this.#slot = undefined
      starving.give(slot)
      onSettled()
    }
    slot.inside(() => this.#start(onOutcome, settled))
  }

  #start(onOutcome: (outcome: Outcome) => void, onSettled: () => void): void {
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

  /** Time in which the process stood still, or its calls waited for the write lock, was none of the handler's. */
  #endAfter(ms: number): void {
    const { clock, store } = this.#around
    const totals = () => (clock.stoodStill ? [clock.stoodStill(), store.stalledMs?.() ?? 0] : [0]) // none on a virtual clock
    const before = totals()
    this.#stopTimer = clock.timer(ms, () => {
      const lost = Math.max(...totals().map((total, i) => total - before[i]!)) // a stop may be a wait, too
      if (lost > 0) {
        this.#endAfter(lost)
        return
      }
      const waited = this.waits?.length ? ` Its handler waited for the end of job ${this.waits[0]}.` : ''
      const error = new Error(`The attempt ran longer than its timeout of ${this.leased.timeout} ms.${waited}`)
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
    const { context, flush } = contextOf(store, this.lease, () => {
      // Made when asked for, in the handler's context: most handlers never ask, and both cost more than all else here.
      if (!this.#controller) {
        this.#controller = new AbortController()
        this.#inside = AsyncLocalStorage.snapshot() as Surroundings['context']
      }
      return this.#controller.signal
    })
    this.#flush = flush
    const run = () =>
      handler instanceof URL
        ? threads.run(handler, this.job, this.lease, context.signal)
        : awaitable(handler!(this.job, context))
    if (!schema) return run()
    return validated(schema, this.job.payload, type, '').then(
      (payload) => {
        this.#controller?.signal.throwIfAborted() // over, or asked to stop, while the validator took its time
        Object.assign(this.job, { payload })
        return run()
      },
      (error) => {
        const misfit = isQueueError(error) && error.code === 'INVALID_PAYLOAD'
        throw misfit ? new PermanentError(error.message) : error // a validator that breaks says nothing of the payload
      },
    )
  }

  #decide(outcome: Outcome): void {
    this.#stopTimer?.()
    this.#flush?.()
    if (this.#span) endSpan(this.#span, outcome)
    this.#span = undefined
    const tell = this.#onOutcome
    this.#onOutcome = undefined
    tell?.(outcome)
  }

  #abort(reason: unknown): void {
    this.#controller ??= new AbortController()
    const controller = this.#controller
    this.#inside(() => controller.abort(reason)) // else its listeners run in the context of whoever caused it
  }

  #succeeded(value: unknown): Outcome {
    const isKept = this.#definition.handler instanceof URL // its thread has written it
    return { kind: 'succeeded', ...(isKept ? (value as Result) : resultOf(value)) }
  }

  /** The handler's own error is kept, whatever goes wrong with what is to be decided by it: that is noted beside it. */
  #failed(error: unknown, verdict?: 'timeout'): Outcome {
    if (this.#releasing || goesBack.has(error as object)) return { kind: 'released' }
    const notes: string[] = []
    const asked = <T>(what: string, ask: () => T): T | undefined => {
      try {
        return ask()
      } catch (fault) {
        notes.push(`${what}: ${inWords(fault).message}`)
        return undefined
      }
    }
    const now = this.#around.clock.now()
    let fault = '' // why a Postpone is none
    if (verdict === undefined && isPostpone(error)) {
      const after = asked('Postpone names no time', () => delayOf(error.until, 'until', now))
      if (after !== undefined) return { kind: 'postpone', error: describe(error), retryAfter: after }
      fault = notes[0]!.replace('Postpone names no time: ', '').replace(' Nothing was changed.', '')
    }
    const own = isPermanent(error) ? 'permanent' : 'temporary'
    const classified = () =>
      oneOf(
        (isPostpone(error) ? undefined : this.#definition.classify?.(error)) ?? own,
        ['temporary', 'permanent'],
        'classify',
      )
    const kind = verdict ?? asked('classify gave no verdict', classified) ?? 'temporary'
    const retryAfter = kind === 'permanent' ? null : (asked('retryAfter is no delay', () => ownDelay(error, now)) ?? asked('The backoff gave no delay', () => this.#backoff(error)) ?? null) // biome-ignore format: long
    const told = describe(error, notes.length > 0 ? notes.join(' ') : undefined)
    if (fault !== '') told.message = cut(`${told.message} It counts as failed: ${fault}`)
    return { kind, error: told, retryAfter }
  }

  #backoff(error: unknown): number | null {
    const backoff = parseBackoff(this.leased.backoff)
    if (backoff.kind !== 'custom') return null
    const custom = this.#around.customBackoffs.get(backoff.name)
    const { tries, id } = this.leased
    return custom
      ? delayMs(custom(tries, error), `backoff '${backoff.name}'`, 'Give the time until then.')
      : backoffDelay(backoff, tries, id)
  }
}

/** What a TemporaryError asks for. */
function ownDelay(error: unknown, now: Instant): number | null {
  const { retryAfter } = isTemporary(error) ? error : {}
  return retryAfter === undefined ? null : delayOf(retryAfter, 'retryAfter', now)
}

const isThenable = (value: unknown): value is PromiseLike<unknown> =>
  typeof value === 'object' && value !== null && typeof (value as { then?: unknown }).then === 'function'
