import { type Static, type TObject, type TSchema, Type } from 'typebox'
import { priorities } from '../../model/job.ts'
import { type State, states } from '../../model/lifecycle.ts'
import type { Scope } from '../../model/token.ts'

// The HTTP API: each request and response is said once, here. The server checks by it and makes the OpenAPI document of
// it, and the client's types are read from it.

const texts = <T extends string>(values: readonly T[], description?: string) =>
  Type.Unsafe<T>({ type: 'string', enum: [...values], ...(description && { description }) })
const maybe = <T extends TSchema>(schema: T) => Type.Union([schema, Type.Null()])
const closed = <T extends Record<string, TSchema>>(fields: T, description?: string) =>
  Type.Object(fields, { additionalProperties: false, ...(description && { description }) })
const { Array: list, Boolean: bool, Integer: int, Null: nothing, Number: number, Optional: may, String: string } = Type
const { Union: either, Unknown: any, Object: object, Record: record } = Type

/** No control characters. Not maxLength, which counts what a reader sees: one such may be a thousand characters. */
const named = '^[^\\u0000-\\u001f\\u007f-\\u009f]{1,128}$'
const name = (description: string) => string({ pattern: named, description })
const id = int({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER, description: 'Id of a job' })
const instant = int({ description: 'Unix ms' })
const duration = either([number({ minimum: 0 }), string()], { description: "Milliseconds, or a string such as '5m'" })
const token = string({
  minLength: 1,
  maxLength: 64,
  description: 'Of the lease, as `leases` gave it: of this file alone',
})
const accepted = texts(['no', 'yes', 'unknown'], 'Whether the submission or change took effect')
const key = string({ pattern: '^[\\s\\S]{1,256}$' })

export const Problem = object(
  {
    type: string({ description: 'urn:gopherqueue:error:CODE' }),
    title: string(),
    status: int(),
    detail: string({ description: 'What happened, what is safe, and what to do' }),
    code: string({ description: 'Stable: for code to decide by' }),
    accepted,
    details: may(any()),
    requestId: string(),
  },
  { title: 'Problem', description: 'RFC 9457 problem details' },
)

/** Of one submission; what is not named has the library's defaults. */
const jobOptions = {
  queue: may(name("Line to stand in. Default 'default'")),
  priority: may(texts(priorities, "Default 'normal'")),
  maxAttempts: may(int({ description: 'First one included. Default 12' })),
  backoff: may(object({ kind: string() }, { description: 'Default: exponential, 5 s x 2, at most 1 h' })),
  timeout: may(duration),
  onTimeout: may(texts(['retry', 'dead'])),
  visibilityTimeout: may(duration),
  delay: may(duration),
  runAt: may(instant),
  deadline: may(either([instant, string()])),
  idempotencyKey: may(key),
  idempotencyWindow: may(duration),
  concurrencyKey: may(key),
}
const type = name('Selects the handler')
const payload = any({ description: 'Any JSON, at most 1 MiB' })
const trace = may(maybe(record(string(), string(), { description: 'W3C trace context' })))
const JobInput = closed({ type, payload: may(payload), ...jobOptions, trace })
const Bulk = closed({
  common: may(closed({ type: may(type), ...jobOptions }, 'What the jobs do not say themselves')),
  jobs: list(closed({ type: may(type), payload: may(payload), ...jobOptions }), { maxItems: 10_000 }),
  trace,
})

