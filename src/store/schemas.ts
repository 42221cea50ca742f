import { type TSchema, Type } from 'typebox'
import { priorities } from '../model/job.ts'
import { type State, states } from '../model/lifecycle.ts'
import { FileStats, ServerStats } from './storage-schema.ts'

// JSON Schemas of the HTTP API, which the rows of operations are given as an argument, with what makes more. Only a server
// loads this file: in each process the library would cost 22 MB, and 250 ms at its start.

const { Array: list, Boolean: bool, Integer: int, Null: nothing, Number: number, Optional: may } = Type
const { Object: object, String: string, Unknown: any } = Type
const texts = <T extends string>(values: readonly T[], description?: string) =>
  Type.Unsafe<T>({ type: 'string', enum: [...values], ...(description && { description }) })
const maybe = <T extends TSchema>(schema: T) => Type.Union([schema, Type.Null()])
const closed = <T extends Record<string, TSchema>>(fields: T, description?: string) =>
  Type.Object(fields, { additionalProperties: false, ...(description && { description }) })
/** Fields that have one schema. */
const each = <T extends TSchema, K extends string>(schema: T, ...names: K[]) =>
  Object.fromEntries(names.map((name) => [name, schema])) as Record<K, T>

/** No control characters. Not maxLength, which counts what a reader sees: one such may be a thousand characters. */
const named = '^[^\\u0000-\\u001f\\u007f-\\u009f]{1,128}$'
const name = (description: string) => string({ pattern: named, description })
/** Of what paths name. `.` and `..` are steps of a path, also where they are encoded. */
const newName = (description: string) => string({ pattern: `^(?!\\.{1,2}$)${named.slice(1)}`, description })
const id = int({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER, description: 'Id of a job' })
const instant = int({ description: 'Unix ms' })
const duration = Type.Union([number({ minimum: 0 }), string()], {
  description: "Milliseconds, or a string such as '5m'",
})
const token = string({
  minLength: 1,
  maxLength: 64,
  description: 'Of the lease, as `leases` gave it: of this file alone',
})
const ofJob = closed({ id: int({ minimum: 1 }) })
const ofName = closed({ name: newName('Its name') })
const ofWorker = closed({ id: name('Its id, or its name') })
const waitMs = may(int({ minimum: 0, maximum: 60_000, description: 'Longest wait in ms. Default 30000' }))
const cursor = may(int({ minimum: 0, description: 'The `next` of the page before' }))
const next = maybe(
  int({
    description: 'Cursor of the next page, null after the last; a page may be short where much was looked through',
  }),
)
const key = string({ pattern: '^[\\s\\S]{1,256}$' })

const Problem = object(
  {
    type: string({ description: 'urn:gopherqueue:error:CODE' }),
    title: string(),
    status: int(),
    detail: string({ description: 'What happened, what is safe, and what to do' }),
    code: string({ description: 'Stable: for code to decide by' }),
    accepted: texts(['no', 'yes', 'unknown'], 'Whether the submission or change took effect'),
    details: may(any()),
    requestId: string(),
  },
  { title: 'Problem', description: 'RFC 9457 problem details' },
)

