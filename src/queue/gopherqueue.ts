import { AsyncLocalStorage } from 'node:async_hooks'
import { EventEmitter } from 'node:events'
import type { CustomBackoff } from '../model/backoff.ts'
import { type Clock, systemClock } from '../model/clock.ts'
import { invalid } from '../model/errors.ts'
import { type Attempt, checkId, checkName, type Job, type JobOptions } from '../model/job.ts'
import type { CauseFilter, CausePage, Fate, JobFilter, JobPage, QueuePage, Schedule, Stats, Store, StoreHealth } from '../store/store.ts' // biome-ignore format: one line
import type { Definition } from './definition.ts'
import { emitterOf, type QueueEvents, tellOf } from './events.ts'
import { healthOf } from './health.ts'
import { type Define, definitionOf, type Given, type JobType } from './jobtype.ts'
import { allSchedules, changeAll, type JobsFilter, type ManyOptions } from './many.ts'
import { checkCauses, checkFilter, type OpenOptions, type QueueOptions, queueSettings, type ScheduleOptions, type StopOptions, type WaitOptions, type WorkOptions } from './options.ts' // biome-ignore format: one line
import { storeAt } from './place.ts'
import { closeOn } from './signals.ts'
import { waitInHandler } from './starving.ts'
import type { GivenHandler } from './stored.ts'
import { type BulkOptions, makeSchedule, makeSubmission } from './submission.ts'
import { resultsOf, type SubmitResult, taskOf } from './task.ts'
import { mustNotBeInThread, Threads } from './threads.ts'
import { publishing } from './trace.ts'
import { type SubmitWith, submitWith } from './transaction.ts'
import { checkTypesOptions, type TypesOptions, type TypesReport, typesReport } from './types.ts'
import { waitForEnd, wholePage } from './wait.ts'
import { Worker } from './worker.ts'

/**
 * Durable background jobs in one SQLite file, and an EventEmitter of `QueueEvents`: `on` hears of what happens in this
 * process alone, and `wait` of the end of a job in any. See the README for a tour. Calls that reach
 * the file also throw CLOSED, STORAGE_UNAVAILABLE or STORAGE_CORRUPT, those that write STORAGE_FULL; all are
 * `GopherQueueError`s, and nothing took effect unless their `accepted` says otherwise.
 */
export class GopherQueue extends EventEmitter<QueueEvents> {
  readonly #store: Store
  readonly #clock: Clock
  readonly #definitions = new Map<string, Definition>()
  readonly #customBackoffs = new Map<string, CustomBackoff>()
  readonly #workers = new Set<Worker>()
  readonly #emit = emitterOf(this)
  readonly #listening: (() => void)[] = []
  #workersMade = 0

