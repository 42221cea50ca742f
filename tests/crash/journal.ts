import { closeSync, openSync, readFileSync, writeSync } from 'node:fs'

/**
 * A process's own log. Each line is handed to the kernel before `write` returns, so that a SIGKILL of this process
 * loses none of those before it; one file for each process, so that a torn last line spoils no other's.
 */
export class Journal {
  readonly #file: number

  constructor(path: string) {
    this.#file = openSync(path, 'ax')
  }

  write(...words: (string | number | bigint)[]): void {
    writeSync(this.#file, `${words.join(' ')}\n`)
  }

  /** Several lines by one append. */
  writeAll(lines: (string | number | bigint)[][]): void {
    writeSync(this.#file, lines.map((words) => `${words.join(' ')}\n`).join(''))
  }

  close(): void {
    closeSync(this.#file)
  }
}

/** The whole lines of a log as words; none when there is no such file yet. */
export function readJournal(path: string): string[][] {
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
  const lines = text.split('\n')
  lines.pop() // empty, or torn by a kill
  return lines.map((line) => line.split(' '))
}

/** Nanoseconds of the monotonic clock, which on Linux all processes share. */
export const nanoseconds = (): bigint => process.hrtime.bigint()
