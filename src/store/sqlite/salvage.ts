import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync, type SQLInputValue } from 'node:sqlite'
import type { Clock } from '../../model/clock.ts'
import { GopherQueueError } from '../../model/errors.ts'
import { idempotencyWindow } from '../../model/job.ts'
import { states } from '../../model/lifecycle.ts'
import { digestOf } from '../digest.ts'
import { newestNumber } from './audit.ts'
import { backup, targetOf } from './backup.ts'
import { connect, isDamage, isSqlite, isStorageFault, storageError } from './connection.ts'
import { first, foldedCopy, mendContents, type Row } from './damaged.ts'
import { Db } from './db.ts'
import { systemProcesses } from './processes.ts'
import { mostEntries } from './record.ts'

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

/** Most ranges that are tried to read a table around its damage: some ten seconds. */
const mostProbes = 200_000

/** Reads what can be read of a damaged file into a new one. The damaged file itself is copied, and never opened. */
export function salvage(path: string, into: string, clock: Clock): Salvage {
  const target = targetOf(into, false, path)
  if (!existsSync(path) && !existsSync(`${path}-wal`))
    throw new GopherQueueError('NOT_A_QUEUE', `There is no file ${path}. Nothing was created: correct the name.`)
  const work = mkdtempSync(`${target}-salvage-`)
  try {
    const [copy, fresh] = [join(work, 'damaged'), join(work, 'fresh')]
    const connection = new DatabaseSync(fresh)
    connect(fresh, clock, () => new Db(connection, clock))
    const damage = foldedCopy(path, copy)
    const report: Salvage = { saved: {}, lostJobs: [], unreadable: [], lostRows: [], refused: [], damage }
    if (mendContents(copy, connection, damage)) new Transfer(connection, copy, report).all()
    else report.unreadable.push([1, highest])
    connection.close()
    backup(fresh, target, false)
    return report
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
}

/** Carries rows from the damaged database, attached as `bad`, over to the fresh one, and keeps account of what is missing. */
class Transfer {
  readonly #db: DatabaseSync
  readonly #report: Salvage

  constructor(db: DatabaseSync, bad: string, report: Salvage) {
    this.#db = db
    this.#report = report
    db.prepare('ATTACH ? AS bad').run(bad)
    db.function('digest', digestOf)
    // Each statement alone, without syncs: `backup` makes the result durable.
    db.exec('PRAGMA foreign_keys = OFF; PRAGMA synchronous = OFF; CREATE TEMP TABLE known (id INTEGER PRIMARY KEY)')
  }

  all(): void {
    const { saved, damage } = this.#report
    this.#moveQueues()
    for (const table of ['gq_types', 'gq_hours']) this.#moveAll(table)
    const last = this.#moveJobs()
    this.#countQueues()
    this.#moveAll('gq_starts') // or a queue could start at once as many again as its rate allows
    this.#moveAttempts()
    this.#moveLosses()
    this.#moveKeys()
    this.#moveNamed('gq_schedules', 'schedule')
    this.#moveNamed('gq_tokens', 'token') // a server on the new file asks for the same ones: without any it would ask for none
    this.#moveAudit()
    this.#standInForWorkers()
    const lost =
      'SELECT id FROM known WHERE id BETWEEN 1 AND ?1 AND id NOT IN (SELECT id FROM main.gq_jobs) ORDER BY id'
    this.#report.lostJobs = this.#rows(lost, last).map(({ id }) => Number(id))
    this.#rows(`UPDATE main.sqlite_sequence SET seq = MAX(?1, (${newestNumber})) WHERE name = 'gq_jobs'`, last)
    for (const table of 'jobs attempts losses schedules queues types starts hours keys tokens audit'.split(' '))
      saved[`gq_${table}`] = Number(this.#rows(`SELECT COUNT(*) AS rows FROM main.gq_${table}`)[0]!.rows)
    const check = this.#db.prepare('PRAGMA bad.integrity_check(100)')
    const failure = this.#failure(() => {
      for (const { integrity_check: line } of check.iterate()) if (line !== 'ok') damage.push(String(line))
    })
    if (failure) damage.push('it is so damaged that it could not be checked to the end')
  }

  /** Answers with the last id or event number given, as far as it can be known. */
  #moveJobs(): number {
    const indexes = `SELECT name, sql FROM main.sqlite_schema WHERE type = 'index' AND tbl_name = 'gq_jobs'`
    for (const { name, sql } of this.#rows(indexes)) {
      const ids = `SELECT id FROM bad.gq_jobs INDEXED BY ${name} WHERE ${String(sql).split(/\sWHERE\s/)[1]}`
      this.#learn(`the index ${name}`, `INSERT OR IGNORE INTO known ${ids}`)
    }
    const said = this.#number(`SELECT seq FROM bad.sqlite_sequence WHERE name = 'gq_jobs'`)
    const known = this.#number('SELECT MAX(id) FROM known')
    const newest = this.#number('SELECT MAX(id) FROM bad.gq_jobs')
    const last = Math.max(known, said || newest)
    this.#report.unreadable = this.#copy('gq_jobs', last)
    // The jobs that held the places of a key may be lost: who may start is found out by the first transactions on the file.
    this.#db.exec(admitAnew)
    this.#db.exec(countCausesAnew)
    if (said === 0 && newest === 0) this.#report.unreadable.push([last + 1, highest])
    return last
  }

  #moveAttempts(): void {
    const newest = this.#number('SELECT MAX(rowid) FROM bad.gq_attempts NOT INDEXED')
    const listed = 'SELECT MAX(rowid) FROM bad.gq_attempts INDEXED BY sqlite_autoindex_gq_attempts_1'
    this.#copy('gq_attempts', newest || this.#number(listed))
    const orphans =
      'DELETE FROM main.gq_attempts WHERE job_id NOT IN (SELECT id FROM main.gq_jobs) RETURNING job_id, attempt'
    for (const { job_id: id, attempt } of [...this.#rows(orphans), ...this.#rows(missingAttempts)]) {
      this.#rows('INSERT OR IGNORE INTO known VALUES (?1)', id!)
      this.#report.lostRows.push(`attempt ${attempt} of job ${id}`)
    }
  }

  /** Who was there when a process ended: evidence of the attempts that name it. */
  #moveLosses(): void {
    this.#copy('gq_losses', this.#number('SELECT MAX(+id) FROM bad.gq_losses'))
    const missing = `SELECT DISTINCT loss_id AS id FROM main.gq_attempts
      WHERE loss_id IS NOT NULL AND loss_id NOT IN (SELECT id FROM main.gq_losses)`
    for (const { id } of this.#rows(missing)) this.#report.lostRows.push(`loss ${id}`)
  }

  /** A table whose rows have names, which its index knows too. */
  #moveNamed(table: 'gq_schedules' | 'gq_tokens', what: string): void {
    const index = `FROM bad.${table} INDEXED BY sqlite_autoindex_${table}_1`
    const newest = this.#number(`SELECT MAX(rowid) FROM bad.${table} NOT INDEXED`)
    this.#copy(table, newest || this.#number(`SELECT MAX(rowid) ${index}`))
    this.#db.exec(`CREATE TEMP TABLE names_of_${table} (name)`)
    this.#learn(`the index of ${table}`, `INSERT INTO names_of_${table} SELECT name ${index}`)
    for (const { name } of this.#rows(`SELECT name FROM names_of_${table} EXCEPT SELECT name FROM main.${table}`))
      this.#report.lostRows.push(`${what} ${name}`)
  }

  /** Its ids have no gaps: those that it has now are lost. */
  #moveAudit(): void {
    this.#learn('gq_audit', 'SELECT MAX(+id) FROM bad.gq_audit')
    const newest = this.#number('SELECT MAX(+id) FROM bad.gq_audit') || this.#number('SELECT MAX(id) FROM bad.gq_audit')
    this.#copy('gq_audit', newest)
    for (const { first, last } of this.#rows(gaps, newest, Math.max(0, newest - mostEntries)))
      this.#report.lostRows.push(`audit entries ${first} to ${last}`)
  }

  /** None of them works on the new file: what they ran is taken back when it is opened. */
  #standInForWorkers(): void {
    const workers = `INSERT INTO main.gq_workers (id, name, sources, slots, host, pid, boot, instance, started_at, seen_at)
      SELECT DISTINCT worker_id, 'salvaged', '[]', 1, ?1, 0, 'salvaged', 'salvaged', 0, 0 FROM main.gq_jobs WHERE worker_id IS NOT NULL`
    this.#rows(workers, systemProcesses.me.host)
  }

  #moveQueues(): void {
    const settings = this.#columns('gq_queues').filter((name) => !(states as readonly string[]).includes(name))
    this.#learn('gq_queues', `INSERT INTO main.gq_queues (${settings}) SELECT ${settings} FROM bad.gq_queues`)
    this.#db.exec('CREATE TEMP TABLE settled AS SELECT name FROM main.gq_queues')
  }

  /** As it is, of a table that an older version does not have. */
  #moveAll(table: string): void {
    if (this.#columns(table).length > 0)
      this.#learn(table, `INSERT INTO main.${table} SELECT * FROM bad.${table} WHERE true`)
  }

  #countQueues(): void {
    this.#db.exec(`INSERT OR IGNORE INTO main.gq_types (queue, type) SELECT DISTINCT queue, type FROM main.gq_jobs;
      INSERT INTO main.gq_queues (name) SELECT DISTINCT queue FROM main.gq_jobs WHERE true ON CONFLICT DO NOTHING`)
    for (const { name } of this.#rows('SELECT name FROM main.gq_queues EXCEPT SELECT name FROM settled'))
      this.#report.lostRows.push(`settings of queue '${name}': it has the defaults now`)
    this.#db.exec(count)
  }

  /** All at once, or those that an index knows one by one; the rest is made anew. */
  #moveKeys(): void {
    const nameOf = ({ queue, type, key }: Row) => `key ${JSON.stringify([queue, type, key])}`
    const copy = 'INSERT INTO main.gq_keys SELECT * FROM bad.gq_keys WHERE' // without WHERE SQLite takes index pages as they are
    this.#db.exec('CREATE TEMP TABLE keys (queue, type, key)')
    const index = 'SELECT queue, type, key FROM bad.gq_keys INDEXED BY gq_keys_expires ORDER BY expires_at'
    this.#learn('the index of gq_keys', `INSERT INTO keys ${index}`)
    if (!this.#learn('gq_keys', `${copy} true`)) {
      const one = this.#db.prepare(`${copy} queue = ?1 AND type = ?2 AND key = ?3`)
      for (const { queue, type, key } of this.#rows('SELECT * FROM keys'))
        this.#failure(() => one.run(queue!, type!, key!))
    }
    for (const row of this.#rows(keysMadeAnew))
      this.#report.lostRows.push(`${nameOf(row)}: made anew from its job, for 24 h`)
    for (const row of this.#rows('SELECT * FROM keys EXCEPT SELECT queue, type, key FROM main.gq_keys'))
      this.#report.lostRows.push(nameOf(row))
  }

  /** Copies all that can be read and is valid of a table with rowids; answers with the ranges that cannot be read. */
  #copy(table: string, last: number): [number, number][] {
    const columns = this.#columns(table)
    const insert = (place: string) =>
      this.#db.prepare(
        `INSERT INTO main.${table} (${columns}) SELECT ${columns} FROM bad.${table} NOT INDEXED
         WHERE ${place} BETWEEN ?1 AND ?2 ON CONFLICT DO NOTHING`,
      )
    const part = insert('rowid')
    const holes: [number, number][] = []
    let probes = 0
    const copy = (from: number, to: number, statement = part): void => {
      const failure = this.#failure(() => statement.run(from, to))
      if (!failure) return
      const middle = Math.floor((from + to) / 2)
      const before = holes.at(-1)
      if (from < to && ++probes < mostProbes) {
        copy(from, middle)
        copy(middle + 1, to)
      } else if (from === to && !isDamage(failure)) {
        this.#report.refused.push(`row ${from} of ${table}: ${failure.message.split('\n')[0]}`)
        if (table === 'gq_jobs') this.#rows('INSERT OR IGNORE INTO known VALUES (?1)', from)
      } else if (before && before[1] + 1 === from) before[1] = to
      else if (from <= to) holes.push([from, to])
    }
    copy(1, last, insert('+rowid')) // in the order of the pages, so that an id that is wrong hides no others
    return holes
  }

  /** Those that the damaged file has: fewer, if an older version wrote it. */
  #columns(table: string): string[] {
    return this.#rows(`SELECT name FROM pragma_table_info('${table}', 'bad')`).map(({ name }) => String(name))
  }

  /** Runs a statement that reads all of an index or a table; false when that is damaged. */
  #learn(what: string, sql: string): boolean {
    const failure = this.#failure(() => this.#db.exec(sql))
    if (failure) this.#report.damage.push(`${what} is damaged (${failure.message}): what only it knows is not listed`)
    return !failure
  }

  /** What is wrong with the pages that a statement read, or null. */
  #failure(run: () => unknown): Error | null {
    try {
      run()
      return null
    } catch (error) {
      if (isSqlite(error) && (isDamage(error) || !isStorageFault(error))) return error
      throw storageError(error, 'The new file could not be written')
    }
  }

  /** An id or a rowid; 0 when it cannot be read or believed. */
  #number(sql: string): number {
    const number = Number(first(this.#db, `SELECT (${sql}) AS number`)?.number)
    return number > 0 && number <= highest ? number : 0
  }

  #rows(sql: string, ...values: SQLInputValue[]): Row[] {
    return this.#db.prepare(sql).all(...values) as Row[]
  }
}

/** Their admission counts them once more. No index has `queue` first for all states: the jobs are read once, by group. */
const admitAnew = `
  CREATE TEMP TABLE again AS SELECT queue, type, created_at / 3600000 AS hour, COUNT(*) AS jobs FROM main.gq_jobs
    WHERE concurrency_key IS NOT NULL AND state = 'ready' AND blocked < 2 GROUP BY 1, 2, 3;
  UPDATE main.gq_queues AS q SET all_submitted = MAX(0, all_submitted - (SELECT TOTAL(jobs) FROM again WHERE queue = q.name));
  UPDATE main.gq_hours AS h SET submitted = MAX(0, submitted - (SELECT TOTAL(jobs) FROM again WHERE type = h.type AND hour = h.hour));
  UPDATE main.gq_jobs SET blocked = 2 WHERE concurrency_key IS NOT NULL AND state = 'ready'`
/** By the first process that works on the new file: gq_causes is not carried over. */
const countCausesAnew = `
  UPDATE main.gq_jobs SET cause = NULL WHERE cause IS NOT NULL;
  INSERT OR REPLACE INTO main.gq_meta (key, value) VALUES ('causes', '0')`
const keysMadeAnew = `INSERT OR IGNORE INTO main.gq_keys (queue, type, key, job_id, digest, expires_at)
  SELECT queue, type, idempotency_key, id, digest(payload), created_at + ${idempotencyWindow} FROM main.gq_jobs j
  WHERE idempotency_key IS NOT NULL AND NOT EXISTS (
    SELECT 1 FROM main.gq_keys WHERE queue = j.queue AND type = j.type AND key = j.idempotency_key)
  RETURNING queue, type, key`
const gaps = `SELECT before + 1 AS first, id - 1 AS last
  FROM (
    SELECT id, LAG(id, 1, ?2) OVER (ORDER BY id) AS before
    FROM (SELECT id FROM main.gq_audit UNION ALL SELECT ?1 + 1))
  WHERE id > before + 1`
const missingAttempts = `WITH RECURSIVE expected (id, attempt) AS (
    SELECT id, MIN(attempt, 10000) - (state IN ('running', 'succeeded')) FROM main.gq_jobs
    UNION ALL SELECT id, attempt - 1 FROM expected WHERE attempt > 1)
  SELECT id AS job_id, attempt FROM expected WHERE attempt > 0 AND NOT EXISTS (
    SELECT 1 FROM main.gq_attempts a WHERE a.job_id = expected.id AND a.attempt = expected.attempt)`
const count = `UPDATE main.gq_queues SET (scheduled, ready, running, succeeded, dead, cancelled) = (s, r, u, k, d, c) FROM (
    SELECT queue, SUM(state = 'scheduled') AS s, SUM(state = 'ready') AS r, SUM(state = 'running') AS u,
           SUM(state = 'succeeded') AS k, SUM(state = 'dead') AS d, SUM(state = 'cancelled') AS c
    FROM main.gq_jobs WHERE blocked < 2 GROUP BY queue)
  WHERE name = queue`
