import assert from 'node:assert/strict'
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import type { TestContext } from 'node:test'
import { setTimeout as pause } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { preload } from '../support/bundled.ts'

/** A number from the environment: the sizes of a long run. */
export function fromEnvironment(name: string, usual: number): number {
  const value = Number(process.env[name] || usual)
  assert.ok(Number.isFinite(value) && value >= 0, `${name} must be a number`)
  return value
}

/** A folder of the test's own; kept when the test fails, so that its logs and file can be looked at. */
export function folderFor(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'gopherqueue-crash-'))
  t.after(() => {
    const { passed } = t as TestContext & { passed: boolean } // not yet in @types/node
    if (passed) removeAtEnd(folder)
    else t.diagnostic(`kept: ${folder}`)
  })
  return folder
}

const toRemove: string[] = []

/**
 * When this process ends: hooks run in the order in which they were made, and the first that fails is the last that runs. A
 * folder in which a child still makes files cannot be removed, and the child would then outlive the test, which hangs.
 */
export function removeAtEnd(folder: string): void {
  if (toRemove.push(folder) > 1) return
  process.once('exit', () => {
    for (const folder of toRemove) rmSync(folder, { recursive: true, force: true, maxRetries: 10 })
  })
}

/** Looks until `look` answers with something, and fails when it has not within `seconds`. */
export async function until<T>(what: string, seconds: number, look: () => T | undefined | false): Promise<T> {
  const deadline = performance.now() + seconds * 1000
  for (;;) {
    const found = look()
    if (found !== undefined && found !== false) return found
    assert.ok(performance.now() < deadline, `not within ${seconds} s: ${what}`)
    await pause(5)
  }
}

/** A child program that runs; its standard input's end asks it to stop. */
export class Child {
  readonly #process: ChildProcessWithoutNullStreams
  /** How it ended: its exit code or signal. */
  readonly ended: Promise<number | string>
  alive = true
  output = ''
  complaints = ''

  constructor(command: string, args: string[]) {
    this.#process = spawn(command, args)
    this.#process.stdout.setEncoding('utf8').on('data', (text: string) => {
      this.output += text
    })
    this.#process.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.complaints += text
    })
    this.#process.stdin.on('error', () => undefined) // it was killed while told something
    this.ended = new Promise((resolve, reject) => {
      this.#process.once('error', reject)
      this.#process.once('close', (code, signal) => {
        this.alive = false
        resolve(signal ?? code ?? 'unknown')
      })
    })
  }

  get pid(): number {
    return this.#process.pid!
  }

  tell(line: string): void {
    this.#process.stdin.write(`${line}\n`)
  }

  /** Resolves when the process is gone and has been waited for. */
  async kill(): Promise<void> {
    this.#process.kill('SIGKILL')
    await this.ended
  }

  /** Asks it to stop, and expects that it ends well, without a word of complaint. */
  async stop(): Promise<void> {
    this.#process.stdin.end()
    await until('it stopped', 60, () => !this.alive)
    assert.equal(await this.ended, 0, this.complaints)
    assert.equal(this.complaints, '')
  }
}

/** Starts a child program of this folder with its configuration. It does not outlive the test. */
export function start(t: TestContext, program: string, config: object, through: string[] = []): Child {
  const path = fileURLToPath(new URL(program, import.meta.url))
  const [command = '', ...args] = [...through, process.execPath, ...preload, path, JSON.stringify(config)]
  const child = new Child(command, args)
  t.after(() => child.kill())
  return child
}

/** A connection that knows nothing of the engine: plain SQL on the public tables. */
export function lookInto(file: string): DatabaseSync {
  return new DatabaseSync(file, { timeout: 10_000 })
}

/** Waits until no job of the file has anything left to happen to it. */
export async function drained(file: string, seconds: number): Promise<void> {
  const db = lookInto(file)
  try {
    const open = db.prepare(`SELECT SUM(scheduled + ready + running) AS jobs FROM gq_queues`)
    await until('all jobs ended', seconds, () => open.get()!.jobs === 0)
  } finally {
    db.close()
  }
}
