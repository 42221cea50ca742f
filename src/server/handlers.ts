import { retryTimes } from '../model/backoff.ts'
import type { Clock } from '../model/clock.ts'
import { nextTimes } from '../model/cron.ts'
import { GopherQueueError, invalid, notFound } from '../model/errors.ts'
import { checkName, type Job, type JobOptions, type JobSpec, jobSpec, limits } from '../model/job.ts'
import { isTerminal } from '../model/lifecycle.ts'
import { scopes } from '../model/token.ts'
import { causesOf, healthOf } from '../queue/health.ts'
import { checkFilter, type QueueOptions, queueSettings } from '../queue/options.ts'
import { makeSchedule } from '../queue/submission.ts'
import { typesReport } from '../queue/types.ts'
import {
  type Answer,
  type Body,
  type Call,
  calls,
  inputOf,
  isReport,
  type Params,
  type Plain,
  type Query,
  type Report,
  type ReportKind,
} from '../store/http/calls.ts'
import { type Numbered, numberedBy, textOf } from '../store/http/numbers.ts'
import { isAudited } from '../store/operations.ts'
import type { Input, LeaseRequest, Operation, Output, Source, Store } from '../store/store.ts'
import { Attempts, publicJob } from './attempts.ts'
import { jsonOf } from './body.ts'
import type { History } from './history.ts'
import type { Hub } from './hub.ts'
import { digestOf, pageOf } from './large.ts'
import { problem } from './problem.ts'
import { Workers } from './workers.ts'

/** A request after its checks. */
export interface Incoming<K extends Call> {
  params: Params<K>
  query: Query<K>
  body: Body<K>
  /** Header Idempotency-Key. */
  key: string | null
  /** Address of the client. */
  host: string
  requestId: string
  /** For the audit log. */
  who: string
  /**
   * Calls `end` after some time, when the client goes away, or when the server stops: at once where it has gone. Answers with what
   * takes that back.
   */
  until(ms: number, end: () => void): () => void
}
type Handler<K extends Call> = (incoming: Incoming<K>) => Promise<Answer<K>>
export type Handlers = { [K in Call]: Handler<K> }
/** Calls that are more than their row: what comes in is put into the store's words, and its answer into the API's. */
type Own = { [K in Exclude<Call, Plain | ReportKind> | 'jobs' | 'many' | 'why']: Handler<K> }

const defaultWait = 30_000

/** What each call of the API does. */
export function makeHandlers(store: Store, clock: Clock, hub: Hub, history: History): Handlers {
  const workers = new Workers(store)
  const attempts = new Attempts(store, clock, hub)
  store.onEvent(({ event, ...fields }) => {
    if (event === 'leaseLost' && 'token' in fields) attempts.lost(fields.id, fields.token)
    hub.tell(
      event,
      'token' in fields ? { ...fields, token: textOf({ epoch: workers.epoch, number: fields.token }) } : fields,
    )
  })
  const own: Own = {
    ...submissions(store, hub),
    ...reads(store, clock, history),
    ...work(store, hub, workers, attempts),
    ...changes(store),
  }
  const plain = (operation: Plain) => async (incoming: Incoming<Call>) => {
    const answer = await by(store, incoming.who, operation, inputOf(operation, incoming) as Input<Plain>)
    const { member } = calls[operation]
    return member === undefined ? answer : { [member]: answer }
  }
  const single =
    (event: ReportKind) =>
    ({ params, body }: Incoming<Call>) =>
      attempts.report({ ...(body as Report), id: (params as { id: number }).id, event } as Report)
  const byRow = (call: Call) => (isReport(call) ? single(call) : plain(call as Plain))
  const all = (Object.keys(calls) as Call[]).map((call) => [call, (own as Partial<Handlers>)[call] ?? byRow(call)])
  return Object.fromEntries(all)
}

/** A call of the store. What an operator changes goes into the audit log. */
function by<K extends Operation>(store: Store, who: string, operation: K, input: Input<K>): Promise<Output<K>> {
  return store.call(operation, input, undefined, isAudited(operation) ? who : undefined)
}

