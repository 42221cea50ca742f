import { setTimeout as nap, setImmediate as turn } from 'node:timers/promises'
import { type Duration, type Instant, systemClock } from '../model/clock.ts'
import { toMs } from '../model/duration.ts'
import { invalid } from '../model/errors.ts'
import { checkNames } from '../model/names.ts'
import { type Definition, type Handler, handlerOf } from '../queue/definition.ts'
import { GopherQueue } from '../queue/gopherqueue.ts'
import type { StopOptions, WaitOptions, WorkOptions } from '../queue/options.ts'
import { checkTimers } from '../queue/place.ts'
import { awaitable } from '../queue/result.ts'
import type { Worker } from '../queue/worker.ts'
import { connect } from '../store/sqlite/connection.ts'
import { Db } from '../store/sqlite/db.ts'
import type { Processes } from '../store/sqlite/processes.ts'
import { VirtualClock } from './clock.ts'
import { type Run, runs, waiting } from './handlers.ts'
import { EngineStore } from './store.ts'
import { transcribe } from './transcript.ts'

/** What `testQueue` takes. */
export interface TestQueueOptions {
  /** The instant at which the test starts (Unix ms or Date). Default 2030-01-01T00:00Z, a Tuesday. */
  now?: Instant | Date
  /** Most handlers that `drain` and `advance` run at once, for an app that has not called `work`. Default 10. */
  concurrency?: number
  /** How long (ms or '10s', of real time) `drain` and `advance` wait for a handler that does real I/O before they throw. Default 4 s. */
  patience?: Duration
}

/** Ended jobs stay for the test to look at; a queue that `configure` gives other times than the defaults has those. */
const keepEnded = `CREATE TEMP TRIGGER keep_ended AFTER INSERT ON main.gq_queues BEGIN
  UPDATE gq_queues
  SET keep_succeeded = NULLIF(keep_succeeded, 86400000), keep_cancelled = NULLIF(keep_cancelled, 604800000)
  WHERE name = NEW.name;
END`

/** The only process there is. */
const alone: Processes = {
  me: { host: 'test', pid: null, pid_started: null, boot: null, pid_space: null },
  isAlive: () => true,
}

function openFor(clock: VirtualClock): Db {
  const db = connect(':memory:', clock, () => new Db(':memory:', clock, alone))
  db.connection.exec(keepEnded)
  return db
}

const forEver = '36500d'

/** The real engine and the real workers, in memory and on a virtual clock: made by `testQueue`. */
export class TestQueue extends GopherQueue {
  /** Its time, for code of the test that needs it too; `advance` moves it. */
  readonly clock: VirtualClock
  readonly #store: EngineStore
  readonly #start: Instant
  readonly #concurrency: number
  readonly #patience: number
  readonly #workers = new Set<Worker>()
  readonly #runs = new Set<Run>()
  #appWorks = false
  #gaveUp = false

  /** As `testQueue`. @internal */
  constructor(options: TestQueueOptions = {}) {
    checkTimers()
    checkNames('option of testQueue', options, ['now', 'concurrency', 'patience'])
    const { now, concurrency = 10, patience = '4s' } = options
    if (now !== undefined && Number.isNaN(Number(now)))
      throw invalid(`now must be a Date or Unix milliseconds; got ${now}.`)
    const clock = new VirtualClock(now === undefined ? now : Number(now))
    const store = new EngineStore(':memory:', clock, () => openFor(clock))
    super(store, clock)
    this.clock = clock
    this.#store = store
    this.#start = clock.now()
    this.#concurrency = concurrency
    this.#patience = toMs(patience, 'patience')
  }

  /** @internal */
  protected override prepared(definition: Definition): Definition {
    const { handler } = definition
    if (!handler) return definition
    return { ...definition, handler: this.#followed(handler instanceof URL ? inThisThread(handler) : handler) }
  }

  /** From here on only the app's own workers run jobs, and at once. Without it jobs run in `drain` and `advance`, and only there. */
  override work(options?: WorkOptions): Worker {
    this.#appWorks = true
    return this.#work(options)
  }

  override wait<Result = unknown>(id: number, options?: WaitOptions): Promise<Result> {
    return waiting(super.wait<Result>(id, options))
  }

  /**
   * Runs what is ready, and what that makes ready, until nothing is ready or running; scheduled jobs stay. Time passes
   * only as far as running handlers wait for it with `slow` or `sleep`. Throws INVALID_ARGUMENT when no definition has a
   * handler, and an Error when a handler takes longer than `patience` of real time.
   */
  async drain(): Promise<void> {
    await this.#working(async () => {
      while (this.#running() > 0 && (await this.#step(Number.POSITIVE_INFINITY)));
    })
  }

