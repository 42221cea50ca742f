import type { Reply } from '../src/store/sqlite/request.ts'
import type { Lease, LeasedJob, Source } from '../src/store/store.ts'
import { newLife, type SimulatedProcess } from './process.ts'
import type { Random } from './random.ts'

interface Running {
  lease: LeasedJob
  epoch: string
  heartbeatAt: number
}

interface RemoteWorker {
  id: number | null
  /** Of the file that gave its id. */
  epoch: string
  /** Numbers its requests for jobs. */
  lastAsk: number
  sources: Source[]
  slots: number
  running: Running[]
  /** When the request that waits was sent; null: none waits. */
  askedAt: number | null
}

interface Report {
  operation: 'succeed' | 'fail'
  lease: Lease
  epoch: string
  sentAt: number
}

type Letter =
  | { what: 'register' | 'lease'; worker: RemoteWorker; sentAt: number }
  | { what: 'heartbeat'; worker: RemoteWorker; running: Running }
  | { what: 'report'; report: Report }

/** How long it waits for an answer before it asks again. */
const patience = { lease: 15_000, report: 3000 }

/**
 * A process on another host, whose workers reach the queue through a server: one of the machine's processes. What it
 * sends may be lost, and what it is answered; it asks again, and reports until it is heard.
 */
export class RemoteProcess {
  readonly host: string
  readonly life = newLife()
  readonly workers: RemoteWorker[]
  #reports: Report[] = []
  /** What it has sent and has no answer to, by seq of its server. */
  readonly #letters = new Map<number, Letter>()
  #server: SimulatedProcess | undefined
  readonly #random: Random
  /** How often a letter or an answer is lost. */
  loss = 0.1

  readonly #epoch: () => string

  constructor(host: string, random: Random, epoch: () => string, workers: { sources: Source[]; slots: number }[]) {
    this.host = host
    this.#random = random
    this.#epoch = epoch
    this.workers = workers.map((worker) => ({ ...worker, id: null, epoch: '', lastAsk: 0, running: [], askedAt: null }))
  }

  owns(worker: number): boolean {
    return this.workers.some(({ id }) => id === worker)
  }

  get isIdle(): boolean {
    return this.#reports.length === 0 && this.workers.every(({ running }) => running.length === 0)
  }

  /** Time has passed: it can renew while its server goes on. */
  passed(ms: number, lockIsHeld: boolean): void {
    if (this.#server?.isFree && !lockIsHeld) this.life.free += ms
  }

  /** Sends what is due, by one of these servers; `finishes`: whether a handler is done now. */
  act(servers: SimulatedProcess[], now: number, finishes: boolean): void {
    if (!this.#server || this.#server.faults.dead || this.#server.stopping) {
      this.#letters.clear()
      this.#server = this.#random.pick(servers.filter(({ stopping }) => !stopping))
      for (const worker of this.workers) worker.askedAt = null
    }
    if (!this.#server) return
    for (const worker of this.workers) this.#work(worker, now)
    const worker = this.#random.pick(this.workers.filter(({ running }) => running.length > 0))
    if (finishes && worker) {
      const [done] = worker.running.splice(this.#random.below(worker.running.length), 1)
      const operation = this.#random.chance(0.7) ? 'succeed' : 'fail'
      this.#reports.push({ operation, lease: done!.lease, epoch: done!.epoch, sentAt: Number.NEGATIVE_INFINITY })
    }
    for (const report of this.#reports) if (report.sentAt + patience.report <= now) this.#report(report, now)
  }

  #work(worker: RemoteWorker, now: number): void {
    const { id, sources, slots, running } = worker
    const isDue = worker.askedAt === null || worker.askedAt + patience.lease <= now
    if (id === null) {
      const registration = { name: this.host, sources, slots, remote: this.host, instance: this.host }
      if (isDue) this.#send('register', registration, { what: 'register', worker, sentAt: now })
      if (isDue) worker.askedAt = now
      return
    }
    for (const each of running) {
      if (each.heartbeatAt > now) continue
      each.heartbeatAt = now + each.lease.visibilityTimeout / 3
      this.#send('heartbeat', each.lease, { what: 'heartbeat', worker, running: each }, each.epoch)
    }
    if (!isDue || running.length >= slots) return
    worker.askedAt = now
    const holds = running.map(({ lease }) => lease.token)
    const request = { worker: id, sources, slots, exclude: [], holds, ask: ++worker.lastAsk }
    this.#send('lease', request, { what: 'lease', worker, sentAt: now }, worker.epoch)
  }

  #report(report: Report, now: number): void {
    report.sentAt = now
    const { operation, lease } = report
    const error = { name: 'Error', message: 'far away', stack: null }
    const input =
      operation === 'succeed' ? { lease, result: '{}' } : { lease, kind: 'temporary', error, retryAfter: null }
    this.#send(operation, input, { what: 'report', report }, report.epoch)
  }

  #send(
    operation: 'register' | 'lease' | 'heartbeat' | 'succeed' | 'fail',
    input: object,
    letter: Letter,
    epoch?: string,
  ): void {
    if (this.#random.chance(this.loss / 2)) return
    this.#letters.set(this.#server!.ask(operation, input as never, epoch), letter)
  }

  /** Its server has answered; the answer may be lost on its way. */
  hear(server: SimulatedProcess, replies: Reply[]): void {
    if (server !== this.#server) return
    for (const reply of replies) {
      const letter = this.#letters.get(reply.seq)
      if (!letter) continue
      this.#letters.delete(reply.seq)
      if (!this.#random.chance(this.loss)) this.#heard(letter, reply)
    }
  }

  #heard(letter: Letter, reply: Reply): void {
    if (letter.what === 'report') {
      const isRefused = 'error' in reply && reply.error.code !== 'LEASE_LOST' // it is sent again
      if (!isRefused) this.#reports = this.#reports.filter((report) => report !== letter.report)
    } else if (letter.what === 'heartbeat') {
      if (!('error' in reply) || reply.error.code !== 'LEASE_LOST') return
      const { running } = letter.worker
      if (running.includes(letter.running)) running.splice(running.indexOf(letter.running), 1)
    } else if (letter.sentAt === letter.worker.askedAt) {
      letter.worker.askedAt = null
      this.#answered(letter.what, letter.worker, reply)
    } // else it has given up on this answer
  }

  #answered(what: 'register' | 'lease', worker: RemoteWorker, reply: Reply): void {
    if ('error' in reply) {
      if (what === 'lease') worker.id = null // it signs on again
      return
    }
    const epoch = this.#epoch()
    if (what === 'register') Object.assign(worker, { id: reply.value, epoch })
    else for (const lease of reply.value as LeasedJob[]) worker.running.push({ lease, epoch, heartbeatAt: 0 })
  }
}
