import type { Instant } from '../model/clock.ts'
import type { Priority } from '../model/job.ts'
import type { State } from '../model/lifecycle.ts'
import type { Source } from './jobs.ts'

// Queues, workers, the file and the store itself in numbers.

/** What has happened in a queue since its file was made, by all processes. */
export interface Totals {
  /** Jobs stored. */
  submitted: number
  /** Jobs that ended well. */
  succeeded: number
  /** Attempts that failed: a throw, a timeout, a lost lease; also those that history calls 'cancelled', as their job was to stop. */
  failed: number
  /** Jobs that died. */
  dead: number
  /** Jobs that were cancelled. */
  cancelled: number
}

/** One queue in numbers. */
export interface QueueStats {
  /** Name of the queue. */
  queue: string
  /** True while it is paused: none of its jobs start until `resume`. */
  paused: boolean
  /** Most jobs that may wait, or null for no limit. */
  maxDepth: number | null
  /** Most jobs that run at once, over all processes, or null for no limit. */
  maxRunning: number | null
  /** Most jobs of one type and `concurrencyKey` that run at once, over all processes. */
  maxRunningPerKey: number
  /** At most `max` of its jobs start in any `per` ms; null for no limit. */
  rate: { max: number; per: number } | null
  /** How long succeeded jobs stay in the file after their end, in ms, of those that end from now on; null for ever. */
  keepSucceeded: number | null
  /** The same of cancelled jobs. */
  keepCancelled: number | null
  /** The same of dead jobs. */
  keepDead: number | null
  /** How many of its jobs are in the file now, by state; ended jobs are deleted after a time. */
  counts: Record<State, number>
  /** What has happened in it since the file was made; these numbers only grow, so two readings give a rate. */
  totals: Totals
}

/** What a worker says of itself when it starts. */
export interface WorkerRegistration {
  /** The worker's name, as given to `work`, or process id and a number. */
  name: string
  /** The queues and types that it takes jobs of. */
  sources: Source[]
  /** Most handlers that it runs at once. */
  slots: number
  /** Its host, if it is reached over the network: then nobody here renews its leases. */
  remote?: string
  /** As it was signed on before: its row is brought up to date, if it is of the same instance. */
  known?: number
  /** Names its process, if it is reached over the network: all its workers say the same. */
  instance?: string
  /** Names this call: sent again because its answer was lost, it signs on no second worker. */
  request?: string | null
}

/** A page of queues in the order of their names; go on with `after` = `next` until it is null. */
export interface QueuePage {
  /** In the order of their names. */
  queues: QueueStats[]
  /** What to go on with as `after`; null after the last. */
  next: string | null
}

/** One worker, of any process, that has not signed off. */
export interface Worker extends WorkerRegistration {
  /** Its row in the file. */
  id: number
  /** Its process on its host; null when not known. */
  pid: number | null
  /** Its host's name. */
  host: string
  /** When it started (Unix ms). */
  startedAt: Instant
  /** When it last said that it lives (Unix ms). */
  seenAt: Instant
  /** Its process is there; where that cannot be seen from here, it was seen in the last minute. */
  alive: boolean
  /** Jobs that it holds. */
  running: number
  /** How many sources it has; `sources` are the first 1,000. */
  sourceCount: number
}

/** The database file, in bytes on the disk. */
export interface FileStats {
  /** Its absolute path, on the machine of the process or server that has it open. */
  path: string
  /** The file itself, without its WAL. */
  bytes: number
  /** Inside it: used again, and given back to the disk when it is more than 4 MiB and a quarter of the file. */
  freeBytes: number
  /** The WAL beside it, which is used again from its start after each checkpoint. */
  walBytes: number
  /** False for a file that another program made without incremental vacuum: its free space stays in it. */
  shrinks: boolean
  /** Set aside on the disk for the outcomes of running jobs. */
  reserveBytes: number
  /** Free on its disk, besides what is set aside. */
  diskFreeBytes: number
  /** When `gopherqueue backup` last made a backup of it, in Unix ms; null if it never did. */
  backupAt: Instant | null
}

