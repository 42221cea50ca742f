import { GopherQueueError } from '../src/model/errors.ts'
import type { Input, Lease } from '../src/store/store.ts'
import { type Call, Checker, must } from './checker.ts'
import { SimulatedDisk } from './faults.ts'
import { File } from './file.ts'
import { type Machine, SimulatedClock } from './machine.ts'
import { SimulatedProcess } from './process.ts'
import { Random } from './random.ts'
import { call as callLine } from './trace.ts'
import { anySettings, anySubmission, anyWorkers, lines } from './workload.ts'

const mostProcesses = 4
/** In which everything must have come to an end once all faults are over. */
const patience = 12 * 3_600_000

/** One machine through one seed: what happens next is drawn, done by the real engines, and checked. */
export class World {
  readonly trace: string[] = []
  readonly counts: Record<string, number> = {}
  readonly #random: Random
  readonly #clock = new SimulatedClock()
  readonly #machine: Machine
  readonly #file: File
  readonly #checker: Checker
  #processes: SimulatedProcess[] = []
  #lastPid = 0
  /** Leases that were ever told: whoever had them may report late. */
  readonly #leases: Lease[] = []
  #submissions: Input<'submit'>[] = []
  #payload = 0
  #healAt = 0
  step = 0

  constructor(seed: number, path: string, rewrite = (sql: string) => sql) {
    this.#random = new Random(seed)
    const [random, clock, counts] = [this.#random, this.#clock, this.counts]
    const alive = new Set<number>()
    const canTell = random.chance(0.8)
    this.#machine = { path, random, clock, counts, alive, canTell, rewrite, disk: new SimulatedDisk() }
    this.#file = new File(path)
    this.#checker = new Checker(this.#file)
  }

  run(steps: number): void {
    this.#start()
    for (this.step = 1; this.step <= steps; this.step++) this.#next()
    this.#recover()
    this.#drain()
    this.#checker.finish()
  }

  close(): void {
    for (const process of this.#processes) process.end()
    this.#file.close()
  }

  #next(): void {
    const random = this.#random
    if (this.#healAt === this.step) this.#heal()
    const awake = this.#processes.filter((process) => process.awake)
    const process = random.pick(awake.length > 0 ? awake : this.#processes)
    if (!process) this.#start()
    else if (!process.awake) this.#advance(5000)
    else if (process.stopped) this.#end(process, 'stopped')
    else this.#happens(process)
  }

  #happens(process: SimulatedProcess): void {
    process.askForJobs()
    const what = this.#random.weighted({
      ...{ submit: 14, execute: 30, finish: 22, tick: 10, advance: 12, operate: 6, late: 2, heartbeat: 2, wait: 2 },
      ...{ crash: 2, start: 3, stop: 0.5, sleep: 1, jump: 0.5, fault: 3, sql: 1 },
    })
    this.#happen[what](process)
  }

