import { constants } from 'node:os'
import type { DatabaseSync } from 'node:sqlite'
import type { Duration } from '../model/clock.ts'
import { toMs } from '../model/duration.ts'
import { invalid } from '../model/errors.ts'
import { checkName, oneOf, type Policy, wholeNumber } from '../model/job.ts'
import { states } from '../model/lifecycle.ts'
import { checkNames, inPaths } from '../model/names.ts'
import type { Rate } from '../model/rate.ts'
import { shown } from '../model/text.ts'
import type { CauseFilter, JobFilter, QueueSettings } from '../store/store.ts'
import { queuesOf } from './sources.ts'

/** What `GopherQueue.open` takes. */
export interface OpenOptions {
  /**
   * Bytes of the disk that are kept free for jobs that run: with less, submissions are refused with STORAGE_FULL. A
   * process that works sets a quarter of it aside as a file beside the database (`jobs.db-reserve`), which stays there after
   * its end. Default 64 MiB; 0 keeps nothing.
   */
  diskReserve?: number
  /** A token of the server, as `gopherqueue token create` prints it; only for a URL whose server asks for one. Default: none. */
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

/** A connection of `pg` (a Client or PoolClient), or anything that sends statements in a transaction as it does. */
export interface PgConnection {
  /** Sends a statement; its values are texts and nulls. */
  query(text: string, values: (string | null)[]): PromiseLike<{ rows: unknown[] }>
}

/** A transaction of `postgres`, as `sql.begin` gives it. */
export interface PostgresTransaction {
  /** Sends a statement; its values are texts and nulls. */
  unsafe(text: string, values: (string | null)[]): PromiseLike<unknown[]>
}

/** The client that Prisma's interactive `$transaction` gives. */
export interface PrismaTransaction {
  /** Sends a statement; its values are texts and nulls. */
  $queryRawUnsafe(text: string, ...values: (string | null)[]): PromiseLike<unknown>
}

/** A connection of the app's to the queue's PostgreSQL database, with an open transaction. */
export type PostgresConnection = PgConnection | PostgresTransaction | PrismaTransaction

/** What `configure` takes: limits of a queue, kept in the file. An option that is undefined stays as it is; null takes the limit away. */
export interface QueueOptions {
  /** Most jobs of the queue that may wait; a submission beyond is refused with QUEUE_FULL. Default: no limit. */
  maxDepth?: number | null
  /**
   * Most jobs of the queue that run at once, over all processes; it takes effect on what is leased from then on. A handler that goes on
   * after its timeout does not count. Default: no limit.
   */
  maxRunning?: number | null
  /** Most jobs of the queue with the same type and `concurrencyKey` that run at once, over all processes: 1 to 10,000. Default 1. */
  maxRunningPerKey?: number
  /**
   * At most `max` of its jobs start in any interval of `per`, over all processes: as for a provider that takes 100 mails a
   * minute. Each attempt is a start, also one that is given back. `max`: 1 to 1,000,000; `per`: 1 ms to 1 day. A start
   * may count up to a thousandth of `per` longer. Of a wall clock that is set forward, the limit knows nothing, nor of
   * starts from before it was taken away and set again. Default: no limit.
   */
  rate?: { max: number; per: Duration } | null
  /** How long succeeded jobs stay in the file after their end, in ms or as '7d'; counts for those that end from now on. A `wait` in another process reads the result there: one that looks later is told NOT_FOUND. Default 24 h; null keeps them for ever. */
  keepSucceeded?: Duration | null
  /** How long cancelled jobs stay in the file after their end, in ms or as '7d'. Default 7 days; null keeps them for ever. */
  keepCancelled?: Duration | null
  /** How long dead jobs stay in the file after their end, in ms or as '30d'. Default: for ever (null). */
  keepDead?: Duration | null
}

/** What `queue.work` takes. */
export interface WorkOptions {
  /** Most handlers that this worker runs at once, 1 to 10,000. Default 10. */
  concurrency?: number
  /**
   * Queues to take jobs from, each for all types that have a handler here. A name that ends in * is a pattern, also for queues that
   * come later: 'tenant-*' is each queue whose name begins with 'tenant-' (one named 'tenant-*' among them), '*' is each queue. A worker looks
   * for new ones once a second. Of more than 100,000 pairs of a queue and a type (over a server, of more than 768 KiB of them as JSON) those in the
   * queues that are last by name are left out, and a `warning` (QUEUES_NOT_TAKEN) says how many queues these are. Default: the queues that the definitions name.
   */
  queues?: string[]
  /** The worker's name in `stats`, job histories and the dashboard, 1 to 128 characters. Default: process id and a number, such as '4711-1'. */
  name?: string
  /**
   * Signals, such as ['SIGTERM', 'SIGINT'], at the first of which the queue closes: it takes no more jobs, waits for running handlers as
   * long as `grace`, fires their signals, gives back uncharged the jobs of those that have not ended 2 s later, and ends the process with code 0. A
   * second signal, a second or more later, ends it at once. A program that listens to the signal itself also ends itself.
   * Default: none.
   */
  stopOn?: NodeJS.Signals[]
  /**
   * How long `stop` waits for running handlers unless it is told otherwise, in ms or as '30s'. Default 30 s; with `stopOn` 6 s, so that all is over
   * within the 10 s after which Docker kills.
   */
  grace?: Duration
}

/** What `worker.stop` and `queue.close` take. */
export interface StopOptions {
  /** True: wait for running handlers, as long as `grace`. False: fire their signals at once. Default true. */
  drain?: boolean
  /**
   * How long to wait for them, in ms or as '30s', before their signals fire; jobs of those that go on for 10 s more, or 2 s with `stopOn`, are
   * given back all the same, uncharged. Default: the worker's `grace`, which is 30 s, or 6 s with `stopOn`.
   */
  grace?: Duration
}

/** What `wait` takes: how long to wait for the end of a job. */
export interface WaitOptions {
  /** Longest wait for the end, in ms or as '30s'; then `wait` looks once more, for 1 s at most, and throws WAIT_TIMEOUT where the job goes on or storage does not answer. Default: no limit. */
  timeout?: Duration
  /** When it is aborted, `wait` throws its reason, and the job goes on. Default: none. */
  signal?: AbortSignal
}

/** What `schedule` takes: the policy of the schedule's jobs, the time zone, and which ticks (instants of its cron line) make a job. */
export interface ScheduleOptions extends Policy {
  /** IANA name of the time zone in which the cron line is read, such as 'Europe/Berlin'. Default 'UTC'. */
  timezone?: string
  /**
   * What becomes of ticks that passed before a process looked, as none worked or all were busy: 'once' (default) makes one job for all of
   * them, of the newest; 'skip' does so only where the newest is less than a minute old; 'all' makes one job each, of the newest 1,000.
   */
  missed?: 'skip' | 'once' | 'all'
  /** 'skip': a tick makes no job while the job of an earlier tick has not ended. 'allow': each tick makes one. Default 'allow'. */
  overlap?: 'allow' | 'skip'
}

export function checkOpen(place: string, options: OpenOptions): OpenOptions {
  if (typeof place !== 'string' || place === '' || place.includes('\0'))
    throw invalid(`open takes a path or an URL; got ${shown(place)}.`)
  checkNames('option of open', options, ['diskReserve', 'token', 'driver'])
  if (options.diskReserve !== undefined) wholeNumber(options.diskReserve, 0, 2 ** 50, 'diskReserve')
  if (options.driver !== undefined && isUrl(place)) throw invalid('driver is for a file: a server has its own.')
  if (isPostgres(place))
    for (const name of ['driver', 'diskReserve', 'token'] as const)
      if (options[name] !== undefined) throw invalid(`${name} is not for a PostgreSQL database.`)
  return options
}

/** Whether a place is a PostgreSQL database. */
export const isPostgres = (place: string): boolean => /^postgres(ql)?:\/\//i.test(place)

export const isUrl = (place: string): boolean => /^https?:\/\//i.test(place) && URL.canParse(place)

const filterNames = [
  'state',
  'queue',
  'type',
  'text',
  'cause',
  'failing',
  'since',
  'until',
  'endedBefore',
  'order',
  'limit',
  'cursor',
]

/** `without`: what this call has no use for. */
export function checkFilter(filter: JobFilter, without: readonly string[] = []): JobFilter {
  checkNames('job filter', filter, filterNames.filter((name) => !without.includes(name))) // biome-ignore format: one line
  const { state, queue, type, text, cause, failing, since, until, endedBefore, order, limit, cursor } = filter
  if (state !== undefined) oneOf(state, states, 'state')
  if (queue !== undefined) checkName('queue', queue)
  if (type !== undefined) checkName('type', type)
  if (text !== undefined && (typeof text !== 'string' || text === '' || text.length > 256 || text.includes('\0')))
    throw invalid(`text must have 1 to 256 characters, and no NUL: JSON writes that as \\u0000; got ${shown(text)}.`)
  if (cause !== undefined && typeof cause !== 'string') throw invalid(`cause must be a text; got ${shown(cause)}.`)
  if (failing !== undefined && typeof failing !== 'boolean') throw invalid(`failing must be true or false; got ${shown(failing)}.`) // biome-ignore format: one line
  if (since !== undefined) wholeNumber(since, 0, Number.MAX_SAFE_INTEGER, 'since')
  if (until !== undefined) wholeNumber(until, 0, Number.MAX_SAFE_INTEGER, 'until')
  if (endedBefore !== undefined) wholeNumber(endedBefore, 0, Number.MAX_SAFE_INTEGER, 'endedBefore')
  if (order !== undefined) oneOf(order, ['oldest', 'newest', 'due'], 'order')
  if (order === 'due' && state !== 'scheduled') throw invalid("Only scheduled jobs have an order 'due': give state 'scheduled' too.") // biome-ignore format: one line
  if (limit !== undefined) wholeNumber(limit, 1, 1000, 'limit')
  if (cursor !== undefined && cursor !== null) wholeNumber(cursor, 0, Number.MAX_SAFE_INTEGER, 'cursor')
  return filter
}

/** Throws INVALID_ARGUMENT. */
export function checkCauses(filter: CauseFilter): CauseFilter {
  checkNames('filter of causes', filter, ['queue', 'type', 'limit', 'cursor'])
  const { queue, type, limit, cursor } = filter
  if (queue !== undefined) checkName('queue', queue)
  if (type !== undefined) checkName('type', type)
  if (limit !== undefined) wholeNumber(limit, 1, 200, 'limit')
  if (cursor !== undefined && cursor !== null && !(typeof cursor === 'string' && /^\d{1,16}\.\d{1,16}$/.test(cursor)))
    throw invalid(`cursor must be the \`next\` of the page before; got ${shown(cursor)}.`)
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
  if (queues !== undefined && !Array.isArray(queues))
    throw invalid("queues must be an array of names and patterns, such as ['mail', 'tenant-*'].")
  if (queues?.length === 0) throw invalid('queues must name at least one queue.')
  return {
    name: inPaths('worker', checkName('worker', name)),
    concurrency,
    stopOn,
    grace: toMs(grace ?? (hurried ? 6000 : 30_000), 'grace'),
    afterAbort: hurried ? 2000 : 10_000,
    queues: queues && queuesOf(queues),
  }
}