const policy = {
  queue: may(newName("Line to stand in. Default 'default'")),
  priority: may(texts(priorities, "Default 'normal'")),
  maxAttempts: may(int({ description: 'First one included. Default 12' })),
  backoff: may(object({ kind: string() }, { description: 'Default: exponential, 5 s x 2, at most 1 h' })),
  timeout: may(duration),
  onTimeout: may(texts(['retry', 'dead'])),
  visibilityTimeout: may(duration),
}
/** Of one submission; what is not named has the library's defaults. */
const jobOptions = {
  ...policy,
  ...{ delay: may(duration), runAt: may(instant), deadline: may(Type.Union([instant, string()])) },
  ...{ idempotencyKey: may(key), idempotencyWindow: may(duration), uniqueKey: may(key), concurrencyKey: may(key) },
}
const type = name('Selects the handler')
const payload = any({ description: 'Any JSON, at most 1 MiB' })
const trace = may(maybe(Type.Record(string(), string(), { description: 'W3C trace context' })))
const JobInput = closed({ type, payload: may(payload), ...jobOptions, trace })
const Bulk = closed({
  common: may(closed({ type: may(type), ...jobOptions }, 'What the jobs do not say themselves')),
  jobs: list(closed({ type: may(type), payload: may(payload), ...jobOptions }), { maxItems: 10_000 }),
  trace,
})
const ScheduleInput = closed({
  ...{ cron: string(), timezone: may(string()), type, payload: may(payload) },
  ...{ missed: may(texts(['skip', 'once', 'all'])), overlap: may(texts(['allow', 'skip'])), ...policy },
})
const QueueInput = closed({
  ...{ paused: may(bool()), maxDepth: may(maybe(int())), maxRunning: may(maybe(int())), maxRunningPerKey: may(int()) },
  rate: may(maybe(closed({ max: int(), per: duration }, 'At most `max` starts in any interval of `per`'))),
  ...each(may(maybe(duration)), 'keepSucceeded', 'keepCancelled', 'keepDead'),
})
const source = closed({ queue: name('Queue'), type })
const WorkerInput = closed({
  name: newName('Shown to operators'),
  sources: list(source),
  slots: int({ minimum: 0, maximum: 10_000 }),
  instance: may(name('Names its process: all workers of one process say the same. Default: a process of its own')),
  known: may(name('Its id before, when that is refused with WORKER_UNKNOWN: what still runs under it goes on')),
})
const wholeNumber = (description: string) => may(int({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER, description }))
const LeaseInput = closed({
  worker: newName('A name of its own: it is signed on by that, and no other loop may use it. Or an id of `workers`'),
  types: may(list(type)),
  queue: may(name("Of `types`. Default 'default'")),
  sources: may(list(source, { description: 'In place of types and queue' })),
  slots: may(int({ minimum: 0, maximum: 10_000, description: 'Most jobs it may hold at once. Default 1' })),
  exclude: may(list(id)),
  turn: wholeNumber('Number of the request, growing: of two that cross on the way the higher one counts'),
  since: wholeNumber('The lowest turn whose answer may still arrive. Default: this one, and no earlier one'),
  holds: may(
    list(token, {
      maxItems: 10_000,
      description:
        'Tokens of all jobs that it has. What an answer before `since` gave and is not among them was lost with it: it goes back, uncharged',
    }),
  ),
  waitMs,
})
const Filter = closed({
  ...{ state: may(texts(states)), queue: may(string()), type: may(string()), order: may(texts(['oldest', 'newest', 'due'], "By submission; 'due': scheduled jobs by when they are due")) }, // biome-ignore format: long
  text: may(string({ minLength: 1, maxLength: 256, pattern: '^[^\\u0000]*$', description: 'In the payload or a key, whatever the case' })), // biome-ignore format: one line
  cause: may(string({ description: 'Dead of it, or failing of it now, as `deadLetters` and `failing` name it' })),
  failing: may(bool({ description: 'true: only jobs that fail now' })),
  ...{ since: wholeNumber('Submitted then or later, Unix ms'), until: wholeNumber('Submitted before, Unix ms') },
  endedBefore: wholeNumber('Ended before, Unix ms'),
  ...{ limit: may(int({ minimum: 1, maximum: 1000, description: 'Default 100' })), cursor },
})

const CauseFilter = closed({
  ...{ queue: may(string()), type: may(string()) },
  limit: may(int({ minimum: 1, maximum: 200, description: 'Default 200' })),
  cursor: may(string({ pattern: '^\\d{1,16}\\.\\d{1,16}$', description: 'The `next` of the page before' })),
})

const NamesAsked = closed({
  prefix: may(string({ description: "What the names begin with. Default '': all queues" })),
  after: may(string({ description: 'The `next` of the page before' })),
  known: wholeNumber('How many the asker knows: while these are all, no name is told. Default 0'),
  forgotten: wholeNumber('The `forgotten` of the answer that the asker knows them by. Default 0'),
})

