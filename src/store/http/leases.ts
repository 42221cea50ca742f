import { type Clock, inNextTurn } from '../../model/clock.ts'
import { overdueFor } from '../../model/company.ts'
import { isQueueError } from '../../model/errors.ts'
import { priorities } from '../../model/job.ts'
import { operations } from '../operations.ts'
import type { Lease, LeasedJob, StoreEvent } from '../store.ts'
import type { Answer, Report, ReportKind } from './calls.ts'
import type { Client } from './client.ts'
import { numberedBy, textOf } from './numbers.ts'
import { Reports } from './reports.ts'

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

/** How often to look whether leases are to be renewed. */
const beat = 250

/** The leases of this process at a server: renewed from here, and reported on. */
export class RemoteLeases {
  readonly #clock: Clock
  readonly #tell: (event: StoreEvent) => void
  readonly #reports: Reports
  readonly #held = new Map<number, Held>()
  /** Leases that are lost and whose handlers go on, and until when their jobs are not to start beside them. */
  readonly #goOn = new Map<string, { lease: Lease; until: number }>()
  #stopBeat: (() => void) | undefined
  /** Of the file that gave the last lease. */
  #epoch = ''

  /** `tell` hears of leases that are lost, and of handlers that are to stop. */
  constructor(client: Client, clock: Clock, tell: (event: StoreEvent) => void) {
    this.#clock = clock
    this.#tell = tell
    this.#reports = new Reports(client, clock)
  }

  /** Reports in the words of an operation. The end of an attempt is reported until the server has heard of it; until then its lease is renewed. */
  report(
    operation: ReportKind,
    input: Lease | { lease: Lease },
    patience = operations[operation].patience,
  ): Promise<unknown> {
    const { lease, ...told }: { lease: Lease } = 'lease' in input ? input : { lease: input }
    const text = inJson[operation]
    const value = text && { [text]: JSON.parse((told as Record<string, string>)[text]!) }
    const { retryAfter: ms = null } = told as { retryAfter?: number | null }
    const wait = ms !== null && { retryAfter: `${ms}ms` } // a Date may be far off, and a long delay as a number is taken for an instant
    const report = { id: lease.id, token: this.#tokenOf(lease), event: operation, ...told, ...value, ...wait } as Report
    const reported = this.#reports.add(report, patience)
    if (operation === 'settled') this.#goOn.delete(report.token)
    if (operations[operation].ends === null) return reported
    const heard = () => {
      if (this.#held.get(lease.id)?.lease.token === lease.token) this.#held.delete(lease.id)
    }
    reported.then(heard, heard)
    return reported
  }

  /** Tokens of all that is held, which is about to be named to the server: what is over is heard before. */
  name(): string[] {
    this.#reports.send()
    for (const held of this.#held.values()) held.confirmed = true
    return [...new Set([...this.#held.values()].map(({ lease }) => this.#tokenOf(lease)))]
  }

  /** Jobs whose handlers go on here by leases of another file than that of `epoch`: its server knows nothing of them. */
  goingOn(epoch: string): number[] {
    const now = this.#clock.monotonic()
    for (const [token, { until }] of this.#goOn) if (until <= now) this.#goOn.delete(token)
    const leases = [...this.#held.values(), ...this.#goOn.values()].map(({ lease }) => lease)
    return leases.filter((lease) => lease.epoch !== epoch).map(({ id }) => id)
  }

  /**
   * Of what was given, what is not yet over. Where a third of a lease has passed since it was asked for, the server is asked
   * first: else a handler would start although the network had kept the answer until another process had the job. Once: a
   * network that is always so slow would keep all handlers from starting.
   */
  async hold(answer: GivenJob[], askedAt: number): Promise<LeasedJob[]> {
    if (answer.length > 0) inNextTurn(() => this.#confirm())
    const jobs = answer.map((job) => this.#hold(job))
    const passed = this.#clock.monotonic() - askedAt
    if (!jobs.some(({ visibilityTimeout }) => passed > visibilityTimeout / 3)) return jobs
    const given = jobs.map((job) => ({ job, held: this.#held.get(job.id)! }))
    const isHeld = ({ job, held }: (typeof given)[number]) => this.#held.get(job.id) === held
    await Promise.all(
      given.map(async (one) => {
        one.held.confirmed = true
        const asked = this.report('heartbeat', one.job, 'patient')
        await asked.catch(() => isHeld(one) && this.#held.delete(one.job.id))
        one.held.cancelled = false // no handler was there to hear it: the next renewal tells again
      }),
    )
    return given.filter(isHeld).map(({ job }) => job)
  }

  #hold({ priority, payload, backoff, checkpoint, trace, token: text, ...job }: GivenJob): LeasedJob {
    const { id, queue, type, visibilityTimeout: visibility } = job
    const { epoch, number: token } = numberedBy(text)!
    this.#epoch = epoch
    const lease = { id, queue, type, token, epoch }
    const older = this.#held.get(id)?.lease.token
    if (older !== undefined && older !== token) this.hear({ event: 'leaseLost', id, token: older }) // its handler has not heard yet
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

  /** A worker whose slots are all taken asks for nothing: without this the server could not tell a crash from an answer that was lost. */
  #confirm(): void {
    for (const held of this.#held.values()) if (!held.confirmed) this.#renew(held)
  }

  #tokenOf({ token: number, epoch = this.#epoch }: Lease): string {
    return textOf({ epoch, number })
  }

  /** Renews the leases of this process, each a third of its visibility timeout after the last time, while there are some or `mayLease`. */
  beat(mayLease: () => boolean): void {
    this.#stopBeat?.()
    this.#stopBeat = this.#clock.timer(beat, () => {
      const now = this.#clock.monotonic()
      for (const held of this.#held.values()) {
        if (held.renewAt > now) continue
        held.renewAt = now + held.visibility / 3
        this.#renew(held)
      }
      if (mayLease() || this.#held.size > 0) this.beat(mayLease)
    })
  }

  #renew(held: Held): void {
    const { lease } = held
    const { id, token } = lease
    held.confirmed = true
    this.report('heartbeat', lease).then(
      (answer) => {
        if ((answer as Answer<'heartbeat'>).cancelRequested) this.hear({ event: 'cancelRequested', id, token })
      },
      (error) => {
        if (isQueueError(error) && error.code === 'LEASE_LOST') this.hear({ event: 'leaseLost', id, token })
      },
    )
  }

  /** A running job was asked to stop. */
  cancelled(id: number): void {
    const token = this.#held.get(id)?.lease.token
    if (token !== undefined) this.hear({ event: 'cancelRequested', id, token })
  }

  /** What is said of a lease is only for who holds it, once. */
  hear(event: StoreEvent): void {
    if (event.event === 'leaseLost' || event.event === 'cancelRequested') {
      const held = this.#held.get(event.id)
      if (held?.lease.token !== event.token || held.cancelled) return
      if (event.event === 'leaseLost') {
        this.#held.delete(event.id)
        const { lease } = held
        this.#goOn.set(this.#tokenOf(lease), { lease, until: this.#clock.monotonic() + overdueFor })
      } else held.cancelled = true
    }
    this.#tell(event)
  }

  close(): void {
    this.#stopBeat?.()
  }
}

/** What a store has as JSON texts and the API as values. */
const inJson: Partial<Record<ReportKind, string>> = { succeed: 'result', checkpoint: 'state' }
