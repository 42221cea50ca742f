import type { Readable } from 'node:stream'
import { systemClock } from '../model/clock.ts'
import { GopherQueueError, isQueueError } from '../model/errors.ts'
import { type JobOptions, limits } from '../model/job.ts'
import { toJson } from '../model/json.ts'
import type { GopherQueue } from '../queue/gopherqueue.ts'

/** Lines and bytes of input in one bulk, and the longest line: together the bound on memory. */
const most = { jobs: limits.bulkJobs, bytes: 16 * 1024 * 1024, line: 8 * 1024 * 1024 }

/** What is stored so far. */
interface Bulk {
  accepted: number
  firstId: number | null
  lastId: number | null
}

/**
 * Submits each line as a job: all or none of what fits one bulk, longer input in bulks one after another. What it throws
 * says which lines were stored before, as which jobs, and from which line to go on.
 */
export async function submitLines(queue: GopherQueue, type: string, options: JobOptions, input: Readable) {
  const bulk: Bulk = { accepted: 0, firstId: null, lastId: null }
  const draw = process.stderr.isTTY ? progress() : () => undefined
  let read = 0
  let nextLine = 1
  let bytes = 0
  let payloads: unknown[] = []
  const submit = async () => {
    const chunk = payloads
    payloads = []
    bytes = 0
    if (chunk.length === 0) return
    const results = await queue.submitMany(type, chunk, options)
    nextLine = read + 1
    bulk.accepted += results.length
    bulk.firstId ??= results[0]!.id
    bulk.lastId = results.at(-1)!.id
    draw(bulk.accepted)
  }
  process.once('SIGINT', () => input.destroy(Object.assign(new Error('Interrupted.'), { code: 'INTERRUPTED' })))
  try {
    for await (const line of lines(input)) {
      const payload = parse(line, read + 1)
      if (payload !== undefined) payloads.push(payload)
      read++
      bytes += line.length
      if (payloads.length >= most.jobs || bytes >= most.bytes) await submit()
    }
    await submit()
    return bulk
  } catch (error) {
    const { message } = error as Error
    const fate = fateOf(bulk, nextLine, isQueueError(error) && error.accepted === 'unknown')
    throw Object.assign(error as Error, {
      message: `${message.replace(/ Nothing was stored\.$/, '')} ${fate}`,
      details: { ...bulk, nextLine },
    })
  } finally {
    draw(null)
  }
}

/** What became of the lines, of which one bulk failed: sent again from the first on, those stored would be there twice. */
function fateOf({ accepted, firstId, lastId }: Bulk, nextLine: number, unknown: boolean): string {
  const rest = `line ${nextLine} and those after it ${unknown ? 'may have been' : 'were not: go on from there'}`
  if (accepted > 0) return `The ${accepted} jobs of the lines before are stored, the first as job ${firstId}, the last as job ${lastId}; ${rest}.` // biome-ignore format: one line
  return unknown ? 'The lines may have been stored.' : 'None of the lines was stored.'
}

/** In Latin-1, a character for each byte, so that what is not UTF-8 can be refused with its line's number. */
async function* lines(input: Readable): AsyncGenerator<string> {
  let rest = ''
  for await (const block of input.setEncoding('latin1') as AsyncIterable<string>) {
    const parts = block.split('\n')
    parts[0] = rest + parts[0]
    rest = parts.pop()!
    yield* parts
    if (rest.length > most.line) break // `parse` refuses it
  }
  yield rest
}

/** Undefined for a blank line. */
function parse(line: string, number: number): unknown {
  try {
    if (line.length > most.line) throw new GopherQueueError('PAYLOAD_TOO_LARGE', `longer than ${most.line} bytes.`)
    const text = new TextDecoder('utf-8', { fatal: true }).decode(Buffer.from(line, 'latin1')) // drops a leading BOM
    if (text.trim() === '') return undefined
    const payload: unknown = JSON.parse(text)
    toJson('payload', payload)
    return payload
  } catch (error) {
    const code = isQueueError(error) ? error.code : 'INVALID_PAYLOAD'
    throw new GopherQueueError(code, `Line ${number} is no payload: ${(error as Error).message.replace(/\.?$/, '.')}`)
  }
}

/** Draws a line on stderr, ten times a second at most. Null wipes it. */
function progress(): (accepted: number | null) => void {
  const start = systemClock.monotonic()
  let drawn = start
  return (accepted) => {
    const now = systemClock.monotonic()
    if (accepted !== null && now - drawn < 100) return
    drawn = now
    const rate = Math.round(((accepted ?? 0) * 1000) / (now - start)).toLocaleString('en')
    process.stderr.write(`\r\x1b[K${accepted === null ? '' : `${accepted.toLocaleString('en')} jobs, ${rate}/s`}`)
  }
}
