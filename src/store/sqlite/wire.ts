import { type Accepted, type ErrorCode, GopherQueueError } from '../../model/errors.ts'
import type { Lease, StoreEvent } from '../store.ts'
import { succeeded } from './attempt.ts'
import type { Reply, Request } from './commit.ts'

// What crosses between the app's thread and the storage thread. A message is copied by the object, and successes come
// by the hundred: runs of them travel as columns, which costs a fifth.

interface Successes {
  seqs: number[]
  ids: number[]
  queues: string[]
  types: string[]
  tokens: number[]
  results: string[]
}
export type Requests = (Request | Successes)[]

export function packRequests(requests: Request[]): Requests {
  const packed: Requests = []
  let run: Successes | undefined
  for (const request of requests) {
    if (request.operation !== 'succeed' || request.epoch !== undefined) {
      run = undefined
      packed.push(request)
      continue
    }
    if (!run) {
      run = { seqs: [], ids: [], queues: [], types: [], tokens: [], results: [] }
      packed.push(run)
    }
    const { lease, result } = request.input as { lease: Lease; result: string }
    run.seqs.push(request.seq)
    run.ids.push(lease.id)
    run.queues.push(lease.queue)
    run.types.push(lease.type)
    run.tokens.push(lease.token)
    run.results.push(result)
  }
  return packed
}

export function unpackRequests(packed: Requests): Request[] {
  return packed.flatMap((item) => {
    if (!('seqs' in item)) return item
    const { seqs, ids, queues, types, tokens, results } = item
    return seqs.map((seq, i): Request<'succeed'> => {
      const lease = { id: ids[i]!, queue: queues[i]!, type: types[i]!, token: tokens[i]! }
      return { seq, operation: 'succeed', input: { lease, result: results[i]! } }
    })
  })
}

/** An error taken apart: a copy of the object itself would lose its class and code. */
interface Failure {
  code: ErrorCode
  message: string
  accepted: Accepted
  details: unknown
}
export type Answer = { seq: number; value: unknown } | { seq: number; failure: Failure }
export type FromThread =
  | { answers: Answer[]; succeeded: number[]; events: StoreEvent[] }
  | { opened: true }
  | { left: true }
  | { failed: Failure }

export function packReplies(replies: Reply[], events: StoreEvent[]): FromThread {
  const answers: Answer[] = []
  const seqs: number[] = []
  for (const reply of replies) {
    if ('error' in reply) answers.push({ seq: reply.seq, failure: packError(reply.error) })
    else if (reply.value === succeeded) seqs.push(reply.seq)
    else answers.push(reply)
  }
  return { answers, succeeded: seqs, events }
}

export function packError({ code, message, accepted, details }: GopherQueueError): Failure {
  return { code, message, accepted, details }
}

export function unpackError({ code, message, accepted, details }: Failure): GopherQueueError {
  return new GopherQueueError(code, message, { accepted, details })
}
