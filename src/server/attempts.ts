import { parseBackoff } from '../model/backoff.ts'
import type { Clock, Instant } from '../model/clock.ts'
import { delayMs } from '../model/duration.ts'
import { GopherQueueError } from '../model/errors.ts'
import { priorities } from '../model/job.ts'
import { fromJson } from '../model/json.ts'
import { cut, describe } from '../queue/evidence.ts'
import type { Answer, Report, ReportKind, Told } from '../store/http/calls.ts'
import { type Numbered, numberedBy, textOf } from '../store/http/numbers.ts'
import { operations } from '../store/operations.ts'
import type { Fate, Input, Lease, LeasedJob, LeaseRequest, Store } from '../store/store.ts'
import { jsonOf } from './body.ts'
import type { Hub } from './hub.ts'
import { largeText, turns } from './large.ts'
import { Stored } from './text.ts'

interface Ended extends Lease {
  startedAt: Instant
}
interface Running extends Ended {
  epoch: string
  /** This server has not given it, and it ran when it was looked at. */
  isNew: boolean
}

/** What workers on the network run: jobs are given here, and reports come in. */
export class Attempts {
  readonly #store: Store
  readonly #clock: Clock
  readonly #hub: Hub
  readonly #running = new Map<number, Running>()

  constructor(store: Store, clock: Clock, hub: Hub) {
    this.#store = store
    this.#clock = clock
    this.#hub = hub
  }

  /** Its lease is over, and somebody else reports no end. */
  lost(id: number, token: number): void {
    if (this.#running.get(id)?.token === token) this.#running.delete(id)
  }

  /** Its queue and type: known from its lease, unless this server was not there then. */
  async #leaseOf(id: number, { epoch, number: token }: Numbered): Promise<Running> {
    const known = this.#running.get(id)
    if (known?.token === token && known.epoch === epoch) return known
    const job = await this.#store.call('job', id)
    const { queue = '', type = '', startedAt } = job ?? {}
    return { id, token, epoch, queue, type, startedAt: startedAt ?? this.#clock.now(), isNew: job?.state === 'running' }
  }

  async report({ id, token, event, ...told }: Report): Promise<unknown> {
    const given = numberedBy(token)
    if (!given)
      throw new GopherQueueError(
        'LEASE_LOST',
        `'${token}' is no token of a lease. Nothing of this report was taken: send the token of the job as 'leases' gave it, all of its text.`,
      )
    const { isNew, ...lease } = await this.#leaseOf(id, given)
    const input = inputs[event](lease, told as never)
    const answer = await this.#store.call(event, input, undefined, undefined, lease.epoch)
    const isPutOff = 'kind' in told && told.kind === 'postpone'
    if (operations[event].ends !== null) this.#ended(isPutOff ? 'postpone' : event, lease, isNew, answer as Fate)
    return answer
  }

  /** A report that is sent again tells nobody anything. */
  #ended(by: ReportKind | 'postpone', { id, queue, type, token, startedAt }: Ended, isNew: boolean, fate: Fate): void {
    const isFirst = this.#running.get(id)?.token === token ? this.#running.delete(id) : isNew
    if (!isFirst) return
    const later = by === 'postpone' ? 'postponed' : 'retrying'
    const event = told[by] ?? (fate.state === 'scheduled' ? later : fate.state)
    this.#hub.tell(event, { id, queue, type, ...fate, runMs: Math.max(0, this.#clock.now() - startedAt) })
  }

