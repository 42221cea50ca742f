import type { Clock, Instant } from '../../src/model/clock.ts'
import { GopherQueueError } from '../../src/model/errors.ts'
import { Engine, type Reply, type Request } from '../../src/store/sqlite/commit.ts'
import type { Input, Operation, Output, Store, StoreEvent, StoreHealth } from '../../src/store/store.ts'

interface Timer {
  at: number
  callback: () => void
}

/** Time that passes only when told to. Its wall clock can jump apart from the monotonic one, as real ones do. */
export class VirtualClock implements Clock {
  #wall: Instant
  #monotonic = 0
  #timers: Timer[] = []

  constructor(start: Instant = Date.UTC(2030, 0, 1)) {
    this.#wall = start
  }

  now(): Instant {
    return this.#wall
  }

  monotonic(): number {
    return this.#monotonic
  }

  timer(ms: number, callback: () => void): () => void {
    const timer = { at: this.#monotonic + ms, callback }
    this.#timers.push(timer)
    return () => {
      this.#timers = this.#timers.filter((other) => other !== timer)
    }
  }

  /** Lets `ms` pass: both clocks move, and timers fire in their order, each at its own instant. */
  advance(ms: number): void {
    const end = this.#monotonic + ms
    for (;;) {
      const due = this.#timers.filter(({ at }) => at <= end).sort((a, b) => a.at - b.at)[0]
      this.#pass((due ? Math.max(due.at, this.#monotonic) : end) - this.#monotonic)
      if (!due) return
      this.#timers = this.#timers.filter((timer) => timer !== due)
      due.callback()
    }
  }

  /** Somebody sets the wall clock: it jumps by `ms`, also backward, while no time passes. */
  jump(ms: number): void {
    this.#wall += ms
  }

  #pass(ms: number): void {
    this.#wall += ms
    this.#monotonic += ms
  }
}

interface Caller {
  resolve(value: unknown): void
  reject(error: unknown): void
}

/**
 * The real engine without its thread and without real time. All calls of one turn share one transaction, as the
 * storage thread would have it; nothing happens by itself: `advance` moves the clock and lets the engine look once.
 */
export class EngineStore implements Store {
  readonly clock: VirtualClock
  readonly #engine: Engine
  readonly #callers = new Map<number, Caller>()
  readonly #listeners: ((event: StoreEvent) => void)[] = []
  #waiting: Request[] = []
  #lastSeq = 0
  #closed = false

  get health(): StoreHealth {
    return this.#engine.health
  }

  constructor(path = ':memory:', clock = new VirtualClock()) {
    this.clock = clock
    this.#engine = new Engine(path, clock)
    this.#engine.tick() // a first look at the file: from here on it knows what others change
  }

  call<K extends Operation>(operation: K, input: Input<K>, signal?: AbortSignal): Promise<Output<K>> {
    if (this.#closed) return Promise.reject(new GopherQueueError('CLOSED', 'The store was closed.'))
    const seq = ++this.#lastSeq
    return new Promise((resolve, reject) => {
      this.#callers.set(seq, { resolve: resolve as Caller['resolve'], reject })
      this.#post({ seq, operation, input: structuredClone(input) })
      signal?.addEventListener('abort', () => this.#forget(seq, signal.reason), { once: true })
    })
  }

  onEvent(listener: (event: StoreEvent) => void): void {
    this.#listeners.push(listener)
  }

  /** Lets time pass, then the engine look once at what it has made necessary. */
  advance(ms: number): void {
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
    if (this.#waiting.push(request) === 1) queueMicrotask(() => this.#flush())
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
