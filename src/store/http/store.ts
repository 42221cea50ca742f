import { randomUUID } from 'node:crypto'
import type { Clock } from '../../model/clock.ts'
import { GopherQueueError, invalid, isQueueError } from '../../model/errors.ts'
import { type Job, priorities } from '../../model/job.ts'
import type {
  Input,
  Lease,
  LeasedJob,
  LeaseRequest,
  Operation,
  Output,
  Store,
  StoreEvent,
  StoreHealth,
  Submission,
  Submitted,
  WorkerRegistration,
} from '../store.ts'
import type { Answer, Report } from './api.ts'
import { Client, isAway, type Patience } from './client.ts'
import { follow } from './follow.ts'
import { numberedBy, textOf } from './numbers.ts'
import { optionsOf, policyOf } from './options.ts'
import { divided, type Pending } from './parts.ts'
import { RemoteWorkers } from './workers.ts'

/** A lease of this process. */
interface Held {
  /** The server knows that it arrived: a request for jobs named it, or it was renewed. */
  confirmed: boolean
  lease: Lease
  visibility: number
  renewAt: number
  /** Its handler has heard that it is to stop. */
  cancelled?: boolean
}

type GivenJob = Answer<'lease'>['jobs'][number]

const pollMs = 30_000
/** How often to look whether leases are to be renewed. */
const beat = 250

/** A store behind a server: the same calls, over its API. Outages are waited out where that is safe. */
export class HttpStore implements Store {
  readonly #client: Client
  readonly #clock: Clock
  readonly #closing = new AbortController()
  readonly #listeners: ((event: StoreEvent) => void)[] = []
  readonly #held = new Map<number, Held>()
  readonly #workers: RemoteWorkers
  #pending: Pending[] = []
  /** The end of a lease request that was taken back: what is asked after it must not overtake it. */
  #retracted: Promise<unknown> | undefined
  #stopBeat: (() => void) | undefined
  /** Of the file that gave the last lease. */
  #epoch = ''
  health: StoreHealth = { status: 'ok', causes: [], works: { submit: true, lease: true, complete: true } }

  private constructor(client: Client, clock: Clock) {
    this.#client = client
    this.#clock = clock
    this.#workers = new RemoteWorkers(client)
  }

