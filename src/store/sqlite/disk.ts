import { randomBytes } from 'node:crypto'
import {
  closeSync,
  constants,
  existsSync,
  fstatSync,
  openSync,
  readlinkSync,
  realpathSync,
  type Stats,
  statfsSync,
  statSync,
  truncateSync,
  writeSync,
} from 'node:fs'
import { basename, dirname, join, resolve } from 'node:path'

/** What lies under the database: its room, and whether it is there at all. */
export interface Disk {
  /** Bytes that are free, those set aside included. */
  free(): number
  /** Why the file cannot be trusted to be where it was, or null. `reopened`: its -wal and -shm may be new ones. */
  problem(reopened?: boolean): string | null
  /**
   * Keeps space for the outcomes of running jobs; false when there is less than asked for. What was given up is kept
   * again, and what was less made more, only with `room`. Throws when none can be kept for another reason than room.
   */
  setAside(room: boolean): boolean
  /** Gives that space to the database; false when there was none left. */
  release(): boolean
}

/** Bytes of free space under which submissions are refused, unless told otherwise. */
export const usualReserve = 64 * 1024 * 1024

/** For a database in memory. */
export const noDisk: Disk = {
  free: () => Number.POSITIVE_INFINITY,
  problem: () => null,
  setAside: () => true,
  release: () => false,
}

const block = randomBytes(1024 * 1024) // a filesystem that compresses would keep no space for zeros

/** Where the file at `path` is, or will be made: SQLite follows links, and makes its -wal and -shm beside what they lead to. */
export function realFile(path: string): string {
  let at = resolve(path)
  for (let links = 0; links < 40; links++) {
    const folder = existsSync(dirname(at)) ? realpathSync(dirname(at)) : dirname(at)
    at = join(folder, basename(at))
    const to = linkAt(at)
    if (to === null) return at
    at = resolve(folder, to)
  }
  return at // in a circle: to open it says so
}

function linkAt(path: string): string | null {
  try {
    return readlinkSync(path)
  } catch {
    return null // it is no link, or is not there
  }
}

/** What a first look leaves of a disk that is nearly full: without room to write at all, the rest would be given up at once. */
const leftToWrite = 1024 * 1024

/** The disk under the database at `path`, which is no link. What is set aside is a file of `bytes` beside it, shared by all processes of the queue. */
export function systemDisk(path: string, bytes: number): Disk {
  const reserve = `${path}-reserve`
  const kept = () => statSync(reserve, { throwIfNoEntry: false })?.size ?? 0
  const opened = new Map<string, Stats>() // as they were at the first look, right after the database was opened
  const free = () => {
    const { bavail, bsize } = statfsSync(dirname(path))
    return bavail * bsize
  }
  return {
    free: () => free() + kept(),
    problem(reopened = false) {
      if (reopened) for (const suffix of ['-wal', '-shm']) opened.delete(`${path}${suffix}`)
      // While it is open, nothing but a hand from outside removes -wal and -shm: others would open new ones and not see ours.
      for (const name of [path, `${path}-wal`, `${path}-shm`]) {
        const now = statSync(name, { throwIfNoEntry: false })
        const before = opened.get(name)
        const advice = name === path ? '' : ': stop all processes of this queue, then start them again'
        if (!now && (before || name === path)) return `${name} is gone${advice}`
        if (now && before && (now.ino !== before.ino || now.dev !== before.dev))
          return `another file is in the place of ${name}${advice}`
        if (now) opened.set(name, now)
      }
      return null
    },
    setAside(room) {
      if (bytes === 0 || kept() >= bytes) return true
      if (existsSync(reserve) && !room) return false // it was given up, and the database needs it; or it is all there was
      const file = openSync(reserve, constants.O_RDWR | constants.O_CREAT, 0o600)
      try {
        const before = fstatSync(file).size
        const most = room ? bytes : Math.min(bytes, before + Math.max(0, free() - leftToWrite))
        for (let size = before; size < most; size += block.length)
          writeSync(file, block, 0, Math.min(block.length, most - size), size) // several processes may write the same
        return most === bytes
      } catch (error) {
        // What was written stays: it is what there is.
        if ((error as NodeJS.ErrnoException).code !== 'ENOSPC' && (error as NodeJS.ErrnoException).code !== 'EDQUOT')
          throw error
        return false
      } finally {
        closeSync(file)
      }
    },
    release() {
      try {
        const held = kept()
        truncateSync(reserve, 0) // and not removed: all processes see that it was given up
        return held > 0
      } catch {
        return false // there is none, or the disk has worse trouble, which the next write will report
      }
    },
  }
}
