import { every } from '../model/clock.ts'
import type { Drain } from './drain.ts'
import type { Exchange } from './http.ts'
import type { Hub, Told } from './hub.ts'

/** Server-sent events; with Last-Event-ID from where the client was. `?events=a,b` tells only those. */
export function events(hub: Hub, drain: Drain) {
  return ({ request, response: raw, query }: Exchange): void => {
    const { events: wanted } = query as { events?: string }
    const only = wanted === undefined ? null : new Set(wanted.split(','))
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
    const stopBeat = every(15_000, () => raw.write(': beat\n\n'))
    const end = () => raw.end()
    drain.ends.add(end)
    raw.once('close', () => {
      stop()
      stopBeat()
      drain.ends.delete(end)
    })
  }
}
