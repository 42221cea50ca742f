import type { Instant } from '../model/clock.ts'
import type { Attempt, Job } from '../model/job.ts'
import type * as jobs from './jobs.ts'
import { none, nothing, row } from './row.ts'
import type * as settings from './settings.ts'
import type { QueuePage, Stats, Vitals, WorkerRegistration } from './stats.ts'

const ofJobs = {
  submit: row<jobs.Submission, jobs.Submitted>()({
    ...{ kind: 'write', ends: null, at: 'POST /v1/jobs', scope: 'submit', patience: 'brief', status: 201 },
    summary: 'Store a job. Answered when it is on disk. Header Idempotency-Key is the job’s idempotencyKey',
    ...{ body: (of) => of.JobInput, response: (of) => of.Submitted },
  }),
  /** `asText`: payloads and results as their JSON texts, for who writes them out again. */
  jobs: row<jobs.JobFilter & { asText?: boolean }, jobs.JobPage>()({
    ...{ kind: 'read', ends: null, at: 'GET /v1/jobs', scope: 'read', patience: 'brief', summary: 'One page of jobs' },
    ...{ query: (of) => of.Filter, response: ({ object, list, Job, next }) => object({ jobs: list(Job), next }) },
  }),
  deadLetters: row<jobs.CauseFilter, jobs.CausePage>()({
    ...{ kind: 'read', ends: null, at: 'GET /v1/dead-letters', scope: 'read', patience: 'brief' },
    summary: 'How many jobs are dead, by the cause of their last error',
    ...{ query: (of) => of.CauseFilter, response: (of) => of.Causes },
  }),
  /** Jobs whose last attempt failed, ran out of time or was lost and charged, and that have not ended since. */
  failing: row<jobs.CauseFilter, jobs.CausePage>()({
    ...{ kind: 'read', ends: null, at: 'GET /v1/failing', scope: 'read', patience: 'brief' },
    summary: 'How many jobs fail now and will be tried again, by the cause of their last error',
    ...{ query: (of) => of.CauseFilter, response: (of) => of.Causes },
  }),
  many: row<
    { event: 'cancel' | 'retry' | 'runNow' | 'remove'; filter: jobs.JobFilter },
    { changed: number; next: number | null }
  >()({
    ...{ kind: 'write', ends: null, at: 'POST /v1/jobs/many', scope: 'admin', patience: 'once' },
    summary: 'Cancel, retry, run now or delete the jobs of one page that this fits. Go on with `next` until it is null',
    body: ({ closed, texts, Filter }) =>
      closed({ event: texts(['cancel', 'retry', 'runNow', 'remove']), filter: Filter }),
    response: ({ object, int, next }) => object({ changed: int(), next }),
  }),
  job: row<number, Job | null>()({
    ...{ kind: 'read', ends: null, at: 'GET /v1/jobs/:id', scope: 'read', patience: 'brief', summary: 'One job' },
    response: (of) => of.Job,
  }),
  attempts: row<number, Attempt[]>()({
    ...{ kind: 'read', ends: null, at: 'GET /v1/jobs/:id/attempts', scope: 'read', patience: 'brief' },
    summary: 'Its history, and when it would be tried again if each attempt failed at once',
    response: ({ object, list, Attempt, instant }) => object({ attempts: list(Attempt), retries: list(instant) }),
  }),
  why: row<number, string>()({
    ...{ kind: 'read', ends: null, at: 'GET /v1/jobs/:id/why', scope: 'read', patience: 'brief', member: 'why' },
    summary: 'Why it is not running, or what became of it',
    response: ({ object, string }) => object({ why: string() }),
  }),
  wait: row<number, Job>()({
    ...{ kind: 'memory', ends: null, at: 'GET /v1/jobs/:id/wait', scope: 'read', patience: 'patient' },
    summary: 'The job when it has ended, or as it is after waitMs',
    ...{ query: ({ closed, waitMs }) => closed({ waitMs }), response: (of) => of.Job },
  }),
  cancel: row<number, jobs.Fate>()({
    ...{ kind: 'write', ends: null, at: 'POST /v1/jobs/:id/cancel', scope: 'admin', patience: 'once' },
    ...{ summary: 'End a waiting job, ask a running one to stop', response: (of) => of.Fate },
  }),
  /** Its handler may still run: what it does is no longer heard. */
  endLease: row<number, jobs.Fate>()({
    ...{ kind: 'write', ends: null, at: 'POST /v1/jobs/:id/end-lease', scope: 'admin', patience: 'once' },
    summary: 'End the lease of a running job whose handler does not stop though it was asked to: it ends cancelled now',
    response: (of) => of.Fate,
  }),
  retry: row<number, jobs.Fate>()({
    ...{ kind: 'write', ends: null, at: 'POST /v1/jobs/:id/retry', scope: 'admin', patience: 'once' },
    ...{ summary: 'Make a dead or cancelled job ready again, with a fresh attempt budget', response: (of) => of.Fate },
  }),
  runNow: row<number, jobs.Fate>()({
    ...{ kind: 'write', ends: null, at: 'POST /v1/jobs/:id/run-now', scope: 'admin', patience: 'once' },
    ...{ summary: 'Make a job ready that waits for its time', response: (of) => of.Fate },
  }),
  remove: row<number, null>()({
    ...{ kind: 'write', ends: null, at: 'DELETE /v1/jobs/:id', scope: 'admin', patience: 'once' },
    ...{ summary: 'Delete an ended job and its history', response: nothing },
  }),
  register: row<WorkerRegistration, number>()({
    ...{ kind: 'write', ends: null, at: 'POST /v1/workers', scope: 'work', patience: 'patient', status: 201 },
    summary:
      'Sign on a worker. Sent again with the same header Idempotency-Key, it is answered as the first time and signs on no second one',
    body: (of) => of.WorkerInput,
    response: ({ object, string }) => object({ worker: string({ description: 'Its id: of this file alone' }) }),
  }),
  /** Gives back what the worker still holds, uncharged. */
  unregister: row<number, null>()({
    ...{ kind: 'outcome', ends: 'worker', at: 'DELETE /v1/workers/:id', scope: 'work', patience: 'patient' },
    ...{ summary: 'Sign off, by id or name; what the worker still holds goes back, uncharged', response: nothing },
  }),
  /** The worker takes no more jobs and ends soon: if its process then ends, that is no evidence against what it runs. */
  stopping: row<number, null>()({
    ...{ kind: 'write', ends: null, at: 'POST /v1/workers/:id/stopping', scope: 'work', patience: 'brief' },
    summary: 'Say that a worker has begun to stop: if its process is killed then, that is no evidence against its jobs',
    response: nothing,
  }),
  lease: row<jobs.LeaseRequest, jobs.LeasedJob[]>()({
    ...{ kind: 'memory', ends: null, at: 'POST /v1/leases', scope: 'work', patience: 'patient' },
    summary:
      'The first ready jobs; waits for one up to waitMs. A newer request of the same worker takes the place of an older one',
    body: (of) => of.LeaseInput,
    response: ({ object, list, LeasedJob, bool }) =>
      object({
        jobs: list(LeasedJob),
        replaced: bool({ description: 'A newer request of the worker took its place, or it was signed off' }),
      }),
  }),
  /** `warning`: why what the handler returned was not kept; `result` is null then. */
  succeed: row<{ lease: jobs.Lease; result: string; warning?: string | null }, jobs.Fate>()({
    ...{ kind: 'outcome', ends: ({ lease }) => lease },
    ...{ at: 'POST /v1/jobs/:id/succeed', scope: 'work', patience: 'patient', summary: 'End a running job well' },
    fields: ({ may, any, maybe, string }) => ({
      result: may(any({ description: 'Any JSON, at most 1 MiB' })),
      warning: may(maybe(string({ description: 'Why the result was not kept, for people to see' }))),
    }),
    response: (of) => of.Fate,
  }),
  fail: row<jobs.Failure, jobs.Fate>()({
    ...{
      kind: 'outcome',
      ends: ({ lease }) => lease,
      at: 'POST /v1/jobs/:id/fail',
      scope: 'work',
      patience: 'patient',
    },
    summary: 'End an attempt: again later, put off uncharged, dead, or cancelled if that was asked for',
    fields: ({ may, maybe, texts, closed, string, duration, bool }) => ({
      kind: may(
        texts(['temporary', 'permanent', 'timeout', 'postpone'], "Default 'temporary'; 'postpone': not now, uncharged"),
      ),
      error: may(closed({ name: may(string()), message: string(), stack: may(maybe(string())) })),
      retryAfter: may(maybe(duration)),
      goesOn: may(
        bool({ description: 'Its handler still runs: not to be leased to this process until `settled`, or for 30 s' }),
      ),
    }),
    response: (of) => of.Fate,
  }),
  release: row<jobs.Lease, jobs.Fate>()({
    ...{ kind: 'outcome', ends: (lease) => lease, at: 'POST /v1/jobs/:id/release', scope: 'work', patience: 'patient' },
    ...{ summary: 'Give a job back, uncharged', fields: none, response: (of) => of.Fate },
  }),
  /** The handler of an attempt that was over has ended: the job may run in its process again. */
  settled: row<jobs.Lease, null>()({
    ...{ kind: 'write', ends: null, at: 'POST /v1/jobs/:id/settled', scope: 'work', patience: 'brief' },
    summary: 'Say that the handler of an attempt that was over has ended',
    ...{ fields: none, response: nothing },
  }),
  heartbeat: row<jobs.Lease, { expiresAt: Instant; cancelRequested: boolean }>()({
    ...{ kind: 'write', ends: null, at: 'POST /v1/jobs/:id/heartbeat', scope: 'work', patience: 'brief' },
    summary: 'Extend the lease; says whether the job is to stop',
    ...{ fields: none, response: (of) => of.object({ expiresAt: of.instant, cancelRequested: of.bool() }) },
  }),
  /** Answers at once; stored with the next transaction, or a second later. */
  progress: row<jobs.Progress, null>()({
    ...{ kind: 'memory', ends: null, at: 'POST /v1/jobs/:id/progress', scope: 'work', patience: 'brief' },
    summary: 'Tell people how far it is',
    fields: (of) => ({ percent: of.number({ minimum: 0, maximum: 100 }), message: of.may(of.maybe(of.string())) }),
    response: nothing,
  }),
  checkpoint: row<{ lease: jobs.Lease; state: string }, null>()({
    ...{ kind: 'write', ends: null, at: 'POST /v1/jobs/:id/checkpoint', scope: 'work', patience: 'brief' },
    summary: 'Keep a state for the next attempt',
    ...{ fields: ({ any }) => ({ state: any({ description: 'Any JSON, at most 64 KiB' }) }), response: nothing },
  }),
}

