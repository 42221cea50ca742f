import type { Instant } from '../../model/clock.ts'
import { limits } from '../../model/job.ts'
import type { Input, Operation, Output, QueueSettings, ScheduleSettings } from '../store.ts'
import type { Db } from './db.ts'
import { hasQueue } from './epoch.ts'
import { rateOf } from './rate.ts'
import { missingRights } from './rights.ts'
import { DatabaseSync } from './sqlite.ts'

// The audit log: who did what, to which jobs, and what was there before.

/** Of the audit log: some 100 MB. */
export const mostEntries = 1_000_000

/** What an operator's doing has found: told beside what it has made of it. Asked before the operation, in its transaction. */
export function found(db: Db, operation: Operation, input: unknown): unknown {
  if (operation === 'setQueue') return limitsOf(db, input as QueueSettings)
  if (/^(cancel|endLease|retry|runNow|remove)$/.test(operation))
    return db.get<{ state: string }>('SELECT state FROM gq_jobs WHERE id = ?1', input as number) ?? null
  if (/Schedule$/.test(operation)) return scheduleOf(db, nameOf(input))
  if (operation === 'revokeToken')
    return db.get('SELECT revoked_at AS revokedAt FROM gq_tokens WHERE name = ?1', input as string) ?? null
  return null
}

/** Those that are to be set, as they are. */
function limitsOf(db: Db, { queue, ...set }: QueueSettings): Partial<QueueSettings> {
  const row = db.queue(queue)
  const limits: Required<Omit<QueueSettings, 'queue'>> = {
    ...{ paused: row.paused === 1, maxDepth: row.max_depth, maxRunning: row.max_running },
    ...{ maxRunningPerKey: row.max_running_per_key, keepSucceeded: row.keep_succeeded },
    ...{ keepCancelled: row.keep_cancelled, keepDead: row.keep_dead, rate: rateOf(row) },
  }
  return Object.fromEntries(Object.entries(limits).filter(([name]) => name in set))
}

function scheduleOf(db: Db, name: string): unknown {
  const row = db.get<{ paused: number }>(
    'SELECT cron, timezone, missed, overlap, paused FROM gq_schedules WHERE name = ?1',
    name,
  )
  return row ? { ...row, paused: row.paused === 1 } : null
}

const nameOf = (input: unknown): string => (typeof input === 'string' ? input : (input as { name: string }).name)

/** What is kept of an operation: what was asked without payloads and hashes, what was there, and what came of it. */
function detailsOf(operation: Operation, input: unknown, before: unknown, answer: unknown): Record<string, unknown> {
  if (operation === 'many') {
    const { event, filter } = input as Input<'many'>
    const { order: _, limit, cursor: __, ...asked } = filter
    const { changed, next } = answer as Output<'many'>
    return { event, filter: asked, ...upTo(0, limit), changed, ...(next !== null && { next }) }
  }
  if (operation === 'setSchedule') {
    const { name: _, payload: __, ...after } = input as ScheduleSettings
    return { before, after }
  }
  if (operation === 'runSchedule') return { job: answer }
  if (operation === 'remove' || operation === 'removeSchedule') return { before }
  if (operation === 'revokeToken') return { before }
  if (typeof input === 'number') return { before, after: { state: (answer as { state: string }).state } }
  const { name: _, queue: __, hash: ___, ...after } = input as Record<string, unknown>
  return before === null ? { after } : { before, after }
}

/** The most jobs that were to be changed, where a step asks for fewer than a step may have: what is left of them. */
const upTo = (before: number, limit?: number) =>
  limit === undefined || limit >= limits.stepJobs ? {} : { limit: before + limit }

/** Writes down what an operator did, in the transaction that did it. The steps of one event for many jobs are one entry. */
export function record(
  db: Db,
  who: string,
  operation: Operation,
  input: unknown,
  before: unknown,
  answer: unknown,
): void {
  const details = detailsOf(operation, input, before, answer)
  if (operation === 'many' && wentOn(db, who, input as Input<'many'>, details)) return
  const { name, queue } = (typeof input === 'object' ? input : { name: input }) as { name?: string; queue?: string }
  const id = db.insert(
    `INSERT INTO gq_audit (at, who, action, target, details) VALUES (?1, ?2, ?3, ?4, ?5)`,
    ...[db.now, who, operation, String(name ?? queue ?? 'jobs'), JSON.stringify(details)],
  )
  db.run(`DELETE FROM gq_audit WHERE id <= ?1`, id - mostEntries)
}

/** Adds a further step to the newest entry, if it goes on where that one's last step ended. */
function wentOn(db: Db, who: string, { filter }: Input<'many'>, details: Record<string, unknown>): boolean {
  if (filter.cursor === undefined || filter.cursor === null) return false
  const last = db.get<{ id: number; details: string }>(
    `SELECT id, details FROM gq_audit WHERE id = (SELECT MAX(id) FROM gq_audit) AND who = ?1 AND action = 'many'`,
    who,
  )
  const known = last && (JSON.parse(last.details) as { event: string; filter: unknown; changed: number; next?: number })
  if (known?.next !== filter.cursor) return false
  const isSame = JSON.stringify([known.event, known.filter]) === JSON.stringify([details.event, details.filter])
  if (!isSame) return false
  const { limit: _, ...step } = details
  const all = { ...step, ...upTo(known.changed, filter.limit), changed: known.changed + (details.changed as number) }
  db.run(`UPDATE gq_audit SET details = ?2 WHERE id = ?1`, last!.id, JSON.stringify(all))
  return true
}

/** What was done to a file as a whole, while no store of this process has it open. */
interface Note {
  who: string
  action: 'backup' | 'prune'
  target: string
  details: unknown
}

/** Writes that down, and of a backup its time, so that one that is too old can be told. Not for who may only read the file. */
export function note(path: string, { who, action, target, details }: Note, now: Instant): void {
  if (missingRights(path) !== null) return
  using db = new DatabaseSync(path, { timeout: 10_000 })
  if (!hasQueue(db)) return
  db.exec('PRAGMA synchronous = FULL; BEGIN IMMEDIATE')
  if (action === 'backup')
    db.prepare(`INSERT OR REPLACE INTO gq_meta (key, value) VALUES ('backup_at', ?1)`).run(String(now))
  db.prepare(`INSERT INTO gq_audit (at, who, action, target, details) VALUES (?1, ?2, ?3, ?4, ?5)`).run(now, who, action, target, JSON.stringify(details)) // biome-ignore format: long
  db.exec('COMMIT')
}
