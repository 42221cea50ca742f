import { GopherQueue, type QueueEvents } from '../../src/index.ts'
import { EngineStore } from '../../src/testing/store.ts'

/** Listens to an event whose name is a type parameter, which EventEmitter's types cannot follow. */
export function hear<K extends keyof QueueEvents>(
  queue: GopherQueue,
  event: K,
  listener: (...args: QueueEvents[K]) => unknown,
): void {
  ;(queue.on as (name: string, listener: (...args: QueueEvents[K]) => unknown) => unknown).call(queue, event, listener)
}

/** The next event of a name, with its arguments. */
export function next<K extends keyof QueueEvents>(queue: GopherQueue, event: K): Promise<QueueEvents[K]> {
  return new Promise((resolve) => hear(queue, event, (...args) => resolve(args)))
}

/** A queue on the real engine and virtual time. */
export function virtualQueue(): { queue: GopherQueue; store: EngineStore } {
  const store = new EngineStore()
  return { queue: new GopherQueue(store, store.clock), store }
}

/** Something that a handler waits for and a test lets happen. */
export function gate(): { opened: Promise<void>; open(): void } {
  const { promise, resolve } = Promise.withResolvers<void>()
  return { opened: promise, open: () => resolve() }
}

/** Resolves when the signal fires, with its reason. */
export function aborted(signal: AbortSignal): Promise<Error> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve(signal.reason)
    signal.addEventListener('abort', () => resolve(signal.reason))
  })
}