/** A PostgreSQL server, as a look at it found it: there is one in 15 s at most, and while nobody asks there is none. */
export interface ServerStats {
  /** When the look ended, in Unix ms. */
  at: Instant
  /** Why the look found nothing out, such as a server that lets nobody in; null when it did. */
  problem: string | null
  /** What it found out; null when it did not. */
  figures: ServerFigures | null
}

/** What a PostgreSQL server says of itself and of a queue's tables. */
export interface ServerFigures {
  /** As whom it was asked, as an SQL identifier. */
  role: string
  /** Whether this role may see what others do, as members of pg_monitor may. */
  seesAll: boolean
  /** synchronous_standby_names: commits wait for these; '' when for none. */
  waitsFor: string
  /** Standbys that are connected. `behindBytes`: WAL that it has not on its disk yet, null where it has not said. Null where the role may not see it. */
  standbys: { name: string; sync: string; behindBytes: number | null }[] | null
  /** Commits wait for standbys of which too few are there: nothing is acknowledged. Null where the role may not see it. */
  standbyMissing: boolean | null
  /** Who has the queue's lock; null: nobody. `ms`: age of its transaction, null where the role may not see that. `waiting`: how many wait. */
  writer: {
    pid: number
    name: string | null
    address: string | null
    state: string | null
    ms: number | null
    waiting: number
  } | null
  /** The three oldest transactions of clients that keep dead rows from vacuum. Null where the role may not see it. */
  snapshots: { pid: number; name: string; ms: number }[] | null
  /** Replication slots that nobody uses and that keep WAL (`bytes`) or dead rows. */
  slots: { name: string; bytes: number | null }[]
  /** Connections of clients: GopherQueue's, all, and the most that the server takes. */
  connections: { ours: number; all: number; most: number }
  /** The queue's tables, with their indexes; the server's estimates of living and dead rows. The largest first. */
  tables: { name: string; bytes: number; rows: number; dead: number; vacuumedAt: Instant | null }[]
}

/** What is in the file beside what `stats` lists. */
export interface Others {
  /** Queues that are not listed: all but the 1,000 with the most jobs that wait, run or are dead. */
  queues: number
  /** Their jobs, by state. */
  counts: Record<State, number>
  /** What has happened in them, and in queues that were forgotten with their last job. */
  totals: Totals
  /** Workers that are not listed: at most 1,000 are, with 1,000 sources each and 50,000 together. */
  workers: number
  /** More lines than the 2,000 in `waiting` have ready jobs. */
  lines: boolean
}

/** What `queue.stats` resolves with: counts, workers and waiting times at one instant. The cost does not grow with the number of jobs. */
export interface Stats {
  /** Queues with a job, a setting or a schedule, in the order of their names: the 1,000 with the most jobs that wait, run or are dead. */
  queues: QueueStats[]
  /** What is not listed here. */
  others: Others
  /** Workers that have not stopped in order, also those whose process is gone (`alive: false`): the first 1,000. */
  workers: Worker[]
  /** Queues and types that have ready jobs and no live worker; none are told where workers have more than 16 MiB of sources. */
  unhandled: Source[]
  /** For how long the oldest ready job is ready, in ms: not since its submission, where it waited for its time or a retry. Without paused queues; null when none is ready. */
  oldestReadyMs: number | null
  /**
   * The same for each class of each queue and type that has ready jobs, none of them blocked by its concurrency key; paused
   * queues too, at most 2,000. `atLeast`: behind 1,000 jobs that were retried or delayed, one that is older was not looked for.
   */
  waiting: (Source & { priority: Priority; oldestReadyMs: number; atLeast: boolean })[]
  /** Sizes of the file, in bytes; null for a queue in memory, and on PostgreSQL. */
  file: FileStats | null
  /** On PostgreSQL, how the server is; null elsewhere. */
  server: ServerStats | null
}

/** Numbers by size: `counts[i]` of them are at most `bounds[i]` and above the bound before; the last count is of the rest. */
export interface Histogram {
  bounds: number[]
  counts: number[]
  sum: number
}

/** How the store itself does, in this process, since it was opened. */
export interface Vitals {
  /** A lease request waits although a job is there that it could have. Only something that is broken lasts longer than a moment. */
  starving: boolean
  /** Ms that COMMIT took, which is its fsync above all, and now and then a checkpoint. */
  commits: Histogram
  /** Operations that shared one transaction and its fsync. */
  groups: Histogram
}
