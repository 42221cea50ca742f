import { closeSync, fstatSync, fsyncSync, openSync, readSync, statSync } from 'node:fs'
import { GopherQueueError } from '../../model/errors.ts'
import { numberIn, refuseStrangeWal } from './belongs.ts'

// At recovery SQLite takes the WAL up to its first invalid frame and forgets the rest without a word. After a power cut
// that is right: the last transaction was not synced. After damage in the middle it would silently undo transactions
// that were acknowledged, so the WAL is read here first, as https://www.sqlite.org/walformat.html describes it.

const headerBytes = 32
const frameBytes = 24
const chunkBytes = 1024 * 1024
const sleeper = new Int32Array(new SharedArrayBuffer(4))

interface Header {
  sound: boolean
  pageSize: number
  salts: bigint
  sums: [number, number]
}

export interface Frame {
  number: number
  /** 0: left over from before the WAL last began, or damaged so that it looks like that. */
  page: number
  /** Of a commit frame: the database's size in pages; else 0. */
  pages: number
  /** Its checksum continues that of the frame before. */
  sound: boolean
  content: Buffer
}

export interface WalState {
  bytes: number
  /** Frames and transactions that SQLite takes at recovery. */
  frames: number
  commits: number
  /** The first invalid frame (0: the header), if `cutOff` sound transactions that cannot be a torn tail stand after it. */
  damage: { frame: number; cutOff: number } | null
  /** The number of the file that it belongs to, and the page that has it; null if it has no such page. */
  mark: { number: number; page: number } | null
}

/** What SQLite would make of the WAL of a database; null when there is none. `sync`: also brings it to disk. */
export function inspectWal(database: string, sync = false): WalState | null {
  const file = openWal(database, sync ? 'r+' : 'r')
  if (file === null) return null
  try {
    // A killed process may have written a transaction and not synced it; from recovery on it counts as committed.
    if (sync && fstatSync(file).size > 0) fsyncSync(file)
    let found = look(file)
    // Others may append or begin anew while this reads. But what is before a commit of the same WAL never changes: a
    // frame that is invalid again after later commits were seen is damaged.
    for (let looks = 0; found.damage && looks < 100; looks++) {
      Atomics.wait(sleeper, 0, 0, 1)
      const again = look(file)
      if (again.damage?.frame === found.damage.frame && again.header.equals(found.header)) return again
      found = again
    }
    return { ...found, damage: null } // it changes at each look: others are at work on it, and they see no damage
  } finally {
    closeSync(file)
  }
}

/** Refuses a WAL that SQLite would cut short, throw away because its database is missing, or apply to another file than its own. */
export function checkWal(database: string, { sync = true, evenDamaged = false } = {}): void {
  const state = inspectWal(database, sync)
  if (!state) return
  const { bytes, damage, mark } = state
  if (bytes > 0 && !statSync(database, { throwIfNoEntry: false })?.size)
    throw new GopherQueueError(
      'STORAGE_CORRUPT',
      `${database} is missing or empty, but its ${database}-wal is there and may hold jobs. Nothing was changed: bring the file back, or move the -wal away to begin anew.`,
    )
  if (damage && !evenDamaged)
    throw new GopherQueueError(
      'STORAGE_CORRUPT',
      `${database}-wal is damaged at frame ${damage.frame}: ${damage.cutOff} committed transactions after it would be lost. Nothing was changed: keep the files, and salvage with 'gopherqueue recover --into NEW'.`,
    )
  refuseStrangeWal(database, mark)
}

/** The frames of all committed transactions, those that are damaged among them included. Their content lasts until the next one. */
export function* committedFrames(database: string): Generator<Frame> {
  const file = openWal(database, 'r')
  if (file === null) return
  try {
    const { end } = look(file)
    for (const frame of frames(file, readHeader(file))) {
      if (frame.number > end) return
      yield frame
    }
  } finally {
    closeSync(file)
  }
}

function openWal(database: string, flags: string): number | null {
  try {
    return openSync(`${database}-wal`, flags)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw error
  }
}

