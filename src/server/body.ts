import type { IncomingMessage } from 'node:http'
import { invalid } from '../model/errors.ts'
import { exactJson, isExact } from '../model/exact.ts'
import { limits } from '../model/job.ts'
import { toJson } from '../model/json.ts'
import type { Bodies, Body } from './bodies.ts'
import { largeText, turns } from './large.ts'
import { Refusal } from './problem.ts'

// Bodies are looked at while they arrive: a client must not make this process hold, or look through at once, more than one
// job's worth of what nobody has checked yet.

/** Bytes of one job: its payload and what goes with it. A body with more is taken apart as it arrives. */
export const jobBytes = limits.payloadBytes + 64 * 1024

/** Where a body is counted as it arrives. */
export interface Counted {
  bodies: Bodies
  body: Body
}

/** The JSON of a body, or the jobs of NDJSON as the body of a bulk; undefined for none. */
export async function bodyOf(request: IncomingMessage, most: number, counted: Counted): Promise<unknown> {
  const header = (request.headers['content-type'] ?? '').toLowerCase()
  const type = header.split(';')[0]!.trim()
  if (/;\s*charset(?!="?utf-?8"?\s*(;|$))/.test(header))
    throw invalid('A body is UTF-8: the header Content-Type must name no other charset.')
  if (type === 'application/x-ndjson')
    return { jobs: await linesOf(request, Math.min(most, limits.bulkBytes), counted) }
  if (type === '' && !hasBody(request)) return undefined
  if (type !== 'application/json') throw invalid('The header Content-Type must be application/json.')
  let text = ''
  let apart: Apart | undefined
  await read(request, most, counted, (piece) => {
    if (apart) return apart.take(piece)
    text += piece
    if (text.length <= jobBytes) return
    apart = new Apart() // only now: JSON.parse alone is faster, and this much holds nobody up
    apart.take(text)
    text = ''
  })
  if (apart) return apart.end()
  if (text === '') throw invalid('The body is empty, but Content-Type is application/json.')
  if (text.length > largeText) await turns.next()
  const body = parsed(text, 'The body is not valid JSON, but Content-Type is application/json')
  if (isExact(text)) noteExact(body)
  return body
}

/** Makes text of pieces of bytes, and of no piece their end. Without `fatal`, two idempotency keys could become one. */
function decoding(what: string): (piece?: Buffer) => string {
  const decoder = new TextDecoder('utf-8', { fatal: true })
  return (piece) => {
    try {
      return decoder.decode(piece, { stream: piece !== undefined })
    } catch {
      throw invalid(`The ${what} has bytes that are not UTF-8, so nothing of the request was accepted: send UTF-8.`)
    }
  }
}

/** The header Idempotency-Key, or null. Node reads headers as Latin-1: the key would be another one than in a body. Throws INVALID_ARGUMENT. */
export function keyOf({ headers }: IncomingMessage): string | null {
  const given = headers['idempotency-key']
  if (given === undefined) return null
  const decode = decoding('header Idempotency-Key')
  const key = decode(Buffer.from(String(given), 'latin1')) + decode()
  if (key.length < 1 || key.length > limits.keyLength)
    throw invalid(`The header Idempotency-Key must have 1 to ${limits.keyLength} characters.`)
  return key
}

const hasBody = ({ headers }: IncomingMessage): boolean =>
  headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0

/** Hands over the text of a body as it arrives, and throws PAYLOAD_TOO_LARGE when it is too much: the connection is closed then. */
async function read(
  request: IncomingMessage,
  most: number,
  { bodies, body }: Counted,
  take: (text: string) => void,
): Promise<void> {
  const decode = decoding('body')
  let left = most - Number(request.headers['content-length'] ?? 0)
  if (left >= 0) {
    left = most
    let taken = 0 // in this turn
    // Without the option, an early end would destroy the connection before its answer.
    const pieces = request.iterator({ destroyOnReturn: false }) as AsyncIterator<Buffer, undefined>
    for (;;) {
      // No Promise.race with one promise for all pieces: that would keep each of them until the last.
      const { value: piece } = await new Promise<IteratorResult<Buffer, undefined>>((resolve, reject) => {
        if (body.refused) throw body.refused // between two pieces
        body.giveWay = reject
        pieces.next().then(resolve, reject)
      })
      if (!piece) break
      left -= piece.length
      if (left < 0) break
      bodies.take(body, piece.length)
      take(decode(piece))
      taken += piece.length
      if (taken < largeText) continue
      taken = 0
      await turns.next()
    }
    body.giveWay = null
  }
  if (left < 0) throw tooLarge(`The body has more than ${most} bytes, the most that is taken here. Nothing was stored.`)
  take(decode())
}

const tooLarge = (message: string) => new Refusal(413, 'PAYLOAD_TOO_LARGE', message)

/** Jobs, one a line. */
async function linesOf(request: IncomingMessage, most: number, counted: Counted): Promise<unknown[]> {
  const jobs = new Items('Line')
  await read(request, most, counted, (piece) => {
    // Only what is new is looked through: a long line would be looked through again with each piece.
    let from = 0
    while (jobs.isBetween && isSpace(piece.charCodeAt(from))) from++
    for (let end = piece.indexOf('\n'); end >= 0; end = piece.indexOf('\n', from)) {
      jobs.take(piece.slice(from, end))
      jobs.next()
      from = end + 1
      while (isSpace(piece.charCodeAt(from))) from++ // 60 MB of newlines are no 60,000,000 lines
    }
    jobs.take(piece.slice(from))
  })
  jobs.next()
  return jobs.all
}

