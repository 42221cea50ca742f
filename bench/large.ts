import { hostname } from 'node:os'
import { systemClock } from '../src/model/clock.ts'
import { connect } from '../src/store/sqlite/connection.ts'
import { systemProcesses } from '../src/store/sqlite/processes.ts'

/** How much of everything a file holds. */
export interface Size {
  jobs: number
  queues: number
  schedules: number
  workers: number
  sources: number
  /** Jobs that one process holds which is gone, or whose lease is over. */
  held: number
}

/** The size that is promised, made smaller by `scale`. */
export function sizeOf(scale: number): Size {
  const n = (count: number) => Math.max(10, Math.round(count * scale))
  return {
    ...{ jobs: n(1_000_000), queues: n(20_000), schedules: n(2000) },
    ...{ workers: n(20_000), sources: n(1000), held: n(5000) },
  }
}

export const day = 86_400_000
const types = 5
const numbers = (count: number, from = 0) =>
  `(WITH RECURSIVE c(n) AS (SELECT ${from} UNION ALL SELECT n + 1 FROM c WHERE n < ${from + count - 1}) SELECT n FROM c)`

/** The lines that a worker takes jobs of: as many queues as it may have sources. */
export const sourcesOf = ({ queues, sources }: Size) =>
  Array.from({ length: sources }, (_, i) => ({ queue: `q${i % queues}`, type: `t${i % types}` }))

/** Counts of queues as the jobs say, after rows were written without the engine. */
export const recount = `
  INSERT INTO gq_queues (name) SELECT DISTINCT queue FROM gq_jobs WHERE 1 ON CONFLICT DO NOTHING;
  UPDATE gq_queues SET scheduled = 0, ready = 0, running = 0, succeeded = 0, dead = 0, cancelled = 0;
  UPDATE gq_queues SET scheduled = n.scheduled, ready = n.ready, running = n.running, succeeded = n.succeeded,
    dead = n.dead, cancelled = n.cancelled
  FROM (SELECT queue, SUM(state = 'scheduled') AS scheduled, SUM(state = 'ready') AS ready, SUM(state = 'running') AS running,
          SUM(state = 'succeeded') AS succeeded, SUM(state = 'dead') AS dead, SUM(state = 'cancelled') AS cancelled
        FROM gq_jobs GROUP BY queue) AS n
  WHERE n.queue = name`

const identity = { ...systemProcesses.me, host: hostname() }

/** A worker of this host whose process is gone, with `held` running jobs. */
export function deadWorker({ held }: Size): string {
  const { host, boot, pid_space: space } = identity
  return `
    INSERT INTO gq_workers (id, name, sources, slots, host, pid, pid_started, boot, pid_space, instance, started_at, seen_at)
    VALUES (900000001, 'gone', '[]', ${held}, '${host}', 4194303, '1', '${boot}', '${space}', 'gone', 1, ${Date.now()});
    ${running(held, 900000001, day)}`
}

/** Ready jobs that a worker took long ago, each with a lease of so many ms from now. */
export const running = (count: number, worker: number | string, left: number): string => `
    UPDATE gq_jobs SET state = 'running', attempt = attempt + 1, lease_token = id, lease_seq = id, worker_id = ${worker},
      started_at = ${Date.now() - 5000}, lease_expires_at = ${Date.now() + left}, visibility_timeout = ${day}, timeout = ${day}
    WHERE id IN (SELECT id FROM gq_jobs WHERE state = 'ready' ORDER BY id LIMIT ${count})`

/** A file of that size in which nothing is due: each measurement makes due what it is about. */
export function fillLarge(path: string, size: Size): void {
  const { connection: db } = connect(path, systemClock)
  const now = Date.now()
  const { jobs, queues, schedules, workers } = size
  const tomorrow = now + day
  const state = `CASE n % 10 WHEN 0 THEN 'dead' WHEN 1 THEN 'succeeded' WHEN 2 THEN 'succeeded' WHEN 3 THEN 'scheduled' ELSE 'ready' END`
  db.exec('PRAGMA synchronous = OFF; PRAGMA cache_size = -200000; BEGIN')
  db.exec(`INSERT INTO gq_queues (name) SELECT 'q' || n FROM ${numbers(queues)}`)
  db.exec(`
    INSERT INTO gq_jobs (queue, type, blocked, payload, created_at, state, attempt, run_at, finished_at, prune_at, result, reason)
    SELECT 'q' || (n % ${queues}), 't' || (n / ${queues} % ${types}), 0,
      '{"to":"someone@example.com","body":"${'x'.repeat(100)}"}', ${now} - 1000, ${state},
      n % 10 IN (0, 1, 2), CASE n % 10 WHEN 3 THEN ${tomorrow} END, CASE WHEN n % 10 < 3 THEN ${now} END,
      CASE WHEN n % 10 IN (1, 2) THEN ${tomorrow} END, CASE WHEN n % 10 IN (1, 2) THEN 'null' END,
      CASE n % 10 WHEN 0 THEN 'exhausted' END
    FROM ${numbers(jobs)};
    INSERT INTO gq_attempts (job_id, attempt, worker, started_at, finished_at, outcome, error_name, error_message, error_stack)
    SELECT id, 1, 'w', ${now} - 10, ${now}, 'failed', 'Error', 'no answer from host ' || id % 50, 'Error: no answer'
    FROM gq_jobs WHERE state = 'dead';
    INSERT INTO gq_keys SELECT queue, type, 'key ' || id, id, 'digest', ${tomorrow} FROM gq_jobs WHERE state = 'dead'`)
  const sources = JSON.stringify(sourcesOf(size))
  db.prepare(
    `INSERT INTO gq_workers (name, sources, slots, host, instance, started_at, seen_at)
     SELECT 'w' || n, ?1, 10, 'elsewhere', 'i' || n, ?2, ?2 FROM ${numbers(workers)}`,
  ).run(sources, now)
  db.exec(running(workers, `(SELECT MIN(id) FROM gq_workers) + id % ${workers}`, day))
  const spec = `json_object('queue', 'q' || n, 'type', 't0', 'priority', 2, 'maxAttempts', 12, 'backoff', null, 'timeout', 900000,
    'onTimeout', 'retry', 'visibilityTimeout', 30000, 'delay', 0, 'runAt', null, 'deadline', null, 'deadlineIn', null,
    'idempotencyWindow', ${day}, 'concurrencyKey', null)`
  const by = JSON.stringify([identity]).replaceAll("'", "''")
  db.exec(`
    INSERT INTO gq_schedules (name, cron, timezone, spec, payload, missed, overlap, next_at, defined_at, defined_by)
    SELECT 's' || n, '* * * * *', 'Europe/Berlin', ${spec}, 'null',
      CASE n % 3 WHEN 0 THEN 'once' WHEN 1 THEN 'all' ELSE 'skip' END, 'allow', ${tomorrow}, ${now}, '${by}'
    FROM ${numbers(schedules)}`)
  db.exec(recount)
  db.exec('COMMIT; PRAGMA wal_checkpoint(TRUNCATE)')
  db.close()
}
