import type { Duration, Instant } from './clock.ts'
import { delayMs, longestNumber, toMs } from './duration.ts'
import { invalid } from './errors.ts'

// When a handler wants its job to be tried again: after a while, or at an instant.

/** Ms from `now` to what a handler asks for; 0 for an instant that is past. Throws INVALID_ARGUMENT. */
export function delayOf(wanted: Duration | Date, name: string, now: Instant): number {
  if (wanted instanceof Date) {
    if (Number.isNaN(wanted.getTime())) throw invalid(`${name} is an invalid Date.`)
    return toMs(Math.max(0, wanted.getTime() - now), name)
  }
  return delayMs(wanted, name, 'Give an instant as a Date.')
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