function submissions(store: Store, hub: Hub) {
  const specs = new Specs()
  return {
    async submit({ body: { type, payload, trace, idempotencyKey, ...options }, key, who }) {
      const own = idempotencyKey ?? key
      if (key !== null && own !== key)
        throw invalid(
          `The header Idempotency-Key is '${key}', and idempotencyKey in the body is '${own}': give one of them, or the same twice.`,
        )
      const asked = {
        specs: specs.of(type, options as JobOptions),
        payloads: [jsonOf('payload', payload)],
        keys: own === null ? null : [own],
        trace: trace ? JSON.stringify(trace) : null,
      }
      const { ids, states } = await store.call('submit', asked, undefined, who)
      const submitted = states ? { id: ids[0]!, duplicate: true, state: states[0]! } : { id: ids[0]!, duplicate: false }
      if (!submitted.duplicate) hub.tell('submitted', { id: submitted.id, type, queue: options.queue ?? 'default' })
      return submitted
    },
    async submitMany({ body: { common = {}, jobs, trace }, key, who }) {
      const all = jobs.map((job) => ({ ...common, ...job }))
      const texts = all.map(({ payload }, i) => jsonOf('payload', payload, ` at index ${i}`))
      if (texts.reduce((sum, text) => sum + text.length, 0) > limits.bulkBytes)
        throw new GopherQueueError('PAYLOAD_TOO_LARGE', `A bulk takes at most ${limits.bulkBytes} bytes of payloads. Nothing was stored: divide it.`) // biome-ignore format: long
      const own = all.map(({ type, payload: _, idempotencyKey: __, ...options }) => {
        if (type === undefined) throw invalid('A job needs a type, of its own or in `common`.')
        return specs.of(type, options as JobOptions)
      })
      const keys = all.map(({ idempotencyKey = null }) => idempotencyKey)
      const asked = {
        specs: new Set(own).size === 1 ? own[0]! : own,
        payloads: texts,
        keys: keys.some((one) => one !== null) ? keys : null,
      }
      const whole = {
        ...asked,
        trace: trace ? JSON.stringify(trace) : null,
        request: key,
        ...(key !== null && { digest: await digestOf(asked) }), // here, and not while the store holds its file
      }
      const submitted = await store.call('submit', whole, undefined, who)
      const { ids, duplicates, replayed = false } = submitted
      if (!replayed) hub.tell('submitted', { count: ids.length - duplicates.length })
      return { ...submitted, replayed }
    },
  } satisfies Partial<Own>
}

function reads(store: Store, clock: Clock, history: History) {
  return {
    jobs: async ({ query }) => pageOf(store, checkFilter(query)),
    async job({ params: { id } }) {
      const { jobs } = await pageOf(store, { order: 'oldest', cursor: id - 1, limit: 1 }) // as texts, which `job` has not
      if (jobs[0]?.id === id) return jobs[0] as Answer<'job'>
      throw notFound(id)
    },
    async attempts({ params: { id } }) {
      const job = await found(store, id)
      return {
        attempts: await store.call('attempts', id),
        retries: isTerminal(job.state) ? [] : retryTimes(job, job.runAt ?? clock.now()).slice(0, 20),
      }
    },
    async why({ params: { id } }) {
      const why = await store.call('why', id)
      if (why === notFound(id).message) throw notFound(id)
      return { why }
    },
    async wait({ params: { id }, query: { waitMs = defaultWait }, until }) {
      const patience = new AbortController()
      const stop = until(waitMs, () => patience.abort())
      try {
        return (await store.call('wait', id, patience.signal)) as Answer<'job'>
      } catch (error) {
        if (!patience.signal.aborted) throw error
        return (await found(store, id)) as Answer<'job'>
      } finally {
        stop()
      }
    },
    async schedules({ query }) {
      const { schedules: page, next } = await store.call('schedules', query)
      return {
        next,
        schedules: page.map((one) => ({ ...one, ticks: nextTimes(one.cron, one.timezone, 5, clock.now()) })),
      }
    },
    types: async ({ query }) => typesReport(store, clock, query),
    history: async ({ query: { since = 0 } }) => ({ samples: history.since(since) }),
    async access({ who }) {
      const token = (await store.call('tokens', null)).find(({ name }) => who === `token:${name}`)
      return { scopes: token && !token.scopes.includes('admin') ? token.scopes : [...scopes] }
    },
    health: async () => healthOf(store, clock, 0),
    async server() {
      const server = (await store.server?.()) ?? null
      return { server, causes: causesOf(server) }
    },
    audit: async ({ query }) => store.call('auditLog', query),
  } satisfies Partial<Own>
}

