import { newestTimes, nextTime } from '../../model/cron.ts'
import { type ErrorCode, GopherQueueError } from '../../model/errors.ts'
import type { JobSpec } from '../../model/job.ts'
import type { Schedule, ScheduleSettings } from '../store.ts'
import type { Db } from './db.ts'
import { submit } from './submit.ts'

// What time makes of schedules. Which ticks are owed is computed before the write lock is taken, and a step of both ends
// by the clock: thousands of schedules that were down for a week hold no submission up.

/** A tick that nobody took within this time was missed. */
const missedAfter = 60_000
const mostMissed = 1000
const planMs = 10
const planRows = 500
const fireMs = 2
/** A tick that was refused for want of room is tried again so soon at first; later after a tenth of the time that it has waited. */
const retry = { first: 1000, longest: 60_000 }
/** Refusals that end by themselves. */
const refusals: ReadonlySet<ErrorCode> = new Set(['QUEUE_FULL', 'STORAGE_FULL'])

interface Row extends Pick<ScheduleSettings, 'name' | 'cron' | 'timezone' | 'payload' | 'missed' | 'overlap'> {
  spec: string
  next_at: number
  owed_at: number | null
  last_job: number | null
  problem: string | null
}
const selectDue = `SELECT name, cron, timezone, spec, payload, missed, overlap, next_at, owed_at, last_job, problem
  FROM gq_schedules WHERE paused = 0 AND next_at IS NOT NULL AND next_at <= ?1`

type Line = Pick<Row, 'cron' | 'timezone' | 'missed'>
interface Plan extends Line {
  /** The oldest tick that was owed. */
  from: number
  /** Ticks that are worth a job, oldest first. */
  ticks: number[]
  /** The first tick after these. */
  next: number | null
  /** Why its line cannot be read, if somebody wrote it with plain SQL. */
  unreadable?: GopherQueueError
}

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
        if (isOf(this.#plans.get(row.name), row)) continue
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
      const isOld = plan.missed !== 'all' && plan.next !== null && plan.next <= db.now // later ticks count too
      if (!row || isOld || !isOf(plan, row)) this.#plans.delete(name)
      else if (fire(db, row, plan, full, end)) this.#plans.delete(name)
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

const firstOf = ({ owed_at, next_at }: Row): number => owed_at ?? next_at

const isOf = (plan: Plan | undefined, row: Row): boolean =>
  plan?.from === firstOf(row) && plan.cron === row.cron && plan.timezone === row.timezone && plan.missed === row.missed

function planOf(row: Row, now: number): Plan {
  const { cron, timezone, missed } = row
  const from = firstOf(row)
  try {
    const most = missed === 'all' ? mostMissed : 1
    const later = newestTimes(cron, timezone, most, from, now)
    const ticks = later.length < most ? [from, ...later] : later
    return { cron, timezone, missed, from, ticks, next: nextTime(cron, timezone, now) }
  } catch (error) {
    if (!(error instanceof GopherQueueError)) throw error
    return { cron, timezone, missed, from, ticks: [], next: null, unreadable: error }
  }
}

/** Takes the ticks of one schedule until the step is over: false when some are left, which the plan then starts with. */
function fire(db: Db, row: Row, plan: Plan, full: GopherQueueError | null, end: number): boolean {
  const { name, overlap, missed, owed_at: owed } = row
  const before = row.problem === null ? null : (JSON.parse(row.problem) as Problem)
  let problem = plan.unreadable ? told(db, plan.unreadable) : null
  if (missed === 'skip' && owed !== null && plan.ticks[0] !== owed) lose(db, name, owed, before)
  let job = row.last_job
  let taken = 0
  let refused = false
  for (const tick of plan.ticks) {
    if (refused || (taken > 0 && db.clock.monotonic() >= end)) break
    taken++
    if (missed === 'skip' && db.now - tick >= missedAfter) {
      if (tick === owed) lose(db, name, tick, before)
      continue
    }
    if (overlap === 'skip' && job !== null && lives(db, job)) continue
    const outcome = submitTick(db, row, tick, full)
    problem = 'id' in outcome ? null : told(db, outcome.refused)
    if ('id' in outcome) job = outcome.id
    else if (refusals.has(outcome.refused.code)) refused = true
    else lose(db, name, tick, problem)
  }
  if (refused) taken--
  const left = plan.ticks[taken]
  const next = refused ? Math.min(again(db.now, left!), plan.next ?? Number.POSITIVE_INFINITY) : (left ?? plan.next)
  db.run(
    `UPDATE gq_schedules
     SET last_at = COALESCE(?2, last_at), last_job = ?3, next_at = ?4, owed_at = ?5, problem = ?6 WHERE name = ?1`,
    ...[name, plan.ticks[taken - 1] ?? null, job, next, refused ? left! : null, problem && JSON.stringify(problem)],
  )
  db.soonest = Math.min(db.soonest, next ?? db.soonest)
  if (left === undefined || refused) return true
  plan.from = left
  plan.ticks = plan.ticks.slice(taken)
  return false
}

/** When a tick that was refused is tried again. */
const again = (now: number, tick: number): number =>
  now + Math.min(Math.max(retry.first, Math.floor((now - tick) / 10)), retry.longest)

function submitTick(
  db: Db,
  { name, spec, payload }: Row,
  tick: number,
  full: GopherQueueError | null,
): { id: number } | { refused: GopherQueueError } {
  try {
    if (full) throw full
    // The key is the unique row of this schedule and tick: however the clock jumps, a tick is one job.
    const submission = { specs: JSON.parse(spec) as JobSpec, payloads: [payload], keys: [`schedule ${name} ${tick}`] }
    const id = submit(db, submission).ids[0]!
    db.run(`UPDATE gq_jobs SET tick = ?2 WHERE id = ?1`, id, tick)
    return { id }
  } catch (error) {
    if (!(error instanceof GopherQueueError)) throw error
    return { refused: error }
  }
}

type Problem = NonNullable<Schedule['problem']>
const told = (db: Db, { code, message }: GopherQueueError): Problem => ({ code, message, at: db.now })

function lose(db: Db, schedule: string, tick: number, why: Problem | null): void {
  if (why) db.events.push({ event: 'tickLost', schedule, tick, code: why.code, message: why.message })
}

const lives = (db: Db, job: number) =>
  db.get(`SELECT 1 FROM gq_jobs WHERE id = ?1 AND state IN ('scheduled', 'ready', 'running')`, job) !== undefined
