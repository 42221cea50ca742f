import { type TObject, type TSchema, Type } from 'typebox'
import { operations } from '../operations.ts'
import type { Http } from '../row.ts'
import { schemas as of } from '../schemas.ts'
import { type Call, calls } from './calls.ts'

// The HTTP API with its schemas: the server checks by it, and makes the OpenAPI document of it.

export type { Answer, Call } from './calls.ts'
export const { Problem } = of

export interface Endpoint {
  method: string
  url: string
  /** What a token must allow; 'any' takes each. */
  scope: Http['scope']
  summary: string
  params?: TObject
  query?: TObject
  body?: TSchema
  response: TSchema
  status?: number
  /** Takes bodies of up to 65 MiB, not of 1 MiB and a bit. */
  large?: boolean
}

const { token, closed } = of
const fieldsOf = Object.entries(operations).flatMap(([event, row]) =>
  'fields' in row ? [[event, row.fields(of) as Record<string, TSchema>] as const] : [],
)
const reports = Type.Union(fieldsOf.map(([event, fields]) => closed({ id: of.id, token, event: of.texts([event]), ...fields }))) // biome-ignore format: long
const bodies = new Map<string, TSchema>([
  ...fieldsOf.map(([event, fields]) => [event, closed({ token, ...fields })] as const),
  ['report', closed({ reports: of.list(reports, { maxItems: 10_000 }) })],
])

function endpointOf(call: string, { at, query, body, response, ...said }: Http): Endpoint {
  const [method, url] = at.split(' ') as [string, string]
  const params = !url.includes('/:') ? undefined : url.includes(':name') ? of.ofName : url.startsWith('/v1/jobs') ? of.ofJob : of.ofWorker // biome-ignore format: long
  const asked = bodies.get(call) ?? body?.(of)
  return {
    ...{ method, url, scope: said.scope, summary: said.summary, response: response(of) },
    ...(params && { params }),
    ...(query && { query: query(of) }),
    ...(asked && { body: asked }),
    ...(said.status && { status: said.status }),
    ...(said.large && { large: true }),
  }
}

export const api = Object.fromEntries(
  Object.entries(calls).map(([call, said]) => [call, endpointOf(call, said)]),
) as Record<Call, Endpoint>
