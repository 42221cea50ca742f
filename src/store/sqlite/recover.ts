import type { DatabaseSync, SQLInputValue, StatementSync } from 'node:sqlite'
import type { Clock } from '../../model/clock.ts'
import { GopherQueueError } from '../../model/errors.ts'
import type { Fate } from '../store.ts'
import { connect } from './connection.ts'
import { openToRead } from './doctor.ts'
import { reclaimDeadWorkers, reclaimOver } from './reaper.ts'
import { version } from './schema.ts'
import { Terms } from './terms.ts'

export type Row = Record<string, SQLInputValue>

/** A running job that nobody runs, and what the next worker's process makes of it. */
export interface Orphan {
  id: number
  queue: string
  type: string
  attempt: number
  maxAttempts: number
  why: string
  fate: Fate
}

/** What recovery would do now. It is the recovery itself, run on a copy of the rows that it looks at. */
export function planRecovery(path: string, clock: Clock): Orphan[] {
  const source = openToRead(path)
  const copy = connect(':memory:', clock)
  try {
    if (version(source) === 0) throw new GopherQueueError('NOT_A_QUEUE', `There is no queue in ${path}.`)
    source.exec('BEGIN')
    copy.begin('write')
    const rows = source.prepare(`SELECT * FROM gq_workers WHERE ended_at IS NULL`).all() as Row[]
    const jobs = source.prepare(`SELECT * FROM gq_jobs WHERE state = 'running'`).all() as Row[]
    rows.forEach(inserter(copy.connection, 'gq_workers'))
    jobs.forEach(inserter(copy.connection, 'gq_jobs'))
    reclaimDeadWorkers(copy)
    const terms = new Terms()
    for (let before = -1; before < copy.events.length; ) {
      before = copy.events.length
      terms.look(copy, 0)
      reclaimOver(copy, terms, 0) // a limited number at once
    }
    const orphans = copy.events.flatMap((event) => (event.event === 'reclaimed' ? [event] : []))
    return orphans
      .sort((a, b) => a.id - b.id)
      .map(({ id, queue, type, fate }) => {
        const job = jobs.find((row) => row.id === id)!
        const error = copy.get<{ message: string }>(
          `SELECT error_message AS message FROM gq_attempts WHERE job_id = ?1`,
          id,
        )!
        const [attempt, maxAttempts] = [Number(job.attempt) - Number(job.budget_from), Number(job.max_attempts)]
        return { id, queue, type, attempt, maxAttempts, why: error.message, fate }
      })
  } finally {
    copy.connection.close()
    source.close()
  }
}

/** Inserts rows of a table that all have the same columns. */
export function inserter(db: DatabaseSync, table: string): (row: Row) => void {
  let statement: StatementSync | undefined
  return (row) => {
    const columns = Object.keys(row)
    statement ??= db.prepare(
      `INSERT INTO ${table} (${columns.join(', ')}) VALUES (${columns.map((_, i) => `?${i + 1}`).join(', ')})`,
    )
    statement.run(...Object.values(row))
  }
}
