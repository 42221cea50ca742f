import { createHash } from 'node:crypto'
import { DatabaseSync } from 'node:sqlite'
import { jobSpec } from '../src/model/job.ts'
import { lockWait } from '../src/store/sqlite/connection.ts'
import { type Call, Checker } from './checker.ts'
import { SimulatedDisk } from './faults.ts'
import { File } from './file.ts'
import { type Machine, SimulatedClock } from './machine.ts'
import { SimulatedProcess } from './process.ts'
import { Random } from './random.ts'
import { Tenures } from './tenures.ts'

// Everything that can happen in a small world: two processes, two jobs, another program that takes the lock once, one
// stop, one death. A run follows a script of choices; where that ends, the world says how many there are.

/** No chance: a handler never heeds its signal. */
class Fixed extends Random {
  override next(): number {
    return 0
  }
}

export interface Outcome {
  /** How many choices there are after the script; 0: the world has ended. */
  choices: number
  /** What the world remembers, as far as it can be seen: worlds of the same digest go on alike. */
  digest: string
  /** What was chosen, in words. */
  story: string[]
  /** The rule that was broken. */
  rule: string | null
}

/** How often each may happen. */
export interface Budget {
  /** Another program takes the lock. */
  holds: number
  /** A process is stopped, and goes on later. */
  stops: number
  /** A process dies of its jobs. */
  deaths: number
}

interface Choice {
  name: string
  run(): void
}

const sources = [{ queue: 'q', type: 'job' }]
const steps = [1000, 8000]
const patience = 10_001

/** What small worlds have in common, and take over from each other: the file, connections to it, the machine. */
export class Ground implements Disposable {
  readonly file: File
  readonly machine: Machine

  constructor(path: string) {
    this.file = new File(path)
    this.machine = {
      ...{ path, clock: new SimulatedClock(), random: new Fixed(0), disk: new SimulatedDisk(), counts: {} },
      ...{
        alive: new Set<number>(),
        canTell: true,
        isNewer: false,
        rewrite: (sql: string) => sql,
        between: () => undefined,
      },
      kept: new Map(),
    }
  }

  renew(): void {
    Object.assign(this.machine.clock, { wall: new SimulatedClock().wall, elapsed: 0 })
    this.machine.alive.clear()
    this.file.clear()
  }

  [Symbol.dispose](): void {
    for (const { connection } of this.machine.kept!.values()) if (connection.isOpen) connection.close()
    this.file.close()
  }
}

export class SmallWorld {
  readonly #clock: SimulatedClock
  readonly #processes: SimulatedProcess[]
  readonly #file: File
  readonly #checker: Checker
  readonly #path: string
  readonly #script: readonly number[]
  readonly #story: string[] = []
  #at = 0
  #hasBegun = false
  #foreign: DatabaseSync | undefined
  readonly #left: Budget
  #stopped: SimulatedProcess | undefined
  readonly #stopAt = new Map<SimulatedProcess, string>()
  /** The calls that have begun and not returned, with the state of the world in which they began. */
  readonly #within: { process: SimulatedProcess; began: string; since: number; at: string }[] = []
  /** When each process first saw a lease as it is, by what the lease says; and when it looked last. */
  readonly #seen = new Map<number, Map<string, number>>()
  readonly #looked = new Map<number, { at: number; version: unknown }>()
  #end: { choices: number; digest: string } | undefined
  #broken: string | null = null

