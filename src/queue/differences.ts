import { defaultBackoff, parseBackoff } from '../model/backoff.ts'
import { GopherQueueError } from '../model/errors.ts'
import type { LeasedJob } from '../store/store.ts'
import type { Definition } from './definition.ts'

const compared = ['maxAttempts', 'timeout', 'visibilityTimeout'] as const

/**
 * Tells once of a type and an option that a job was submitted with another policy than the worker's own definition states. What
 * that leaves to the defaults says nothing: programs that submit may overrule it as they like.
 */
export class Differences {
  readonly #told = new Set<string>()
  readonly #warn: (warning: GopherQueueError) => void
  /** The last backoff that was found to be the same: most jobs have it. */
  #same: string | null = null

  constructor(warn: (warning: GopherQueueError) => void) {
    this.#warn = warn
  }

  look(job: LeasedJob, { policy, spec }: Definition): void {
    for (const option of compared)
      if (policy[option] !== undefined && job[option] !== spec[option])
        this.#tell(job, option, job[option], spec[option])
    if (policy.backoff === undefined || (job.backoff !== null && job.backoff === this.#same)) return
    const [stored, own] = [parseBackoff(job.backoff), spec.backoff ?? defaultBackoff].map((it) => JSON.stringify(it))
    if (stored === own) this.#same = job.backoff
    else this.#tell(job, 'backoff', stored, own)
  }

  #tell({ id, type }: LeasedJob, option: string, stored: unknown, own: unknown): void {
    const key = `${option} ${type}`
    if (this.#told.has(key)) return
    this.#told.add(key)
    const message = `Job ${id} of type '${type}' was submitted with ${option} ${stored}, and this worker's definition says ${own}: what was submitted counts. Unless that submission set it on purpose, give both programs the same jobType. This is said once.`
    this.#warn(new GopherQueueError('POLICY_DIFFERS', message, { accepted: 'yes' }))
  }
}
