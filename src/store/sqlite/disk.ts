import {
  closeSync,
  constants,
  fstatSync,
  ftruncateSync,
  openSync,
  rmSync,
  type Stats,
  statfsSync,
  statSync,
  writeSync,
} from 'node:fs'
import { dirname } from 'node:path'

/** What lies under the database: its room, and whether it is there at all. */
export interface Disk {
  /** Bytes that are free. */
  free(): number
  /** Why the file cannot be trusted to be where it was, or null. */
  problem(): string | null
  /** Keeps space for the outcomes of running jobs, or makes it again; false when there is no room. */
  setAside(): boolean
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

const block = Buffer.alloc(1024 * 1024)

/** The disk under the database at `path`. What is set aside is a file of `bytes` beside it, shared by all processes of the queue. */
export function systemDisk(path: string, bytes: number): Disk {
  const reserve = `${path}-reserve`
  let opened: Stats | undefined // as it was at the first look, right after the database was opened
  return {
    free() {
      const { bavail, bsize } = statfsSync(dirname(path))
      return bavail * bsize
    },
    problem() {
      const found = statSync(path, { throwIfNoEntry: false })
      if (!found) return `${path} is gone`
      opened ??= found
      return found.ino === opened.ino && found.dev === opened.dev ? null : `another file is in the place of ${path}`
    },
    setAside() {
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
      const held = statSync(reserve, { throwIfNoEntry: false })?.size ?? 0
      rmSync(reserve, { force: true })
      return held > 0
    },
  }
}