  /**
   * Lets time pass (ms, or '7d'), from one instant at which something happens to the next: each retry, tick, timeout and
   * deadline has its own, and handlers run in between. Throws as `drain`.
   */
  async advance(duration: Duration): Promise<void> {
    const end = this.clock.monotonic() + toMs(duration)
    await this.#working(async () => {
      while (await this.#step(end - this.clock.monotonic()));
      this.#store.advance(end - this.clock.monotonic())
      await this.#settle()
    })
  }

  /**
   * Every job that is there with all its attempts as text, in the order of submission, with instants since the start. It
   * is the same each time, byte for byte, if handlers are: real I/O in several at once may end in any order.
   */
  async transcript(): Promise<string> {
    const lines: string[] = []
    let cursor: number | null = null
    do {
      const page = await this.jobs({ order: 'oldest', limit: 1000, cursor })
      const histories = await Promise.all(page.jobs.map(({ id }) => this.history(id)))
      for (const [i, job] of page.jobs.entries()) lines.push(`${transcribe(job, histories[i]!, this.#start)}\n`)
      cursor = page.next
    } while (cursor !== null)
    return lines.join('')
  }

  /** Lets running handlers end, or aborts them if `drain` is false; the time that they take for it passes at once. */
  override async close(options: StopOptions = {}): Promise<void> {
    let open = true
    const closed = super.close(options).finally(() => {
      open = false
    })
    closed.catch(() => undefined) // thrown below
    this.#gaveUp ||= options.drain === false
    while (open) {
      await (this.#gaveUp ? turn() : this.#settle().catch(turn)) // one that hangs: its timeout will pass
      if (open && Number.isFinite(this.clock.untilTimer)) this.clock.advance(this.clock.untilTimer)
    }
    await closed
  }

  #work(options?: WorkOptions): Worker {
    const worker = super.work(options)
    this.#workers.add(worker)
    return worker
  }

  /** Does something while a worker takes jobs. What its handlers have not ended then goes on when time does. */
  async #working(act: () => Promise<void>): Promise<void> {
    const own = this.#appWorks ? null : this.#work({ name: 'test', concurrency: this.#concurrency })
    try {
      await this.#settle()
      this.#store.tick()
      await this.#settle()
      await act()
    } finally {
      void own?.stop({ grace: forEver }).finally(() => this.#workers.delete(own))
      await turn()
    }
  }

  /** Lets time pass to the next instant at which something happens; false when that is not within `ms`. */
  async #step(ms: number): Promise<boolean> {
    const next = Math.min(this.clock.untilTimer, this.#store.untilDue)
    if (next > ms || next === Number.POSITIVE_INFINITY) return false
    this.#store.advance(next)
    await this.#settle()
    return true
  }

  /** Waits until no handler is left that could go on without more time: by then the store, which needs none, has answered all. */
  async #settle(): Promise<void> {
    const begun = systemClock.monotonic()
    await turn()
    for (let turns = 1; this.#isBusy(); turns++) {
      this.#gaveUp = systemClock.monotonic() - begun > this.#patience
      if (this.#gaveUp) throw this.#tooLong()
      await (turns < 100 ? turn() : nap(1)) // real I/O: no need to burn a core for it
    }
  }

  /** A handler is awake, or a payload's validator. */
  #isBusy(): boolean {
    return this.#runs.size < this.#running() || [...this.#runs].some(({ waits }) => waits === 0)
  }

  #running(): number {
    return [...this.#workers].reduce((sum, { running }) => sum + running, 0)
  }

  #tooLong(): Error {
    const names = [...this.#runs].filter(({ waits }) => waits === 0).map(({ job }) => `'${job.type}' (job ${job.id})`)
    return new Error(
      `The handler of ${names.join(', ') || 'a job'} has not ended within ${this.#patience} ms of real time. Let it wait with slow() or sleep(), which take virtual time, or give testQueue more patience.`,
    )
  }

  /** The handler, with its runs known: what they wait for is theirs alone. */
  #followed(handler: Handler<unknown, unknown>): Handler<unknown, unknown> {
    return async (job, context) => {
      const run: Run = { job, clock: this.clock, waits: 0 }
      this.#runs.add(run)
      try {
        return await runs.run(run, async () => awaitable(handler(job, context)))
      } finally {
        this.#runs.delete(run)
      }
    }
  }
}

/** A module's handler without a thread: those know nothing of virtual time. */
const inThisThread =
  (file: URL): Handler<unknown, unknown> =>
  async (job, context) =>
    handlerOf(await import(file.href), file.href)(job, context)

/**
 * A queue for tests: in memory, on a virtual clock, empty. The app takes it in place of the one that `GopherQueue.open`
 * gives. Throws INVALID_ARGUMENT.
 */
export function testQueue(options?: TestQueueOptions): TestQueue {
  return new TestQueue(options)
}
