import type { Instant } from '../../model/clock.ts'
import { nextTime } from '../../model/cron.ts'
import { GopherQueueError, invalid } from '../../model/errors.ts'
import type { JobSpec } from '../../model/job.ts'
import type { Input, Schedule, SchedulePage, ScheduleSettings } from '../store.ts'
import { budgets, countWithin } from './budget.ts'
import type { Db } from './db.ts'
import { makeQueue, mayForget } from './names.ts'
import { type Identity, isSame } from './processes.ts'
import type { Request } from './request.ts'
import { specOf, submit } from './submit.ts'
import { planOwed, takeOwed } from './ticks.ts'
import { isWorking, type WorkerOf, workerColumns } from './workers.ts'

/**
 * Defines a schedule, or updates it: its ticks go on from now if they changed, else from where they were. What the old
 * line owes is taken first.
 */
export function setSchedule(db: Db, settings: ScheduleSettings): null {
  const { name, cron, timezone, spec, payload, missed, overlap } = settings
  const next = nextTime(cron, timezone, db.now)
  const found = db.get<{ by: string; same: number; queue: string }>(
    `SELECT defined_by AS by, spec ->> '$.queue' AS queue, cron = ?2 AND timezone = ?3 AS same FROM gq_schedules WHERE name = ?1`,
    ...[name, cron, timezone],
  )
  // A line that has ended may be defined again: else the program that has it in its code would not start any more.
  if (next === null && !found?.same)
    throw invalid(`'${cron}' in time zone '${timezone}' has no next tick: no such time comes again: correct the line.`) // biome-ignore format: long
  takeOwed(db, settings)
  keepQueue(db, spec.queue)
  if (found) mayForget(db, found.queue)
  db.soonest = Math.min(db.soonest, next ?? db.soonest)
  const { me, isAlive } = db.processes
  const others = (JSON.parse(found?.by ?? '[]') as Identity[]).filter((one) => isAlive(one) && !isSame(one, me))
  const same = 'gq_schedules.cron = ?2 AND gq_schedules.timezone = ?3'
  db.run(
    `INSERT INTO gq_schedules (name, cron, timezone, spec, payload, missed, overlap, next_at, defined_at, defined_by)
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
     ON CONFLICT (name) DO UPDATE SET cron = ?2, timezone = ?3, spec = ?4, payload = ?5, missed = ?6, overlap = ?7,
       defined_at = ?9, defined_by = ?10, next_at = CASE WHEN ${same} THEN gq_schedules.next_at ELSE ?8 END,
       owed_at = CASE WHEN ${same} THEN gq_schedules.owed_at END,
       problem = CASE WHEN ${same} THEN gq_schedules.problem END`,
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

/** A queue that a schedule names is one of the file's, also before its first tick. */
function keepQueue(db: Db, name: string): void {
  const row = db.queue(name)
  if (!row.isNew) return
  makeQueue(db, row)
  db.run('INSERT INTO gq_queues (name, changed) VALUES (?1, ?2)', name, db.nextChange())
}

/**
 * Looks at the cron lines of requests before the write lock is taken: the first look at a line and a time zone takes up to
 * 75 ms, the next ones are remembered. What is wrong with a line the operation tells.
 */
export function preview(db: Db, now: Instant, requests: Request[]): void {
  for (const { operation, input } of requests) {
    if (operation !== 'setSchedule' && operation !== 'pauseSchedule') continue
    try {
      const { name } = input as ScheduleSettings
      const { cron, timezone } = operation === 'setSchedule' ? (input as ScheduleSettings) : find(db, name)
      nextTime(cron, timezone, now)
      if (operation === 'setSchedule') planOwed(db, now, input as ScheduleSettings)
    } catch {
      // as told above
    }
  }
}

/** Paused, it has no ticks; resumed, the ticks in between count as never meant. */
export function pauseSchedule(db: Db, { name, paused }: { name: string; paused: boolean }): null {
  const { cron, timezone } = find(db, name)
  db.run(
    `UPDATE gq_schedules
     SET paused = ?2, next_at = CASE WHEN ?2 = paused THEN next_at ELSE ?3 END, owed_at = CASE WHEN ?2 = paused THEN owed_at END
     WHERE name = ?1`,
    ...[name, Number(paused), nextTime(cron, timezone, db.now)],
  )
  return null
}

export function removeSchedule(db: Db, name: string): null {
  const { queue } = specOf(find(db, name).spec)
  mayForget(db, queue)
  db.run(`DELETE FROM gq_schedules WHERE name = ?1`, name)
  return null
}

const schedulesPerPage = 1000

/** A page of them, in the order of their names. What is not within its budget is on the next one, and is not read here. */
export function schedules(
  db: Db,
  { after, limit = schedulesPerPage, payloads = true }: Input<'schedules'>,
): SchedulePage {
  // biome-ignore format: long
  const found = db.arrays(
    `SELECT name, octet_length(spec) + ${payloads ? 'octet_length(payload)' : 0} FROM gq_schedules
     WHERE name >= ?1 AND name IS DISTINCT FROM ?2 ORDER BY name LIMIT +?3`,
    ...[after ?? '', after ?? null, limit],
  ) as [string, number][]
  const names = found.slice(0, countWithin(found.map(([, bytes]) => bytes), budgets.page.most)).map(([name]) => name) // biome-ignore format: long
  const [first, last] = [names[0], names.at(-1)]
  if (first === undefined || last === undefined) return { schedules: [], next: null }
  const isLast = names.length === found.length && found.length < limit
  return { schedules: schedulesOf(db, first, last, payloads), next: isLast ? null : last }
}

function schedulesOf(db: Db, first: string, last: string, payloads: boolean): Schedule[] {
  type Shown = Omit<Schedule, 'queue' | 'type' | 'paused' | 'inCode' | 'problem'>
  const rows = db.all<
    Shown & { spec: string; payload: string | null; paused: number; by: string; trouble: string | null }
  >(
    `SELECT name, cron, timezone, spec, ${payloads ? 'payload' : 'NULL AS payload'}, missed, overlap, paused, next_at AS nextAt,
            last_at AS lastAt, last_job AS lastJob, defined_at AS definedAt, defined_by AS "by", problem AS trouble
     FROM gq_schedules WHERE name BETWEEN ?1 AND ?2 ORDER BY name`,
    ...[first, last],
  )
  const working = db
    .all<WorkerOf>(`SELECT ${workerColumns} FROM gq_workers WHERE ended_at IS NULL`)
    .filter((worker) => isWorking(db, worker))
  return rows.map(({ spec, payload, paused, by, trouble, ...rest }) => {
    const { queue, type } = JSON.parse(spec) as JobSpec
    // Where it cannot be told whether a process runs, it does if it works, or if no worker is newer than its word.
    const runs = (one: Identity) =>
      db.processes.isAlive(one) ?? working.some((worker) => isSame(worker, one) || worker.started_at <= rest.definedAt)
    const inCode = working.length === 0 || (JSON.parse(by) as Identity[]).some(runs)
    const problem = trouble === null ? null : (JSON.parse(trouble) as Schedule['problem'])
    const shown = payload === null ? {} : { payload: JSON.parse(payload) as unknown }
    return { ...rest, queue, type, ...shown, paused: paused === 1, inCode, problem }
  })
}

/** Its ticks go on as if this had not been, but `overlap` counts the job. */
export function runSchedule(db: Db, name: string): number {
  const { spec, payload } = find(db, name)
  const [id] = submit(db, { specs: specOf(spec), payloads: [payload], keys: null }).ids
  db.run(`UPDATE gq_schedules SET last_job = ?2 WHERE name = ?1`, name, id!)
  return id!
}

type Found = Record<'cron' | 'timezone' | 'spec' | 'payload', string>
function find(db: Db, name: string): Found {
  const row = db.get<Found>(`SELECT cron, timezone, spec, payload FROM gq_schedules WHERE name = ?1`, name)
  if (!row) throw new GopherQueueError('NOT_FOUND', `There is no schedule '${name}'. Nothing was changed.`)
  return row
}
