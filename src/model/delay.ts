import type { Duration, Instant } from './clock.ts'
import { toMs } from './duration.ts'
import { invalid } from './errors.ts'
import { shown } from './text.ts'

// When a handler wants its job to be tried again: after a while, or at an instant.

const day = 86_400_000
/** A longer delay as a number is an instant in Unix ms that was meant for a Date: the job would be gone for 56 years. */
const longestNumber = 366 * day

/** Ms from `now` to what a handler asks for; 0 for an instant that is past. Throws INVALID_ARGUMENT. */
export function delayOf(wanted: Duration | Date, name: string, now: Instant): number {
  if (wanted instanceof Date) {
    if (Number.isNaN(wanted.getTime())) throw invalid(`${name} is an invalid Date.`)
    return toMs(Math.max(0, wanted.getTime() - now), name)
  }
  if (typeof wanted === 'number' && wanted > longestNumber)
    throw invalid(`${name} as a number is in milliseconds from now, at most 366 days; got ${shown(wanted)}. Give an instant as a Date.`) // biome-ignore format: long
  return toMs(wanted, name)
}

/**
 * What a `Retry-After` header asks for, as `Postpone` and `retryAfter` of `TemporaryError` take it: seconds become
 * milliseconds, an HTTP date a Date. Undefined where there is no header, for what is neither, and for more than 366 days.
 */
export function retryAfter(header: string | null | undefined): number | Date | undefined {
  const text = String(header ?? '').trim() // some clients hand it out as a number
  if (/^\d{1,8}$/.test(text)) return Number(text) * 1000 <= longestNumber ? Number(text) * 1000 : undefined
  // `Sun, 06 Nov 1994 08:49:37 GMT`, and the two forms that older servers send; the last names no zone and means UTC.
  if (!/^(Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*,? .*\d\d:\d\d:\d\d/.test(text)) return undefined
  const at = Date.parse(/ GMT$/.test(text) ? text : `${text} GMT`)
  return Number.isNaN(at) ? undefined : new Date(at)
}
