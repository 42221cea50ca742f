import type { Clock } from '../../model/clock.ts'
import { type Accepted, type ErrorCode, GopherQueueError, invalid, isQueueError } from '../../model/errors.ts'
import type { Input, Output } from '../operations.ts'
import type { Patience } from '../row.ts'
import { type Answer, type Body, type Call, calls, type Params, type Plain, type Query, requestOf } from './calls.ts'

const briefMs = 10_000
/** Longest pause between two tries, in ms: less than the second that a server which comes back leaves to the shortest lease. */
const longestPause = 500
/** No answer takes longer, and none of a call that waits for something. */
const answerWithin = 20_000
const pollWithin = 45_000

/** A body that is a function is made anew each time the call is sent. */
type Given<K extends Call> = { params?: Params<K>; query?: Query<K>; body?: Body<K> | (() => Body<K>); key?: string }

/** Calls of the API by name, tried again as far as that is safe. */
export class Client {
  readonly #base: string
  readonly #token: string | undefined
  readonly #clock: Clock
  readonly #closing = new AbortController()

  constructor(url: string, token: string | undefined, clock: Clock) {
    this.#base = url.replace(/\/+$/, '')
    this.#token = token
    this.#clock = clock
  }

  /** Throws what the server refuses with; STORAGE_UNAVAILABLE when it cannot be reached. */
  async call<K extends Call>(
    call: K,
    given: Given<K> = {},
    signal?: AbortSignal,
    patience: Patience = calls[call].patience,
  ): Promise<Answer<K>> {
    const end = this.#clock.monotonic() + briefMs
    let reached = false
    for (let pause = 50; ; pause = Math.min(longestPause, pause * 2)) {
      try {
        return (await this.#once(call, given, signal)) as Answer<K>
      } catch (error) {
        const refused = isQueueError(error) ? error : null
        if (signal?.aborted || this.#closing.signal.aborted) throw signal?.aborted ? signal.reason : closed()
        if (refused && !isAway(refused)) throw refused
        reached ||= !refused && !isRefused(error)
        const goesOn = patience === 'patient' || (patience === 'brief' && this.#clock.monotonic() + pause < end)
        if (!goesOn)
          throw refused && (!reached || refused.accepted !== 'no') ? refused : unreachable(this.#base, reached, error)
      }
      await this.#pause(pause)
    }
  }

  /** An operation by its row alone. */
  async plain<K extends Plain>(operation: K, input: Input<K>): Promise<Output<K>> {
    const { member } = calls[operation]
    const answer: unknown = await this.call(operation, requestOf(operation, input) as Given<K>)
    return (member === undefined ? answer : (answer as Record<string, unknown>)[member]) as Output<K>
  }

  /** A stream of the server's, or an error as `call` throws. */
  async stream(path: string, headers: Record<string, string>): Promise<ReadableStream<Uint8Array>> {
    const response = await fetch(this.#base + path, {
      headers: { ...this.#headers(), ...headers },
      signal: this.#closing.signal,
    })
    if (response.ok && response.body) return response.body
    const answer = (await response.json().catch(() => null)) as { code?: unknown } | null
    throw typeof answer?.code === 'string' ? Client.errorOf(answer) : new Error(`status ${response.status}`)
  }

  async close(): Promise<void> {
    this.#closing.abort()
  }

  static errorOf(problem: unknown): GopherQueueError {
    const { code, detail, accepted, details } = problem as Record<string, unknown>
    return new GopherQueueError(code as ErrorCode, String(detail), { accepted: accepted as Accepted, details })
  }

  async #once(call: Call, { params, query, body, key }: Given<Call>, signal?: AbortSignal): Promise<unknown> {
    const [method, url] = calls[call].at.split(' ') as [string, string]
    const path = url.replace(/:(\w+)/g, (_, name: string) => inPath(String(params?.[name as keyof object])))
    const entries = Object.entries(query ?? {}).filter(([, value]) => value != null)
    const search =
      entries.length > 0
        ? `?${new URLSearchParams(Object.fromEntries(entries.map(([name, value]) => [name, `${value}`])))}`
        : ''
    const response = await fetch(this.#base + path + search, {
      method,
      headers: {
        ...this.#headers(),
        ...(body !== undefined && { 'content-type': 'application/json' }),
        ...(key !== undefined && { 'idempotency-key': key }),
      },
      ...(body !== undefined && { body: JSON.stringify(typeof body === 'function' ? body() : body) }),
      signal: AbortSignal.any([
        this.#closing.signal,
        AbortSignal.timeout(call === 'lease' || call === 'wait' ? pollWithin : answerWithin),
        ...(signal ? [signal] : []),
      ]),
    })
    const answer = (await response.json()) as { code?: unknown }
    if (response.ok) return answer
    const judged = typeof answer?.code === 'string' && response.status !== 408 // which came too slowly, or not at all
    throw judged ? Client.errorOf(answer) : new Error(`status ${response.status}`)
  }

  #headers(): Record<string, string> {
    return this.#token === undefined ? {} : { authorization: `Bearer ${this.#token}` }
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const { signal } = this.#closing
      const done = () => {
        stop()
        signal.removeEventListener('abort', done)
        resolve()
      }
      const stop = this.#clock.timer(ms, done)
      signal.addEventListener('abort', done)
    })
  }
}

/** The server is there and cannot do it now: its file is away, it has too much to do, or it stops. */
export const isAway = ({ code }: GopherQueueError) =>
  code === 'STORAGE_UNAVAILABLE' || code === 'OVERLOADED' || code === 'CLOSED'

/** The request never got there. */
const isRefused = (error: unknown): boolean =>
  ['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN'].includes(
    ((error as Error).cause as NodeJS.ErrnoException | undefined)?.code ?? '',
  )

const closed = () =>
  new GopherQueueError(
    'CLOSED',
    'The queue was closed. Whether this took effect is not known: open it again and look.',
    {
      accepted: 'unknown',
    },
  )

function unreachable(url: string, reached: boolean, cause: unknown): GopherQueueError {
  const what = `The server at ${url} cannot be reached (${(((cause as Error).cause as Error | undefined) ?? (cause as Error)).message}).`
  const safe = reached
    ? 'Whether this took effect is not known: look before you send it again.'
    : 'It never got there; nothing was accepted: send it again when the server is back.'
  return new GopherQueueError('STORAGE_UNAVAILABLE', `${what} ${safe}`, { accepted: reached ? 'unknown' : 'no', cause })
}

/** Of a name that an older file may hold, each URL is normalised to one of another call. */
function inPath(value: string): string {
  if (value !== '.' && value !== '..') return encodeURIComponent(value)
  throw invalid(`No address of a server can name '${value}': do it on the file itself, with --db FILE on its machine.`)
}
