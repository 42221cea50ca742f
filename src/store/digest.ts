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
export function digestOfAll(submission: Digested): string {
  const steps = digesting(submission)
  for (;;) {
    const { done, value } = steps.next()
    if (done) return value
  }
}

type Digested = Pick<Submission, 'specs' | 'payloads' | 'keys'>

/** The same in steps, each of which yields how many characters it took: 64 MiB take a second or more. */
export function* digesting({ specs, payloads, keys }: Digested): Generator<number, string, void> {
  const hash = createHash('sha256')
  const said = new Map<JobSpec, string>() // mostly one for all
  for (const [i, payload] of payloads.entries()) {
    const spec = Array.isArray(specs) ? specs[i]! : specs
    const text = said.get(spec) ?? canonical(spec)
    said.set(spec, text)
    hash.update(`${text} ${JSON.stringify(keys?.[i] ?? null)} ${canonicalText(payload)}\n`)
    yield payload.length
  }
  return hash.digest('base64')
}