  constructor(ground: Ground, budget: Budget, script: readonly number[]) {
    this.#left = { ...budget }
    ground.renew()
    const { file, machine } = ground
    machine.between = (pid, sql) => this.#between(pid, sql)
    this.#path = machine.path
    this.#script = script
    this.#file = file
    this.#clock = machine.clock
    this.#processes = [1, 2].map((pid) => new SimulatedProcess(pid, machine, [{ sources, slots: 2 }]))
    const lives = new Map(this.#processes.map(({ pid, life }) => [pid, life]))
    const lifeOf = (worker: number) => {
      const pid = this.#file.pidOf(worker)!
      return { holder: `${pid}`, life: lives.get(pid)! }
    }
    this.#checker = new Checker(this.#file, new Tenures(lifeOf, lives))
  }

  run(): Outcome {
    const real = { ...lockWait }
    lockWait.sleep = () => this.#waits()
    try {
      this.#begin()
      this.#hasBegun = true
      while (!this.#isOver) this.#choose(this.#choices())
    } catch (error) {
      if (!this.#isOver) this.#broken = error instanceof Error ? error.message : String(error)
    } finally {
      Object.assign(lockWait, real)
      this.#foreign?.close()
      for (const process of this.#processes) process.end()
    }
    const { choices, digest } = this.#end ?? { choices: 0, digest: '' }
    return { choices, digest, story: this.#story, rule: this.#broken }
  }

  get #isOver(): boolean {
    return this.#end !== undefined || this.#broken !== null
  }

  /** The first runs a job, another will be due, and both wait for more. */
  #begin(): void {
    for (const process of this.#processes) {
      this.#call(process, () => process.open())
      process.askForJobs()
      this.#looks(process)
    }
    const [first, second] = this.#processes
    this.#looks(second!)
    const policy = {
      queue: 'q',
      maxAttempts: 2,
      backoff: { kind: 'constant', delay: 1000 },
      visibilityTimeout: 4000,
    } as const
    const ready = jobSpec('job', { ...policy, timeout: 60_000 })
    const later = jobSpec('job', { ...policy, timeout: 5000, delay: 900 })
    first!.ask('submit', { specs: [ready, later], payloads: ['{"n":1}', '{"n":2}'], keys: null })
    this.#looks(first!)
    this.#looks(first!)
  }

  #choose(choices: Choice[]): void {
    const chosen = this.#script[this.#at]
    if (chosen === undefined) {
      this.#end = { choices: choices.length, digest: this.#digest() }
      return
    }
    this.#at++
    this.#story.push(choices[chosen]!.name)
    choices[chosen]!.run()
  }

  /** What can happen next; `within`: while that process is within a call. */
  #choices(): Choice[] {
    const list: Choice[] = []
    for (const process of this.#processes) {
      const { pid } = process
      if (process.faults.dead) continue
      if (this.#left.deaths > 0 && process.handlers.length > 0)
        list.push({ name: `${pid} dies`, run: () => this.#dies(process) })
      if (this.#stopped === process) {
        if (!process.inCall) list.push({ name: `${pid} goes on`, run: () => this.#goesOn(process) })
        continue
      }
      if (process.inCall) continue
      list.push({ name: `${pid} looks`, run: () => this.#looks(process) })
      if (this.#left.stops > 0) {
        list.push({ name: `${pid} is stopped`, run: () => this.#stops(process) })
        for (const sql of ['BEGIN IMMEDIATE', 'COMMIT'])
          list.push({ name: `${pid} looks and is stopped before ${sql}`, run: () => this.#looks(process, sql) })
      }
      for (const handler of process.handlers) {
        const run = () => {
          process.report(handler, 'succeed')
          process.askForJobs()
          this.#looks(process)
        }
        list.push({ name: `${pid} finishes ${handler.lease.id}`, run })
      }
    }
    for (const ms of steps) list.push({ name: `${ms} ms pass`, run: () => this.#pass(ms) })
    const isFree = !this.#processes.some((process) => process.holdsLock)
    if (this.#foreign) list.push({ name: 'the lock is free again', run: () => this.#release() })
    else if (this.#left.holds > 0 && isFree) list.push({ name: 'another holds the lock', run: () => this.#hold() })
    return list
  }

  /** `stopAt`: it is stopped before that statement. */
  #looks(process: SimulatedProcess, stopAt = ''): void {
    this.#stopAt.set(process, stopAt)
    process.askForJobs()
    this.#call(process, () => (process.outbox.length > 0 ? process.execute() : process.tick()))
  }

  #call(process: SimulatedProcess, work: () => Call): void {
    const began = this.#within.length > 0 ? this.#digest() : ''
    for (const outer of this.#within) outer.process.interrupted = true
    const since = this.#clock.elapsed
    this.#within.push({ process, began, since, at: '' })
    this.#saw(process)
    let call: Call
    try {
      call = work()
    } finally {
      this.#within.pop()
    }
    if (this.#isOver) return
    try {
      this.#saw(process)
      this.#checker.check(call)
      process.hear(call)
      if (call.kind === 'tick' && !call.faulty && !call.interrupted) process.mustKnow(this.#checker.now)
    } catch (error) {
      this.#broken ??= error instanceof Error ? error.message : String(error)
    }
  }

  /** Right before it takes the lock or commits, a process can be stopped. */
  #between(pid: number, sql: string): void {
    const process = this.#processes.find((one) => one.pid === pid)!
    if (this.#isOver) this.#cut(process)
    if (!this.#hasBegun) return
    const inner = this.#within.at(-1)
    if (inner?.process !== process || process.sealed || this.#left.stops === 0) return
    if (sql !== this.#stopAt.get(process) || (sql === 'COMMIT' && !process.holdsLock)) return
    inner.at = sql
    this.#stops(process)
    const isGoing = () => this.#isOver || process.faults.dead || this.#stopped !== process
    while (!isGoing()) {
      const goOn = { name: `${pid} goes on to ${sql}`, run: () => this.#goesOn(process) }
      this.#choose([...this.#choices(), goOn])
    }
    inner.at = ''
    if (this.#isOver) this.#cut(process)
  }

  /** The innermost call has found the lock held. Answers with how long it waited. */
  #waits(): number {
    const inner = this.#within.at(-1)!
    const { process } = inner
    if (this.#isOver) {
      this.#cut(process)
      return 0
    }
    process.isWaiting = true
    inner.at = 'waits'
    const begun = this.#clock.elapsed
    if (this.#foreign) {
      let isFirst = false
      while (!isFirst && !this.#isOver && !process.faults.dead && this.#clock.elapsed - begun < patience) {
        const goOn = () => {
          isFirst = true
          if (this.#foreign) this.#release()
        }
        const stays = this.#choices().filter(({ name }) => this.#foreign || name.endsWith('looks'))
        this.#choose([{ name: `the lock is free, ${process.pid} goes on`, run: goOn }, ...stays])
      }
    } else this.#pass(patience) // who holds it is stopped, and goes on later than this one's patience lasts
    process.isWaiting = false
    process.waited += this.#clock.elapsed - begun
    if (process.waited > 1500) process.afterGap = true
    inner.at = ''
    if (this.#isOver) this.#cut(process)
    return this.#clock.elapsed - begun
  }

  /** The script has ended within its call: what it still does is not seen. */
  #cut({ faults }: SimulatedProcess): void {
    faults.dead = true
    faults.struck = true
  }

  #stops(process: SimulatedProcess): void {
    this.#left.stops--
    this.#stopped = process
    this.#checker.silent(`${process.pid}`, this.#clock.elapsed)
    process.sleep(Number.MAX_SAFE_INTEGER)
  }

  #goesOn(process: SimulatedProcess): void {
    this.#stopped = undefined
    process.wake()
  }

  #dies(process: SimulatedProcess): void {
    this.#left.deaths--
    this.#checker.silent(`${process.pid}`, this.#clock.elapsed)
    process.kill()
  }

  #hold(): void {
    this.#left.holds--
    this.#foreign = new DatabaseSync(this.#path)
    this.#foreign.exec('BEGIN IMMEDIATE')
  }

  #release(): void {
    this.#foreign!.exec('COMMIT')
    this.#foreign!.close()
    this.#foreign = undefined
  }

  #pass(ms: number): void {
    this.#clock.wall += ms
    this.#clock.elapsed += ms
    const isHeld = this.#foreign !== undefined || this.#processes.some((process) => process.holdsLock)
    for (const process of this.#processes) {
      // One that goes on and does not look for more than a second stands still by its own clock.
      const looked = this.#looked.get(process.pid)?.at ?? 0
      process.passed(ms, isHeld, process.isFree && this.#clock.elapsed - looked > 1000)
    }
  }

  /** A process looks at the file as it is now. */
  #saw({ pid }: SimulatedProcess): void {
    const before = this.#seen.get(pid) ?? new Map<string, number>()
    const now = new Map<string, number>()
    for (const { id, token, expiresAt } of this.#file.leases()) {
      const name = `${id} ${token} ${expiresAt - this.#clock.wall + this.#clock.elapsed}`
      now.set(name, before.get(name) ?? this.#clock.elapsed)
    }
    this.#seen.set(pid, now)
    this.#looked.set(pid, { at: this.#clock.elapsed, version: this.#file.version })
  }

  /** The file and what each process can know of it, with all times as ages. */
  #digest(): string {
    const { elapsed, wall } = this.#clock
    const file = this.#file.relative(wall)
    const { version } = this.#file
    const processes = this.#processes.map((process) => [
      ...[process.faults.dead, process.inCall, this.#stopped === process, process.afterGap],
      [...process.asked.values()].map(({ operation }) => operation),
      process.handlers.map(({ lease }) => [lease.id, lease.attempt, elapsed - (lease.startedAt - wall + elapsed)]),
      process.workers.map(({ overdue }) => overdue.map(({ lease, until }) => [lease.id, until - elapsed])),
      [...(this.#seen.get(process.pid) ?? [])].map(([name, at]) => [name.split(' ').slice(0, 2), elapsed - at]),
      [elapsed - (this.#looked.get(process.pid)?.at ?? 0), this.#looked.get(process.pid)?.version === version],
    ])
    const within = this.#within.map(({ process, began, since, at }) => [process.pid, began, elapsed - since, at])
    const all = JSON.stringify([file, processes, within, this.#left, this.#foreign !== undefined])
    return createHash('sha256').update(all).digest('base64')
  }
}
