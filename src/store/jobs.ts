import type { Instant } from '../model/clock.ts'
import type { DeadReason, Job, JobError, JobSpec } from '../model/job.ts'
import type { State } from '../model/lifecycle.ts'

// Jobs as a store takes them in, gives them to workers, hears of them, and lists them.

/** Jobs to store together: all or none. `keys[i]` is the idempotency key of `payloads[i]`. */
export interface Submission {
  /** One spec for all, or one for each. */
  specs: JobSpec | JobSpec[]
  /** JSON texts. */
  payloads: string[]
  keys: (string | null)[] | null
  /** JSON text of the submitter's trace context. */
  trace?: string | null
  /** Names this call: sent again because its answer was lost, it is answered as the first time, and stores nothing. */
  request?: string | null
  /** SHA-256 of what the request asks for, where its maker has it already: it may be made of 64 MiB. */
  digest?: string
}

/** Ids in the order submitted; `duplicates` are the positions whose key had a job already. */
export interface Submitted {
  ids: number[]
  duplicates: number[]
  /** Of the duplicates, in their order: null where retention has deleted the job and its key is still held. None without duplicates. */
  states?: (State | null)[]
  /** This is the answer of an earlier submission of the same request: nothing was stored now. */
  replayed?: true
}

/** A queue and a type: what a worker takes jobs of. */
export interface Source {
  /** Name of the queue. */
  queue: string
  /** Name of the type. */
  type: string
}

/** What a worker wants next. Waits until there is at least one job; a newer request of the same worker replaces it. */
export interface LeaseRequest {
  worker: number
  sources: Source[]
  /** Most jobs that this worker may hold at once, those it holds already included. */
  slots: number
  /** Jobs that it must not have, besides those whose handlers go on in its process. */
  exclude: number[]
  /**
   * Tokens of the jobs that it has, of a worker on the network. What it was given and neither names nor ever confirmed was
   * not received: it goes back, uncharged. Undefined when it does not say.
   */
  holds?: number[]
  /** Number of the request among those of its worker, growing: one that arrives after a newer one gets nothing. */
  ask?: number
  /** The first of its requests whose answer it may still receive; this one if not given. What that gave does not go back. */
  since?: number
}

/** The right to report on one attempt. A stale one is refused with LEASE_LOST. */
export interface Lease extends Source {
  id: number
  token: number
  /** Of the file that gave it, where it came over the network: in another file it fits nothing. */
  epoch?: string
}

export interface LeasedJob extends Lease {
  priority: number
  /** JSON text. */
  payload: string
  attempt: number
  /** Place of this attempt in the present budget: 1 is the first. */
  tries: number
  maxAttempts: number
  /** JSON text of a StoredBackoff; null is the default one. */
  backoff: string | null
  timeout: number
  visibilityTimeout: number
  deadline: Instant | null
  /** JSON text that an earlier attempt left, or null. */
  checkpoint: string | null
  /** JSON text of the submitter's trace context, or null. */
  trace: string | null
  createdAt: Instant
  /** The tick of the schedule that submitted it, or null. */
  tick: Instant | null
  startedAt: Instant
  /** Ms from when it became ready to this lease; null where that is not known: a delayed job, or not its first lease. */
  waited?: number | null
}

export interface Failure {
  lease: Lease
  /** 'postpone': the handler says "not now", and no attempt is charged. */
  kind: 'temporary' | 'permanent' | 'timeout' | 'postpone'
  error: JobError
  /** In how many ms it is tried again; null leaves that to the backoff. */
  retryAfter: number | null
  /** Its handler still runs: the job is not to start beside it in the same process, until `settled` or for 30 s. */
  goesOn?: boolean
}

/** How far a running job is, for people to see. */
export interface Progress {
  lease: Lease
  /** 0 to 100. */
  percent: number
  message: string | null
}

/** What became of a job by a call or by the end of an attempt. */
export interface Fate {
  /** Its state now; after `cancel` of a running job still `running`, as its handler has only been asked to stop. */
  state: State
  /** When its next attempt is due (Unix ms); null unless `scheduled`. */
  runAt: Instant | null
  /** Why it is dead; null in each other state. */
  reason: DeadReason | null
}

/** Which jobs to list: those that meet each condition that is given; `{}` is all. */
export interface JobFilter {
  /** Only jobs in this state. Default: any. */
  state?: State
  /** Only jobs of this queue. Default: any. */
  queue?: string
  /** Only jobs of this type. Default: any. */
  type?: string
  /** Only jobs whose payload (as JSON) or one of whose keys contains this text, in upper or lower case. Default: any. */
  text?: string
  /** Only jobs that are dead of this cause, or fail of it now, as `deadLetters` and `failing` name it. Default: any. */
  cause?: string
  /** True: only jobs that fail now, their last attempt having failed. Default false: any. */
  failing?: boolean
  /** Only jobs submitted at this instant or later (Unix ms). Default: any. */
  since?: Instant
  /** Only jobs submitted before this instant (Unix ms). Default: any. */
  until?: Instant
  /** Only jobs that ended before this instant (Unix ms). Default: any, also those that have not ended. */
  endedBefore?: Instant
  /**
   * By submission, or scheduled jobs (`state: 'scheduled'`) by when they are `due`: what comes due between two pages moves the rest
   * forward, so that a job may be missed. Default 'newest' first.
   */
  order?: 'oldest' | 'newest' | 'due'
  /** Most jobs in the page: 1 to 1000, default 100. */
  limit?: number
  /** `next` of the page before, to go on from there. Default: the first page. */
  cursor?: number | null
}

/** Some of the jobs that fit a filter. */
export interface JobPage {
  /** In the order asked for. */
  jobs: Job[]
  /** Hand it to the next call; null when this is the last page. */
  next: number | null
}

/** Which causes to list: those that meet each condition that is given; `{}` is all. */
export interface CauseFilter {
  /** Only of jobs of this queue. Default: any. */
  queue?: string
  /** Only of jobs of this type. Default: any. */
  type?: string
  /** Most causes in the page: 1 to 200, default 200. */
  limit?: number
  /** `next` of the page before, to go on from there. Default: the first page. */
  cursor?: string | null
}

/** Jobs of one queue and type whose last errors are of one cause: they differ in numbers, ids, addresses and values at most. */
export interface Cause extends Source {
  /** For people, and for `JobFilter.cause`; 'other' stands for what is beyond the 1,000 causes of a queue and type. */
  cause: string
  /** How many jobs there are: exact, unless the page is `counting`. */
  count: number
  /** Id of the newest of them. */
  newest: number
  /** Id of the oldest of them. */
  oldest: number
  /** When the last job came to it (Unix ms): it died of it, or an attempt failed. */
  lastAt: Instant
}

/** Some of the causes that fit a filter. */
export interface CausePage {
  /** Those of most jobs first. */
  causes: Cause[]
  /** Jobs of a file that an older version wrote are still being counted, by whoever works on it: counts are too low until then. */
  counting: boolean
  /** Hand it to the next call; null when this is the last page. */
  next: string | null
}
