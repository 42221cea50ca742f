import { hostname } from 'node:os'
import type { Clock } from '../model/clock.ts'
import { invalid } from '../model/errors.ts'
import { escaped } from '../model/text.ts'

/** From the most to the least talkative; 'silent' tells nothing. */
export const levels = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const
export type Level = (typeof levels)[number]
type Fields = Record<string, unknown>

/** The server's log: one JSON object a line, which a terminal only shows. */
export class Log {
  readonly #least: number
  readonly #write: (line: string) => void
  readonly #clock: Clock
  readonly #host = hostname()

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

  tell(level: Level, msg: string, { err, ...fields }: Fields = {}): void {
    if (!this.tells(level)) return
    const time = new Date(this.#clock.now()).toISOString()
    const line = { level, time, pid: process.pid, hostname: this.#host, ...fields, ...(err !== undefined && { err: plain(err) }), msg } // biome-ignore format: one line
    this.#write(`${escaped(JSON.stringify(line))}\n`)
  }
}

/** An error with what JSON would leave out. */
function plain(error: unknown): unknown {
  if (!(error instanceof Error)) return error
  const { name, message, stack, cause } = error
  return { ...error, type: name, message, stack, ...(cause !== undefined && { cause: plain(cause) }) }
}
