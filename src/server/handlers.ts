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
import type { Fate, Lease, LeasedJob, Source, Store } from '../store/store.ts'
import type { History } from './history.ts'
import type { Hub } from './hub.ts'
import { problem } from './problem.ts'

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

interface Running extends Lease {
  startedAt: Instant
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
    hub.tell(event, fields)
  })
  const specs = new Specs()

  /** Its queue and type: known from its lease, unless this server was not there then. */
  async function leaseOf(id: number, token: number): Promise<Running> {
    const known = leases.get(id) ?? (await store.call('job', id))
    return { id, token, queue: known?.queue ?? '', type: known?.type ?? '', startedAt: known?.startedAt ?? clock.now() }
  }

  async function report({ id, token, event, ...told }: Report): Promise<unknown> {
    const lease = leases.get(id)?.token === token ? leases.get(id)! : await leaseOf(id, token)
    switch (event) {
      case 'succeed': {
        const success = { lease, result: toJson('result', told.result), ...(told.warning != null && { warning: cut(told.warning) }) } // biome-ignore format: long
        return ended('succeeded', lease, await store.call('succeed', success))
      }
      case 'fail': {
        const { name = 'Error', message = 'The worker gave no reason.', stack = null } = told.error ?? {}
        const error = { name: cut(name), message: cut(message), stack: stack === null ? null : cut(stack) }
        const retryAfter = told.retryAfter == null ? null : toMs(told.retryAfter, 'retryAfter')
        const fate = await store.call('fail', { lease, kind: told.kind ?? 'temporary', error, retryAfter })
        return ended(fate.state === 'scheduled' ? 'retrying' : fate.state, lease, fate)
      }
      case 'release':
        return ended('released', lease, await store.call('release', lease))
      case 'heartbeat':
        return store.call('heartbeat', lease)
      case 'progress':
        return store.call('progress', {
          lease,
          percent: told.percent!,
          message: told.message == null ? null : cut(told.message),
        })
      case 'checkpoint':
        return store.call('checkpoint', { lease, state: toJson('checkpoint', told.state) })
    }
  }

  function ended(event: string, { id, queue, type, token, startedAt }: Running, fate: Fate): Fate {
    if (leases.get(id)?.token === token) leases.delete(id)
    hub.tell(event, { id, queue, type, ...fate, runMs: Math.max(0, clock.now() - startedAt) })
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
        (fate) => ended('dead', { ...job }, fate),
        () => undefined, // its lease ends by itself
      )
      return false
    }
  }

  /** Nobody has heard that it was given. Perhaps it is over. */
  function giveBack({ id, token }: Lease): void {
    report({ id, token, event: 'release' }).catch(() => undefined)
  }

  const single =
    <K extends Report['event']>(event: K) =>
    async ({ params, body }: { params: { id: number }; body: unknown }) =>
      (await report({ ...(body as Report), id: params.id, event })) as Answer<K>

  return {
    async submit({ body: { type, payload, trace, idempotencyKey, ...options }, key }) {
      const own = idempotencyKey ?? key
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
    register: async ({ body, host }) => ({ worker: await store.call('register', { ...body, remote: host }) }),
    async unregister({ params: { id } }) {
      const worker = await workers.forget(/^\d+$/.test(`${id}`) ? Number(id) : id)
      if (worker !== undefined) await store.call('unregister', worker)
      return none
    },
    async lease({ body, host, until }) {
      const { types = [], queue = 'default', slots = 1, exclude = [], waitMs = defaultWait, turn, since } = body
      const sources = body.sources ?? types.map((type) => ({ queue, type }))
      if (sources.length === 0) throw invalid('Name the types (or sources) to take jobs of.')
      const worker = await workers.of(body.worker, sources, slots, host)
      const unheard = workers.asks(worker, turn, since)
      if (!unheard) return { jobs: [], replaced: true }
      for (const lease of unheard) giveBack(lease)
      const request = { worker, sources, slots, exclude }
      let replaced = true
      let answered = false
      let asked: Promise<LeasedJob[]> | undefined
      const stop = until(waitMs, async () => {
        // Not taken back, which could cross with jobs on their way, but replaced by a request that gets none.
        replaced = false
        await store.call('job', 0).catch(() => undefined) // once it has been tried
        if (answered) return
        const done = new AbortController()
        store.call('lease', { ...request, slots: 0 }, done.signal).catch(() => undefined)
        asked?.finally(() => done.abort()).catch(() => undefined)
      })
      asked = store.call('lease', request)
      const jobs = await asked.catch((error) => {
        stop()
        throw error
      })
      answered = true
      for (const { id, queue, type, token, startedAt } of jobs) leases.set(id, { id, queue, type, token, startedAt })
      const given = jobs.filter(mayGo)
      if (!stop() || !workers.gives(worker, turn, jobs)) {
        for (const job of jobs) giveBack(job)
        return { jobs: [], replaced: true }
      }
      for (const { id, queue, type, attempt, waited } of given) hub.tell('started', { id, queue, type, attempt, waitMs: waited }) // biome-ignore format: long
      return { jobs: given.map(publicJob), replaced: jobs.length === 0 && replaced }
    },
    async report({ body: { reports }, requestId }) {
      const answers = reports.map((one) => report(one as Report).catch((error) => problem(error, requestId)))
      return { answers: await Promise.all(answers) }
    },
    succeed: single('succeed'),
    fail: single('fail'),
    release: single('release'),
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

async function found(store: Store, id: number): Promise<Job> {
  const job = await store.call('job', id)
  if (job) return job
  throw notFound(id)
}

function publicJob({
  priority,
  payload,
  backoff,
  checkpoint,
  trace,
  ...job
}: LeasedJob): Answer<'lease'>['jobs'][number] {
  return {
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

/** The latest request of a worker, since when it has been sent in vain, and what it was given last, at which turn. */
interface Turns {
  last: number
  since: number
  at: number
  given: Lease[]
}

/** Workers by the name with which they ask, and the latest request of each. */
class Workers {
  readonly #store: Store
  readonly #names = new Map<string, { said: string; id: Promise<number> }>()
  readonly #turns = new Map<number, Turns>()
  readonly #earlier: Promise<void>

  /** Knows those that asked an earlier server. */
  constructor(store: Store) {
    this.#store = store
    this.#earlier = store.call('stats', null).then(({ workers }) => {
      for (const { id, name, pid } of workers) if (pid === null) this.#names.set(name, { said: '', id: Promise.resolve(id) }) // biome-ignore format: long
    })
    this.#earlier.catch(() => undefined)
  }

  /** By its id, or signed on by its name; what it takes is brought up to date. */
  async of(worker: number | string, sources: Source[], slots: number, host: string): Promise<number> {
    if (typeof worker === 'number') return worker
    await this.#earlier
    const said = JSON.stringify([sources, slots, host])
    const before = this.#names.get(worker)
    if (before?.said === said) return before.id
    const registration = { name: worker, sources, slots, remote: host }
    const again = async (known: number) => this.#store.call('register', { ...registration, known })
    const id = before ? before.id.then(again) : this.#store.call('register', registration)
    this.#names.set(worker, { said, id })
    id.catch(() => this.#names.delete(worker))
    return id
  }

  /** Its id, if there is such a worker. */
  async forget(worker: number | string): Promise<number | undefined> {
    await this.#earlier
    const id = typeof worker === 'number' ? worker : await this.#names.get(worker)?.id
    for (const [name, known] of this.#names) if ((await known.id) === id) this.#names.delete(name)
    if (id !== undefined) this.#turns.delete(id)
    return id
  }

  /** What earlier sendings of this request were given and did not hear of; null when a newer request was here before. */
  asks(worker: number, turn = 0, since = Number.POSITIVE_INFINITY): Lease[] | null {
    const { last, at, given } = this.#turns.get(worker) ?? { last: 0, at: 0, given: [] }
    if (turn < last) return null
    this.#turns.set(worker, { last: turn, since, at, given: at >= since ? [] : given })
    return at >= since ? given : []
  }

  /** False when the worker no longer listens for the answer to this: it has sent its request again. */
  gives(worker: number, turn = 0, jobs: Lease[]): boolean {
    const { last, since } = this.#turns.get(worker) ?? { last: 0, since: Number.POSITIVE_INFINITY }
    if (since <= turn && turn < last) return false
    const given = jobs.map(({ id, token, queue, type }) => ({ id, token, queue, type }))
    this.#turns.set(worker, { last, since, at: turn, given })
    return true
  }
}