function work(store: Store, hub: Hub, workers: Workers, attempts: Attempts) {
  return {
    async register({ body: { known, ...body }, key, host }) {
      checkName('worker', body.name)
      const before = known === undefined ? null : numberedBy(known)
      const registration = { ...body, remote: host, request: key, ...(before && { known: before.number }) }
      return { worker: textOf(await workers.register(registration)) }
    },
    async unregister({ params: { id } }) {
      const worker = await workers.forget(id)
      if (worker) await store.call('unregister', worker.number, undefined, undefined, worker.epoch).catch(unlessUnknown)
      return null
    },
    async stopping({ params: { id } }) {
      const worker = await workers.idOf(id)
      if (worker) await store.call('stopping', worker.number, undefined, undefined, worker.epoch).catch(unlessUnknown)
      return null
    },
    async lease({ body, host, until }) {
      const { types = [], queue = 'default', slots = 1, waitMs = defaultWait } = body
      checkName('worker', body.worker) // as for queues: the schema counts characters, of which a path takes fewer
      const sources = body.sources ?? types.map((type) => ({ queue, type }))
      if (sources.length === 0) throw invalid('Name the types (or sources) to take jobs of.')
      return workers.with(body.worker, { sources, slots, remote: host }, async (worker) => {
        const given = await attempts.poll(worker, asked(body, sources, slots, worker), (end) => until(waitMs, end))
        for (const { id, queue, type, attempt, waited } of given.jobs) hub.tell('started', { id, queue, type, attempt, waitMs: waited }) // biome-ignore format: long
        return { ...given, jobs: given.jobs.map((job) => publicJob(job, worker.epoch)) }
      })
    },
    async report({ body: { reports }, requestId }) {
      const answers = reports.map((one) => attempts.report(one as Report).catch((error) => problem(error, requestId)))
      return { answers: await Promise.all(answers) }
    },
  } satisfies Partial<Own>
}

function changes(store: Store) {
  return {
    many: async ({ body: { event, filter }, who }) => by(store, who, 'many', { event, filter: checkFilter(filter) }),
    async setQueue({ params: { name }, body: { paused, ...options }, who }) {
      const settings = queueSettings(name, options as QueueOptions)
      if (paused !== undefined) settings.paused = paused
      return by(store, who, 'setQueue', settings)
    },
    async setSchedule({ params: { name }, body: { cron, type, payload, ...options }, who }) {
      const settings = await makeSchedule(name, cron, type, undefined, payload, options as object)
      return by(store, who, 'setSchedule', settings)
    },
  } satisfies Partial<Own>
}

/** Who is not there has signed off. */
function unlessUnknown(error: GopherQueueError): void {
  if (error.code !== 'WORKER_UNKNOWN') throw error
}

/** A request for jobs in the store's words. Tokens of another file are of no job here. */
function asked(
  { exclude = [], turn, since, holds }: Body<'lease'>,
  sources: Source[],
  slots: number,
  { epoch, number: worker }: Numbered,
): LeaseRequest {
  const held = holds?.map((token) => numberedBy(token)).filter((token) => token?.epoch === epoch)
  return {
    ...{ worker, sources, slots, exclude },
    ...(turn !== undefined && { ask: turn }),
    ...(since !== undefined && { since }),
    ...(held && { holds: held.map((token) => token!.number) }),
  }
}

async function found(store: Store, id: number): Promise<Job> {
  const job = await store.call('job', id)
  if (job) return job
  throw notFound(id)
}

/** Specs of the same options are one object, which the store puts into one statement. */
class Specs {
  readonly #known = new Map<string, JobSpec>()

  of(type: string, options: JobOptions): JobSpec {
    const key = JSON.stringify([type, options])
    const known = this.#known.get(key)
    if (known) return known
    const spec = jobSpec(type, options)
    if (this.#known.size >= 1000) this.#known.clear()
    this.#known.set(key, spec)
    return spec
  }
}
