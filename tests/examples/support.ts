import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import type { TestContext } from 'node:test'
import { removeAtEnd } from '../crash/processes.ts'

const root = join(import.meta.dirname, '../..')

export function folderOf(): string {
  const folder = mkdtempSync(join(tmpdir(), 'gopherqueue-example-'))
  removeAtEnd(folder)
  return folder
}

/** An example as `examples/run.ts` starts it, without that in between: SIGKILL is to reach the example. */
export class Example {
  readonly #process: ChildProcessByStdio<null, Readable, Readable>
  readonly #ended: Promise<unknown[]>
  output = ''
  complaints = ''

  constructor(t: TestContext, name: string, folder: string, env: NodeJS.ProcessEnv = {}) {
    const hook = import.meta.resolve('../../examples/from-source.ts')
    const script = join(root, 'examples', name, 'main.ts')
    this.#process = spawn(process.execPath, ['--import', hook, script], {
      cwd: folder,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, ...env },
    })
    this.#process.stdout.setEncoding('utf8').on('data', (text: string) => {
      this.output += text
    })
    this.#process.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.complaints += text
    })
    this.#ended = once(this.#process, 'close')
    t.after(() => this.end('SIGKILL'))
  }

  /** Waits until it has printed something like this. */
  async prints(pattern: RegExp): Promise<RegExpMatchArray> {
    for (;;) {
      const match = this.output.match(pattern)
      if (match) return match
      const more = await Promise.race([once(this.#process.stdout, 'data'), this.#ended.then(() => undefined)])
      if (!more && !pattern.test(this.output))
        throw new Error(`It ended without printing ${pattern}:\n${this.output}${this.complaints}`)
    }
  }

  /** How it ended by itself: its exit code and what it printed. */
  async ended(): Promise<{ code: unknown; output: string; complaints: string }> {
    const [code, signal] = await this.#ended
    return { code: signal ?? code, output: this.output, complaints: this.complaints }
  }

  async end(signal: 'SIGKILL' | 'SIGTERM'): Promise<unknown> {
    this.#process.kill(signal)
    return (await this.ended()).code
  }
}
