import { parseBackoff } from '../../model/backoff.ts'
import { shortError } from '../../model/cause.ts'
import { isExact } from '../../model/exact.ts'
import { type Job, priorities } from '../../model/job.ts'
import { fromJson } from '../../model/json.ts'
import type { Input, JobPage, Output, QueueStats, Source, Stats, Worker } from '../store.ts'
import { budgets, firstWithin } from './budget.ts'
import { type Db, line } from './db.ts'
import { largest } from './listed.ts'
import { forgottenQueues } from './names.ts'
import { isUsedUp } from './rate.ts'
import { pick, pickDue } from './search.ts'
import { fileStats } from './space.ts'
import { isWorking, type WorkerRow, workerColumns } from './workers.ts'

const selectJob = `SELECT j.id, j.queue, j.type, j.priority, j.state, j.payload, j.attempt, j.budget_from, j.max_attempts AS maxAttempts, j.postponed,
    j.backoff, j.timeout, j.on_timeout AS onTimeout, j.visibility_timeout AS visibilityTimeout, j.run_at AS runAt, j.deadline,
    j.created_at AS createdAt, j.tick, j.started_at AS startedAt, j.finished_at AS finishedAt, j.lease_expires_at AS leaseExpiresAt,
    w.name AS worker, j.company, CASE WHEN j.state <> 'succeeded' THEN (
      SELECT json_array(error_name, substr(error_message, 1, 2000)) FROM gq_attempts WHERE job_id = j.id ORDER BY attempt DESC LIMIT 1
    ) END AS lastError, j.cancel_requested_at AS cancelRequestedAt,
    j.progress AS percent, j.progress_message AS message, j.result, j.warning, j.reason, j.idempotency_key AS idempotencyKey,
    j.unique_key AS uniqueKey, j.concurrency_key AS concurrencyKey
  FROM gq_jobs j LEFT JOIN gq_workers w ON w.id = j.worker_id`

type JobRow = Omit<Job, 'priority' | 'payload' | 'backoff' | 'result' | 'attemptsLeft' | 'progress'> & {
  percent: number | null
  message: string | null
  budget_from: number
  priority: number
  payload: string
  backoff: string | null
  result: string | null
}

/** JSON, or the text itself where the file was damaged, or JSON.parse would show other numbers: people have to see the job. */
function readable(json: string): unknown {
  try {
    return fromJson('payload', json)
  } catch {
    return json
  }
}

/** As `selectJob`, and whether SQLite finds the texts to be JSON: it takes a tenth of what JSON.parse takes of many members. */
const selectTexts = selectJob.replace('SELECT', 'SELECT json_valid(j.payload) AND (j.result IS NULL OR json_valid(j.result)) AS sound,') // biome-ignore format: one line

/** The same as a JSON text. `sound`: it is JSON, and only its numbers may be shown as others. */
function readableText(json: string, sound: boolean): string {
  if (sound && isExact(json)) return json
  return readable(json) === json ? JSON.stringify(json) : json
}

function toJob(
  { budget_from, payload, result, backoff, priority, percent, message, ...rest }: JobRow,
  shown: (json: string) => unknown = readable,
): Job {
  return {
    ...rest,
    company: rest.state === 'succeeded' ? null : rest.company, // its restriction is over
    priority: priorities[priority]!,
    payload: shown(payload),
    backoff: parseBackoff(backoff),
    progress: percent === null ? null : { percent, message },
    result: result === null ? null : shown(result),
    lastError: rest.lastError === null ? null : errorOf(rest.lastError),
    attemptsLeft: Math.max(0, rest.maxAttempts - (rest.attempt - budget_from)),
  }
}

function errorOf(json: string): string {
  const [name, message] = JSON.parse(json) as (string | null)[]
  return shortError({ name: name ?? '', message: message ?? '' })
}

export function job(db: Db, id: number): Job | null {
  const row = db.get<JobRow>(`${selectJob} WHERE j.id = ?1`, id)
  return row ? toJob(row) : null
}

/** Those of `ids` that are in a terminal state or gone. */
export function endedAmong(db: Db, ids: number[]): number[] {
  const rows = db.all<{ id: number }>(
    `SELECT value AS id FROM json_each(?1)
     WHERE NOT EXISTS (SELECT 1 FROM gq_jobs WHERE id = value AND state IN ('scheduled', 'ready', 'running'))`,
    JSON.stringify(ids),
  )
  return rows.map((row) => row.id)
}

/** Of many lines those that have ready jobs, told by one statement a queue: most of hundreds of types have none. */
export function readyAmong(db: Db, sources: Source[]): Source[] {
  if (sources.length < 4) return sources // to look at each costs no more
  const types = new Map(sources.map(({ queue }) => [queue, new Set<string>()]))
  for (const [queue, ready] of types)
    for (const { type } of db.all<{ type: string }>(readyTypes, queue)) ready.add(type)
  return sources.filter(({ queue, type }) => types.get(queue)!.has(type))
}

