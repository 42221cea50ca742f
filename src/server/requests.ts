import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Clock } from '../model/clock.ts'
import { GopherQueueError, isQueueError } from '../model/errors.ts'
import { limits } from '../model/job.ts'
import { api, type Call, type Endpoint } from '../store/http/api.ts'
import type { Tokens } from './auth.ts'
import type { Bodies } from './bodies.ts'
import { bodyOf, jobBytes, keyOf } from './body.ts'
import { whenClosed } from './closed.ts'
import type { Drain } from './drain.ts'
import { guard, securityHeaders, withoutPrefix } from './guard.ts'
import type { Handlers, Incoming } from './handlers.ts'
import { type Exchange, type Routes, send, sendJson, shaping, splitUrl } from './http.ts'
import type { Log } from './log.ts'
import type { Metrics } from './metrics.ts'
import { passes, problem, Refusal } from './problem.ts'
import type { Readers } from './readers.ts'
import { textOf } from './text.ts'

/** What a server answers requests with. */
export interface Parts {
  host: string
  /** Where a proxy makes it known, if one does. */
  publicUrl: URL | null
  tokens: Tokens
  routes: Routes
  drain: Drain
  bodies: Bodies
  readers: Readers
  metrics: Metrics
  logger: Log
  clock: Clock
}

let requests = 0

/** The whole way of a request. */
export async function answer(parts: Parts, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const { method = '', url = '' } = request
  const turn = parts.readers.turn(request, response)
  if (turn) await turn
  if (request.socket.destroyed) return // nobody would hear what became of it
  const id = `req-${(++requests).toString(36)}`
  for (const [header, value] of Object.entries(securityHeaders)) response.setHeader(header, value)
  const exchange: Exchange = { request, response, id, who: '', params: {}, query: {}, body: undefined }
  if (parts.logger.tells('debug')) logRequest(parts, exchange)
  try {
    parts.drain.mustBeOpen()
    const { path, query } = splitUrl(url)
    const own = withoutPrefix(parts.publicUrl, path) // of a proxy that leaves it on
    const found = parts.routes.find(method, path) ?? (own === null ? null : parts.routes.find(method, own))
    exchange.who = await guard(request, found && 'route' in found ? found.route.scope : 'any', parts)
    mustBeExpected(request)
    if (found && 'allowed' in found) {
      const allowed = found.allowed.join(', ')
      response.setHeader('allow', allowed)
      throw new Refusal(
        405,
        'INVALID_ARGUMENT',
        `${path.slice(0, 200)} takes ${allowed}, not ${method}. Nothing was changed.`,
      )
    }
    if (!found) throw new GopherQueueError('NOT_FOUND', `There is no ${method} ${url.slice(0, 200)}.`)
    exchange.params = found.params(found.values)
    exchange.query = found.query(query)
    if (found.body) {
      const counted = { bodies: parts.bodies, body: parts.bodies.of(response) }
      exchange.held = counted.body
      exchange.body = found.body(await bodyOf(request, found.route.mostBytes ?? jobBytes, counted))
    }
    await found.route.handle(exchange)
  } catch (error) {
    answerProblem(parts, error, exchange)
  }
}

/** What a client asks of a server before it sends its body: there is one thing that servers do. */
function mustBeExpected({ headers: { expect } }: IncomingMessage): void {
  if (expect !== undefined && !/^100-continue$/i.test(expect))
    throw new Refusal(417, 'INVALID_ARGUMENT', `The header Expect may be 100-continue alone. Nothing was changed.`)
}

function logRequest({ logger, clock }: Parts, { id: reqId, request, response }: Exchange): void {
  const { method, url, socket } = request
  const begun = clock.monotonic()
  logger.debug('incoming request', { reqId, req: { method, url, remoteAddress: socket.remoteAddress } })
  whenClosed(response, () => {
    const responseTime = clock.monotonic() - begun
    logger.debug('request completed', { reqId, res: { statusCode: response.statusCode }, responseTime })
  })
}

