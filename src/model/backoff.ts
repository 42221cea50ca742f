import type { Duration, Instant } from './clock.ts'
import { longestNumber, toMs } from './duration.ts'
import { invalid } from './errors.ts'
import type { State } from './lifecycle.ts'
import { checkNames, optionsOf } from './names.ts'
import { shown } from './text.ts'

/**
 * How long a job waits after a failed attempt before it is tried again. Delays are in ms, or texts such as '5m'.
 * - `constant`: always `delay`; `linear`: `delay` x attempt; `exponential`: `delay` x `factor`^(attempt - 1)
 * - `table`: the given delays in turn, the last one for all further attempts
 * - `custom`: the function that `queue.defineBackoff(name, ...)` gives in the process that works; where none is known, the default exponential
 *
 * `max` caps the delay (default 1 h). `jitter` 0..1 spreads it by up to that part of the delay, derived from
 * (job id, attempt), so that it repeats. Default: exponential, 5 s x 2, cap 1 h, no jitter.
 */
export type Backoff =
  | { kind: 'constant' | 'linear'; delay: Duration; max?: Duration; jitter?: number }
  | { kind: 'exponential'; delay?: Duration; factor?: number; max?: Duration; jitter?: number }
  | { kind: 'table'; delays: Duration[]; jitter?: number }
  | { kind: 'custom'; name: string }

/** A backoff as a job shows it: as `Backoff`, with each default filled in and all delays in ms. */
export type StoredBackoff =
  | { kind: 'constant' | 'linear'; delay: number; max: number; jitter: number }
  | { kind: 'exponential'; delay: number; factor: number; max: number; jitter: number }
  | { kind: 'table'; delays: number[]; jitter: number }
  | { kind: 'custom'; name: string }

/** A function for `defineBackoff`: returns the delay (ms or '5m') after failed attempt number `attempt` (1, 2, ...), which failed with `error`. */
export type CustomBackoff = (attempt: number, error: unknown) => Duration

const hour = 3_600_000

export const defaultBackoff: StoredBackoff = { kind: 'exponential', delay: 5000, factor: 2, max: hour, jitter: 0 }

/** A backoff from its JSON text; the default one for null, and for what somebody wrote past the checks. */
export function parseBackoff(text: string | null): StoredBackoff {
  if (text === null) return defaultBackoff
  try {
    return storedBackoff(JSON.parse(text) as Backoff)
  } catch {
    return defaultBackoff // else the reaper could end no attempt of its job
  }
}

/** What each kind of backoff can be told. */
const namesOf: Record<Backoff['kind'], readonly string[]> = {
  constant: ['kind', 'delay', 'max', 'jitter'],
  linear: ['kind', 'delay', 'max', 'jitter'],
  exponential: ['kind', 'delay', 'factor', 'max', 'jitter'],
  table: ['kind', 'delays', 'jitter'],
  custom: ['kind', 'name'],
}

/** As `storedBackoff`, for one that an app or an operator gives: also refuses a name that its kind does not have. */
export function checkedBackoff(backoff: Backoff): StoredBackoff {
  const { kind } = optionsOf('backoff', backoff)
  if (Object.hasOwn(namesOf, kind)) checkNames(`${kind} backoff option`, backoff, namesOf[kind])
  const stored = storedBackoff(backoff)
  const delays = 'delays' in stored ? stored.delays : 'delay' in stored ? [stored.delay] : []
  if (delays.some((delay) => delay > longestNumber))
    throw invalid('A delay of backoff is at most 366 days: a longer one looks like an instant in Unix ms. A job that is to run at an instant takes runAt.') // biome-ignore format: long
  return stored
}

