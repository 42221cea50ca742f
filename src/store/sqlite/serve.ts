import { type MessagePort, receiveMessageOnPort } from 'node:worker_threads'
import { systemClock } from '../../model/clock.ts'
import { GopherQueueError, isQueueError } from '../../model/errors.ts'
import type { Engine } from './commit.ts'
import { Load, weightOf } from './group.ts'
import type { Reply, Request } from './request.ts'
import { type FromThread, KnownLists, packError, packReplies, type Requests, unpackRequests } from './wire.ts'

// What a storage thread does, whatever its engine runs on.

/**
 * How long to stay awake for the next request, in ms. Who submits one job after the other sends it within this time, and
 * to be woken costs as much as all else that a small transaction does beside its fsync.
 */
const awake = 0.05

function send(port: MessagePort, engine: Engine, replies: Reply[]): void {
  const events = engine.events
  engine.events = []
  if (replies.length > 0 || events.length > 0) port.postMessage(packReplies(replies, events) satisfies FromThread)
}

const lists = new KnownLists()
const receiveOn = (port: MessagePort) => receiveMessageOnPort(port)?.message as Requests | undefined

/** Whatever came while the last transaction was being synced shares this one, until it is full: that is all of group commit. */
function gather(first: Requests, receive: () => Requests | undefined): Request[] {
  const requests: Request[] = []
  const load = new Load()
  for (let message: Requests | undefined = first; message; ) {
    for (const request of unpackRequests(message, lists)) {
      load.add(weightOf(request))
      requests.push(request)
    }
    message = load.isFull ? undefined : receive()
  }
  return requests
}

/** Takes what to call when others have told that there is something to look at. */
type OnTold = (look: () => void) => void

/** Answers what comes over the port, and ticks: each `lookEvery` ms while someone here would want to know what others changed. */
function serve(port: MessagePort, engine: Engine, lookEvery: number, onTold?: OnTold): void {
  const receive = () => receiveOn(port)
  let disarm: (() => void) | undefined
  const arm = () => {
    const wait = engine.tickIn(lookEvery)
    if (disarm || !Number.isFinite(wait)) return // a steady flow of messages must not put it off
    disarm = systemClock.timer(wait, look)
    engine.expect(wait)
  }
  const look = () => {
    disarm = undefined
    const first = receive() // a report that is here already is heard before its attempt is judged
    if (first && answer(first)) return close()
    send(port, engine, engine.tick())
    arm()
  }
  onTold?.(() => {
    if (!Number.isFinite(engine.tickIn(lookEvery))) return // nobody here would want to know
    disarm?.()
    look()
  })
  /** True when the queue was closed. */
  const answer = (first: Requests): boolean => {
    const requests = gather(first, receive)
    send(port, engine, engine.execute(requests.filter(({ operation }) => operation !== 'close')))
    return requests.some(({ operation }) => operation === 'close')
  }
  const close = () => {
    disarm?.()
    if (engine.close()) port.close()
    else port.postMessage({ left: true } satisfies FromThread)
  }
  port.on('message', (first: Requests) => {
    const { monotonic } = systemClock
    const begun = monotonic()
    let closing = answer(first)
    for (let until = monotonic() + awake; !closing && monotonic() < until && monotonic() < begun + lookEvery; ) {
      const next = receive()
      if (!next) continue
      closing = answer(next)
      until = monotonic() + awake
    }
    if (closing) close()
    else arm()
  })
  arm()
}

/** Opens an engine and serves it; what kept it from opening is told over the port. */
export function run(port: MessagePort, open: () => Engine | Promise<Engine>, lookEvery: number, onTold?: OnTold): void {
  const begin = async () => {
    const engine = await open()
    port.postMessage({ opened: true } satisfies FromThread)
    serve(port, engine, lookEvery, onTold)
  }
  begin().catch((error) => {
    const failure = isQueueError(error)
      ? error
      : new GopherQueueError('STORAGE_UNAVAILABLE', String(error), { cause: error })
    port.postMessage({ failed: packError(failure) } satisfies FromThread)
    port.close()
  })
}