/** Reads whose answers may be megabytes, unless they ask for a few things. */
const lists: ReadonlySet<Call> = new Set([
  'jobs',
  'schedules',
  'attempts',
  'audit',
  'hours',
  'types',
  'queues',
  'queueNames',
])
const few = 20

/** A route for each call of the API. */
export function addCalls(parts: Parts, handlers: Handlers): void {
  for (const call of Object.keys(api) as Call[]) {
    const { method, url: path, scope, params, query, body, response, status = 200, large }: Endpoint = api[call]
    const handler = handlers[call] as Handlers['submit']
    const shape = shaping(response)
    const mostBytes = large ? limits.bulkBytes + jobBytes : jobBytes
    const isRead = method === 'GET' && scope === 'read' && call !== 'wait'
    const handle = async (exchange: Exchange) => {
      const ask = async () => (await handler(incoming(parts, exchange, scope) as Incoming<'submit'>)) ?? null
      const { limit = Number.POSITIVE_INFINITY } = exchange.query as { limit?: number }
      const size = lists.has(call) && limit > few ? 'many' : 'few'
      const answer = await (isRead ? parts.readers.read(size, ask) : ask())
      if (scope === 'admin' && method !== 'GET') logDeed(parts, call, exchange, answer)
      const text = textOf(answer === null ? null : shape(answer))
      send(exchange.response, status, 'application/json; charset=utf-8', text, parts.readers)
    }
    parts.routes.add({ method, path, scope, params, query, body, mostBytes, handle })
  }
}

/** Of an event for many jobs, what each step changed: most steps of a narrow filter change none, and would drown the rest. */
function logDeed({ logger }: Parts, action: Call, { id: reqId, who, params, body }: Exchange, answer: unknown): void {
  const done = action === 'many' ? { ...(body as object), changed: (answer as { changed: number }).changed } : null
  if (done?.changed === 0) return
  logger.info('audit', { reqId, who, action, target: Object.values(params as object)[0], ...done })
}

function incoming(parts: Parts, exchange: Exchange, scope: Endpoint['scope']): Incoming<Call> {
  const { drain, bodies, clock } = parts
  const { request, response, id, who, params, query, body, held } = exchange
  return {
    ...{ params: params as never, query: query as never, body: body as never },
    ...{ key: keyOf(request), requestId: id, who },
    host: request.socket.remoteAddress ?? '',
    until(ms, end) {
      if (ms > 0) drain.mustHaveRoom()
      if (held) bodies.leave(held)
      let over = false
      let stopLook = (): void => undefined
      // A token that is revoked or expires meanwhile gets nothing more: its next request is refused, and says why.
      const look = () => {
        if (!over) stopLook = clock.timer(1000, () => guard(request, scope, parts).then(look, () => response.destroy()))
      }
      if (ms > 1000) look()
      drain.ends.add(end)
      const stops = [clock.timer(ms, end), whenClosed(response, end), () => drain.ends.delete(end)]
      return () => {
        over = true
        stopLook()
        for (const stop of stops) stop()
      }
    },
  }
}

function answerProblem({ logger, metrics }: Parts, error: unknown, { id, request, response }: Exchange): void {
  // Its client hung up in the middle of its body: nobody is refused, and it is no trouble of the server's.
  if (request.destroyed && (error as { code?: string }).code === 'ECONNRESET')
    return void logger.debug('client hung up', { reqId: id })
  const told = problem(error, id)
  metrics.refused(told.code)
  if (told.status >= 500) logger.repeated('error', told.code, isQueueError(error) ? '' : String(error).slice(0, 200), { reqId: id, err: error }) // biome-ignore format: one line
  if (response.headersSent) return void response.destroy()
  if (passes.has(told.code)) response.setHeader('retry-after', '1')
  if (told.status === 401) response.setHeader('www-authenticate', 'Bearer')
  if (!request.complete) response.setHeader('connection', 'close') // what is left of the body is not read
  sendJson(response, told.status, told, 'application/problem+json')
}
