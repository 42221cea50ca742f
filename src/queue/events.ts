import { AsyncLocalStorage } from 'node:async_hooks'
import type { EventEmitter } from 'node:events'
import { afterThis } from '../model/clock.ts'
import { GopherQueueError } from '../model/errors.ts'
import type { JobError } from '../model/job.ts'
import type { Fate, Source, StoreEvent, StoreHealth } from '../store/store.ts'
import type { ActiveJob } from './definition.ts'
import { events } from './trace.ts'

/**
 * Names and arguments of a queue's events: of what happens in this process alone, whoever else works on the file. Those of a
 * job's end are told after it is on disk, in the process that ran it.
 */
export interface QueueEvents {
  /** A handler of this process is about to start. */
  started: [job: ActiveJob]
  /** A job has succeeded; `result` is JSON text. `warning` says why that is null and not what the handler returned. */
  succeeded: [job: ActiveJob, result: string, warning: string | null]
  /** An attempt has failed; the job is tried again at `fate.runAt`, unless `job.deadline` comes first: then the job is dead (`expired`). */
  retrying: [job: ActiveJob, error: JobError, fate: Fate]
  /** A handler put its job off (`Postpone`): it is tried again at `fate.runAt`, unless `job.deadline` comes first. */
  postponed: [job: ActiveJob, fate: Fate]
  /** An attempt has failed, and the job is dead: `fate.reason` says why it is not tried again. */
  dead: [job: ActiveJob, error: JobError, fate: Fate]
  /** A job was cancelled while it ran, and its handler has stopped. */
  cancelled: [job: ActiveJob, error: JobError, fate: Fate]
  /** A running job went back to the queue because its worker stopped; the attempt does not count. */
  released: [job: ActiveJob]
  /** The attempt was taken from its handler, or what it came to is refused, as its lease is over. Told once of an attempt. */
  leaseLost: [job: ActiveJob]
  /** This process took a job from a worker that is gone. */
  reclaimed: [job: Source & { id: number }, fate: Fate]
  /** A job died because its deadline passed while it waited, for its first attempt or for a retry. */
  expired: [job: Source & { id: number }]
  /** Storage became ok, degraded or failed. */
  health: [health: StoreHealth]
  /** Something went wrong that no caller waits for, mostly a `GopherQueueError` with its `code`. Without a listener it goes to `process.emitWarning`. */
  warning: [error: unknown]
}

export type Emit = <K extends keyof QueueEvents>(event: K, ...args: QueueEvents[K]) => void

/**
 * Emits in the asynchronous context in which this is called, not in that of the job that listeners hear of; and in a turn of
 * its own, so that a listener that throws crashes as any would and harms no job.
 */
export function emitterOf(queue: EventEmitter<QueueEvents>): Emit {
  const context = AsyncLocalStorage.snapshot() as <T>(run: () => T) => T
  return (event, ...args) =>
    context(() => {
      if (events.hasSubscribers) events.publish({ queue, event, args })
      if (queue.listenerCount(event) > 0)
        afterThis(() => (queue.emit as (name: string, ...args: unknown[]) => boolean).call(queue, event, ...args))
      else if (event === 'warning') process.emitWarning(args[0] instanceof Error ? args[0] : String(args[0]))
    })
}

/** A worker, as far as it hears of the store. */
interface Listening {
  tell(event: 'cancelRequested' | 'leaseLost', id: number, token: number): void
}

/** Tells listeners what the store says by itself, and `workers` what is theirs. */
export function tellOf(event: StoreEvent, emit: Emit, workers: Iterable<Listening>): void {
  switch (event.event) {
    case 'cancelRequested':
    case 'leaseLost':
      for (const worker of workers) worker.tell(event.event, event.id, event.token)
      break
    case 'reclaimed':
      emit('reclaimed', { id: event.id, queue: event.queue, type: event.type }, event.fate)
      break
    case 'expired':
      emit('expired', { id: event.id, queue: event.queue, type: event.type })
      break
    case 'tickLost':
      emit('warning', new GopherQueueError(event.code, `Schedule '${event.schedule}': ${event.message}`))
      break
    case 'health':
      emit('health', event.health)
  }
}
