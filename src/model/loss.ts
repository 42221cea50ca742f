import type { Instant } from './clock.ts'
import type { JobError } from './job.ts'

// An attempt that is taken from its holder: whether it ran out of time in a process that lived, or was lost with its process,
// and whether that is evidence against it.

/** How long after an attempt's timeout its lease lasts (ms), so that a live worker reports the timeout itself. */
export const timeoutGrace = 1000
/** Renewals come with the next look after they are due, so much later (ms). */
const renewalSlack = 250
/** How often a job goes back because its worker never received it; after that it counts as lost. */
const mostUndelivered = 3

/** An attempt and its holder, by what both wrote. */
export interface Holding {
  timeout: number
  visibilityTimeout: number
  company: number | null
  undelivered: number
  startedAt: Instant
  renewedAt: Instant | null
  leaseExpiresAt: Instant
  /** When its worker last said that it lives. */
  seenAt: Instant | null
  /** Whether its worker is reached over the network. */
  remote: 0 | 1
}

/** What is known of a worker whose process is gone or silent. */
export interface Holder {
  name: string
  host: string
  pid: number | null
}

/** The death of a process, and how many jobs it ran. */
export interface Death {
  id: number
  jobs: number
}

/** A loss, as it counts for one of its jobs. */
export interface Lost {
  error: JobError
  /** How many jobs ran beside it; null when the loss is no evidence against it. */
  others: number | null
  lossId: number | null
  /** Its worker may never have heard of the lease: not charged, which is counted. */
  isUnheard: boolean
}

/** Whether its worker lived at its timeout, by what it wrote itself: a renewal in the last third of the lease before the timeout, or a later word of its worker. */
export function wasAlive(job: Holding, now: Instant): boolean {
  // Its last renewal reached no further than the attempt: the wall clock may have been set forward before.
  const over = Math.max(job.startedAt + job.timeout, job.leaseExpiresAt - timeoutGrace)
  // A renewal of full length from beyond that end tells so, and not when the attempt was over: later than it can be known to have lived.
  const isBeyond = job.leaseExpiresAt > job.startedAt + job.timeout + 2 * timeoutGrace
  if (isBeyond && job.renewedAt !== null && job.leaseExpiresAt - job.renewedAt >= job.visibilityTimeout) return false
  const third = Math.min(job.visibilityTimeout, job.timeout + timeoutGrace) / 3
  const renewed = job.renewedAt !== null && job.renewedAt >= over - third - renewalSlack
  // Of a remote worker its renewals alone tell: one that hangs leaves a request for jobs, which looks like a sign of life.
  // One that was seen then but had let the lease end before is one whose wall clock was set forward meanwhile.
  const mayTell = job.remote === 0 && job.leaseExpiresAt >= job.startedAt + job.timeout
  const seen = mayTell && job.seenAt !== null && job.seenAt >= over && job.seenAt <= now // later ones are of a clock that was set back
  return now >= over && (renewed || seen)
}

/** Nothing ran beside it that counts: of handlers that went on, no more than it allows, as a loss is charged. */
export const wasAlone = ({ company }: Pick<Holding, 'company'>, { jobs }: Death): boolean => jobs === 1 || company === 0

/** Its worker may never have received it: that excuses a job so often, and then no more. */
export const mayBeUnheard = ({ undelivered }: Pick<Holding, 'undelivered'>): boolean => undelivered < mostUndelivered

/** How often a stop or a restart excuses a job; a job that brings about the signal itself looks the same. */
const mostExcused = 10

/** Why the end of a process says nothing about a job that it ran, or null. `excused`: how often that was said of the job. */
export const excuseOf = (
  { rebooted, stopping }: { rebooted: boolean; stopping: boolean },
  excused: number,
): string | null =>
  excused >= mostExcused
    ? null
    : rebooted
      ? 'Its host was restarted while it ran'
      : stopping
        ? 'Its process had begun to stop, and ended while it ran'
        : null

/** A loss that is no evidence. */
export function excused(why: string, holder: Holder | undefined): Lost {
  const error = {
    name: 'LeaseLost',
    message: `${why} (${processOf(holder)}). No job is charged for that.`,
    stack: null,
  }
  return { error, others: null, lossId: null, isUnheard: false }
}

export const died = (death: Death, holder: Holder | undefined): Lost =>
  lostWith(death, 'ended', `${processOf(holder)} is gone`)

/** A remote worker may never have heard of a lease that it did not confirm: it is charged only if that goes on. */
export function fellSilent(job: Holding, death: Death, holder: Holder | undefined): Lost {
  const isUnheard = job.remote === 1 && job.renewedAt === null && wasAlone(job, death) && mayBeUnheard(job)
  const how = isUnheard ? 'may never have received its lease' : 'did not renew its lease'
  return { ...lostWith(death, 'fell silent', `${processOf(holder)} ${how}`), isUnheard }
}

export const stoodStill = ({ timeout }: Holding, death: Death, holder: Holder | undefined): Lost =>
  lostWith(death, 'stood still', `the app's thread of ${processOf(holder)} did not report its timeout of ${timeout} ms`)

/** After so many returns that is evidence as any loss is: a job that kills its worker before the first heartbeat looks the same. */
export const neverReceived = (_: Holding, death: Death, holder: Holder | undefined): Lost =>
  lostWith(death, 'did not have it', `${processOf(holder)} never received it, as ${mostUndelivered} times before`)

function lostWith({ id, jobs }: Death, what: string, how: string): Lost {
  const company = jobs > 1 ? `it and ${jobs - 1} ${jobs === 2 ? 'other' : 'others'} ran` : 'it ran alone'
  const error = { name: 'LeaseLost', message: `Its process ${what} while ${company} (${how}).`, stack: null }
  return { error, others: jobs - 1, lossId: id, isUnheard: false }
}

/** What stands in the history of an attempt whose timeout nobody reported. */
export const ranOutOf = ({ timeout }: Pick<Holding, 'timeout'>): JobError => ({
  name: 'Timeout',
  message: `The attempt ran longer than its timeout of ${timeout} ms and its worker did not report it.`,
  stack: null,
})

/** A process, for people. */
export function processOf(holder: Holder | undefined): string {
  if (!holder) return 'a worker that is not known'
  const { name, host, pid } = holder
  return pid === null ? `worker ${name} on ${host}` : `process ${pid} of worker ${name}`
}
