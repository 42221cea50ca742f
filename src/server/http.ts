import type { IncomingMessage, ServerResponse } from 'node:http'
import { type ParsedUrlQuery, parse as parseQuery } from 'node:querystring'
import { type TSchema, Type } from 'typebox'
import { Compile } from 'typebox/compile'
import { Value } from 'typebox/value'
import { invalid } from '../model/errors.ts'
import { limits } from '../model/job.ts'
import type { Scope } from '../model/token.ts'
import type { Body } from './bodies.ts'
import { Refusal } from './problem.ts'
import type { Readers } from './readers.ts'

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
  /** What is counted of the body, where there is one. */
  held?: Body
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

const nothing = Type.Object({}, { additionalProperties: false })

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
      query: checking('querystring', query ?? (route.path.startsWith('/v1/') ? nothing : undefined), true),
      body: body ? checking('body', body, false) : null,
    })
  }

  /** Null where there is none, and the methods that are taken where it is another. Throws INVALID_ARGUMENT for a path that is not encoded as it should be. */
  find(method: string, path: string): Found | { allowed: string[] } | null {
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
    if (found) return { ...found, values }
    const allowed = [...place.routes.keys()].flatMap((known) => (known === 'GET' ? ['GET', 'HEAD'] : known))
    return allowed.length > 0 ? { allowed } : null
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
    else mustBeFew(part, schema as Shape, value)
    const given = isText ? Value.Convert(schema, value) : value
    if (compiled.Check(given)) return given
    const { at, few } = narrowed(given, (some) => compiled.Check(some))
    const [first] = compiled.Errors(few)
    const path = (first?.instancePath ?? '').replace(/^(\/\w+\/)0(?=\/|$)/, (_, list) => `${list}${at}`)
    throw invalid(`${part}${path} ${first ? wrong(first) : 'is not as described'}.`)
  }
}

/** Most members of an object that a schema describes: more than any names. */
const mostMembers = 64

/** Counts are looked at before a schema is: that takes minutes for a million items, and stops the event loop. */
function mustBeFew(
  path: string,
  { properties, patternProperties, items, anyOf, pattern, maxItems = limits.bulkJobs }: Shape,
  value: unknown,
): void {
  if (pattern !== undefined && typeof value === 'string' && !value.isWellFormed())
    throw invalid(`${path} has half of a surrogate pair, which UTF-8 does not have: another name would be stored.`)
  if (typeof value !== 'object' || value === null) return
  if (Array.isArray(value)) {
    if (!items) return
    if (value.length > maxItems) throw tooMany(path, `${maxItems} items`)
    for (const item of value) mustBeFew(path, items, item)
    return
  }
  if (!properties && !patternProperties && !anyOf) return
  let members = 0
  for (const _ in value) if (++members > mostMembers) throw tooMany(path, `${mostMembers} members`)
  for (const name in properties)
    mustBeFew(`${path}/${name}`, properties[name]!, (value as Record<string, unknown>)[name])
  for (const one of anyOf ?? []) mustBeFew(path, one, value)
}

const tooMany = (path: string, most: string) =>
  new Refusal(413, 'PAYLOAD_TOO_LARGE', `${path} has more than ${most}, the most that is taken there. Nothing was stored.`) // biome-ignore format: long

/** Of a value that is wrong, one with at most one item in each list that is wrong too: to name what is wrong takes long for many. */
function narrowed(given: unknown, isRight: (value: unknown) => boolean): { at: number; few: unknown } {
  let at = 0
  let few = given
  for (const [name, list] of Object.entries(given ?? {})) {
    if (!Array.isArray(list)) continue
    let [from, to] = [0, list.length]
    const some = (end: number) => ({ ...(few as object), [name]: list.slice(from, end) })
    while (to - from > 1) {
      const middle = Math.floor((from + to) / 2)
      if (isRight(some(middle))) from = middle
      else to = middle
    }
    few = some(to)
    at = from
  }
  return { at, few }
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

interface Shape {
  type?: string
  properties?: Record<string, Shape>
  patternProperties?: Record<string, Shape>
  items?: Shape
  maxItems?: number
  pattern?: string
  anyOf?: Shape[]
  additionalProperties?: unknown
}
type Shaped = (value: unknown) => unknown

/**
 * What makes of a value what its schema names, in that order, and what more the schema says that there may be: nothing else of a
 * row goes out. A value of another kind than a schema describes, such as null, stays as it is.
 */
export function shaping(schema: TSchema): Shaped {
  const { properties, items, anyOf, additionalProperties = false } = schema as Shape
  if (anyOf) {
    const [only, ...others] = anyOf.filter(({ type }) => !isPlain.test(type ?? ''))
    return only && others.length === 0 ? shaping(only as TSchema) : (value) => value
  }
  if (items) {
    const each = shaping(items as TSchema)
    return (value) => (Array.isArray(value) ? value.map(each) : value)
  }
  if (!properties) return (value) => value
  const members = Object.entries(properties).map(([key, one]) => [key, shaping(one as TSchema)] as const)
  return (value) => {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return value
    const given = value as Record<string, unknown>
    const shaped: Record<string, unknown> = additionalProperties === false ? {} : { ...given }
    for (const [key, shape] of members) if (given[key] !== undefined) shaped[key] = shape(given[key])
    return shaped
  }
}

const isPlain = /^(string|number|integer|boolean|null)$/

/** Answers with a small value as JSON. */
export function sendJson(response: ServerResponse, status: number, value: unknown, type = 'application/json'): void {
  send(response, status, `${type}; charset=utf-8`, JSON.stringify(value))
}

/** Answers with a text or bytes of a content type. With `readers` for what may be large, and was made for this answer. */
export function send(
  response: ServerResponse,
  status: number,
  type: string,
  body: string | Buffer,
  readers?: Readers,
): void {
  response.writeHead(status, { 'content-type': type, 'content-length': Buffer.byteLength(body) })
  if (readers) readers.send(response, body)
  else response.end(body)
}
