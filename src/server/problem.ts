import type { FastifyError } from 'fastify'
import { type ErrorCode, GopherQueueError } from '../model/errors.ts'

/** How HTTP says it; a code that is not here is the server's own trouble. */
const statuses: Partial<Record<ErrorCode, number>> = {
  INVALID_ARGUMENT: 400,
  UNAUTHORIZED: 401,
  FORBIDDEN: 403,
  NOT_FOUND: 404,
  IDEMPOTENCY_CONFLICT: 409,
  INVALID_STATE: 409,
  LEASE_LOST: 409,
  WORKER_UNKNOWN: 409,
  PAYLOAD_TOO_LARGE: 413,
  RESULT_TOO_LARGE: 413,
  INVALID_PAYLOAD: 422,
  QUEUE_FULL: 429,
  OVERLOADED: 503,
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
  const known = error instanceof GopherQueueError ? error : ofFramework(error as FastifyError)
  const { code, message, accepted, details } = known
  const status = statuses[code] ?? 503
  return {
    ...{ type: `urn:gopherqueue:error:${code}`, title: titleOf(code), status, detail: message, code, accepted },
    ...(details !== undefined && { details }),
    requestId,
  }
}

const titleOf = (code: string): string => `${code[0]}${code.slice(1).toLowerCase().replaceAll('_', ' ')}`

/** What the framework refuses before any of our code runs: nothing has happened then. */
function ofFramework({ statusCode = 500, message, code }: FastifyError): GopherQueueError {
  if (statusCode === 413) return refusal('PAYLOAD_TOO_LARGE', 'The body is too large.')
  if (statusCode === 415) return refusal('INVALID_ARGUMENT', 'The header Content-Type must be application/json.')
  if (statusCode === 404) return refusal('NOT_FOUND', message)
  if (statusCode < 500) return refusal('INVALID_ARGUMENT', `${message.replace(/\.?$/, '.')}`)
  return new GopherQueueError(
    'STORAGE_UNAVAILABLE',
    `The server failed at this request (${code ?? 'see its log, by the request id'}). Whether it took effect is not known: look before you send it again.`,
    { accepted: 'unknown' },
  )
}

const refusal = (code: ErrorCode, message: string) => new GopherQueueError(code, `${message} Nothing was stored.`)
