import type { Instant } from '../../model/clock.ts'
import { type GopherQueueError, invalid, isQueueError } from '../../model/errors.ts'
import { endsByItself, fateOf, isOutdated, isPlanOf, type Plan, planOf, replacedTick, standingAfter, type Ticking } from '../../model/schedule.ts' // biome-ignore format: long
import type { Schedule, ScheduleSettings } from '../store.ts'
import { isStorageFault } from './connection.ts'
import type { Db } from './db.ts'
import { specOf, submit } from './submit.ts'

// What time makes of schedules. Which ticks are owed is computed before the write lock is taken, and a step of both ends
// by the clock: thousands of schedules that were down for a week hold no submission up.

const planMs = 10
const planRows = 500
const fireMs = 2

interface Row extends Ticking, Pick<ScheduleSettings, 'name' | 'payload' | 'overlap'> {
  spec: string
  lastJob: number | null
  problem: string | null
}
const selectTicking = `SELECT name, cron, timezone, spec, payload, missed, overlap, next_at AS nextAt, owed_at AS owedAt,
    last_job AS lastJob, problem
  FROM gq_schedules WHERE paused = 0`
const selectDue = `${selectTicking} AND next_at IS NOT NULL AND next_at <= ?1`

/** What the schedules owe, as it was computed outside the write lock. Only a cache: each row is compared under the lock. */
export class Ticks {
  readonly #plans = new Map<string, Plan>()

