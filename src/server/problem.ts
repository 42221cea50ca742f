import { type ErrorCode, GopherQueueError, isQueueError } from '../model/errors.ts'

/** How HTTP says it; a code that is not here is the server's own trouble. */
const statuses: Partial<Record<ErrorCode, number>> = {
  INVALID_ARGUMENT: 400,
  UNAUTHORIZED: 401,
  FORBIDDEN: 403,
  NOT_FOUND: 404,
  IDEMPOTENCY_CONFLICT: 409,
  KEY_TAKEN: 409,
  KEY_BUSY: 409,
  INVALID_STATE: 409,
  LEASE_LOST: 409,
  MOVED: 410,
  WORKER_UNKNOWN: 409,
  PAYLOAD_TOO_LARGE: 413,
  RESULT_TOO_LARGE: 413,
  INVALID_PAYLOAD: 422,
  QUEUE_FULL: 429,
  TOO_MANY_QUEUES: 429,
  TOO_MANY_TYPES: 429,
  OVERLOADED: 503,
}

/** What passes by itself or by making room: only there a client is told when to come again. */
export const passes: ReadonlySet<string> = new Set<ErrorCode>([
  'QUEUE_FULL',
  'OVERLOADED',
  'STORAGE_FULL',
  'STORAGE_UNAVAILABLE',
])

/** What HTTP itself refuses, with a status that its code alone does not have. */
export class Refusal extends GopherQueueError {
  readonly status: number

  constructor(status: number, code: ErrorCode, message: string) {
    super(code, message)
    this.status = status
  }
}

/** An RFC 9457 problem document. */
export interface Problem {
  type: string
  title: string
  status: number
  detail: string
  code: string
  accepted: string
  details?: unknown
  requestId: string
}

/** What a client is told of any error; of one that nobody foresaw, nothing of its insides. */
export function problem(error: unknown, requestId: string): Problem {
  const known = isQueueError(error) ? error : unforeseen(error)
  const { code, message, accepted, details } = known
  const status = known instanceof Refusal ? known.status : (statuses[code] ?? 503)
  return {
    ...{ type: `urn:gopherqueue:error:${code}`, title: titleOf(code), status, detail: message, code, accepted },
    ...(details !== undefined && { details }),
    requestId,
  }
}

const titleOf = (code: string): string => `${code[0]}${code.slice(1).toLowerCase().replaceAll('_', ' ')}`

function unforeseen(error: unknown): GopherQueueError {
  const { code = 'see its log, by the request id' } = error as { code?: string }
  return new GopherQueueError(
    'STORAGE_UNAVAILABLE',
    `The server failed at this request (${code}). Whether it took effect is not known: look before you send it again.`,
    { accepted: 'unknown' },
  )
}
