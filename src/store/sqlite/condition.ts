import type { Clock } from '../../model/clock.ts'
import { type ErrorCode, GopherQueueError } from '../../model/errors.ts'
import type { StoreHealth } from '../store.ts'
import { Checkpoints } from './checkpoints.ts'
import { fates, isStorageFault, storageError } from './connection.ts'
import type { Db } from './db.ts'
import type { Disk } from './disk.ts'
import { type Guard, noGuard } from './guard.ts'
import type { Warning } from './warning.ts'

const failures: ReadonlySet<string> = new Set([
  'STORAGE_CORRUPT',
  'NOT_A_QUEUE',
  'SCHEMA_TOO_NEW',
  'TWO_SQLITES',
  'MOVED',
])
/** How often to look at the disk's room, and for what destroys the file. */
const checkEvery = { disk: 250, guard: 100 }
const lockAgainEvery = 5000
/** Submissions come back when so much more than the reserve is free: else those taken would be what refuses the next. */
const roomAgain = 1.125
/** Bytes of free space that opening a file may take: its -shm, and the first pages of its -wal. */
const leastToOpen = 256 * 1024
const retries = { first: 20, longest: 1000 }

type Cause = StoreHealth['causes'][number]

/** What a look at the file found: to go on, to open it anew, to take the locks again, or to stop for ever. */
export type Found = 'sound' | 'gone' | 'unlocked' | 'failed'

/** What storage can do now, and why not more. One change, one word of it: `changed` is set for whoever passes it on. */
export class Condition {
  readonly #clock: Clock
  /** What refuses something. */
  readonly #causes = new Map<string, Cause>()
  readonly #warnings = new Map<string, Cause>()
  readonly #checkpoints: Checkpoints
  readonly #guard: Guard
  #retryAt = 0
  #delay = retries.first
  #diskCheckAt = 0
  #guardAt = 0
  #free = 0
  #lockAgainAt = 0
  readonly #disk: Disk
  readonly #diskReserve: number
  changed = false
  /** The last write failed: nothing can be written at all, not even from what was set aside. */
  blocked = false

  constructor(clock: Clock, disk: Disk, diskReserve: number, guard = noGuard) {
    this.#clock = clock
    this.#guard = guard
    this.#checkpoints = new Checkpoints(clock)
    this.#disk = disk
    this.#diskReserve = diskReserve
  }

