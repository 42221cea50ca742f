import type { Clock } from '../../model/clock.ts'
import { type ErrorCode, GopherQueueError } from '../../model/errors.ts'
import type { StoreHealth } from '../store.ts'
import { isStorageFault, storageError } from './connection.ts'
import type { Db } from './db.ts'
import type { Disk } from './disk.ts'

const failures: ReadonlySet<ErrorCode> = new Set(['STORAGE_CORRUPT', 'NOT_A_QUEUE', 'SCHEMA_TOO_NEW'])
const lookEvery = 250
/** Bytes of free space that opening a file may take: its -shm, and the first pages of its -wal. */
const leastToOpen = 256 * 1024
const retries = { first: 20, longest: 1000 }

/** What storage can do now, and why not more. One change, one word of it: `changed` is set for whoever passes it on. */
export class Condition {
  readonly #clock: Clock
  readonly #causes = new Map<ErrorCode, StoreHealth['causes'][number]>()
  #retryAt = 0
  #delay = retries.first
  #lookAt = 0
  readonly #disk: Disk
  readonly #diskReserve: number
  changed = false
  /** The last write failed: nothing can be written at all, not even from what was set aside. */
  blocked = false

  constructor(clock: Clock, disk: Disk, diskReserve: number) {
    this.#clock = clock
    this.#disk = disk
    this.#diskReserve = diskReserve
  }

  /** Opens the file: on a full disk with what was set aside, for to open takes some space. */
  open(connect: () => Db): Db {
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
    const causes = [...this.#causes.values()]
    const status = this.failed ? 'failed' : causes.length > 0 ? 'degraded' : 'ok'
    const writes = !this.blocked && !this.failed
    return {
      status,
      causes,
      works: { submit: writes && !this.#causes.has('STORAGE_FULL'), lease: writes, complete: writes },
    }
  }

  /** No retry can help: somebody has to look at the file. */
  get failed(): boolean {
    return [...this.#causes.keys()].some((code) => failures.has(code))
  }

  get ok(): boolean {
    return this.#causes.size === 0
  }

  has(code: ErrorCode): boolean {
    return this.#causes.has(code)
  }

  /** Writing is not worth a try yet. */
  get resting(): boolean {
    return this.failed || (this.blocked && this.#clock.monotonic() < this.#retryAt)
  }

  /** The next look is not put off. */
  lookSoon(): void {
    this.#lookAt = 0
  }

  raise({ code, message }: GopherQueueError): void {
    if (this.#causes.has(code)) return
    this.#causes.set(code, { code, message, since: this.#clock.now() })
    this.changed = true
  }

  clear(code: ErrorCode): void {
    if (this.#causes.delete(code)) this.changed = true
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
    if (!this.has('STORAGE_FULL')) this.#delay = retries.first // else what has room now and then would be told each time
    this.clear('STORAGE_UNAVAILABLE')
  }

  /**
   * Looks at the disk, a few times a second at most: refuses submissions in time, and finds out that space is back.
   * `working`: this process runs jobs, so it sets space aside for them. True when the file is no longer where it was.
   */
  look(working: boolean): boolean {
    if (this.#clock.monotonic() < this.#lookAt) return false
    this.#lookAt = this.#clock.monotonic() + lookEvery
    try {
      this.mustBeThere('no')
      const free = this.#disk.free()
      const room = free >= this.#diskReserve
      const kept = !working || this.#disk.setAside(room)
      if (room && kept) {
        if (!this.blocked) this.clear('STORAGE_FULL') // else a write has to prove it first
      } else this.raise(full(free, this.#diskReserve))
      return false
    } catch (error) {
      this.block(storageError(error, 'The disk cannot be looked at'))
      return true
    }
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

  /** Throws STORAGE_UNAVAILABLE when the file is not where it was opened: what is written now might be lost with it. */
  mustBeThere(accepted: 'no' | 'unknown'): void {
    const problem = this.#disk.problem()
    if (problem)
      throw new GopherQueueError(
        'STORAGE_UNAVAILABLE',
        `${problem}. ${accepted === 'no' ? 'Nothing was accepted' : 'What was asked for may be in the file that was there'}; it goes on by itself when the file is back.`,
        { accepted },
      )
  }

  /** Why submissions are refused while all else goes on; null when they are taken. */
  get full(): GopherQueueError | null {
    const cause = this.#causes.get('STORAGE_FULL')
    return cause ? new GopherQueueError('STORAGE_FULL', cause.message) : null
  }

  /** What a caller is told whose write cannot be tried now. */
  refusal(): GopherQueueError {
    const causes = [...this.#causes.values()]
    const { code, message } = causes.find((cause) => failures.has(cause.code as ErrorCode)) ?? causes.at(-1)!
    return new GopherQueueError(code as ErrorCode, message)
  }
}

function full(free: number, reserve: number): GopherQueueError {
  const mebibytes = (bytes: number) => `${Math.floor(bytes / 1024 / 1024)} MiB`
  return new GopherQueueError(
    'STORAGE_FULL',
    `The disk has ${mebibytes(free)} free; ${mebibytes(reserve)} are kept for jobs that run. The submission was not accepted: make room, or submit again later. Processing goes on.`,
  )
}
