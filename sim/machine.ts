import { copyFileSync, existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Clock } from '../src/model/clock.ts'
import { Engine } from '../src/store/sqlite/commit.ts'
import type { FaultyDb, SimulatedDisk } from './faults.ts'
import type { Random } from './random.ts'

/** What all processes of one simulated machine share. */
export interface Machine {
  path: string
  clock: SimulatedClock
  disk: SimulatedDisk
  random: Random
  counts: Record<string, number>
  alive: Set<number>
  /** Whether processes can see which others live; else only their leases tell. */
  canTell: boolean
  rewrite(sql: string): string
  /** The file is of a newer version than the engines. */
  isNewer: boolean
  /** Called between two statements of a process: others may act, time may pass, it may be stopped or killed. */
  between(pid: number, sql: string): void
  /** Connections that are kept from one run to the next, by pid; none: each process makes its own. */
  kept?: Map<number, FaultyDb>
}

/** The machine's wall clock, which can be set, and its monotonic one, which cannot. */
export class SimulatedClock implements Clock {
  wall = Date.UTC(2030, 0, 1)
  elapsed = 0
  now = () => this.wall
  monotonic = () => this.elapsed
  timer(): never {
    throw new Error('the engine needs no timers')
  }
}

/** Files of one run of the simulator, in memory where the system has such a place. */
export class Files implements Disposable {
  readonly #folder = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'gopherqueue-sim-'))
  readonly path = join(this.#folder, 'jobs.db')
  readonly #empty = join(this.#folder, 'empty.db')

  constructor() {
    new Engine(this.#empty, new SimulatedClock()).close()
  }

  /** An empty queue. */
  renew(): string {
    for (const end of ['', '-wal', '-shm']) rmSync(`${this.path}${end}`, { force: true })
    copyFileSync(this.#empty, this.path)
    return this.path
  }

  [Symbol.dispose](): void {
    rmSync(this.#folder, { recursive: true, force: true })
  }
}
