import { closeSync, fstatSync, openSync, readSync } from 'node:fs'
import { GopherQueueError } from '../../model/errors.ts'
import { descriptorsOf } from './copies.ts'

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

/** Throws STORAGE_CORRUPT when a file and its WAL, in which `mark` was found, have different numbers. */
export function refuseStrangeWal(path: string, mark: { number: number; page: number } | null): void {
  if (mark === null || mayBeOf(path, mark)) return
  throw new GopherQueueError(
    'STORAGE_CORRUPT',
    `${path}-wal does not belong to ${path}, but to a file that was here before, whose last jobs it holds. Nothing was changed: keep ${path}-wal elsewhere with that file, remove ${path}-shm, and open ${path} again; or bring the file of before back.`,
  )
}

/**
 * Whether the file itself has that number, or none. It is read through a descriptor that SQLite has of it: to open and
 * close it would drop SQLite's locks. Where none can be found, as on Windows, there are no such locks.
 */
function mayBeOf(path: string, mark: { number: number; page: number }): boolean {
  const [own] = descriptorsOf(path).database
  const file = own ?? openSync(path, 'r')
  try {
    const header = Buffer.alloc(18)
    readSync(file, header, 0, 18, 0)
    const size = header.readUInt16BE(16) === 1 ? 65_536 : header.readUInt16BE(16)
    if (size < 512) return true // no database: to open it says so
    const content = Buffer.alloc(size)
    const numberAt = (page: number) =>
      readSync(file, content, 0, size, (page - 1) * size) === size ? numberIn(content, 'gq_file') : null
    let found = numberAt(mark.page)
    const last = fstatSync(file).size / size
    for (let page = 2; found === null && page <= last; page++) found = numberAt(page) // a VACUUM moves it, and another file has it elsewhere
    return found === null || found === mark.number
  } finally {
    if (own === undefined) closeSync(file)
  }
}
