import { DatabaseSync } from 'node:sqlite'
import { lockWait } from '../src/store/sqlite/connection.ts'
import { type SimulatedProcess, sureGap } from './process.ts'
import type { World } from './world.ts'

/** How deep calls may stand in each other: each is a process that is stopped, slow, or waits for the lock. */
const deepest = 3
/** How long the engine waits for a lock, and a little. */
const patience = 10_001

/**
 * What happens while a process is within a call: between two of its statements, or while it waits for the lock. Others
 * are called from there, so that all takes place in one thread and in one order, which the seed gives.
 */
export class Meanwhile {
  readonly #world: World
  /** The calls that have begun and not returned, outermost first. */
  readonly #within: SimulatedProcess[] = []
  #foreign: { connection: DatabaseSync; until: number } | undefined
  /** Times at which a foreign connection takes the lock again, and for how long. */
  #again: { at: number; holds: number; left: number; every: number } | undefined
  /** How often something happens between two statements; 0: nothing does. */
  odds = 0

  constructor(world: World) {
    this.#world = world
  }

  /** Nobody waits in vain for long. */
  get lockIsHeld(): boolean {
    return this.#foreign !== undefined || this.#within.some((process) => process.holdsLock)
  }

  /** A process waits for a lock that is free: it looks again within 5 ms. */
  get someoneGetsTheLock(): boolean {
    return !this.lockIsHeld && this.#within.some(({ isWaiting }) => isWaiting)
  }

  get isWithinCall(): boolean {
    return this.#within.length > 0
  }

  /** What the calls that have begun have seen of the file may be old. */
  othersWrite(): void {
    for (const outer of this.#within) outer.interrupted = true
  }

  /** Runs a call of a process, with simulated time where it waits. */
  within<T>(process: SimulatedProcess, work: () => T): T {
    const real = { ...lockWait }
    this.othersWrite()
    this.#within.push(process)
    lockWait.sleep = (ms) => this.#waits(process, ms)
    try {
      return work()
    } finally {
      this.#within.pop()
      Object.assign(lockWait, real)
    }
  }

  between(process: SimulatedProcess, sql: string): void {
    const { random, clock } = this.#world
    if (this.odds === 0 || process.sealed || this.#within.length > deepest) return
    if (!random.chance(sql === 'BEGIN IMMEDIATE' ? this.odds * 8 : this.odds)) return
    const what = random.weighted({ others: 5, stop: 2, kill: 0.4 })
    this.#world.log(`p${process.pid} before ${sql.slice(0, 40).replace(/\s+/g, ' ')}: ${what}`)
    if (what === 'kill') this.#world.kill(process)
    else if (what === 'stop') this.#stop(process, random.pick([300, 2000, 12_000, 20_000, 60_000]))
    else {
      const begun = clock.elapsed
      for (let i = random.below(4); i >= 0; i--) this.#world.othersAct(process)
      process.waited += clock.elapsed - begun // its patience passes too
    }
    this.#world.log(`p${process.pid} goes on`)
  }

  /** SIGSTOP: nothing goes on in it, and time passes. */
  #stop(process: SimulatedProcess, ms: number): void {
    const { clock, random } = this.#world
    const begun = clock.elapsed
    const until = begun + ms
    if (process.holdsLock && ms < patience) this.#world.pass(ms) // the others wait for it, all that time
    this.#world.checker.silent(`${process.pid}`, clock.elapsed)
    process.life.stoppedAt = clock.elapsed
    while (clock.elapsed < until && !process.faults.dead && !this.someoneGetsTheLock) {
      if (random.chance(0.5)) this.#world.othersAct(process)
      else this.#world.advance(Math.min(until - clock.elapsed, random.pick([250, 1000, 5000])))
    }
    process.waited += clock.elapsed - begun // its patience passes too, by its own clock
    process.life.stoppedAt = Number.POSITIVE_INFINITY
    if (clock.elapsed - begun > sureGap) process.afterGap = true // it may go on sooner than was drawn
  }

  /** A process found the lock held, and sleeps before it looks again. Answers with how long that was. */
  #waits(process: SimulatedProcess, ms: number): number {
    const { clock, random } = this.#world
    const begun = clock.elapsed
    process.isWaiting = true
    try {
      if (this.#foreign) {
        const left = this.#foreign.until - clock.elapsed
        const piece = Math.min(left, random.pick([Math.ceil(ms), 250, 1000, left, left]))
        if (this.#within.length > deepest) this.#world.pass(piece)
        else if (random.chance(0.7)) this.#world.advance(piece)
        else this.#world.othersAct(process)
        if (clock.elapsed === begun) this.#world.pass(Math.max(1, Math.min(left, 5)))
      } else if (this.#within.some((other) => other !== process && other.holdsLock)) this.#world.pass(patience)
      else this.#world.pass(1)
    } finally {
      process.isWaiting = false
      process.waited += clock.elapsed - begun
      if (process.waited > sureGap) process.afterGap = true
    }
    return clock.elapsed - begun
  }

  /** Another program takes the write lock: once for long, or again and again, each `every` ms. */
  foreign(holds: number, times = 1, every = 5000): void {
    if (this.lockIsHeld) return
    const { path, clock } = this.#world
    const connection = new DatabaseSync(path)
    connection.exec('BEGIN IMMEDIATE')
    this.#foreign = { connection, until: clock.elapsed + holds }
    this.#again = times > 1 ? { at: clock.elapsed + every, holds, left: times - 1, every } : undefined
    this.#world.log(`another program holds the lock for ${holds} ms`)
  }

  /** Nothing more of that. */
  calm(): void {
    this.odds = 0
    this.#again = undefined
    this.#release()
  }

  /** The next instant at which the foreign program does something. */
  get next(): number {
    return Math.min(this.#foreign?.until ?? Number.POSITIVE_INFINITY, this.#again?.at ?? Number.POSITIVE_INFINITY)
  }

  /** Time has passed. */
  passed(): void {
    const { elapsed } = this.#world.clock
    if (this.#foreign && this.#foreign.until <= elapsed) this.#release()
    if (!this.#again || this.#again.at > elapsed) return
    const { holds, left, every } = this.#again
    if (this.lockIsHeld) this.#again = { ...this.#again, at: elapsed + every }
    else this.foreign(holds, left, every)
  }

  #release(): void {
    if (!this.#foreign) return
    this.#foreign.connection.exec('COMMIT')
    this.#foreign.connection.close()
    this.#foreign = undefined
    this.#world.log('the lock is free again')
  }
}
