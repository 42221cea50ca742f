import type { IncomingMessage, ServerResponse } from 'node:http'
import { type ParsedUrlQuery, parse as parseQuery } from 'node:querystring'
import type { TSchema } from 'typebox'
import { Compile } from 'typebox/compile'
import { Value } from 'typebox/value'
import { invalid } from '../model/errors.ts'
import { limits } from '../model/job.ts'
import type { Scope } from '../model/token.ts'
import { Refusal } from './problem.ts'

// HTTP as far as the server needs it: a tree of routes, bodies with limits, and checks by schema.

/** A request, and what answers it. */
export interface Exchange {
  request: IncomingMessage
  response: ServerResponse
  /** Names it in the log and in problem documents. */
  id: string
  /** 'token:NAME', or 'loopback' while there are no tokens. */
  who: string
  params: unknown
  query: unknown
  body: unknown
}

export interface Route {
  method: string
  /** Such as '/v1/jobs/:id'. */
  path: string
  /** What a token must allow: one of these. 'any' takes any token, 'none' asks for none. */
  scope: Scope | readonly Scope[] | 'any' | 'none'
  params?: TSchema | undefined
  query?: TSchema | undefined
  body?: TSchema | undefined
  /** Most bytes of a body. */
  mostBytes?: number
  handle(exchange: Exchange): Promise<void> | void
}

interface Place {
  children: Map<string, Place>
  /** What stands here for a parameter. */
  any?: { name: string; place: Place }
  routes: Map<string, Checked>
}
type Check = (value: unknown) => unknown
interface Checked {
  route: Route
  params: Check
  query: Check
  body: Check | null
}
export interface Found extends Checked {
  values: Record<string, string>
}

/** Most characters of a parameter: each of a name may be nine in a URL. */
const longest = limits.nameLength * 9

const newPlace = (): Place => ({ children: new Map(), routes: new Map() })

/** All routes, by the segments of their paths. */
export class Routes {
  readonly #root = newPlace()

  add(route: Route): void {
    let place = this.#root
    for (const segment of segmentsOf(route.path)) {
      if (segment.startsWith(':')) {
        place.any ??= { name: segment.slice(1), place: newPlace() }
        place = place.any.place
      } else {
        const next = place.children.get(segment) ?? newPlace()
        place.children.set(segment, next)
        place = next
      }
    }
    const { params, query, body } = route
    place.routes.set(route.method, {
      route,
      params: checking('params', params, true),
      query: checking('querystring', query, true),
      body: body ? checking('body', body, false) : null,
    })
  }

  /** Null where there is none. Throws INVALID_ARGUMENT for a path that is not encoded as it should be. */
  find(method: string, path: string): Found | null {
    const values: Record<string, string> = {}
    let place: Place | undefined = this.#root
    for (const segment of segmentsOf(path)) {
      const child: Place | undefined = place.children.get(segment)
      if (!child && place.any && segment !== '') {
        if (segment.length > longest) throw invalid(`A part of the path is longer than ${longest} characters.`)
        values[place.any.name] = decoded(segment, path)
      }
      place = child ?? (segment === '' ? undefined : place.any?.place)
      if (!place) return null
    }
    const found = place.routes.get(method) ?? (method === 'HEAD' ? place.routes.get('GET') : undefined)
    return found ? { ...found, values } : null
  }
}

const segmentsOf = (path: string): string[] => path.slice(1).split('/')

function decoded(segment: string, path: string): string {
  try {
    return decodeURIComponent(segment)
  } catch {
    throw invalid(`'${path.slice(0, 200)}' is not a valid url component.`)
  }
}

/** Path and query of a request's URL. What Node would read as Latin-1, or as U+FFFD, is refused: it would be another name. */
export function splitUrl(url: string): { path: string; query: ParsedUrlQuery } {
  if (/[^!-~]/.test(url)) throw invalid('A URL is ASCII: write other characters as the %XX of their UTF-8.')
  const at = url.indexOf('?')
  if (at >= 0) decoded(url.slice(at + 1), url)
  return at < 0 ? { path: url, query: {} } : { path: url.slice(0, at), query: parseQuery(url.slice(at + 1)) }
}

/** Throws INVALID_ARGUMENT with the place that is not as the schema says. Texts of a URL become what the schema asks for. */
function checking(part: string, schema: TSchema | undefined, isText: boolean): Check {
  if (!schema) return (value) => value
  const compiled = Compile(schema)
  return (value) => {
    if (isText) mustBeDigits(part, schema as Shape, value as Record<string, unknown>)
    const given = isText ? Value.Convert(schema, value) : value
    if (compiled.Check(given)) return given
    const [first] = compiled.Errors(given)
    throw invalid(`${part}${first?.instancePath ?? ''} ${first ? wrong(first) : 'is not as described'}.`)
  }
}

/** Names the values that are taken, and says of a misspelt member that there is none of its name. */
function wrong({ keyword, params, message }: { keyword: string; params: object; message: string }): string {
  if (keyword === 'boolean') return 'is not known here'
  return 'allowedValues' in params ? `must be one of ${(params.allowedValues as string[]).join(', ')}` : message
}

/** Numbers of a URL are digits, of a number that a double holds: 2^53 + 1 would become the id of another job. */
function mustBeDigits(part: string, { properties = {} }: Shape, values: Record<string, unknown>): void {
  for (const [name, { type }] of Object.entries(properties)) {
    const text = values[name]
    if (type === 'integer' && typeof text === 'string' && !(/^\d+$/.test(text) && Number.isSafeInteger(Number(text))))
      throw invalid(`${part}/${name} must be a whole number of digits, at most 2^53 - 1; got '${text.slice(0, 40)}'.`)
  }
}

