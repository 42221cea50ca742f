import { Engine, type Reply, type Request } from '../src/store/sqlite/commit.ts'
import { connect } from '../src/store/sqlite/connection.ts'
import type { Db } from '../src/store/sqlite/db.ts'
import type { Input, LeasedJob, Operation, Source, StoreEvent } from '../src/store/store.ts'
import { type Call, must } from './checker.ts'
import { Faults, FaultyDb } from './faults.ts'
import type { Machine } from './machine.ts'

/** A handler that runs. */
export interface Handler {
  worker: SimulatedWorker
  lease: LeasedJob
  cancelRequested: boolean
  /** Its lease is gone; it may not know, or not care. */
  lost: boolean
}

/** A pool of slots that asks as src/queue/worker.ts does. */
export interface SimulatedWorker {
  id: number | null
  /** Seq of its registration while that waits. */
  registering: number | null
  sources: Source[]
  slots: number
  running: Handler[]
  /** Jobs whose timed-out handler still runs. */
  overdue: number[]
  /** Seq of the request for jobs that waits. */
  asked: number | null
}

/** One process: the real engine, and a stand-in for the app and the workers around it. */
export class SimulatedProcess {
  readonly pid: number
  readonly faults: Faults
  readonly workers: SimulatedWorker[]
  /** Not yet given to the engine. */
  outbox: Request[] = []
  /** All that waits for an answer, by seq. */
  readonly asked = new Map<number, Request>()
  /** On the monotonic clock. */
  asleepUntil = 0
  stopping = false
  readonly #machine: Machine
  #engine: Engine | undefined
  #db: Db | undefined
  #lastSeq = 0
  #wasSound = true

  constructor(pid: number, machine: Machine, workers: { sources: Source[]; slots: number }[]) {
    this.pid = pid
    this.#machine = machine
    this.faults = new Faults(machine.counts)
    this.workers = workers.map((worker) => {
      return { ...worker, id: null, registering: null, running: [], overdue: [], asked: null }
    })
  }

  get awake(): boolean {
    return this.asleepUntil <= this.#machine.clock.monotonic()
  }

  get handlers(): Handler[] {
    return this.workers.flatMap(({ running }) => running)
  }

  get status(): string {
    return this.#engine?.health.status ?? 'closed'
  }

