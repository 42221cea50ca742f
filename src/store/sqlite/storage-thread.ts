import { type MessagePort, receiveMessageOnPort, workerData } from 'node:worker_threads'
import { systemClock } from '../../model/clock.ts'
import { GopherQueueError, isQueueError } from '../../model/errors.ts'
import { Engine } from './commit.ts'
import { connect } from './connection.ts'
import { Db } from './db.ts'
import { noDisk, systemDisk } from './disk.ts'
import { loadDriver } from './driver.ts'
import { Load, weightOf } from './group.ts'
import { FileGuard, noGuard } from './guard.ts'
import { systemProcesses } from './processes.ts'
import type { Reply, Request } from './request.ts'
import { nodeSqlite } from './sqlite.ts'
import { type FromThread, KnownLists, packError, packReplies, type Requests, unpackRequests } from './wire.ts'

// The storage thread: everything that can wait for the disk happens here, so that the app's thread never does.

/** How often to look whether another process has changed the file, while someone here would want to know. */
const lookEvery = 20
/**
 * How long to stay awake for the next request, in ms. Who submits one job after the other sends it within this time, and
 * to be woken costs as much as all else that a small transaction does beside its fsync.
 */
const awake = 0.05

export interface ThreadData {
  path: string
  port: MessagePort
  /** Bytes of free space under which submissions are refused; a quarter of it is set aside as a file. */
  diskReserve: number
  tends: boolean
  /** The URL of the app's better-sqlite3; null: node:sqlite. */
  driver: string | null
}
const { path, port, diskReserve, tends, driver } = workerData as ThreadData

const tell = (message: FromThread): void => port.postMessage(message)

function send(engine: Engine, replies: Reply[]): void {
  const events = engine.events
  engine.events = []
  if (replies.length > 0 || events.length > 0) tell(packReplies(replies, events))
}

const lists = new KnownLists()
const receive = () => receiveMessageOnPort(port)?.message as Requests | undefined

/** Whatever came while the last transaction was being synced shares this one, until it is full: that is all of group commit. */
function gather(first: Requests): Request[] {
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

function serve(engine: Engine): void {
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
    send(engine, engine.tick())
    arm()
  }
  /** True when the queue was closed. */
  const answer = (first: Requests): boolean => {
    const requests = gather(first)
    send(engine, engine.execute(requests.filter(({ operation }) => operation !== 'close')))
    return requests.some(({ operation }) => operation === 'close')
  }
  const close = () => {
    disarm?.()
    if (engine.close()) port.close()
    else tell({ left: true })
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

async function start(): Promise<void> {
  const sqlite = driver === null ? nodeSqlite : await loadDriver(driver)
  const disk = path === ':memory:' ? noDisk : systemDisk(path, Math.floor(diskReserve / 4))
  const guard = path === ':memory:' ? noGuard : new FileGuard(path, sqlite)
  const open = () => connect(path, systemClock, () => new Db(path, systemClock, systemProcesses, sqlite), sqlite)
  const engine = new Engine(path, systemClock, { disk, guard, diskReserve, open, tends, asksApp: true })
  tell({ opened: true })
  serve(engine)
}

start().catch((error) => {
  const failure = isQueueError(error)
    ? error
    : new GopherQueueError('STORAGE_UNAVAILABLE', String(error), { cause: error })
  tell({ failed: packError(failure) })
  port.close()
})
