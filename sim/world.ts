import { GopherQueueError } from '../src/model/errors.ts'
import type { Input, Lease } from '../src/store/store.ts'
import { type Call, Checker, must } from './checker.ts'
import { SimulatedDisk } from './faults.ts'
import { File } from './file.ts'
import { happen, happenOnce } from './happen.ts'
import { type Machine, SimulatedClock } from './machine.ts'
import { Meanwhile } from './meanwhile.ts'
import { type Life, SimulatedProcess, sureGap } from './process.ts'
import { Random } from './random.ts'
import { RemoteProcess } from './remote.ts'
import { Tenures } from './tenures.ts'
import { call as callLine } from './trace.ts'
import { allLines, anyFlavour, anyWorkers, type Flavour, type Incident, incidents } from './workload.ts'

const mostProcesses = 4
/** How long a process that goes on does not look, at most; more is as if it had stood still. In ms. */
const longestUnseen = 500
/** In which everything must have come to an end once all faults are over. */
const patience = 12 * 3_600_000

/** One machine through one seed: what happens next is drawn, done by the real engines, and checked. */
export class World {
  readonly trace: string[] = []
  readonly counts: Record<string, number> = {}
  readonly random: Random
  readonly clock = new SimulatedClock()
  readonly path: string
  readonly machine: Machine
  readonly file: File
  readonly checker: Checker
  readonly tenures: Tenures
  readonly meanwhile: Meanwhile
  readonly flavour: Flavour
  readonly incident: Incident | null
  processes: SimulatedProcess[] = []
  readonly remotes: RemoteProcess[]
  /** By pid, of those that have ended too. */
  readonly #lives = new Map<number, Life>()
  #lastPid = 0
  /** Leases that were ever told: whoever had them may report late. */
  readonly leases: { lease: Lease; epoch: string }[] = []
  readonly submissions: Input<'submit'>[] = []
  payload = 0
  healAt = 0
  #broken: { error: unknown } | undefined
  step = 0

  constructor(seed: number, path: string, rewrite = (sql: string) => sql) {
    this.random = new Random(seed)
    this.path = path
    const [random, clock, counts] = [this.random, this.clock, this.counts]
    const alive = new Set<number>()
    const canTell = random.chance(0.8)
    this.incident = incidents[seed % 20] ?? null
    this.flavour = anyFlavour(random, this.incident)
    this.remotes = Array.from({ length: this.flavour.remotes }, (_, i) => {
      return new RemoteProcess(`far${i}`, random, () => this.file.epoch, [
        ...anyWorkers(random, this.flavour),
        ...anyWorkers(random, this.flavour),
      ])
    })
    const between = (pid: number, sql: string) => {
      const process = this.processes.find((one) => one.pid === pid)
      if (process) this.meanwhile.between(process, sql)
    }
    this.machine = {
      path,
      random,
      clock,
      counts,
      alive,
      canTell,
      rewrite,
      between,
      isNewer: false,
      disk: new SimulatedDisk(),
    }
    this.meanwhile = new Meanwhile(this)
    this.file = new File(path)
    this.tenures = new Tenures((worker) => this.#lifeOf(worker), this.#lives)
    this.checker = new Checker(this.file, this.tenures)
  }

  run(steps: number): void {
    this.meanwhile.odds = this.flavour.odds
    this.start()
    for (this.step = 1; this.step <= steps; this.step++) {
      if (this.incident) happenOnce[this.incident][this.step]?.(this)
      this.#next()
    }
    if (this.machine.isNewer) happenOnce.newer[150]!(this)
    this.meanwhile.calm()
    this.#recover()
    this.#drain()
    this.checker.finish()
  }

  close(): void {
    this.meanwhile.calm()
    for (const process of this.processes) process.end()
    this.file.close()
  }

  #lifeOf(worker: number): { holder: string; life: Life } {
    const pid = this.file.pidOf(worker)
    if (pid === null) {
      const remote = this.remotes.find(({ host }) => host === this.file.hostOf(worker))!
      return { holder: remote.host, life: remote.life }
    }
    return { holder: `${pid}`, life: this.#lives.get(pid)! }
  }

  #next(): void {
    const { random } = this
    if (this.healAt === this.step) this.heal()
    const free = this.processes.filter((process) => process.isFree)
    const process = random.pick(free.length > 0 ? free : this.processes)
    if (!process) this.start()
    else if (!process.isFree) this.advance(5000)
    else this.#acts(process)
  }

