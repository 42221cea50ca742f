import { appendFileSync, rmSync, statfsSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { systemClock } from '../../model/clock.ts'
import { isQueueError } from '../../model/errors.ts'
import { audit, auditOrder } from './audit.ts'
import { isOlder, oldestEngine, storageError } from './connection.ts'
import { Db } from './db.ts'
import { brokenOf, type Finding, fail, found, mebibytes, warn } from './finding.ts'
import { movedFrom, movedKey } from './moved.ts'
import { platform } from './platform.ts'
import { disturbed, isOfOneMoment, mustExist, openToRead } from './reader.ts'
import { missingRights } from './rights.ts'
import { newestSchema, version } from './schema.ts'
import { pagesOf } from './space.ts'
import type { DatabaseSync } from './sqlite.ts'
import { inspectWal } from './wal.ts'

const salvage = `keep the file and its -wal; restore a backup, or 'gopherqueue recover --into NEW'`

/** Looks at the file and at what lies under it, and changes neither. `order`: also proves the order of all first leases. */
export function examine(path: string, diskReserve: number, order: boolean): Finding[] {
  mustExist(path)
  const look = () => contentsOf(path, order)
  const [file, ...contents] = look() ??
    look() ??
    look() ?? [found('contents', disturbed(path).message, warn('as it says'))]
  return [file!, placeOf(dirname(path)), spaceOf(dirname(path), diskReserve), syncOf(path), walOf(path), ...contents]
}

/** The file and what is in it; null when somebody began to write it while it was read without locks. */
function contentsOf(path: string, order: boolean): Finding[] | null {
  const file = `${resolve(path)}, ${mebibytes(mustExist(path).size)}`
  const findings = [found('file', file)]
  let db: DatabaseSync | undefined
  try {
    db = openToRead(path, true)
    db.exec('BEGIN') // all that follows sees the same instant
    findings[0] = found('file', `${file}, ${freeOf(db)}`)
    const schema = schemaOf(db)
    findings.push(engineOf(db), schema, integrityOf(db))
    if (version(db) === newestSchema) findings.push(...movedOf(db), ...rulesOf(db, order))
  } catch (error) {
    const { message } = storageError(error, 'It cannot be read', 'no', path)
    findings.push(found('contents', message, fail(isQueueError(error) ? 'as it says' : salvage)))
  }
  const sound = db === undefined || isOfOneMoment(db)
  db?.close()
  return sound ? findings : null
}

function freeOf(db: DatabaseSync): string {
  const { size, free, shrinks } = pagesOf(new Db(db, systemClock))
  const stays = shrinks ? '' : '; it was made without incremental vacuum: its free space stays in it'
  return `${mebibytes(free * size)} of it free${stays}`
}

function placeOf(folder: string): Finding {
  const { name, isNetwork, doubt } = platform.filesystem(folder)
  if (isNetwork) return found('filesystem', name, warn('a network cannot promise locks and fsync: use a local disk'))
  return found('filesystem', name, doubt !== undefined && warn(doubt))
}

function spaceOf(folder: string, reserve: number): Finding {
  const { bavail, bsize } = statfsSync(folder)
  const free = bavail * bsize
  const says = `${mebibytes(free)} free; under ${mebibytes(reserve)} submissions are refused`
  if (free < reserve) return found('space', says, fail('make room: submissions are refused until then'))
  return found('space', says, free < reserve * 4 && warn('make room soon'))
}

/** Measured beside the file, as its commits do it: write a page, sync. */
function syncOf(path: string): Finding {
  const probe = `${path}-doctor-${process.pid}`
  const times: number[] = []
  try {
    for (let i = 0; i < 50; i++) {
      const start = systemClock.monotonic()
      appendFileSync(probe, Buffer.alloc(4096, 1), { flush: true })
      times.push(systemClock.monotonic() - start)
    }
  } catch (error) {
    if (missingRights(path) !== null)
      return found(
        'fsync',
        'not measured',
        warn('this user may write no file beside the database: run it as the owner'),
      )
    const advice = 'it must be possible to write and sync files beside the database'
    return found('fsync', (error as Error).message, fail(advice))
  } finally {
    rmSync(probe, { force: true })
  }
  times.sort((a, b) => a - b)
  const median = times[25]!
  const says = `median ${median.toFixed(2)} ms, longest of 50 ${times.at(-1)!.toFixed(2)} ms`
  if (median > 50) return found('fsync', says, warn('a slow disk: each acknowledgement waits that long'))
  return found('fsync', says, median < 0.02 && warn('too fast for a disk: does one of its layers skip syncs?'))
}

function walOf(path: string): Finding {
  const state = inspectWal(path)
  if (!state?.bytes) return found('wal', 'empty: all is in the file')
  const { bytes, commits, frames, damage } = state
  if (damage) {
    const says = `damaged at frame ${damage.frame}, with ${damage.cutOff} committed transactions behind it`
    return found('wal', says, fail(salvage))
  }
  const advice = 'look for a reader that never ends: it keeps the WAL from being emptied'
  return found(
    'wal',
    `${mebibytes(bytes)}, ${commits} transactions in ${frames} pages`,
    bytes > 2 ** 28 && warn(advice),
  )
}

function schemaOf(db: DatabaseSync): Finding {
  const schema = version(db)
  if (schema === 0)
    return found('schema', 'there is no queue in this file', fail('correct the name, or submit a first job'))
  const says = `version ${schema}`
  if (schema > newestSchema) return found('schema', says, fail('a newer GopherQueue wrote it: use that'))
  const older = `the rules between its rows are not looked at, as this GopherQueue knows those of version ${newestSchema}: use the version that works on it, or open it with this one`
  return found('schema', says, schema < newestSchema && warn(older))
}

/** Of a file that has moved to a server, or is on its way. */
function movedOf(db: DatabaseSync): Finding[] {
  const row = db.prepare(`SELECT value FROM gq_meta WHERE key = '${movedKey}'`).get()
  if (!row) return []
  const { to, since, phase } = movedFrom(String(row.value))
  if (phase === 'done') return [found('moved', `to ${to}, since ${since}`, warn('the queue is there: open it there'))]
  const advice = `nothing is accepted here: run 'gopherqueue move' again, which goes on, or end it with --abort`
  return [found('moved', `on its way to ${to}, since ${since}`, warn(advice))]
}

function engineOf(db: DatabaseSync): Finding {
  const sql = 'SELECT sqlite_version() AS engine, journal_mode AS journal FROM pragma_journal_mode'
  const { engine, journal } = db.prepare(sql).get() as { engine: string; journal: string }
  const says = `SQLite ${engine}, journal mode ${journal}; each process sets WAL, synchronous FULL and fullfsync as it opens the file`
  const old = isOlder(engine.split('.').map(Number), oldestEngine)
  return found('engine', says, old && fail('it can lose writes: use Node 24.14 or newer'))
}

function integrityOf(db: DatabaseSync): Finding {
  const rows = db.prepare('PRAGMA integrity_check(20)').all()
  const says = rows.map((row) => row.integrity_check).join('; ')
  if (says === 'ok') return found('integrity', 'every page, row and index was checked')
  return found('integrity', says, fail(salvage))
}

function rulesOf(db: DatabaseSync, order: boolean): Finding[] {
  return [...audit(db), ...(order ? [auditOrder(db)] : [])].map(({ name, holds, mild, mend, broken }) => {
    if (broken.length === 0) return found(name, holds)
    const says = brokenOf(holds, broken)
    if (mend) return found(name, says, fail(mend))
    return found(name, says, mild ? warn('nothing, after a salvage; else report it') : fail(salvage))
  })
}
