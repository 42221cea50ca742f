import { parseBackoff, retryTimes } from '../model/backoff.ts'
import type { Clock, Instant } from '../model/clock.ts'
import { nextTimes } from '../model/cron.ts'
import { toMs } from '../model/duration.ts'
import { GopherQueueError, invalid, notFound } from '../model/errors.ts'
import { type Job, type JobOptions, type JobSpec, jobSpec, limits, priorities } from '../model/job.ts'
import { fromJson, toJson } from '../model/json.ts'
import { isTerminal } from '../model/lifecycle.ts'
import { scopes } from '../model/token.ts'
import { cut, describe } from '../queue/evidence.ts'
import { healthOf } from '../queue/health.ts'
import { checkFilter, queueSettings } from '../queue/options.ts'
import { makeSchedule } from '../queue/submission.ts'
import { digestOfAll } from '../store/digest.ts'
import type { Answer, Body, Call, Params, Query, Report } from '../store/http/api.ts'
import { type Numbered, numberedBy, textOf } from '../store/http/numbers.ts'
import type { Fate, Input, Lease, LeasedJob, LeaseRequest, Operation, Source, Store } from '../store/store.ts'
import type { History } from './history.ts'
import type { Hub } from './hub.ts'
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
   * Calls `end` after some time, when the client goes away, or when the server stops. Answers with what takes that back
   * and says whether the client is still there.
   */
  until(ms: number, end: () => void): () => boolean
}
export type Handlers = { [K in Call]: (incoming: Incoming<K>) => Promise<Answer<K>> }

interface Ended extends Lease {
  startedAt: Instant
}
interface Running extends Ended {
  epoch: string
  /** This server has not given it, and it ran when it was looked at. */
  isNew: boolean
}

const none = null as never
const defaultWait = 30_000