const error = object({ name: string(), message: string(), stack: maybe(string()) }, { title: 'JobError' })
const backoff = object({ kind: string() }, { additionalProperties: true })
export const Job = object(
  {
    id,
    ...{ queue: string(), type: string(), priority: texts(priorities), state: texts(states), payload: any() },
    ...{ attempt: int(), attemptsLeft: int(), maxAttempts: int(), backoff, timeout: int(), onTimeout: string() },
    ...{ visibilityTimeout: int(), runAt: maybe(instant), deadline: maybe(instant), createdAt: instant },
    tick: maybe(int({ description: 'Of the schedule that submitted it, Unix ms' })),
    ...{ startedAt: maybe(instant), finishedAt: maybe(instant), leaseExpiresAt: maybe(instant) },
    ...{ worker: maybe(string()), company: maybe(int()), cancelRequestedAt: maybe(instant) },
    progress: maybe(object({ percent: number(), message: maybe(string()) })),
    ...{ result: any(), reason: maybe(string()), idempotencyKey: maybe(string()), concurrencyKey: maybe(string()) },
  },
  { title: 'Job' },
)
const LeasedJob = object(
  {
    ...{ id, token, queue: string(), type: string(), priority: texts(priorities), payload: any(), attempt: int() },
    tries: int({ description: 'Place of this attempt in the present budget: 1 is the first' }),
    ...{ maxAttempts: int(), backoff, timeout: int(), visibilityTimeout: int(), deadline: maybe(instant) },
    ...{ checkpoint: any(), createdAt: instant, tick: maybe(instant), startedAt: instant, trace },
  },
  { title: 'LeasedJob' },
)
const Attempt = object(
  {
    ...{ attempt: int(), worker: maybe(string()), startedAt: instant, finishedAt: maybe(instant), outcome: string() },
    error: maybe(error),
    beside: maybe(
      object(
        { others: int(), jobs: list(object({ id, type: string() })) },
        { description: 'Of a lost one: who else ran in its process then' },
      ),
    ),
  },
  { title: 'Attempt' },
)
const Fate = object({ state: texts(states), runAt: maybe(instant), reason: maybe(string()) }, { title: 'Fate' })
const source = closed({ queue: name('Queue'), type })
const counts = object(
  Object.fromEntries(states.map((state) => [state, int()])) as Record<State, ReturnType<typeof int>>,
)
const Queue = object(
  {
    ...{ queue: string(), paused: bool(), maxDepth: maybe(int()), maxRunning: maybe(int()) },
    ...{ maxRunningPerKey: int(), counts },
    totals: object({ submitted: int(), succeeded: int(), failed: int(), dead: int(), cancelled: int() }),
  },
  { title: 'Queue' },
)
const Worker = object(
  {
    ...{ id: int(), name: string(), sources: list(source), slots: int(), pid: maybe(int()), host: string() },
    ...{ startedAt: instant, seenAt: instant, alive: bool(), running: int() },
  },
  { title: 'Worker' },
)
const Schedule = object(
  {
    ...{ name: string(), cron: string(), timezone: string(), queue: string(), type: string(), payload: any() },
    ...{ missed: string(), overlap: string(), paused: bool(), nextAt: maybe(instant), lastAt: maybe(instant) },
    ...{ lastJob: maybe(int()), definedAt: instant, inCode: bool() },
    problem: maybe(object({ code: string(), message: string(), at: instant })),
    ticks: list(instant, { description: 'The next ones, as the cron line gives them' }),
  },
  { title: 'Schedule' },
)
const Health = object(
  {
    status: texts(['ok', 'degraded', 'failed']),
    causes: list(object({ code: string(), message: string(), since: instant })),
    works: object({ submit: bool(), lease: bool(), complete: bool() }),
  },
  { title: 'Health' },
)

const tally = object(
  { bounds: list(number()), counts: list(int()), sum: number() },
  { description: 'counts[i] are at most bounds[i] and above the bound before; the last count is of the rest' },
)

/** What a worker reports of a job that it runs. */
const reports = {
  succeed: { result: may(any({ description: 'Any JSON, at most 1 MiB' })) },
  fail: {
    kind: may(texts(['temporary', 'permanent', 'timeout'], "Default 'temporary'")),
    error: may(closed({ name: may(string()), message: string(), stack: may(maybe(string())) })),
    retryAfter: may(maybe(duration)),
    goesOn: may(
      bool({ description: 'Its handler still runs: not to be leased to this process until `settled`, or for 30 s' }),
    ),
  },
  release: {},
  settled: {},
  heartbeat: {},
  progress: { percent: number({ minimum: 0, maximum: 100 }), message: may(maybe(string())) },
  checkpoint: { state: any({ description: 'Any JSON, at most 64 KiB' }) },
}
export type ReportKind = keyof typeof reports
const Report = either(
  Object.entries(reports).map(([event, fields]) => closed({ id, token, event: texts([event]), ...fields })),
) as unknown as ReturnType<typeof Type.Unsafe<Report>>
export interface Report {
  id: number
  token: string
  event: ReportKind
  result?: unknown
  kind?: 'temporary' | 'permanent' | 'timeout'
  error?: { name?: string; message: string; stack?: string | null }
  retryAfter?: number | string | null
  goesOn?: boolean
  percent?: number
  message?: string | null
  state?: unknown
}
/** A Fate, what `heartbeat` answers, null, or a Problem. */
const Reported = any({ description: 'As the single call answers, or a problem' })

