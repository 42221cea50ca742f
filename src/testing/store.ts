import { GopherQueueError } from '../model/errors.ts'
import { Engine } from '../store/sqlite/commit.ts'
import { connect } from '../store/sqlite/connection.ts'
import type { Db } from '../store/sqlite/db.ts'
import { nextDue } from '../store/sqlite/reaper.ts'
import type { Reply, Request } from '../store/sqlite/request.ts'
import type { Input, Operation, Output, Store, StoreEvent, StoreHealth } from '../store/store.ts'
import { VirtualClock } from './clock.ts'

/**
 * The real engine without its thread and without real time. All calls of one turn share one transaction, as the
 * storage thread would have it; nothing happens by itself: `advance` moves the clock and lets the engine look once.
 */
export class EngineStore implements Store {
  readonly clock: VirtualClock
  readonly #engine: Engine
  #db: Db | undefined
  readonly #callers = new Map<number, PromiseWithResolvers<unknown>>()
  readonly #listeners: ((event: StoreEvent) => void)[] = []
  #waiting: Request[] = []
  #lastSeq = 0
  #closed = false

  get health(): StoreHealth {
    return this.#engine.health
  }

  constructor(path = ':memory:', clock = new VirtualClock(), open = () => connect(path, clock)) {
    this.clock = clock
    this.#engine = new Engine(path, clock, { open: () => (this.#db = open()) })
    this.#engine.tick() // a first look at the file: from here on it knows what others change
  }

  call<K extends Operation>(operation: K, input: Input<K>, signal?: AbortSignal): Promise<Output<K>> {
    if (this.#closed) return Promise.reject(new GopherQueueError('CLOSED', 'The store was closed.'))
    const seq = ++this.#lastSeq
    const caller = Promise.withResolvers<unknown>()
    this.#callers.set(seq, caller)
    this.#post({ seq, operation, input: structuredClone(input) })
    signal?.addEventListener('abort', () => this.#forget(seq, signal.reason), { once: true })
    return caller.promise as Promise<Output<K>>
  }

  onEvent(listener: (event: StoreEvent) => void): void {
    this.#listeners.push(listener)
  }

  /**
   * Ms until a job is due or past its deadline, or a schedule ticks; infinity when nothing waits for time. What is due
   * already will be seen when the engine looks next.
   */
  get untilDue(): number {
    const wait = nextDue(this.#db!) - this.clock.now()
    return wait > 0 ? wait : this.#engine.tickIn(Number.POSITIVE_INFINITY)
  }

  /** Lets time pass, then the engine look once at what it has made necessary. */
  advance(ms: number): void {
    this.#engine.expect(ms)
    this.clock.advance(ms)
    this.tick()
  }

  tick(): void {
    this.#settle(this.#engine.tick())
  }

  async close(): Promise<void> {
    if (this.#closed) return
    this.#flush()
    this.#closed = true
    this.#engine.close()
    for (const { reject } of this.#callers.values()) reject(new GopherQueueError('CLOSED', 'The store was closed.'))
    this.#callers.clear()
  }

  #post(request: Request): void {
    if (this.#waiting.push(request) === 1) Promise.resolve().then(() => this.#flush()) // a runner's fake timers leave promises alone
  }

  #flush(): void {
    const requests = this.#waiting
    this.#waiting = []
    if (requests.length > 0) this.#settle(this.#engine.execute(requests))
  }

  #settle(replies: Reply[]): void {
    for (const event of this.#engine.events.splice(0)) {
      for (const listener of this.#listeners) listener(event)
    }
    for (const reply of replies) {
      const caller = this.#callers.get(reply.seq)
      this.#callers.delete(reply.seq)
      if ('error' in reply) caller?.reject(reply.error)
      else caller?.resolve(structuredClone(reply.value))
    }
  }

  #forget(seq: number, reason: unknown): void {
    const caller = this.#callers.get(seq)
    if (!this.#callers.delete(seq)) return
    this.#post({ seq: ++this.#lastSeq, operation: 'forget', input: seq })
    caller?.reject(reason)
  }
}