  /** Throws what the server refuses, or STORAGE_UNAVAILABLE when there is none. */
  static async open(url: string, { token }: { token?: string }, clock: Clock): Promise<HttpStore> {
    const store = new HttpStore(new Client(url, token, clock), clock)
    const { status, causes, works } = (await store.#client.call('health', {}, 'brief')) as StoreHealth
    const own = causes.filter(({ code }) => code !== 'NO_WORKER') // jobs without workers are looked for when health is asked
    store.health = { status: status === 'failed' ? status : own.length > 0 ? 'degraded' : 'ok', causes: own, works }
    follow(store.#client, store.#closing.signal, clock, (event) => store.#tell(event))
    return store
  }

  onEvent(listener: (event: StoreEvent) => void): void {
    this.#listeners.push(listener)
  }

  async call<K extends Operation>(operation: K, input: Input<K>, signal?: AbortSignal): Promise<Output<K>> {
    if (this.#closing.signal.aborted)
      throw new GopherQueueError('CLOSED', 'The queue was closed. Nothing was accepted: open it again.')
    signal?.throwIfAborted()
    await this.#retracted
    return (await this.#ask(operation, input as never, signal)) as Output<K>
  }

  async #ask(operation: Operation, input: never, signal?: AbortSignal): Promise<unknown> {
    const given = <K extends Operation>(_: K): Input<K> => input as Input<K>
    const client = this.#client
    switch (operation) {
      case 'epoch':
        throw invalid('The epoch of a file is part of the tokens and ids that its server gives.')
      case 'vitals':
        throw invalid('The vitals of a store are known in its own process: ask the server for /metrics and /readyz.')
      case 'submit':
        return this.#submit(given('submit'))
      case 'lease':
        return this.#lease(given('lease'), signal)
      case 'succeed': {
        const { lease, result, warning } = given('succeed')
        return this.#end(lease, { event: 'succeed', result: JSON.parse(result), ...(warning && { warning }) })
      }
      case 'fail': {
        const { lease, kind, error, retryAfter, goesOn = false } = given('fail')
        return this.#end(lease, { event: 'fail', kind, error, retryAfter, goesOn })
      }
      case 'release':
        return this.#end(given('release'), { event: 'release' })
      case 'settled':
        return this.#report(given('settled'), { event: 'settled' }, 'brief')
      case 'heartbeat':
        return this.#report(given('heartbeat'), { event: 'heartbeat' }, 'brief')
      case 'progress': {
        const { lease, percent, message } = given('progress')
        return this.#report(lease, { event: 'progress', percent, message }, 'brief')
      }
      case 'checkpoint': {
        const { lease, state } = given('checkpoint')
        return this.#report(lease, { event: 'checkpoint', state: JSON.parse(state) }, 'brief')
      }
      case 'cancel':
        return this.#cancel(given('cancel'))
      case 'retry':
        return client.call('retry', { params: { id: given('retry') } }, 'once')
      case 'remove':
        return client.call('remove', { params: { id: given('remove') } }, 'once')
      case 'setQueue': {
        const { queue, ...settings } = given('setQueue')
        return client.call('setQueue', { params: { name: queue }, body: settings }, 'brief')
      }
      case 'setSchedule': {
        const { name, cron, timezone, spec, payload, missed, overlap } = given('setSchedule')
        const body = {
          cron,
          timezone,
          missed,
          overlap,
          type: spec.type,
          payload: JSON.parse(payload),
          ...policyOf(spec),
        }
        return client.call('setSchedule', { params: { name }, body }, 'brief')
      }
      case 'pauseSchedule': {
        const { name, paused } = given('pauseSchedule')
        return client.call('pauseSchedule', { params: { name }, body: { paused } }, 'brief')
      }
      case 'removeSchedule':
        return client.call('removeSchedule', { params: { name: given('removeSchedule') } }, 'once')
      case 'schedules':
        return (await client.call('schedules', {}, 'brief')).schedules.map(({ ticks: _, ...schedule }) => schedule)
      case 'runSchedule':
        return (await client.call('runSchedule', { params: { name: given('runSchedule') } }, 'once')).id
      case 'register':
        return this.#register(given('register'))
      case 'stopping':
        return this.#workers.stopping(given('stopping'))
      case 'unregister':
        return this.#workers.unregister(given('unregister'))
      case 'wait':
        return this.#wait(given('wait'), signal)
      case 'job':
        return client.call('job', { params: { id: given('job') } }, 'brief').catch(nullIfNotFound)
      case 'jobs': {
        const { cursor, ...filter } = given('jobs')
        return client.call('jobs', { query: { ...filter, ...(cursor == null ? {} : { cursor }) } }, 'brief')
      }
      case 'deadLetters': {
        const cursor = given('deadLetters')
        return client.call('deadLetters', { query: cursor === null ? {} : { cursor } }, 'brief')
      }
      case 'many': {
        const { event, filter } = given('many')
        const { cursor, ...rest } = filter
        return client.call(
          'many',
          { body: { event, filter: { ...rest, ...(cursor == null ? {} : { cursor }) } } },
          'once',
        )
      }
      case 'attempts': {
        const found = await client
          .call('attempts', { params: { id: given('attempts') } }, 'brief')
          .catch(nullIfNotFound)
        return found?.attempts ?? []
      }
      case 'stats':
        return client.call('stats', {}, 'brief')
      case 'auditLog': {
        const { cursor, ...page } = given('auditLog')
        return client.call('audit', { query: { ...page, ...(cursor == null ? {} : { cursor }) } }, 'brief')
      }
      case 'tokens':
      case 'createToken':
      case 'revokeToken':
      case 'tokenUsed':
        throw invalid('Tokens are made and revoked where the file is: gopherqueue --db FILE token.')
      case 'why':
        return (await client.call('why', { params: { id: given('why') } }, 'brief')).why
    }
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
    const { replayed, ...submitted } = await this.#client.call('submitMany', { body, key }, 'brief')
    return { ...submitted, ...(replayed && { replayed }) }
  }

  async #register(registration: WorkerRegistration): Promise<number> {
    const worker = await this.#workers.register(registration)
    this.#beat()
    return worker
  }

  async #cancel(id: number): Promise<unknown> {
    const fate = await this.#client.call('cancel', { params: { id } }, 'once')
    const token = this.#held.get(id)?.lease.token
    if (fate.state === 'running' && token !== undefined) this.#tell({ event: 'cancelRequested', id, token })
    return fate
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
      for (const job of jobs) this.#end(job, { event: 'release' }).catch(() => undefined)
      throw signal.reason
    } finally {
      signal?.removeEventListener('abort', retract)
    }
  }