const cursor = may(int({ minimum: 0, description: 'The `next` of the page before' }))
const next = maybe(
  int({
    description: 'Cursor of the next page, null after the last; a page may be short where much was looked through',
  }),
)
const filter = closed({
  ...{ state: may(texts(states)), queue: may(string()), type: may(string()), order: may(texts(['oldest', 'newest'])) },
  text: may(string({ minLength: 1, maxLength: 256, description: 'In the payload or a key, whatever the case' })),
  error: may(string({ description: 'Of the group of dead letters that is named so' })),
  since: may(int({ minimum: 0, description: 'Submitted then or later, Unix ms' })),
  until: may(int({ minimum: 0, description: 'Submitted before, Unix ms' })),
  ...{ limit: may(int({ minimum: 1, maximum: 1000, description: 'Default 100' })), cursor },
})

export interface Endpoint {
  method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'
  url: string
  /** What a token must allow; 'any' takes each. */
  scope: Scope | 'any'
  summary: string
  params?: TObject
  query?: TObject
  body?: TSchema
  response: TSchema
  status?: number
  /** Takes bodies of up to 65 MiB, not of 1 MiB and a bit. */
  large?: boolean
}

const ofJob = closed({ id: int({ minimum: 1 }) })
const ofName = closed({ name: name('Its name') })
const ofWorker = closed({ id: name('Its id, or its name') })
const waitMs = may(int({ minimum: 0, maximum: 60_000, description: 'Longest wait in ms. Default 30000' }))

const report = <K extends ReportKind, R extends TSchema>(event: K, summary: string, response: R) => ({
  method: 'POST' as const,
  url: `/v1/jobs/:id/${event}`,
  scope: 'work' as const,
  summary,
  params: ofJob,
  body: closed({ token, ...(reports[event] as Record<string, TSchema>) }) as TSchema,
  response,
})

