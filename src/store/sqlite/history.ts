import type { Attempt, JobError } from '../../model/job.ts'
import { countWithin } from './budget.ts'
import type { Db } from './db.ts'
import { job } from './queries.ts'

// A job may be tried without end, and each attempt has texts: what an answer has of them is bounded, the newest first.

/** Most attempts of an answer, bytes of their stacks, and bytes of all else that is text. */
const most = { attempts: 10_000, stacks: 1024 * 1024, texts: 1024 * 1024 }

const leftOut = (what: string) => `(${what} left out: those of newer attempts fill this answer)`

/** A job's history: each failed attempt as recorded, then the present or successful one, which stands in the job itself. */
export function attempts(db: Db, id: number): Attempt[] {
  const from = `FROM gq_attempts LEFT JOIN gq_losses ON gq_losses.id = loss_id WHERE job_id = ?1`
  const bytes = (...columns: string[]) => columns.map((column) => `COALESCE(octet_length(${column}), 0)`).join(' + ')
  const newest = db.arrays(
    `SELECT attempt, ${bytes('error_stack')}, ${bytes('error_name', 'error_message', 'names')} ${from}
     ORDER BY attempt DESC LIMIT ${most.attempts}`,
    id,
  ) as [attempt: number, stack: number, texts: number][]
  const first = (of: 1 | 2, within: number) => newest[countWithin(newest.map((sizes) => sizes[of]), within) - 1]?.[0] ?? 0 // biome-ignore format: one line
  const [stacks, texts] = [first(1, most.stacks), first(2, most.texts)]
  type Row = Omit<Attempt, 'error' | 'beside'> & JobError & { jobs: number | null; names: string | null }
  const rows = db.all<Row>(
    `SELECT attempt, worker, started_at AS startedAt, finished_at AS finishedAt, outcome, jobs,
            CASE WHEN attempt >= ?3 THEN error_stack WHEN error_stack <> '' THEN '' END AS stack, CASE WHEN attempt >= ?4 THEN error_name ELSE '' END AS name,
            CASE WHEN attempt >= ?4 THEN error_message ELSE '' END AS message, CASE WHEN attempt >= ?4 THEN names END AS names
     ${from} AND attempt >= ?2 ORDER BY attempt`,
    ...[id, newest.at(-1)?.[0] ?? 0, stacks, texts],
  )
  const history: Attempt[] = rows.map(({ name, message, stack, jobs, names, ...attempt }) => {
    const named = JSON.parse(names ?? '[]') as { id: number; type: string }[]
    const beside = jobs === null ? null : { others: jobs - 1, jobs: named.filter((job) => job.id !== id) }
    const error = { name, message, stack }
    if (attempt.attempt < texts) error.message = leftOut('its texts are')
    else if (stack === '') error.stack = `${name}: ${message}\n${leftOut('its stack is')}`
    return { ...attempt, error, beside }
  })
  const last = job(db, id)
  if (last?.state === 'running' || last?.state === 'succeeded')
    history.push({
      attempt: last.attempt,
      worker: last.worker,
      startedAt: last.startedAt!,
      finishedAt: last.finishedAt,
      outcome: last.state,
      error: null,
      beside: null,
    })
  return history
}
