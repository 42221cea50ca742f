import { statSync } from 'node:fs'
import { GopherQueueError } from '../../model/errors.ts'
import { descriptorsOf, otherCopyCame, otherLibraries, type Readable, readable } from './copies.ts'
import type { Db } from './db.ts'
import { Cut, Overwritten } from './overwritten.ts'
import { platform } from './platform.ts'
import { nodeSqlite, type Sqlite } from './sqlite.ts'

/** What may happen to an open file from outside that SQLite itself does not notice. */
export interface Guard {
  /** That another copy of SQLite has the file open in this process, or null. */
  copyCame(): GopherQueueError | null
  /** That the file is not any more what the connection takes it for, or null. */
  overwritten(db: Db): GopherQueueError | null
  /** As `overwritten`, at the first doubt and without SQL: asked when the WAL is gone, and a checkpoint might hit another file. */
  isDoubtful(): GopherQueueError | null
  /** That the WAL is not any more what its index takes it for, or null. */
  walCut(): GopherQueueError | null
  /** SQLite's locks on the file were dropped: somebody in this process opened and closed it. */
  unlocked(): boolean
  /** Another copy of SQLite is in this process: it may open the file at any time. */
  readonly alert: boolean
}

export const noGuard: Guard = {
  copyCame: () => null,
  overwritten: () => null,
  isDoubtful: () => null,
  walCut: () => null,
  unlocked: () => false,
  alert: false,
}

/** Guards the file at `path`, which is no link. Where the system does not tell, it takes the file to be sound. */
export class FileGuard implements Guard {
  readonly #path: string
  readonly #sqlite: Sqlite
  readonly #overwritten = new Overwritten()
  readonly #cut = new Cut()
  #descriptors: Readable | null = null
  /** Descriptors of the file and its -shm through which locks are held. */
  #locked: number[] = []
  /** Locks were seen: where the system does not list them, nothing follows from their absence. */
  #listed = false
  alert = false

  constructor(path: string, sqlite = nodeSqlite) {
    this.#path = path
    this.#sqlite = sqlite
  }

  copyCame(): GopherQueueError | null {
    return ifItTells(null, () => {
      this.alert = this.#sqlite.driver !== null || otherLibraries().length > 0 // beside a driver there is Node's own
      return this.alert ? otherCopyCame(this.#path, this.#sqlite) : null
    })
  }

  overwritten(db: Db): GopherQueueError | null {
    return ifItTells(null, () => {
      this.#descriptors = readable(this.#path, this.#descriptors)
      if (this.#descriptors === null) return null // they have no numbers, as on Windows
      const { database, shm } = this.#descriptors
      return this.#overwritten.look(db, database, shm) ? overwritten(this.#path) : null
    })
  }

  isDoubtful(): GopherQueueError | null {
    return ifItTells(null, () => {
      const [database] = descriptorsOf(this.#path).database // none when another file has the name: a checkpoint does not reach that
      return database !== undefined && this.#overwritten.mayBeOther(database) ? overwritten(this.#path) : null
    })
  }

  walCut(): GopherQueueError | null {
    try {
      if (this.#descriptors !== null && !this.#looksCut(this.#descriptors)) return null
    } catch {
      // One was closed.
    }
    return ifItTells(null, () => {
      this.#descriptors = readable(this.#path, this.#descriptors) // those of before may be another file's by now
      return this.#descriptors !== null && this.#looksCut(this.#descriptors) ? walCut(this.#path) : null
    })
  }

  #looksCut({ shm, wal }: Readable): boolean {
    return this.#cut.look(shm, wal)
  }

  unlocked(): boolean {
    return ifItTells(false, () => this.#isUnlocked())
  }

  #isUnlocked(): boolean {
    if (!platform.hasProc) return false
    const inodes = ['', '-shm'].flatMap(
      (suffix) => statSync(`${this.#path}${suffix}`, { throwIfNoEntry: false })?.ino ?? [],
    )
    const held = this.#holdsLocks(inodes) || this.#findLocks(inodes)
    if (held) this.#listed = true
    return this.#listed && !held
  }

  #holdsLocks(inodes: number[]): boolean {
    return (
      this.#locked.length === inodes.length && inodes.every((inode, i) => platform.holdsLock(this.#locked[i]!, inode))
    )
  }

  /** SQLite takes the locks through any of the descriptors that it has of a file. */
  #findLocks(inodes: number[]): boolean {
    const { database, shm } = descriptorsOf(this.#path)
    const found = [database, shm].map((numbers, i) => numbers.find((number) => platform.holdsLock(number, inodes[i]!)))
    this.#locked = found.filter((number) => number !== undefined)
    return this.#locked.length === inodes.length
  }
}

/** A look that fails tells nothing: such as one without a free descriptor, or at a file that the next statement finds unreadable. */
function ifItTells<T>(otherwise: T, look: () => T): T {
  try {
    return look()
  } catch {
    return otherwise
  }
}

function overwritten(path: string): GopherQueueError {
  return new GopherQueueError(
    'STORAGE_CORRUPT',
    `${path} was overwritten or cut while it was open. Nothing more is written to it, and nothing was accepted: stop all processes of this queue, keep ${path}-wal (or -wal-kept), which holds the last jobs, and put a backup in the place of ${path} with no -wal and -shm beside it.`,
  )
}

function walCut(path: string): GopherQueueError {
  return new GopherQueueError(
    'STORAGE_CORRUPT',
    `${path}-wal was cut or written over while it was open: what only it held is lost, also what was acknowledged. From here on nothing is written or accepted: stop all processes of this queue, move ${path}-wal and ${path}-shm away, look at ${path} with 'gopherqueue doctor', and start again with it or with a backup.`,
  )
}
