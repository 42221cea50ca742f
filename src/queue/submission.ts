import { nextTimes } from '../model/cron.ts'
import { GopherQueueError, invalid } from '../model/errors.ts'
import {
  checkKey,
  checkName,
  type JobOptions,
  type JobSpec,
  jobSpec,
  limits,
  oneOf,
  policyNames,
} from '../model/job.ts'
import { kept, toJson } from '../model/json.ts'
import { checkNames, inPaths, optionsOf } from '../model/names.ts'
import type { ScheduleSettings, Submission } from '../store/store.ts'
import { type Definition, validated, validatedNow } from './definition.ts'
import type { ScheduleOptions } from './options.ts'

/** Options of `submitMany`: one object for all jobs, or a function of a payload and its index that returns the options of that job. */
export type BulkOptions<Payload> = JobOptions | ((payload: Payload, index: number) => JobOptions)

/**
 * Checks payloads and options and fills in what the type's definition says, so that the store has nothing left to refuse
 * but its limits. At once where there is no schema, so that the store can refuse before a flood of payloads piles up.
 */
export function makeSubmission<Payload>(
  type: string,
  definition: Definition | undefined,
  given: readonly Payload[],
  options?: BulkOptions<Payload>,
): Submission | Promise<Submission> {
  if (!Array.isArray(given)) throw invalid('submitMany takes an array of payloads.')
  if (given.length > limits.bulkJobs) throw tooLarge(`${limits.bulkJobs} jobs; got ${given.length}`)
  const payloads: readonly Payload[] = [...given] // without holes, which `map` leaves out
  const schema = definition?.schema
  const place = (i: number) => (payloads.length > 1 ? ` at index ${i}` : '')
  if (!schema) {
    const texts = payloads.map((payload, i) => toJson('payload', payload, place(i)))
    return ofValid(type, definition, payloads, texts, options)
  }
  const texts = payloads.map(async (payload, i) => {
    await validated(schema, payload, type, nothingStored)
    const { json, altered } = kept('payload', payload, place(i))
    if (altered) await validated(schema, JSON.parse(json), type, asJsonKeepsIt)
    return json
  })
  return Promise.all(texts).then((all) => ofValid(type, definition, payloads, all, options))
}

const nothingStored = ' Nothing was stored.'
/** Else its handler would be told that the payload is wrong, for good, by a job that was accepted. */
const asJsonKeepsIt =
  ' So it is when JSON has kept it, and so its handler would get it: let the schema take that, as z.coerce.date() does. Nothing was stored.'

/** As `makeSubmission`, of one job and at once: for a transaction of the app's, which cannot wait. */
export function makeSubmissionNow(
  type: string,
  definition: Definition | undefined,
  payload: unknown,
  options?: JobOptions,
): Submission {
  const schema = definition?.schema
  validatedNow(schema, payload, type, nothingStored)
  const { json, altered } = kept('payload', payload)
  if (altered && schema) validatedNow(schema, JSON.parse(json), type, asJsonKeepsIt)
  return ofValid(type, definition, [payload], [json], options)
}

function ofValid<Payload>(
  type: string,
  definition: Definition | undefined,
  payloads: readonly Payload[],
  texts: string[],
  options: BulkOptions<Payload> = {},
): Submission {
  if (texts.length > 1 && texts.reduce((sum, text) => sum + text.length, 0) > limits.bulkBytes)
    throw tooLarge(`${limits.bulkBytes} bytes of payloads`)
  const each = typeof options === 'function' ? payloads.map(options) : null
  const all = each ?? [options as JobOptions]
  for (const own of all) optionsOf('job option', own)
  const specs = all.map((own) =>
    definition && Object.keys(own).length === 0 ? definition.spec : jobSpec(type, { ...definition?.policy, ...own }),
  )
  const keyed = all.some((own) => own.idempotencyKey !== undefined)
  if (!each && payloads.length > 1 && all[0]!.uniqueKey !== undefined)
    throw invalid('One uniqueKey cannot serve several jobs: give options as a function of (payload, index).')
  if (keyed && !each && payloads.length > 1)
    throw invalid('One idempotencyKey cannot serve several jobs: give options as a function of (payload, index).')
  const keys = keyed ? all.map(({ idempotencyKey: key }) => (key === undefined ? null : checkKey(key))) : null
  return { specs: each ? specs : specs[0]!, payloads: texts, keys }
}

/** A schedule as the store keeps it, each part checked. */
export async function makeSchedule(
  name: string,
  cron: string,
  type: string,
  definition: Definition | undefined,
  payload: unknown,
  options: ScheduleOptions = {},
): Promise<ScheduleSettings> {
  checkNames('schedule option', options, [...policyNames, 'timezone', 'missed', 'overlap'])
  const { timezone = 'UTC', missed = 'once', overlap = 'allow', ...policy } = options
  inPaths('schedule', checkName('schedule', name))
  nextTimes(cron, timezone, 1, 0)
  const { specs, payloads } = await makeSubmission(type, definition, [payload], policy)
  return {
    name,
    cron,
    timezone,
    spec: specs as JobSpec, // of one job
    payload: payloads[0]!,
    missed: oneOf(missed, ['skip', 'once', 'all'], 'missed'),
    overlap: oneOf(overlap, ['allow', 'skip'], 'overlap'),
  }
}

function tooLarge(most: string): GopherQueueError {
  return new GopherQueueError('PAYLOAD_TOO_LARGE', `A bulk takes at most ${most}. Nothing was stored: divide it.`)
}
