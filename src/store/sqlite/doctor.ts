import { closeSync, fsyncSync, openSync, readFileSync, rmSync, statfsSync, statSync, writeSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { pathToFileURL } from 'node:url'
import { GopherQueueError } from '../../model/errors.ts'
import { audit, auditOrder } from './audit.ts'
import { isOlder, isSqlite, networkFilesystems, oldestEngine, storageError } from './connection.ts'
import { newestSchema, version } from './schema.ts'
import { inspectWal } from './wal.ts'
import { systemProcesses, type WorkerRow } from './workers.ts'

/** What was looked at, how it is, and what to do when it is not well. */
export interface Finding {
  name: string
  verdict: 'ok' | 'warn' | 'FAIL'
  says: string
  advice: string | null
}

const ok = (name: string, says: string): Finding => ({ name, verdict: 'ok', says, advice: null })
const warn = (name: string, says: string, advice: string): Finding => ({ name, verdict: 'warn', says, advice })
const fail = (name: string, says: string, advice: string): Finding => ({ name, verdict: 'FAIL', says, advice })

const salvage = `keep the file and its -wal; restore a backup, or 'gopherqueue recover --into NEW'`

/** Looks at the file and at what lies under it, and changes neither. `order`: also proves the order of all first leases. */
export function examine(path: string, diskReserve: number, order: boolean): Finding[] {
  const { size } = mustExist(path)
  const file = ok('file', `${resolve(path)}, ${mebibytes(size)}`)
  const findings = [file, placeOf(dirname(resolve(path))), spaceOf(path, diskReserve), syncOf(path), walOf(path)]
  try {
    const db = openToRead(path)
    try {
      db.exec('BEGIN') // all that follows sees the same instant
      const schema = schemaOf(db)
      findings.push(...settingsOf(db), schema, integrityOf(db))
      if (schema.verdict === 'ok') findings.push(...rulesOf(db, order), workersOf(db))
    } finally {
      db.close()
    }
  } catch (error) {
    findings.push(fail('contents', storageError(error, 'It cannot be read').message, salvage))
  }
  return findings
}

/** Opens a database so that nothing of it can change, whatever its state. */
export function openToRead(path: string): DatabaseSync {
  mustExist(path)
  const connection = new DatabaseSync(path, { readOnly: true, timeout: 10_000 })
  try {
    connection.prepare('SELECT 1 FROM sqlite_schema').get()
    return connection
  } catch (error) {
    connection.close()
    // In a folder that cannot be written there is no place for shared memory, and nobody who could change the file.
    if (!isSqlite(error) || (error.errcode & 0xff) !== 14 || inspectWal(path)?.bytes) throw error
    return new DatabaseSync(`${pathToFileURL(path).href}?immutable=1`, { readOnly: true })
  }
}

function mustExist(path: string): { size: number } {
  const there = statSync(path, { throwIfNoEntry: false })
  if (!there)
    throw new GopherQueueError('NOT_A_QUEUE', `There is no file ${path}. Nothing was created: correct the name.`)
  return there
}

const mebibytes = (bytes: number): string => `${(bytes / 1024 / 1024).toFixed(1)} MiB`

const inMemory = 'it is memory: all is lost with the power; use a disk'
const doubtful: Record<string, string> = {
  tmpfs: inMemory,
  ramfs: inMemory,
  overlay: 'it goes with its container: put the file on a volume',
  fuse: 'make sure that the program behind it syncs to a disk',
}

function placeOf(folder: string): Finding {
  const { type } = statfsSync(folder)
  const mount = mountOf(folder)
  const kind = mount?.type ?? networkFilesystems[type] ?? `type ${type}`
  const says = `${kind}${mount ? `, mounted on ${mount.on}` : ''}`
  const network =
    networkFilesystems[type] ?? /^(nfs|cifs|smb|9p|afs|ceph|lustre|gluster|fuse\.(sshfs|s3fs|rclone))/.test(kind)
  if (network) return warn('filesystem', says, 'a network cannot promise locks and fsync: use a local disk')
  const doubt = doubtful[kind.split('.')[0]!]
  return doubt ? warn('filesystem', says, doubt) : ok('filesystem', says)
}

/** The mount that holds a folder; only Linux tells. */
function mountOf(folder: string): { on: string; type: string } | null {
  let text: string
  try {
    text = readFileSync('/proc/self/mountinfo', 'utf8')
  } catch {
    return null
  }
  let found: ReturnType<typeof mountOf> = null
  for (const line of text.split('\n')) {
    const [left = '', right = ''] = line.split(' - ')
    const on = left.split(' ')[4]?.replace(/\\(\d{3})/g, (_, octal) => String.fromCharCode(Number.parseInt(octal, 8)))
    const holds = on !== undefined && `${folder}/`.startsWith(on === '/' ? on : `${on}/`)
    if (holds && on.length >= (found?.on.length ?? 0)) found = { on, type: right.split(' ')[0]! } // the last one hides others
  }
  return found
}

function spaceOf(path: string, reserve: number): Finding {
  const { bavail, bsize } = statfsSync(dirname(path))
  const says = `${mebibytes(bavail * bsize)} free; under ${mebibytes(reserve)} submissions are refused`
  if (bavail * bsize < reserve) return fail('space', says, 'make room: submissions are refused until then')
  return bavail * bsize < reserve * 4 ? warn('space', says, 'make room soon') : ok('space', says)
}

/** Measured beside the file, as its commits do it: write a page, sync. */
function syncOf(path: string): Finding {
  const probe = `${path}-doctor-${process.pid}`
  const times: number[] = []
  try {
    const file = openSync(probe, 'wx')
    try {
      for (let i = 0; i < 50; i++) {
        writeSync(file, Buffer.alloc(4096, 1))
        const start = performance.now()
        fsyncSync(file)
        times.push(performance.now() - start)
      }
    } finally {
      closeSync(file)
      rmSync(probe)
    }
  } catch (error) {
    return fail('fsync', (error as Error).message, 'it must be possible to write and sync files beside the database')
  }
  times.sort((a, b) => a - b)
  const median = times[25]!
  const says = `median ${median.toFixed(2)} ms, longest of 50 ${times.at(-1)!.toFixed(2)} ms`
  if (median > 50) return warn('fsync', says, 'a slow disk: each acknowledgement waits that long')
  return median < 0.02
    ? warn('fsync', says, 'too fast for a disk: make sure that none of its layers skips syncs')
    : ok('fsync', says)
}

function walOf(path: string): Finding {
  const state = inspectWal(path)
  if (!state?.bytes) return ok('wal', 'empty: all is in the file')
  const { bytes, commits, frames, damage } = state
  if (damage)
    return fail(
      'wal',
      `damaged at frame ${damage.frame}, with ${damage.cutOff} committed transactions behind it`,
      salvage,
    )
  const says = `${mebibytes(bytes)}, ${commits} transactions in ${frames} pages`
  return bytes > 2 ** 28
    ? warn('wal', says, 'look for a reader that never ends: it keeps the WAL from being emptied')
    : ok('wal', says)
}

function schemaOf(db: DatabaseSync): Finding {
  const schema = version(db)
  if (schema === 0) return fail('schema', 'there is no queue in this file', 'correct the name, or submit a first job')
  const says = `version ${schema}`
  return schema > newestSchema ? fail('schema', says, 'a newer GopherQueue wrote it: use that') : ok('schema', says)
}

function settingsOf(db: DatabaseSync): Finding[] {
  const { engine, journal } = db
    .prepare(`SELECT sqlite_version() AS engine, journal_mode AS journal FROM pragma_journal_mode`)
    .get() as { engine: string; journal: string }
  const old = isOlder(engine.split('.').map(Number), oldestEngine)
  const says = `journal mode ${journal}; each process sets WAL, synchronous FULL and fullfsync as it opens the file`
  return [
    old
      ? fail('engine', `SQLite ${engine}`, 'it can lose writes: use Node 24.14 or newer')
      : ok('engine', `SQLite ${engine}`),
    ok('durability', says),
  ]
}

function integrityOf(db: DatabaseSync): Finding {
  const found = db
    .prepare('PRAGMA integrity_check(20)')
    .all()
    .map((row) => `${row.integrity_check}`)
  return found.join() === 'ok'
    ? ok('integrity', 'every page, row and index was checked')
    : fail('integrity', found.join('; '), salvage)
}

function rulesOf(db: DatabaseSync, order: boolean): Finding[] {
  return [...audit(db), ...(order ? [auditOrder(db)] : [])].map(({ name, holds, mild, broken }) => {
    if (broken.length === 0) return ok(name, holds)
    const says = `not so that ${holds}: ${broken.slice(0, 5).join(', ')}${broken.length > 5 ? ' and more' : ''}`
    return mild ? warn(name, says, 'nothing, after a salvage; else report it') : fail(name, says, salvage)
  })
}

function workersOf(db: DatabaseSync): Finding {
  const rows = db
    .prepare(
      `SELECT w.*, (SELECT COUNT(*) FROM gq_jobs WHERE state = 'running' AND worker_id = w.id) AS running
       FROM gq_workers w WHERE ended_at IS NULL ORDER BY id`,
    )
    .all() as unknown as (WorkerRow & { running: number })[]
  const gone = rows.filter((row) => systemProcesses.isAlive(row) === false)
  const orphans = gone.reduce((sum, { running }) => sum + running, 0)
  const says = `${rows.length - gone.length} alive or on other hosts, ${gone.length} gone, with ${orphans} jobs`
  return gone.length > 0 && rows.length === gone.length && orphans > 0
    ? warn(
        'workers',
        says,
        `start a worker: it takes them back ('gopherqueue recover --plan' says what becomes of them)`,
      )
    : ok('workers', says)
}
