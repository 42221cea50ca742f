import { nextTimes } from '../../model/cron.ts'
import { GopherQueueError, isQueueError } from '../../model/errors.ts'
import type { JobSpec } from '../../model/job.ts'
import type { Schedule, ScheduleSettings } from '../store.ts'
import type { Db } from './db.ts'
import { submit } from './submit.ts'
import { type Identity, isSame, isWorking, type WorkerRow } from './workers.ts'

/** A tick that nobody took within this time was missed. */
const missedAfter = 60_000
const mostMissed = 1000

interface Row extends Omit<ScheduleSettings, 'spec'> {
  spec: string
  next_at: number
  last_job: number | null
}

/** Defines a schedule, or updates it: its ticks go on from now if they changed, else from where they were. */
export function setSchedule(db: Db, settings: ScheduleSettings): null {
  const { name, cron, timezone, spec, payload, missed, overlap } = settings
  const next = tickAfter(cron, timezone, db.now)
  db.soonest = Math.min(db.soonest, next ?? db.soonest)
  const found = db.get<{ by: string }>(`SELECT defined_by AS by FROM gq_schedules WHERE name = ?1`, name)
  const { me, isAlive } = db.processes
  const others = (JSON.parse(found?.by ?? '[]') as Identity[]).filter((one) => isAlive(one) && !isSame(one, me))
  db.run(
    `INSERT INTO gq_schedules (name, cron, timezone, spec, payload, missed, overlap, next_at, defined_at, defined_by)
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
     ON CONFLICT DO UPDATE SET cron = ?2, timezone = ?3, spec = ?4, payload = ?5, missed = ?6, overlap = ?7, defined_at = ?9,
       defined_by = ?10, next_at = CASE WHEN cron = ?2 AND timezone = ?3 THEN next_at ELSE ?8 END`,
    ...[
      name,
      cron,
      timezone,
      JSON.stringify(spec),
      payload,
      missed,
      overlap,
      next,
      db.now,
      JSON.stringify([...others, me]),
    ],
  )
  return null
}

/** Paused, it has no ticks; resumed, the ticks in between count as never meant. */
export function pauseSchedule(db: Db, { name, paused }: { name: string; paused: boolean }): null {
  const { cron, timezone } = find(db, name)
  db.run(
    `UPDATE gq_schedules SET paused = ?2, next_at = CASE WHEN ?2 = paused THEN next_at ELSE ?3 END WHERE name = ?1`,
    ...[name, Number(paused), tickAfter(cron, timezone, db.now)],
  )
  return null
}

export function removeSchedule(db: Db, name: string): null {
  find(db, name)
  db.run(`DELETE FROM gq_schedules WHERE name = ?1`, name)
  return null
}

export function schedules(db: Db): Schedule[] {
  type Shown = Omit<Schedule, 'queue' | 'type' | 'paused' | 'inCode'>
  const rows = db.all<Shown & { spec: string; payload: string; paused: number; by: string }>(
    `SELECT name, cron, timezone, spec, payload, missed, overlap, paused, next_at AS nextAt, last_at AS lastAt,
            last_job AS lastJob, defined_at AS definedAt, defined_by AS "by"
     FROM gq_schedules ORDER BY name`,
  )
  const working = db
    .all<WorkerRow>(`SELECT * FROM gq_workers WHERE ended_at IS NULL`)
    .filter((worker) => isWorking(db, worker))
  return rows.map(({ spec, payload, paused, by, ...rest }) => {
    const { queue, type } = JSON.parse(spec) as JobSpec
    // Where it cannot be told whether a process runs, it does if it works, or if no worker is newer than its word.
    const runs = (one: Identity) =>
      db.processes.isAlive(one) ?? working.some((worker) => isSame(worker, one) || worker.started_at <= rest.definedAt)
    const inCode = working.length === 0 || (JSON.parse(by) as Identity[]).some(runs)
    return { ...rest, queue, type, payload: JSON.parse(payload), paused: paused === 1, inCode }
  })
}

/** Its ticks go on as if this had not been, but `overlap` counts the job. */
export function runSchedule(db: Db, name: string): number {
  const { spec, payload } = find(db, name)
  const [id] = submit(db, { specs: JSON.parse(spec) as JobSpec, payloads: [payload], keys: null }).ids
  db.run(`UPDATE gq_schedules SET last_job = ?2 WHERE name = ?1`, name, id!)
  return id!
}

export const schedulesDue = `EXISTS (SELECT 1 FROM gq_schedules WHERE paused = 0 AND next_at IS NOT NULL AND next_at <= ?1)`

/** The next tick of any schedule, or null. */
export function nextTick(db: Db): number | null {
  return db.get<{ at: number | null }>(
    `SELECT MIN(next_at) AS at FROM gq_schedules WHERE paused = 0 AND next_at IS NOT NULL`,
  )!.at
}

/** Submits what is due. The write lock and `next_at` see to it that each tick is taken once, by whichever process comes first. */
export function fireSchedules(db: Db): void {
  const due = db.all<Row>(
    `SELECT name, cron, timezone, spec, payload, missed, overlap, next_at, last_job FROM gq_schedules
     WHERE paused = 0 AND next_at IS NOT NULL AND next_at <= ?1 ORDER BY next_at, name`,
    db.now,
  )
  for (const row of due) fire(db, row)
}

function fire(db: Db, { name, cron, timezone, spec, payload, missed, overlap, next_at, last_job }: Row): void {
  let job = last_job
  let last = next_at
  for (const tick of ticksOf(cron, timezone, missed, next_at, db.now)) {
    last = tick
    if (overlap === 'skip' && job !== null && lives(db, job)) continue
    try {
      // The key is the unique row of this schedule and tick: however the clock jumps, a tick is one job.
      const submission = { specs: JSON.parse(spec) as JobSpec, payloads: [payload], keys: [`schedule ${name} ${tick}`] }
      job = submit(db, submission).ids[0]!
    } catch (error) {
      if (!isQueueError(error)) throw error
      db.events.push({ event: 'tickLost', schedule: name, tick, code: error.code, message: error.message })
    }
  }
  db.run(
    `UPDATE gq_schedules SET last_at = ?2, last_job = ?3, next_at = ?4 WHERE name = ?1`,
    ...[name, last, job, tickAfter(cron, timezone, db.now)],
  )
}

/** Of the ticks from `first` to `now`, those that are worth a job. */
function ticksOf(
  cron: string,
  timezone: string,
  missed: 'skip' | 'once' | 'all',
  first: number,
  now: number,
): number[] {
  const ticks = [first]
  for (
    let tick = tickAfter(cron, timezone, first);
    tick !== null && tick <= now;
    tick = tickAfter(cron, timezone, tick)
  )
    if (ticks.push(tick) >= mostMissed) break
  if (missed === 'all') return ticks
  return missed === 'once' ? ticks.slice(-1) : ticks.filter((tick) => now - tick < missedAfter).slice(-1)
}

const tickAfter = (cron: string, timezone: string, after: number) => nextTimes(cron, timezone, 1, after)[0] ?? null

const lives = (db: Db, job: number) =>
  db.get(`SELECT 1 FROM gq_jobs WHERE id = ?1 AND state IN ('scheduled', 'ready', 'running')`, job) !== undefined

function find(db: Db, name: string): Pick<Row, 'cron' | 'timezone' | 'spec' | 'payload'> {
  const row = db.get<Row>(`SELECT cron, timezone, spec, payload FROM gq_schedules WHERE name = ?1`, name)
  if (!row) throw new GopherQueueError('NOT_FOUND', `There is no schedule '${name}'. Nothing was changed.`)
  return row
}
