import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { join, resolve } from 'node:path'
import type { DatabaseSync, SQLInputValue } from 'node:sqlite'
import type { Clock } from '../../model/clock.ts'
import { GopherQueueError } from '../../model/errors.ts'
import { newestNumber } from './audit.ts'
import { backup } from './backup.ts'
import { connect, isStorageFault, storageError } from './connection.ts'
import { type Damaged, foldedCopy, openCopy } from './damaged.ts'
import { inserter, type Row } from './recover.ts'
import { digestOf } from './submit.ts'
import { systemProcesses } from './workers.ts'

/** What a salvage could read, and what it could not. */
export interface Salvage {
  /** Rows of the new file by table. */
  saved: Record<string, number>
  /** Jobs that are not among them, of which an index or an attempt still knows. */
  lostJobs: number[]
  /** From which id to which there may be more of them. */
  unreadable: [first: number, last: number][]
  /** Other rows that cannot be read: attempts, keys, schedules, settings. */
  lostRows: string[]
  /** Rows that were read and cannot be right. */
  refused: string[]
  /** What is wrong with the file, and what of the saved rows may be wrong or old because of it. */
  damage: string[]
}

/** Above it, an id or event number is not believed. */
const highest = 2 ** 52

/** Reads what can be read of a damaged file into a new one. The damaged file itself is copied, and never opened. */
export function salvage(path: string, into: string, clock: Clock): Salvage {
  for (const name of [into, `${into}-wal`])
    if (existsSync(name))
      throw new GopherQueueError('INVALID_ARGUMENT', `${name} exists. Nothing was written: name a new file.`)
  if (!existsSync(path) && !existsSync(`${path}-wal`))
    throw new GopherQueueError('NOT_A_QUEUE', `There is no file ${path}. Nothing was created: correct the name.`)
  const work = mkdtempSync(`${resolve(into)}-salvage-`)
  try {
    const [copy, fresh] = [join(work, 'damaged'), join(work, 'fresh')]
    const { connection } = connect(fresh, clock)
    const report: Salvage = { saved: {}, lostJobs: [], unreadable: [], lostRows: [], refused: [], damage: [] }
    report.damage.push(...foldedCopy(path, copy))
    const source = openCopy(copy, connection, report.damage)
    if (source) new Transfer(source, connection, report).all()
    else report.unreadable.push([1, highest])
    connection.close()
    backup(fresh, into, false)
    return report
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
}

const nameOfJob = ({ id }: Row) => `job ${id}`
const nameOfAttempt = (row: Row) => `attempt ${row.attempt} of job ${row.job_id}`
const nameOfSchedule = ({ name }: Row) => `schedule ${name}`
const nameOfQueue = ({ name }: Row) => `queue ${name}`
const nameOfKey = ({ queue, type, key }: Row) => `key ${JSON.stringify([queue, type, key])}`

/** Carries rows over, table by table, and keeps account of those that are missing. */
class Transfer {
  readonly #from: Damaged
  readonly #to: DatabaseSync
  readonly #report: Salvage
  /** Ids of which anything in the damaged file knows. */
  readonly #jobs = new Set<number>()
  /** What the file says is the last id or event number given; 0 when that cannot be believed. */
  #said = 0
  /** No id can be above it. */
  #last = highest

  constructor(from: Damaged, to: DatabaseSync, report: Salvage) {
    this.#from = from
    this.#to = to
    this.#report = report
  }

  all(): void {
    this.#to.exec('BEGIN IMMEDIATE')
    this.#moveJobs()
    this.#moveIndexed('gq_attempts', 'job_id, attempt', nameOfAttempt)
    this.#moveIndexed('gq_schedules', 'name', nameOfSchedule)
    this.#standInForWorkers()
    this.#moveQueues()
    this.#moveKeys()
    this.#account()
    this.#to.exec('COMMIT')
    this.#report.damage.push(...this.#from.check())
    this.#from.close()
  }

  #moveJobs(): void {
    for (const { name, sql } of this.#rows(
      `SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND tbl_name = 'gq_jobs'`,
    )) {
      const ids = `SELECT id FROM gq_jobs INDEXED BY ${name} WHERE ${String(sql).split(' WHERE ')[1]}`
      if (!this.#from.each(ids, ({ id }) => this.#hear(id)))
        this.#report.damage.push(`the index ${name} is damaged: what only it knows is not listed`)
    }
    const said = Number(this.#from.get(`SELECT seq FROM sqlite_sequence WHERE name = 'gq_jobs'`)?.seq ?? 0)
    if (said > 0 && said <= highest) this.#said = said
    if (this.#said > 0) this.#last = this.#sequence()
    this.#to.exec(
      `CREATE TEMP TRIGGER given BEFORE INSERT ON main.gq_jobs WHEN NEW.id NOT BETWEEN 1 AND ${this.#last} BEGIN
         SELECT RAISE(ABORT, 'no such id was given yet');
       END`,
    )
    this.#carry('gq_jobs', nameOfJob, (keep) => {
      this.#report.unreadable = this.#from.walk('gq_jobs', this.#last, keep)
    })
  }

  /** A table whose primary key is an index, which may know of rows that cannot be read. */
  #moveIndexed(table: string, key: string, nameOf: (row: Row) => string): void {
    const index = `SELECT ${key}, rowid AS place FROM ${table} INDEXED BY sqlite_autoindex_${table}_1`
    const known = this.#from.bothWays(index, key, `the index of ${table}`)
    const last = known.reduce((most, { place }) => Math.max(most, Number(place)), 0)
    const seen = this.#carry(table, nameOf, (keep) => this.#from.walk(table, Math.min(last, highest), keep))
    for (const row of known) {
      if (seen.has(nameOf(row))) continue
      this.#report.lostRows.push(nameOf(row))
      if (table === 'gq_attempts') this.#hear(row.job_id)
    }
  }

  /** None of them works on the new file: what they ran is taken back when it is opened. */
  #standInForWorkers(): void {
    const workers = this.#to.prepare(
      `INSERT INTO gq_workers (id, name, sources, slots, host, pid, boot, started_at, seen_at)
       SELECT DISTINCT worker_id, 'salvaged', '[]', 1, ?1, 0, 'salvaged', 0, 0 FROM gq_jobs WHERE worker_id IS NOT NULL`,
    )
    workers.run(systemProcesses.me.host)
  }

  #moveQueues(): void {
    this.#to.exec('DELETE FROM gq_queues') // as the trigger on jobs that were inserted with plain SQL left it
    this.#carry('gq_queues', nameOfQueue, (keep) =>
      this.#from.bothWays('SELECT * FROM gq_queues', 'name', 'gq_queues').forEach(keep),
    )
    const lost = `INSERT INTO gq_queues (name) SELECT DISTINCT queue FROM gq_jobs
                  WHERE queue NOT IN (SELECT name FROM gq_queues) RETURNING name`
    for (const row of this.#rows(lost))
      this.#report.lostRows.push(`settings of ${nameOfQueue(row)}: it has the defaults now`)
    this.#to.exec(count)
  }

  #moveKeys(): void {
    const seen = this.#carry('gq_keys', nameOfKey, (keep) =>
      this.#from.bothWays('SELECT * FROM gq_keys', 'queue, type, key', 'gq_keys').forEach(keep),
    )
    this.#to.function('digest', digestOf)
    for (const row of this.#rows(keysMadeAnew)) {
      seen.add(nameOfKey(row))
      this.#report.lostRows.push(`${nameOfKey(row)}: made anew from its job, for 24 h`)
    }
    const index = 'SELECT queue, type, key, expires_at FROM gq_keys INDEXED BY gq_keys_expires'
    for (const row of this.#from.bothWays(index, 'expires_at, queue, type, key', 'the index of gq_keys'))
      if (!seen.has(nameOfKey(row))) this.#report.lostRows.push(nameOfKey(row))
  }

  /** What is here, and what of it is known to be missing. */
  #account(): void {
    const { saved, lostRows } = this.#report
    for (const table of Object.keys(saved))
      saved[table] = Number(this.#rows(`SELECT COUNT(*) AS n FROM ${table}`)[0]!.n)
    const listed = new Set(lostRows)
    for (const row of this.#rows(missingAttempts))
      if (!listed.has(nameOfAttempt(row))) lostRows.push(nameOfAttempt(row))
    const lost = this.#rows(missingJobs, JSON.stringify([...this.#jobs]))
    this.#report.lostJobs = lost.map(({ id }) => Number(id))
    this.#rows(`UPDATE sqlite_sequence SET seq = MAX(?1, (${newestNumber})) WHERE name = 'gq_jobs'`, this.#sequence())
  }

  #rows(sql: string, ...values: SQLInputValue[]): Row[] {
    return this.#to.prepare(sql).all(...values) as Row[]
  }

  #sequence(): number {
    return [...this.#jobs].reduce((a, b) => Math.max(a, b), this.#said)
  }

  #hear(job: unknown): void {
    const id = Number(job)
    if (id > 0 && id <= this.#last) this.#jobs.add(id)
  }

  /** Stores the rows of a table that `read` comes upon; answers with the names of all, also of those that are refused. */
  #carry(table: string, nameOf: (row: Row) => string, read: (keep: (row: Row) => void) => void): Set<string> {
    const insert = inserter(this.#to, table)
    const seen = new Set<string>()
    this.#report.saved[table] = 0
    read((row) => {
      const name = nameOf(row)
      if (seen.has(name)) return
      seen.add(name)
      if (table === 'gq_jobs' || table === 'gq_attempts') this.#hear(row.id ?? row.job_id)
      try {
        insert(row)
        if (Object.values(row).some((value) => typeof value === 'string' && value.includes('\ufffd')))
          this.#report.damage.push(`${name}: a text is not as it was written, or has the character U+FFFD`)
      } catch (error) {
        if (isStorageFault(error)) throw storageError(error, 'The new file could not be written')
        this.#report.refused.push(`${name}: ${(error as Error).message.split('\n')[0]}`)
      }
    })
    return seen
  }
}

