import { invalid } from './errors.ts'
import { shown } from './text.ts'

/** Options as they are given. Throws INVALID_ARGUMENT for what is no object, such as null, which only JavaScript lets through. */
export function optionsOf<T extends object>(what: string, given: T): T {
  if (typeof given === 'object' && given !== null && !Array.isArray(given)) return given
  throw invalid(`Each ${what} stands in an object; got ${shown(given)}.`)
}

/** Refuses a name it does not know: a misspelt option must not go unheard, a misspelt filter not answer with all jobs. */
export function checkNames(what: string, given: object, known: readonly string[]): void {
  for (const key of Object.keys(optionsOf(what, given)))
    if (!known.includes(key)) throw invalid(`There is no ${what} '${key}'. ${meant(key, known)}`)
}

/** A new name that stands in paths of HTTP. Throws INVALID_ARGUMENT for one that no path can have: each URL with it is normalised to another. */
export function inPaths(kind: 'queue' | 'worker' | 'schedule', name: string): string {
  if (name !== '.' && name !== '..') return name
  throw invalid(`A ${kind} cannot be named '${name}': in an address that is a step of the path, also as %2E. Choose another name.`) // biome-ignore format: long
}

/** Words of other queues, and what they are called here; only a word that the caller knows is named. */
const otherWords: Record<string, string> = {
  attempts: 'maxAttempts',
  retries: 'maxAttempts',
  maxRetries: 'maxAttempts',
  retryLimit: 'maxAttempts',
  retryDelay: 'backoff',
  jobId: 'idempotencyKey',
  startAfter: 'runAt',
  tz: 'timezone',
  ttl: 'deadline',
  expireIn: 'deadline',
  schema: 'payload',
  type: 'kind',
  initial: 'delay',
  base: 'delay',
  maxDelay: 'max',
  limit: 'max',
  limiter: 'rate',
  duration: 'per',
}

/** The names that are like a misspelt one, nearest first. */
export const near = (given: string, known: readonly string[]): string[] =>
  known
    .map((name) => ({ name, off: distance(given.toLowerCase(), name.toLowerCase()) }))
    .filter(({ name, off }) => off <= Math.ceil(Math.min(name.length, given.length) / 3))
    .sort((a, b) => a.off - b.off)
    .map(({ name }) => name)

/** What a misspelt name was to be, or all that there are. */
function meant(given: string, known: readonly string[]): string {
  const other = Object.hasOwn(otherWords, given) ? otherWords[given]! : ''
  const name = near(given, known)[0] ?? (known.includes(other) ? other : undefined)
  return name ? `Did you mean '${name}'?` : `There are: ${known.join(', ')}.`
}

/** Letters to put in, take out or replace that make `b` of `a`. */
function distance(a: string, b: string): number {
  if (Math.abs(a.length - b.length) > 8) return 9 // no name is so far off by mistake
  let row = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++)
      next.push(Math.min(next[j - 1]! + 1, row[j]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)))
    row = next
  }
  return row[b.length]!
}
