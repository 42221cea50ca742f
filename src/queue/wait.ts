import type { Clock } from '../model/clock.ts'
import { toMs } from '../model/duration.ts'
import { GopherQueueError, invalid, notFound } from '../model/errors.ts'
import type { Job, JobError } from '../model/job.ts'
import { isTerminal } from '../model/lifecycle.ts'
import { checkNames } from '../model/names.ts'
import { shown } from '../model/text.ts'
import type { JobFilter, JobPage, Store } from '../store/store.ts'
import type { WaitOptions } from './options.ts'

/** What an error says, for the middle of a sentence; an AggregateError often says nothing. */
const saidBy = ({ name, message }: JobError): string => message.replace(/[\s.]+$/, '') || name

/** How long the look at the end of a wait may take, in ms: storage that is away keeps nobody whose time is over. */
const lookWithin = 1000

/** The job, if it has ended: a timeout may be shorter than the way of an answer. Throws NOT_FOUND, WAIT_TIMEOUT. */
async function lastLook(store: Store, clock: Clock, id: number): Promise<Job> {
  const { promise, resolve } = Promise.withResolvers<undefined>()
  const cancelTimer = clock.timer(lookWithin, () => resolve(undefined))
  const job = await Promise.race([store.call('job', id).catch(() => undefined), promise])
  cancelTimer()
  if (job && isTerminal(job.state)) return job
  if (job === null) throw notFound(id)
  const message = job
    ? `Job ${id} had not ended in time. It goes on; wait again to see.`
    : `Whether job ${id} has ended is not known: storage did not answer in time. Wait again to see.`
  throw new GopherQueueError('WAIT_TIMEOUT', message, { accepted: 'yes' })
}

/** The result of a job that succeeds; throws JOB_FAILED, WAIT_TIMEOUT, NOT_FOUND, or what the signal was aborted with. */
export async function waitForEnd(store: Store, clock: Clock, id: number, options: WaitOptions = {}): Promise<unknown> {
  checkNames('option of wait', options, ['timeout', 'signal'])
  const { timeout, signal } = options
  if (signal !== undefined && typeof signal?.throwIfAborted !== 'function') throw invalid(`signal must be an AbortSignal; got ${shown(signal)}.`) // biome-ignore format: one line
  signal?.throwIfAborted()
  const patience = new AbortController()
  const leave = () => patience.abort(signal?.reason)
  let isLate = false
  const giveUp = () => {
    isLate = true
    patience.abort()
  }
  const cancelTimer = timeout === undefined ? undefined : clock.timer(toMs(timeout, 'timeout'), giveUp)
  signal?.addEventListener('abort', leave)
  try {
    const job = await store.call('wait', id, patience.signal).catch((error) => {
      if (!isLate) throw error
      return lastLook(store, clock, id)
    })
    if (job.state === 'succeeded') return job.result
    const error = (await store.call('attempts', id)).at(-1)?.error ?? null
    const { state, reason } = job
    throw new GopherQueueError(
      'JOB_FAILED',
      `Job ${id} ended ${state}${reason ? ` (${reason})` : ''}${error ? `${reason === 'expired' ? '; its last attempt' : ''}: ${saidBy(error)}` : ''}. An operator can retry it.`,
      { accepted: 'yes', details: { state, reason, error } },
    )
  } finally {
    cancelTimer?.()
    signal?.removeEventListener('abort', leave)
  }
}

/** As many jobs as `filter` asks for: one look of the store ends early where much does not fit. */
export async function wholePage(store: Store, filter: JobFilter): Promise<JobPage> {
  const { limit = 100 } = filter
  const page = await store.call('jobs', filter)
  while (page.jobs.length < limit && page.next !== null) {
    const rest = { ...filter, limit: limit - page.jobs.length, cursor: page.next }
    const { jobs, next } = await store.call('jobs', rest)
    page.jobs.push(...jobs)
    page.next = next
  }
  return page
}
