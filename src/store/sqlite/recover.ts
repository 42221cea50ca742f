import type { Clock } from '../../model/clock.ts'
import { GopherQueueError } from '../../model/errors.ts'
import type { Fate } from '../store.ts'
import { connect } from './connection.ts'
import type { Db } from './db.ts'
import { firstOpening, isCopied } from './epoch.ts'
import { job } from './queries.ts'
import { openToRead } from './reader.ts'
import { reclaimDeadWorkers, reclaimLapsed } from './reclaim.ts'
import { newestSchema, tooNew, version } from './schema.ts'
import { workersGone } from './workers.ts'

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
  const schema = version(source)
  if (schema === 0) throw new GopherQueueError('NOT_A_QUEUE', `There is no queue in ${path}.`)
  if (schema > newestSchema) throw new GopherQueueError('SCHEMA_TOO_NEW', tooNew(schema))
  source.exec('BEGIN')
  copy.begin('write')
  // Handlers that went on count as company, also when their job no longer runs or their worker has ended: without these
  // rows the plan would charge a job for a loss that recovery does not charge it for.
  const looked = {
    gq_workers: `ended_at IS NULL OR overdue <> '[]' OR id IN (SELECT worker_id FROM gq_jobs WHERE state = 'running')`,
    gq_jobs: `state = 'running' OR id IN (SELECT value ->> 'id' FROM gq_workers, json_each(overdue) WHERE overdue <> '[]')`,
    gq_losses: 'true',
    gq_meta: isCopied,
  }
  for (const [table, where] of Object.entries(looked))
    for (const row of source.prepare(`SELECT * FROM ${table} WHERE ${where}`).all()) {
      const columns = Object.keys(row)
      copy.run(`INSERT INTO ${table} (${columns}) VALUES (${columns.map(() => '?')})`, ...Object.values(row))
    }
  const running = copy.all<Pick<Orphan, 'id' | 'queue' | 'type' | 'attempt' | 'maxAttempts'>>(
    `SELECT id, queue, type, attempt - budget_from AS attempt, max_attempts AS maxAttempts
     FROM gq_jobs WHERE state = 'running' ORDER BY id`,
  )
  copy.run(
    `INSERT INTO gq_queues (name, running) SELECT queue, SUM(state = 'running') FROM gq_jobs GROUP BY queue
     ON CONFLICT DO UPDATE SET running = excluded.running`,
  )
  copy.commit()
  firstOpening(copy)
  copy.begin('write')
  reclaimAll(copy)
  return running.flatMap((orphan) => {
    const { state, runAt, reason } = job(copy, orphan.id)!
    if (state === 'running') return []
    const recorded = copy.get<{ why: string }>(
      `SELECT error_message AS why FROM gq_attempts WHERE job_id = ?1`,
      orphan.id,
    )
    const why = recorded?.why ?? 'It ran when this copy of the file was made: it goes back, uncharged.'
    return { ...orphan, why, fate: { state, runAt, reason } }
  })
}

function reclaimAll(copy: Db): void {
  while (workersGone(copy).length > 0) reclaimDeadWorkers(copy) // a limited number at once
  reclaimLapsed(copy)
}
