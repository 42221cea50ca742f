import { createHash } from 'node:crypto'
import { copyFileSync, rmSync } from 'node:fs'
import { DatabaseSync, type SQLInputValue, type SQLOutputValue, type StatementSync } from 'node:sqlite'
import { causeOf } from '../src/model/cause.ts'
import type { State } from '../src/model/lifecycle.ts'
import { markAsCopy } from '../src/store/sqlite/epoch.ts'
import type { Sums } from './hours.ts'
import type { Held, Row } from './model.ts'
import type { GoesOn } from './overdue.ts'
import type { ScheduleRow } from './ticks.ts'

export interface Queue extends Record<State, number> {
  name: string
  paused: number
  maxDepth: number | null
  maxRunning: number | null
  perKey: number
  rateMax: number | null
  ratePer: number | null
  /** When its rate, which is used up, has room again. */
  freeAt: number | null
  keepSucceeded: number | null
  keepCancelled: number | null
  keepDead: number | null
}

/** What a queue is that has no row yet. */
export const unheardOf = { keepSucceeded: 86_400_000, keepCancelled: 7 * 86_400_000, keepDead: null }

/** What the file said at one moment. */
export interface Snapshot {
  jobs: Map<number, Row>
  /** What runs of the jobs that no rule can read: it is company too. */
  wild: Held[]
  queues: Map<string, Queue>
  schedules: Map<string, ScheduleRow>
  /** Names the file. */
  epoch: string
  /** Handlers that go on although their attempts are over. */
  overdue: GoesOn[]
}

const nameOf = ({ queue, type, dead, cause }: Record<string, SQLOutputValue>): string =>
  `${queue} ${type} ${dead} ${cause}`

/** The file by plain SQL, with a connection of its own: nothing of the store stands between it and the checker. */
export class File {
  readonly #path: string
  #db!: DatabaseSync
  #jobs!: StatementSync
  #wild!: StatementSync
  #counts!: StatementSync
  #queues!: StatementSync
  #total!: StatementSync
  #hours!: StatementSync
  #overdue!: StatementSync
  #schedules!: StatementSync
  #dataVersion!: StatementSync
  #version: unknown
  #relative: StatementSync[] | undefined
  readonly #prepared = new Map<string, StatementSync>()
  /** Worker id -> pid. */
  readonly #pids = new Map<number, number | null>()

  constructor(path: string) {
    this.#path = path
    this.#open()
  }

