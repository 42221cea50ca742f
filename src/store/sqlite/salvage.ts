import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { join, resolve } from 'node:path'
import type { DatabaseSync } from 'node:sqlite'
import type { Clock } from '../../model/clock.ts'
import { GopherQueueError } from '../../model/errors.ts'
import { backup } from './backup.ts'
import { connect, isStorageFault, storageError } from './connection.ts'
import { Damaged, foldedCopy, openCopy } from './damaged.ts'
import { inserter, type Row } from './recover.ts'
import { digestOf } from './submit.ts'

/** What a salvage could read, and what it could not. */
export interface Salvage {
  /** Rows by table. */
  saved: Record<string, number>
  /** Jobs that cannot be read, of which an index or an attempt still knows. */
  lostJobs: number[]
  /** From which id to which there may be more of them. */
  unreadable: [first: number, last: number][]
  /** Other rows that cannot be read: attempts, keys, workers, settings. */
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
    const source = openCopy(copy, fresh, connection, report.damage)
    if (source) new Transfer(new Damaged(source, report.damage), connection, report).all()
    else report.unreadable.push([1, highest])
    connection.close()
    backup(fresh, into, false)
    return report
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
}

/** Carries rows over, table by table, and keeps account of those that are missing. */
class Transfer {
  readonly #from: Damaged
  readonly #to: DatabaseSync
  readonly #report: Salvage
  readonly #jobs = new Set<number>()
  readonly #lostJobs = new Set<number>()

  constructor(from: Damaged, to: DatabaseSync, report: Salvage) {
    this.#from = from
    this.#to = to
    this.#report = report
  }

