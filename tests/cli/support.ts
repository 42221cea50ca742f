import assert from 'node:assert/strict'
import { type ChildProcessWithoutNullStreams, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readdirSync, readlinkSync, rmSync, watch, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { GopherQueue } from '../../src/queue/gopherqueue.ts'
import { removeAtEnd } from '../crash/processes.ts'
import { main } from '../support/bundled.ts'

export interface Ended {
  code: number | null
  stdout: string
  stderr: string
}

/** A folder for one test, with the command line run in it as a process of its own. */
export class Bench {
  readonly folder: string
  readonly file: string
  readonly #test: TestContext

  constructor(test: TestContext) {
    this.#test = test
    this.folder = mkdtempSync(join(tmpdir(), 'gopherqueue-cli-'))
    this.file = join(this.folder, 'jobs.db')
    removeAtEnd(this.folder)
  }

  start(...args: string[]): Running {
    return this.startWith({}, ...args)
  }

  startWith(environment: Record<string, string>, ...args: string[]): Running {
    const { GOPHERQUEUE_DB: _, GOPHERQUEUE_URL: __, ...env } = process.env
    const child = spawn(process.execPath, [main, ...args], {
      cwd: this.folder,
      env: { ...env, GOPHERQUEUE_DB: this.file, ...environment },
    })
    this.#test.after(() => child.kill('SIGKILL'))
    return new Running(child)
  }

  run(...args: string[]): Promise<Ended> {
    return this.feed('', ...args)
  }

  feed(stdin: string | Buffer, ...args: string[]): Promise<Ended> {
    const running = this.start(...args)
    running.child.stdin.on('error', () => undefined) // it need not read
    running.child.stdin.end(stdin)
    return running.ended
  }

  write(name: string): void {
    writeFileSync(join(this.folder, name), '')
  }

  /** Resolves when a command has made the file, and removes it. */
  async appears(name: string): Promise<void> {
    const watcher = watch(this.folder)
    while (!existsSync(join(this.folder, name))) await once(watcher, 'change')
    watcher.close()
    rmSync(join(this.folder, name))
  }

  /** Processes that run in the folder, as all commands do; their ids. */
  processes(): string[] {
    return readdirSync('/proc').filter((pid) => {
      try {
        return /^\d+$/.test(pid) && readlinkSync(`/proc/${pid}/cwd`) === this.folder
      } catch {
        return false // it ended, or is another user's
      }
    })
  }

  /** The same file in this process. Closed at the test's end. */
  async open(): Promise<GopherQueue> {
    const queue = await GopherQueue.open(this.file)
    this.#test.after(() => queue.close())
    return queue
  }
}

export class Running {
  readonly child: ChildProcessWithoutNullStreams
  readonly ended: Promise<Ended>
  stdout = ''
  stderr = ''

  constructor(child: ChildProcessWithoutNullStreams) {
    this.child = child
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      this.stdout += text
    })
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.stderr += text
    })
    this.ended = once(child, 'close').then(([code]) => ({ code, stdout: this.stdout, stderr: this.stderr }))
  }

  /** The lines of stdout so far as JSON, at least one. */
  async prints(): Promise<Record<string, unknown>[]> {
    while (!this.stdout.includes('\n')) await once(this.child.stdout, 'data')
    return this.stdout.trim().split('\n').map((line) => JSON.parse(line)) // biome-ignore format: short
  }

  /** The address of a server, when it serves; rejects when it ends without. */
  async serves(): Promise<string> {
    const over = this.ended.then(() => true)
    for (;;) {
      const [, url] = /^serving .* at (\S+)$/m.exec(this.stdout + this.stderr) ?? []
      if (url) return url
      const told = Promise.race([once(this.child.stdout, 'data'), once(this.child.stderr, 'data')])
      if (await Promise.race([over, told.then(() => false)]))
        throw new Error(`It ended without serving: ${this.stderr}`)
    }
  }

  /** Resolves when stderr has the pattern; rejects when the process ends without it. */
  async says(pattern: RegExp): Promise<void> {
    const over = this.ended.then(() => true)
    while (!pattern.test(this.stderr))
      if (await Promise.race([over, once(this.child.stderr, 'data').then(() => false)]))
        if (!pattern.test(this.stderr)) throw new Error(`It ended without ${pattern}: ${this.stderr}`)
  }
}

/** What a command printed. */
interface Said {
  args: string[]
  code: number
  out: string
  err: string
}

/** Commands in one process, one after the other: to start one takes longer than to run it. */
export function runAll(file: string, commands: string[][]): Said[] {
  const program = JSON.stringify(join(import.meta.dirname, '../../src/cli/program.ts'))
  const script = `
    const { main } = await import(${program})
    const real = { out: process.stdout.write.bind(process.stdout), err: process.stderr.write }
    const all = []
    for (const args of ${JSON.stringify(commands)}) {
      const said = { args, code: 0, out: '', err: '' }
      process.stdout.write = (text) => ((said.out += text), true)
      process.stderr.write = (text) => ((said.err += text), true)
      process.exitCode = 0
      process.argv = [process.argv[0], '--db', ${JSON.stringify(file)}, ...args]
      await main()
      all.push({ ...said, code: process.exitCode })
    }
    process.exitCode = 0
    real.out(JSON.stringify(all))`
  const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' })
  assert.ok(stdout.startsWith('['), stderr)
  return JSON.parse(stdout)
}
