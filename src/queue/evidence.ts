import { inspect, types } from 'node:util'
import { type JobError, limits } from '../model/job.ts'

// What is kept of whatever a handler threw: bounded, and whatever it is made of.

/** Causes and errors inside each other, and of all of them together, that are told; of the rest their number. */
const most = { depth: 8, errors: 16 }
const bytes = limits.stackBytes
/** What the line that marks a cut takes. */
const markBytes = 64

/**
 * An error as the history keeps it: name, message, and the stack with those of its causes and of an AggregateError's
 * errors, each text cut at 8 KiB. `note` says what else went wrong; it is kept whole.
 */
export function describe(error: unknown, note?: string): JobError {
  const { name, message, stack } = inWords(error, note)
  return { name: cut(name), message: cut(message), stack: stack && cut(stack) }
}

const words = (value: unknown): string => (typeof value === 'string' ? value : inspect(value))

/** Also one of another realm, such as of node:vm, and a DOMException. */
const isError = (value: unknown): value is Error => types.isNativeError(value) || value instanceof Error

/** Of errors that were described where they were thrown: in a thread. */
export const described = new WeakMap<object, JobError>()

/** Whatever was thrown: its name and message may be anything, and to look at it may throw. */
export function inWords(error: unknown, note?: string): JobError {
  const noted = note === undefined ? [] : [`Besides: ${note}`]
  const known = typeof error === 'object' && error !== null ? described.get(error) : undefined
  if (known) return { ...known, stack: known.stack === null ? (noted[0] ?? null) : fitted([known.stack, ...noted]) }
  try {
    if (!isError(error)) return { name: 'NonError', message: inspect(error), stack: noted[0] ?? null }
    const { name, message, stack } = error
    const parts = [...(stack ? [words(stack)] : []), ...noted, ...within(error)]
    return { name: words(name), message: words(message), stack: parts.length > 0 ? fitted(parts) : null }
  } catch {
    return { name: 'NonError', message: 'What was thrown throws when it is looked at.', stack: noted[0] ?? null }
  }
}

/** Its causes and errors, each as a text, in the order in which they are met. */
function within(error: Error): string[] {
  const parts: string[] = []
  const seen = new Set<unknown>([error])
  const tell = (said: string, one: unknown, depth: number): void => {
    if (parts.length >= most.errors) return
    if (seen.has(one)) parts.push(`${said}: one that stands above`)
    else if (!isError(one)) parts.push(`${said}: ${attempted(() => inspect(one))}`)
    else {
      seen.add(one)
      parts.push(`${said}: ${attempted(() => words(one.stack || `${one.name}: ${one.message}`))}`)
      look(one, depth + 1)
    }
  }
  const look = (one: Error, depth: number): void => {
    const cause = attempted(() => one.cause)
    if (cause !== undefined && depth >= most.depth) parts.push('Caused by: more, which is not told')
    else if (cause !== undefined) tell('Caused by', cause, depth)
    const errors = attempted(() => (one as Partial<AggregateError>).errors)
    if (!Array.isArray(errors) || depth >= most.depth) return
    const count = Number(attempted(() => errors.length)) || 0
    for (let i = 0; i < count && parts.length < most.errors; i++)
      tell(`Error ${i + 1} of ${count}`, attempted(() => errors[i] as unknown), depth) // biome-ignore format: long
    if (count > 0 && parts.length >= most.errors) parts.push(`Of ${count} errors those are told that fit.`)
  }
  look(error, 0)
  return parts.slice(0, most.errors + 1)
}

function attempted<T>(look: () => T): T | string {
  try {
    return look()
  } catch {
    return 'what throws when it is looked at'
  }
}

/** The texts one below the other, in 8 KiB: the shortest stay whole, and the others share what is left. */
function fitted(parts: string[]): string {
  const sizes = parts.map((part) => Buffer.byteLength(part) + 1)
  let room = bytes - parts.length
  let share = room
  if (sizes.reduce((sum, size) => sum + size, 0) > bytes && parts.length > 1)
    for (const [i, size] of sizes.toSorted((a, b) => a - b).entries()) {
      share = Math.floor(room / (sizes.length - i))
      if (size + markBytes > share) break
      room -= size
    }
  return parts
    .map((part, i) => (sizes[i]! > share && parts.length > 1 ? cut(part, share - markBytes) : part))
    .join('\n')
}

/** At most 8 KiB of a text, or `atMost` bytes. */
export function cut(text: string, atMost: number = bytes): string {
  if (text.length * 3 <= atMost) return text
  const all = Buffer.from(text)
  if (all.length <= atMost) return text
  return `${all.subarray(0, atMost).toString()}… [cut: ${all.length} bytes in all]`
}
