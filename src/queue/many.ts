import { GopherQueueError, isQueueError } from '../model/errors.ts'
import type { JobFilter, Store } from '../store/store.ts'
import { checkFilter } from './options.ts'

/** Which jobs an operator means: those that fit all that is given; `{}` means all of the queue. */
export type JobsFilter = Omit<JobFilter, 'order' | 'limit' | 'cursor'>

/**
 * An event for each job of a filter that it fits, from the newest job on, so that what is submitted meanwhile is none of
 * them: in steps of some milliseconds, each a transaction. Answers how many were changed.
 */
export async function changeAll(
  store: Store,
  event: 'cancel' | 'retry' | 'runNow' | 'remove',
  filter: JobsFilter,
): Promise<number> {
  checkFilter(filter, ['order', 'limit', 'cursor'])
  let changed = 0
  for (let cursor: number | null | undefined; cursor !== null; ) {
    const page: JobFilter = { ...filter, order: 'newest', limit: 1000, ...(cursor !== undefined && { cursor }) }
    try {
      const step = await store.call('many', { event, filter: page })
      changed += step.changed
      cursor = step.next
    } catch (error) {
      if (changed === 0 || !isQueueError(error)) throw error
      const { code, message, details } = error
      throw new GopherQueueError(code, `${message} ${changed} jobs were changed before: once that is mended, the same call goes on with the rest.`, { accepted: 'yes', details, cause: error }) // biome-ignore format: long
    }
  }
  return changed
}
