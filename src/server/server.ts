import { lookup } from 'node:dns/promises'
import { once } from 'node:events'
import { createServer, type Server as HttpServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { createServer as createTlsServer, type Server as TlsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { type Static, Type } from 'typebox'
import { type Clock, systemClock } from '../model/clock.ts'
import { GopherQueueError } from '../model/errors.ts'
import { limits } from '../model/job.ts'
import { api, type Call, type Endpoint } from '../store/http/api.ts'
import type { Store } from '../store/store.ts'
import { Tokens } from './auth.ts'
import { Drain } from './drain.ts'
import { events } from './events.ts'
import { guard, isLoopback, refuseConnection, securityHeaders } from './guard.ts'
import { type Handlers, type Incoming, makeHandlers } from './handlers.ts'
import { History } from './history.ts'
import { bodyOf, type Exchange, keyOf, Routes, send, sendJson, shaping, splitUrl } from './http.ts'
import { Hub } from './hub.ts'
import { Log } from './log.ts'
import { Metrics } from './metrics.ts'
import { openapi } from './openapi.ts'
import { problem } from './problem.ts'
import { built, serveStatic } from './static.ts'
import { readPair, type TlsFiles } from './tls.ts'
import { Watchdog } from './watchdog.ts'

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
  /** Reads the certificate and key again, for connections from now on. Keeps those it has when they cannot be used. */
  reload(): void
  /** Answers what waits, finishes what was begun, and closes the store. */
  close(): Promise<void>
}

let requests = 0

/** Bodies of one job: its payload and what goes with it. */
const bodyBytes = limits.payloadBytes + 64 * 1024

const ReadyQuery = Type.Object({
  for: Type.Optional(Type.Union([Type.Literal('submit'), Type.Literal('lease'), Type.Literal('complete')])),
})

/** Serves a store over HTTP. An SQLite one is to be opened with `tends`. Throws INVALID_ARGUMENT. */
export async function serve(store: Store, options: ServeOptions = {}): Promise<Server> {
  const { host = '127.0.0.1', port = 7420, logLevel = 'info', version = '0', clock = systemClock } = options
  const { log = (line) => process.stdout.write(line), tls, mostConnections = 30_000, mostWaiting = 20_000 } = options
  const { patience = 5000 } = options
  const tokens = new Tokens(store, clock)
  await tokens.read()
  if (!isLoopback(host) && tokens.none)
    throw new GopherQueueError(
      'INVALID_ARGUMENT',
      `Without a token only this machine may be served (127.0.0.1, ::1 or localhost), not ${host}. Nothing was started: 'gopherqueue token create NAME --scope submit,work' first.`,
    )
  const logger = new Log(logLevel, log, clock)
  const hub = new Hub(clock.now())
  const ends = new Set<() => void>()
  const listeners: (HttpServer | TlsServer)[] = [] // for 'localhost' there are two
  const drain = new Drain(ends, clock)
  const watchdog = new Watchdog(store, clock, patience, (readiness) =>
    logger.warn('readiness changed', { ...readiness }),
  )
  const metrics = new Metrics(store, clock, hub, watchdog, version)
  const history = new History(store, clock, hub)
  const handlers = makeHandlers(store, clock, hub, history)
  const routes = new Routes()
  for (const call of Object.keys(api) as Call[]) addCall(call, handlers[call] as Handlers['submit'])
  routes.add({ method: 'GET', path: '/v1/events', scope: ['read', 'work'], handle: events(hub, ends, mustHaveRoom) })
  addText('/openapi.json', 'any', 'application/json; charset=utf-8', () => JSON.stringify(openapi(version)))
  addText('/metrics', 'read', 'text/plain; version=0.0.4; charset=utf-8', () => metrics.text())
  addText('/healthz', 'none', 'application/json; charset=utf-8', () => '{"lives":true}')
  routes.add({ method: 'GET', path: '/readyz', scope: 'none', query: ReadyQuery, handle: readyz })
  serveStatic(routes, 'docs', '/docs/', "default-src 'none'; style-src 'self'; img-src 'self'")
  const pages = options.dashboard === undefined ? undefined : built('dashboard', options.dashboard)
  serveStatic(routes, 'dashboard', '/', "default-src 'self'", pages)
  try {
    await listen()
  } catch (error) {
    history.stop() // or its timer would keep the process alive
    throw error
  }
  watchdog.start()
  const { address, family, port: bound } = listeners[0]!.address() as AddressInfo
  const name = family === 'IPv6' ? `[${address}]` : address
  const url = `${tls ? 'https' : 'http'}://${name}:${bound}`
  logger.info('started', { url, version, tokens: !tokens.none })
  if (!isLoopback(host) && !tls)
    logger.warn('Plain HTTP: who is on the way can read tokens and payloads. See --tls-cert and --tls-key.')
  store.onEvent((told) => {
    if (told.event === 'health')
      logger.tell(told.health.status === 'ok' ? 'info' : 'warn', 'health', { ...told.health })
  })

  /** On each address of the host: the first must be free, and the others take the port that it got. */
  async function listen(): Promise<void> {
    const addresses = host === 'localhost' ? await lookup(host, { all: true }) : [{ address: host }]
    for (const [i, { address }] of addresses.entries()) {
      const listener = makeListener()
      const wanted = i === 0 ? port : (listeners[0]!.address() as AddressInfo).port
      try {
        await once(listener.listen({ host: address, port: wanted }), 'listening')
      } catch (error) {
        if (i === 0) throw error
        continue // such as ::1 on a machine without IPv6
      }
      listeners.push(listener)
      drain.watch(listener)
    }
  }

  function makeListener(): HttpServer {
    const options = {
      ...{ maxHeaderSize: 16 * 1024, headersTimeout: 10_000, connectionsCheckingInterval: 2000 },
      ...{ requestTimeout: 30_000, keepAliveTimeout: 65_000, handshakeTimeout: 10_000 },
      requireHostHeader: false, // the guard says more
    }
    const listener = tls ? createTlsServer({ ...options, ...readPair(tls) }, answer) : createServer(options, answer)
    listener.maxConnections = mostConnections
    listener.on('clientError', refuseConnection)
    return listener
  }

  function logRequest(reqId: string, { method, url, socket }: IncomingMessage, response: ServerResponse): void {
    const begun = clock.monotonic()
    logger.debug('incoming request', { reqId, req: { method, url, remoteAddress: socket.remoteAddress } })
    response.once('close', () => {
      const responseTime = clock.monotonic() - begun
      logger.debug('request completed', { reqId, res: { statusCode: response.statusCode }, responseTime })
    })
  }

  /** The whole way of a request. */
  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method = '', url = '' } = request
    const id = `req-${(++requests).toString(36)}`
    if (logger.tells('debug')) logRequest(id, request, response)
    for (const [header, value] of Object.entries(securityHeaders)) response.setHeader(header, value)
    const exchange: Exchange = { request, response, id, who: '', params: {}, query: {}, body: undefined }
    try {
      drain.mustBeOpen()
      const { path, query } = splitUrl(url)
      const found = routes.find(method, path)
      exchange.who = await guard(request, found?.route.scope ?? 'any', { tokens, host })
      if (!found) throw new GopherQueueError('NOT_FOUND', `There is no ${method} ${url.slice(0, 200)}.`)
      exchange.params = found.params(found.values)
      exchange.query = found.query(query)
      if (found.body) exchange.body = found.body(await bodyOf(request, found.route.mostBytes ?? bodyBytes))
      await found.route.handle(exchange)
    } catch (error) {
      answerProblem(error, exchange)
    }
  }

  function mustHaveRoom(): void {
    if (ends.size >= mostWaiting)
      throw new GopherQueueError(
        'OVERLOADED',
        `${ends.size} requests wait at this server, as many as it takes. Nothing was accepted: try again later.`,
      )
  }

  function addText(
    path: string,
    scope: 'any' | 'read' | 'none',
    type: string,
    text: () => string | Promise<string>,
  ): void {
    const handle = async ({ response }: Exchange) => send(response, 200, type, await text())
    routes.add({ method: 'GET', path, scope, handle })
  }

  function readyz({ query, response }: Exchange): void {
    const { for: only } = query as Static<typeof ReadyQuery>
    const { readiness } = watchdog
    const ready = Object.entries(readiness).every(([name, { works }]) => works || (only ?? name) !== name)
    sendJson(response, ready ? 200 : 503, { ready, ...readiness })
  }

  function addCall(call: Call, handle: Handlers['submit']): void {
    const { method, url: path, scope, params, query, body, response, status = 200, large }: Endpoint = api[call]
    const shape = shaping(response)
    const mostBytes = large ? limits.bulkBytes + bodyBytes : bodyBytes
    routes.add({
      ...{ method, path, scope, params, query, body, mostBytes },
      async handle(exchange) {
        const answer = (await handle(incoming(exchange) as Incoming<'submit'>)) ?? null
        const { id: reqId, who, params } = exchange
        if (scope === 'admin' && method !== 'GET')
          logger.info('audit', { reqId, who, action: call, target: Object.values(params as object)[0] })
        sendJson(exchange.response, status, answer === null ? null : shape(answer))
      },
    })
  }

  function incoming({ request, response, id, who, params, query, body }: Exchange): Incoming<Call> {
    return {
      ...{ params: params as never, query: query as never, body: body as never },
      ...{ key: keyOf(request), requestId: id, who },
      host: request.socket.remoteAddress ?? '',
      until(ms, end) {
        if (ms > 0) mustHaveRoom()
        const stopTimer = clock.timer(ms, end)
        const gone = () => response.writableFinished || end()
        response.once('close', gone)
        ends.add(end)
        return () => {
          stopTimer()
          response.off('close', gone)
          ends.delete(end)
          return !response.destroyed
        }
      },
    }
  }

  function answerProblem(error: unknown, { id, request, response }: Exchange): void {
    // Its client hung up in the middle of its body: nobody is refused, and it is no trouble of the server's.
    if (request.destroyed && (error as { code?: string }).code === 'ECONNRESET')
      return void logger.debug('client hung up', { reqId: id })
    const told = problem(error, id)
    metrics.refused(told.code)
    if (told.status >= 500) logger.error(told.code, { reqId: id, err: error })
    if (response.headersSent) return void response.destroy()
    if (told.status === 503 || told.status === 429) response.setHeader('retry-after', '1')
    if (told.status === 401) response.setHeader('www-authenticate', 'Bearer')
    if (!request.complete) response.setHeader('connection', 'close') // what is left of the body is not read
    sendJson(response, told.status, told, 'application/problem+json')
  }

  return {
    url,
    get waiting() {
      return ends.size
    },
    reload() {
      if (!tls) return
      try {
        const pair = readPair(tls)
        for (const listener of listeners as TlsServer[]) listener.setSecureContext(pair)
        logger.info('certificate read again')
      } catch (error) {
        logger.error('the certificate from before stays', { err: error })
      }
    },
    async close() {
      await drain.close()
      watchdog.stop()
      history.stop()
      await store.close()
      logger.info('stopped')
    },
  }
}