  /** Opens the file; that is the recovery. */
  open(): Call {
    const { path, disk, clock, random, rewrite, alive } = this.#machine
    const me = { host: 'here', pid: this.pid, pid_started: `${this.pid}`, boot: 'once', pid_space: 'one' }
    const isAlive = (row: { pid: number | null }) => this.#isAlive(row.pid!)
    const create = () =>
      new FaultyDb({ path, clock, processes: { me, isAlive } }, { faults: this.faults, disk, random, rewrite })
    alive.add(this.pid)
    return this.#call('open', () => {
      this.#engine = new Engine(path, clock, {
        ...{ disk, diskReserve: 2 ** 26 },
        open: (at, time) => {
          this.#db = connect(at, time, create)
          return this.#db
        },
      })
      return []
    })
  }

  /** Gives the engine what waits for it, or the first `most` of it. */
  execute(most = Number.POSITIVE_INFINITY): Call {
    const requests = this.outbox.splice(0, most)
    return this.#call('execute', () => this.#engine!.execute(requests))
  }

  tick(): Call {
    return this.#call('tick', () => this.#engine!.tick())
  }

  /** Whether the engine would be called now. */
  get ticks(): boolean {
    return Number.isFinite(this.#engine!.tickIn(20))
  }

  ask<K extends Operation>(operation: K, input: Input<K>): number {
    const seq = ++this.#lastSeq
    this.outbox.push({ seq, operation, input })
    this.asked.set(seq, { seq, operation, input })
    return seq
  }

  /** Each worker registers, and leaves one request for jobs while it has a free slot. */
  askForJobs(): void {
    for (const worker of this.workers) {
      if (this.stopping) continue
      const { id, sources, slots, running, overdue } = worker
      if (id === null) {
        worker.registering ??= this.ask('register', { name: `p${this.pid}`, sources, slots })
      } else if (worker.asked === null && running.length < slots - overdue.length)
        worker.asked = this.ask('lease', { worker: id, sources, slots: slots - overdue.length, exclude: [...overdue] })
    }
  }

  /** The handler is done: its slot is free at once. */
  report(handler: Handler, how: 'succeed' | 'temporary' | 'permanent' | 'timeout' | 'release'): void {
    const { worker, lease } = handler
    worker.running.splice(worker.running.indexOf(handler), 1)
    const [error, retryAfter] = [{ name: 'Error', message: how, stack: null }, null]
    if (how === 'succeed') this.ask('succeed', { lease, result: '{}' })
    else if (how === 'release') this.ask('release', lease)
    else this.ask('fail', { lease, kind: how, error, retryAfter })
  }

  /** Takes no more jobs, gives back what runs, and closes when that is on disk. */
  stop(): void {
    this.stopping = true
    for (const { id } of this.workers) if (id !== null) this.ask('unregister', id)
  }

  /** All that it was asked to write before its end is written. */
  get stopped(): boolean {
    return this.stopping && ![...this.asked.values()].some(({ operation }) => operation === 'unregister')
  }

  /** Ends it, in order or by a crash: what it wrote without COMMIT is gone, and so is what it waited for. */
  end(): void {
    this.#machine.alive.delete(this.pid)
    this.faults.dead = true
    if (this.#db?.connection.isOpen) this.#db.connection.close()
  }

  #isAlive(pid: number): boolean | null {
    const { alive, canTell } = this.#machine
    return canTell || pid === this.pid ? alive.has(pid) : null
  }

  /** One call of the engine; whatever comes of a crash is heard by nobody. */
  #call(kind: Call['kind'], work: () => Reply[]): Call {
    const next = this.outbox[0]?.seq ?? Number.POSITIVE_INFINITY
    const asked = [...this.asked.values()].filter(({ seq }) => seq < next)
    const { clock } = this.#machine
    const wasSound = this.#wasSound
    this.faults.struck = false
    let replies: Reply[] = []
    let events: StoreEvent[] = []
    try {
      replies = work()
      events = this.#engine!.events.splice(0)
    } catch (error) {
      if (!this.faults.struck) throw error
    }
    this.#wasSound = !this.faults.dead && this.status === 'ok' && !this.faults.struck
    const faulty = !wasSound || !this.#wasSound
    const { full, gone } = this.#machine.disk
    must(!faulty || !wasSound || this.faults.struck || full || gone, 'only a fault degrades a store', () => this.pid)
    if (this.faults.dead) [replies, events] = [[], []]
    const isAlive = (pid: number) => this.#isAlive(pid)
    return {
      kind,
      pid: this.pid,
      asked,
      replies,
      events,
      faulty,
      now: clock.now(),
      elapsed: clock.monotonic(),
      isAlive,
    }
  }

  /** Hands out what the engine said. */
  hear({ replies, events }: Call): void {
    for (const reply of replies) {
      const { operation } = this.asked.get(reply.seq)!
      this.asked.delete(reply.seq)
      const worker = this.workers.find(({ asked, registering }) => asked === reply.seq || registering === reply.seq)
      if (!worker) continue
      if (operation === 'register') {
        worker.registering = null
        if ('value' in reply) worker.id = reply.value as number
        continue
      }
      worker.asked = null
      if ('value' in reply)
        for (const lease of reply.value as LeasedJob[])
          worker.running.push({ worker, lease, cancelRequested: false, lost: false })
    }
    for (const event of events) {
      if (event.event !== 'leaseLost' && event.event !== 'cancelRequested') continue
      const handler = this.handlers.find(({ lease }) => lease.id === event.id && lease.token === event.token)
      if (!handler) continue
      if (event.event === 'leaseLost') handler.lost = true
      else handler.cancelRequested = true
    }
  }
}
