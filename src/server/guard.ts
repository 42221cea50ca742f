import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import { GopherQueueError } from '../model/errors.ts'
import { scopes } from '../model/token.ts'
import type { Tokens } from './auth.ts'
import type { Route } from './http.ts'
import { problem, Refusal } from './problem.ts'

/** On every response. A page may load nothing and be shown in no other; one that is to do more widens its own CSP. */
export const securityHeaders = {
  'content-security-policy': "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  'cross-origin-resource-policy': 'same-origin',
  'cache-control': 'no-store',
}

export const isLoopback = (host: string): boolean =>
  host === 'localhost' || host === '::1' || /^127\.\d+\.\d+\.\d+$/.test(host)

/** Who asks, before anything of the request's body is read. Throws FORBIDDEN and UNAUTHORIZED. */
export async function guard(
  request: IncomingMessage,
  scope: Route['scope'],
  { tokens, host }: { tokens: Tokens; host: string },
): Promise<string> {
  checkBrowser(request, isLoopback(host))
  if (scope === 'none') return ''
  return tokens.check(
    request.headers.authorization,
    scope === 'any' ? scopes : [scope].flat(),
    request.socket.remoteAddress,
  )
}

/** A page of another origin must not use the reader's place in the network; a name that leads here does not make it ours. */
function checkBrowser({ headers: { host = '', origin }, method }: IncomingMessage, onLoopback: boolean): void {
  const [, name] = /^(\[[\d:a-f]+\]|[^:]*)(?::\d{1,5})?$/i.exec(host) ?? []
  if (onLoopback && (name === undefined || !isLoopback(name.replace(/^\[(.*)\]$/, '$1').toLowerCase())))
    throw refusal(`The header Host must be localhost, 127.0.0.1 or [::1]: this server is for its own machine.`)
  if (origin !== undefined && method !== 'GET' && method !== 'HEAD' && hostOf(origin) !== host.toLowerCase())
    throw refusal('The request comes from a page of another origin.')
}

const hostOf = (origin: string): string | null => (URL.canParse(origin) ? new URL(origin).host : null)

const refusal = (message: string) => new GopherQueueError('FORBIDDEN', `${message} Nothing was accepted.`)

/** What cannot be parsed as HTTP, or takes too long: none of it is repeated, neither to the client nor in the log. */
export function refuseConnection(error: NodeJS.ErrnoException, socket: Socket): void {
  // Where a connection broke within a request, nobody may be told that the request was wrong.
  if (error.code === 'ECONNRESET' || error.code === 'HPE_INVALID_EOF_STATE' || !socket.writable)
    return void socket.destroy()
  const [status, text, message]: [number, string, string] =
    error.code === 'ERR_HTTP_REQUEST_TIMEOUT'
      ? [408, 'Request Timeout', 'The request took too long to arrive.']
      : error.code === 'HPE_HEADER_OVERFLOW'
        ? [431, 'Request Header Fields Too Large', 'The headers are too large.']
        : [400, 'Bad Request', 'This is not HTTP.']
  const body = JSON.stringify(problem(new Refusal(status, 'INVALID_ARGUMENT', `${message} Nothing was stored.`), ''))
  const headers = { ...securityHeaders, 'content-type': 'application/problem+json', connection: 'close' }
  const lines = Object.entries(headers).map(([key, value]) => `${key}: ${value}\r\n`)
  socket.end(`HTTP/1.1 ${status} ${text}\r\n${lines.join('')}content-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`)
}