  async #poll(request: LeaseRequest, waitMs: number): Promise<LeasedJob[]> {
    let sentAt = 0
    const jobs = await this.#workers.poll(request, waitMs, () => {
      sentAt = this.#clock.monotonic()
      this.#send() // what is over is heard before its worker asks for more
      for (const held of this.#held.values()) held.confirmed = true
      return [...new Set([...this.#held.values()].map(({ lease }) => this.#tokenOf(lease)))]
    })
    if (jobs.length > 0) setImmediate(() => this.#confirm())
    return this.#stillHeld(
      jobs.map((job) => this.#hold(job)),
      sentAt,
    )
  }

  /**
   * Of what was given, what is not yet over. Where a third of a lease has passed since it was asked for, the server is asked
   * first: else a handler would start although the network had kept the answer until another process had the job. Once: a
   * network that is always so slow would keep all handlers from starting.
   */
  async #stillHeld(jobs: LeasedJob[], askedAt: number): Promise<LeasedJob[]> {
    const passed = this.#clock.monotonic() - askedAt
    if (!jobs.some(({ visibilityTimeout }) => passed > visibilityTimeout / 3)) return jobs
    const given = jobs.map((job) => ({ job, held: this.#held.get(job.id)! }))
    const isHeld = ({ job, held }: (typeof given)[number]) => this.#held.get(job.id) === held
    await Promise.all(
      given.map(async (one) => {
        one.held.confirmed = true
        const asked = this.#report(one.job, { event: 'heartbeat' }, 'patient')
        await asked.catch(() => isHeld(one) && this.#held.delete(one.job.id))
        one.held.cancelled = false // no handler was there to hear it: the next renewal tells again
      }),
    )
    return given.filter(isHeld).map(({ job }) => job)
  }

  /** A worker whose slots are all taken asks for nothing: without this the server could not tell a crash from an answer that was lost. */
  #confirm(): void {
    for (const held of this.#held.values()) if (!held.confirmed) this.#renew(held)
  }

  #hold({ priority, payload, backoff, checkpoint, trace, token: text, ...job }: GivenJob): LeasedJob {
    const { id, queue, type, visibilityTimeout: visibility } = job
    const { epoch, number: token } = numberedBy(text)!
    this.#epoch = epoch
    const lease = { id, queue, type, token, epoch }
    const older = this.#held.get(id)?.lease.token
    if (older !== undefined && older !== token) this.#tell({ event: 'leaseLost', id, token: older }) // its handler has not heard yet
    this.#held.set(id, { lease, visibility, renewAt: this.#clock.monotonic() + visibility / 3, confirmed: false })
    return {
      ...job,
      ...{ token, epoch },
      priority: priorities.indexOf(priority),
      payload: JSON.stringify(payload),
      backoff: JSON.stringify(backoff),
      checkpoint: checkpoint === null ? null : JSON.stringify(checkpoint),
      trace: trace ? JSON.stringify(trace) : null,
    }
  }

  /** Reported until the server has heard of it, however long that takes; until then the lease is renewed. */
  #end(lease: Lease, told: Omit<Report, 'id' | 'token'>): Promise<unknown> {
    const reported = this.#report(lease, told, 'patient')
    const heard = () => {
      if (this.#held.get(lease.id)?.lease.token === lease.token) this.#held.delete(lease.id)
    }
    reported.then(heard, heard)
    return reported
  }

  #tokenOf({ token: number, epoch = this.#epoch }: Lease): string {
    return textOf({ epoch, number })
  }

  #report(lease: Lease, told: Omit<Report, 'id' | 'token'>, patience: Patience): Promise<unknown> {
    const { promise, resolve, reject } = Promise.withResolvers<never>()
    this.#enqueue({ report: { id: lease.id, token: this.#tokenOf(lease), ...told }, patience, resolve, reject })
    return promise
  }

  #enqueue(report: Pending): void {
    if (this.#pending.push(report) === 1) setImmediate(() => this.#send())
  }

  #send(): void {
    const pending = this.#pending
    this.#pending = []
    for (const patience of ['patient', 'brief'] as const)
      this.#sendAll(divided(pending.filter((one) => one.patience === patience)), patience)
  }

  /** One after the other: on a slow network, parts that share it would all be too slow, and be sent again for ever. */
  async #sendAll(parts: Pending[][], patience: Patience): Promise<void> {
    for (const part of parts) await this.#sendPart(part, patience)
  }