  /** Somebody else does something, while that one is within a call. */
  othersAct(within: SimulatedProcess): void {
    const free = this.processes.filter((process) => process.isFree && process !== within)
    const process = this.random.pick(free)
    if (process) this.#acts(process)
    else this.advance(250)
  }

  #acts(process: SimulatedProcess): void {
    process.askForJobs()
    if (process.stopped) this.end(process, 'stopped')
    else happen[this.random.weighted(this.flavour.weights)](this, process)
  }

  /** `crash`: also in the middle of its recovery. */
  start(crash: number | null = null, workers = anyWorkers(this.random, this.flavour)): void {
    if (this.processes.length >= mostProcesses) return
    if (this.random.chance(0.7) && !this.meanwhile.isWithinCall) this.file.checkpoint()
    const process = new SimulatedProcess(++this.#lastPid, this.machine, workers)
    this.#lives.set(process.pid, process.life)
    this.processes.push(process)
    process.faults.crash = crash
    this.#call(process, () => process.open())
    if (process.faults.dead) return
    if (process.status === 'closed') this.end(process, 'could not open')
    else this.call(process, 'tick')
  }

  /** Time passes, and each process that goes on looks every so often. */
  advance(ms: number, pieces = Math.max(250, ms / 40), odds = 0.95): void {
    for (let left = ms; left > 0 && !this.meanwhile.someoneGetsTheLock; left -= pieces) {
      this.pass(Math.min(left, pieces))
      for (const process of [...this.processes])
        if (process.isFree && process.ticks && (this.random.chance(odds) || process.mustLook))
          this.call(process, 'tick')
      for (const remote of this.remotes) remote.act(this.processes, this.clock.elapsed, this.random.chance(0.05))
    }
  }

  /** Time passes and nobody does anything, but what was to come with it. If it is long, all have stood still. */
  pass(ms: number): void {
    const allStand = ms > longestUnseen
    for (let left = Math.ceil(ms); left > 0; ) {
      const kills = this.processes.flatMap((process) => process.handlers.map(({ killsAt }) => killsAt))
      const next = Math.min(this.meanwhile.next, ...kills.filter((at) => at > this.clock.elapsed))
      const step = Math.max(1, Math.min(left, next - this.clock.elapsed))
      this.clock.wall += step
      this.clock.elapsed += step
      left -= step
      const held = this.meanwhile.lockIsHeld
      for (const process of this.processes) process.passed(step, held, allStand, ms > sureGap)
      for (const remote of this.remotes) remote.passed(step, held || allStand)
      this.meanwhile.passed()
      for (const process of [...this.processes]) this.#poisoned(process)
    }
  }

  #poisoned(process: SimulatedProcess): void {
    const culprit = process.handlers.find(({ killsAt }) => killsAt <= this.clock.elapsed)
    if (!culprit || !process.awake || process.faults.dead) return
    this.counts.poisoned = (this.counts.poisoned ?? 0) + 1
    this.log(`p${process.pid} dies of job ${culprit.lease.id}`)
    const slots = process.workers.reduce((sum, worker) => sum + worker.slots, 0)
    this.kill(process)
    this.checker.poisoned(culprit.lease.id, slots)
  }

  call(process: SimulatedProcess, kind: 'execute' | 'tick', most?: number): void {
    this.#call(process, () => (kind === 'tick' ? process.tick() : process.execute(most)))
  }

  /** A rule that was broken within another's call goes through that engine, which must not take it for its own. */
  #call(process: SimulatedProcess, work: () => Call): void {
    try {
      this.#called(process, this.meanwhile.within(process, work))
    } catch (error) {
      this.#broken ??= { error }
    }
    if (this.#broken) throw this.#broken.error
  }

  #called(process: SimulatedProcess, call: Call): void {
    this.counts.calls = (this.counts.calls ?? 0) + 1
    const line = callLine(call, process.faults.dead)
    if (line) this.log(line)
    if (this.machine.isNewer) this.checker.mustBeAsItWas()
    else this.#checked(process, call)
    if (process.faults.dead) this.end(process, 'crashed')
  }

  #checked(process: SimulatedProcess, call: Call): void {
    this.checker.check(call)
    for (const reply of call.replies) {
      if ('error' in reply) must(reply.error instanceof GopherQueueError, 'errors have codes', () => reply)
      else if (call.asked.find(({ seq }) => seq === reply.seq)?.operation === 'lease')
        this.leases.push(...(reply.value as Lease[]).map((lease) => ({ lease, epoch: this.file.epoch })))
    }
    process.hear(call)
    for (const remote of this.remotes) remote.hear(process, call.replies)
    if (call.kind === 'tick' && !call.faulty && !call.interrupted) process.mustKnow(this.checker.now)
  }

  /** SIGKILL. */
  kill(process: SimulatedProcess): void {
    process.faults.strike('kill')
    this.end(process, 'killed')
  }

  end(process: SimulatedProcess, how: string): void {
    const isThere = this.processes.includes(process)
    if (isThere) this.checker.silent(`${process.pid}`, this.clock.elapsed)
    process.end()
    if (!isThere) return
    this.processes.splice(this.processes.indexOf(process), 1)
    this.log(`p${process.pid} ${how}`)
  }

  heal(): void {
    this.machine.disk.full = false
    this.machine.disk.gone = false
    this.machine.disk.room = 0
    for (const { faults } of this.processes) faults.io = 0
  }

  /** Recovery twice equals recovery once, whatever the state of the file. */
  #recover(): void {
    this.heal()
    if (this.random.chance(0.5)) for (const process of [...this.processes]) this.end(process, 'killed')
    const digests: string[] = []
    for (let i = 0; i < 2; i++) {
      const process = new SimulatedProcess(++this.#lastPid, this.machine, [])
      this.#lives.set(process.pid, process.life)
      this.processes.push(process)
      this.#call(process, () => process.open())
      this.end(process, 'reopened')
      digests.push(this.file.digest())
    }
    this.log(`digest ${digests[0]}`)
    must(digests[0] === digests[1], 'recovery twice equals recovery once', () => digests)
  }

  /** Faults stop, everyone wakes, all queues run, handlers succeed: every job must come to an end. */
  #drain(): void {
    for (const process of this.processes) {
      Object.assign(process.faults, { busy: 0, io: 0, commit: null, crash: null })
      process.wake()
    }
    const end = this.clock.elapsed + patience
    const lastWorker = () => {
      while (this.processes.length >= mostProcesses) this.end(this.processes[0]!, 'killed')
      this.start(null, [{ sources: allLines, slots: 20 }])
      return this.processes.at(-1)
    }
    let worker = lastWorker()
    for (const queue of ['a', 'b']) this.processes.at(-1)!.ask('setQueue', { queue, paused: false, maxRunning: null })
    for (const name of this.checker.now.schedules.keys()) this.processes.at(-1)!.ask('removeSchedule', name)
    const open = () => [...this.checker.now.jobs.values()].filter((job) => job.finishedAt === null)
    for (let quiet = 0; quiet < 3 && this.clock.elapsed < end; quiet = open().length > 0 ? 0 : quiet + 1) {
      if (!worker || !this.processes.includes(worker)) worker = lastWorker() // it died of one of the jobs
      for (const process of [...this.processes]) {
        for (const handler of process.handlers)
          if (handler.killsAt === Number.POSITIVE_INFINITY)
            process.report(handler, handler.lease.queue === 'w' && handler.lease.tries === 1 ? 'temporary' : 'succeed')
        while (process.workers.some(({ overdue }) => overdue.length > 0)) process.settles()
        process.askForJobs()
        this.call(process, 'execute')
      }
      for (const remote of this.remotes) {
        remote.loss = 0
        for (const _ of remote.workers) remote.act(this.processes, this.clock.elapsed, true)
      }
      const busy = this.file.wildLeft > 0 || this.remotes.some((remote) => !remote.isIdle)
      const idle = !busy && this.processes.every(({ handlers }) => handlers.length === 0)
      const instants = open().map((job) => (job.runAt ?? job.expiresAt ?? 0) - this.clock.wall)
      const wait = idle && instants.length > 0 ? Math.max(1000, Math.min(...instants)) : 1000
      if (wait > 5000) this.pass(wait - 2500)
      this.advance(Math.min(wait, 2500), longestUnseen, 1)
    }
    for (const process of this.processes) {
      this.call(process, 'execute') // what was asked last
      must(process.status === 'ok', 'a store recovers by itself', () => process.status)
      for (const { operation, input } of process.asked.values())
        must(operation === 'lease', 'every request is answered', () => [operation, input])
    }
  }

  log(line: string): void {
    this.trace.push(`${this.step} +${(this.clock.elapsed / 1000).toFixed(3)} ${line}`)
  }
}
