import type { Static, TObject, TSchema } from 'typebox'
import { type Input, type Operation, type Output, operations } from '../operations.ts'
import type { Http } from '../row.ts'

// The calls of the HTTP API: the operations of a store that have one, and what follows, which is of the API alone. Our own
// client knows no more than this.

const own = {
  submitMany: {
    ...{ at: 'POST /v1/jobs/bulk', scope: 'submit', patience: 'brief', status: 201, large: true },
    summary:
      'Store jobs: all or none. JSON, or application/x-ndjson with one job a line. Sent again with the same header Idempotency-Key, it is answered as the first time',
    ...{ body: (of) => of.Bulk, response: (of) => of.SubmittedMany },
  },
  report: {
    ...{ at: 'POST /v1/reports', scope: 'work', patience: 'brief', large: true },
    summary: 'Several reports at once, each answered for itself',
    body: ({ closed, list, any }) => closed({ reports: list(any(), { maxItems: 10_000 }) }),
    response: ({ object, list, any }) =>
      object({ answers: list(any({ description: 'As the single call answers, or a problem' })) }),
  },
  history: {
    ...{ at: 'GET /v1/history', scope: 'read', patience: 'brief' },
    summary: 'The last hours, as this server saw them: a sample every 10 s. Totals only grow',
    query: ({ closed, may, int }) => closed({ since: may(int({ minimum: 0 })) }),
    response: ({ object, list, Sample }) => object({ samples: list(Sample) }),
  },
  types: {
    ...{ at: 'GET /v1/types', scope: 'read', patience: 'brief' },
    summary: 'What happened to the jobs of each type in the last hours or days, by type and by hour',
    query: ({ closed, may, int, string }) => closed({ since: may(int({ minimum: 0 })), type: may(string()) }),
    response: ({ object, list, instant, TypeStats, HourCounts }) =>
      object({ since: instant, types: list(TypeStats), hours: list(HourCounts) }),
  },
  access: {
    ...{ at: 'GET /v1/access', scope: 'read', patience: 'brief', summary: 'What the caller may do' },
    response: ({ object, list, texts }) => object({ scopes: list(texts(['read', 'submit', 'work', 'admin'])) }),
  },
  health: {
    ...{ at: 'GET /v1/health', scope: 'any', patience: 'brief', summary: 'State of storage and work, with causes' },
    response: (of) => of.Health,
  },
  server: {
    ...{ at: 'GET /v1/server', scope: 'read', patience: 'brief' },
    summary: 'How the PostgreSQL server of the queue is, answered also while nothing can be written; null of a file',
    response: ({ object, maybe, list, string, ServerStats }) =>
      object({ server: maybe(ServerStats), causes: list(object({ code: string(), message: string() })) }),
  },
  audit: {
    ...{ at: 'GET /v1/audit', scope: 'admin', patience: 'brief', summary: 'What operators did, newest first' },
    query: ({ closed, may, int }) =>
      closed({ limit: may(int({ minimum: 1, maximum: 1000 })), cursor: may(int({ minimum: 0 })) }),
    response: (of) => of.object({ entries: of.list(of.AuditEntry), next: of.maybe(of.int()) }),
  },
} as const satisfies Record<string, Http>

type Rows = typeof operations & typeof own
export type Call = { [K in keyof Rows]: Rows[K] extends Http ? K : never }[keyof Rows]
type Made<R, K extends string> = R extends { [P in K]: (of: never) => infer S extends TSchema } ? Static<S> : undefined
type Path<At> = At extends `${string} /v1/jobs/:id${string}`
  ? { id: number }
  : At extends `${string}:id${string}`
    ? { id: string }
    : At extends `${string}:name${string}`
      ? { name: string }
      : undefined

export type Params<K extends Call> = Path<Rows[K]['at']>
export type Query<K extends Call> = Made<Rows[K], 'query'>
export type Body<K extends Call> = Rows[K] extends { fields: unknown } ? { token: string } : Made<Rows[K], 'body'>
export type Answer<K extends Call> = Made<Rows[K], 'response'>

/** An operation whose input is what its path names, or all fields of its request, and whose answer is the response. */
export type Plain = {
  [K in Operation & Call]: [Given<K>] extends [Input<K>]
    ? [Member<Rows[K], Output<K>>] extends [Answer<K>]
      ? K
      : never
    : never
}[Operation & Call]
type Given<K extends Call> = [Query<K>, Body<K>] extends [undefined, undefined]
  ? Params<K> extends undefined
    ? null
    : Params<K>[keyof Params<K>]
  : Fields<Params<K>> & Fields<Query<K>> & Fields<Body<K>>
type Fields<T> = T extends undefined ? object : T
type Member<R, O> = R extends { member: infer M extends string } ? { [K in M]: O } : O

/** An operation by which a worker reports of an attempt. */
export type ReportKind = { [K in Operation]: Rows[K] extends { fields: unknown } ? K : never }[Operation]
/** What it says besides the lease. */
export type Told<K extends ReportKind> = Static<TObject<ReturnType<Rows[K]['fields']>>>
export type Report<K extends ReportKind = ReportKind> = {
  [E in K]: { id: number; token: string; event: E } & Told<E>
}[K]

const all: Record<string, { at: string | null }> = { ...operations, ...own }
export const calls = Object.fromEntries(Object.entries(all).filter(([, { at }]) => at !== null)) as Record<Call, Http>

export const isReport = (call: Call | Operation): call is ReportKind =>
  call in operations && 'fields' in operations[call as Operation]

/** What the path of a call names; undefined when it names nothing. */
const namedBy = (call: Call): string | undefined => /:(\w+)/.exec(calls[call].at)?.[1]

/** The input of a plain operation as a request: what the path names, and all else as its query or body. */
export function requestOf(operation: Plain, input: unknown): object {
  const named = namedBy(operation) ?? ''
  const { [named]: value, ...rest } =
    typeof input === 'object' ? { ...(input as Record<string, unknown>) } : { [named]: input }
  const isRead = calls[operation].at.startsWith('GET ')
  return {
    params: { [named]: value },
    ...(Object.keys(rest).length > 0 && { [isRead ? 'query' : 'body']: rest }),
  }
}

/** A request as the input of a plain operation. */
export function inputOf(
  operation: Plain,
  { params, query, body }: Record<'params' | 'query' | 'body', unknown>,
): unknown {
  const { body: hasBody, query: hasQuery } = calls[operation]
  if (hasBody || hasQuery) return { ...(params as object), ...(query as object), ...(body as object) }
  const named = namedBy(operation)
  return named === undefined ? null : (params as Record<string, unknown>)[named]
}
