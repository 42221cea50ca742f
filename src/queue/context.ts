import { invalid } from '../model/errors.ts'
import { toJson } from '../model/json.ts'
import { shown } from '../model/text.ts'
import type { Lease, Progress, Store } from '../store/store.ts'
import type { Context } from './definition.ts'
import { cut } from './evidence.ts'

/**
 * What a handler can do while it runs. Of what it tells of its progress only the latest is kept until the one before is
 * written; `flush` sends what is left, before the outcome.
 */
export function contextOf(
  store: Pick<Store, 'call'>,
  lease: Lease,
  signal: () => AbortSignal,
): { context: Context; flush: () => void } {
  let latest: { percent: number; message: string | undefined } | null = null
  let underWay = false
  const flush = (): void => {
    if (latest === null) return
    const { percent, message } = latest
    latest = null
    underWay = true
    const progress: Progress = { lease, percent, message: message === undefined ? null : cut(message) }
    const written = () => {
      underWay = false
      flush()
    }
    store.call('progress', progress).then(written, written) // refused or not: it is only for people to see
  }
  const context: Context = {
    get signal() {
      return signal()
    },
    heartbeat: async () => void (await store.call('heartbeat', lease)),
    progress: (percent, message) => {
      if (!(percent >= 0 && percent <= 100)) throw invalid(`progress takes 0 to 100 percent; got ${shown(percent)}.`)
      if (message !== undefined && typeof message !== 'string') throw invalid(`The message of progress is a text; got ${shown(message)}.`) // biome-ignore format: one line
      latest = { percent, message: message === undefined ? undefined : `${message}` }
      if (!underWay) flush()
    },
    checkpoint: async (state) => void (await store.call('checkpoint', { lease, state: toJson('checkpoint', state) })),
  }
  return { context, flush }
}