  /** False for a job whose payload, by plain SQL, would reach its worker as another: it ends here, as at a worker of the library. */
  #mayGo(job: LeasedJob): boolean {
    try {
      fromJson('payload', job.payload)
      if (job.checkpoint !== null) JSON.parse(job.checkpoint) // of a damaged file
      return true
    } catch (fault) {
      const error = describe(fault)
      this.#store.call('fail', { lease: job, kind: 'permanent', error, retryAfter: null }).then(
        (fate) => this.#ended('fail', job, false, fate),
        () => undefined, // its lease ends by itself
      )
      return false
    }
  }

  /** Those that may go. Looked at in turns of the event loop: several megabytes of JSON would be one long stop. */
  async #lookedAt(jobs: LeasedJob[]): Promise<LeasedJob[]> {
    const given: LeasedJob[] = []
    let taken = 0
    for (const job of jobs) {
      taken += job.payload.length + (job.checkpoint?.length ?? 0)
      if (taken >= largeText) {
        taken = 0
        await turns.next()
      }
      if (this.#mayGo(job)) given.push(job)
    }
    return given
  }

  /** Asks for jobs until there are some, or `until` ends it; what is given is known to be given. */
  async poll(
    { epoch }: Numbered,
    request: LeaseRequest,
    until: (end: () => void) => () => void,
  ): Promise<{ jobs: LeasedJob[]; replaced: boolean }> {
    const ask = (own: LeaseRequest, signal?: AbortSignal) => this.#store.call('lease', own, signal, undefined, epoch)
    let replaced = true
    let answered = false
    let waiting: Promise<LeasedJob[]> | undefined
    const stop = until(async () => {
      // Not taken back, which could cross with jobs on their way, but replaced by a request that gets none.
      replaced = false
      await this.#store.call('job', 0).catch(() => undefined) // once it has been tried
      if (answered) return
      const done = new AbortController()
      ask({ ...request, slots: 0 }, done.signal).catch(() => undefined)
      waiting?.finally(() => done.abort()).catch(() => undefined)
    })
    try {
      waiting = replaced ? ask(request) : Promise.resolve([]) // its client may be gone already
      const jobs = await waiting
      answered = true
      for (const { id, queue, type, token, startedAt } of jobs)
        this.#running.set(id, { id, queue, type, token, startedAt, epoch, isNew: false })
      return { jobs: await this.#lookedAt(jobs), replaced: jobs.length === 0 && replaced }
    } finally {
      answered = true
      stop()
    }
  }
}

/** What listeners hear of an end that is not told by the state of the job. */
const told: Partial<Record<ReportKind | 'postpone', string>> = { succeed: 'succeeded', release: 'released' }

/** What reports say, in the store's words. */
const inputs: { [K in ReportKind]: (lease: Lease, told: Told<K>) => Input<K> } = {
  succeed: (lease, { result, warning }) => ({
    ...{ lease, result: jsonOf('result', result) },
    ...(warning != null && { warning: cut(warning) }),
  }),
  fail(lease, { kind = 'temporary', error, retryAfter, goesOn = false }) {
    const { name = 'Error', message = 'The worker gave no reason.', stack = null } = error ?? {}
    return {
      ...{
        lease,
        kind,
        goesOn,
        retryAfter: retryAfter == null ? null : delayMs(retryAfter, 'retryAfter', 'Give the time until then.'),
      },
      error: { name: cut(name), message: cut(message), stack: stack === null ? null : cut(stack) },
    }
  },
  release: (lease) => lease,
  settled: (lease) => lease,
  heartbeat: (lease) => lease,
  progress: (lease, { percent, message }) => ({ lease, percent, message: message == null ? null : cut(message) }),
  checkpoint: (lease, { state }) => ({ lease, state: jsonOf('checkpoint', state) }),
}

/** A leased job as a worker on the network gets it. */
export function publicJob(
  { id, token, priority, payload, backoff, checkpoint, trace, ...job }: LeasedJob,
  epoch: string,
): Answer<'lease'>['jobs'][number] {
  return {
    ...{ id, token: textOf({ epoch, number: token }) },
    ...job,
    priority: priorities[priority]!,
    payload: new Stored(payload),
    backoff: parseBackoff(backoff),
    checkpoint: checkpoint === null ? null : new Stored(checkpoint),
    trace: trace === null ? null : JSON.parse(trace),
  }
}
