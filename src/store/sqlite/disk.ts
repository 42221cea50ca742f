import { randomBytes } from 'node:crypto'
import {
  closeSync,
  constants,
  existsSync,
  fstatSync,
  ftruncateSync,
  openSync,
  type Stats,
  statfsSync,
  statSync,
  truncateSync,
  writeSync,
} from 'node:fs'
import { dirname } from 'node:path'

/** What lies under the database: its room, and whether it is there at all. */
export interface Disk {
  /** Bytes that are free, those set aside included. */
  free(): number
  /** Why the file cannot be trusted to be where it was, or null. */
  problem(): string | null
  /** Keeps space for the outcomes of running jobs; false when there is none. What was given up is kept again only with `room`. */
  setAside(room: boolean): boolean
  /** Gives that space to the database; false when there was none left. */
  release(): boolean
}

/** For a database in memory. */
export const noDisk: Disk = {
  free: () => Number.POSITIVE_INFINITY,
  problem: () => null,
  setAside: () => true,
  release: () => false,
}

const block = randomBytes(1024 * 1024) // a filesystem that compresses would keep no space for zeros

/** The disk under the database at `path`. What is set aside is a file of `bytes` beside it, shared by all processes of the queue. */
export function systemDisk(path: string, bytes: number): Disk {
  const reserve = `${path}-reserve`
  const kept = () => statSync(reserve, { throwIfNoEntry: false })?.size ?? 0
  const opened = new Map<string, Stats>() // as they were at the first look, right after the database was opened
  return {
    free() {
      const { bavail, bsize } = statfsSync(dirname(path))
      return bavail * bsize + kept()
    },
    problem() {
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
      if (existsSync(reserve) && !room) return false // empty: it was given up, and the database needs it
      const file = openSync(reserve, constants.O_RDWR | constants.O_CREAT, 0o600)
      try {
        for (let size = fstatSync(file).size; size < bytes; size += block.length)
          writeSync(file, block, 0, Math.min(block.length, bytes - size), size) // several processes may write the same
        return true
      } catch (error) {
        ftruncateSync(file, 0)
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