const ofTheRest = {
  setQueue: row<settings.QueueSettings, null>()({
    ...{ kind: 'write', ends: null, at: 'PATCH /v1/queues/:name', scope: 'admin', patience: 'brief' },
    summary: 'Pause, resume or limit a queue; what is not named stays',
    ...{ body: (of) => of.QueueInput, response: nothing },
  }),
  queues: row<{ after?: string; limit?: number }, QueuePage>()({
    ...{ kind: 'read', ends: null, at: 'GET /v1/queues', scope: 'read', patience: 'brief' },
    summary: 'Queues in the order of their names, 1,000 at most. Go on with `after` = `next` until it is null',
    query: ({ closed, may, string, int }) =>
      closed({ after: may(string()), limit: may(int({ minimum: 1, maximum: 1000 })) }),
    response: ({ object, list, Queue, maybe, string }) => object({ queues: list(Queue), next: maybe(string()) }),
  }),
  /** In the order of names. None when there are as many as `known`, and none was forgotten since. */
  queueNames: row<settings.QueueNamesAsked, settings.QueueNames>()({
    ...{ kind: 'read', ends: null, at: 'GET /v1/queue-names', scope: 'work', patience: 'brief' },
    summary:
      'Names of the queues that begin with `prefix`, 10,000 at most. Go on with `after` = `next` until it is null',
    query: (of) => of.NamesAsked,
    response: ({ object, list, string, int, maybe }) =>
      object({
        names: list(string()),
        next: maybe(string({ description: 'The last of these names; null when there are no more' })),
        count: int({ description: 'All that begin so' }),
        forgotten: int({ description: 'Queues of the file that were forgotten, each with its last job' }),
      }),
  }),
  schedules: row<settings.SchedulesAsked, settings.SchedulePage>()({
    ...{ kind: 'read', ends: null, at: 'GET /v1/schedules', scope: 'read', patience: 'brief' },
    summary:
      'Schedules in the order of their names, 1,000 and 4 MiB of payloads at most. Go on with `after` = `next` until it is null',
    query: (of) => of.SchedulesAsked,
    response: ({ object, list, Schedule, maybe, string }) =>
      object({ schedules: list(Schedule), next: maybe(string({ description: 'The last of these names' })) }),
  }),
  setSchedule: row<settings.ScheduleSettings, null>()({
    ...{ kind: 'write', ends: null, at: 'PUT /v1/schedules/:name', scope: 'admin', patience: 'brief' },
    summary: 'Define a schedule, or change it',
    ...{ body: (of) => of.ScheduleInput, response: nothing },
  }),
  pauseSchedule: row<{ name: string; paused: boolean }, null>()({
    ...{ kind: 'write', ends: null, at: 'PATCH /v1/schedules/:name', scope: 'admin', patience: 'brief' },
    summary: 'Pause or resume a schedule',
    ...{ body: ({ closed, bool }) => closed({ paused: bool() }), response: nothing },
  }),
  removeSchedule: row<string, null>()({
    ...{ kind: 'write', ends: null, at: 'DELETE /v1/schedules/:name', scope: 'admin', patience: 'once' },
    ...{ summary: 'Remove a schedule; its jobs stay', response: nothing },
  }),
  /** A job of the schedule at once, besides its ticks: its id. */
  runSchedule: row<string, number>()({
    ...{ kind: 'write', ends: null, at: 'POST /v1/schedules/:name/run', scope: 'admin', patience: 'once', status: 201 },
    summary: 'Submit its job now, besides its ticks',
    ...{ response: ({ object, id }) => object({ id }), member: 'id' },
  }),
  stats: row<null, Stats>()({
    ...{ kind: 'read', ends: null, at: 'GET /v1/stats', scope: 'read', patience: 'brief' },
    ...{ summary: 'Counts, workers, and types that nobody handles', response: (of) => of.Stats },
  }),
  /** The earliest first; whole hours, 1,000 rows or a few more. */
  hours: row<settings.HoursAsked, settings.HoursPage>()({
    ...{ kind: 'read', ends: null, at: 'GET /v1/hours', scope: 'read', patience: 'brief' },
    summary:
      'What happened to the jobs of each type, by the hour, for 8 days. Go on with `since` = `next` until it is null',
    query: (of) => of.HoursAsked,
    response: ({ object, list, Hour, next }) => object({ hours: list(Hour), next }),
  }),
  /** Answers when a transaction has held the write lock: it proves that this store is not stuck. Writes nothing. */
  vitals: row<null, Vitals>()({
    ...{ kind: 'memory', ends: null, at: 'GET /v1/vitals', scope: 'read', patience: 'brief' },
    summary: 'How storage does in this process, since its start',
    response: ({ object, tally }) => object({ commits: tally, groups: tally }),
  }),
  /** Names the file: a restored or replaced one has another. */
  epoch: row<null, string>()({ kind: 'read', ends: null, at: null }),
  tokens: row<null, settings.Token[]>()({ kind: 'read', ends: null, at: null }),
  createToken: row<settings.NewToken, null>()({ kind: 'write', ends: null, at: null }),
  revokeToken: row<string, null>()({ kind: 'write', ends: null, at: null }),
  tokenUsed: row<string, null>()({ kind: 'write', ends: null, at: null }),
  auditLog: row<{ limit?: number; cursor?: number | null }, settings.AuditPage>()({
    kind: 'read',
    ends: null,
    at: null,
  }),
}

/** What an operator changes is written into the audit log. */
export const isAudited = (operation: Operation): boolean => {
  const { kind, ...said } = operations[operation]
  return kind !== 'read' && 'scope' in said && said.scope === 'admin'
}

/**
 * Everything a store can be asked. Each is atomic, and durable when it answers. By these rows requests are grouped, held or
 * refused, leases ended, operators' doings written down, calls checked and documented, and sent by our own client.
 * (The spreads keep short properties on one line. In two parts, since the type of one is too long for a declaration.)
 */
export const operations: typeof ofJobs & typeof ofTheRest = { ...ofJobs, ...ofTheRest }

export type Operation = keyof typeof operations
type Does<K extends Operation> = NonNullable<(typeof operations)[K]['does']>
export type Input<K extends Operation> = Parameters<Does<K>>[0]
export type Output<K extends Operation> = ReturnType<Does<K>>
