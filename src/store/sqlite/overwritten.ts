import { fstatSync, readSync } from 'node:fs'
import { numberIn } from './belongs.ts'
import type { Db } from './db.ts'

// Whether somebody wrote over the database file in place: `cp other.db jobs.db` keeps the inode, and SQLite, which holds
// the WAL's index for the truth, would mix the two files. Only a checkpoint writes to the database file, and none does
// before the index of the WAL says so. What is read here is read from descriptors that SQLite itself has open: to open
// and close the file would drop SQLite's locks.

/** Of the index of the WAL (https://www.sqlite.org/walformat.html#the_wal_index_file_format), whose header stands there twice. */
const index = { pageSize: 14, frames: 16, pages: 20, salts: 32, copy: 48, backfilled: 96, attempted: 128, bytes: 132 }
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
  /** The file alone is what some transaction left: it has all of the WAL, or nothing of it. */
  whole: boolean
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
  /** The page of the file that held it; undefined until it was there. */
  #sequenceAt: number | undefined
  #misses = 0
  /** Where the file last bore the queue's name. */
  #named: Pages | undefined

  /** Whether the file may be another one, also where SQL cannot be asked any more. Once may be chance. */
  mayBeOther(database: number): boolean {
    const at = this.#named
    return (
      this.#misses > 0 || (at !== undefined && !bytesAt(database, (at.meta - 1) * at.size, at.size).includes(at.epoch))
    )
  }

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
    const least = before.whole && header.length >= 32 ? Math.min(before.pages, header.readUInt32BE(28)) : 1
    const short = file.size < least * pages.size
    return this.#isAnother(pages, meta, numberIn(sequence, 'gq_jobs'), short, before)
  }

  /** After a checkpoint: whether the file still bears this queue's name and has come as far. Once may be chance, while others are at work. */
  #isAnother(
    pages: Pages,
    meta: Buffer,
    sequence: number | null,
    short: boolean,
    { idle, whole }: Checkpoints,
  ): boolean {
    const named = meta.includes(pages.epoch)
    // A VACUUM moves both pages, and a checkpoint may bring one of them to the file and not the other.
    if (named) {
      this.#epochAt = pages.meta
      this.#named = pages
    } else if (this.#epochAt !== pages.meta) this.#epochAt = undefined
    if (this.#sequenceAt !== pages.sequence) this.#sequenceAt = undefined
    const wentBack = this.#sequenceAt !== undefined && (sequence ?? 0) < this.#sequence
    const wrong = short || (named ? wentBack : this.#epochAt !== undefined)
    // A checkpoint that was broken off may have brought more than the next one, which a reader can hold back, brings again.
    if (!wrong && sequence !== null && (whole || (idle && this.#sequenceAt !== undefined))) {
      this.#sequence = sequence
      this.#sequenceAt = pages.sequence
    }
    this.#misses = wrong ? this.#misses + 1 : 0
    return this.#misses > 1
  }
}

/** Of the WAL (https://www.sqlite.org/walformat.html#the_wal_file_format): where it, and where each of its frames, has the salts. */
const wal = { bytes: 32, salts: 16, frame: { bytes: 24, salts: 8 } }

/**
 * Finds a WAL that was cut or written over in place (`: > jobs.db-wal`): SQLite would go on behind the hole, and a
 * checkpoint copy the hole into the database file. What its index counts as committed is in it, until the index says that
 * it begins anew, which is before the first byte goes.
 */
export class Cut {
  readonly #header = Buffer.allocUnsafeSlow(index.backfilled)
  /** The same, as numbers in the machine's own order. */
  readonly #words = new Int32Array(this.#header.buffer)
  readonly #halves = new Uint16Array(this.#header.buffer)
  readonly #again = Buffer.allocUnsafeSlow(index.backfilled)
  readonly #found = new Int32Array(2)
  /** Of this WAL, the last frame that was there at the look before. */
  #frames = 0
  readonly #salts = new Int32Array(2)

  /** True when the WAL that this descriptor has open lacks what its index counts. */
  look(shm: number, file: number): boolean {
    const header = this.#header
    if (readSync(shm, header, 0, header.length, 0) < header.length) return false
    const frames = this.#words[index.frames / 4]!
    if (frames === 0) return false
    if (!this.#areSalts(this.#salts)) this.#frames = 0
    // Where it was cut and written on, the frame that was the last, or the beginning, is a hole now.
    if (this.#hasSalts(file, this.#frames) && (frames === this.#frames || this.#hasSalts(file, frames))) {
      this.#salts[0] = this.#words[index.salts / 4]!
      this.#salts[1] = this.#words[index.salts / 4 + 1]!
      this.#frames = frames
      return false
    }
    readSync(shm, this.#again, 0, header.length, 0)
    // Else somebody writes just now: the next look tells.
    return header.equals(this.#again) && header.compare(header, index.copy, undefined, 0, index.copy) === 0
  }

  /** Whether a frame is there, and of this WAL; 0 is its beginning. */
  #hasSalts(file: number, frame: number): boolean {
    const pageSize = this.#halves[index.pageSize / 2]!
    const stride = wal.frame.bytes + (pageSize === 1 ? 65_536 : pageSize) // which two bytes cannot hold
    const at = frame === 0 ? wal.salts : wal.bytes + (frame - 1) * stride + wal.frame.salts
    return readSync(file, this.#found, 0, 8, at) === 8 && this.#areSalts(this.#found)
  }

  #areSalts(salts: Int32Array): boolean {
    return salts[0] === this.#words[index.salts / 4] && salts[1] === this.#words[index.salts / 4 + 1]
  }
}

function checkpointsOf(shm: number): Checkpoints | null {
  const bytes = bytesAt(shm, 0, index.bytes)
  if (bytes.length < index.bytes) return null
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, index.bytes / 4) // in the machine's own order
  const at = [index.frames, index.pages, index.backfilled, index.attempted]
  const [frames, pages, backfilled, attempted] = at.map((byte) => words[byte / 4]!)
  const salts = bytes.toString('latin1', index.salts, index.salts + 8)
  const idle = backfilled === attempted
  // A checkpoint that a reader holds back leaves out pages that were written again since: the last ones may be among them.
  const whole = idle && (backfilled === 0 || backfilled === frames)
  return { checkpoints: [salts, backfilled, attempted].join('\0'), idle, whole, pages: pages! }
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
