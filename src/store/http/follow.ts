import { createInterface } from 'node:readline'
import { Readable } from 'node:stream'
import type { Clock } from '../../model/clock.ts'
import { GopherQueueError } from '../../model/errors.ts'
import type { StoreEvent } from '../store.ts'
import type { Client } from './client.ts'
import { numberedBy } from './numbers.ts'

const wanted = ['cancelRequested', 'leaseLost', 'reclaimed', 'expired', 'tickLost', 'health']

/** A token is a number here, as everywhere in a process. */
function told(text: string): object {
  const fields = JSON.parse(text) as { token?: string }
  const token = fields.token === undefined ? null : numberedBy(fields.token)
  return token ? { ...fields, token: token.number, epoch: token.epoch } : fields
}

/** Hears what the server tells, from where it was when the connection broke, until the signal. */
export async function follow(
  client: Client,
  signal: AbortSignal,
  clock: Clock,
  tell: (event: StoreEvent) => void,
): Promise<void> {
  let last: string | undefined
  while (!signal.aborted) {
    try {
      const headers: Record<string, string> = last === undefined ? {} : { 'last-event-id': last }
      const stream = await client.stream(`/v1/events?events=${wanted}`, headers)
      let event = ''
      for await (const line of createInterface({ input: Readable.fromWeb(stream as never) })) {
        const [, field, value] = /^(\w+): (.*)$/.exec(line) ?? []
        if (field === 'id') last = value
        else if (field === 'event') event = value!
        else if (field === 'data' && wanted.includes(event)) tell({ event, ...told(value!) } as StoreEvent)
      }
    } catch (error) {
      // The server is away: heartbeats say the same, later. A token that is not for this will never be.
      if (error instanceof GopherQueueError && error.code === 'FORBIDDEN') return
    }
    if (!signal.aborted) await new Promise<void>((resolve) => clock.timer(1000, resolve))
  }
}
