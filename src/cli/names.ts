import { systemClock } from '../model/clock.ts'
import { dangerous } from '../model/text.ts'
import type { GopherQueue } from '../queue/gopherqueue.ts'
import { print } from './output.ts'

/** What a shell completes from the queue itself. */
export const kinds = ['queue', 'type', 'schedule'] as const
export type Kind = (typeof kinds)[number]

/** How long somebody who pressed a key waits, in ms. */
const patience = 1000
const most = 500
/** Types of jobs are found in the newest ones. */
const jobsSeen = 200

/** Prints the names that begin so, one a line; nothing where the queue cannot be asked, or takes too long. */
export async function printNames(kind: Kind, beginning: string, opened: () => Promise<GopherQueue>): Promise<void> {
  const stop = systemClock.timer(patience, () => process.exit(0))
  try {
    await using queue = await opened()
    const names = new Set(await namesOf(kind, queue))
    const fit = [...names].filter((name) => name.startsWith(beginning) && name.search(dangerous) < 0)
    for (const name of fit.sort().slice(0, most)) print(name)
  } catch {
    // Between two keys there is no place for a message.
  } finally {
    stop()
  }
}

async function namesOf(kind: Kind, queue: GopherQueue): Promise<string[]> {
  if (kind === 'schedule') return (await queue.schedules({ payloads: false })).map(({ name }) => name)
  const { queues, workers, unhandled } = await queue.stats()
  if (kind === 'queue') return queues.map(({ queue: name }) => name)
  const { jobs } = await queue.jobs({ limit: jobsSeen })
  const schedules = await queue.schedules({ payloads: false })
  return [...workers.flatMap(({ sources }) => sources), ...unhandled, ...jobs, ...schedules].map(({ type }) => type)
}
