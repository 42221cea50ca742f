import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import { GopherQueueError, invalid } from '../model/errors.ts'
import { shown } from '../model/text.ts'
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
  { tokens, host, publicUrl }: { tokens: Tokens; host: string; publicUrl: URL | null },
): Promise<string> {
  checkBrowser(request, isLoopback(host), publicUrl)
  if (scope === 'none') return ''
  return tokens.check(
    request.headers.authorization,
    scope === 'any' ? scopes : [scope].flat(),
    request.socket.remoteAddress,
  )
}

/** A page of another origin must not use the reader's place in the network; a name that leads here does not make it ours. */
function checkBrowser(
  { headers: { host = '', origin }, method }: IncomingMessage,
  onLoopback: boolean,
  publicUrl: URL | null,
): void {
  const [, named] = /^(\[[\d:a-f]+\]|[^:]*)(?::\d{1,5})?$/i.exec(host) ?? []
  const name = named?.toLowerCase().replace(/\.$/, '') // with the dot it is the same name in the DNS
  const isOurs = name !== undefined && (name === publicUrl?.hostname || isLoopback(name.replace(/^\[(.*)\]$/, '$1')))
  if (onLoopback && !isOurs)
    throw refusal(
      `The header Host must be ${publicUrl ? `${publicUrl.hostname}, ` : ''}localhost, 127.0.0.1 or [::1]: this server is for its own machine${publicUrl ? ' and for its --public-url' : '; behind a proxy it takes --public-url'}.`,
    )
  if (origin === undefined || method === 'GET' || method === 'HEAD') return
  const from = URL.canParse(origin) ? new URL(origin) : null
  if (from === null || (from.host !== host.toLowerCase() && from.origin !== publicUrl?.origin))
    throw refusal('The request comes from a page of another origin.')
}

/**
 * Where a proxy makes the server known. Throws INVALID_ARGUMENT, also for what a parser of URLs mends or takes for empty: an
 * address that nobody types is a mistake, and the one that was meant would be refused. Hosts are in ASCII, as in headers.
 */
export function publicUrlOf(text: string): URL {
  const isPlain = /^https?:\/\/[^/?#@\s\\]+(\/[^?#\s\\]*)?$/i.test(text)
  const url = isPlain && URL.canParse(text) ? new URL(text) : null
  if (!url || !/^(\[[\d:a-f]+\]|[\w-]+(\.[\w-]+)*)$/.test(url.hostname))
    throw invalid(
      `The public URL is where browsers and clients reach this server, such as https://example.org/jobs: one host, without a user, a query, # or a dot at its end; got ${shown(text)}.`,
    )
  return url
}

/** The path as the server has it, of one that came with the public URL's own in front; null for any other. */
export function withoutPrefix(publicUrl: URL | null, path: string): string | null {
  const prefix = publicUrl?.pathname.replace(/\/+$/, '') ?? ''
  return prefix !== '' && path.startsWith(`${prefix}/`) ? path.slice(prefix.length) : null
}

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