export const api = {
  submit: {
    ...{ method: 'POST', url: '/v1/jobs', scope: 'submit', status: 201 },
    summary: 'Store a job. Answered when it is on disk. Header Idempotency-Key is the job’s idempotencyKey',
    body: JobInput,
    response: object({ id, duplicate: bool() }),
  },
  submitMany: {
    ...{ method: 'POST', url: '/v1/jobs/bulk', scope: 'submit', status: 201, large: true },
    summary:
      'Store jobs: all or none. JSON, or application/x-ndjson with one job a line. Sent again with the same header Idempotency-Key, it is answered as the first time',
    body: Bulk,
    response: object({
      ids: list(id),
      duplicates: list(int(), { description: 'Positions whose key had a job already' }),
    }),
  },
  jobs: {
    ...{ method: 'GET', url: '/v1/jobs', scope: 'read', summary: 'One page of jobs' },
    query: filter,
    response: object({ jobs: list(Job), next }),
  },
  deadLetters: {
    ...{ method: 'GET', url: '/v1/dead-letters', scope: 'read', query: closed({ cursor }) },
    summary: 'The newest dead jobs, grouped by their last error',
    response: object({
      groups: list(
        object({
          ...{
            queue: string(),
            type: string(),
            error: string({ description: 'For the filter `error`' }),
            count: int(),
          },
          ...{ newest: id, oldest: id, lastAt: instant },
        }),
      ),
      next,
    }),
  },
  many: {
    ...{ method: 'POST', url: '/v1/jobs/many', scope: 'admin' },
    summary: 'Cancel, retry or delete the jobs of one page that this fits. Go on with `next` until it is null',
    body: closed({ event: texts(['cancel', 'retry', 'remove']), filter }),
    response: object({ changed: int(), next }),
  },
  job: { method: 'GET', url: '/v1/jobs/:id', scope: 'read', summary: 'One job', params: ofJob, response: Job },
  attempts: {
    ...{ method: 'GET', url: '/v1/jobs/:id/attempts', scope: 'read', params: ofJob },
    summary: 'Its history, and when it would be tried again if each attempt failed at once',
    response: object({ attempts: list(Attempt), retries: list(instant) }),
  },
  why: {
    ...{ method: 'GET', url: '/v1/jobs/:id/why', scope: 'read', params: ofJob },
    summary: 'Why it is not running, or what became of it',
    response: object({ why: string() }),
  },
  wait: {
    ...{ method: 'GET', url: '/v1/jobs/:id/wait', scope: 'read', params: ofJob, query: closed({ waitMs }) },
    summary: 'The job when it has ended, or as it is after waitMs',
    response: Job,
  },
  cancel: {
    ...{ method: 'POST', url: '/v1/jobs/:id/cancel', scope: 'admin', params: ofJob, response: Fate },
    summary: 'End a waiting job, ask a running one to stop',
  },
  retry: {
    ...{ method: 'POST', url: '/v1/jobs/:id/retry', scope: 'admin', params: ofJob, response: Fate },
    summary: 'Make a dead or cancelled job ready again, with a fresh attempt budget',
  },
  remove: {
    ...{ method: 'DELETE', url: '/v1/jobs/:id', scope: 'admin', params: ofJob, response: nothing() },
    summary: 'Delete an ended job and its history',
  },
  register: {
    ...{ method: 'POST', url: '/v1/workers', scope: 'work', status: 201 },
    summary:
      'Sign on a worker. Sent again with the same header Idempotency-Key, it is answered as the first time and signs on no second one',
    body: closed({
      name: name('Shown to operators'),
      sources: list(source),
      slots: int({ minimum: 0, maximum: 10_000 }),
      instance: may(name('Names its process: all workers of one process say the same. Default: a process of its own')),
      known: may(name('Its id before, when that is refused with WORKER_UNKNOWN: what still runs under it goes on')),
    }),
    response: object({ worker: string({ description: 'Its id: of this file alone' }) }),
  },
  unregister: {
    ...{ method: 'DELETE', url: '/v1/workers/:id', scope: 'work', params: ofWorker, response: nothing() },
    summary: 'Sign off, by id or name; what the worker still holds goes back, uncharged',
  },
  stopping: {
    ...{ method: 'POST', url: '/v1/workers/:id/stopping', scope: 'work', params: ofWorker, response: nothing() },
    summary: 'Say that a worker has begun to stop: if its process is killed then, that is no evidence against its jobs',
  },
  lease: {
    ...{ method: 'POST', url: '/v1/leases', scope: 'work' },
    summary:
      'The first ready jobs; waits for one up to waitMs. A newer request of the same worker takes the place of an older one',
    body: closed({
      worker: name('A name of its own: it is signed on by that, and no other loop may use it. Or an id of `workers`'),
      types: may(list(type)),
      queue: may(name("Of `types`. Default 'default'")),
      sources: may(list(source, { description: 'In place of types and queue' })),
      slots: may(int({ minimum: 0, maximum: 10_000, description: 'Most jobs it may hold at once. Default 1' })),
      exclude: may(list(id)),
      turn: may(
        int({
          minimum: 0,
          description: 'Number of the request, growing: of two that cross on the way the higher one counts',
        }),
      ),
      since: may(
        int({
          minimum: 0,
          description: 'The lowest turn whose answer may still arrive. Default: this one, and no earlier one',
        }),
      ),
      holds: may(
        list(token, {
          maxItems: 10_000,
          description:
            'Tokens of all jobs that it has. What an answer before `since` gave and is not among them was lost with it: it goes back, uncharged',
        }),
      ),
      waitMs,
    }),
    response: object({
      jobs: list(LeasedJob),
      replaced: bool({ description: 'A newer request of the worker took its place, or it was signed off' }),
    }),
  },
  report: {
    ...{ method: 'POST', url: '/v1/reports', scope: 'work', large: true },
    summary: 'Several reports at once, each answered for itself',
    body: closed({ reports: list(Report, { maxItems: 10_000 }) }),
    response: object({ answers: list(Reported) }),
  },
  succeed: report('succeed', 'End a running job well', Fate),
  fail: report('fail', 'End an attempt: again later, dead, or cancelled if that was asked for', Fate),
  release: report('release', 'Give a job back, uncharged', Fate),
  settled: report('settled', 'Say that the handler of an attempt that was over has ended', nothing()),
  heartbeat: report(
    'heartbeat',
    'Extend the lease; says whether the job is to stop',
    object({ expiresAt: instant, cancelRequested: bool() }),
  ),
  progress: report('progress', 'Tell people how far it is', nothing()),
  checkpoint: report('checkpoint', 'Keep a state for the next attempt', nothing()),
  queues: {
    method: 'GET',
    url: '/v1/queues',
    scope: 'read',
    summary: 'All queues',
    response: object({ queues: list(Queue) }),
  },
  setQueue: {
    ...{ method: 'PATCH', url: '/v1/queues/:name', scope: 'admin', params: ofName, response: nothing() },
    summary: 'Pause, resume or limit a queue; what is not named stays',
    body: closed({
      ...{
        paused: may(bool()),
        maxDepth: may(maybe(int())),
        maxRunning: may(maybe(int())),
        maxRunningPerKey: may(int()),
      },
      ...{ keepSucceeded: may(maybe(duration)), keepCancelled: may(maybe(duration)), keepDead: may(maybe(duration)) },
    }),
  },
  schedules: {
    ...{ method: 'GET', url: '/v1/schedules', scope: 'read', summary: 'All schedules' },
    response: object({ schedules: list(Schedule) }),
  },
  setSchedule: {
    ...{ method: 'PUT', url: '/v1/schedules/:name', scope: 'admin', params: ofName, response: nothing() },
    summary: 'Define a schedule, or change it',
    body: closed({
      ...{ cron: string(), timezone: may(string()), type, payload: may(payload) },
      ...{ missed: may(texts(['skip', 'once', 'all'])), overlap: may(texts(['allow', 'skip'])) },
      ...(({ queue, priority, maxAttempts, backoff, timeout, onTimeout, visibilityTimeout }) => ({
        ...{ queue, priority, maxAttempts, backoff, timeout, onTimeout, visibilityTimeout },
      }))(jobOptions),
    }),
  },
  pauseSchedule: {
    ...{ method: 'PATCH', url: '/v1/schedules/:name', scope: 'admin', params: ofName, response: nothing() },
    summary: 'Pause or resume a schedule',
    body: closed({ paused: bool() }),
  },
  removeSchedule: {
    ...{ method: 'DELETE', url: '/v1/schedules/:name', scope: 'admin', params: ofName, response: nothing() },
    summary: 'Remove a schedule; its jobs stay',
  },
  runSchedule: {
    ...{ method: 'POST', url: '/v1/schedules/:name/run', scope: 'admin', params: ofName, status: 201 },
    summary: 'Submit its job now, besides its ticks',
    response: object({ id }),
  },
  stats: {
    ...{ method: 'GET', url: '/v1/stats', scope: 'read', summary: 'Counts, workers, and types that nobody handles' },
    response: object({
      ...{ queues: list(Queue), workers: list(Worker), unhandled: list(source), oldestReadyMs: maybe(int()) },
      waiting: list(object({ ...source.properties, priority: texts(priorities), oldestReadyMs: int() })),
      file: maybe(
        object({
          ...{ bytes: int(), freeBytes: int(), walBytes: int(), shrinks: bool(), reserveBytes: int() },
          diskFreeBytes: int(),
        }),
      ),
    }),
  },
  history: {
    ...{ method: 'GET', url: '/v1/history', scope: 'read', query: closed({ since: may(int({ minimum: 0 })) }) },
    summary: 'The last hours, as this server saw them: a sample every 10 s. Totals only grow',
    response: object({
      samples: list(
        object({
          ...{
            at: instant,
            submitted: int(),
            succeeded: int(),
            failed: int(),
            ready: int(),
            running: int(),
            dead: int(),
          },
          oldestReadyMs: maybe(int()),
          waitMs: maybe(number({ description: 'Mean from ready to started, of jobs started over this server' })),
        }),
      ),
    }),
  },
  vitals: {
    ...{
      method: 'GET',
      url: '/v1/vitals',
      scope: 'read',
      summary: 'How storage does in this process, since its start',
    },
    response: object({ commits: tally, groups: tally }),
  },
  access: {
    ...{ method: 'GET', url: '/v1/access', scope: 'read', summary: 'What the caller may do' },
    response: object({ scopes: list(texts(['read', 'submit', 'work', 'admin'])) }),
  },
  health: {
    method: 'GET',
    url: '/v1/health',
    scope: 'any',
    summary: 'State of storage and work, with causes',
    response: Health,
  },
  audit: {
    ...{ method: 'GET', url: '/v1/audit', scope: 'admin', summary: 'What operators did, newest first' },
    query: closed({ limit: may(int({ minimum: 1, maximum: 1000 })), cursor: may(int({ minimum: 0 })) }),
    response: object({
      entries: list(
        object({ ...{ id: int(), at: instant, who: string(), action: string(), target: string() }, details: any() }),
      ),
      next: maybe(int()),
    }),
  },
} as const satisfies Record<string, Endpoint>

export type Api = typeof api
export type Call = keyof Api
type Of<E, K extends string> = E extends Record<K, infer S extends TSchema> ? Static<S> : undefined
export type Params<K extends Call> = Of<Api[K], 'params'>
export type Query<K extends Call> = Of<Api[K], 'query'>
export type Body<K extends Call> = Of<Api[K], 'body'>
export type Answer<K extends Call> = Static<Api[K]['response']>
