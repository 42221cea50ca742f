import { Turns } from '../model/clock.ts'
import { digesting } from '../store/digest.ts'
import type { JobFilter, JobPage, Store } from '../store/store.ts'
import { Stored } from './text.ts'

// What is large is looked at piece by piece, each in a turn of the event loop of its own, so that others are answered between.

/** Characters of JSON that take a millisecond or more. */
export const largeText = 64 * 1024

/** Of bodies and answers alike. */
export const turns = new Turns()

/** The digest of a bulk: of 64 MiB it takes a second or more. */
export async function digestOf(asked: Parameters<typeof digesting>[0]): Promise<string> {
  const steps = digesting(asked)
  for (let taken = 0; ; ) {
    const { done, value } = steps.next()
    if (done) return value
    taken += value
    if (taken < largeText) continue
    taken = 0
    await turns.next()
  }
}

/** A page whose payloads and results go out as they are stored; a large one in a turn of its own. */
export async function pageOf(store: Store, filter: JobFilter): Promise<JobPage> {
  const { jobs, next } = await store.call('jobs', { ...filter, asText: true })
  let size = 0
  const stored = jobs.map(({ payload, result, ...job }) => {
    const [given, made] = [payload as string, result as string | null]
    size += given.length + (made?.length ?? 0)
    return { ...job, payload: new Stored(given), result: made === null ? null : new Stored(made) }
  })
  if (size > largeText) await turns.next()
  return { jobs: stored, next }
}