/** Checks a backoff and fills in its defaults. Throws INVALID_ARGUMENT. */
export function storedBackoff(backoff: Backoff): StoredBackoff {
  if (backoff.kind === 'custom') {
    if (typeof backoff.name !== 'string' || !backoff.name)
      throw invalid('A custom backoff needs the name of a registered function.')
    return { kind: 'custom', name: backoff.name }
  }
  const jitter = numberFrom(0, 1, backoff.jitter ?? 0, 'backoff.jitter')
  switch (backoff.kind) {
    case 'table':
      if (!Array.isArray(backoff.delays) || backoff.delays.length === 0 || backoff.delays.length > 1000)
        throw invalid('backoff.delays must hold 1 to 1000 delays.')
      return { kind: 'table', delays: backoff.delays.map((d) => toMs(d, 'backoff.delays')), jitter }
    case 'exponential': {
      const factor = numberFrom(1, 100, backoff.factor ?? 2, 'backoff.factor')
      const delay = toMs(backoff.delay ?? 5000, 'backoff.delay')
      return { kind: 'exponential', delay, factor, max: toMs(backoff.max ?? hour, 'backoff.max'), jitter }
    }
    case 'constant':
    case 'linear': {
      const delay = toMs(backoff.delay, 'backoff.delay')
      return { kind: backoff.kind, delay, max: toMs(backoff.max ?? Math.max(hour, delay), 'backoff.max'), jitter }
    }
    default:
      throw invalid(`backoff.kind must be constant, linear, exponential, table or custom; got ${shown(backoff)}.`)
  }
}

function numberFrom(least: number, most: number, value: number, name: string): number {
  if (typeof value !== 'number' || !(value >= least && value <= most))
    throw invalid(`${name} must be a number from ${least} to ${most}; got ${shown(value)}.`)
  return value
}

/** Milliseconds to wait after failed attempt number `attempt` (1, 2, ...) of job `id`. Pure: same input, same delay. */
export function backoffDelay(backoff: StoredBackoff, attempt: number, id: number): number {
  switch (backoff.kind) {
    case 'constant':
      return spread(backoff.delay, backoff, attempt, id)
    case 'linear':
      return spread(backoff.delay * attempt, backoff, attempt, id)
    case 'exponential':
      // 0 x infinity would be no number
      return spread(backoff.delay * Math.min(backoff.factor ** (attempt - 1), Number.MAX_VALUE), backoff, attempt, id)
    case 'table':
      return spread(backoff.delays[Math.min(attempt, backoff.delays.length) - 1]!, backoff, attempt, id)
    case 'custom':
      return backoffDelay(defaultBackoff, attempt, id)
  }
}

/**
 * When a job's attempts would start from `from` on, were each to fail as soon as it starts: Unix ms, the first of them
 * `from` itself, or a running job's next retry. None is at its deadline or later. A `custom` backoff is shown as the default one. Throws INVALID_ARGUMENT.
 */
export function retryTimes(
  job: { id: number; backoff: StoredBackoff; maxAttempts: number; attemptsLeft: number; state: State; deadline?: Instant | null }, // biome-ignore format: long
  from: Instant,
): Instant[] {
  if (!job?.backoff || !Number.isInteger(from))
    throw invalid(
      `retryTimes takes a job of a queue, and whole Unix milliseconds; got ${shown(job)} and ${shown(from)}.`,
    )
  const { id, backoff, maxAttempts, attemptsLeft, state, deadline } = job
  const times: Instant[] = []
  let tries = maxAttempts - attemptsLeft
  let at = state === 'running' ? from + backoffDelay(backoff, tries, id) : from
  for (; tries < maxAttempts && at < (deadline ?? Number.POSITIVE_INFINITY); at += backoffDelay(backoff, tries, id)) {
    times.push(at)
    tries++
  }
  return times
}

/** Shortens or lengthens by up to `jitter` of the delay, by a hash of (id, attempt): spread out, yet repeatable. */
function spread(delay: number, limits: { max?: number; jitter: number }, attempt: number, id: number): number {
  const { max = Number.POSITIVE_INFINITY, jitter } = limits
  let hash = Math.imul(id, 0x9e3779b1) ^ Math.imul(attempt, 0x85ebca6b)
  hash = Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d)
  hash = Math.imul(hash ^ (hash >>> 12), 0x297a2d39)
  const unit = ((hash ^ (hash >>> 15)) >>> 0) / 2 ** 32
  return Math.round(Math.min(Math.min(delay, max) * (1 + jitter * (2 * unit - 1)), max))
}
