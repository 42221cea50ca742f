import { pathToFileURL } from 'node:url'
import { GopherQueueError } from '../../model/errors.ts'
import { DatabaseSync } from './sqlite.ts'

// SQLite does not ask whose a -wal is. One that was left beside a file that was put in the place of another is applied to
// it: pages of the one among those of the other, or all of the other's. So each file has a number of its own, in the one
// table that nearly every transaction writes: the WAL has that page, and whose it is, soon after it begins.

/** Gives a copy a number of its own, by other ways than a WAL: until a checkpoint, the file would have that of before. */
export const markAnew = `UPDATE sqlite_sequence SET seq = abs(random() / 65536) WHERE name = 'gq_file'`

const leaf = 13
/** Bytes of an integer by its type in a record (https://www.sqlite.org/fileformat.html#record_format). */
const integerBytes = [0, 1, 2, 3, 4, 6]

/** The number of a name in sqlite_sequence, if this is the page that has it; null if not. What looks like it within another row does not count. */
export function numberIn(page: Buffer, name: 'gq_file' | 'gq_jobs'): number | null {
  if (page[0] !== leaf) return null
  for (let at = page.indexOf(name); at > 0; at = page.indexOf(name, at + 1)) {
    const length = integerBytes[page[at - 1]!] ?? 0
    const from = at + name.length
    // Before the name stand the length of the record's header, and that of the name as its type has it.
    if (length === 0 || page[at - 3] !== 3 || page[at - 2] !== 13 + 2 * name.length) continue
    if (isCell(page, at - 5) && from + length <= page.length) return page.readIntBE(from, length)
  }
  return null
}

/** Whether a row begins here: its length, its rowid, and its record follow, the first two of a byte each. */
function isCell(page: Buffer, start: number): boolean {
  const cells = page.readUInt16BE(3)
  for (let i = 0; i < cells && 10 + 2 * i <= page.length; i++) if (page.readUInt16BE(8 + 2 * i) === start) return true
  return false
}

/** Throws STORAGE_CORRUPT when a file and its WAL, in which `inWal` was found, have different numbers. */
export function refuseStrangeWal(path: string, inWal: number | null): void {
  const own = inWal === null ? null : withoutWal(path)
  if (own === null || own === inWal) return
  throw new GopherQueueError(
    'STORAGE_CORRUPT',
    `${path}-wal does not belong to ${path}, but to a file that was here before, whose last jobs it holds. Nothing was changed: keep ${path}-wal elsewhere with that file, remove ${path}-shm, and open ${path} again; or bring the file of before back.`,
  )
}

/** Null too while a checkpoint is at work, or was broken off: then the file is not whole without its WAL. */
function withoutWal(path: string): number | null {
  const url = pathToFileURL(path)
  url.search = 'immutable=1'
  try {
    using alone = new DatabaseSync(url, { readOnly: true })
    const row = alone.prepare(`SELECT seq FROM sqlite_sequence WHERE name = 'gq_file'`).get()
    return row ? Number(row.seq) : null
  } catch {
    return null
  }
}
