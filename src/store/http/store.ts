import { randomUUID } from 'node:crypto'
import type { Clock } from '../../model/clock.ts'
import { GopherQueueError, invalid, isQueueError, notFound } from '../../model/errors.ts'
import type { Job } from '../../model/job.ts'
import { operations } from '../operations.ts'
import { mayStall, Stalls } from '../stalls.ts'
import type {
  Input,
  Lease,
  LeasedJob,
  LeaseRequest,
  Operation,
  Output,
  Schedule,
  ScheduleSettings,
  Store,
  StoreEvent,
  StoreHealth,
  Submission,
  Submitted,
  WorkerRegistration,
} from '../store.ts'
import { type Call, isReport, type Plain, type ReportKind } from './calls.ts'
import { Client } from './client.ts'
import { follow } from './follow.ts'
import { RemoteLeases } from './leases.ts'
import { optionsOf, policyOf } from './options.ts'
import { RemoteWorkers } from './workers.ts'

type Own<K extends Operation> = (input: Input<K>, signal: AbortSignal | undefined) => Promise<Output<K>>

const pollMs = 30_000

/** A store behind a server: the same calls, over its API. Outages are waited out where that is safe. */
export class HttpStore implements Store {
  readonly #client: Client
  readonly #clock: Clock
  readonly #closing = new AbortController()
  readonly #listeners: ((event: StoreEvent) => void)[] = []
  readonly #leases: RemoteLeases
  readonly #workers: RemoteWorkers
  readonly #stalls = new Stalls()
  /** The end of a lease request that was taken back: what is asked after it must not overtake it. */
  #retracted: Promise<unknown> | undefined
  /** A request may have 1 MiB, and 10,000 tokens besides. */
  readonly mostSourceBytes = 768 * 1024
  health: StoreHealth = { status: 'ok', causes: [], works: { submit: true, lease: true, complete: true } }