  readonly #happen = {
    submit: (process: SimulatedProcess) => {
      const again = this.#random.chance(0.15) ? this.#random.pick(this.#submissions) : undefined
      const submission = again ?? anySubmission(this.#random, () => ++this.#payload, this.#clock.wall)
      if (submission.keys) this.#submissions.push(submission)
      process.ask('submit', submission)
    },
    execute: (process: SimulatedProcess) => {
      const most = this.#random.chance(0.2) ? this.#random.below(4) : process.outbox.length
      this.#call(process, 'execute', most)
    },
    tick: (process: SimulatedProcess) => this.#call(process, 'tick'),
    advance: () =>
      this.#random.chance(0.03)
        ? this.#advance(600_000, 100_000)
        : this.#advance(this.#random.pick([1, 20, 100, 250, 250, 1000, 1000, 5000, 5000, 20_000])),
    finish: (process: SimulatedProcess) => {
      const [handler, random] = [this.#random.pick(process.handlers), this.#random]
      if (!handler) return
      const lost = handler.lost && random.chance(0.5) // a handler that heeds its signal
      const cancelled = handler.cancelRequested && random.chance(0.5)
      const how = random.weighted({ succeed: 10, temporary: 6, permanent: 1, timeout: 3, release: 2 })
      process.report(handler, cancelled ? 'temporary' : how)
      if (how === 'timeout' && random.chance(0.5)) handler.worker.overdue.push(handler.lease.id)
      else handler.worker.overdue.shift()
      if (lost) process.asked.delete(process.outbox.pop()!.seq)
      process.askForJobs()
    },
    operate: (process: SimulatedProcess) => {
      const random = this.#random
      const id = random.pick([...this.#checker.now.jobs.keys()].slice(-12)) ?? 1
      const what = random.weighted({ cancel: 3, retry: 3, remove: 2, setQueue: 2 })
      if (what === 'setQueue') process.ask('setQueue', anySettings(random))
      else process.ask(what, id)
    },
    late: (process: SimulatedProcess) => {
      const lease = this.#random.pick(this.#leases.slice(-20))
      if (!lease || process.handlers.some((handler) => handler.lease.token === lease.token)) return
      const what = this.#random.pick(['succeed', 'release', 'heartbeat'] as const)
      if (what === 'succeed') process.ask('succeed', { lease, result: '"late"' })
      else process.ask(what, lease)
    },
    heartbeat: (process: SimulatedProcess) => {
      const handler = this.#random.pick(process.handlers)
      if (handler) process.ask('heartbeat', handler.lease)
    },
    wait: (process: SimulatedProcess) => {
      const id = this.#random.pick([...this.#checker.now.jobs.keys()].slice(-12))
      if (id !== undefined) process.ask('wait', id)
    },
    crash: (process: SimulatedProcess) => {
      process.faults.crash = this.#random.pick(['before', 'after', this.#random.below(30)] as const)
      this.#log(`p${process.pid} will crash: ${process.faults.crash}`)
    },
    start: () => this.#start(this.#random.chance(0.1) ? this.#random.below(12) : null),
    stop: (process: SimulatedProcess) => process.stop(),
    sleep: (process: SimulatedProcess) => {
      process.asleepUntil = this.#clock.elapsed + this.#random.pick([2000, 20_000, 60_000, 300_000])
      this.#log(`p${process.pid} sleeps`)
    },
    jump: () => {
      const ms = this.#random.pick([-3_600_000, 3_600_000, -30_000, 30_000])
      this.#clock.wall += ms
      this.#log(`the wall clock jumps by ${ms}`)
    },
    fault: ({ pid, faults }: SimulatedProcess) => {
      const random = this.#random
      const what = random.weighted({ busy: 3, early: 2, late: 2, io: 2, full: 2, gone: 1 })
      if (what === 'busy') [faults.busy, faults.busyAfter] = [1 + random.below(3), random.below(8)]
      else if (what === 'early' || what === 'late') faults.commit = what
      else {
        this.#heal()
        if (what === 'io') faults.io = random.pick([0.02, 0.2, 1])
        else this.#machine.disk[what] = true
        this.#healAt = this.step + 3 + random.below(30)
      }
      this.#log(`p${pid} fault ${what}`)
    },
    sql: () => {
      const { queue, type } = this.#random.pick(lines)
      this.#file.submit(queue, type, `{"n":${++this.#payload}}`, this.#clock.wall)
      this.#checker.look()
      this.#log(`somebody submits to ${queue} ${type} with plain SQL`)
    },
  }

  /** `crash`: also in the middle of its recovery. */
  #start(crash: number | null = null, workers = anyWorkers(this.#random)): void {
    if (this.#processes.length >= mostProcesses) return
    if (this.#random.chance(0.7)) this.#file.checkpoint()
    const process = new SimulatedProcess(++this.#lastPid, this.#machine, workers)
    this.#processes.push(process)
    process.faults.crash = crash
    this.#follow(process, process.open())
    if (process.status === 'closed') this.#end(process, 'could not open')
    else if (!process.faults.dead) this.#call(process, 'tick')
  }

  /** Each process that is awake looks every so often; those that sleep do not. */
  #advance(ms: number, pieces = 2500, odds = 0.9): void {
    for (let left = ms; left > 0; left -= pieces) {
      const piece = Math.min(left, pieces)
      this.#clock.wall += piece
      this.#clock.elapsed += piece
      for (const process of [...this.#processes])
        if (process.awake && process.ticks && this.#random.chance(odds)) this.#call(process, 'tick')
    }
  }

  #call(process: SimulatedProcess, kind: 'execute' | 'tick', most?: number): void {
    this.#follow(process, kind === 'tick' ? process.tick() : process.execute(most))
  }

  #follow(process: SimulatedProcess, call: Call): void {
    this.counts.calls = (this.counts.calls ?? 0) + 1
    const line = callLine(call, process.faults.dead)
    if (line) this.#log(line)
    this.#checker.check(call)
    for (const reply of call.replies) {
      if ('error' in reply) must(reply.error instanceof GopherQueueError, 'errors have codes', () => reply)
      else if (call.asked.find(({ seq }) => seq === reply.seq)?.operation === 'lease')
        this.#leases.push(...(reply.value as Lease[]))
    }
    process.hear(call)
    if (process.faults.dead) this.#end(process, 'crashed')
  }

  #end(process: SimulatedProcess, how: string): void {
    process.end()
    this.#processes.splice(this.#processes.indexOf(process), 1)
    this.#log(`p${process.pid} ${how}`)
  }

  #heal(): void {
    this.#machine.disk.full = false
    this.#machine.disk.gone = false
    this.#machine.disk.room = 0
    for (const { faults } of this.#processes) faults.io = 0
  }

  /** Recovery twice equals recovery once, whatever the state of the file. */
  #recover(): void {
    this.#heal()
    if (this.#random.chance(0.5)) for (const process of [...this.#processes]) this.#end(process, 'killed')
    const digests: string[] = []
    for (let i = 0; i < 2; i++) {
      const process = new SimulatedProcess(++this.#lastPid, this.#machine, [])
      this.#processes.push(process)
      this.#follow(process, process.open())
      this.#end(process, 'reopened')
      digests.push(this.#file.digest())
    }
    this.#log(`digest ${digests[0]}`)
    must(digests[0] === digests[1], 'recovery twice equals recovery once', () => digests)
  }

  /** Faults stop, everyone wakes, all queues run, handlers succeed: every job must come to an end. */
  #drain(): void {
    for (const process of this.#processes) {
      Object.assign(process.faults, { busy: 0, io: 0, commit: null, crash: null })
      process.asleepUntil = 0
    }
    const end = this.#clock.elapsed + patience
    while (this.#processes.length >= mostProcesses) this.#end(this.#processes[0]!, 'killed')
    this.#start(null, [{ sources: lines, slots: 20 }])
    const operator = this.#processes.at(-1)!
    for (const queue of ['a', 'b']) operator.ask('setQueue', { queue, paused: false, maxRunning: null })
    const open = () => [...this.#checker.now.jobs.values()].filter((job) => job.finishedAt === null)
    for (let quiet = 0; quiet < 3 && this.#clock.elapsed < end; quiet = open().length > 0 ? 0 : quiet + 1) {
      for (const process of [...this.#processes]) {
        for (const handler of process.handlers) process.report(handler, 'succeed')
        process.askForJobs()
        for (const worker of process.workers) worker.overdue = []
        this.#call(process, 'execute')
      }
      const idle = this.#processes.every(({ handlers }) => handlers.length === 0)
      const instants = open().map((job) => (job.runAt ?? job.expiresAt ?? 0) - this.#clock.wall)
      const wait = idle && instants.length > 0 ? Math.max(1000, Math.min(...instants)) : 1000
      this.#advance(wait, wait, 1)
    }
    for (const process of this.#processes) {
      must(process.status === 'ok', 'a store recovers by itself', () => process.status)
      for (const { operation, input } of process.asked.values())
        must(operation === 'lease', 'every request is answered', () => [operation, input])
    }
  }

  #log(line: string): void {
    this.trace.push(`${this.step} +${(this.#clock.elapsed / 1000).toFixed(3)} ${line}`)
  }
}