  async #sendPart(part: Pending[], patience: Patience): Promise<void> {
    try {
      const body = { reports: part.map(({ report }) => report) }
      const { answers } = await this.#client.call('report', { body }, patience)
      for (const [i, pending] of part.entries()) {
        const error = problemIn(answers[i])
        if (!error) pending.resolve(answers[i] as never)
        else if (patience === 'patient' && isAway(error)) this.#clock.timer(1000, () => this.#enqueue(pending))
        else pending.reject(error)
      }
    } catch (error) {
      for (const { reject } of part) reject(error)
    }
  }

  async #wait(id: number, signal: AbortSignal | undefined): Promise<Job> {
    for (;;) {
      const job = await this.#client.call('wait', { params: { id }, query: { waitMs: pollMs } }, 'patient', signal)
      if (job.finishedAt !== null) return job as Job
    }
  }

  /** Renews the leases of this process, each a third of its visibility timeout after the last time. */
  #beat(): void {
    this.#stopBeat?.()
    this.#stopBeat = this.#clock.timer(beat, () => {
      const now = this.#clock.monotonic()
      for (const held of this.#held.values()) {
        if (held.renewAt > now) continue
        held.renewAt = now + held.visibility / 3
        this.#renew(held)
      }
      if (this.#workers.size > 0 || this.#held.size > 0) this.#beat()
    })
  }

  #renew(held: Held): void {
    const { lease } = held
    const { id, token } = lease
    held.confirmed = true
    this.#report(lease, { event: 'heartbeat' }, 'brief').then(
      (answer) => {
        if ((answer as { cancelRequested: boolean }).cancelRequested)
          this.#tell({ event: 'cancelRequested', id, token })
      },
      (error) => {
        if (isQueueError(error) && error.code === 'LEASE_LOST') this.#tell({ event: 'leaseLost', id, token })
      },
    )
  }

  /** What is said of a lease is only for who holds it, once. */
  #tell(event: StoreEvent): void {
    if (event.event === 'health') this.health = event.health
    if (event.event === 'leaseLost' || event.event === 'cancelRequested') {
      const held = this.#held.get(event.id)
      if (held?.lease.token !== event.token || held.cancelled) return
      if (event.event === 'leaseLost') this.#held.delete(event.id)
      else held.cancelled = true
    }
    for (const listener of this.#listeners) listener(event)
  }

  async close(): Promise<void> {
    this.#stopBeat?.()
    this.#closing.abort()
    await this.#client.close()
  }
}

const isNotFound = (error: unknown): boolean => isQueueError(error) && error.code === 'NOT_FOUND'

function nullIfNotFound(error: unknown): null {
  if (isNotFound(error)) return null
  throw error
}

function problemIn(answer: unknown): GopherQueueError | null {
  if (typeof answer !== 'object' || answer === null || !('code' in answer)) return null
  return Client.errorOf(answer)
}
