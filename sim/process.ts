import { Engine } from '../src/store/sqlite/commit.ts'
import { connect } from '../src/store/sqlite/connection.ts'
import type { Reply, Request } from '../src/store/sqlite/request.ts'
import type { Input, Lease, LeasedJob, Operation, Source, StoreEvent } from '../src/store/store.ts'
import { type Call, type Moment, must } from './checker.ts'
import { Faults, FaultyDb } from './faults.ts'
import type { Snapshot } from './file.ts'
import type { Machine } from './machine.ts'

/** How long the engine waits for a lock. */
const patience = 10_000
/** A call that takes longer than planned by this much is as if the process had stood still. */
const leastGap = 1000
/** More than that and a look's time: a gap to whoever looks next, in ms. */
export const sureGap = 1500
/** How long a handler that runs on keeps its job from starting beside it. */
const overdueFor = 30_000

/** A handler that runs. */
export interface Handler {
  worker: SimulatedWorker
  lease: LeasedJob
  cancelRequested: boolean
  /** When it was first seen that its lease is lost, by the monotonic clock. */
  lostAt?: number
  /** When it kills its process, on the monotonic clock: a poison job. */
  killsAt: number
}

/** What the model has to know of a process to judge what becomes of its leases. All times in ms. */
export interface Life {
  isAlive: boolean
  /** On the monotonic clock; infinity while it lives. */
  diedAt: number
  /** Since when it stands still, on the monotonic clock; infinity while it goes on. */
  stoppedAt: number
  /** For how long it stood still in all. */
  stopped: number
  /** For how long it went on, and waited for nothing. */
  watched: number
  /** For how long it looked as often as planned: from one look to the next, where that was at most a second. */
  attended: number
  /** The same, when its call began that is being judged. */
  attendedBefore: number
  /** When its next look was planned last. */
  plannedAt: number
  /** Of what it watched, while nobody held the lock for long: then it can renew. */
  free: number
  /** When it met a fault last: then it could not renew. */
  faultyAt: number
  /** It has begun to stop. */
  isStopping: boolean
  /** A handler whose attempt is over may run in it: then more ran beside a job than leases say. */
  hasOverdue: boolean
}

export const newLife = (): Life => ({
  ...{ isAlive: true, diedAt: Number.POSITIVE_INFINITY, stoppedAt: Number.POSITIVE_INFINITY, faultyAt: -1 },
  ...{ stopped: 0, watched: 0, attended: 0, attendedBefore: 0, plannedAt: 0, free: 0 },
  ...{ isStopping: false, hasOverdue: false },
})

/** A pool of slots that asks as src/queue/worker.ts does. */
export interface SimulatedWorker {
  id: number | null
  /** Seq of its registration while that waits. */
  registering: number | null
  sources: Source[]
  slots: number
  running: Handler[]
  /** Handlers that still run although their attempt is over, and until when that keeps their jobs from starting here. */
  overdue: { lease: LeasedJob; until: number }[]
  /** Seq of the request for jobs that waits. */
  asked: number | null
  /** Slots that it asked for. */
  free: number
}

/** After so many transactions in a row that each followed a gap, the next one takes leases: else a slow disk would keep all. */
const mostGapsInARow = 5

/** One process: the real engine, and a stand-in for the app and the workers around it. */
export class SimulatedProcess {
  readonly pid: number
  readonly faults: Faults
  readonly workers: SimulatedWorker[]
  /** Not yet given to the engine. */
  outbox: Request[] = []
  /** All that waits for an answer, by seq. */
  readonly asked = new Map<number, Request>()
  /** Leases whose handlers ran here and have ended: nobody else can say that they have. */
  readonly #ended = new WeakSet<Lease>()
  /** On the monotonic clock. */
  asleepUntil = 0
  stopping = false
  readonly life = newLife()
  /** One of its calls has begun and has not returned: others act within it. */
  inCall = false
  /** It waits for the lock. */
  isWaiting = false
  /** How long it has waited for the lock in this call. */
  waited = 0
  /** More than a second has gone by unplanned since its last write. */
  afterGap = false
  /** This call has committed: nobody acts within what is left of it, so that what it changed is known for its own. */
  sealed = false
  /** Others have acted within this call. */
  interrupted = false
  #lockedAt: Moment[] = []
  #lockedAfterGap = false
  /** Of its transactions in a row, how many may have followed a gap. */
  #gapsInARow = 0
  /** Ms that have passed since the last of them while it could do nothing, and before that: a gap within one also opens the next. */
  #unplanned = 0
  #unplannedBefore = 0
  readonly #machine: Machine
  #engine: Engine | undefined
  #db: FaultyDb | undefined
  /** All that it has opened: one that dies while it reconnects holds two. */
  readonly #opened: FaultyDb[] = []
  #isPlanned = false
  #lookedAt = 0
  #inCallFor = 0
  #lastSeq = 0
  #wasSound = true

