import { Cron } from 'croner'
import type { Instant } from './clock.ts'
import { invalid } from './errors.ts'

/** The next ticks of a cron line after an instant (Unix ms): up to `count`, fewer when it ends. Throws INVALID_ARGUMENT. */
export function nextTimes(cron: string, timezone: string, count: number, after: Instant): Instant[] {
  try {
    return new Cron(cron, { timezone, paused: true }).nextRuns(count, new Date(after)).map((date) => date.getTime())
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    throw invalid(`'${cron}' in time zone '${timezone}' cannot be read as a schedule: ${reason.replace(/\.?$/, '.')}`)
  }
}