/** By hopping over index gq_jobs_ready from one to the next. */
const readyTypes = `WITH RECURSIVE hop (type) AS (
    SELECT MIN(type) FROM gq_jobs WHERE state = 'ready' AND blocked = 0 AND queue = ?1
    UNION ALL
    SELECT (SELECT MIN(type) FROM gq_jobs WHERE state = 'ready' AND blocked = 0 AND queue = ?1 AND type > hop.type)
    FROM hop WHERE type IS NOT NULL)
  SELECT type FROM hop WHERE type IS NOT NULL`

/** Whether a line has a job that may run. */
export function mayLease(db: Db, { queue, type }: Source): boolean {
  const row = db.get(
    `SELECT 1 FROM gq_jobs
     WHERE state = 'ready' AND blocked = 0 AND queue = ?1 AND type = ?2
       AND NOT EXISTS (SELECT 1 FROM gq_queues WHERE name = ?1 AND (paused = 1 OR running >= max_running OR ${isUsedUp('?3')})) LIMIT 1`,
    ...[queue, type, db.clock.now()],
  )
  return row !== undefined
}

/** The running jobs of some workers. */
export function runningOf(
  db: Db,
  workers: number[],
): { id: number; token: number; cancelRequestedAt: number | null }[] {
  return db.all(
    `SELECT id, lease_token AS token, cancel_requested_at AS cancelRequestedAt FROM gq_jobs
     WHERE state = 'running' AND worker_id IN (SELECT value FROM json_each(?1))`,
    JSON.stringify(workers),
  )
}

/** One page of jobs by id, from the end or the start. */
export function jobs(db: Db, { asText = false, ...filter }: Input<'jobs'>): JobPage {
  const { ids: found, next, places = found } = filter.order === 'due' ? pickDue(db, filter) : pick(db, filter)
  const ids = firstWithin(db, found, budgets.page)
  const select = asText ? selectTexts : selectJob
  const rows = db.all<JobRow & { sound?: 0 | 1 }>(`${select} WHERE j.id IN (SELECT value FROM json_each(?1))`, JSON.stringify(ids)) // biome-ignore format: one line
  const made = ({ sound, ...row }: (typeof rows)[0]) => toJob(row, asText ? (json) => readableText(json, sound === 1) : readable) // biome-ignore format: one line
  const jobs = new Map(rows.map((row) => [row.id, made(row)]))
  return { jobs: ids.map((id) => jobs.get(id)!), next: ids.length < found.length ? places[ids.length - 1]! : next }
}

/** Most workers of an answer, most sources of each, and of all; and how much of sources is read to find types that nobody handles. */
const most = { workers: 1000, sources: 1000, sourcesOfAll: 50_000, bytes: 16 * 1024 * 1024 }

/** Those that signed on first, and how many are `left`. `handled`: the lines of all that live; null when they are too many to be read. */
function workers(db: Db): { workers: Worker[]; left: number; handled: Set<string> | null } {
  const all = db.get<{ count: number; bytes: number }>(
    `SELECT COUNT(*) AS count, COALESCE(SUM(octet_length(sources)), 0) AS bytes FROM gq_workers WHERE ended_at IS NULL`,
  )!
  const readsAll = all.bytes <= most.bytes
  const rows = db.all<WorkerRow>(
    `SELECT ${workerColumns}, slots, CASE WHEN ?1 OR octet_length(sources) < 100000 THEN sources ELSE '[]' END AS sources
     FROM gq_workers WHERE ended_at IS NULL ORDER BY id LIMIT +?2`,
    ...[Number(readsAll), readsAll ? -1 : most.workers],
  )
  const counts = db.all<{ worker: number; running: number }>(
    `SELECT worker_id AS worker, COUNT(*) AS running FROM gq_jobs WHERE state = 'running' GROUP BY worker_id`,
  )
  const running = new Map(counts.map((row) => [row.worker, row.running]))
  const handled = new Set<string>()
  const listed: Worker[] = []
  let sourcesLeft = most.sourcesOfAll
  for (const row of rows) {
    const sources = JSON.parse(row.sources) as Source[]
    const alive = isWorking(db, row)
    if (alive && readsAll) for (const { queue, type } of sources) handled.add(line(queue, type))
    sourcesLeft -= Math.min(most.sources, sources.length)
    if (listed.length >= most.workers || sourcesLeft < 0) continue
    listed.push({
      ...{ id: row.id, name: row.name, slots: row.slots, pid: row.pid, host: row.host, alive },
      ...{ sources: sources.slice(0, most.sources), sourceCount: sources.length },
      ...{ startedAt: row.started_at, seenAt: row.seen_at, running: running.get(row.id) ?? 0 },
    })
  }
  return { workers: listed, left: all.count - listed.length, handled: readsAll ? handled : null }
}

