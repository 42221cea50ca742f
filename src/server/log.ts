import { hostname } from 'node:os'
import type { Clock } from '../model/clock.ts'
import { invalid, isQueueError } from '../model/errors.ts'
import { escaped } from '../model/text.ts'

/** From the most to the least talkative; 'silent' tells nothing. */
export const levels = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const
export type Level = (typeof levels)[number]
type Fields = Record<string, unknown>

/** How often a line that repeats is written, in ms: a log on a full disk must not be what fills it. */
const quiet = 60_000
/** Most kinds of lines that are counted apart: clients choose what they are refused for. */
const mostKinds = 200

/** The server's log: one JSON object a line, which a terminal only shows. */
export class Log {
  readonly #least: number
  readonly #write: (line: string) => void
  readonly #clock: Clock
  readonly #host = hostname()
  readonly #repeats = new Map<string, Repeat>()
  #isClosed = false

  /** Throws INVALID_ARGUMENT for a level that does not exist. */
  constructor(level: string, write: (line: string) => void, clock: Clock) {
    this.#least = levels.indexOf(level as Level)
    if (this.#least < 0) throw invalid(`There is no log level '${level}': use one of ${levels.join(', ')}.`)
    this.#write = write
    this.#clock = clock
  }

  debug(message: string, fields?: Fields): void {
    this.tell('debug', message, fields)
  }

  info(message: string, fields?: Fields): void {
    this.tell('info', message, fields)
  }

  warn(message: string, fields?: Fields): void {
    this.tell('warn', message, fields)
  }

  error(message: string, fields?: Fields): void {
    this.tell('error', message, fields)
  }

  /** Whether lines of that level are written. */
  tells(level: Level): boolean {
    return levels.indexOf(level) >= this.#least
  }

  /**
   * Of what may repeat without end: the first of a kind is written at once. From then on there is one line a minute, with the
   * `count` of those since and the fields of the last, but no stack, until a minute passes without any.
   */
  repeated(level: Level, msg: string, kind: string, fields: Fields = {}): void {
    if (!this.tells(level)) return
    if (this.#isClosed) return void this.tell(level, msg, fields) // a timer would keep the process
    const of = `${msg} ${kind}`
    const key = this.#repeats.has(of) || this.#repeats.size < mostKinds ? of : 'other'
    const before = this.#repeats.get(key)
    if (before) {
      before.count++
      before.last = { level, msg, fields }
      return
    }
    this.#repeats.set(key, { count: 0, last: { level, msg, fields }, stop: this.#later(key) })
    this.tell(level, msg, fields)
  }

  #later(key: string): () => void {
    return this.#clock.timer(quiet, () => {
      const repeat = this.#repeats.get(key)!
      this.#tellCount(repeat)
      if (repeat.count === 0) this.#repeats.delete(key)
      else Object.assign(repeat, { count: 0, stop: this.#later(key) })
    })
  }

  #tellCount({ count, last: { level, msg, fields } }: Repeat): void {
    if (count > 0) this.tell(level, msg, { ...fields, ...('err' in fields && { err: brief(fields.err) }), count })
  }

  /** Writes the counts that are left, and counts no more. */
  close(): void {
    this.#isClosed = true
    for (const repeat of this.#repeats.values()) {
      repeat.stop()
      this.#tellCount(repeat)
    }
    this.#repeats.clear()
  }

  tell(level: Level, msg: string, { err, ...fields }: Fields = {}): void {
    if (!this.tells(level)) return
    const time = new Date(this.#clock.now()).toISOString()
    const line = { level, time, pid: process.pid, hostname: this.#host, ...fields, ...(err !== undefined && { err: plain(err) }), msg } // biome-ignore format: one line
    this.#write(`${escaped(JSON.stringify(line))}\n`)
  }
}

interface Repeat {
  /** Since the last line. */
  count: number
  last: { level: Level; msg: string; fields: Fields }
  stop: () => void
}

/** Of an error, what tells it from others. */
const brief = (error: unknown): unknown => {
  const { name, message, code } = (error instanceof Error ? error : new Error(String(error))) as NodeJS.ErrnoException
  return { type: name, message, ...(code !== undefined && { code }) }
}

/** An error with what JSON would leave out; the stack only of one that nobody foresaw. */
function plain(error: unknown): unknown {
  if (!(error instanceof Error)) return error
  if (isQueueError(error)) return brief(error)
  const { name, message, stack, cause } = error
  return { ...error, type: name, message, stack, ...(cause !== undefined && { cause: plain(cause) }) }
}
