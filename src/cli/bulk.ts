import type { Readable } from 'node:stream'
import { systemClock } from '../model/clock.ts'
import { GopherQueueError, isQueueError } from '../model/errors.ts'
import type { JobOptions } from '../model/job.ts'
import { toJson } from '../model/json.ts'
import type { GopherQueue } from '../queue/gopherqueue.ts'

/** Jobs and bytes of input in one transaction, and the longest line: together the bound on memory. */
const most = { jobs: 1000, bytes: 4 * 1024 * 1024, line: 8 * 1024 * 1024 }

/** Submits each line as a job, in chunks. What it throws says how many were accepted and from which line to go on. */
export async function submitLines(queue: GopherQueue, type: string, options: JobOptions, input: Readable) {
  const bulk = { accepted: 0, firstId: null as number | null, lastId: null as number | null }
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
    try {
      for await (const line of lines(input)) {
        const payload = parse(line, read + 1)
        if (payload !== undefined) payloads.push(payload)
        read++
        bytes += line.length
        if (payloads.length >= most.jobs || bytes >= most.bytes) await submit()
      }
    } finally {
      await submit() // also what stood before a line that is no payload
    }
    return bulk
  } catch (error) {
    const unknown = isQueueError(error) && error.accepted === 'unknown'
    throw Object.assign(error as Error, {
      message: `${(error as Error).message} The ${bulk.accepted} jobs of the lines before were accepted; line ${nextLine} and those after it ${unknown ? 'may have been in part' : 'were not'}.`,
      details: { ...bulk, nextLine },
    })
  } finally {
    draw(null)
  }
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
