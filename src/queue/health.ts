import type { Clock } from '../model/clock.ts'
import { isQueueError } from '../model/errors.ts'
import type { Store, StoreHealth } from '../store/store.ts'

/** The one value of health: what the store says of itself, and what keeps jobs from being worked. */
export async function healthOf(store: Store, clock: Clock, overdue: number): Promise<StoreHealth> {
  if (store.health.status === 'failed') return store.health
  const since = clock.now()
  const causes = [...store.health.causes]
  try {
    for (const { queue, type } of (await store.call('stats', null)).unhandled)
      causes.push({
        code: 'NO_WORKER',
        message: `Jobs of type '${type}' wait in queue '${queue}' and no live worker handles them: start one.`,
        since,
      })
  } catch (error) {
    if (!isQueueError(error)) throw error
    if (causes.length === 0) causes.push({ code: error.code, message: error.message, since })
  }
  if (overdue > 0)
    causes.push({
      code: 'OVERDUE_HANDLERS',
      message: `${overdue} handler(s) still run although their attempt is over: they ignore their signal.`,
      since,
    })
  return { status: causes.length > 0 ? 'degraded' : 'ok', causes, works: store.health.works }
}