  #open(): void {
    this.#prepared.clear()
    this.#db = new DatabaseSync(this.#path)
    this.#dataVersion = this.#db.prepare('PRAGMA data_version')
    this.#jobs = this.#db.prepare(
      `SELECT id, queue, type, priority, state, payload, attempt, budget_from AS budget, max_attempts AS max, backoff, timeout,
         on_timeout AS onTimeout, visibility_timeout AS visibility, run_at AS runAt, deadline, created_at AS createdAt,
         CASE state WHEN 'running' THEN lease_token END AS token,
         lease_expires_at AS expiresAt, renewed_at AS renewedAt, worker_id AS worker, started_at AS startedAt,
         cancel_requested_at IS NOT NULL AS cancel, finished_at AS finishedAt, prune_at AS pruneAt, result, reason,
         idempotency_key AS key, unique_key AS uniqueKey, concurrency_key AS concurrency, undelivered, postponed, company, blocked = 2 AS isNew, (SELECT COUNT(*) FROM gq_attempts WHERE job_id = id) AS failures
       FROM gq_jobs WHERE payload NOT LIKE '%wild%' ORDER BY id`,
    )
    this.#wild = this.#db.prepare(
      `SELECT id, lease_token AS token, worker_id AS worker FROM gq_jobs WHERE state = 'running' AND payload LIKE '%wild%'`,
    )
    this.#counts = this.#db.prepare(
      'SELECT queue, state, COUNT(*) AS count FROM gq_jobs WHERE blocked < 2 GROUP BY 1, 2',
    )
    this.#queues = this.#db.prepare(
      `SELECT name, paused, max_depth AS maxDepth, max_running AS maxRunning, max_running_per_key AS perKey, keep_succeeded AS keepSucceeded, keep_cancelled AS keepCancelled,
         keep_dead AS keepDead, rate_max AS rateMax, rate_per AS ratePer, rate_free_at AS freeAt, scheduled, ready, running, succeeded, dead, cancelled FROM gq_queues`,
    )
    this.#total = this.#db.prepare(
      `SELECT ${['submitted', 'succeeded', 'failed', 'dead'].map((name) => `TOTAL(all_${name}) + IFNULL((SELECT value ->> '$.${name}' FROM gq_meta WHERE key = 'forgotten'), 0)`)} FROM gq_queues`, // biome-ignore format: long
    )
    this.#hours = this.#db.prepare(
      'SELECT hour, SUM(submitted), SUM(succeeded), SUM(failed), SUM(dead) FROM gq_hours GROUP BY hour',
    )
    this.#overdue = this.#db.prepare(
      `SELECT w.id AS worker, value ->> 'id' AS id, value ->> 'token' AS token, value ->> 'since' AS since
       FROM gq_workers w, json_each(overdue) WHERE overdue <> '[]'`,
    )
    this.#schedules = this.#db.prepare(
      'SELECT name, cron, missed, COALESCE(owed_at, next_at) AS nextAt FROM gq_schedules',
    )
  }

  /** To prepare a statement costs more than to run it. */
  #sql(text: string): StatementSync {
    const statement = this.#prepared.get(text) ?? this.#db.prepare(text)
    this.#prepared.set(text, statement)
    return statement
  }

  /** Jobs by `queue state`, also those that no rule can read. */
  counts(): Map<string, number> {
    const rows = this.#counts.all() as unknown as { queue: string; state: State; count: number }[]
    return new Map(rows.map(({ queue, state, count }) => [`${queue} ${state}`, count]))
  }

  /** What has happened in all queues. */
  total(): Sums {
    return Object.values(this.#total.get()!) as Sums
  }

  /** What has happened in each hour. */
  hours(): Map<number, Sums> {
    return new Map(this.#hours.all().map((row) => [row.hour as number, Object.values(row).slice(1) as Sums]))
  }

  /** Whether jobs are yet to be counted by their causes. */
  get counting(): boolean {
    return this.#sql(`SELECT 1 FROM gq_meta WHERE key = 'causes'`).get() !== undefined
  }

  /** As an older version, or a repair, leaves it: all jobs are to be counted anew. */
  forgetCauses(): void {
    this.#db.exec(`UPDATE gq_causes SET rule = -id; INSERT OR REPLACE INTO gq_meta VALUES ('causes', '0')`)
  }

  /** What the rows of gq_causes say: jobs by `queue type dead cause`. */
  saidCauses(): Map<string, number> {
    const saidCauses = this.#sql('SELECT queue, type, dead, cause, SUM(jobs) AS jobs FROM gq_causes GROUP BY 1, 2, 3, 4') // biome-ignore format: one line
    return new Map(saidCauses.all().map((row) => [nameOf(row), row.jobs as number]))
  }

  /** The same as the jobs and their histories say; `byRow`: as the rows say that the jobs refer to. */
  causes(byRow: boolean): Map<string, number> {
    const rows = this.#sql(`SELECT c.queue, c.type, c.dead, c.cause FROM gq_jobs j LEFT JOIN gq_causes c ON c.id = j.cause WHERE j.cause IS NOT NULL`) // biome-ignore format: one line
    const histories = this.#sql(
      `SELECT queue, type, state = 'dead' AS dead, error_name AS name, error_message AS message, reason
       FROM gq_jobs j LEFT JOIN gq_attempts a ON a.job_id = j.id AND a.attempt = (SELECT MAX(attempt) FROM gq_attempts WHERE job_id = j.id)
       WHERE blocked < 2 AND (state = 'dead' OR (a.job_id IS NOT NULL AND
         CASE state WHEN 'running' THEN j.attempt - 1 WHEN 'scheduled' THEN j.attempt WHEN 'ready' THEN j.attempt END > budget_from))`,
    )
    const counts = new Map<string, number>()
    for (const row of byRow ? rows.all() : histories.all()) {
      const { name, message, reason } = row as Record<string, string | null>
      const cause = byRow
        ? row.cause
        : causeOf(name === null ? null : { name: name!, message: message! }, reason ?? null)
      const key = nameOf({ ...row, cause: cause! })
      counts.set(key, (counts.get(key) ?? 0) + 1)
    }
    return counts
  }

  /** A copy of the file as it is. */
  backup(): void {
    rmSync(`${this.#path}.backup`, { force: true })
    this.#db.prepare('VACUUM INTO ?').run(`${this.#path}.backup`)
  }

  /** The copy takes the file's place, as a file of its own epoch. Nobody has the file open. */
  restore(): void {
    this.#db.close()
    this.#pids.clear()
    for (const end of ['-wal', '-shm']) rmSync(`${this.#path}${end}`, { force: true })
    copyFileSync(`${this.#path}.backup`, this.#path)
    this.#open()
    markAsCopy(this.#db)
    this.#db.exec('PRAGMA journal_mode = WAL')
  }

  /** As a newer version would raise it. */
  raiseSchema(by: number): void {
    this.#sql(`UPDATE gq_meta SET value = value + ? WHERE key = 'schema'`).run(by)
    this.#db.exec(`UPDATE gq_meta SET value = CAST(value AS INTEGER) WHERE key = 'schema'`)
  }

  /** Rows as somebody writes them who does not know what they mean. */
  wild(now: number): void {
    const rows: Record<string, unknown>[] = [
      { backoff: '{"kind":"whatever"}' },
      { backoff: '[]' },
      { backoff: 'null' },
      { backoff: '{"kind":"table","delays":[]}' },
      { backoff: '{"kind":"linear","delay":"soon"}' },
      { max_attempts: 0 },
      { max_attempts: -7 },
      { timeout: -1 },
      { timeout: Number.MAX_SAFE_INTEGER },
      { visibility_timeout: 0 },
      { visibility_timeout: Number.MAX_SAFE_INTEGER },
      { created_at: -1 },
      { attempt: 1e9 },
      { deadline: Number.MAX_SAFE_INTEGER },
    ]
    for (const [i, row] of rows.entries()) {
      const all = { queue: 'w', type: 'x', payload: `{"wild":${i}}`, created_at: now, ...row }
      const names = Object.keys(all)
      const sql = `INSERT INTO gq_jobs (${names.join(', ')}) VALUES (${names.map(() => '?').join(', ')})`
      try {
        this.#sql(sql).run(...(Object.values(all) as SQLInputValue[]))
      } catch (error) {
        if (!/CHECK constraint failed/.test(String(error))) throw error // the file refuses what it can
      }
    }
  }

  /** How many jobs that no rule can read have not ended. */
  get wildLeft(): number {
    const sql = `SELECT COUNT(*) AS left FROM gq_jobs WHERE payload LIKE '%wild%' AND finished_at IS NULL`
    return this.#sql(sql).get()!.left as number
  }

  /** Somebody else committed since this was last asked. */
  changed(): boolean {
    const { version } = this
    const changed = version !== this.#version
    this.#version = version
    return changed
  }

  read(): Snapshot {
    const jobs = this.#jobs.all() as unknown as Row[]
    const queues = this.#queues.all() as unknown as Queue[]
    const schedules = this.#schedules.all() as unknown as ScheduleRow[]
    return {
      jobs: new Map(jobs.map((row) => [row.id, row])),
      wild: this.#wild.all() as unknown as Held[],
      queues: new Map(queues.map((row) => [row.name, row])),
      schedules: new Map(schedules.map((row) => [row.name, row])),
      epoch: this.epoch,
      overdue: this.#overdue.all() as unknown as GoesOn[],
    }
  }

  /** The process of a worker; null for one on the network, and for one that is not there. */
  pidOf(worker: number | null): number | null {
    if (worker === null) return null
    const known = this.#pids.get(worker)
    if (known !== undefined) return known
    const found = this.#sql(`SELECT pid FROM gq_workers WHERE id = ?`).get(worker)
    if (!found) return null
    const pid = found.pid as number | null
    this.#pids.set(worker, pid)
    return pid
  }

  /** Names the file. */
  get epoch(): string {
    return this.#sql(`SELECT value FROM gq_meta WHERE key = 'epoch'`).get()!.value as string
  }

  /** How an attempt ended, as its history has it: with a token if its holder said so. */
  endOf(id: number, attempt: number): { outcome: string; token: number | null } | undefined {
    const sql = `SELECT outcome, token FROM gq_attempts WHERE job_id = ? AND attempt = ?`
    return this.#sql(sql).get(id, attempt) as { outcome: string; token: number | null } | undefined
  }

  /** The host of a worker. */
  hostOf(worker: number): string {
    return this.#sql(`SELECT host FROM gq_workers WHERE id = ?`).get(worker)!.host as string
  }

  /** Jobs that were first leased while an older one of their class was ready: none. As docs/schema.md has it. */
  passedOver(): unknown[] {
    return this.#sql(
      `SELECT younger.id AS leased, older.id AS passed_over FROM gq_jobs younger JOIN gq_jobs older
         ON older.queue = younger.queue AND older.type = younger.type AND older.priority = younger.priority
           AND older.id < younger.id AND COALESCE(older.ready_seq, older.id) < younger.lease_seq
           AND older.lease_seq > younger.lease_seq`,
    ).all()
  }

  isWhole(): boolean {
    const said = this.#sql('PRAGMA integrity_check').all()
    return said.length === 1 && said[0]!.integrity_check === 'ok'
  }

  /** The jobs and the workers, with all instants as seen from `now`. */
  relative(now: number): string {
    this.#relative ??= this.#selectRelative()
    return JSON.stringify(this.#relative.map((select) => select.all(now)))
  }

  #selectRelative(): StatementSync[] {
    return ['gq_jobs', 'gq_workers'].map((table) => {
      const names = this.#sql(`SELECT name FROM pragma_table_info('${table}')`).all()
      const isInstant = (name: string) => /_at$|^deadline$|_since$|^tick$/.test(name)
      const columns = names.map(({ name }) => (isInstant(`${name}`) ? `${name} - ?1` : `${name}`))
      const select = this.#db.prepare(`SELECT ${columns.join(', ')} FROM ${table}`)
      select.setReturnArrays(true)
      return select
    })
  }

  /** The leases that run, by job: cheaper than to read all. */
  leases(): { id: number; token: number; expiresAt: number }[] {
    const leases = this.#sql(
      `SELECT id, lease_token AS token, lease_expires_at AS expiresAt FROM gq_jobs WHERE state = 'running'`,
    )
    return leases.all() as unknown as { id: number; token: number; expiresAt: number }[]
  }

  /** Changes when somebody else commits. */
  get version(): unknown {
    return this.#dataVersion.get()!.data_version
  }

  /** Empties the file: cheaper than a new one. */
  clear(): void {
    this.#pids.clear()
    this.#db.exec(`BEGIN; DELETE FROM gq_attempts; DELETE FROM gq_jobs; DELETE FROM gq_queues; DELETE FROM gq_workers;
      DELETE FROM gq_losses; DELETE FROM gq_requests; DELETE FROM gq_causes; DELETE FROM gq_hours; DELETE FROM gq_types;
      DELETE FROM gq_meta WHERE key IN ('causes', 'forgotten'); UPDATE sqlite_sequence SET seq = 0 WHERE name <> 'gq_file'; COMMIT`)
  }

  /** A digest of all that the tables say. */
  digest(): string {
    const hash = createHash('sha256')
    const tables = this.#sql(`SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name`).all()
    for (const { name } of tables) {
      const rows = this.#sql(`SELECT * FROM ${name} ORDER BY 1, 2`).all()
      const told = rows.filter((row) => row.key !== 'epoch' && row.name !== 'gq_file') // which are random, as they name the file
      hash.update(`${name} ${JSON.stringify(told)}`)
    }
    return hash.digest('hex')
  }

  /** Submits as somebody with an SQL shell would. */
  submit(queue: string, type: string, payload: string, now: number): void {
    this.#sql('INSERT INTO gq_jobs (queue, type, payload, created_at) VALUES (?, ?, ?, ?)').run(
      queue,
      type,
      payload,
      now,
    )
  }

  /** Empties the WAL, which each process that opens the file reads. */
  checkpoint(): void {
    this.#db.exec('PRAGMA wal_checkpoint(TRUNCATE)')
  }

  close(): void {
    this.#db.close()
  }
}
