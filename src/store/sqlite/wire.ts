import { type Accepted, type ErrorCode, GopherQueueError } from '../../model/errors.ts'
import { operations } from '../operations.ts'
import type { Lease, LeasedJob, Operation, Source, StoreEvent } from '../store.ts'
import { leasedJob } from './claim.ts'
import { succeeded } from './receipts.ts'
import type { Reply, Request } from './request.ts'

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
/** `text`: its sources as JSON, since a copy of 100,000 objects takes ten times as long; null for those that its worker sent last. */
type Listed = Request<'lease' | 'register'> & { text: string | null }
export type Requests = (Request | Successes | Listed)[]

/** Fewer sources are copied each time that a worker asks; of more, each list is sent once. */
const fewSources = 64
/** Workers of which both threads keep the list. */
const mostLists = 100

/** The last list of each worker. Both threads forget the same ones, as each sees the same lists in the same order. */
function keep(lists: Map<number, Source[]>, worker: number, sources: Source[]): void {
  lists.delete(worker)
  const [oldest] = lists.keys()
  if (oldest !== undefined && lists.size >= mostLists) lists.delete(oldest)
  lists.set(worker, sources)
}

/** Which lists of sources the storage thread has: a worker of 10,000 lines names them in each request. */
export class Lists {
  readonly #sent = new Map<number, Source[]>()

  pack(request: Request<'lease' | 'register'>): Request | Listed {
    const { sources } = request.input
    if (sources.length < fewSources) return request
    const packed = { ...request, input: { ...request.input, sources: [] } }
    const worker = workerOf(request)
    if (worker !== null && this.#sent.get(worker) === sources) return { ...packed, text: null }
    if (worker !== null) keep(this.#sent, worker, sources)
    return { ...packed, text: JSON.stringify(sources) }
  }
}

/** Whose list it is to be kept; null for a worker on the network, whose server makes each list anew. */
const workerOf = ({ epoch, input }: Request<'lease' | 'register'>): number | null =>
  epoch === undefined && 'worker' in input ? input.worker : null

/** The storage thread's side of it. */
export class KnownLists {
  readonly #lists = new Map<number, Source[]>()

  unpack({ text, ...request }: Listed): Request {
    const worker = workerOf(request)
    const sources: Source[] = text === null ? this.#lists.get(worker!)! : JSON.parse(text)
    if (text !== null && worker !== null) keep(this.#lists, worker, sources)
    return { ...request, input: { ...request.input, sources } }
  }
}

export function packRequests(requests: Request[], lists: Lists): Requests {
  const packed: Requests = []
  let run: Successes | undefined
  for (const request of requests) {
    if (request.operation === 'lease' || request.operation === 'register') {
      run = undefined
      packed.push(lists.pack(request as Request<'lease' | 'register'>))
      continue
    }
    if (request.operation !== 'succeed' || request.epoch !== undefined || 'warning' in (request.input as object)) {
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

/** A copied name is a string of its own: each look into a table by it makes V8 throw away the optimized code around it. */
const names = new Map(['forget', 'close', ...Object.keys(operations)].map((name) => [name, name as Operation]))

export function unpackRequests(packed: Requests, lists: KnownLists): Request[] {
  return packed.flatMap((item) => {
    if ('operation' in item) item.operation = names.get(item.operation) ?? item.operation
    if ('text' in item) return lists.unpack(item)
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
/** The jobs of one lease, as rows: by objects their names would be copied with each of them, which takes twice as long. */
interface Leased {
  seq: number
  rows: unknown[][]
}
export type Answer = { seq: number; value: unknown } | { seq: number; failure: Failure } | Leased
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
    else if (areLeased(reply.value)) answers.push({ seq: reply.seq, rows: reply.value.map(rowOf) })
    else answers.push(reply)
  }
  return { answers, succeeded: seqs, events }
}

const areLeased = (value: unknown): value is LeasedJob[] =>
  Array.isArray(value) && value.length > 0 && 'visibilityTimeout' in value[0]

/** In the order that `leasedJob` reads. */
// biome-ignore format: 19 lines otherwise
const rowOf = (j: LeasedJob): unknown[] =>
  [j.id, j.queue, j.type, j.priority, j.payload, j.attempt, j.tries, j.maxAttempts, j.backoff, j.timeout, j.visibilityTimeout,
    j.deadline, j.checkpoint, j.trace, j.createdAt, j.tick, j.waited, j.token, j.startedAt]

export function unpackLeased({ rows }: Leased): LeasedJob[] {
  return rows.map((row) => leasedJob(row, row[17] as number, row[18] as number))
}

export function packError({ code, message, accepted, details }: GopherQueueError): Failure {
  return { code, message, accepted, details }
}

export function unpackError({ code, message, accepted, details }: Failure): GopherQueueError {
  return new GopherQueueError(code, message, { accepted, details })
}
