import { fstatSync, readSync } from 'node:fs'
import type { Db } from './db.ts'

// Whether somebody wrote over the database file in place: `cp other.db jobs.db` keeps the inode, and SQLite, which holds
// the WAL's index for the truth, would mix the two files. Only a checkpoint writes to the database file, and none does
// before the index of the WAL says so. What is read here is read from descriptors that SQLite itself has open: to open
// and close the file would drop SQLite's locks.

/** Of the index of the WAL (https://www.sqlite.org/walformat.html#the_wal_index_file_format). */
const index = { pages: 20, salts: 32, backfilled: 96, attempted: 128, bytes: 132 }
/** Of the database's first page: the part that says what file it is. */
const headerBytes = 100

interface Pages {
  size: number
  meta: number
  sequence: number
  epoch: Buffer
}

interface Checkpoints {
  /** How far they have come, to compare. */
  checkpoints: string
  /** None is at work, and none was broken off. */
  idle: boolean
  /** The size of the database as the last transaction left it, in pages. */
  pages: number
}

interface Seen {
  checkpoints: string
  /** File size, header, and the pages that say whose file it is and how far it has come. */
  content: string
  pages: Pages
}

/** Looks again and again; each look takes four short reads of what the system has in memory. */
export class Overwritten {
  #last: Seen | undefined
  /** The page of the file that held the epoch; undefined until it was there. */
  #epochAt: number | undefined
  /** The last number given, as far as it was in the file: it never goes back. */
  #sequence = 0
  #misses = 0

  /** True when the file that these descriptors have open is not what the connection takes it for. */
  look(db: Db, database: number, shm: number): boolean {
    const before = checkpointsOf(shm)
    if (before === null) return false
    const pages = this.#last?.checkpoints === before.checkpoints ? this.#last.pages : pagesOf(db)
    if (!pages) return false
    const file = fstatSync(database)
    const read = (page: number) => bytesAt(database, (page - 1) * pages.size, pages.size)
    const header = bytesAt(database, 0, headerBytes)
    const meta = read(pages.meta)
    const sequence = read(pages.sequence)
    const content = [file.size, ...[header, meta, sequence].map((bytes) => bytes.toString('latin1'))].join('\0')
    const after = checkpointsOf(shm)
    if (after?.checkpoints !== before.checkpoints) return false // one has begun meanwhile: the next look tells
    const last = this.#last
    // While one is at work, or was broken off, the file may change before the index says so, and be shorter than it says.
    this.#last = before.idle ? { checkpoints: before.checkpoints, content, pages } : undefined
    if (last?.checkpoints === before.checkpoints) return content !== last.content || this.#misses > 0
    const least = before.idle && header.length >= 32 ? Math.min(before.pages, header.readUInt32BE(28)) : 1
    const short = file.size < least * pages.size
    return this.#isAnother(pages, meta, lastIn(sequence), short)
  }

  /** After a checkpoint: whether the file still bears this queue's name and has come as far. Once may be chance, while others are at work. */
  #isAnother(pages: Pages, meta: Buffer, sequence: number, short: boolean): boolean {
    const named = meta.includes(pages.epoch)
    if (named) this.#epochAt = pages.meta
    else if (this.#epochAt !== pages.meta) this.#epochAt = undefined // a VACUUM moved it, and is not in the file yet
    const wrong = short || (named ? sequence < this.#sequence : this.#epochAt !== undefined)
    if (!wrong) this.#sequence = sequence
    this.#misses = wrong ? this.#misses + 1 : 0
    return this.#misses > 1
  }
}

const nameOfSequence = Buffer.from('gq_jobs')
/** Bytes of an integer by its type in a record (https://www.sqlite.org/fileformat.html#record_format). */
const integerBytes = [0, 1, 2, 3, 4, 6]

/** The number of gq_jobs in a page of sqlite_sequence; 0 when it has none. What an earlier one left there is never larger. */
function lastIn(page: Buffer): number {
  let last = 0
  for (let at = page.indexOf(nameOfSequence); at > 0; at = page.indexOf(nameOfSequence, at + 1)) {
    const length = integerBytes[page[at - 1]!] ?? 0
    const from = at + nameOfSequence.length
    if (length > 0 && from + length <= page.length) last = Math.max(last, page.readIntBE(from, length))
  }
  return last
}

function checkpointsOf(shm: number): Checkpoints | null {
  const bytes = bytesAt(shm, 0, index.bytes)
  if (bytes.length < index.bytes) return null
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, index.bytes / 4) // in the machine's own order
  const [pages, backfilled, attempted] = [index.pages, index.backfilled, index.attempted].map((at) => words[at / 4]!)
  const salts = bytes.toString('latin1', index.salts, index.salts + 8)
  return {
    checkpoints: [salts, backfilled, attempted].join('\0'),
    idle: backfilled === attempted,
    pages: pages!,
  }
}

/** Where the connection, through the WAL, has the pages that are looked at. */
function pagesOf(db: Db): Pages | undefined {
  const row = db.get<Omit<Pages, 'epoch'> & { epoch: string }>(
    `SELECT page_size AS size, value AS epoch,
            (SELECT rootpage FROM sqlite_schema WHERE name = 'gq_meta') AS meta,
            (SELECT rootpage FROM sqlite_schema WHERE name = 'sqlite_sequence') AS sequence
     FROM pragma_page_size, gq_meta WHERE key = 'epoch'`,
  )
  return row && { ...row, epoch: Buffer.from(row.epoch) }
}

function bytesAt(descriptor: number, position: number, length: number): Buffer {
  const bytes = Buffer.allocUnsafeSlow(length)
  return bytes.subarray(0, readSync(descriptor, bytes, 0, length, position))
}
