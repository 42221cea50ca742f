import { createHash } from 'node:crypto'
import type { JobSpec } from '../model/job.ts'
import { canonical, canonicalText } from '../model/json.ts'
import type { Submission } from './store.ts'

/** Tells payloads apart that come with the same key: as JSON values, however they were written. */
export const digestOf = (payload: unknown): string =>
  createHash('sha256')
    .update(canonicalText(String(payload)))
    .digest('base64')

/** Tells requests apart that come under the same name: by their jobs, whichever way these were written. */
export function digestOfAll({ specs, payloads, keys }: Pick<Submission, 'specs' | 'payloads' | 'keys'>): string {
  const hash = createHash('sha256')
  const said = new Map<JobSpec, string>() // mostly one for all
  for (const [i, payload] of payloads.entries()) {
    const spec = Array.isArray(specs) ? specs[i]! : specs
    const text = said.get(spec) ?? canonical(spec)
    said.set(spec, text)
    hash.update(`${text} ${JSON.stringify(keys?.[i] ?? null)} ${canonicalText(payload)}\n`)
  }
  return hash.digest('base64')
}