  constructor(pid: number, machine: Machine, workers: { sources: Source[]; slots: number }[]) {
    this.pid = pid
    this.#machine = machine
    this.faults = new Faults(machine.counts)
    this.workers = workers.map((worker) => {
      return { ...worker, id: null, registering: null, running: [], overdue: [], asked: null, free: 0 }
    })
  }

  get awake(): boolean {
    return this.asleepUntil <= this.#machine.clock.monotonic()
  }

  /** It can be called: it is not stopped, and not within a call. */
  get isFree(): boolean {
    return this.awake && !this.inCall && !this.faults.dead
  }

  get holdsLock(): boolean {
    return this.#db?.holdsLock ?? false
  }

  get handlers(): Handler[] {
    return this.workers.flatMap(({ running }) => running)
  }

  get status(): string {
    if (!this.#engine) return 'closed'
    const { status, causes } = this.#engine.health
    return causes.every(({ code }) => code === 'CLOCK_SET_BACK') ? 'ok' : status // the clock is no fault of the store
  }

  /** Opens the file; that is the recovery. */
  open(): Call {
    const { path, disk, clock, random, rewrite, alive, kept } = this.#machine
    const me = { host: 'here', pid: this.pid, pid_started: `${this.pid}`, boot: 'once', pid_space: 'one' }
    const isAlive = (row: { pid: number | null }) => this.#isAlive(row.pid!)
    const watch = {
      between: (sql: string) => this.#machine.between(this.pid, sql),
      began: () => {
        this.#lockedAt.push(this.#moment)
        this.#gapsInARow = this.afterGap || this.#unplanned + this.#unplannedBefore > 1000 ? this.#gapsInARow + 1 : 0
        this.#unplannedBefore = this.#unplanned
        this.#unplanned = 0
        this.#lockedAfterGap ||= this.afterGap && this.#gapsInARow <= mostGapsInARow
        this.afterGap = false
      },
      committed: () => {
        this.sealed = true
      },
    }
    const create = () =>
      new FaultyDb({ path, clock, processes: { me, isAlive } }, { faults: this.faults, disk, random, rewrite, watch })
    alive.add(this.pid)
    return this.#call('open', () => {
      this.#engine = new Engine(path, clock, {
        ...{ disk, diskReserve: 2 ** 26 },
        open: (at, time) => {
          const known = this.#db ? undefined : kept?.get(this.pid)?.reuse(this.faults, watch)
          this.#db = known ?? (connect(at, time, create) as FaultyDb)
          this.#opened.push(this.#db)
          kept?.set(this.pid, this.#db)
          return this.#db
        },
      })
      return []
    })
  }

  /** Gives the engine what waits for it, or the first `most` of it. */
  execute(most = Number.POSITIVE_INFINITY): Call {
    const requests = this.outbox.splice(0, most)
    return this.#call('execute', () => this.#engine!.execute(requests), requests.length > 0)
  }

  /** It has not looked for so long that it would take itself to have stood still. */
  get mustLook(): boolean {
    return this.#machine.clock.monotonic() - this.#lookedAt > 400
  }

  tick(): Call {
    this.#lookedAt = this.#machine.clock.monotonic()
    return this.#call('tick', () => this.#engine!.tick())
  }

  /** Whether the engine would be called now. */
  get ticks(): boolean {
    return Number.isFinite(this.#engine!.tickIn(20))
  }

  ask<K extends Operation>(operation: K, input: Input<K>, epoch?: string): number {
    const seq = ++this.#lastSeq
    const request = { seq, operation, input, epoch }
    this.outbox.push(request)
    this.asked.set(seq, request)
    return seq
  }

  /** Each worker registers, and leaves one request for jobs while it has a free slot. */
  askForJobs(): void {
    for (const worker of this.workers) {
      if (this.stopping) continue
      const { id, sources, slots, running } = worker
      const now = this.#machine.clock.monotonic()
      const free = slots - worker.overdue.filter(({ until }) => until > now).length
      if (id === null) {
        worker.registering ??= this.ask('register', { name: `p${this.pid}`, sources, slots })
      } else if (running.length < free && (worker.asked === null || free > worker.free)) {
        worker.free = free // a new request replaces one for fewer slots
        worker.asked = this.ask('lease', { worker: id, sources, slots: free, exclude: [] })
      }
    }
  }

  /** The handler is done: its slot is free at once. */
  report(
    handler: Handler,
    how: 'succeed' | 'temporary' | 'permanent' | 'timeout' | 'postpone' | 'release',
    goesOn = false,
  ): void {
    const { worker, lease } = handler
    worker.running.splice(worker.running.indexOf(handler), 1)
    const error = { name: 'Error', message: how, stack: null }
    const retryAfter = how === 'postpone' ? this.#machine.random.pick([0, 2000, 60_000]) : null
    if (!goesOn) this.#ended.add(lease)
    if (how === 'succeed') this.ask('succeed', { lease, result: '{}' })
    else if (how === 'release') this.ask('release', lease)
    else this.ask('fail', { lease, kind: how, error, retryAfter, goesOn })
  }

  /** Its attempt is over, and it runs on. */
  goesOn({ worker, lease }: Handler): void {
    worker.overdue.push({ lease, until: this.#machine.clock.monotonic() + overdueFor })
    this.life.hasOverdue = true
  }

  /** One of those that ran on is done. */
  settles(): void {
    const done = this.workers.find(({ overdue }) => overdue.length > 0)?.overdue.shift()
    if (done) this.ask('settled', done.lease)
  }

  /** Time has passed. `isGap`: it is part of a time in which all stood, for so long that it is a gap to each. */
  passed(ms: number, lockIsHeld: boolean, allStand = false, isGap = false): void {
    if (isGap) this.afterGap = true
    if (this.inCall) this.#inCallFor += ms
    if (allStand || this.inCall || !this.awake) this.#unplanned += ms
    if (allStand || !this.awake || (this.inCall && !this.isWaiting)) this.life.stopped += ms
    else if (!this.inCall) {
      this.life.watched += ms
      if (!lockIsHeld) this.life.free += ms
    }
    if (this.awake && this.asleepUntil > 0) this.wake()
  }

  /** Nothing goes on in it for so long. */
  sleep(ms: number): void {
    this.life.stoppedAt = this.#machine.clock.monotonic()
    this.asleepUntil = this.life.stoppedAt + ms
  }

  wake(): void {
    if (this.#machine.clock.monotonic() - this.life.stoppedAt > sureGap) this.afterGap = true
    this.asleepUntil = 0
    this.life.stoppedAt = Number.POSITIVE_INFINITY
  }

  /** After a look at the file: each handler whose lease was lost has been told. */
  mustKnow({ jobs }: Snapshot): void {
    if (this.stopping) return
    const now = this.#machine.clock.monotonic()
    for (const handler of this.handlers) {
      const { lease } = handler
      const row = jobs.get(lease.id)
      if ((row?.state === 'running' && row.token === lease.token) || lease.queue === 'w') continue
      handler.lostAt ??= now
      must(now - handler.lostAt < 1000, 'a process hears of each lease that it lost', () => ({
        at: [handler.lostAt, now],
        pid: this.pid,
        lease,
        row,
      }))
    }
  }

  /** Takes no more jobs, gives back what runs, and closes when that is on disk. */
  stop(): void {
    this.stopping = true
    this.life.isStopping = true
    for (const { id } of this.workers) if (id !== null) this.ask('stopping', id)
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
    this.life.isAlive = false
    this.life.diedAt = Math.min(this.life.diedAt, this.#machine.clock.monotonic())
    const open = this.#opened.map(({ connection }) => connection).filter(({ isOpen }) => isOpen)
    if (!this.inCall && !this.#machine.kept) for (const connection of open) connection.close()
    else for (const one of open) if (one.isTransaction) one.exec('ROLLBACK') // closed when its call returns
  }

  /** SIGKILL, at this moment. */
  kill(): void {
    this.faults.strike('kill')
    this.end()
  }

  #killsAt({ payload }: LeasedJob): number {
    const { poison } = JSON.parse(payload) as { poison?: number }
    return poison === undefined ? Number.POSITIVE_INFINITY : this.#machine.clock.monotonic() + poison
  }

  #isAlive(pid: number): boolean | null {
    const { alive, canTell } = this.#machine
    return canTell || pid === this.pid ? alive.has(pid) : null
  }

  /** What its call has taken so far counts, unless that is as long as if it had stood still. */
  get #moment(): Moment {
    const { clock } = this.#machine
    const ofCall = this.inCall && this.#inCallFor <= leastGap ? this.#inCallFor : 0
    return { now: clock.now(), elapsed: clock.monotonic(), watched: this.life.watched + ofCall }
  }

  /** One call of the engine; whatever comes of a crash is heard by nobody. */
  #call(kind: Call['kind'], work: () => Reply[], isOfApp = false): Call {
    const next = this.outbox[0]?.seq ?? Number.POSITIVE_INFINITY
    const asked = [...this.asked.values()].filter(({ seq }) => seq < next)
    const { clock } = this.#machine
    const wasSound = this.#wasSound
    this.faults.struck = false
    const { foundFaulty } = this.#machine.disk
    Object.assign(this, { inCall: true, sealed: false, interrupted: false, waited: 0 })
    this.#lockedAt = []
    this.#lockedAfterGap = false
    this.#inCallFor = 0
    this.life.attendedBefore = this.life.attended
    let replies: Reply[] = []
    let events: StoreEvent[] = []
    try {
      replies = work()
      events = this.#engine!.events.splice(0)
    } catch (error) {
      if (!this.faults.struck && !this.#machine.isNewer) throw error
    } finally {
      this.inCall = false
      if (this.#inCallFor <= leastGap) this.life.watched += this.#inCallFor
    }
    if (this.waited > patience - 100) this.faults.struck = true
    const afterGap = this.#lockedAfterGap
    if (!this.sealed && kind !== 'tick') this.afterGap ||= afterGap
    this.#expect(kind)
    this.#wasSound = !this.faults.dead && this.status === 'ok' && !this.faults.struck
    const faulty = !wasSound || !this.#wasSound
    const { full, gone, foundFaulty: foundSince } = this.#machine.disk
    const isDisk = full || gone || foundSince > foundFaulty
    must(
      !faulty || !wasSound || this.faults.struck || isDisk || this.#machine.isNewer,
      'only a fault degrades a store',
      () => this.pid,
    )
    if (faulty) this.life.faultyAt = clock.monotonic()
    if (this.faults.dead) [replies, events] = [[], []]
    if (this.#lockedAt.length === 0) this.#lockedAt.push(this.#moment)
    const moments = this.#lockedAt.filter(({ now }, i, all) => now !== all[i - 1]?.now)
    return {
      kind,
      pid: this.pid,
      asked,
      replies,
      events,
      faulty,
      ...moments.at(-1)!,
      moments,
      ended: clock.monotonic(),
      afterGap,
      interrupted: this.interrupted,
      isOfApp,
    }
  }

  /** As the storage thread does: the next look is planned, unless it is already. */
  #expect(kind: Call['kind']): void {
    if (!this.#engine || this.faults.dead || (kind === 'execute' && this.#isPlanned)) return
    const now = this.#machine.clock.monotonic()
    const { plannedAt } = this.life
    if (now - plannedAt <= leastGap) this.life.attended += now - plannedAt
    this.life.plannedAt = now
    const wait = this.#engine.tickIn(20)
    this.#isPlanned = Number.isFinite(wait)
    if (this.#isPlanned) this.#engine.expect(wait)
  }

  /** Hands out what the engine said. */
  hear({ replies, events }: Call): void {
    for (const event of events) this.#happened(event)
    for (const reply of replies) {
      const { operation, input } = this.asked.get(reply.seq)!
      this.asked.delete(reply.seq)
      if ('error' in reply && reply.error.code === 'LEASE_LOST' && (operation === 'succeed' || operation === 'fail')) {
        const { lease } = input as { lease: Lease }
        if (this.#ended.has(lease)) this.ask('settled', lease) // one that goes on says so when it has ended
      }
      const asker = operation === 'lease' ? (input as Input<'lease'>).worker : null
      const worker = this.workers.find(
        ({ id, registering }) => registering === reply.seq || (id !== null && id === asker),
      )
      if (!worker) continue
      if (operation === 'register') {
        worker.registering = null
        if ('value' in reply) worker.id = reply.value as number
        continue
      }
      if (worker.asked === reply.seq) worker.asked = null // else a newer request waits
      if ('error' in reply && reply.error.code === 'WORKER_UNKNOWN') worker.id = null
      if ('value' in reply)
        for (const lease of reply.value as LeasedJob[]) {
          this.#mustNotRun(lease)
          worker.running.push({ worker, lease, cancelRequested: false, killsAt: this.#killsAt(lease) })
        }
    }
  }

  #happened(event: StoreEvent): void {
    if (event.event !== 'leaseLost' && event.event !== 'cancelRequested') return
    const handler = this.handlers.find(({ lease }) => lease.id === event.id && lease.token === event.token)
    if (!handler) return
    if (event.event === 'cancelRequested') {
      handler.cancelRequested = true
      return
    }
    handler.worker.running.splice(handler.worker.running.indexOf(handler), 1)
    if (this.#machine.random.chance(0.7))
      this.goesOn(handler) // it does not heed its signal at once
    else this.ask('settled', handler.lease)
  }

  /** Another handler of the same job, whose attempt is over, still runs here. */
  #mustNotRun({ id }: LeasedJob): void {
    const now = this.#machine.clock.monotonic()
    const beside = [
      ...this.handlers.filter(({ lease }) => lease.id === id),
      ...this.workers.flatMap(({ overdue }) => overdue.filter(({ lease, until }) => lease.id === id && until > now)),
    ]
    must(beside.length === 0, 'no attempt starts beside a handler of its job in the same process', () => [this.pid, id])
  }
}
