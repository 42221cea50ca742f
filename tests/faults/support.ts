import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import {
  closeSync,
  existsSync,
  mkdtempSync,
  openSync,
  renameSync,
  rmdirSync,
  rmSync,
  statfsSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import { GopherQueue, type JobOptions } from '../../src/index.ts'
import { type Child, lookInto, start, until } from '../crash/processes.ts'
import type { AppConfig, Ending, Told } from './app.child.ts'

export const mebibyte = 1024 * 1024

const tools = { unshare: 'unshare', mount: 'mount', umount: 'umount', gcc: 'gcc' }

/** Why small filesystems cannot be mounted here, or false. */
export const noMount = whyNoMount()

function whyNoMount(): string | false {
  if (process.platform !== 'linux' || process.getuid?.() !== 0)
    return 'needs Linux and root to mount a small filesystem'
  const { error, status } = spawnSync(tools.unshare, ['--mount', 'mount', '-t', 'tmpfs', 'tmpfs', '/mnt'])
  return error || status !== 0 ? 'tmpfs may not be mounted here' : false
}

/** A filesystem of so many MiB, in memory; gone with the test. */
export function smallDisk(t: TestContext, size: number): string {
  const folder = mkdtempSync(join(tmpdir(), 'gopherqueue-disk-'))
  execFileSync(tools.mount, ['-t', 'tmpfs', '-o', `size=${size}m`, 'tmpfs', folder])
  t.after(() => {
    execFileSync(tools.umount, ['--lazy', folder])
    rmdirSync(folder)
  })
  return folder
}

export function freeIn(folder: string): number {
  const { bavail, bsize } = statfsSync(folder)
  return bavail * bsize
}

/** Fills the disk to the last byte, or until `leave` bytes are left, with a file that can be removed again. */
export function fill(folder: string, leave = 0, name = 'filler'): string {
  const path = join(folder, name)
  const file = openSync(path, 'a')
  try {
    for (let size = mebibyte; size >= 1 && freeIn(folder) > leave; ) {
      try {
        writeSync(file, Buffer.alloc(leave > 0 ? Math.min(size, freeIn(folder) - leave) : size))
      } catch (error) {
        assert.equal((error as NodeJS.ErrnoException).code, 'ENOSPC')
        size = Math.floor(size / 2)
      }
    }
  } finally {
    closeSync(file)
  }
  return path
}

const endings: Ending[] = ['success', 'temporary', 'permanent', 'success']

/** A file with jobs that run until they are told to end: half of them well, a quarter each in a temporary and a permanent failure. */
export async function fileWithHeldJobs(folder: string, count: number, options: JobOptions = {}): Promise<string> {
  const file = join(folder, 'jobs.db')
  const queue = await GopherQueue.open(file, { diskReserve: 0 })
  const payloads = Array.from({ length: count }, (_, i) => ({ ending: endings[i % endings.length] }))
  await queue.submitMany('held', payloads, { backoff: { kind: 'constant', delay: '10h' }, ...options })
  await queue.close()
  return file
}

/** What plain SQL finds of them: jobs by state, attempts by outcome. */
export function found(file: string): Record<string, number> {
  const db = lookInto(file)
  const rows = db
    .prepare(
      `SELECT state AS name, COUNT(*) AS n FROM gq_jobs WHERE type = 'held' GROUP BY 1
       UNION ALL SELECT outcome || ' attempts', COUNT(*) FROM gq_attempts GROUP BY 1`,
    )
    .all()
  const [sound] = db.prepare('PRAGMA integrity_check').all()
  assert.equal(sound?.integrity_check, 'ok')
  db.close()
  return Object.fromEntries(rows.map(({ name, n }) => [String(name), Number(n)]))
}

/** What is found when each of them has ended its first attempt. */
export const allEnded = (count: number) => ({
  succeeded: count / 2,
  scheduled: count / 4,
  dead: count / 4,
  'failed attempts': count / 2,
})

/** Waits until so many of them run, by the public table. */
export async function untilRunning(file: string, count: number): Promise<void> {
  const db = lookInto(file)
  const running = db.prepare(`SELECT COUNT(*) AS n FROM gq_jobs WHERE type = 'held' AND state = 'running'`)
  await until(`${count} run`, 30, () => running.get()!.n === count).finally(() => db.close())
}

/** An app in a process of its own, as the test sees it: what it was told and what it tells. */
export class App {
  readonly child: Child

  constructor(t: TestContext, config: AppConfig, environment: Record<string, string> = {}) {
    const through = ['env', ...Object.entries(environment).map(([name, value]) => `${name}=${value}`)]
    this.child = start(t, '../faults/app.child.ts', config, through)
  }

  tell(line: string): void {
    this.child.tell(line)
  }

  /** All that it told so far. */
  get told(): Told[] {
    const lines = this.child.output.split('\n')
    lines.pop()
    return lines.map((line) => JSON.parse(line) as Told)
  }

  all(what: string): Told[] {
    return this.told.filter((told) => told.what === what)
  }

  /** Waits until it has told so many things of this kind, and answers with the last. */
  async hears(what: string, count = 1, seconds = 20): Promise<Told> {
    try {
      return await until(`${count} x ${what}`, seconds, () =>
        this.child.alive ? this.all(what)[count - 1] : assert.fail('it ended'),
      )
    } catch (error) {
      const told = this.told.filter((line) => !['start', 'end', 'succeeded', 'retrying', 'dead'].includes(line.what))
      const last = told.slice(-10).map((line) => JSON.stringify(line))
      throw new Error([`${this.all(what).length} x ${what} so far`, ...last, this.child.complaints].join('\n'), {
        cause: error,
      })
    }
  }

  /** Submits a job under this name and answers with what came of it. */
  async submits(name: string, type = 'short'): Promise<Told> {
    this.tell(`submit ${name} ${type}`)
    return until(`an answer to ${name}`, 20, () =>
      this.told.find(({ what, of }) => of === name && (what === 'accepted' || what === 'refused')),
    )
  }

  /** Submits again and again, under new names, until one is accepted. */
  async submitsAtLast(name: string, seconds = 20): Promise<Told> {
    const deadline = performance.now() + seconds * 1000
    for (let i = 0; ; i++) {
      const told = await this.submits(`${name}-${i}`)
      if (told.what === 'accepted') return told
      assert.ok(performance.now() < deadline, `still refused: ${told.message}`)
    }
  }

  /** Submits until one is refused: what it takes to notice is no part of the promise. */
  async submitsUntilRefused(name: string, seconds = 20): Promise<Told> {
    const deadline = performance.now() + seconds * 1000
    for (let i = 0; ; i++) {
      const told = await this.submits(`${name}-${i}`)
      if (told.what === 'refused') return told
      assert.ok(performance.now() < deadline, 'still accepted')
    }
  }

  async asksHealth(): Promise<Told> {
    const before = this.all('asked').length
    this.tell('health')
    return this.hears('asked', before + 1)
  }
}

/** An app in which so many held jobs run as it has slots. */
export async function busyApp(t: TestContext, config: AppConfig, environment = {}): Promise<App> {
  const app = new App(t, config, environment)
  await app.hears('start', config.concurrency, 30)
  return app
}

/** Ends jobs that were lost beside each other: half of them may run beside each other until they have ended. */
export async function finishLost(app: App, count: number): Promise<void> {
  for (const started of [count / 2, count]) {
    await app.hears('start', started, 30)
    app.tell(`finish ${count / 2}`)
  }
}

/** The changes of health that it told of. */
export const healthOf = (app: App) => app.all('health').map(({ status, causes }) => [status, ...causes!].join(' '))

/** Where Debian and others put libfaketime. */
const faketime = [
  '/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1',
  '/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1',
  '/usr/lib64/faketime/libfaketimeMT.so.1',
].find((path) => existsSync(path))
export const noFaketime = faketime === undefined && 'libfaketime is not installed'

/** A wall clock that can be set while the process runs; its monotonic clock goes on as ever. */
export function settableClock(
  folder: string,
  name: string,
): { environment: Record<string, string>; set(to: string): void } {
  const file = join(folder, name)
  const set = (to: string) => writeFileSync(file, to)
  set('+0')
  const environment = {
    LD_PRELOAD: faketime ?? '',
    FAKETIME_TIMESTAMP_FILE: file,
    FAKETIME_NO_CACHE: '1',
    FAKETIME_DONT_FAKE_MONOTONIC: '1',
    DONT_FAKE_MONOTONIC: '1',
  }
  return { environment, set }
}

export const noCompiler =
  process.platform !== 'linux'
    ? 'needs Linux'
    : spawnSync(tools.gcc, ['--version']).error !== undefined && 'gcc is not installed'

/** A faulty disk: system calls on files whose name ends with a suffix fail for as long as `break` says so. */
export function faultyDisk(folder: string) {
  const library = join(folder, 'fault.so')
  const flag = join(folder, 'fault.flag')
  execFileSync(tools.gcc, [
    '-shared',
    '-fPIC',
    '-O1',
    '-o',
    library,
    fileURLToPath(new URL('fault.c', import.meta.url)),
    '-ldl',
  ])
  return {
    environment: { LD_PRELOAD: library, FAULT_FLAG: flag },
    /** Which calls fail (`fsync` or `write`), on which files, with which error. */
    break: (calls: 'fsync' | 'write', suffix: string, error: 'EIO' | 'EROFS' | 'ENOSPC' = 'EIO') => {
      writeFileSync(`${flag}.new`, `${calls} ${suffix} ${{ EIO: 5, EROFS: 30, ENOSPC: 28 }[error]}\n`)
      renameSync(`${flag}.new`, flag)
    },
    mend: () => rmSync(flag),
  }
}