/** The JSON of a body, or the jobs of NDJSON as the body of a bulk; undefined for none. */
export async function bodyOf(request: IncomingMessage, most: number): Promise<unknown> {
  const header = (request.headers['content-type'] ?? '').toLowerCase()
  const type = header.split(';')[0]!.trim()
  if (/;\s*charset(?!="?utf-?8"?\s*(;|$))/.test(header))
    throw invalid('A body is UTF-8: the header Content-Type must name no other charset.')
  if (type === 'application/x-ndjson') return { jobs: await linesOf(request, Math.min(most, limits.bulkBytes)) }
  if (type === '' && !hasBody(request)) return undefined
  if (type !== 'application/json') throw invalid('The header Content-Type must be application/json.')
  let text = ''
  await read(request, most, (piece) => {
    text += piece
  })
  if (text === '') throw invalid('The body is empty, but Content-Type is application/json.')
  try {
    return JSON.parse(text)
  } catch {
    throw invalid('The body is not valid JSON, but Content-Type is application/json.')
  }
}

/** Makes text of pieces of bytes, and of no piece their end. Without `fatal`, two idempotency keys could become one. */
function decoding(what: string): (piece?: Buffer) => string {
  const decoder = new TextDecoder('utf-8', { fatal: true })
  return (piece) => {
    try {
      return decoder.decode(piece, { stream: piece !== undefined })
    } catch {
      throw invalid(`The ${what} has bytes that are not UTF-8, so nothing of the request was accepted: send UTF-8.`)
    }
  }
}

/** The header Idempotency-Key, or null. Node reads headers as Latin-1: the key would be another one than in a body. Throws INVALID_ARGUMENT. */
export function keyOf({ headers }: IncomingMessage): string | null {
  const given = headers['idempotency-key']
  if (given === undefined) return null
  const decode = decoding('header Idempotency-Key')
  const key = decode(Buffer.from(String(given), 'latin1')) + decode()
  if (key.length < 1 || key.length > limits.keyLength)
    throw invalid(`The header Idempotency-Key must have 1 to ${limits.keyLength} characters.`)
  return key
}

const hasBody = ({ headers }: IncomingMessage): boolean =>
  headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0

/** Hands over the text of a body as it arrives, and throws PAYLOAD_TOO_LARGE when it is too much: the connection is closed then. */
async function read(request: IncomingMessage, most: number, take: (text: string) => void): Promise<void> {
  const decode = decoding('body')
  let left = most - Number(request.headers['content-length'] ?? 0)
  if (left >= 0) {
    left = most
    // Without the option, an early end would destroy the connection before its answer.
    for await (const piece of request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
      left -= piece.length
      if (left < 0) break
      take(decode(piece))
    }
  }
  if (left < 0)
    throw new Refusal(
      413,
      'PAYLOAD_TOO_LARGE',
      `The body has more than ${most} bytes, the most that is taken here. Nothing was stored.`,
    )
  take(decode())
}

/** Jobs, one a line. */
async function linesOf(request: IncomingMessage, most: number): Promise<unknown[]> {
  const jobs: unknown[] = []
  let rest = ''
  const take = (line: string) => {
    if (line.trim() === '') return
    if (jobs.length >= limits.bulkJobs)
      throw new Refusal(413, 'PAYLOAD_TOO_LARGE', `A bulk takes at most ${limits.bulkJobs} jobs. Nothing was stored: divide it.`) // biome-ignore format: long
    jobs.push(parsed(line, jobs.length + 1))
  }
  await read(request, most, (piece) => {
    // Only what is new is looked through: a long line would be looked through again with each piece.
    const [first = '', ...others] = piece.split('\n')
    rest += first
    for (const line of others) {
      take(rest)
      rest = line
    }
  })
  take(rest)
  return jobs
}

function parsed(line: string, number: number): unknown {
  try {
    return JSON.parse(line)
  } catch (error) {
    throw invalid(`Line ${number} is not JSON: ${(error as Error).message}.`)
  }
}

interface Shape {
  type?: string
  properties?: Record<string, Shape>
  items?: Shape
  anyOf?: Shape[]
}
type Shaped = (value: unknown) => unknown

/** What makes of a value what its schema names, in that order: nothing else of a row goes out. */
export function shaping(schema: TSchema): Shaped {
  const { properties, items, anyOf } = schema as Shape
  if (anyOf) {
    const [only, ...others] = anyOf.filter((one) => one.properties ?? one.items)
    return only && others.length === 0 ? unlessNull(shaping(only as TSchema)) : (value) => value
  }
  if (items) {
    const each = shaping(items as TSchema)
    return (value) => (value as unknown[]).map(each)
  }
  if (!properties) return (value) => value
  const members = Object.entries(properties).map(([key, one]) => [key, shaping(one as TSchema)] as const)
  return (value) => {
    const given = value as Record<string, unknown>
    const shaped: Record<string, unknown> = {}
    for (const [key, shape] of members) if (given[key] !== undefined) shaped[key] = shape(given[key])
    return shaped
  }
}

const unlessNull =
  (shape: Shaped): Shaped =>
  (value) =>
    value === null ? null : shape(value)

/** Answers with a value as JSON. */
export function sendJson(response: ServerResponse, status: number, value: unknown, type = 'application/json'): void {
  send(response, status, `${type}; charset=utf-8`, JSON.stringify(value))
}

/** Answers with a text or bytes of a content type. */
export function send(response: ServerResponse, status: number, type: string, body: string | Buffer): void {
  response.writeHead(status, { 'content-type': type, 'content-length': Buffer.byteLength(body) })
  response.end(body)
}
