import { randomUUID } from 'node:crypto'
import { toMs } from '../model/duration.ts'
import { GopherQueueError, isQueueError } from '../model/errors.ts'
import { checkNames } from '../model/names.ts'
import type { Fate, LeasedJob, Source, Store } from '../store/store.ts'
import { Attempt, type Surroundings } from './attempt.ts'
import type { Definition } from './definition.ts'
import { Differences } from './differences.ts'
import type { Emit } from './events.ts'
import { describe } from './evidence.ts'
import { type StopOptions, type WorkOptions, workSettings } from './options.ts'
import { Overdue } from './overdue.ts'
import { inTime, Refusals, Reports } from './reports.ts'
import type { Outcome } from './result.ts'
import { Sources } from './sources.ts'
import { Starving } from './starving.ts'

/** A worker, as `queue.work` starts it: takes at most `concurrency` jobs at a time, runs their handlers, and stores what they come to. */
export class Worker {
  /** Its name in `stats`, job histories and the dashboard. */
  readonly name: string
  /** Most handlers that it runs at once. */
  readonly concurrency: number
  /** Signals at which its queue closes, as `work` was told; empty for none. */
  readonly stopOn: readonly NodeJS.Signals[]
  readonly #store: Store
  readonly #definitions: ReadonlyMap<string, Definition>
  readonly #patience: { grace: number; afterAbort: number }
  readonly #sources: Sources
  #changing = false
  readonly #around: Surroundings
  readonly #emit: Emit
  #id: number | undefined
  /** Names it for the store: signed on again, since a failed answer hid that it was, it is no second worker. */
  readonly #request = randomUUID()
  #registration: Promise<void> | undefined
  #asking = 0
  #stopping = false
  #signedOff = false
  readonly #running = new Set<Attempt>()
  readonly #overdue: Overdue
  readonly #reports: Reports
  readonly #refusals: Refusals
  readonly #differences: Differences
  #onIdle: (() => void) | undefined
  #stopped: Promise<void> | undefined
  #hurried = false
  #hurry: (() => void) | undefined

  /** @internal */
  constructor(
    store: Store,
    definitions: ReadonlyMap<string, Definition>,
    options: WorkOptions,
    defaultName: string,
    around: Omit<Surroundings, 'starving'>,
    emit: Emit,
  ) {
    const { name, concurrency, queues, stopOn, grace, afterAbort } = workSettings(options, defaultName)
    this.name = name
    this.concurrency = concurrency
    this.stopOn = stopOn
    this.#patience = { grace, afterAbort }
    const warn = (warning: GopherQueueError) => emit('warning', warning)
    this.#sources = new Sources(definitions, queues, { worker: name, store, clock: around.clock, warn })
    this.#store = store
    this.#definitions = definitions
    const slots = () => concurrency - this.#overdue.slots
    const pool = { name, sources: () => this.#sources.list, slots, handlers: this.#running }
    this.#around = { ...around, starving: new Starving(pool, store, around.clock, warn) }
    this.#emit = emit
    this.#reports = new Reports(emit)
    this.#refusals = new Refusals(name, around.clock, emit)
    this.#differences = new Differences(warn)
    this.#overdue = new Overdue(around.clock, () => {
      if (!this.#stopping) this.#ask()
    })
    this.#register()
    this.#sources.look(() => this.#registerChanged())
  }

  /** The queues and types that it takes jobs of now. Queues that match a pattern of `queues` are among them about a second after their first job. */
  get sources(): readonly Source[] {
    return this.#sources.list
  }

  /** How many handlers it runs now. */
  get running(): number {
    return this.#running.size
  }

  /** How many of its handlers still run although their attempt is over, as they have not heeded `context.signal`. */
  get overdue(): number {
    return this.#overdue.size
  }

