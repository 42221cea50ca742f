import assert from 'node:assert/strict'
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { type TestContext, test } from 'node:test'
import { setTimeout as pause } from 'node:timers/promises'
import { codeOf } from '../../src/store/sqlite/connection.ts'
import type { ChaosConfig } from './chaos.child.ts'
import { judge } from './chaos.judge.ts'
import { Journal, nanoseconds, readJournal } from './journal.ts'
import { type Child, folderFor, fromEnvironment, lookInto, start } from './processes.ts'
import { randomFrom } from './random.ts'

// Four submitters and five workers; each second or two one of them is killed, or stopped for a while. Some jobs kill their
// process each time. `npm run chaos` is ten minutes of it; CHAOS_SECONDS, CHAOS_EVERY (ms) and CRASH_SEED choose.

const seconds = fromEnvironment('CHAOS_SECONDS', 25)
const isLong = seconds >= 120
const every = fromEnvironment('CHAOS_EVERY', isLong ? 2000 : 800)
const longestStop = isLong ? 40_000 : 8000
const seed = fromEnvironment('CRASH_SEED', Date.now() % 1_000_000)
const concurrency = 10
const patience = isLong ? 600 : 200 // s

/** The place of one process: when that has ended, another takes it. */
class Place {
  readonly role: ChaosConfig['role']
  child!: Child
  log = ''
  /** Stopped until then (performance.now), or not. */
  stoppedUntil: number | null = null

  constructor(role: ChaosConfig['role']) {
    this.role = role
  }
}

class Chaos {
  readonly submitters = Array.from({ length: 4 }, () => new Place('submit'))
  readonly workers = Array.from({ length: 5 }, () => new Place('work'))
  readonly #folder: string
  readonly #t: TestContext
  readonly #kills: Journal
  readonly #random = randomFrom(seed)
  #started = 0
  #watch: DatabaseSync | undefined
  #lastFree = nanoseconds()
  #timesLocked = 0

  constructor(t: TestContext, folder: string) {
    this.#t = t
    this.#folder = folder
    this.#kills = new Journal(join(folder, 'kills.log'))
    for (const place of this.places) this.#fill(place)
  }

  get places(): Place[] {
    return [...this.submitters, ...this.workers]
  }

  #fill(place: Place): void {
    place.log = `${place.role}-${String(++this.#started).padStart(5, '0')}.log`
    place.stoppedUntil = null
    const [file, log] = [join(this.#folder, 'jobs.db'), join(this.#folder, place.log)]
    const poisonEvery = isLong ? 20_000 : 8000
    const config: ChaosConfig = { file, log, role: place.role, seed: seed + this.#started, concurrency, poisonEvery }
    place.child = start(this.#t, 'chaos.child.ts', config)
  }

  /** Writes down each time of a quarter of a second or more in which nobody could take the write lock. */
  watchLock(): void {
    const file = join(this.#folder, 'jobs.db')
    if (!existsSync(file)) return
    this.#watch ??= new DatabaseSync(file, { timeout: 0 })
    try {
      this.#watch.exec('BEGIN IMMEDIATE; ROLLBACK')
      if (this.#timesLocked > 2 && nanoseconds() - this.#lastFree > 250_000_000n)
        this.#kills.write('locked', this.#lastFree, nanoseconds())
      this.#lastFree = nanoseconds()
      this.#timesLocked = 0
    } catch (error) {
      if (codeOf(error) !== 5) throw error
      this.#timesLocked++
    }
  }

  close(): void {
    this.#watch?.close()
  }

  /** Fills the places of those that ended, and lets those go on whose stop is over. A worker may kill itself, nobody else. */
  async tend(places = this.places): Promise<void> {
    for (const place of places) {
      if (!place.child.alive) {
        assert.equal(await place.child.ended, 'SIGKILL', place.child.complaints)
        assert.equal(place.child.complaints, '')
        this.#fill(place)
      } else if (place.stoppedUntil !== null && performance.now() > place.stoppedUntil) this.goOn(place)
    }
  }

  goOn(place: Place): void {
    if (place.stoppedUntil === null) return
    place.stoppedUntil = null
    if (place.child.alive) process.kill(place.child.pid, 'SIGCONT')
    this.#kills.write('cont', place.log, nanoseconds())
  }

  async hit(): Promise<void> {
    const place = this.places[Math.floor(this.#random() * this.places.length)]!
    if (!place.child.alive) return
    if (place.stoppedUntil === null && this.#random() < 0.5) {
      place.stoppedUntil = performance.now() + 1000 + this.#random() * (longestStop - 1000)
      this.#kills.write('stop', place.log, nanoseconds())
      process.kill(place.child.pid, 'SIGSTOP')
    } else {
      this.#kills.write('kill', place.log, nanoseconds())
      await place.child.kill()
    }
  }
}

const acknowledged = (folder: string): number =>
  readdirSync(folder)
    .filter((name) => name.startsWith('submit-'))
    .flatMap((name) => readJournal(join(folder, name)))
    .filter(([word]) => word === 'ack').length

test(`${seconds} s of SIGKILL and SIGSTOP among four submitters and five workers: nothing lost, nothing twice, no innocent dead`, {
  timeout: (seconds + 2 * patience) * 1000,
}, async (t) => {
  t.diagnostic(`CRASH_SEED=${seed}`)
  const folder = folderFor(t)
  const chaos = new Chaos(t, folder)
  const end = performance.now() + seconds * 1000
  let nextHit = performance.now() + every
  // On a busy machine the time may be over before much has happened.
  const isOver = () =>
    performance.now() > end && (acknowledged(folder) > 200 || performance.now() > end + patience * 1000)
  while (!isOver()) {
    if (performance.now() > nextHit) {
      nextHit = performance.now() + every
      await chaos.hit()
    }
    await chaos.tend()
    chaos.watchLock()
    await pause(10)
  }
  for (const place of chaos.places) chaos.goOn(place)
  for (const { child } of chaos.submitters) if (child.alive) await child.stop()

  const db = lookInto(join(folder, 'jobs.db'))
  const open = db.prepare(`SELECT COUNT(*) AS jobs FROM gq_jobs WHERE state NOT IN ('succeeded', 'dead', 'cancelled')`)
  for (const give = performance.now() + patience * 1000; open.get()!.jobs !== 0; ) {
    await chaos.tend(chaos.workers)
    chaos.watchLock()
    if (performance.now() > give) break // the verdict says which
    await pause(50)
  }
  db.close()
  chaos.close()
  for (const { child } of chaos.workers) if (child.alive) await child.stop() // the last poison job may have taken one along

  const { broken, ...figures } = judge(folder)
  t.diagnostic(JSON.stringify(figures))
  assert.deepEqual(broken, {})
  assert.ok(figures.acknowledged > 100 && figures.losses > 0, 'hardly anything happened')
})