  /** Apps call `open`. @internal */
  constructor(store: Store, clock: Clock = systemClock) {
    super()
    this.#store = store
    this.#clock = clock
    store.onEvent((event) => tellOf(event, this.#emit, this.#workers))
  }

  /**
   * Opens the file at `place`, creating it if its folder exists. Opening is also the recovery after a crash. Several processes of
   * one host may have it open; ':memory:' is for tests and loses all with the process. `place` may also be the URL of a server
   * (`http://...`; throws also UNAUTHORIZED and FORBIDDEN) or of a PostgreSQL database (`postgres://...`). Throws INVALID_ARGUMENT, NOT_A_QUEUE,
   * TWO_SQLITES, SCHEMA_TOO_NEW, STORAGE_CORRUPT, STORAGE_FULL, STORAGE_UNAVAILABLE, ENGINE_TOO_OLD, UNSUPPORTED_FILESYSTEM, MOVED.
   */
  static async open(place: string, options: OpenOptions = {}): Promise<GopherQueue> {
    return new GopherQueue(await storeAt(place, options))
  }

  /** Names a type of job, its policy and, in processes that work, its handler: see `Define`. Throws INVALID_ARGUMENT. */
  readonly define = ((subject: string | JobType, first?: Given, second?: GivenHandler<never, unknown>) => {
    const [definition, replaces] = definitionOf(subject, first, second)
    const { type } = definition
    const before = this.#definitions.get(type)
    if (before && !replaces)
      throw invalid(`The type '${type}' is defined already; with { replace: true } this definition takes its place.`)
    const prepared = this.prepared(definition)
    this.#definitions.set(type, { ...prepared, handler: prepared.handler ?? before?.handler })
    for (const worker of this.#workers) worker.definitionsChanged()
    return taskOf(type, this)
  }) as Define

  /** What a queue for tests makes of a definition. @internal */
  protected prepared(definition: Definition): Definition {
    return definition
  }

  /** Gives this process's workers the function behind `backoff: { kind: 'custom', name }`. Throws INVALID_ARGUMENT. */
  defineBackoff(name: string, delay: CustomBackoff): void {
    if (typeof delay !== 'function') throw invalid(`The backoff '${name}' must be a function.`)
    this.#customBackoffs.set(name, delay)
  }

  /**
   * Stores a job; resolves when it is on disk. The payload is JSON, at most 1 MiB. Throws INVALID_ARGUMENT, INVALID_PAYLOAD,
   * PAYLOAD_TOO_LARGE, IDEMPOTENCY_CONFLICT, QUEUE_FULL, TOO_MANY_QUEUES, TOO_MANY_TYPES, OVERLOADED, STORAGE_FULL.
   */
  async submit(type: string, payload: unknown, options?: JobOptions): Promise<SubmitResult> {
    return (await this.submitMany(type, [payload], options))[0]!
  }

  /** Stores up to 10,000 jobs of a type (64 MiB of payloads), all or none, in the order given. Throws as `submit`. */
  async submitMany<Payload>(
    type: string,
    payloads: readonly Payload[],
    options?: BulkOptions<Payload>,
  ): Promise<SubmitResult[]> {
    if (payloads?.length === 0) return []
    const made = makeSubmission(type, this.#definitions.get(type), payloads, options)
    const submission = made instanceof Promise ? await made : made
    return resultsOf(await publishing(type, submission, (it) => this.#store.call('submit', it)))
  }

  /**
   * Stores a job inside the transaction that is open on `connection`, the app's own to the queue's file: it is committed
   * or rolled back with it. Without an open one, the job is on disk when this returns. Throws as `submit`, also
   * INVALID_ARGUMENT for a connection or schema that cannot be used so; what SQLite throws goes through as it is. In a
   * PostgreSQL database it takes a connection with an open transaction, and is a promise to be awaited before that ends; throws also KEY_BUSY.
   */
  readonly submitWith = ((connection: unknown, type: string, payload: unknown, options?: JobOptions) =>
    submitWith(this.#store, this.#definitions.get(type), connection, type, payload, options)) as SubmitWith

  /**
   * Submits a job of `type` at each tick of a cron line (five fields, or six with seconds first), once however many
   * processes work. Call it at each start: what the file holds under this name becomes what the code says; it stays
   * there, also without this call, until `removeSchedule`. At least one process has to work for ticks to be taken. Throws INVALID_ARGUMENT, INVALID_PAYLOAD, PAYLOAD_TOO_LARGE.
   */
  async schedule(name: string, cron: string, type: string, payload: unknown, options?: ScheduleOptions): Promise<void> {
    const settings = await makeSchedule(name, cron, type, this.#definitions.get(type), payload, options)
    await this.#store.call('setSchedule', settings)
  }

  /** All schedules by name, with their next and last ticks; `payloads` (default true) false leaves these out. Throws INVALID_ARGUMENT. */
  async schedules(options?: { payloads?: boolean }): Promise<Schedule[]> {
    return allSchedules(this.#store, options)
  }

  /** Stops a schedule's ticks; those that pass meanwhile are not made up for. Throws NOT_FOUND. */
  async pauseSchedule(name: string): Promise<void> {
    await this.#store.call('pauseSchedule', { name: checkName('schedule', name), paused: true })
  }

  /** Lets a schedule go on from its next tick. Throws NOT_FOUND. */
  async resumeSchedule(name: string): Promise<void> {
    await this.#store.call('pauseSchedule', { name: checkName('schedule', name), paused: false })
  }

  /** Deletes a schedule; jobs that it has submitted stay. Throws NOT_FOUND. */
  async removeSchedule(name: string): Promise<void> {
    await this.#store.call('removeSchedule', checkName('schedule', name))
  }

  /** Starts to lease jobs of the defined types and to run their handlers. Throws INVALID_ARGUMENT, also without a handler and in a handler's thread. */
  work(options: WorkOptions = {}): Worker {
    mustNotBeInThread()
    const context = AsyncLocalStorage.snapshot() as <T>(run: () => T) => T
    const [store, clock, customBackoffs] = [this.#store, this.#clock, this.#customBackoffs]
    const threads = new Threads(clock, store, (warning) => this.#emit('warning', warning))
    const around = { context, clock, customBackoffs, store, threads }
    const name = `${process.pid}-${++this.#workersMade}`
    const worker = new Worker(store, this.#definitions, options, name, around, this.#emit)
    this.#workers.add(worker)
    const settle = (ms: number) => this.#store.settleNow?.(ms)
    if (worker.stopOn.length > 0) this.#listening.push(closeOn(worker.stopOn, () => this.close(), settle))
    return worker
  }

  /** The job, or null when there is none with this id (never was, removed, pruned). Throws INVALID_ARGUMENT. */
  async job(id: number): Promise<Job | null> {
    return this.#store.call('job', checkId(id))
  }

  /** One page of jobs, newest first unless asked otherwise. Throws INVALID_ARGUMENT. */
  async jobs(filter: JobFilter = {}): Promise<JobPage> {
    return wholePage(this.#store, checkFilter(filter))
  }

  /**
   * How many jobs are dead, by the cause of their last error, those of most jobs first. Exact, and its cost does not grow with the
   * number of jobs. `retryAll({ cause })` and `jobs({ cause })` take what it names. Throws INVALID_ARGUMENT.
   */
  async deadLetters(filter: CauseFilter = {}): Promise<CausePage> {
    return this.#store.call('deadLetters', checkCauses(filter))
  }

  /**
   * The same of jobs that fail now: their last attempt failed, ran out of time or was lost and charged, and they have not ended
   * since. An outage is seen here long before jobs die of it. Throws INVALID_ARGUMENT.
   */
  async failing(filter: CauseFilter = {}): Promise<CausePage> {
    return this.#store.call('failing', checkCauses(filter))
  }

  /** Every attempt of a job, oldest first; empty for a job that is not there. Throws INVALID_ARGUMENT. */
  async history(id: number): Promise<Attempt[]> {
    return this.#store.call('attempts', checkId(id))
  }

  /**
   * Resolves with the job's result when it has succeeded, in whichever process. Throws JOB_FAILED when it ended dead or
   * cancelled (`details` is `{ state, reason, error }`, with the last attempt's error or null), WAIT_TIMEOUT, NOT_FOUND (also when the job has ended and is not
   * kept: `keepSucceeded`), INVALID_ARGUMENT.
   */
  async wait<Result = unknown>(id: number, options?: WaitOptions): Promise<Result> {
    const wait = () => waitForEnd(this.#store, this.#clock, checkId(id), options) as Promise<Result>
    const endsByItself = options?.timeout !== undefined || options?.signal !== undefined
    return endsByItself ? wait() : waitInHandler(this.#store, id, wait)
  }

  /** Ends a waiting job at once; a running one is asked to stop through its signal. `endLease`: ends one that was asked and does not stop; its handler may still run, unheard. Throws NOT_FOUND, INVALID_STATE. */
  async cancel(id: number, { endLease = false }: { endLease?: boolean } = {}): Promise<Fate> {
    return this.#store.call(endLease ? 'endLease' : 'cancel', checkId(id))
  }

  /** Makes a dead or cancelled job ready again with a fresh attempt budget; a deadline that has passed is removed. Throws NOT_FOUND, INVALID_STATE, KEY_TAKEN. */
  async retry(id: number): Promise<Fate> {
    return this.#store.call('retry', checkId(id))
  }

  /** Makes a job ready that waits for its time: a delay, a retry, or what its handler put off. Throws NOT_FOUND, INVALID_STATE. */
  async runNow(id: number): Promise<Fate> {
    return this.#store.call('runNow', checkId(id))
  }

  /** Deletes an ended job and its history. Throws NOT_FOUND, INVALID_STATE. */
  async remove(id: number): Promise<void> {
    await this.#store.call('remove', checkId(id))
  }

  /**
   * Cancels each job of a filter (`{}`: all) that has not ended; resolves with how many. Works in short steps, which hold nobody up; not one
   * transaction, so an error says how many jobs were changed before it. Throws INVALID_ARGUMENT.
   */
  async cancelAll(filter: JobsFilter, options?: ManyOptions): Promise<number> {
    return changeAll(this.#store, 'cancel', filter, options)
  }

  /** Retries each dead or cancelled job of a filter (`{}`: all), in steps as `cancelAll`; resolves with how many. Throws INVALID_ARGUMENT. */
  async retryAll(filter: JobsFilter, options?: ManyOptions): Promise<number> {
    return changeAll(this.#store, 'retry', filter, options)
  }

  /** Makes each job of a filter (`{}`: all) ready that waits for its time, in steps as `cancelAll`; resolves with how many. Throws INVALID_ARGUMENT. */
  async runAllNow(filter: JobsFilter, options?: ManyOptions): Promise<number> {
    return changeAll(this.#store, 'runNow', filter, options)
  }

  /** Deletes each ended job of a filter (`{}`: all) and its history, in steps as `cancelAll`; resolves with how many. Throws INVALID_ARGUMENT. */
  async removeAll(filter: JobsFilter, options?: ManyOptions): Promise<number> {
    return changeAll(this.#store, 'remove', filter, options)
  }

  /** Pauses a queue (default: 'default') for all processes, until `resume`: no more of its jobs start, those that run go on, and submissions are taken. Throws INVALID_ARGUMENT. */
  async pause(queue = 'default'): Promise<void> {
    await this.#store.call('setQueue', { queue: checkName('queue', queue), paused: true })
  }

  /** Ends the pause of a queue: its jobs are leased again. Default: the queue 'default'. Throws INVALID_ARGUMENT. */
  async resume(queue = 'default'): Promise<void> {
    await this.#store.call('setQueue', { queue: checkName('queue', queue), paused: false })
  }

  /** Sets a queue's limits and how long its ended jobs stay, all of it kept in the file; needs no job or definition first. Throws INVALID_ARGUMENT, TOO_MANY_QUEUES. */
  async configure(queue: string, options: QueueOptions): Promise<void> {
    await this.#store.call('setQueue', queueSettings(queue, options))
  }

  /** Counts of jobs by queue and state, workers, and jobs that nobody takes, as of now; the cost does not grow with the number of jobs. */
  async stats(): Promise<Stats> {
    return this.#store.call('stats', null)
  }

  /** A page of queues by name: the 1,000 after the name `after`; go on with `next` until it is null. Throws CLOSED. */
  async queues(after?: string): Promise<QueuePage> {
    return this.#store.call('queues', after === undefined ? {} : { after: checkName('queue', after) })
  }

  /** What happened to each type's jobs since an instant, with waiting and running times, kept in the file for 8 days. Throws INVALID_ARGUMENT. */
  async types(options: TypesOptions = {}): Promise<TypesReport> {
    return typesReport(this.#store, this.#clock, checkTypesOptions(options))
  }

  /** One sentence that says why a job is not running, or what became of it, and what happens next. Throws INVALID_ARGUMENT. */
  async why(id: number): Promise<string> {
    return this.#store.call('why', checkId(id))
  }

  /** The state of storage and of the work, with the causes of whatever is not well. Does not throw for what it reports. */
  async health(): Promise<StoreHealth> {
    const overdue = [...this.#workers].reduce((sum, worker) => sum + worker.overdue, 0)
    return healthOf(this.#store, this.#clock, overdue)
  }

  /** Stops this queue's workers as `worker.stop` does, then closes the file, also when that throws. Throws as `worker.stop`. */
  async close(options?: StopOptions): Promise<void> {
    try {
      await Promise.all([...this.#workers].map((worker) => worker.stop(options)))
    } finally {
      await this.#store.close() // also when what was to be written could not be
      for (const stopListening of this.#listening.splice(0)) stopListening()
    }
  }

  /** For `await using`: stops this queue's workers, which end what runs, and closes the file. Throws STORAGE_UNAVAILABLE. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }
}
