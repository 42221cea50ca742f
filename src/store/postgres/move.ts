import type { SQLOutputValue } from 'node:sqlite'
import { inNextTurn, systemClock } from '../../model/clock.ts'
import { GopherQueueError } from '../../model/errors.ts'
import { connect } from '../sqlite/connection.ts'
import type { Db } from '../sqlite/db.ts'
import type { Moved } from '../sqlite/moved.ts'
import { mustExist } from '../sqlite/reader.ts'
import { close, done, jobsAtWork, markOf, seal, unseal } from '../sqlite/seal.ts'
import { DatabaseSync } from '../sqlite/sqlite.ts'
import { Batch, type Copied, copiedOf, Digest, linesOf, rowsSql, tables } from './copied.ts'
import { mustFit } from './fit.ts'
import { addressOf } from './place.ts'
import { Target } from './target.ts'

/** How often to look whether all jobs that run have ended, in ms. */
const lookEvery = 50

/** How far a move is. */
export type Progress =
  | { step: 'waiting'; jobs: number }
  | { step: 'copying'; table: string; rows: number; of: number }
  | { step: 'verifying'; table: string }

export interface MoveOptions {
  /** How long jobs that run may go on, in ms. */
  grace: number
  who: string
  tell: (progress: Progress) => void
}

/** What is at the new place: tables with their rows, and the digest that both sides have. */
export interface MoveResult {
  from: string
  to: string
  /** It was done before. */
  again: boolean
  tables: { table: string; rows: number; digest: string }[]
}

/** Moves a file's queue to a PostgreSQL database. Stopped at any moment, it goes on when it is called again. */
export async function move(from: string, url: string, { grace, who, tell }: MoveOptions): Promise<MoveResult> {
  const to = addressOf(url)
  await using target = await opened(url)
  using db = openFile(from)
  const epoch = db.epoch
  let mark = markOf(db)
  if (!mark) {
    using file = reading(from)
    await mustFit(file, epoch, target)
  }
  mark = seal(db, to, who)
  const claimed = mark.phase === 'done' ? 'done' : await target.claim(mark.id, epoch)
  if (claimed === 'done') {
    if (mark.phase !== 'done') done(db, mark)
    return { from, to, again: true, tables: [] }
  }
  if (mark.phase === 'sealed') await idle(db, grace, tell)
  if (mark.phase !== 'closed') mark = close(db, mark)
  const proved = await copyAll(from, target, tell)
  await target.analyze()
  await target.complete(mark.id, db.sequence(), lastIds(db), kept(db))
  done(db, mark)
  return { from, to, again: false, tables: proved }
}

/** Makes a queue of the file again, unless its new place has been written to since the end of the move. */
export async function abortMove(from: string, url: string, who: string): Promise<Moved> {
  await using target = await opened(url)
  using db = openFile(from)
  const mark = markOf(db)
  if (!mark) throw refused(`${from} is not being moved. Nothing was changed.`)
  if (mark.to !== addressOf(url)) throw refused(`${from} moves to ${mark.to}. Nothing was changed: name that place.`)
  await target.giveUp(mark.id, db.epoch)
  unseal(db, mark, who)
  await target.clear()
  return mark
}

const refused = (message: string) => new GopherQueueError('INVALID_STATE', message)

const opened = async (url: string) => {
  const target = await Target.open(url)
  return Object.assign(target, { [Symbol.asyncDispose]: () => target.close() })
}

function openFile(path: string): Db & Disposable {
  mustExist(path)
  const db = connect(path, systemClock)
  db.readEpoch()
  return Object.assign(db, { [Symbol.dispose]: () => db.connection.close() })
}

/** All that is read is of one moment. */
function reading(path: string): DatabaseSync {
  const file = new DatabaseSync(path, { readOnly: true, timeout: 10_000 })
  file.exec('BEGIN')
  return file
}

/** Until no job runs, or the time is over. */
async function idle(db: Db, grace: number, tell: MoveOptions['tell']): Promise<void> {
  const until = systemClock.monotonic() + grace
  for (let jobs = jobsAtWork(db); jobs > 0 && systemClock.monotonic() < until; jobs = jobsAtWork(db)) {
    tell({ step: 'waiting', jobs })
    await new Promise<void>((wake) => systemClock.timer(lookEvery, wake))
  }
}

/** Copies what is not there yet, and proves all of it. */
async function copyAll(from: string, target: Target, tell: MoveOptions['tell']): Promise<MoveResult['tables']> {
  using file = reading(from)
  const proved: MoveResult['tables'] = []
  for (const name of tables) {
    const table = copiedOf(file, name)
    const digest = await copy(file, table, target, tell)
    tell({ step: 'verifying', table: name })
    const found = await target.digest(table)
    if (found !== digest.text)
      throw new GopherQueueError(
        'STORAGE_CORRUPT',
        `The copy of ${name} is not the same (${digest.text} in the file, ${found} in PostgreSQL). The file keeps all: end the move with --abort, which deletes the copy, and begin it again.`,
      )
    proved.push({ table: name, rows: digest.rows, digest: digest.text.slice(digest.text.indexOf(' ') + 1) })
  }
  return proved
}

/** While the server stores one batch, the next is made. */
async function copy(file: DatabaseSync, table: Copied, target: Target, tell: MoveOptions['tell']): Promise<Digest> {
  const { name } = table
  const of = Number(file.prepare(`SELECT COUNT(*) AS rows FROM ${name}`).get()!.rows)
  const last = await target.lastKey(table)
  const rows = file.prepare(rowsSql(table, last))
  rows.setReturnArrays(true)
  const digest = new Digest()
  const batch = new Batch()
  let stored = Promise.resolve()
  const send = async () => {
    const lines = batch.take()
    await stored
    stored = target.add(table, lines)
    stored.catch(() => undefined) // it is awaited, later
    tell({ step: 'copying', table: name, rows: digest.rows, of })
  }
  for (const row of rows.iterate(...(last ?? [])) as unknown as Iterable<SQLOutputValue[]>) {
    const { sent, hashed } = linesOf(row)
    digest.add(hashed)
    if (digest.rows % 100 === 0) await new Promise<void>(inNextTurn) // in which the batch before gets through the socket
    if (row[1] === 0) continue
    batch.add(sent)
    if (batch.isFull) await send()
  }
  if (batch.rows > 0) await send()
  await stored
  return digest
}

/** The last id that each table has given, of rows that are gone, too. */
function lastIds(db: Db): Map<string, number> {
  const ids = ['gq_causes', 'gq_losses', 'gq_workers', 'gq_tokens', 'gq_audit'].map((table) => {
    const row = db.get<{ last: number }>(
      `SELECT MAX(IFNULL((SELECT MAX(id) FROM ${table}), 0), IFNULL((SELECT seq FROM sqlite_sequence WHERE name = '${table}'), 0)) AS last`,
    )!
    return [table, row.last] as const
  })
  return new Map(ids)
}

/** What gq_meta says of the jobs, and not of the file. */
const kept = (db: Db): Map<string, string> =>
  new Map(db.arrays(`SELECT key, value FROM gq_meta WHERE key IN ('causes', 'forgotten')`) as [string, string][])