/** What each call of the API does: what comes in is put into the store's words, and its answer into the API's. */
export function makeHandlers(store: Store, clock: Clock, hub: Hub, history: History): Handlers {
  const workers = new Workers(store)
  const leases = new Map<number, Running>()
  store.onEvent(({ event, ...fields }) => {
    if (event === 'leaseLost' && 'token' in fields && leases.get(fields.id)?.token === fields.token)
      leases.delete(fields.id)
    hub.tell(
      event,
      'token' in fields ? { ...fields, token: textOf({ epoch: workers.epoch, number: fields.token }) } : fields,
    )
  })
  const specs = new Specs()

  /** Its queue and type: known from its lease, unless this server was not there then. */
  async function leaseOf(id: number, { epoch, number: token }: Numbered): Promise<Running> {
    const known = leases.get(id)
    if (known?.token === token && known.epoch === epoch) return known
    const job = await store.call('job', id)
    const { queue = '', type = '', startedAt } = job ?? {}
    return { id, token, epoch, queue, type, startedAt: startedAt ?? clock.now(), isNew: job?.state === 'running' }
  }

  async function report({ id, token, event, ...told }: Report): Promise<unknown> {
    const given = numberedBy(token)
    if (!given)
      throw new GopherQueueError(
        'LEASE_LOST',
        `'${token}' is no token of a lease. Nothing of this report was taken: send the token of the job as 'leases' gave it, all of its text.`,
      )
    const { isNew, ...lease } = await leaseOf(id, given)
    const { epoch } = lease
    const tell = <K extends Operation>(operation: K, input: Input<K>) =>
      store.call(operation, input, undefined, undefined, epoch)
    switch (event) {
      case 'succeed': {
        const success = { lease, result: toJson('result', told.result), ...(told.warning != null && { warning: cut(told.warning) }) } // biome-ignore format: long
        return ended('succeeded', lease, isNew, await tell('succeed', success))
      }
      case 'fail': {
        const { name = 'Error', message = 'The worker gave no reason.', stack = null } = told.error ?? {}
        const error = { name: cut(name), message: cut(message), stack: stack === null ? null : cut(stack) }
        const retryAfter = told.retryAfter == null ? null : toMs(told.retryAfter, 'retryAfter')
        const { kind = 'temporary', goesOn = false } = told
        const fate = await tell('fail', { lease, kind, error, retryAfter, goesOn })
        return ended(fate.state === 'scheduled' ? 'retrying' : fate.state, lease, isNew, fate)
      }
      case 'release':
        return ended('released', lease, isNew, await tell('release', lease))
      case 'settled':
        return tell('settled', lease)
      case 'heartbeat':
        return tell('heartbeat', lease)
      case 'progress':
        return tell('progress', {
          lease,
          percent: told.percent!,
          message: told.message == null ? null : cut(told.message),
        })
      case 'checkpoint':
        return tell('checkpoint', { lease, state: toJson('checkpoint', told.state) })
    }
  }

  /** A report that is sent again tells nobody anything. */
  function ended(event: string, { id, queue, type, token, startedAt }: Ended, isNew: boolean, fate: Fate): Fate {
    const isFirst = leases.get(id)?.token === token ? leases.delete(id) : isNew
    if (isFirst) hub.tell(event, { id, queue, type, ...fate, runMs: Math.max(0, clock.now() - startedAt) })
    return fate
  }

  /** False for a job whose payload, by plain SQL, would reach its worker as another: it ends here, as at a worker of the library. */
  function mayGo(job: LeasedJob): boolean {
    try {
      fromJson('payload', job.payload)
      return true
    } catch (fault) {
      const error = describe(fault)
      store.call('fail', { lease: job, kind: 'permanent', error, retryAfter: null }).then(
        (fate) => ended('dead', { ...job }, false, fate),
        () => undefined, // its lease ends by itself
      )
      return false
    }
  }

  /** Asks for jobs until there are some, or `until` ends it; what is given is known to be given. */
  async function poll(
    { epoch }: Numbered,
    request: LeaseRequest,
    until: (end: () => void) => () => boolean,
  ): Promise<{ jobs: LeasedJob[]; replaced: boolean }> {
    const ask = (own: LeaseRequest, signal?: AbortSignal) => store.call('lease', own, signal, undefined, epoch)
    let replaced = true
    let answered = false
    let waiting: Promise<LeasedJob[]> | undefined
    const stop = until(async () => {
      // Not taken back, which could cross with jobs on their way, but replaced by a request that gets none.
      replaced = false
      await store.call('job', 0).catch(() => undefined) // once it has been tried
      if (answered) return
      const done = new AbortController()
      ask({ ...request, slots: 0 }, done.signal).catch(() => undefined)
      waiting?.finally(() => done.abort()).catch(() => undefined)
    })
    try {
      waiting = ask(request)
      const jobs = await waiting
      for (const { id, queue, type, token, startedAt } of jobs)
        leases.set(id, { id, queue, type, token, startedAt, epoch, isNew: false })
      return { jobs: jobs.filter(mayGo), replaced: jobs.length === 0 && replaced }
    } finally {
      answered = true
      stop()
    }
  }

  const single =
    <K extends Report['event']>(event: K) =>
    async ({ params, body }: { params: { id: number }; body: unknown }) =>
      (await report({ ...(body as Report), id: params.id, event })) as Answer<K>

  return {
    async submit({ body: { type, payload, trace, idempotencyKey, ...options }, key }) {
      const own = idempotencyKey ?? key
      if (key !== null && own !== key)
        throw invalid(
          `The header Idempotency-Key is '${key}', and idempotencyKey in the body is '${own}': give one of them, or the same twice.`,
        )
      const { ids, states } = await store.call('submit', {
        specs: specs.of(type, options as JobOptions),
        payloads: [toJson('payload', payload)],
        keys: own === null ? null : [own],
        trace: trace ? JSON.stringify(trace) : null,
      })
      const submitted = states ? { id: ids[0]!, duplicate: true, state: states[0]! } : { id: ids[0]!, duplicate: false }
      if (!submitted.duplicate) hub.tell('submitted', { id: submitted.id, type, queue: options.queue ?? 'default' })
      return submitted
    },
    async submitMany({ body: { common = {}, jobs, trace }, key }) {
      const all = jobs.map((job) => ({ ...common, ...job }))
      const texts = all.map(({ payload }, i) => toJson('payload', payload, ` at index ${i}`))
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
      const submitted = await store.call('submit', {
        ...asked,
        trace: trace ? JSON.stringify(trace) : null,
        request: key,
        ...(key !== null && { digest: digestOfAll(asked) }), // here, and not while the store holds its file
      })
      const { ids, duplicates, replayed = false } = submitted
      if (!replayed) hub.tell('submitted', { count: ids.length - duplicates.length })
      return { ...submitted, replayed }
    },
    jobs: async ({ query }) => {
      const { jobs, next } = await store.call('jobs', checkFilter(query))
      return { jobs: jobs as Answer<'job'>[], next }
    },
    job: async ({ params: { id } }) => (await found(store, id)) as Answer<'job'>,
    deadLetters: async ({ query: { cursor = null } }) => store.call('deadLetters', cursor),
    many: async ({ body: { event, filter }, who }) =>
      store.call('many', { event, filter: checkFilter(filter) }, undefined, who),
    async attempts({ params: { id } }) {
      const job = await found(store, id)
      return {
        attempts: await store.call('attempts', id),
        retries: isTerminal(job.state) ? [] : retryTimes(job, job.runAt ?? clock.now()).slice(0, 20),
      }
    },
    why: async ({ params: { id } }) => ({ why: await store.call('why', id) }),
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
    cancel: async ({ params: { id }, who }) => store.call('cancel', id, undefined, who),
    retry: async ({ params: { id }, who }) => store.call('retry', id, undefined, who),
    remove: async ({ params: { id }, who }) => (await store.call('remove', id, undefined, who)) ?? none,
    async register({ body: { known, ...body }, key, host }) {
      const before = known === undefined ? null : numberedBy(known)
      const registration = { ...body, remote: host, request: key, ...(before && { known: before.number }) }
      return { worker: textOf(await workers.register(registration)) }
    },
    async unregister({ params: { id } }) {
      const worker = await workers.forget(id)
      if (worker) await store.call('unregister', worker.number, undefined, undefined, worker.epoch).catch(unlessUnknown)
      return none
    },
    async stopping({ params: { id } }) {
      const worker = await workers.idOf(id)
      if (worker) await store.call('stopping', worker.number, undefined, undefined, worker.epoch).catch(unlessUnknown)
      return none
    },
    async lease({ body, host, until }) {
      const { types = [], queue = 'default', slots = 1, waitMs = defaultWait } = body
      const sources = body.sources ?? types.map((type) => ({ queue, type }))
      if (sources.length === 0) throw invalid('Name the types (or sources) to take jobs of.')
      return workers.with(body.worker, { sources, slots, remote: host }, async (worker) => {
        const given = await poll(worker, asked(body, sources, slots, worker), (end) => until(waitMs, end))
        for (const { id, queue, type, attempt, waited } of given.jobs) hub.tell('started', { id, queue, type, attempt, waitMs: waited }) // biome-ignore format: long
        return { ...given, jobs: given.jobs.map((job) => publicJob(job, worker.epoch)) }
      })
    },
    async report({ body: { reports }, requestId }) {
      const answers = reports.map((one) => report(one as Report).catch((error) => problem(error, requestId)))
      return { answers: await Promise.all(answers) }
    },
    succeed: single('succeed'),
    fail: single('fail'),
    release: single('release'),
    settled: single('settled'),
    heartbeat: single('heartbeat'),
    progress: single('progress'),
    checkpoint: single('checkpoint'),
    queues: async () => ({ queues: (await store.call('stats', null)).queues }),
    async setQueue({ params: { name }, body: { paused, ...options }, who }) {
      const settings = queueSettings(name, options)
      if (paused !== undefined) settings.paused = paused
      return (await store.call('setQueue', settings, undefined, who)) ?? none
    },
    async schedules() {
      const all = await store.call('schedules', null)
      return { schedules: all.map((one) => ({ ...one, ticks: nextTimes(one.cron, one.timezone, 5, clock.now()) })) }
    },
    runSchedule: async ({ params: { name }, who }) => ({ id: await store.call('runSchedule', name, undefined, who) }),
    async setSchedule({ params: { name }, body: { cron, type, payload, ...options }, who }) {
      const settings = await makeSchedule(name, cron, type, undefined, payload, options as object)
      return (await store.call('setSchedule', settings, undefined, who)) ?? none
    },
    pauseSchedule: async ({ params: { name }, body: { paused }, who }) =>
      (await store.call('pauseSchedule', { name, paused }, undefined, who)) ?? none,
    removeSchedule: async ({ params: { name }, who }) =>
      (await store.call('removeSchedule', name, undefined, who)) ?? none,
    stats: async () => store.call('stats', null),
    history: async ({ query: { since = 0 } }) => ({ samples: history.since(since) }),
    vitals: async () => {
      const { commits, groups } = await store.call('vitals', null)
      return { commits: { ...commits, bounds: [...commits.bounds] }, groups: { ...groups, bounds: [...groups.bounds] } }
    },
    async access({ who }) {
      const token = (await store.call('tokens', null)).find(({ name }) => who === `token:${name}`)
      return { scopes: token && !token.scopes.includes('admin') ? token.scopes : [...scopes] }
    },
    health: async () => healthOf(store, clock, 0),
    audit: async ({ query }) => store.call('auditLog', query),
  }
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

function publicJob(
  { id, token, priority, payload, backoff, checkpoint, trace, ...job }: LeasedJob,
  epoch: string,
): Answer<'lease'>['jobs'][number] {
  return {
    ...{ id, token: textOf({ epoch, number: token }) },
    ...job,
    priority: priorities[priority]!,
    payload: JSON.parse(payload),
    backoff: parseBackoff(backoff),
    checkpoint: checkpoint === null ? null : JSON.parse(checkpoint),
    trace: trace === null ? null : JSON.parse(trace),
  }
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
