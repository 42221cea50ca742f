import { lookup } from 'node:dns/promises'
import { once } from 'node:events'
import { createServer, type Server as HttpServer, type RequestListener } from 'node:http'
import { createServer as createTlsServer, type Server as TlsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { type Static, Type } from 'typebox'
import { type Clock, systemClock } from '../model/clock.ts'
import { GopherQueueError } from '../model/errors.ts'
import type { Store, StoreHealth } from '../store/store.ts'
import { Tokens } from './auth.ts'
import { Bodies } from './bodies.ts'
import { Drain } from './drain.ts'
import { EventsQuery, eventScopes, events } from './events.ts'
import { isLoopback, publicUrlOf, refuseConnection } from './guard.ts'
import { makeHandlers } from './handlers.ts'
import { History } from './history.ts'
import { type Exchange, type Route, Routes, send, sendJson } from './http.ts'
import { Hub } from './hub.ts'
import { Log } from './log.ts'
import { Metrics } from './metrics.ts'
import { openapi } from './openapi.ts'
import { Readers } from './readers.ts'
import { addCalls, answer, type Parts } from './requests.ts'
import { built, serveStatic } from './static.ts'
import { readPair, type TlsFiles } from './tls.ts'
import { type Readiness, Watchdog } from './watchdog.ts'

export interface ServeOptions {
  /** Default 127.0.0.1. Any but the machine's own loopback is refused while the file has no token. */
  host?: string
  /** Default 7420; 0 takes a free one. */
  port?: number
  /** Of the log: 'fatal' to 'trace', or 'silent'. Default 'info'. */
  logLevel?: string
  /** Takes each line of the log. Default: stdout. */
  log?: (line: string) => void
  /** Default: plain HTTP. */
  tls?: TlsFiles
  /** Where a reverse proxy makes this server known, such as https://example.org/jobs: its host and origin are taken, too. Takes a token. */
  publicUrl?: string | undefined
  /** Connections at once; more are closed. Default 30,000. */
  mostConnections?: number
  /** Requests that wait, and listeners, at once; more are refused with OVERLOADED. Default 20,000. */
  mostWaiting?: number
  version?: string
  /** Ms after which what storage has not proved is not taken for well. Default 5000. */
  patience?: number
  /** Folder of the built dashboard. Default: where `npm run build` puts it. */
  dashboard?: string
  clock?: Clock
}

/** A server that listens. */
export interface Server {
  /** Such as http://127.0.0.1:7420. */
  url: string
  /** Requests that wait for something to happen: long polls and listeners. */
  readonly waiting: number
  /** Bytes of answers that their clients have not read yet. */
  readonly unread: number
  /** Bytes of bodies that arrive, or whose requests have no answer yet. */
  readonly held: number
  /** Reads the certificate and key again, for connections from now on. Keeps those it has when they cannot be used. */
  reload(): void
  /** Answers what waits, finishes what was begun, and closes the store. */
  close(): Promise<void>
}

const ReadyQuery = Type.Object({
  for: Type.Optional(Type.Union([Type.Literal('submit'), Type.Literal('lease'), Type.Literal('complete')])),
})

/** Serves a store over HTTP. An SQLite one is to be opened with `tends`. Throws INVALID_ARGUMENT, or EADDRINUSE for a port that is taken. */
export async function serve(store: Store, options: ServeOptions = {}): Promise<Server> {
  const { host = '127.0.0.1', tls, logLevel = 'info', version = '0', clock = systemClock } = options
  const { log = (line) => process.stdout.write(line), mostWaiting = 20_000, patience = 5000 } = options
  const publicUrl = options.publicUrl === undefined ? null : publicUrlOf(options.publicUrl)
  const logger = new Log(logLevel, log, clock)
  const tokens = new Tokens(store, clock, ({ why, token, from }) =>
    logger.repeated('warn', 'refused', `${why} ${token ?? from}`, { why, token, from }),
  )
  await tokens.read()
  if (tokens.none) mustBeForThisMachine(host, publicUrl)
  const hub = new Hub(clock.now())
  const drain = new Drain(mostWaiting, clock)
  const watchdog = new Watchdog(store, clock, patience, (now) =>
    logger.repeated('warn', 'readiness changed', worksOf(now), { ...now }),
  )
  const metrics = new Metrics(store, clock, hub, watchdog, version)
  const history = new History(store, clock, hub)
  const [bodies, readers] = [new Bodies(clock), new Readers(clock)]
  const parts: Parts = { host, publicUrl, tokens, routes: new Routes(), drain, bodies, readers, metrics, logger, clock }
  addCalls(parts, makeHandlers(store, clock, hub, history))
  parts.routes.add({
    method: 'GET',
    path: '/v1/events',
    scope: eventScopes,
    query: EventsQuery,
    handle: events(hub, parts),
  })
  addOthers(parts, watchdog, version, options.dashboard)
  const listeners = await listen(parts, options).catch((error) => {
    history.stop() // or its timer would keep the process alive
    logger.close()
    throw error
  })
  metrics.certificate(tls ? readPair(tls).endsAt : null)
  watchdog.start()
  const { address, family, port } = listeners[0]!.address() as AddressInfo
  const url = `${tls ? 'https' : 'http'}://${family === 'IPv6' ? `[${address}]` : address}:${port}`
  logger.info('started', { url, ...(publicUrl && { publicUrl }), version, tokens: !tokens.none })
  if (!isLoopback(host) && !tls)
    logger.warn('Plain HTTP: who is on the way can read tokens and payloads. See --tls-cert and --tls-key.')
  store.onEvent((told) => {
    if (told.event === 'health')
      logger.repeated(told.health.status === 'ok' ? 'info' : 'warn', 'health', codesOf(told.health), { ...told.health })
  })
  return {
    url,
    get waiting() {
      return drain.ends.size
    },
    get unread() {
      return readers.bytes
    },
    get held() {
      return bodies.bytes
    },
    reload: () => tls && readAgain(tls, listeners as TlsServer[], parts),
    async close() {
      await drain.close()
      watchdog.stop()
      history.stop()
      await store.close()
      logger.close()
      logger.info('stopped')
    },
  }
}

function readAgain(tls: TlsFiles, listeners: TlsServer[], { metrics, logger }: Parts): void {
  try {
    const { endsAt, ...pair } = readPair(tls)
    for (const listener of listeners) listener.setSecureContext(pair)
    metrics.certificate(endsAt)
    logger.info('certificate read again')
  } catch (error) {
    logger.error('the certificate from before stays', { err: error })
  }
}

// By what changes of readiness and health are the same: a disk that is full and not full in turn tells of itself once a minute.
const worksOf = (readiness: Readiness): string => Object.values(readiness).map(({ works }) => Number(works)).join('') // biome-ignore format: one line
const codesOf = ({ status, causes }: StoreHealth): string => `${status} ${causes.map(({ code }) => code)}`

/** Throws INVALID_ARGUMENT where others could reach a server that asks for no token. */
function mustBeForThisMachine(host: string, publicUrl: URL | null): void {
  const others = publicUrl ? `${publicUrl}, which a proxy opens to others` : isLoopback(host) ? null : host
  if (others === null) return
  throw new GopherQueueError(
    'INVALID_ARGUMENT',
    `Without a token only this machine may be served (127.0.0.1, ::1 or localhost), not ${others}. Nothing was started: 'gopherqueue token create NAME --scope submit,work' first.`,
  )
}

/** What is no call of the API: documents, probes and pages. */
function addOthers(
  { routes, metrics, readers, publicUrl }: Parts,
  watchdog: Watchdog,
  version: string,
  dashboard?: string,
): void {
  const add = (path: string, scope: Route['scope'], type: string, text: () => string | Promise<string>) => {
    const handle = async ({ response }: Exchange) =>
      send(response, 200, `${type}; charset=utf-8`, await text(), readers)
    routes.add({ method: 'GET', path, scope, handle })
  }
  add('/openapi.json', 'any', 'application/json', () => JSON.stringify(openapi(version, publicUrl)))
  add('/metrics', 'read', 'text/plain; version=0.0.4', () => metrics.text())
  add('/healthz', 'none', 'application/json', () => '{"lives":true}')
  const readyz = ({ query, response }: Exchange) => {
    const { for: only } = query as Static<typeof ReadyQuery>
    const { readiness } = watchdog
    const ready = Object.entries(readiness).every(([name, { works }]) => works || (only ?? name) !== name)
    sendJson(response, ready ? 200 : 503, { ready, ...readiness })
  }
  routes.add({ method: 'GET', path: '/readyz', scope: 'none', query: ReadyQuery, handle: readyz })
  serveStatic(routes, 'docs', '/docs/', "default-src 'none'; style-src 'self'; img-src 'self'")
  const pages = dashboard === undefined ? undefined : built('dashboard', dashboard)
  serveStatic(routes, 'dashboard', '/', "default-src 'self'", pages)
}

/** On each address of the host: the first must be free, and the others take the port that it got. */
async function listen(parts: Parts, options: ServeOptions): Promise<HttpServer[]> {
  const { port = 7420, tls, mostConnections = 30_000 } = options
  const settings = {
    ...{ maxHeaderSize: 16 * 1024, headersTimeout: 10_000, connectionsCheckingInterval: 2000 },
    ...{ requestTimeout: 30_000, keepAliveTimeout: 65_000, handshakeTimeout: 10_000 },
    requireHostHeader: false, // the guard says more
  }
  const answers: RequestListener = (request, response) => answer(parts, request, response)
  const addresses = parts.host === 'localhost' ? await lookup(parts.host, { all: true }) : [{ address: parts.host }]
  const listeners: HttpServer[] = [] // for 'localhost' there are two
  for (const { address } of addresses) {
    const listener = tls ? createTlsServer({ ...settings, ...readPair(tls) }, answers) : createServer(settings, answers)
    listener.maxConnections = mostConnections
    listener.on('clientError', refuseConnection)
    listener.on('checkExpectation', answers) // refused there, as a problem document
    const [first] = listeners
    const wanted = first ? (first.address() as AddressInfo).port : port
    try {
      await once(listener.listen({ host: address, port: wanted }), 'listening')
    } catch (error) {
      if (!first) throw notFree(error as NodeJS.ErrnoException, address, wanted)
      continue // such as ::1 on a machine without IPv6
    }
    listeners.push(listener)
    parts.drain.watch(listener)
  }
  return listeners
}

/** Its code is the system's: an argument that is wrong would end a program with another exit code. */
const notFree = (error: NodeJS.ErrnoException, address: string, port: number): Error => {
  if (error.code !== 'EADDRINUSE') return error
  const message = `Port ${port} of ${address} is taken by another program. Nothing was started: choose one with --port, or end that program.`
  return Object.assign(new Error(message, { cause: error }), { code: error.code })
}