  /**
   * Takes no more jobs, waits for running handlers, gives the rest back uncharged, and resolves when all of that is on disk.
   * A second call with `drain: false` ends the first one's waiting. Throws INVALID_ARGUMENT, and STORAGE_UNAVAILABLE when
   * storage has not taken its last word within 10 s.
   */
  stop(options: StopOptions = {}): Promise<void> {
    checkNames('option of stop', options, ['drain', 'grace'])
    const { drain = true, grace = this.#patience.grace } = options
    const wait = toMs(grace, 'grace')
    if (!drain) {
      this.#hurried = true
      this.#hurry?.()
    }
    this.#stopped ??= this.#stop(drain ? wait : 0)
    return this.#stopped
  }

  /** The store says that a running job was cancelled, or that its lease is gone. @internal */
  tell(event: 'cancelRequested' | 'leaseLost', id: number, token: number): void {
    for (const attempt of this.#running) {
      if (attempt.lease.id !== id || attempt.lease.token !== token) continue
      if (event === 'cancelRequested') attempt.cancel()
      else attempt.lose(`The lease on job ${id} is over: another attempt decides.`)
    }
  }

  /** Takes jobs of what its queue defines by now, also in the rows that operators see. @internal */
  definitionsChanged(): void {
    this.#sources.update()
    this.#registerChanged()
  }

  #registerChanged(): void {
    if (this.#changing) return // one registration for all that a program defines at once
    this.#changing = true
    void this.#registration?.then(() => {
      this.#changing = false
      if (this.#id !== undefined && !this.#stopping) this.#register()
    })
  }