const namesPerPage = 10_000
/** Sorts behind each rest of a name, which has 128 characters at most. */
const lastRest = '\u{10FFFF}'.repeat(64)

/** A range of the table's key. To count 20,000 rows takes 1 ms, to read their names 14: an idle worker asks each second. */
export function queueNames(
  db: Db,
  { prefix = '', after = '', known = 0, forgotten = 0 }: Input<'queueNames'>,
): Output<'queueNames'> {
  const range = [prefix, `${prefix}${lastRest}`] as const
  const { count } = db.get<{ count: number }>(
    `SELECT COUNT(*) AS count FROM gq_queues WHERE name BETWEEN ?1 AND ?2`,
    ...range,
  )!
  const { queues: gone } = forgottenQueues(db)
  if (count === known && gone === forgotten) return { names: [], next: null, count, forgotten: gone }
  const rows = db.arrays(
    `SELECT name FROM gq_queues WHERE name BETWEEN ?1 AND ?2 AND name > ?3 ORDER BY name LIMIT ${namesPerPage}`,
    ...range,
    after,
  )
  const names = rows.map(([name]) => name as string)
  return { names, next: names.length < namesPerPage ? null : names.at(-1)!, count, forgotten: gone }
}

/** Most lines with ready jobs that are told. */
const mostLines = 2000

/** Counts come from the queues' own counters: the cost does not depend on how many jobs there are. */
export function stats(db: Db): Stats {
  const { queues, others } = largest(db)
  const { workers: listed, left, handled } = workers(db)
  const lines = readyLines(db, queues)
  queues.sort((a, b) => (a.queue < b.queue ? -1 : 1))
  lines.sort((a, b) => (a.queue < b.queue ? -1 : Number(a.queue > b.queue)))
  const paused = new Set(queues.filter((queue) => queue.paused).map(({ queue }) => queue))
  const oldest = lines.reduce((first, line) => (paused.has(line.queue) ? first : Math.min(first, line.oldest)), Number.POSITIVE_INFINITY) // biome-ignore format: long
  const unhandled = handled ? lines.filter((one) => !handled.has(line(one.queue, one.type))) : []
  return {
    queues,
    others: { ...others, workers: left, lines: lines.length >= mostLines },
    workers: listed,
    unhandled: [...new Map(unhandled.map(({ queue, type }) => [line(queue, type), { queue, type }])).values()],
    oldestReadyMs: oldest === Number.POSITIVE_INFINITY ? null : Math.max(0, db.now - oldest),
    waiting: lines.map(({ queue, type, priority, oldest, atLeast }) => {
      return { queue, type, priority: priorities[priority]!, oldestReadyMs: Math.max(0, db.now - oldest), atLeast }
    }),
    file: fileStats(db),
    server: null,
  }
}

/** Most jobs of a line that are looked at for its oldest. */
const headsLookedAt = 1000

/**
 * Each (queue, type, class) that has ready jobs, by hopping over index gq_jobs_ready from one to the next; since when the
 * oldest of them is ready. That is the first which was ready when it was stored, or one before that: those behind it were
 * stored later.
 */
function readyLines(db: Db, queues: QueueStats[]): (Source & { priority: number; oldest: number; atLeast: boolean })[] {
  const heads = `SELECT created_at, ready_at FROM gq_jobs
    WHERE state = 'ready' AND blocked = 0 AND queue = j.queue AND type = j.type AND priority = j.priority ORDER BY id LIMIT ${headsLookedAt}`
  const lines: ReturnType<typeof readyLines> = []
  for (const { queue, counts } of queues) {
    if (counts.ready === 0) continue
    for (let at = { type: '', priority: -1 }; lines.length < mostLines; at = lines.at(-1)!) {
      const row = db.get<Source & { priority: number; oldest: number; returned: number }>(
        `SELECT queue, type, priority,
           CASE WHEN ready_at IS NULL THEN created_at ELSE (SELECT MIN(COALESCE(ready_at, created_at)) FROM (${heads}) AS heads) END AS oldest,
           CASE WHEN ready_at IS NULL THEN 0 ELSE (SELECT COUNT(ready_at) FROM (${heads}) AS heads) END AS returned
         FROM gq_jobs j
         WHERE state = 'ready' AND blocked = 0 AND queue = ?1 AND (type, priority) > (?2, ?3)
         ORDER BY type, priority, id LIMIT 1`,
        ...[queue, at.type, at.priority],
      )
      if (!row) break
      const { returned, ...line } = row
      lines.push({ ...line, atLeast: returned === headsLookedAt })
    }
  }
  return lines
}
