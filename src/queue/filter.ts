import { invalid } from '../model/errors.ts'
import { checkName, oneOf, wholeNumber } from '../model/job.ts'
import { states } from '../model/lifecycle.ts'
import type { JobFilter } from '../store/store.ts'

const known = new Set(['state', 'queue', 'type', 'order', 'limit', 'cursor'])

/** Checks a filter, as job options are checked: a misspelt one must not answer with all jobs. Throws INVALID_ARGUMENT. */
export function checkFilter(filter: JobFilter): JobFilter {
  for (const key of Object.keys(filter)) if (!known.has(key)) throw invalid(`There is no job filter '${key}'.`)
  const { state, queue, type, order, limit, cursor } = filter
  if (state !== undefined) oneOf(state, states, 'state')
  if (queue !== undefined) checkName('queue', queue)
  if (type !== undefined) checkName('type', type)
  if (order !== undefined) oneOf(order, ['oldest', 'newest'], 'order')
  if (limit !== undefined) wholeNumber(limit, 1, 1000, 'limit')
  if (cursor !== undefined && cursor !== null) wholeNumber(cursor, 0, Number.MAX_SAFE_INTEGER, 'cursor')
  return filter
}
