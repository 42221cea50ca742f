import { type MessagePort, receiveMessageOnPort, workerData } from 'node:worker_threads'
import { systemClock } from '../../model/clock.ts'
import { GopherQueueError } from '../../model/errors.ts'
import type { StoreEvent, Submission } from '../store.ts'
import { Engine, type Reply, type Request } from './commit.ts'

// The storage thread: everything that can wait for the disk happens here, so that the app's thread never does.

/** What crosses from this thread to the app's. Errors are taken apart, since cloning would lose their code. */
export type Answer =
  | { seq: number; value: unknown }
  | {
      seq: number
      failure: {
        code: GopherQueueError['code']
        message: string
        accepted: GopherQueueError['accepted']
        details: unknown
      }
    }
export type FromThread = { answers: Answer[]; events: StoreEvent[] } | { opened: true } | { failed: Answer }

/** How often to look whether another process has changed the file, while someone here would want to know. */
const lookEvery = 20
/** Most jobs submitted or other operations in one transaction, so that a flood never delays an answer for long. */
const mostAtOnce = 10_000

const { path, port } = workerData as { path: string; port: MessagePort }

function toAnswer(reply: Reply): Answer {
  if ('value' in reply) return reply
  const { code, message, accepted, details } = reply.error
  return { seq: reply.seq, failure: { code, message, accepted, details } }
}

function send(engine: Engine, replies: Reply[]): void {
  const events = engine.events
  engine.events = []
  if (replies.length > 0 || events.length > 0)
    port.postMessage({ answers: replies.map(toAnswer), events } satisfies FromThread)
}

/** Whatever came while the last transaction was being synced shares this one: that is all of group commit. */
function gather(first: Request[]): Request[] {
  const requests: Request[] = []
  let weight = 0
  for (let message: Request[] | undefined = first; message; ) {
    for (const request of message)
      weight += request.operation === 'submit' ? (request.input as Submission).payloads.length : 1
    requests.push(...message)
    message = weight < mostAtOnce ? (receiveMessageOnPort(port)?.message as Request[] | undefined) : undefined
  }
  return requests
}

function serve(engine: Engine): void {
  let disarm: (() => void) | undefined
  const arm = () => {
    const wait = engine.tickIn(lookEvery)
    if (!disarm && Number.isFinite(wait)) disarm = systemClock.timer(wait, look) // a steady flow of messages must not put it off
  }
  const look = () => {
    disarm = undefined
    send(engine, engine.tick())
    arm()
  }
  port.on('message', (first: Request[]) => {
    const requests = gather(first)
    const closing = requests.some(({ operation }) => operation === 'close')
    send(engine, engine.execute(requests.filter(({ operation }) => operation !== 'close')))
    if (!closing) return arm()
    disarm?.()
    engine.close()
    port.close()
  })
  arm()
}

try {
  const engine = new Engine(path, systemClock)
  port.postMessage({ opened: true } satisfies FromThread)
  serve(engine)
} catch (error) {
  const failure =
    error instanceof GopherQueueError
      ? error
      : new GopherQueueError('STORAGE_UNAVAILABLE', String(error), { cause: error })
  port.postMessage({ failed: toAnswer({ seq: 0, error: failure }) } satisfies FromThread)
  port.close()
}