/** `end`: the last frame that belongs to a transaction which was committed, as far as anyone can tell. */
function look(file: number): WalState & { header: Buffer; end: number } {
  const { size: bytes } = fstatSync(file)
  const start = read(file, headerBytes)
  const state = { bytes, frames: 0, commits: 0, damage: null, mark: null as WalState['mark'], header: start, end: 0 }
  if (bytes <= headerBytes) return state
  const header = readHeader(file)
  // It is synced before any frame is written, and lies within one sector: no power cut leaves frames without it.
  let bad = header.sound ? null : 0
  let run = 0
  let cutOff = 0
  for (const { number, page, sound, pages, content } of frames(file, header)) {
    if (bad === null && sound) {
      const mark = numberIn(content, 'gq_file')
      if (mark !== null) state.mark = { number: mark, page }
      if (pages > 0) state.frames = state.end = number
      if (pages > 0) state.commits++
      continue
    }
    bad ??= number
    // What was rolled back leaves frames too, but never a second commit that continues a first one's checksum.
    run = sound ? run + Number(pages > 0) : 0
    if (sound && pages > 0 && (run > 1 || bad === 0)) state.end = number
    cutOff = Math.max(cutOff, run)
  }
  const damaged = bad !== null && (bad === 0 || cutOff > 1) && read(file, headerBytes).equals(start)
  return { ...state, damage: damaged ? { frame: bad!, cutOff } : null }
}

function* frames(file: number, { pageSize, salts, sums }: Header): Generator<Frame> {
  const stride = frameBytes + pageSize
  const chunk = Buffer.alloc(Math.max(1, Math.floor(chunkBytes / stride)) * stride)
  const words = wordsOf(chunk)
  let before = sums
  for (let number = 1; ; ) {
    const got = readSync(file, chunk, 0, chunk.length, headerBytes + (number - 1) * stride)
    if (got < stride) return
    for (let at = 0; at + stride <= got; at += stride, number++) {
      const stored: Header['sums'] = [chunk.readInt32BE(at + 16), chunk.readInt32BE(at + 20)]
      const content = chunk.subarray(at + frameBytes, at + stride)
      if (chunk.readBigUInt64BE(at + 8) === salts) {
        const sum = checksum(words, at / 4, at / 4 + 2, before)
        const [first, second] = checksum(words, (at + frameBytes) / 4, (at + stride) / 4, sum)
        const sound = first === stored[0] && second === stored[1]
        yield { number, page: chunk.readUInt32BE(at), pages: chunk.readUInt32BE(at + 4), sound, content }
      } else yield { number, page: 0, pages: 0, sound: false, content }
      before = stored
    }
  }
}

/** Of a damaged one, what is known from elsewhere: the salts from the first frame, and how GopherQueue makes files. */
function readHeader(file: number): Header {
  const bytes = read(file, headerBytes + frameBytes)
  const sums: Header['sums'] = [bytes.readInt32BE(24), bytes.readInt32BE(28)]
  const [first, second] = checksum(wordsOf(bytes), 0, 6, [0, 0])
  const sound = (bytes.readUInt32BE(0) | 1) === 0x377f0683 && first === sums[0] && second === sums[1]
  if (sound) return { sound, pageSize: bytes.readUInt32BE(8), salts: bytes.readBigUInt64BE(16), sums }
  return { sound, pageSize: 4096, salts: bytes.readBigUInt64BE(headerBytes + 8), sums }
}

/** SQLite sums in the byte order of the machine that writes: a WAL from one of the other kind looks damaged. */
const wordsOf = (bytes: Buffer) => new Int32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4)

function checksum(words: Int32Array, from: number, to: number, [first, second]: Header['sums']): Header['sums'] {
  let a = first
  let b = second
  for (let i = from; i < to; i += 2) {
    a = (a + words[i]! + b) | 0
    b = (b + words[i + 1]! + a) | 0
  }
  return [a, b]
}

/** The file's first bytes; zeros where it is shorter. */
function read(file: number, length: number): Buffer {
  const bytes = Buffer.alloc(length)
  readSync(file, bytes, 0, length, 0)
  return bytes
}
