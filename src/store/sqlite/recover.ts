import type { Clock } from '../../model/clock.ts'
import { GopherQueueError } from '../../model/errors.ts'
import type { Fate } from '../store.ts'
import { connect } from './connection.ts'
import { openToRead } from './doctor.ts'
import { reclaimDeadWorkers, reclaimLapsed } from './reclaim.ts'
import { version } from './schema.ts'

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
  using source = openToRead(path)
  const copy = connect(':memory:', clock)
  using _ = copy.connection
  if (version(source) === 0) throw new GopherQueueError('NOT_A_QUEUE', `There is no queue in ${path}.`)
  source.exec('BEGIN')
  copy.begin('write')
  const looked = { gq_workers: 'ended_at IS NULL', gq_jobs: `state = 'running'` }
  for (const [table, where] of Object.entries(looked))
    for (const row of source.prepare(`SELECT * FROM ${table} WHERE ${where}`).all()) {
      const columns = Object.keys(row)
      copy.run(`INSERT INTO ${table} (${columns}) VALUES (${columns.map(() => '?')})`, ...Object.values(row))
    }
  for (let before = -1; before < copy.events.length; ) {
    before = copy.events.length
    reclaimDeadWorkers(copy) // a limited number at once
  }
  reclaimLapsed(copy)
  const orphans = copy.events.filter((event) => event.event === 'reclaimed').sort((a, b) => a.id - b.id)
  return orphans.map(({ id, queue, type, fate }) => {
    const told = copy.get<Pick<Orphan, 'attempt' | 'maxAttempts' | 'why'>>(
      `SELECT j.attempt - budget_from AS attempt, max_attempts AS maxAttempts, error_message AS why
       FROM gq_jobs j JOIN gq_attempts ON job_id = id WHERE id = ?1`,
      id,
    )
    return { id, queue, type, ...told!, fate }
  })
}
