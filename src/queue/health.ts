import type { Clock } from '../model/clock.ts'
import { isQueueError } from '../model/errors.ts'
import { troublesOf } from '../store/postgres/judged.ts'
import type { ServerStats, Store, StoreHealth } from '../store/store.ts'

/** Most lines that no worker handles that are told one by one. */
const mostTold = 100

/** What the last look at a PostgreSQL server found wrong. */
export function causesOf(server: ServerStats | null): { code: string; message: string }[] {
  if (server?.problem) return [{ code: 'POSTGRES_LOOK', message: server.problem }]
  if (!server?.figures) return []
  return troublesOf(server.figures).map(({ name, says, advice }) => ({
    code: `POSTGRES_${name.toUpperCase()}`,
    message: `${says}: ${advice}.`,
  }))
}

/** The one value of health: what the store says of itself, and what keeps jobs from being worked. */
export async function healthOf(store: Store, clock: Clock, overdue: number): Promise<StoreHealth> {
  const before = store.health
  if (before.status === 'failed') return before
  const since = clock.now()
  const more: StoreHealth['causes'] = []
  try {
    const { unhandled, server } = await store.call('stats', null)
    for (const cause of causesOf(server)) more.push({ ...cause, since })
    for (const { queue, type } of unhandled.slice(0, mostTold)) {
      const message = `Jobs of type '${type}' wait in queue '${queue}' and no live worker handles them: start one.`
      more.push({ code: 'NO_WORKER', message, since })
    }
    const left = unhandled.length - mostTold
    if (left > 0)
      more.push({ code: 'NO_WORKER', message: `So do jobs of ${left} more types and queues: see stats.`, since })
  } catch (error) {
    if (!isQueueError(error)) throw error
    if (store.health.causes.length === 0) more.push({ code: error.code, message: error.message, since })
  }
  if (overdue > 0)
    more.push({
      code: 'OVERDUE_HANDLERS',
      message: `${overdue} handler(s) still run although their attempt is over: they ignore their signal.`,
      since,
    })
  const { status, causes, works } = store.health // as it is after the call: that may have found out more
  if (status === 'failed') return store.health
  return { status: causes.length + more.length > 0 ? 'degraded' : 'ok', causes: [...causes, ...more], works }
}
