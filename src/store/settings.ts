import type { Instant } from '../model/clock.ts'
import type { ErrorCode } from '../model/errors.ts'
import type { Hour } from '../model/hours.ts'
import type { JobSpec } from '../model/job.ts'
import type { Rate } from '../model/rate.ts'
import type { Scope } from '../model/token.ts'

// What operators set: limits of queues, schedules, tokens; and the log of what they did.

/** Limits of a queue; undefined leaves as it is, null takes the limit away. Durations in ms. */
export interface QueueSettings {
  queue: string
  paused?: boolean
  maxDepth?: number | null
  maxRunning?: number | null
  maxRunningPerKey?: number
  keepSucceeded?: number | null
  keepCancelled?: number | null
  keepDead?: number | null
  rate?: Rate | null
}

/** Which names of queues to tell. */
export interface QueueNamesAsked {
  /** What they begin with; '' or undefined for all. */
  prefix?: string
  /** The `next` of the page before. */
  after?: string
  /** How many of them the asker knows: while these are all, none is told. */
  known?: number
  /** The `forgotten` of the answer that the asker knows them by. */
  forgotten?: number
}

/** Names of queues in the order of their bytes; `next` is the last of them, or null when no more follow; `count` is of all that were asked for. */
export interface QueueNames {
  names: string[]
  next: string | null
  count: number
  /** Queues of the file that were forgotten: while there are so many, those that were told are all there. */
  forgotten: number
}

/** Which hours to tell: those that begin in the hour of `since` or later (Unix ms), up to that of `until`; of one type, or all. */
export interface HoursAsked {
  since: Instant
  until?: Instant
  type?: string
}

/** Hours of types, the earliest first; `next` is what to go on with as `since`, or null when no more follow. */
export interface HoursPage {
  hours: Hour[]
  next: Instant | null
}

/** A cron line that submits a job at each tick. */
export interface ScheduleSettings {
  name: string
  cron: string
  timezone: string
  spec: JobSpec
  /** JSON text. */
  payload: string
  /** What ticks are worth that nobody was there for: none, the newest only, or a job each (the newest 1,000). */
  missed: 'skip' | 'once' | 'all'
  /** Whether a tick is skipped while the job of an earlier one has not ended. */
  overlap: 'allow' | 'skip'
}

/** Which schedules to tell: in the order of their names, those after `after`, 1,000 at most; `payloads` false leaves these out. */
export interface SchedulesAsked {
  after?: string
  limit?: number
  payloads?: boolean
}

/** Some of the schedules; `next` is what to go on with as `after`, or null when no more follow. */
export interface SchedulePage {
  schedules: Schedule[]
  next: string | null
}

/** A schedule as the file holds it. Instants are Unix ms. */
export interface Schedule {
  /** Its name, by which it is paused, resumed and removed; unique in the file. */
  name: string
  /** Its cron line: five fields, or six with seconds first. */
  cron: string
  /** IANA name of the zone in which the cron line is read. */
  timezone: string
  /** Queue of its jobs. */
  queue: string
  /** Type of its jobs. */
  type: string
  /** Payload of its jobs; undefined where it was not asked for. */
  payload?: unknown
  /** What becomes of ticks that passed while no process worked: 'skip' no job, 'once' one job for all, 'all' one each. */
  missed: 'skip' | 'once' | 'all'
  /** 'skip': a tick makes no job while the job of an earlier tick has not ended; 'allow': each makes one. */
  overlap: 'allow' | 'skip'
  /** True while it is paused: it makes no jobs until `resumeSchedule`. */
  paused: boolean
  /** Its next tick, or when one that was refused is tried again. Null when the cron line has no further tick. */
  nextAt: Instant | null
  /** Its latest tick, or null. */
  lastAt: Instant | null
  /** Id of the latest job that it submitted, or null. */
  lastJob: number | null
  /**
   * Why its latest tick has no job. One refused with QUEUE_FULL or STORAGE_FULL is tried again, after a second at first,
   * for as long as `missed` makes a job of it: 'skip' for a minute, 'once' and 'all' until there is room. Null when all is well.
   */
  problem: { code: ErrorCode; message: string; at: Instant } | null
  /** When code last defined it. */
  definedAt: Instant
  /**
   * False when no process that runs has defined it, though workers do run: its line was taken out of the code, and it goes
   * on ticking until `removeSchedule`. Of processes in other containers, those that started since `definedAt` decide.
   */
  inCode: boolean
}

/** Lets its holder call a server. Only its hash is kept. */
export interface NewToken {
  name: string
  scopes: Scope[]
  /** SHA-256, in hex. */
  hash: string
  /** From when on it is refused. Default null: never. */
  expiresAt?: Instant | null
}
export interface Token extends NewToken {
  expiresAt: Instant | null
  createdAt: Instant
  /** To the minute. */
  lastUsedAt: Instant | null
  revokedAt: Instant | null
}

/** What an operator did. */
export interface AuditEntry {
  id: number
  at: Instant
  /** 'token:NAME', 'loopback' on a server without tokens, 'cli:USER@HOST' on the file itself. */
  who: string
  /** The operation. */
  action: string
  /** Id of the job, or name of the queue, schedule or token. */
  target: string
  /**
   * `before` and `after`: what was there and what it became, of limits, states, schedules, tokens; of many jobs `event`, `filter`
   * and `changed`, how many they were. Without payloads.
   */
  details: unknown
}
export interface AuditPage {
  /** Newest first. */
  entries: AuditEntry[]
  /** The next call's cursor; null when this is the last page. */
  next: number | null
}
