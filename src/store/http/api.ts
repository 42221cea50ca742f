import { type TObject, type TSchema, Type } from 'typebox'
import { operations } from '../operations.ts'
import type { Http } from '../row.ts'
import { schemas as of } from '../schemas.ts'
import { type Call, calls } from './calls.ts'

// The HTTP API with its schemas: the server checks by it, and makes the OpenAPI document of it.

export type { Answer, Call } from './calls.ts'
export const { Problem } = of

export interface Endpoint extends Pick<Http, 'scope' | 'summary' | 'status' | 'large'> {
  method: string
  url: string
  params: TObject | undefined
  query: TObject | undefined
  body: TSchema | undefined
  response: TSchema
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
  const named = url.includes(':name') ? of.ofName : url.startsWith('/v1/jobs') ? of.ofJob : of.ofWorker
  return {
    ...{ ...said, method, url, params: url.includes(':') ? named : undefined },
    ...{ query: query?.(of), body: bodies.get(call) ?? body?.(of), response: response(of) },
  }
}

export const api = Object.fromEntries(
  Object.entries(calls).map(([call, said]) => [call, endpointOf(call, said)]),
) as Record<Call, Endpoint>