  /** Opens the file: on a full disk with what was set aside, for to open takes some space. */
  open(connect: () => Db): Db {
    const danger = this.#guard.copyCame()
    if (danger) throw danger
    try {
      return connect()
    } catch (error) {
      if (!isStorageFault((error as Error).cause)) throw error
      if (this.#disk.free() >= Math.max(this.#diskReserve, leastToOpen)) throw error
      const failure = new GopherQueueError(
        'STORAGE_FULL',
        'The disk has no room to open the file. Nothing was changed: make room, then open it again.',
        { cause: error },
      )
      this.raise(failure)
      if (!this.#disk.release()) throw failure
      return connect()
    } finally {
      this.#disk.problem() // remembers which file it was
    }
  }

  get health(): StoreHealth {
    const all = [...this.#warnings.values(), ...this.#causes.values()] // what refuses a submission is the last
    const causes = all.map((cause) => (cause.code === 'STORAGE_FULL' ? { ...cause, message: this.#fullness } : cause))
    const status = this.failed ? 'failed' : causes.length > 0 ? 'degraded' : 'ok'
    const writes = !this.blocked && !this.failed
    const starts = writes && !this.#warnings.has('MOVED')
    return {
      status,
      causes,
      works: { submit: starts && !this.#causes.has('STORAGE_FULL'), lease: starts, complete: writes },
    }
  }

  /** No retry can help: somebody has to look at the file. */
  get failed(): boolean {
    return [...this.#causes.keys()].some((code) => failures.has(code))
  }

  get ok(): boolean {
    return this.#causes.size + this.#warnings.size === 0
  }

  has(code: ErrorCode): boolean {
    return this.#causes.has(code)
  }

  /** Bytes that the disk has free, when that is too little for submissions; else null. */
  get room(): number | null {
    return this.has('STORAGE_FULL') ? this.#free : null
  }

  /** Pages may go back to the disk: a write is likely to find room, if only what was set aside. */
  get mayShrink(): boolean {
    return !this.blocked && !this.failed
  }

  /** Writing is not worth a try yet. */
  get resting(): boolean {
    return this.failed || (this.blocked && this.#clock.monotonic() < this.#retryAt)
  }

  /** The next `look` checks the disk, too. */
  checkSoon(): void {
    this.#diskCheckAt = 0
  }

  raise({ code, message }: GopherQueueError): void {
    if (this.#causes.has(code)) return
    if (code === 'MOVED') this.#warnings.delete(code)
    this.#causes.set(code, { code, message, since: this.#clock.now() })
    this.changed = true
  }

  /** `warning` is told as long as it holds, once. */
  warn(code: Warning['code'], warning: { message: string } | null): void {
    if (!warning && this.#warnings.delete(code)) this.changed = true
    if (!warning || this.#warnings.has(code)) return
    this.#warnings.set(code, { code, message: warning.message, since: this.#clock.now() })
    this.changed = true
  }

  /** A write failed: the next one is worth a try after a while that doubles up to a second. */
  block(error: GopherQueueError): void {
    this.raise(error)
    if (!this.blocked) this.changed = true
    this.blocked = true
    this.#retryAt = this.#clock.monotonic() + this.#delay
    this.#delay = Math.min(this.#delay * 2, retries.longest)
  }

  /** A write is on disk again. */
  unblock(): void {
    if (this.blocked) this.changed = true
    this.blocked = false
    if (!this.has('STORAGE_FULL')) this.#delay = retries.first // else a disk with room now and then would have each failure told anew
    for (const code of this.#causes.keys())
      if (code !== 'STORAGE_FULL' && !failures.has(code)) this.#causes.delete(code)
  }

  /** Ms until the next check although no request comes; infinity when none is due. */
  get checkIn(): number {
    return this.#guard.alert && !this.failed
      ? Math.max(0, this.#guardAt - this.#clock.monotonic())
      : Number.POSITIVE_INFINITY
  }

  /** Looks at what may happen to the file from outside, a few times a second at most. `working`: this process runs jobs. */
  look(working: boolean, db: Db): Found {
    const at = this.#clock.monotonic()
    const diskIsDue = at >= this.#diskCheckAt
    if (diskIsDue || at >= this.#guardAt) {
      this.#guardAt = at + checkEvery.guard
      const danger = this.#guard.copyCame() ?? this.#guard.overwritten(db) ?? this.#guard.walCut()
      if (danger) {
        this.raise(danger)
        return 'failed'
      }
    }
    if (!diskIsDue) return 'sound'
    this.#diskCheckAt = at + checkEvery.disk
    try {
      this.mustBeThere('no')
      this.#lookForRoom(working)
    } catch (error) {
      this.block(storageError(error, 'The disk cannot be looked at'))
      const other = this.#guard.isDoubtful() // who overwrites a file may move its WAL away, too
      if (other) this.raise(other)
      return this.failed ? 'failed' : 'gone'
    }
    if (this.blocked) return 'sound'
    const trouble = this.#checkpoints.look(db)
    for (const code of ['CHECKPOINTS_FAIL', 'WAL_LARGE'] as const)
      this.warn(code, trouble?.code === code ? trouble : null)
    return this.#isUnlocked(at) ? 'unlocked' : 'sound'
  }

  /** True when it is worth a try to take the locks again; what a try did not bring back is told. */
  #isUnlocked(at: number): boolean {
    const unlocked = this.#guard.unlocked()
    if (unlocked && at >= this.#lockAgainAt) {
      this.#lockAgainAt = at + lockAgainEvery
      this.#diskCheckAt = 0
      return true
    }
    this.warn('LOCKS_DROPPED', unlocked ? locksDropped : null)
    if (!unlocked) this.#lockAgainAt = 0
    return false
  }

  /** Refuses submissions in time, and finds out that space is back. Who works sets space aside for its jobs. */
  #lookForRoom(working: boolean): void {
    const free = this.#disk.free()
    this.#free = free
    const room = free >= this.#diskReserve * (this.has('STORAGE_FULL') ? roomAgain : 1)
    let kept = true
    if (working) {
      try {
        kept = this.#disk.setAside(room)
        this.warn('RESERVE_MISSING', null)
      } catch (error) {
        this.warn('RESERVE_MISSING', noReserve(error as Error))
      }
    }
    if (!room || !kept) this.raise(this.#full())
    else if (!this.blocked && this.#causes.delete('STORAGE_FULL')) this.changed = true // else a write has to prove it first
  }

  /** On a full disk the space of the WAL is used again; if that is not enough, what was set aside is given up. */
  waysToMakeRoom(db: Db): (() => boolean)[] {
    const giveUp = () => {
      const released = this.#disk.release()
      if (released) db.restartWal() // the database file goes first: what the WAL took of it, the file could not grow by
      return released
    }
    return [() => db.restartWal(), giveUp]
  }

  /** This process had closed the file: who closes it last removes the -wal and -shm. */
  reopened(): void {
    this.#disk.problem(true)
  }

  /** Throws STORAGE_UNAVAILABLE when the file is not where it was opened: what is written now might be lost with it. Looks at the WAL too. */
  mustBeThere(accepted: 'no' | 'unknown'): void {
    const error = this.#guard.walCut() ?? away(this.#disk.problem())
    if (!error) return
    if (accepted === 'no') throw error
    this.raise(error) // health and later refusals say it as it is: only what became of this transaction is not known
    throw new GopherQueueError(error.code, `${error.message} ${fates.unknown}`, { accepted })
  }

  /** Throws STORAGE_CORRUPT when the WAL was cut: what is written behind the hole is lost, and a checkpoint would spread it. */
  walMustBeWhole(): void {
    const error = this.#guard.walCut()
    if (error) throw error
  }

  /** Why submissions are refused while all else goes on; null when they are taken. */
  get full(): GopherQueueError | null {
    return this.has('STORAGE_FULL') ? this.#full() : null
  }

  #full(): GopherQueueError {
    return new GopherQueueError('STORAGE_FULL', `${this.#fullness} Nothing was accepted: make room, then submit again.`)
  }

  /** What is so now: at first there was less room than the reserve, later there may be none, nor a reserve. */
  get #fullness(): string {
    if (this.blocked)
      return 'The disk is full, and nothing can be written, not even from what was kept for jobs that run. Their outcomes are held in memory until there is room: make room before you restart.'
    return `The disk has ${mebibytes(this.#free)} free; ${mebibytes(this.#diskReserve)} are kept for jobs that run, so that they go on. Submissions are refused until there is room.`
  }

  /** What a caller is told whose write cannot be tried now. */
  refusal(): GopherQueueError {
    const causes = [...this.#causes.values()]
    const { code, message } = causes.find(({ code }) => failures.has(code)) ?? causes.at(-1)!
    if (code === 'STORAGE_FULL') return this.#full()
    return new GopherQueueError(code as ErrorCode, message)
  }
}

const away = (problem: string | null): GopherQueueError | null =>
  problem ? new GopherQueueError('STORAGE_UNAVAILABLE', `${problem}. Nothing is accepted until the file is back; then it goes on by itself.`) : null // biome-ignore format: one line

const mebibytes = (bytes: number): string => `${Math.floor(bytes / 1024 / 1024)} MiB`

function noReserve({ message }: Error): Warning {
  return {
    code: 'RESERVE_MISSING',
    message: `No space can be set aside for jobs that run (${message}). All works; but once the disk is full, outcomes wait until there is room. Let this process make and write the -reserve file beside the database.`,
  }
}

const locksDropped: Warning = {
  code: 'LOCKS_DROPPED',
  message:
    'Something in this process opened and closed the database file, such as fs.readFile, which drops the locks of SQLite on it; they cannot be taken again while the app has the file open too. Close the connections of the app, and read the file in another process only.',
}
