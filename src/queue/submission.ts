import { GopherQueueError, invalid } from '../model/errors.ts'
import { checkKey, type JobOptions, jobSpec, limits, toJson } from '../model/job.ts'
import type { Submission } from '../store/store.ts'
import { type Definition, validated } from './definition.ts'

/** Options for all jobs of a bulk, or a function that gives each its own. */
export type BulkOptions<Payload> = JobOptions | ((payload: Payload, index: number) => JobOptions)

/** Checks payloads and options and fills in what the type's definition says, so that the store has nothing left to refuse but its limits. */
export async function makeSubmission<Payload>(
  type: string,
  definition: Definition | undefined,
  payloads: readonly Payload[],
  options: BulkOptions<Payload> = {},
): Promise<Submission> {
  if (!Array.isArray(payloads)) throw invalid('submitMany takes an array of payloads.')
  if (payloads.length > limits.bulkJobs) throw tooLarge(`${limits.bulkJobs} jobs; got ${payloads.length}`)
  const schema = definition?.schema
  if (schema) await Promise.all(payloads.map((payload) => validated(schema, payload, type, ' Nothing was stored.')))
  const texts = payloads.map((payload) => toJson('payload', payload))
  if (texts.length > 1 && texts.reduce((sum, text) => sum + text.length, 0) > limits.bulkBytes)
    throw tooLarge(`${limits.bulkBytes} bytes of payloads`)
  const each = typeof options === 'function' ? payloads.map(options) : null
  const all = each ?? [options as JobOptions]
  if (all.some((own) => typeof own !== 'object' || own === null)) throw invalid('Job options must be an object.')
  const specs = all.map((own) =>
    definition && Object.keys(own).length === 0 ? definition.spec : jobSpec(type, { ...definition?.policy, ...own }),
  )
  const keyed = all.some((own) => own.idempotencyKey !== undefined)
  if (keyed && !each && payloads.length > 1)
    throw invalid('One idempotencyKey cannot serve several jobs: give options as a function of (payload, index).')
  const keys = keyed ? all.map(({ idempotencyKey: key }) => (key === undefined ? null : checkKey(key))) : null
  return { specs: each ? specs : specs[0]!, payloads: texts, keys }
}

function tooLarge(most: string): GopherQueueError {
  return new GopherQueueError('PAYLOAD_TOO_LARGE', `A bulk takes at most ${most}. Nothing was stored: divide it.`)
}
