import type { Duration } from './clock.ts'
import { invalid } from './errors.ts'
import { shown } from './text.ts'

const units: Record<string, number> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000, w: 604_800_000 }

/** Longest duration accepted: 100 years, so that now + duration stays an exact integer. */
const longest = 100 * 365 * 86_400_000

/** Turns a duration into whole milliseconds. Throws INVALID_ARGUMENT when it is not one, is negative, or is over 100 years. */
export function toMs(duration: Duration | string, name = 'duration'): number {
  const ms = typeof duration === 'number' ? duration : typeof duration === 'string' ? parse(duration) : Number.NaN
  const form = typeof duration === 'string' ? 'a number with its unit' : 'milliseconds or a string' // a command line has no numbers
  if (!Number.isFinite(ms) || ms < 0 || ms > longest)
    throw invalid(
      `${name} must be ${form} such as '500ms', '30s', '5m', '1.5h', '7d', from 0 to 100 years; got ${shown(duration)}.`,
    )
  return Math.round(ms)
}

/** A longer delay as a number is an instant in Unix ms: the job would be gone for 56 years. */
export const longestNumber = 366 * units.d!

/** As `toMs`, of how long from now a job waits. `instead`: where an instant belongs. */
export function delayMs(delay: Duration | string, name: string, instead: string): number {
  if (typeof delay === 'number' && delay > longestNumber && Number.isFinite(delay))
    throw invalid(`${name} as a number is in milliseconds from now, at most 366 days; ${shown(delay)} looks like an instant in Unix ms. ${instead}`) // biome-ignore format: long
  return toMs(delay, name)
}

function parse(text: string): number {
  const match = /^(\d+(?:\.\d+)?)(ms|s|m|h|d|w)$/.exec(text)
  return match ? Number(match[1]) * units[match[2]!]! : Number.NaN
}

/** 90061000 -> '1d 1h', for people: the two largest units. */
export function formatMs(ms: number): string {
  if (ms < 1000) return `${Math.round(ms)}ms`
  const parts: string[] = []
  let rest = Math.round(ms / 1000)
  for (const [unit, seconds] of [
    ['d', 86_400],
    ['h', 3600],
    ['m', 60],
    ['s', 1],
  ] as const) {
    const count = Math.floor(rest / seconds)
    if (count > 0) parts.push(`${count}${unit}`)
    rest -= count * seconds
  }
  return parts.slice(0, 2).join(' ')
}