/** Of a line that holds nothing. */
const isSpace = (char: number): boolean => char === 10 || char === 13 || char === 32 || char === 9

/** The items of a body, each parsed when its text has arrived. */
class Items {
  readonly all: unknown[] = []
  readonly #name: string
  #text = ''

  constructor(name: string) {
    this.#name = name
  }

  /** The present item has no text yet. */
  get isBetween(): boolean {
    return this.#text === ''
  }

  /** More text of the present item. */
  take(text: string): void {
    this.#text += text
    if (this.#text.length > jobBytes)
      throw tooLarge(
        `${this.#name} ${this.all.length + 1} has more than ${jobBytes} bytes, the most that is taken of one. Nothing was stored.`,
      )
  }

  /** The present item is whole. False where it is only space. */
  next(): boolean {
    const text = this.#text
    this.#text = ''
    if (text === '' || /^[ \t\r\n]*$/.test(text)) return false
    const index = this.all.length
    if (index >= limits.bulkJobs)
      throw tooLarge(`A body takes at most ${limits.bulkJobs} items. Nothing was stored: divide it.`)
    const item = parsed(text, `${this.#name} ${index + 1} is not JSON`)
    if (isExact(text)) noteExact(item)
    if (isObject(item))
      for (const [field, kind] of largeFields)
        if (Object.hasOwn(item, field))
          item[field] = new Written(kind, item[field], kind === 'payload' ? ` at index ${index}` : '')
    this.all.push(item)
    return true
  }
}

/** Takes a JSON object apart as it arrives: the items of its lists one by one, and the rest with their numbers in their place. */
class Apart {
  readonly #items = new Items('Item')
  #rest = ''
  #depth = 0
  #isInList = false
  #isInString = false
  #isEscaped = false

  take(text: string): void {
    let from = 0
    const restTo = (to: number) => {
      this.#rest += text.slice(from, to)
      from = to
    }
    for (let i = 0; i < text.length; i++) {
      const char = text.charCodeAt(i)
      if (this.#isInString) {
        if (this.#isEscaped) this.#isEscaped = false
        else if (char === backslash) this.#isEscaped = true
        else if (char === quote) this.#isInString = false
      } else if (char === quote) this.#isInString = true
      else if (char === openList || char === openObject) {
        this.#depth++
        if (this.#depth !== 2 || char !== openList) continue
        restTo(i + 1)
        this.#isInList = true
      } else if (char === comma || char === closeList || char === closeObject) {
        const isOfItem = this.#isInList && this.#depth === 2
        if (char !== comma) this.#depth--
        if (!isOfItem) continue
        this.#items.take(text.slice(from, i))
        from = i
        if (this.#items.next()) this.#rest += this.#items.all.length - 1
        if (char === comma) restTo(i + 1)
        else this.#isInList = false
      }
    }
    if (this.#isInList) this.#items.take(text.slice(from))
    else restTo(text.length)
    if (this.#rest.length > jobBytes)
      throw tooLarge(`The body has more than ${jobBytes} bytes besides its jobs. Nothing was stored.`)
  }

  /** Throws INVALID_ARGUMENT. */
  end(): unknown {
    const body = parsed(this.#rest, 'The body is not valid JSON, but Content-Type is application/json')
    for (const list of Object.values(body as object))
      if (Array.isArray(list)) for (const [at, item] of list.entries()) list[at] = this.#items.all[item as number]
    return body
  }
}

const [quote, backslash, comma, openList, closeList, openObject, closeObject] = Array.from('"\\,[]{}', (char) => char.charCodeAt(0)) // biome-ignore format: long

const isObject = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null

/** What may be large of an item, and which kind of JSON it is. */
const largeFields = [
  ['payload', 'payload'],
  ['result', 'result'],
  ['state', 'checkpoint'],
] as const

/** A value as it is stored, or what refuses it: as values, 64 MiB of `{}` would be more than a gigabyte. */
class Written {
  readonly #json: string = ''
  readonly #fault: unknown

  constructor(kind: Parameters<typeof toJson>[0], value: unknown, place: string) {
    try {
      this.#json = jsonOf(kind, value, place)
    } catch (fault) {
      this.#fault = fault
    }
  }

  get json(): string {
    if (this.#fault) throw this.#fault
    return this.#json
  }
}

/** Payloads, results and checkpoints of bodies without a number that a double may not hold. */
const exact = new WeakSet<object>()

/** Of a body or its item. */
function noteExact(body: unknown): void {
  if (!isObject(body)) return
  for (const [field] of largeFields) if (isObject(body[field])) exact.add(body[field])
  if (Array.isArray(body.reports) && body.reports.length <= limits.bulkJobs) body.reports.forEach(noteExact)
  if (Array.isArray(body.jobs) && body.jobs.length <= limits.bulkJobs) body.jobs.forEach(noteExact)
}

/** JSON text of a payload, result or checkpoint of a body. Throws as `toJson`. */
export function jsonOf(kind: Parameters<typeof toJson>[0], value: unknown, place = ''): string {
  if (value instanceof Written) return value.json
  return isObject(value) && exact.has(value) ? exactJson(kind, value, place) : toJson(kind, value, place)
}

function parsed(text: string, otherwise: string): unknown {
  try {
    return JSON.parse(text)
  } catch (error) {
    throw invalid(`${otherwise}: ${(error as Error).message}.`)
  }
}
