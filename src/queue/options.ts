import { constants } from 'node:os'
import type { DatabaseSync } from 'node:sqlite'
import type { Duration } from '../model/clock.ts'
import { toMs } from '../model/duration.ts'
import { invalid } from '../model/errors.ts'
import { checkName, oneOf, type Policy, wholeNumber } from '../model/job.ts'
import { states } from '../model/lifecycle.ts'
import { checkNames } from '../model/names.ts'
import type { Rate } from '../model/rate.ts'
import { shown } from '../model/text.ts'
import type { JobFilter, QueueSettings, Source } from '../store/store.ts'
import type { Definition } from './definition.ts'

/** What `GopherQueue.open` takes. */
export interface OpenOptions {
  /**
   * Bytes of the disk that are kept free for jobs that run: with less, submissions are refused with STORAGE_FULL. While
   * this process works, a quarter of it is set aside as a file beside the database. Default 64 MiB; 0 keeps nothing.
   */
  diskReserve?: number
  /** What the server knows this client by, where it asks for that. */
  token?: string
  /**
   * Where the app's own better-sqlite3 is: `import.meta.resolve('better-sqlite3')`, or `require.resolve` in CommonJS. The
   * queue then runs on it, for an app that uses the same file through it: app and queue must share one copy of SQLite.
   * It must be loaded once in the process, with SQLite 3.51.3 or newer. Default: the copy of node:sqlite.
   */
  driver?: string
}

/** A connection of better-sqlite3, as `submitWith` takes it from an app whose queue runs on that `driver`. */
export interface BetterSqlite3Connection {
  /** Whether a transaction is open on it. */
  readonly inTransaction: boolean
  /** Prepares a statement. */
  prepare(sql: string): unknown
  /** Runs statements. */
  exec(sql: string): unknown
}

/** A connection of the app's to the queue's file: of better-sqlite3 for a queue with a `driver`, else of node:sqlite. */
export type AppConnection = DatabaseSync | BetterSqlite3Connection

/** A queue's limits; undefined leaves as it is, null takes the limit away. */
export interface QueueOptions {
  /** Jobs that may wait; more are refused with QUEUE_FULL. Default: no limit. */
  maxDepth?: number | null
  /**
   * Jobs that may run at once, over all processes; it takes effect on what is leased from then on. A handler that goes on
   * after its timeout does not count. Default: no limit.
   */
  maxRunning?: number | null
  /** Jobs of one type and `concurrencyKey` that may run at once. Default 1. */
  maxRunningPerKey?: number
  /**
   * At most `max` of its jobs start in any interval of `per`, over all processes: as for a provider that takes 100 mails a
   * minute. Each attempt is a start, also one that is given back. `max`: 1 to 1,000,000; `per`: 1 ms to 1 day. A start
   * may count up to a thousandth of `per` longer. Of a wall clock that is set forward, the limit knows nothing. Default: no limit.
   */
  rate?: { max: number; per: Duration } | null
  /** How long succeeded jobs are kept, of those that end from now on. Default 24 h; null for ever. */
  keepSucceeded?: Duration | null
  /** As `keepSucceeded`, of cancelled jobs. Default 7 days. */
  keepCancelled?: Duration | null
  /** As `keepSucceeded`, of dead jobs. Default for ever. */
  keepDead?: Duration | null
}

/** What `GopherQueue.work` takes. */
export interface WorkOptions {
  /** Handlers that run at once, 1 to 10,000. Default 10. */
  concurrency?: number
  /** Queues to take jobs from. Default: those that the definitions name. */
  queues?: string[]
  /** 1 to 128 characters, shown to operators. Default: process id and a number. */
  name?: string
  /**
   * Signals, such as ['SIGTERM', 'SIGINT'], at the first of which the queue closes: it takes no more jobs, waits for running handlers as
   * long as `grace`, fires their signals, gives back uncharged the jobs of those that have not ended 2 s later, and ends the process with code 0. A
   * second signal, half a second or more later, ends it at once. A program that listens to the signal itself also ends itself.
   * Default: none.
   */
  stopOn?: NodeJS.Signals[]
  /**
   * How long `stop` waits for running handlers unless it is told otherwise. Default 30 s; with `stopOn` 6 s, so that all is over
   * within the 10 s after which Docker kills.
   */
  grace?: Duration
}

/** How a worker stops. */
export interface StopOptions {
  /** Wait for running handlers first (default); else abort them at once. */
  drain?: boolean
  /** How long to wait for them before their signals fire and their jobs go back, uncharged. Default: the worker's `grace`, 30 s. */
  grace?: Duration
}

/** How long to wait for a job's end. */
export interface WaitOptions {
  /** Then WAIT_TIMEOUT is thrown; the job goes on. Default: for ever. */
  timeout?: Duration
  /** Ends the waiting: its reason is thrown, the job goes on. */
  signal?: AbortSignal
}

/** What a schedule can set: the policy of its jobs, and which ticks count. */
export interface ScheduleOptions extends Policy {
  /** IANA name, such as 'Europe/Berlin'. Default 'UTC'. */
  timezone?: string
  /**
   * What ticks are worth for which no process was there (later than a minute): 'skip' none of them, 'once' (default) one
   * job for all, 'all' a job each, 1,000 at most.
   */
  missed?: 'skip' | 'once' | 'all'
  /** 'skip': no job while that of an earlier tick has not ended. Default 'allow'. */
  overlap?: 'allow' | 'skip'
}