  all(): void {
    this.#to.exec('PRAGMA foreign_keys = OFF; BEGIN IMMEDIATE')
    const sequence = this.#moveJobs()
    this.#moveAttempts()
    this.#moveWorkers()
    this.#moveQueues()
    this.#moveKeys()
    this.#moveSchedules()
    this.#report.lostJobs = [...this.#lostJobs].sort((a, b) => a - b)
    const last = Math.max(sequence, this.#report.lostJobs.at(-1) ?? 0)
    this.#to.prepare(`UPDATE sqlite_sequence SET seq = MAX(?1, ${newest}) WHERE name = 'gq_jobs'`).run(last)
    this.#to.exec(count)
    this.#to.exec('COMMIT')
    this.#report.damage.push(...this.#from.check())
  }

  /** Answers with the sequence's state, as far as it can be known. */
  #moveJobs(): number {
    const known = this.#from.jobsInIndexes().filter((id) => id > 0 && id <= highest)
    const said = this.#sequence('gq_jobs')
    const sequence = known.reduce((a, b) => Math.max(a, b), said)
    const last = said === 0 ? highest : sequence
    const put = this.#putter('gq_jobs')
    const keep = (row: Row) => {
      const id = Number(row.id)
      if (this.#jobs.has(id) || this.#lostJobs.has(id)) return
      if (id < 1 || id > last) this.#report.refused.push(`gq_jobs ${id}: no such id was given yet (last: ${last})`)
      else if (put(row, `${id}`)) this.#jobs.add(id)
      else this.#lostJobs.add(id)
    }
    this.#report.unreadable.push(...this.#from.walk('gq_jobs', last, keep))
    for (const id of known) {
      if (this.#jobs.has(id)) continue
      const row = this.#from.get(`SELECT * FROM gq_jobs WHERE id = ?1`, id)
      if (row && Number(row.id) === id) keep(row)
      if (!this.#jobs.has(id)) this.#lostJobs.add(id)
    }
    return sequence
  }

  /** The last id given, or 0 when that cannot be known. */
  #sequence(table: string): number {
    const said = Number(this.#from.get(`SELECT seq FROM sqlite_sequence WHERE name = '${table}'`)?.seq ?? 0)
    return said > 0 && said <= highest ? said : 0
  }

  #moveAttempts(): void {
    const put = this.#putter('gq_attempts')
    const seen = new Set<string>()
    const keep = (row: Row) => {
      const name = `${row.attempt} of job ${row.job_id}`
      if (seen.has(name)) return
      seen.add(name)
      if (this.#jobs.has(Number(row.job_id))) put(row, name)
      else this.#missAttempt(row)
    }
    const index = `SELECT job_id, attempt, rowid FROM gq_attempts INDEXED BY sqlite_autoindex_gq_attempts_1`
    const known = this.#from.bothWays(index, ['job_id', 'attempt'], 'the index of gq_attempts')
    const last = known.reduce((most, { rowid }) => Math.max(most, Number(rowid)), 0)
    this.#from.walk('gq_attempts', Math.min(last, highest), keep)
    for (const row of known) {
      const { job_id: job, attempt } = row
      if (seen.has(`${attempt} of job ${job}`)) continue
      const found = this.#from.get(`SELECT * FROM gq_attempts WHERE job_id = ?1 AND attempt = ?2`, job!, attempt!)
      if (found && found.job_id === job && found.attempt === attempt) keep(found)
      else if (seen.add(`${attempt} of job ${job}`)) this.#missAttempt(row)
    }
    // What a saved job's own number of attempts says is missing.
    for (const { id, attempt } of this.#to.prepare(missingAttempts).all() as Row[])
      if (!seen.has(`${attempt} of job ${id}`)) this.#report.lostRows.push(`attempt ${attempt} of job ${id}`)
  }

  #missAttempt({ job_id: job, attempt }: Row): void {
    const id = Number(job)
    if (!this.#jobs.has(id) && id > 0 && id <= highest) this.#lostJobs.add(id)
    this.#report.lostRows.push(`attempt ${attempt} of job ${job}`)
  }

  #moveWorkers(): void {
    const put = this.#putter('gq_workers')
    const holes = this.#from.walk('gq_workers', this.#sequence('gq_workers'), (row) => put(row, `${row.id}`))
    if (holes.length > 0) this.#report.lostRows.push('workers')
    // Their jobs go on as those of a worker of whom nothing is known: their leases decide.
    const lost = this.#to.prepare(
      `INSERT INTO gq_workers (id, name, sources, slots, host, started_at, seen_at)
       SELECT DISTINCT worker_id, 'unknown', '[]', 1, 'unknown', started_at, started_at FROM gq_jobs
       WHERE state = 'running' AND worker_id NOT IN (SELECT id FROM gq_workers) GROUP BY worker_id
       RETURNING id`,
    )
    for (const { id } of lost.all()) this.#report.lostRows.push(`worker ${id}`)
  }

  #moveQueues(): void {
    const put = this.#putter('gq_queues')
    const none = { scheduled: 0, ready: 0, running: 0, succeeded: 0, dead: 0, cancelled: 0 }
    this.#to.exec('DELETE FROM gq_queues') // as the trigger on jobs that were inserted with plain SQL left it
    for (const row of this.#from.bothWays('SELECT * FROM gq_queues', ['name'], 'gq_queues'))
      put({ ...row, ...none }, `${row.name}`)
    const lost = this.#to.prepare(
      `INSERT INTO gq_queues (name) SELECT DISTINCT queue FROM gq_jobs WHERE queue NOT IN (SELECT name FROM gq_queues)
       RETURNING name`,
    )
    for (const { name } of lost.all())
      this.#report.lostRows.push(`settings of queue '${name}': it has the defaults now`)
  }

  #moveKeys(): void {
    const put = this.#putter('gq_keys')
    const primary = ['queue', 'type', 'key']
    const seen = new Set<string>()
    const nameOf = ({ queue, type, key }: Row) => JSON.stringify([queue, type, key])
    for (const row of this.#from.bothWays('SELECT * FROM gq_keys', primary, 'gq_keys'))
      if (put(row, nameOf(row))) seen.add(nameOf(row))
    this.#to.function('digest', digestOf)
    const made = this.#to.prepare(
      `INSERT INTO gq_keys (queue, type, key, job_id, digest, expires_at)
       SELECT queue, type, idempotency_key, id, digest(payload), created_at + 86400000 FROM gq_jobs j
       WHERE idempotency_key IS NOT NULL AND by_sql = 0 AND NOT EXISTS (
         SELECT 1 FROM gq_keys WHERE queue = j.queue AND type = j.type AND key = j.idempotency_key)
       RETURNING queue, type, key`,
    )
    for (const row of made.all() as Row[]) {
      seen.add(nameOf(row))
      this.#report.lostRows.push(`key ${nameOf(row)}: made anew from its job, for 24 h`)
    }
    const index = 'SELECT queue, type, key, expires_at FROM gq_keys INDEXED BY gq_keys_expires'
    for (const row of this.#from.bothWays(index, ['expires_at', ...primary], 'the index of gq_keys'))
      if (!seen.has(nameOf(row))) this.#report.lostRows.push(`key ${nameOf(row)}`)
  }

  #moveSchedules(): void {
    const put = this.#putter('gq_schedules')
    const seen = new Set<unknown>()
    const index = 'SELECT name, rowid FROM gq_schedules INDEXED BY sqlite_autoindex_gq_schedules_1'
    const known = this.#from.bothWays(index, ['name'], 'the index of gq_schedules')
    const last = known.reduce((most, { rowid }) => Math.max(most, Number(rowid)), 0)
    this.#from.walk('gq_schedules', Math.min(last, highest), (row) => {
      if (!seen.has(row.name) && put(row, `${row.name}`)) seen.add(row.name)
    })
    for (const { name } of known) if (!seen.has(name)) this.#report.lostRows.push(`schedule ${name}`)
  }

  /** Stores rows of a table; answers whether one was taken. */
  #putter(table: string): (row: Row, name: string) => boolean {
    const insert = inserter(this.#to, table)
    this.#report.saved[table] = 0
    return (row, name) => {
      try {
        insert(row)
        this.#report.saved[table]!++
        if (Object.values(row).some((value) => typeof value === 'string' && value.includes('\ufffd')))
          this.#report.damage.push(`${table} ${name}: a text is not as it was written, or has the character U+FFFD`)
        return true
      } catch (error) {
        if (isStorageFault(error)) throw storageError(error, 'The new file could not be written')
        this.#report.refused.push(`${table} ${name}: ${(error as Error).message.split('\n')[0]}`)
        return false
      }
    }
  }
}

const missingAttempts = `WITH RECURSIVE expected (id, attempt) AS (
    SELECT id, MIN(attempt, 10000) - (state IN ('running', 'succeeded')) FROM gq_jobs
    UNION ALL SELECT id, attempt - 1 FROM expected WHERE attempt > 1)
  SELECT id, attempt FROM expected WHERE attempt > 0 AND NOT EXISTS (SELECT 1 FROM gq_attempts a WHERE a.job_id = expected.id AND a.attempt = expected.attempt)`
const newest = `(SELECT IFNULL(MAX(MAX(id, IFNULL(ready_seq, 0), IFNULL(lease_seq, 0), IFNULL(lease_token, 0))), 0) FROM gq_jobs)`
const count = `UPDATE gq_queues SET (scheduled, ready, running, succeeded, dead, cancelled) = (
    SELECT SUM(state = 'scheduled'), SUM(state = 'ready'), SUM(state = 'running'), SUM(state = 'succeeded'),
           SUM(state = 'dead'), SUM(state = 'cancelled')
    FROM gq_jobs WHERE queue = name)
  WHERE name IN (SELECT queue FROM gq_jobs)`
