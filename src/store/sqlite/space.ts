import { statfsSync, statSync } from 'node:fs'
import { dirname } from 'node:path'
import type { FileStats } from '../store.ts'
import type { Db } from './db.ts'
import { stepEnd } from './steps.ts'

// The pages that retention freed: the file uses them again, and what is far more than it will soon need goes back to the disk.

/** Free space that the file keeps in any case, and the part of the file up to which it does. */
const kept = { bytes: 4 * 1024 * 1024, part: 0.25 }
/** Most bytes given back in one step: to cut off a large piece takes a filesystem its time too. */
const mostBytes = 4 * 1024 * 1024
/** As little as a WAL that is checkpointed often has room for without growing. */
const leastBytes = 64 * 1024

interface Pages {
  size: number
  all: number
  free: number
  /** The file can be made smaller without being written anew: it was made with incremental vacuum. */
  shrinks: boolean
}

export function pagesOf(db: Db): Pages {
  if (!db.isFile) return { size: 1, all: 0, free: 0, shrinks: false }
  const row = db.get<Omit<Pages, 'shrinks'> & { mode: number }>(
    `SELECT page_size AS size, page_count AS "all", freelist_count AS free, auto_vacuum AS mode
     FROM pragma_page_size, pragma_page_count, pragma_freelist_count, pragma_auto_vacuum`,
  )!
  return { ...row, shrinks: row.mode === 2 }
}

/** Pages that are free beyond what the file keeps. `short`: the disk has too little room for submissions, so it keeps none. */
export function sparePages(db: Db, short: boolean): number {
  const { size, all, free, shrinks } = pagesOf(db)
  if (!shrinks) return 0
  return short ? free : Math.max(0, free - Math.ceil(Math.max(kept.bytes / size, all * kept.part)))
}

/**
 * Gives back the end of the file in one step, as part of a transaction; pages in use there move to the front. `room`:
 * what the disk has free, where it is short of it: what is moved is in the WAL first, and must fit there.
 */
export function giveBack(db: Db, room: number | null): void {
  const end = stepEnd(db)
  const { size } = pagesOf(db)
  const most = room === null ? mostBytes : Math.min(mostBytes, Math.max(leastBytes, room / 16))
  for (let left = Math.min(sparePages(db, room !== null), most / size); left > 0; left--) {
    db.all('PRAGMA incremental_vacuum(1)') // each looks for its page in the list of all that are free
    if (db.clock.monotonic() >= end) return
  }
}

/** The file as the disk sees it; null in memory. */
export function fileStats(db: Db): FileStats | null {
  const path = db.connection.location()
  if (path === null) return null
  const { size, free, shrinks } = pagesOf(db)
  const bytesOf = (name: string) => statSync(name, { throwIfNoEntry: false })?.size ?? 0
  const { bavail, bsize } = statfsSync(dirname(path))
  const disk = { reserveBytes: bytesOf(`${path}-reserve`), diskFreeBytes: bavail * bsize }
  return {
    path,
    bytes: bytesOf(path),
    freeBytes: free * size,
    walBytes: bytesOf(`${path}-wal`),
    shrinks,
    ...disk,
    backupAt: backupAt(db),
  }
}

const backupAt = (db: Db): number | null =>
  db.get<{ at: number }>(`SELECT CAST(value AS INTEGER) AS at FROM gq_meta WHERE key = 'backup_at'`)?.at ?? null
