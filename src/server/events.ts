import { Type } from 'typebox'
import { invalid } from '../model/errors.ts'
import { whenClosed } from './closed.ts'
import type { Exchange } from './http.ts'
import type { Hub, Told } from './hub.ts'
import type { Parts } from './requests.ts'

/** Of a token for events. */
export const eventScopes = ['read', 'work'] as const

const names = [
  ...[
    'submitted',
    'started',
    'succeeded',
    'retrying',
    'postponed',
    'dead',
    'cancelled',
    'released',
    'leaseLost',
    'ready',
  ],
  ...['cancelRequested', 'reclaimed', 'expired', 'tickLost', 'health', 'changed', 'ping', 'missed'],
]
export const EventsQuery = Type.Object({ events: Type.Optional(Type.String()) }, { additionalProperties: false })

/** How often a stream says that it lives, and ends if its token was revoked, in ms. */
const beatEvery = 5000

/** Throws INVALID_ARGUMENT: a listener for a misspelt event would wait for ever. */
function chosen(wanted: string | undefined): Set<string> | null {
  if (wanted === undefined) return null
  const only = wanted.split(',')
  const unknown = only.find((name) => !names.includes(name))
  if (unknown !== undefined)
    throw invalid(
      `There is no event '${unknown.slice(0, 40)}': use some of ${names.join(',')}, or leave 'events' out for all.`,
    )
  return new Set(only)
}

/** Server-sent events; with Last-Event-ID from where the client was. `?events=a,b` tells only those. */
export function events(hub: Hub, { drain, clock, tokens }: Pick<Parts, 'drain' | 'clock' | 'tokens'>) {
  return ({ request, response: raw, query }: Exchange): void => {
    const { events: wanted } = query as { events?: string }
    const only = chosen(wanted)
    const last = request.headers['last-event-id']
    drain.mustHaveRoom()
    raw.writeHead(200, { 'content-type': 'text/event-stream', 'x-accel-buffering': 'no' })
    if (request.method === 'HEAD') return void raw.end()
    const write = ({ seq, event, ...fields }: Told) => {
      if (only && !only.has(event)) return
      if (raw.writableLength > 1024 * 1024)
        raw.destroy() // it reads too slowly: it may come back where it was
      else raw.write(`id: ${seq}\nevent: ${event}\ndata: ${JSON.stringify(fields)}\n\n`)
    }
    raw.write(': welcome\n\n')
    const { complete, stop } = hub.listen(last === undefined ? null : Number(last), write)
    if (!complete) raw.write('event: missed\ndata: {}\n\n')
    const leave = () => {
      stop()
      stopBeat()
      drain.ends.delete(end)
    }
    // Nothing may be written from then on, also while its client reads what it has: that would end this process.
    const end = () => {
      leave()
      raw.end()
    }
    const beat = () => {
      raw.write(': beat\n\n')
      stopBeat = clock.timer(beatEvery, beat)
      tokens.check(request.headers.authorization, eventScopes, request.socket.remoteAddress).catch(end)
    }
    let stopBeat = clock.timer(beatEvery, beat)
    drain.ends.add(end)
    whenClosed(raw, leave)
  }
}