  #register(): void {
    const { name, concurrency } = this
    const known = this.#id === undefined ? {} : { known: this.#id }
    const registration = { name, sources: this.#sources.list, slots: concurrency, request: this.#request, ...known }
    this.#registration = this.#store.call('register', registration).then(
      (id) => {
        this.#id = id
        this.#ask()
      },
      (error) => this.#tryLater('sign on', error, () => this.#register()),
    )
  }

  /** Somebody has signed it off, or the file is another one; of several requests the last does it. */
  #registerAgain(): void {
    this.#sources.forget()
    if (this.#asking === 0 && !this.#stopping) this.#register()
  }

  #tryLater(failed: string, error: unknown, again: () => void): void {
    if (this.#stopping || (isQueueError(error) && error.code === 'CLOSED')) return
    this.#refusals.tell(failed, error)
    this.#around.clock.timer(1000, again)
  }

  /** Leaves one request with the store, unless all slots are taken. A new one replaces it. */
  #ask(): void {
    const slots = this.#stopping ? 0 : this.concurrency - this.#overdue.slots
    const sources = this.#sources.list
    if (this.#id === undefined || sources.length === 0 || (this.#running.size >= slots && !this.#stopping)) return
    this.#asking++
    this.#store.call('lease', { worker: this.#id, sources, slots, exclude: [] }).then(
      (jobs) => {
        this.#asking--
        for (const job of jobs) this.#start(job)
        this.#askAgain()
      },
      (error) => {
        this.#asking--
        if (isQueueError(error) && error.code === 'WORKER_UNKNOWN') this.#registerAgain()
        else this.#tryLater('ask for jobs', error, () => this.#askAgain())
      },
    )
  }

  #askAgain(): void {
    if (this.#asking === 0 && !this.#stopping) this.#ask()
  }

  #start(leased: LeasedJob): void {
    if (this.#signedOff) return // it went back with the rest
    if (this.#stopping) {
      this.#reports.send(this.#store.call('release', leased)) // arrived after the last word
      return
    }
    let attempt: Attempt
    try {
      const definition = this.#definitions.get(leased.type)!
      this.#differences.look(leased, definition)
      attempt = new Attempt(leased, definition, this.#around)
    } catch (fault) {
      // The file holds a payload that is no JSON: it was damaged, or written past the checks.
      this.#reports.send(
        this.#store.call('fail', { lease: leased, kind: 'permanent', error: describe(fault), retryAfter: null }),
      )
      return
    }
    this.#running.add(attempt)
    this.#emit('started', attempt.job)
    attempt.start(
      (outcome) => this.#finish(attempt, outcome),
      () => this.#overdue.ended(attempt, () => this.#mayStartAgain(attempt)),
    )
  }

  /** Its slot is free at once: the outcome and the next lease travel in one message. */
  #finish(attempt: Attempt, outcome: Outcome): void {
    this.#running.delete(attempt)
    if (!attempt.settled) this.#overdue.add(attempt)
    this.#report(attempt, outcome)
    if (this.#running.size === 0) this.#onIdle?.()
    if (attempt.settled) this.#askAgain()
    else if (!this.#stopping) this.#ask() // in place of a request that waits for a slot too many
  }

  #mayStartAgain({ lease }: Attempt): void {
    this.#store.call('settled', lease).catch(() => undefined) // else it may after 30 s
  }

  #report(attempt: Attempt, outcome: Outcome): void {
    const { lease, job, settled } = attempt
    const onLeaseLost = () => {
      if (outcome.kind !== 'released') this.#emit('leaseLost', job) // else it went back before
      if (attempt.settled) this.#mayStartAgain(attempt) // one that goes on says so when it has ended
    }
    const send = (report: Promise<Fate>, onDisk: (fate: Fate) => void) =>
      this.#reports.send(report, onDisk, onLeaseLost)
    switch (outcome.kind) {
      case 'lost':
        this.#emit('leaseLost', job)
        break
      case 'released':
        send(this.#store.call('release', lease), () => this.#emit('released', job))
        break
      case 'succeeded': {
        const { result, warning } = outcome
        if (warning !== null) this.#emit('warning', new GopherQueueError('INVALID_RESULT', `Job ${job.id}: ${warning}`, { accepted: 'yes' })) // biome-ignore format: long
        const success = { lease, result, ...(warning !== null && { warning }) }
        send(this.#store.call('succeed', success), () => this.#emit('succeeded', job, result, warning))
        break
      }
      default: {
        const { kind, error, retryAfter } = outcome
        send(this.#store.call('fail', { lease, kind, error, retryAfter, goesOn: !settled }), (fate) => {
          if (fate.state === 'dead' || fate.state === 'cancelled') this.#emit(fate.state, job, error, fate)
          else if (kind === 'postpone') this.#emit('postponed', job, fate)
          else this.#emit('retrying', job, error, fate) // perhaps it has been already
        })
      }
    }
  }

  async #stop(wait: number): Promise<void> {
    const last = (work: Promise<void> | undefined) => inTime(this.#around.clock, this.name, work)
    this.#stopping = true
    this.#sources.stop()
    this.#around.starving.stop()
    if (this.#id === undefined) await last(this.#registration)
    if (this.#id !== undefined) this.#store.call('stopping', this.#id).catch(() => undefined) // else a kill counts as a crash
    this.#ask() // for no slots: replaces the request that waits
    if (wait > 0 && !this.#hurried) await this.#idle(wait)
    for (const attempt of this.#running) attempt.giveBack()
    await this.#idle(this.#patience.afterAbort)
    await this.#around.threads.close()
    try {
      await last(this.#signOff())
    } finally {
      this.#signedOff = true
      for (const attempt of this.#running) attempt.lose('The worker has stopped.')
      this.#overdue.stop()
    }
  }

  async #signOff(): Promise<void> {
    await this.#reports.stored()
    this.#signedOff = true
    if (this.#id !== undefined) await this.#store.call('unregister', this.#id) // with it goes back what still runs
  }

  /** Resolves when no handler runs, after `most` ms, or when a second stop is in a hurry. */
  #idle(most: number): Promise<void> {
    if (this.#running.size === 0) return Promise.resolve()
    return new Promise((resolve) => {
      const cancel = this.#around.clock.timer(most, resolve)
      const done = () => {
        cancel()
        resolve()
      }
      this.#onIdle = done
      this.#hurry = done
    })
  }
}
