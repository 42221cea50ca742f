import { connect } from '../../src/store/sqlite/connection.ts'
import { Db } from '../../src/store/sqlite/db.ts'
import type { Identity } from '../../src/store/sqlite/processes.ts'
import type { LeasedJob, Source } from '../../src/store/store.ts'
import { VirtualClock } from '../../src/testing/clock.ts'
import { EngineStore } from '../../src/testing/store.ts'
import { temporaryFolder } from './folder.ts'
import { Subject } from './subject.ts'

/** What a job's handler does, as its payload says. */
export interface Does {
  /** It succeeds after so many ms. */
  ms?: number
  /** It kills its process after so many ms. */
  kills?: number
}

/** One machine: a file and processes that open it, each an engine with an identity of its own, all on one clock. */
export class Host implements AsyncDisposable {
  readonly #folder = temporaryFolder()
  readonly path = this.#folder.file('jobs.db')
  readonly clock = new VirtualClock()
  readonly #alive = new Set<number>()
  #boot = 1
  #lastPid = 0
  readonly processes: Process[] = []

  /** A process with one worker for each of these numbers of slots. */
  async start(slots: number[], types = ['work']): Promise<Process> {
    const pid = ++this.#lastPid
    this.#alive.add(pid)
    const me: Identity = { host: 'h', pid, pid_started: `${pid}`, boot: `${this.#boot}`, pid_space: 'p' }
    const isAlive = (row: Identity) => (row.pid === null ? null : row.boot === me.boot && this.#alive.has(row.pid))
    const open = () => connect(this.path, this.clock, () => new Db(this.path, this.clock, { me, isAlive }))
    const process = new Process(new EngineStore(this.path, this.clock, open), () => this.#end(process, pid))
    this.processes.push(process)
    for (const most of slots) await process.work(most, types)
    return process
  }

  /** All of its processes end with it. */
  restart(): void {
    for (const process of [...this.processes]) process.die()
    this.#boot++
  }

  #end(process: Process, pid: number): void {
    this.#alive.delete(pid)
    this.processes.splice(this.processes.indexOf(process), 1)
    process.at.store.close().catch(() => undefined)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const process of [...this.processes]) process.die()
    this.#folder[Symbol.dispose]()
  }
}

interface Pool {
  worker: number
  slots: number
  types: string[]
  asked: ReturnType<Subject['ask']> | null
  running: LeasedJob[]
}

/** A process whose workers ask for jobs all the time, as real ones do. */
export class Process {
  readonly at: Subject
  /** Of jobs that have killed it. */
  killer: number | null = null
  readonly pools: Pool[] = []
  readonly #end: () => void

  constructor(store: EngineStore, end: () => void) {
    this.at = new Subject({ store, time: store, close: () => store.close() })
    this.#end = end
  }

  get running(): LeasedJob[] {
    return this.pools.flatMap(({ running }) => running)
  }

  async work(slots: number, types: string[]): Promise<void> {
    const sources: Source[] = types.map((type) => ({ queue: 'default', type }))
    this.pools.push({ worker: await this.at.worker(slots, sources), slots, types, asked: null, running: [] })
  }

  /** It is gone without a word. */
  die(): void {
    this.#end()
  }

  /** Time passes; handlers do what they are to do. False when one of them has killed the process. */
  async live(ms: number): Promise<boolean> {
    this.at.advance(ms)
    for (const pool of this.pools) {
      for (const job of [...pool.running]) {
        const { ms = Number.POSITIVE_INFINITY, kills = Number.POSITIVE_INFINITY } = (JSON.parse(job.payload) ??
          {}) as Does
        const ran = this.at.now - job.startedAt
        if (ran >= kills) {
          this.killer = job.id
          this.die()
          return false
        }
        if (ran < ms) continue
        pool.running.splice(pool.running.indexOf(job), 1)
        await this.at.succeed(job)
      }
      await this.#ask(pool)
    }
    await this.at.settle()
    for (const pool of this.pools) await this.#ask(pool)
    return true
  }

  /** Takes what came, and leaves a request unless all slots are taken. */
  async #ask(pool: Pool): Promise<void> {
    if (pool.asked?.jobs) {
      pool.running.push(...pool.asked.jobs)
      pool.asked = null
    }
    if (pool.asked || pool.running.length >= pool.slots) return
    pool.asked = this.at.ask(pool.worker, { types: pool.types, slots: pool.slots })
  }
}