const SchedulesAsked = closed({
  after: may(string({ description: 'The `next` of the page before' })),
  limit: may(int({ minimum: 1, maximum: 1000, description: 'Default 1000' })),
  payloads: may(bool({ description: 'false: without payloads. Default true' })),
})

const HoursAsked = closed({
  since: int({ minimum: 0, description: 'From the hour of this instant on, Unix ms' }),
  until: wholeNumber('Up to the hour of this instant. Default: now'),
  type: may(string({ description: 'Of this type alone' })),
})

const Submitted = object({
  id,
  duplicate: bool({ description: 'Nothing was stored: the idempotency or unique key has a job, this one' }),
  state: may(maybe(texts(states, 'Of a duplicate; null when retention has deleted it'))),
})
const SubmittedMany = object({
  ids: list(id),
  duplicates: list(int(), { description: 'Positions whose key had a job already' }),
  states: may(list(maybe(texts(states)), { description: 'Of the duplicates; null when retention has deleted it' })),
  replayed: bool({ description: 'The answer to an earlier bulk of the same Idempotency-Key: nothing was stored now' }),
})
const error = object({ name: string(), message: string(), stack: maybe(string()) }, { title: 'JobError' })
const backoff = object({ kind: string() }, { additionalProperties: true })
const Job = object(
  {
    ...{ id, queue: string(), type: string(), priority: texts(priorities), state: texts(states), payload: any() },
    ...each(int(), 'attempt', 'attemptsLeft', 'maxAttempts', 'postponed'),
    ...{ backoff, timeout: int(), onTimeout: string(), visibilityTimeout: int() },
    ...{ runAt: maybe(instant), deadline: maybe(instant), createdAt: instant },
    tick: maybe(int({ description: 'Of the schedule that submitted it, Unix ms' })),
    ...each(maybe(instant), 'startedAt', 'finishedAt', 'leaseExpiresAt'),
    ...{ worker: maybe(string()), company: maybe(int()), cancelRequestedAt: maybe(instant) },
    lastError: maybe(string({ description: 'Its name and the first line of its message, at most 200 characters' })),
    progress: maybe(object({ percent: number(), message: maybe(string()) })),
    ...{
      result: any(),
      ...each(maybe(string()), 'warning', 'reason', 'idempotencyKey', 'uniqueKey', 'concurrencyKey'),
    },
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
const beside = object(
  { others: int(), jobs: list(object({ id, type: string() })) },
  { description: 'Of a lost one: who else ran in its process then' },
)
const Attempt = object(
  {
    ...{ attempt: int(), worker: maybe(string()), startedAt: instant, finishedAt: maybe(instant), outcome: string() },
    ...{ error: maybe(error), beside: maybe(beside) },
  },
  { title: 'Attempt' },
)
const Causes = object({
  causes: list(
    object({
      ...{ queue: string(), type: string(), cause: string({ description: 'For the filter `cause`' }), count: int() },
      ...{ newest: id, oldest: id, lastAt: instant },
    }),
    { description: 'Of most jobs first' },
  ),
  counting: bool({ description: 'Jobs of an older file are still being counted: counts are too low until then' }),
  next: maybe(string({ description: 'Cursor of the next page, null after the last' })),
})
const Fate = object({ state: texts(states), runAt: maybe(instant), reason: maybe(string()) }, { title: 'Fate' })
const counts = object(each(int(), ...states) as Record<State, ReturnType<typeof int>>)
const totals = object(each(int(), 'submitted', 'succeeded', 'failed', 'dead', 'cancelled'))
const Queue = object(
  {
    ...{ queue: string(), paused: bool(), maxDepth: maybe(int()), maxRunning: maybe(int()) },
    ...{ maxRunningPerKey: int(), rate: maybe(object({ max: int(), per: int() })) },
    ...each(maybe(int()), 'keepSucceeded', 'keepCancelled', 'keepDead'),
    ...{ counts, totals },
  },
  { title: 'Queue' },
)
const Others = object({ queues: int(), counts, totals, workers: int(), lines: bool({ description: 'More lines have ready jobs than are told' }) }, { title: 'Others', description: 'What is not listed: queues beside the 1,000 largest, and those that were forgotten' }) // biome-ignore format: long
const Worker = object(
  {
    ...{ id: int(), name: string(), sources: list(source), slots: int(), pid: maybe(int()), host: string() },
    ...{ startedAt: instant, seenAt: instant, alive: bool(), running: int(), sourceCount: int() },
  },
  { title: 'Worker' },
)
const Stats = object({
  ...{ queues: list(Queue), others: Others, workers: list(Worker), unhandled: list(source), oldestReadyMs: maybe(int()) }, // biome-ignore format: long
  waiting: list(object({ ...source.properties, priority: texts(priorities), oldestReadyMs: int(), atLeast: bool() })),
  file: maybe(FileStats),
  server: maybe(ServerStats),
})
const Schedule = object(
  {
    ...each(string(), 'name', 'cron', 'timezone', 'queue', 'type'),
    ...{ payload: may(any()), missed: string(), overlap: string(), paused: bool() },
    ...{ nextAt: maybe(instant), lastAt: maybe(instant), lastJob: maybe(int()), definedAt: instant, inCode: bool() },
    problem: maybe(object({ code: string(), message: string(), at: instant })),
    ticks: list(instant, { description: 'The next ones, as the cron line gives them' }),
  },
  { title: 'Schedule' },
)
const Health = object(
  {
    status: texts(['ok', 'degraded', 'failed']),
    causes: list(object({ code: string(), message: string(), since: instant })),
    works: object(each(bool(), 'submit', 'lease', 'complete')),
  },
  { title: 'Health' },
)
const AuditEntry = object({
  ...{ id: int(), at: instant, ...each(string(), 'who', 'action', 'target'), details: any() },
})
const spread = object(
  { counts: list(int()), max: int() },
  {
    description: 'How many took at most 1, 2, 5, 10, 20, 50 ms and so on and more than the bound before; the longest',
  },
)
const happened = each(int(), 'submitted', 'succeeded', 'failed', 'retried', 'dead')
const Hour = object({
  ...{ at: instant, type: string({ description: "'': all types beyond the first 1,000 of the hour" }) },
  ...happened,
  ...{ waits: spread, runs: spread },
})
const durations = object({ count: int(), ...each(maybe(int()), 'p50', 'p95', 'max') }, { description: 'In ms' })
const TypeStats = object({ type: string(), ...happened, wait: durations, run: durations }, { title: 'TypeStats' })
const HourCounts = object({ at: instant, ...happened, run: durations })
const Sample = object({
  ...{ at: instant, ...each(int(), 'submitted', 'succeeded', 'failed', 'ready', 'running', 'dead') },
  oldestReadyMs: maybe(int()),
  waitMs: maybe(number({ description: 'Mean from ready to started, of jobs started over this server' })),
})
const tally = object(
  { bounds: list(number()), counts: list(int()), sum: number() },
  { description: 'counts[i] are at most bounds[i] and above the bound before; the last count is of the rest' },
)
export const schemas = {
  ...{ list, bool, int, nothing, number, may, object, string, any, texts, maybe, closed },
  ...{ id, instant, duration, token, ofJob, ofName, ofWorker, waitMs, cursor, next, tally },
  ...{ JobInput, Bulk, ScheduleInput, QueueInput, WorkerInput, LeaseInput },
  ...{ Filter, CauseFilter, NamesAsked, HoursAsked, SchedulesAsked },
  ...{ Submitted, SubmittedMany, Job, LeasedJob, Attempt, Causes, Fate, Queue, Stats, Schedule },
  ...{ Health, AuditEntry, ServerStats, Hour, TypeStats, HourCounts, Sample, Problem },
}