const keysMadeAnew = `INSERT INTO gq_keys (queue, type, key, job_id, digest, expires_at)
  SELECT queue, type, idempotency_key, id, digest(payload), created_at + 86400000 FROM gq_jobs j
  WHERE idempotency_key IS NOT NULL AND by_sql = 0 AND NOT EXISTS (
    SELECT 1 FROM gq_keys WHERE queue = j.queue AND type = j.type AND key = j.idempotency_key)
  RETURNING queue, type, key`
const missingAttempts = `WITH RECURSIVE expected (id, attempt) AS (
    SELECT id, MIN(attempt, 10000) - (state IN ('running', 'succeeded')) FROM gq_jobs
    UNION ALL SELECT id, attempt - 1 FROM expected WHERE attempt > 1)
  SELECT id AS job_id, attempt FROM expected WHERE attempt > 0 AND NOT EXISTS (
    SELECT 1 FROM gq_attempts a WHERE a.job_id = expected.id AND a.attempt = expected.attempt)`
const missingJobs = 'SELECT value AS id FROM json_each(?1) WHERE value NOT IN (SELECT id FROM gq_jobs) ORDER BY value'
const count = `UPDATE gq_queues SET (scheduled, ready, running, succeeded, dead, cancelled) = (
  SELECT TOTAL(state = 'scheduled'), TOTAL(state = 'ready'), TOTAL(state = 'running'), TOTAL(state = 'succeeded'),
         TOTAL(state = 'dead'), TOTAL(state = 'cancelled')
  FROM gq_jobs WHERE queue = name)`
