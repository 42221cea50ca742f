import { GopherQueueError, invalid, isQueueError } from '../model/errors.ts'
import { limits, wholeNumber } from '../model/job.ts'
import { checkNames } from '../model/names.ts'
import type { JobFilter, Schedule, SchedulePage, Store } from '../store/store.ts'
import { checkFilter } from './options.ts'

/** Which jobs an operator means: those that fit all that is given; `{}` means all of the queue. */
export type JobsFilter = Omit<JobFilter, 'order' | 'limit' | 'cursor'>

/** All schedules, page by page: one answer has a bound in bytes. */
export async function allSchedules(store: Store, options: { payloads?: boolean } = {}): Promise<Schedule[]> {
  checkNames('option', options, ['payloads'])
  const all: Schedule[] = []
  for (let after: string | null | undefined; after !== null; ) {
    const page: SchedulePage = await store.call('schedules', { ...options, ...(after !== undefined && { after }) })
    all.push(...page.schedules)
    after = page.next
  }
  return all
}

/** What `retryAll` and its like take besides the filter. */
export interface ManyOptions {
  /** Most jobs that are changed, the newest of those that fit: to try some first. Default: all. */
  limit?: number
  /** Called after each step with how many jobs were changed so far. Default: nothing is called. */
  onProgress?: (changed: number) => void
}

/**
 * An event for each job of a filter that it fits, from the newest job on, so that what is submitted meanwhile is none of
 * them: in steps of some milliseconds, each a transaction. Answers how many were changed.
 */
export async function changeAll(
  store: Store,
  event: 'cancel' | 'retry' | 'runNow' | 'remove',
  filter: JobsFilter,
  options: ManyOptions = {},
): Promise<number> {
  checkFilter(filter, ['order', 'limit', 'cursor'])
  for (const [name, value] of Object.entries(filter))
    if (value === undefined) throw invalid(`${name} is undefined, which would mean the jobs of every ${name}: leave it out if you mean that.`) // biome-ignore format: one line
  checkNames('option', options, ['limit', 'onProgress'])
  const { limit, onProgress } = options
  const most = limit === undefined ? Number.POSITIVE_INFINITY : wholeNumber(limit, 1, Number.MAX_SAFE_INTEGER, 'limit')
  let changed = 0
  for (let cursor: number | null | undefined; cursor !== null && changed < most; ) {
    const page: JobFilter = {
      ...filter,
      order: 'newest',
      limit: Math.min(limits.stepJobs, most - changed),
      ...(cursor !== undefined && { cursor }),
    }
    try {
      const step = await store.call('many', { event, filter: page })
      changed += step.changed
      cursor = step.next
      onProgress?.(changed)
    } catch (error) {
      if (changed === 0 || !isQueueError(error)) throw error
      const { code, message, details } = error
      throw new GopherQueueError(code, `${message} ${changed} jobs were changed before: once that is mended, the same call goes on with the rest.`, { accepted: 'yes', details, cause: error }) // biome-ignore format: long
    }
  }
  return changed
}
