import type { Input } from '../operations.ts'
import { selectCounts } from './counts.ts'
import { line, sourceOf } from './db.ts'
import { readWaiting } from './places.ts'
import type { Request } from './request.ts'
import type { Read } from './session.ts'

/** Most queues, and most lines, of which `firstReads` names what is read. */
const mostNamed = 50

/** What submissions and successes read first of all. */
export function firstReads(requests: Request[]): Read[] {
  const queues = new Set<string>()
  const lines = new Set<string>()
  for (const { operation, input } of requests) {
    const { lease, specs } = Object(input) as Partial<Input<'succeed'> & Input<'submit'>>
    if (specs && !Array.isArray(specs)) queues.add(specs.queue)
    if (lease) queues.add(lease.queue)
    if (lease && operation === 'succeed') lines.add(line(lease.queue, lease.type))
    if (queues.size >= mostNamed || lines.size >= mostNamed) break
  }
  return [
    ...[...queues].map((name): Read => [selectCounts, name]),
    ...[...lines].map(sourceOf).map(({ queue, type }) => readWaiting(queue, type)),
  ]
}
