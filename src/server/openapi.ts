import type { TSchema } from 'typebox'
import { limits } from '../model/job.ts'
import { api, type Endpoint, Problem } from '../store/http/api.ts'

type Json = Record<string, unknown>

/** The API as an OpenAPI 3.1 document. Schemas that have a title stand once, among its components. */
export function openapi(version: string, publicUrl: URL | null = null): Json {
  const schemas: Json = {}
  const paths: Record<string, Json> = {}
  const short = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(short)
    if (typeof value !== 'object' || value === null) return value
    const { title, ...schema } = value as { title?: unknown }
    const own = Object.fromEntries(Object.entries(schema).map(([key, one]) => [key, short(one)]))
    if (typeof title !== 'string') return title === undefined ? own : { title: short(title), ...own }
    schemas[title] = own
    return { $ref: `#/components/schemas/${title}` }
  }
  const content = (schema: TSchema, type = 'application/json') => ({ [type]: { schema: short(schema) } })
  const parameters = (
    place: 'path' | 'query',
    { properties = {}, required = [] }: { properties?: object; required?: string[] },
  ) =>
    Object.entries(properties).map(([name, schema]) => ({
      ...{ name, in: place, required: required.includes(name), schema: short(schema) },
    }))
  for (const [operationId, endpoint] of Object.entries(api) as [string, Endpoint][]) {
    const { method, url, summary, scope, params, query, body, response, status = 200, large } = endpoint
    const keyed = operationId.startsWith('submit') || operationId === 'register'
    const bulk = { 'application/x-ndjson': { schema: { type: 'string', description: 'One job a line' } } }
    const path = url.replace(/:(\w+)/g, '{$1}')
    paths[path] ??= {}
    paths[path][method.toLowerCase()] = {
      ...{ operationId, summary, tags: [url.split('/')[2]], security: [{}, { token: [scope] }] },
      description: `Asks for a token of scope \`${scope}\`, where there are tokens.`,
      parameters: [
        ...parameters('path', params ?? {}),
        ...parameters('query', query ?? {}),
        ...(keyed ? [{ $ref: '#/components/parameters/IdempotencyKey' }] : []),
      ],
      ...(body && { requestBody: { required: true, content: { ...content(body), ...(large && keyed && bulk) } } }),
      responses: { [status]: { description: 'Done, and on disk', content: content(response) }, ...failures },
    }
  }
  paths['/v1/events'] = { get: events }
  const problem = (description: string) => ({
    description,
    headers: { 'Retry-After': { description: 'Seconds', schema: { type: 'integer' } } },
    content: content(Problem, 'application/problem+json'),
  })
  return {
    openapi: '3.1.0',
    info: {
      ...{ title: 'GopherQueue', description: 'Background jobs that are never lost', version },
      license: { name: 'MIT', identifier: 'MIT' },
    },
    servers: [{ url: publicUrl?.href.replace(/\/$/, '') ?? '/' }],
    paths,
    components: {
      schemas,
      parameters: { IdempotencyKey },
      responses: {
        Refused: problem(
          'Refused: `code` says why, and sending it again as it is will not help unless the code is QUEUE_FULL',
        ),
        Failed: problem('Not now: `accepted` says whether it took effect'),
      },
      securitySchemes: { token: { type: 'http', scheme: 'bearer' } },
    },
  }
}

const IdempotencyKey = {
  ...{ name: 'Idempotency-Key', in: 'header', schema: { type: 'string', minLength: 1, maxLength: limits.keyLength } },
  description:
    'Of a job: its idempotencyKey. Of a bulk or registration: names the request, which may then be sent again',
}

const failures = { '4XX': { $ref: '#/components/responses/Refused' }, '5XX': { $ref: '#/components/responses/Failed' } }

const events = {
  ...{ operationId: 'events', summary: 'What happens, as it happens', tags: ['events'] },
  security: [{}, { token: ['read'] }, { token: ['work'] }],
  description:
    'Server-sent events: `id`, `event` (submitted, started, succeeded, retrying, dead, cancelled, released, reclaimed, expired, health and more) and `data`, a JSON object. An event `missed` says that some before are gone.',
  parameters: [
    { name: 'events', in: 'query', description: 'Only these, with commas between', schema: { type: 'string' } },
    { name: 'Last-Event-ID', in: 'header', description: 'Goes on after this one', schema: { type: 'string' } },
  ],
  responses: {
    200: { description: 'Never ends', content: { 'text/event-stream': { schema: { type: 'string' } } } },
    ...failures,
  },
}