  /** Computes what is due, on reads. */
  plan(db: Db): void {
    const end = db.clock.monotonic() + planMs
    db.begin('read')
    try {
      const due = db.all<Row>(`${selectDue} ORDER BY next_at, name LIMIT ${planRows}`, db.now)
      const names = new Set(due.map(({ name }) => name))
      for (const name of this.#plans.keys()) if (!names.has(name)) this.#plans.delete(name)
      for (const row of due) {
        if (isPlanOf(this.#plans.get(row.name), row)) continue
        this.#plans.set(row.name, planOf(row, db.now))
        if (db.clock.monotonic() >= end) return
      }
    } finally {
      db.rollback()
    }
  }

  /**
   * Submits what was planned. The write lock and `next_at` see to it that each tick is taken once, by whichever process
   * comes first. `full` is why storage takes no submissions, if it takes none. True when ticks are left.
   */
  fire(db: Db, full: GopherQueueError | null): boolean {
    const end = db.clock.monotonic() + fireMs
    for (const [name, plan] of this.#plans) {
      const row = db.get<Row>(`${selectDue} AND name = ?2`, db.now, name)
      if (!row || isOutdated(plan, db.now) || !isPlanOf(plan, row)) this.#plans.delete(name)
      else {
        this.#plans.delete(name)
        if (!fire(db, row, plan, full, end)) this.#plans.set(name, plan) // after the others: a thousand ticks hold none of them up
      }
      if (db.clock.monotonic() >= end) break
    }
    return db.get(`SELECT 1 WHERE ${schedulesDue}`, db.now) !== undefined
  }
}

export const schedulesDue = `EXISTS (SELECT 1 FROM gq_schedules WHERE paused = 0 AND next_at IS NOT NULL AND next_at <= ?1)`

/** The next tick of any schedule, or null. */
export function nextTick(db: Db): number | null {
  return db.get<{ at: number | null }>(
    `SELECT MIN(next_at) AS at FROM gq_schedules WHERE paused = 0 AND next_at IS NOT NULL`,
  )!.at
}

/** What an operation that changes the line of a schedule found it to owe, before the write lock was taken. */
const planned = new WeakMap<object, Plan>()

const selectOwing = `${selectTicking} AND (next_at <= ?1 OR owed_at IS NOT NULL) AND name = ?2 AND (cron <> ?3 OR timezone <> ?4)`

const owing = (db: Db, now: Instant, { name, cron, timezone }: ScheduleSettings): Row | undefined =>
  db.get<Row>(selectOwing, now, name, cron, timezone)

/** Computes what `takeOwed` takes, on reads. */
export function planOwed(db: Db, now: Instant, settings: ScheduleSettings): void {
  const row = owing(db, now, settings)
  if (row) planned.set(settings, planOf(row, now))
}

/** The line of a schedule is about to change: the ticks of the old one that nobody has taken are taken now, or told to be lost. */
export function takeOwed(db: Db, settings: ScheduleSettings): void {
  const row = owing(db, db.now, settings)
  if (!row) return
  const known = planned.get(settings)
  const plan = known && isPlanOf(known, row) && !isOutdated(known, db.now) ? known : planOf(row, db.now)
  fire(db, row, plan, null, Number.POSITIVE_INFINITY)
  const left = db.get<{ tick: Instant; problem: string }>(
    `SELECT owed_at AS tick, problem FROM gq_schedules WHERE name = ?1 AND owed_at IS NOT NULL`,
    row.name,
  )
  if (left) lose(db, row.name, left.tick, JSON.parse(left.problem) as Problem)
}

/** Takes the ticks of one schedule until the step is over: false when some are left, which the plan then starts with. */
function fire(db: Db, row: Row, plan: Plan, full: GopherQueueError | null, end: number): boolean {
  const { name, overlap } = row
  const before = row.problem === null ? null : (JSON.parse(row.problem) as Problem)
  let problem = plan.unreadable ? told(db, plan.unreadable) : null
  const replaced = replacedTick(row, plan)
  if (replaced !== null) lose(db, name, replaced, before)
  let job = row.lastJob
  let tried = 0
  let refused = false
  for (const tick of plan.ticks) {
    if (refused || (tried > 0 && db.clock.monotonic() >= end)) break
    tried++
    const overlaps = overlap === 'skip' && job !== null && lives(db, job)
    const fate = fateOf(tick, row, overlaps, db.now)
    if (fate === 'lost') lose(db, name, tick, before)
    if (fate !== 'due') continue
    const outcome = submitTick(db, row, tick, full)
    problem = 'id' in outcome ? null : told(db, outcome.refused)
    if ('id' in outcome) job = outcome.id
    else if (endsByItself(outcome.refused)) refused = true
    else lose(db, name, tick, problem)
  }
  const last = before && { tick: row.owedAt, at: before.at }
  const { lastAt, nextAt, owedAt, left } = standingAfter(plan, tried, refused, db.now, last)
  db.run(
    `UPDATE gq_schedules
     SET last_at = COALESCE(?2, last_at), last_job = ?3, next_at = ?4, owed_at = ?5, problem = ?6 WHERE name = ?1`,
    ...[name, lastAt, job, nextAt, owedAt, problem && JSON.stringify(problem)],
  )
  db.soonest = Math.min(db.soonest, nextAt ?? db.soonest)
  if (left.length === 0) return true
  plan.from = left[0]!
  plan.ticks = left
  return false
}

function submitTick(
  db: Db,
  { name, spec, payload }: Row,
  tick: number,
  full: GopherQueueError | null,
): { id: number } | { refused: GopherQueueError } {
  try {
    if (full) throw full
    // The key is the unique row of this schedule and tick: however the clock jumps, a tick is one job.
    const submission = { specs: specOf(spec), payloads: [payload], keys: [`schedule ${name} ${tick}`] }
    const id = submit(db, submission).ids[0]!
    db.later(`UPDATE gq_jobs SET tick = ?2 WHERE id = ?1`, id, tick)
    return { id }
  } catch (error) {
    if (isStorageFault(error) || !db.goesOn) throw error
    // A spec that somebody wrote with plain SQL: else it would stop the ticks of all others.
    return { refused: isQueueError(error) ? error : invalid(`The schedule's job cannot be submitted: ${error}.`) }
  }
}

type Problem = NonNullable<Schedule['problem']>
const told = (db: Db, { code, message }: GopherQueueError): Problem => ({ code, message, at: db.now })

function lose(db: Db, schedule: string, tick: number, why: Problem | null): void {
  if (why) db.events.push({ event: 'tickLost', schedule, tick, code: why.code, message: why.message })
}

const lives = (db: Db, job: number) =>
  db.get(`SELECT 1 FROM gq_jobs WHERE id = ?1 AND state IN ('scheduled', 'ready', 'running')`, job) !== undefined
