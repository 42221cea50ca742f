import { createServer, type Server as HttpServer, type RequestListener } from 'node:http'
import { createServer as createTlsServer, type Server as TlsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest, LogController } from 'fastify'
import { type Static, type TSchema, Type } from 'typebox'
import { Compile } from 'typebox/compile'
import { Value } from 'typebox/value'
import { type Clock, systemClock } from '../model/clock.ts'
import { GopherQueueError, invalid } from '../model/errors.ts'
import { limits } from '../model/job.ts'
import { escaped } from '../model/text.ts'
import { api, type Call, type Endpoint, Problem } from '../store/http/api.ts'
import type { Store } from '../store/store.ts'
import { Tokens } from './auth.ts'
import { Drain } from './drain.ts'
import { events } from './events.ts'
import { guard, isLoopback, refuseConnection, securityHeaders } from './guard.ts'
import { type Handlers, type Incoming, makeHandlers } from './handlers.ts'
import { History } from './history.ts'
import { Hub } from './hub.ts'
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
  const hub = new Hub(clock.now())
  const ends = new Set<() => void>()
  const listeners: (HttpServer | TlsServer)[] = [] // for 'localhost' there are two
  const drain = new Drain(ends, clock)
  const app = Fastify({
    logger: logLevel === 'silent' ? false : { level: logLevel, stream: { write: (line) => log(oneLine(line)) } },
    logController: new LogController({ disableRequestLogging: logLevel !== 'debug' && logLevel !== 'trace' }),
    // As on a file: a payload may have any keys, and nothing here copies them into an object that has a prototype.
    onProtoPoisoning: 'ignore',
    onConstructorPoisoning: 'ignore',
    bodyLimit: bodyBytes,
    routerOptions: { maxParamLength: limits.nameLength * 9 }, // a character of a name may be nine in a URL
    return503OnClosing: false,
    forceCloseConnections: true,
    serverFactory: listenerOf,
    clientErrorHandler: refuseConnection,
    frameworkErrors: (error, request, reply) => answerProblem(error, request, reply.headers(securityHeaders)),
  })
  app.setValidatorCompiler<TSchema>(({ schema, httpPart }) => {
    const compiled = Compile(schema)
    return (value: unknown) => {
      const given = httpPart === 'body' ? value : Value.Convert(schema, value)
      if (compiled.Check(given)) return { value: given }
      const [first] = compiled.Errors(given)
      return { error: new Error(`${httpPart}${first?.instancePath ?? ''} ${first?.message ?? 'is not as described'}`) }
    }
  })
  guard(app, tokens, host)
  drain.guard(app)
  app.setErrorHandler((error, request, reply) => answerProblem(error, request, reply))
  app.setNotFoundHandler((request, reply) =>
    answerProblem(
      new GopherQueueError('NOT_FOUND', `There is no ${request.method} ${request.url.slice(0, 200)}.`),
      request,
      reply,
    ),
  )
  app.addContentTypeParser('application/x-ndjson', (_request: unknown, body: Readable) => lines(body))
  const watchdog = new Watchdog(store, clock, patience, (readiness) => app.log.warn(readiness, 'readiness changed'))
  const metrics = new Metrics(store, clock, hub, watchdog, version)
  const history = new History(store, clock, hub)
  const handlers = makeHandlers(store, clock, hub, history)
  for (const call of Object.keys(api) as Call[]) route(app, call, handlers[call] as Handlers['submit'])
  const heard = { config: { scope: ['read', 'work'] as const } }
  app.get('/v1/events', heard, events(hub, ends, mustHaveRoom))
  app.get('/openapi.json', { config: { scope: 'any' } }, async () => openapi(version))
  app.get('/metrics', async (_request, reply) => {
    reply.type('text/plain; version=0.0.4; charset=utf-8')
    return metrics.text()
  })
  const open = { schema: { querystring: ReadyQuery }, config: { scope: 'none' } } as const
  app.get('/healthz', open, async () => ({ lives: true }))
  app.get('/readyz', open, async ({ query }, reply) => {
    const { for: only } = query as Static<typeof ReadyQuery>
    const { readiness } = watchdog
    const ready = Object.entries(readiness).every(([name, { works }]) => works || (only ?? name) !== name)
    return reply.code(ready ? 200 : 503).send({ ready, ...readiness })
  })
  serveStatic(app, 'docs', '/docs/', "default-src 'none'; style-src 'self'; img-src 'self'")
  const pages = options.dashboard === undefined ? undefined : built('dashboard', options.dashboard)
  serveStatic(app, 'dashboard', '/', "default-src 'self'", pages)
  app.log.level = 'silent' // it would say this once for each of the machine's addresses
  await app.listen({ host, port })
  app.log.level = logLevel
  watchdog.start()
  const { address, family, port: bound } = app.server.address() as AddressInfo
  const name = family === 'IPv6' ? `[${address}]` : address
  const url = `${tls ? 'https' : 'http'}://${name}:${bound}`
  app.log.info({ url, version, tokens: !tokens.none }, 'started')
  if (!isLoopback(host) && !tls)
    app.log.warn('Plain HTTP: who is on the way can read tokens and payloads. See --tls-cert and --tls-key.')
  store.onEvent((told) => {
    if (told.event === 'health') app.log[told.health.status === 'ok' ? 'info' : 'warn'](told.health, 'health')
  })

  function listenerOf(handle: RequestListener): HttpServer {
    const options = {
      ...{ maxHeaderSize: 16 * 1024, headersTimeout: 10_000, connectionsCheckingInterval: 2000 },
      ...{ requestTimeout: 30_000, keepAliveTimeout: 65_000, handshakeTimeout: 10_000 },
      requireHostHeader: false, // the guard says more
    }
    const listener = tls ? createTlsServer({ ...options, ...readPair(tls) }, handle) : createServer(options, handle)
    listener.maxConnections = mostConnections
    listeners.push(listener)
    drain.watch(listener)
    return listener
  }

  function mustHaveRoom(): void {
    if (ends.size >= mostWaiting)
      throw new GopherQueueError(
        'OVERLOADED',
        `${ends.size} requests wait at this server, as many as it takes. Nothing was accepted: try again later.`,
      )
  }

  function route(server: FastifyInstance, call: Call, handle: Handlers['submit']): void {
    const { method, url, scope, params, query, body, response, status = 200, large }: Endpoint = api[call]
    server.route({
      method,
      url,
      config: { scope },
      bodyLimit: large ? limits.bulkBytes + bodyBytes : bodyBytes,
      schema: {
        ...(params && { params }),
        ...(query && { querystring: query }),
        ...(body && { body }),
        response: { [status]: response, default: Problem },
      },
      async handler(request, reply) {
        const answer = await handle(incoming(request, reply) as Incoming<'submit'>)
        if (scope === 'admin' && method !== 'GET')
          request.log.info({ who: request.who, action: call, target: Object.values(request.params as object)[0] }, 'audit') // biome-ignore format: long
        return reply
          .code(status)
          .type('application/json')
          .send(answer ?? 'null')
      },
    })
  }

  function incoming(request: FastifyRequest, reply: FastifyReply): Incoming<Call> {
    const key = request.headers['idempotency-key']
    if (key !== undefined && (typeof key !== 'string' || key.length < 1 || key.length > limits.keyLength))
      throw invalid(`The header Idempotency-Key must have 1 to ${limits.keyLength} characters.`)
    return {
      params: request.params as never,
      query: request.query as never,
      body: request.body as never,
      key: key ?? null,
      host: request.ip,
      requestId: request.id,
      who: request.who,
      until(ms, end) {
        if (ms > 0) mustHaveRoom()
        const stopTimer = clock.timer(ms, end)
        const gone = () => reply.raw.writableFinished || end()
        reply.raw.once('close', gone)
        ends.add(end)
        return () => {
          stopTimer()
          reply.raw.off('close', gone)
          ends.delete(end)
          return !reply.raw.destroyed
        }
      },
    }
  }

  function answerProblem(error: unknown, request: FastifyRequest, reply: FastifyReply): void {
    const told = problem(error, request.id)
    metrics.refused(told.code)
    if (told.status >= 500) request.log.error({ err: error }, told.code)
    if (told.status === 503 || told.status === 429) reply.header('retry-after', '1')
    if (told.status === 401) reply.header('www-authenticate', 'Bearer')
    reply.code(told.status).type('application/problem+json').send(JSON.stringify(told))
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
        app.log.info('certificate read again')
      } catch (error) {
        app.log.error({ err: error }, 'the certificate from before stays')
      }
    },
    async close() {
      await app.close()
      watchdog.stop()
      history.stop()
      await store.close()
      app.log.info('stopped')
    },
  }
}

const oneLine = (line: string): string => `${escaped(line.trimEnd())}\n`

/** Jobs, one a line, as the body of a bulk. */
async function lines(body: Readable): Promise<unknown> {
  const jobs: unknown[] = []
  let bytes = 0
  for await (const line of createInterface({ input: body, crlfDelay: Number.POSITIVE_INFINITY })) {
    bytes += line.length
    if (bytes > limits.bulkBytes || jobs.length >= limits.bulkJobs)
      throw new GopherQueueError('PAYLOAD_TOO_LARGE', `A bulk takes at most ${limits.bulkJobs} jobs and ${limits.bulkBytes} bytes. Nothing was stored: divide it.`) // biome-ignore format: long
    if (line.trim() !== '') jobs.push(parsed(line, jobs.length + 1))
  }
  return { jobs }
}

function parsed(line: string, number: number): unknown {
  try {
    return JSON.parse(line)
  } catch (error) {
    throw invalid(`Line ${number} is not JSON: ${(error as Error).message}.`)
  }
}