  private constructor(client: Client, clock: Clock) {
    this.#client = client
    this.#clock = clock
    this.#workers = new RemoteWorkers(client)
    this.#leases = new RemoteLeases(client, clock, (event) => {
      if (event.event === 'health') this.health = event.health
      for (const listener of this.#listeners) listener(event)
    })
  }

  /** Throws what the server refuses, or STORAGE_UNAVAILABLE when there is none. */
  static async open(url: string, { token }: { token?: string }, clock: Clock): Promise<HttpStore> {
    const store = new HttpStore(new Client(url, token, clock), clock)
    const { status, causes, works } = (await store.#client.call('health')) as StoreHealth
    const own = causes.filter(({ code }) => !/^(NO_WORKER|POSTGRES_.*)$/.test(code)) // these are looked for when health is asked
    store.health = { status: status === 'failed' ? status : own.length > 0 ? 'degraded' : 'ok', causes: own, works }
    follow(store.#client, store.#closing.signal, clock, (event) => store.#leases.hear(event))
    return store
  }

  onEvent(listener: (event: StoreEvent) => void): void {
    this.#listeners.push(listener)
  }

  async call<K extends Operation>(operation: K, input: Input<K>, signal?: AbortSignal): Promise<Output<K>> {
    if (!mayStall(operation)) return this.#call(operation, input, signal)
    this.#stalls.begins()
    return this.#call(operation, input, signal).finally(() => this.#stalls.ends())
  }

  stalledMs(): number {
    return this.#stalls.ms
  }

  async #call<K extends Operation>(operation: K, input: Input<K>, signal?: AbortSignal): Promise<Output<K>> {
    if (this.#closing.signal.aborted)
      throw new GopherQueueError('CLOSED', 'The queue was closed. Nothing was accepted: open it again.')
    signal?.throwIfAborted()
    await this.#retracted
    const own = (this.#own as { [P in Operation]?: Own<P> })[operation]
    if (own) return own(input, signal)
    if (operations[operation].at === null)
      throw invalid(`No server offers '${operation}': ask where the file is, as gopherqueue --db FILE does.`)
    if (isReport(operation)) return this.#leases.report(operation, input as Lease) as Promise<Output<K>>
    return this.#client.plain(operation as Plain, input as Input<Plain>) as Promise<Output<K>>
  }

  /** What is more than its row says: names, forms and answers that differ, and what is done here besides. */
  readonly #own: {
    [K in Exclude<Operation & Call, Plain | ReportKind> | 'auditLog' | 'cancel' | 'many' | 'vitals' | 'why']: Own<K>
  } = {
    submit: (submission) => this.#submit(submission),
    lease: (request, signal) => this.#lease(request, signal),
    wait: (id, signal) => this.#wait(id, signal),
    cancel: async (id) => {
      const fate = await this.#client.plain('cancel', id)
      if (fate.state === 'running') this.#leases.cancelled(id)
      return fate
    },
    many: ({ event, filter }) => this.#client.plain('many', { event, filter: withoutNull(filter) }),
    setQueue: ({ queue, ...body }) => this.#client.call('setQueue', { params: { name: queue }, body }),
    setSchedule: ({ name, spec, payload, ...rest }: ScheduleSettings) =>
      this.#client.call('setSchedule', {
        params: { name },
        body: { ...rest, type: spec.type, payload: JSON.parse(payload), ...policyOf(spec) },
      }),
    schedules: async (query) => {
      const { schedules, next } = await this.#client.call('schedules', { query })
      return { next, schedules: schedules.map(({ ticks: _, ...schedule }) => schedule as Schedule) }
    },
    register: (registration) => this.#register(registration),
    stopping: (worker) => this.#workers.stopping(worker),
    unregister: (worker) => this.#workers.unregister(worker),
    job: (id) => this.#client.call('job', { params: { id } }).catch(nullIfNotFound) as Promise<Job | null>,
    attempts: async (id) => {
      const found = await this.#client.call('attempts', { params: { id } }).catch(nullIfNotFound)
      return (found?.attempts ?? []) as Output<'attempts'>
    },
    why: async (id) => (await this.#client.plain('why', id).catch(nullIfNotFound)) ?? notFound(id).message,
    auditLog: (page) => this.#client.call('audit', { query: withoutNull(page) }),
    vitals: async () => {
      throw invalid('The vitals of a store are known in its own process: ask the server for /metrics and /readyz.')
    },
  }

  /** The whole submission has a name of its own: sent again, it is answered as the first time. */
  async #submit({ specs, payloads, keys, trace, request }: Submission): Promise<Submitted> {
    const shared = Array.isArray(specs) ? null : specs
    const jobs = payloads.map((payload, i) => ({
      ...(shared ? {} : optionsOf((specs as (typeof shared & object)[])[i]!)),
      payload: JSON.parse(payload),
      ...(keys?.[i] == null ? {} : { idempotencyKey: keys[i]! }),
    }))
    const body = { ...(shared && { common: optionsOf(shared) }), jobs, ...(trace && { trace: JSON.parse(trace) }) }
    const key = request ?? randomUUID()
    const { replayed, ...submitted } = await this.#client.call('submitMany', { body, key })
    return { ...submitted, ...(replayed && { replayed }) }
  }

  async #register(registration: WorkerRegistration): Promise<number> {
    const worker = await this.#workers.register(registration)
    this.#leases.beat(() => this.#workers.size > 0)
    return worker
  }

  /** Polls until there is a job, or a newer request has taken this one's place. */
  async #lease(request: LeaseRequest, signal: AbortSignal | undefined): Promise<LeasedJob[]> {
    const retract = () => {
      this.#retracted = this.#poll({ ...request, slots: 0 }, 0).catch(() => undefined)
    }
    signal?.addEventListener('abort', retract)
    try {
      const jobs = await this.#poll(request, pollMs)
      if (!signal?.aborted) return jobs
      for (const job of jobs) this.#leases.report('release', job).catch(() => undefined)
      throw signal.reason
    } finally {
      signal?.removeEventListener('abort', retract)
    }
  }

  async #poll(request: LeaseRequest, waitMs: number): Promise<LeasedJob[]> {
    let sentAt = 0
    const jobs = await this.#workers.poll(request, waitMs, (epoch) => {
      sentAt = this.#clock.monotonic()
      return { holds: this.#leases.name(), exclude: [...request.exclude, ...this.#leases.goingOn(epoch)] }
    })
    return this.#leases.hold(jobs, sentAt)
  }

  async #wait(id: number, signal: AbortSignal | undefined): Promise<Job> {
    for (;;) {
      const job = await this.#client.call('wait', { params: { id }, query: { waitMs: pollMs } }, signal)
      if (job.finishedAt !== null) return job as Job
    }
  }

  async close(): Promise<void> {
    this.#leases.close()
    this.#closing.abort()
    await this.#client.close()
  }
}

function nullIfNotFound(error: unknown): null {
  if (isQueueError(error) && error.code === 'NOT_FOUND') return null
  throw error
}

/** The API has no null for a cursor: it is left out. */
function withoutNull<T extends { cursor?: number | null }>({ cursor, ...rest }: T) {
  return { ...rest, ...(cursor == null ? {} : { cursor }) }
}