export function checkOpen(place: string, options: OpenOptions): OpenOptions {
  if (typeof place !== 'string' || place === '' || place.includes('\0'))
    throw invalid(`open takes a path or an URL; got ${shown(place)}.`)
  checkNames('option of open', options, ['diskReserve', 'token', 'driver'])
  if (options.diskReserve !== undefined) wholeNumber(options.diskReserve, 0, 2 ** 50, 'diskReserve')
  if (options.driver !== undefined && isUrl(place)) throw invalid('driver is for a file: a server has its own.')
  return options
}

export const isUrl = (place: string): boolean => /^https?:\/\//i.test(place) && URL.canParse(place)

const filterNames = ['state', 'queue', 'type', 'text', 'error', 'since', 'until', 'order', 'limit', 'cursor']

/** `without`: what this call has no use for. */
export function checkFilter(filter: JobFilter, without: readonly string[] = []): JobFilter {
  checkNames('job filter', filter, filterNames.filter((name) => !without.includes(name))) // biome-ignore format: one line
  const { state, queue, type, since, until, order, limit, cursor } = filter
  if (state !== undefined) oneOf(state, states, 'state')
  if (queue !== undefined) checkName('queue', queue)
  if (type !== undefined) checkName('type', type)
  if (since !== undefined) wholeNumber(since, 0, Number.MAX_SAFE_INTEGER, 'since')
  if (until !== undefined) wholeNumber(until, 0, Number.MAX_SAFE_INTEGER, 'until')
  if (order !== undefined) oneOf(order, ['oldest', 'newest'], 'order')
  if (limit !== undefined) wholeNumber(limit, 1, 1000, 'limit')
  if (cursor !== undefined && cursor !== null) wholeNumber(cursor, 0, Number.MAX_SAFE_INTEGER, 'cursor')
  return filter
}

export function queueSettings(queue: string, options: QueueOptions): QueueSettings {
  const kept = ['keepSucceeded', 'keepCancelled', 'keepDead'] as const
  checkNames('queue option', options, ['maxDepth', 'maxRunning', 'maxRunningPerKey', 'rate', ...kept])
  const { maxDepth, maxRunning, maxRunningPerKey, rate, ...keep } = options
  const settings: QueueSettings = { queue: checkName('queue', queue) }
  if (maxDepth !== undefined)
    settings.maxDepth = maxDepth === null ? null : wholeNumber(maxDepth, 1, 2 ** 31, 'maxDepth')
  if (maxRunning !== undefined)
    settings.maxRunning = maxRunning === null ? null : wholeNumber(maxRunning, 1, 2 ** 31, 'maxRunning')
  if (maxRunningPerKey !== undefined)
    settings.maxRunningPerKey = wholeNumber(maxRunningPerKey, 1, 10_000, 'maxRunningPerKey')
  if (rate !== undefined) settings.rate = rate === null ? null : checkedRate(rate)
  for (const name of kept) {
    const value = keep[name]
    if (value !== undefined) settings[name] = value === null ? null : toMs(value, name)
  }
  return settings
}

function checkedRate(rate: NonNullable<QueueOptions['rate']>): Rate {
  checkNames('rate option', rate, ['max', 'per'])
  return { max: wholeNumber(rate.max, 1, 1_000_000, 'rate.max'), per: wholeNumber(toMs(rate.per, 'rate.per'), 1, 86_400_000, 'rate.per, in ms,') } // biome-ignore format: one line
}

const catchable = Object.keys(constants.signals).filter((name) => !/^SIG(KILL|STOP)$/.test(name)) as NodeJS.Signals[]

/** What is asked of a worker, with its defaults; `afterAbort` is how long aborted handlers may take to stop. Durations in ms. */
export function workSettings(options: WorkOptions, defaultName: string) {
  checkNames('option of work', options, ['concurrency', 'queues', 'name', 'stopOn', 'grace'])
  const { concurrency = 10, queues, name = defaultName, stopOn = [], grace } = options
  if (!Array.isArray(stopOn)) throw invalid("stopOn must be an array, such as ['SIGTERM', 'SIGINT'].")
  for (const signal of stopOn) oneOf(signal, catchable, 'stopOn')
  const hurried = stopOn.length > 0
  wholeNumber(concurrency, 1, 10_000, 'concurrency')
  if (queues && !Array.isArray(queues)) throw invalid('queues must be an array of names.')
  if (queues?.length === 0) throw invalid('queues must name at least one queue.')
  return {
    name: checkName('worker', name),
    concurrency,
    stopOn,
    grace: toMs(grace ?? (hurried ? 6000 : 30_000), 'grace'),
    afterAbort: hurried ? 2000 : 10_000,
    queues: queues && [...new Set(queues)].map((queue) => checkName('queue', queue)),
  }
}

/** What a worker takes jobs of: each type that has a handler, in the queues named, or in those that these types name. */
export function sourcesOf(definitions: ReadonlyMap<string, Definition>, queues?: readonly string[]): Source[] {
  const able = [...definitions.values()].filter(({ handler }) => handler)
  const named = queues ?? [...new Set(able.map(({ spec }) => spec.queue))]
  return named.flatMap((queue) => able.map(({ type }) => ({ queue, type })))
}
