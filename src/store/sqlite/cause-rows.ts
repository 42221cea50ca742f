import type { SQLInputValue } from 'node:sqlite'
import { mostCauses, otherCause, ruleVersion } from '../../model/cause.ts'

// The rows of gq_causes as a transaction counts in them.

/** What is asked of the connection. */
interface Statements {
  run(sql: string, ...values: SQLInputValue[]): number
  later(sql: string, ...values: SQLInputValue[]): void
  insert(sql: string, ...values: SQLInputValue[]): number
  get<Row>(sql: string, ...values: SQLInputValue[]): Row | undefined
  undone(undo: () => void): void
}

const isUnused = 'NOT EXISTS (SELECT 1 FROM gq_jobs WHERE cause = gq_causes.id AND cause IS NOT NULL)'

/** What counting needs to know of a job. */
export interface Caused {
  id: number
  queue: string
  type: string
  /** The row that counts it, or null. */
  cause: number | null
}

interface CauseRow {
  id: number
  jobs: number
  lastAt: number
  moves: number
}

/** The rows that a transaction counts in; written back at its commit, as a queue's counters are. */
export class Causes {
  readonly #db: Statements
  readonly #rows = new Map<number, CauseRow>()
  readonly #named = new Map<string, CauseRow>()

  constructor(db: Statements) {
    this.#db = db
  }

  begin(): void {
    if (this.#rows.size === 0) return
    this.#rows.clear()
    this.#named.clear()
  }

  /** Counts a job out of its row and into that of a cause; null: into none. Answers with the new row's id. */
  move(job: Caused, to: { dead: boolean; cause: string; at: number } | null): number | null {
    const before = job.cause === null ? undefined : this.#byId(job.cause)
    const after = to && this.#of(job, to.dead, to.cause)
    if (before) this.#count(before, -1, before.lastAt)
    if (after) this.#count(after, 1, Math.max(after.lastAt, to!.at))
    return after?.id ?? null
  }

  /** Writes back what was counted. A row that jobs still name stays, so that they are found miscounted and not under another's. */
  write(): void {
    for (const { id, jobs, lastAt, moves } of this.#rows.values()) {
      if (moves === 0) continue
      if (jobs > 0) this.#db.later('UPDATE gq_causes SET jobs = ?2, last_at = ?3 WHERE id = ?1', id, jobs, lastAt)
      else if (this.#db.run(`DELETE FROM gq_causes WHERE id = ?1 AND ${isUnused}`, id) === 0)
        this.#db.run('UPDATE gq_causes SET jobs = 0 WHERE id = ?1', id)
    }
  }

  #count(row: CauseRow, jobs: number, lastAt: number): void {
    const before = row.lastAt
    row.jobs += jobs
    row.lastAt = lastAt
    row.moves++
    this.#db.undone(() => {
      row.jobs -= jobs
      row.lastAt = before
      row.moves--
    })
  }

  /** Undefined where somebody has deleted it. */
  #byId(id: number): CauseRow | undefined {
    const known = this.#rows.get(id)
    if (known) return known
    const row = this.#db.get<CauseRow>(
      'SELECT id, jobs, last_at AS lastAt, 0 AS moves FROM gq_causes WHERE id = ?1',
      id,
    )
    if (row) this.#rows.set(id, row)
    return row
  }

  #of(job: Caused, dead: boolean, cause: string): CauseRow {
    const { queue, type } = job
    const name = `${queue}\0${type}\0${dead}\0${cause}`
    const known = this.#named.get(name)
    if (known) return known
    const values = [queue, type, Number(dead), ruleVersion, cause]
    const row = this.#find(values) ?? this.#make(job, dead, cause, values)
    this.#named.set(name, row)
    this.#db.undone(() => this.#named.delete(name)) // it may be gone with its savepoint
    return row
  }

  #find(values: (string | number)[]): CauseRow | undefined {
    const found = this.#db.get<{ id: number }>(
      'SELECT id FROM gq_causes WHERE queue = ?1 AND type = ?2 AND dead = ?3 AND rule = ?4 AND cause = ?5',
      ...values,
    )
    return found && this.#byId(found.id)
  }

  #make(job: Caused, dead: boolean, cause: string, values: (string | number)[]): CauseRow {
    const [queue, type, isDead] = values
    const { many } = this.#db.get<{ many: number }>(
      'SELECT COUNT(*) AS many FROM gq_causes WHERE queue = ?1 AND type = ?2 AND dead = ?3',
      ...[queue!, type!, isDead!],
    )!
    if (many >= mostCauses && cause !== otherCause) return this.#of(job, dead, otherCause)
    const id = this.#db.insert(
      'INSERT INTO gq_causes (queue, type, dead, rule, cause) VALUES (?1, ?2, ?3, ?4, ?5)',
      ...values,
    )
    const row = { id, jobs: 0, lastAt: 0, moves: 0 }
    this.#rows.set(id, row)
    this.#db.undone(() => this.#rows.delete(id))
    return row
  }
}
