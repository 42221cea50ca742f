import type { DatabaseSync } from 'node:sqlite'

import { failures, isCounting } from './causes.ts'
import { lastNumber } from './session.ts'

// What must hold between the rows of a queue's file, asked of its public tables.

interface Rule {
  name: string
  holds: string
  /** Selects in one column what breaks it. */
  broken: string
  /** It can be so without damage, such as after a salvage. */
  mild?: boolean
  /** What mends it, where no salvage is needed. */
  mend?: string
  /** The table that it asks: one that an older version wrote has none. */
  of?: string
}

/** Selects the highest id or event number that a job has; 0 without jobs. */
export const newestNumber = `SELECT IFNULL(MAX(MAX(id, IFNULL(ready_seq, 0), IFNULL(lease_seq, 0), IFNULL(lease_token, 0))), 0) FROM gq_jobs`

const rules: Rule[] = [
  {
    name: 'counters',
    holds: 'those of gq_queues agree with the jobs',
    // One sort of all rows by queue. A FULL JOIN of the two has no index: it reads every queue for each queue.
    broken: `SELECT 'queue ' || name FROM (
               SELECT name, 1 AS known, scheduled, ready, running, succeeded, dead, cancelled FROM gq_queues
               UNION ALL
               SELECT queue, 0, -(state = 'scheduled'), -(state = 'ready'), -(state = 'running'),
                      -(state = 'succeeded'), -(state = 'dead'), -(state = 'cancelled')
               FROM gq_jobs WHERE blocked < 2)
             GROUP BY name
             HAVING MAX(known) = 0 OR (SUM(scheduled), SUM(ready), SUM(running), SUM(succeeded), SUM(dead),
               SUM(cancelled)) <> (0, 0, 0, 0, 0, 0)`,
  },
  {
    name: 'leases',
    holds: 'each running job, and no other, has one, of a worker that has not ended',
    broken: `SELECT 'job ' || j.id FROM gq_jobs j LEFT JOIN gq_workers w ON w.id = j.worker_id
             WHERE (j.state = 'running') <> (j.lease_token IS NOT NULL AND j.state <> 'succeeded')
               OR (j.state = 'running' AND (w.id IS NULL OR w.ended_at IS NOT NULL))`,
  },
  {
    name: 'keys',
    holds: 'each idempotency key leads to its job',
    broken: `SELECT 'job ' || id FROM gq_jobs j WHERE idempotency_key IS NOT NULL AND blocked < 2 AND NOT EXISTS (
               SELECT 1 FROM gq_keys
               WHERE queue = j.queue AND type = j.type AND key = j.idempotency_key AND job_id = j.id)`,
  },
  {
    name: 'limits',
    holds: 'no job waits for its concurrency key when fewer of it may start than could',
    broken: `SELECT 'key ' || concurrency_key FROM gq_jobs LEFT JOIN gq_queues ON name = queue
             WHERE concurrency_key IS NOT NULL AND (state = 'ready' OR state = 'running') AND settling IS NULL
             GROUP BY queue, type, concurrency_key
             HAVING SUM(state = 'ready' AND blocked = 1) > 0
               AND SUM(state = 'running' OR NOT blocked) < IFNULL(MAX(max_running_per_key), 1)`,
  },
  {
    name: 'attempts',
    holds: 'each has its job',
    broken: `SELECT "table" || ' row ' || rowid FROM pragma_foreign_key_check WHERE "table" LIKE 'gq%'`,
  },
  {
    name: 'history',
    holds: 'each failed attempt of a job is recorded',
    broken: `SELECT 'job ' || id FROM gq_jobs
             LEFT JOIN (SELECT job_id, COUNT(*) AS failed FROM gq_attempts GROUP BY job_id) ON job_id = id
             WHERE IFNULL(failed, 0) <> attempt - (state IN ('running', 'succeeded'))`,
    mild: true,
  },
  {
    name: 'causes',
    holds: 'each dead job and each that fails now is counted under one',
    // Nothing while those of an older file are being counted.
    broken: `SELECT what FROM (
               SELECT 'cause ' || id AS what FROM (
                 SELECT id, jobs FROM gq_causes UNION ALL SELECT cause, -1 FROM gq_jobs WHERE cause IS NOT NULL)
               GROUP BY id HAVING SUM(jobs) <> 0
               UNION ALL
               SELECT 'job ' || j.id FROM gq_jobs j LEFT JOIN gq_causes c ON c.id = j.cause
               WHERE blocked < 2 AND CASE
                 WHEN state = 'dead' OR (finished_at IS NULL AND ${failures} > 0 AND EXISTS (SELECT 1 FROM gq_attempts WHERE job_id = j.id))
                 THEN j.cause IS NULL OR (c.queue, c.type, c.dead) IS NOT (j.queue, j.type, state = 'dead')
                 ELSE j.cause IS NOT NULL END)
             WHERE NOT ${isCounting}`,
    of: 'gq_causes',
    mend: `'gopherqueue doctor --repair' counts them anew`,
  },
  {
    name: 'sequence',
    holds: 'it is ahead of every id and event number',
    broken: `SELECT 'at ' || seq FROM sqlite_sequence WHERE name = 'gq_jobs' AND seq < (${newestNumber})`,
  },
  {
    name: 'numbers',
    holds: 'ids are left for jobs to come',
    broken: `SELECT 'at ' || seq FROM sqlite_sequence WHERE name = 'gq_jobs' AND seq > ${lastNumber}`,
    // Ids that were given before are given by no file again: those of a copy go on there, too.
    mend: `somebody has inserted a job with an id of their own: stop all processes of this queue, run with sqlite3: DELETE FROM gq_jobs WHERE id > ${lastNumber}; UPDATE sqlite_sequence SET seq = MAX((${newestNumber}), (unixepoch() - ${Date.UTC(2026, 0) / 1000}) * 100000) WHERE name = 'gq_jobs'; and insert the job again without an id`,
  },
]

/** A rule, with the first few that break it. */
export type Audited = Omit<Rule, 'broken' | 'of'> & { broken: string[] }

export function audit(db: DatabaseSync): Audited[] {
  const exists = db.prepare('SELECT 1 FROM sqlite_schema WHERE name = ?')
  const some = rules.filter(({ of }) => of === undefined || exists.get(of) !== undefined)
  return [shapes(db), ...some].map((rule) => {
    const rows = db.prepare(`${rule.broken} LIMIT 6`).all()
    return { ...rule, broken: rows.map((row) => `${Object.values(row)[0]}`) }
  })
}

/** The CHECKs of the tables: integrity_check leaves them out on a connection that can only read. */
function shapes(db: DatabaseSync): Rule {
  const tables = db.prepare(
    `SELECT name, sql FROM sqlite_schema WHERE type = 'table' AND name LIKE 'gq\\_%' ESCAPE '\\'`,
  )
  const parts = tables.all().flatMap(({ name, sql }) =>
    checksIn(String(sql)).map((check) => {
      const row = name === 'gq_jobs' ? `'job ' || id` : `'a row of ${name}'`
      return `SELECT * FROM (SELECT ${row} FROM ${name} WHERE NOT (${check}) LIMIT 6)`
    }),
  )
  return { name: 'shapes', holds: 'each row fits its state', broken: parts.join(' UNION ALL ') }
}

function checksIn(sql: string): string[] {
  return sql
    .split('CHECK (')
    .slice(1)
    .map((rest) => {
      let depth = 1
      let end = 0
      for (; depth > 0 && end < rest.length; end++) depth += Number(rest[end] === '(') - Number(rest[end] === ')')
      return rest.slice(0, end - 1)
    })
}

/**
 * Selects the events of all first leases, line by line, each in their sequence. All jobs of one request are taken before
 * each is compared: their order among each other says nothing. A job that gets a place of its concurrency key has the
 * number of the event that came before: it waits from then on.
 */
export const orderEvents = `
  WITH leased AS (
    SELECT id, COALESCE(ready_seq, id) AS ready_seq, lease_seq, DENSE_RANK() OVER (ORDER BY queue, type, priority) AS line,
           ROW_NUMBER() OVER (ORDER BY queue, type, priority, id) - 1 AS place
    FROM gq_jobs WHERE lease_seq IS NOT NULL)
  SELECT event, id, place FROM (
    SELECT 0 AS event, id, place, line, lease_seq AS at FROM leased
    UNION ALL SELECT 1, id, place, line, lease_seq FROM leased
    UNION ALL SELECT 2, id, place, line, ready_seq FROM leased) AS event
  ORDER BY line, at, event`

export type OrderEvent = Record<'event' | 'id' | 'place', number>

/**
 * The proof of order that docs/schema.md gives as a query, in one pass: hears the events of each line and class in their
 * sequence, and compares each first lease with the first of the jobs that wait then.
 */
export class Order {
  readonly #leases: number
  readonly #size: number
  /** A tree: how many wait among the places below each node. */
  readonly #waiting: Int32Array
  readonly #broken: string[] = []

  constructor(leases: number) {
    this.#leases = leases
    this.#size = 2 ** Math.ceil(Math.log2(leases + 1))
    this.#waiting = new Int32Array(2 * this.#size)
  }

  hear({ event, id, place }: OrderEvent): void {
    const [size, waiting] = [this.#size, this.#waiting]
    if (event !== 1) {
      for (let node = size + place; node > 0; node >>= 1) waiting[node]! += event === 2 ? 1 : -1
      return
    }
    let first = 1
    while (first < size) first = waiting[2 * first] === 0 ? 2 * first + 1 : 2 * first
    if (waiting[first] !== 0 && first < size + place && this.#broken.length < 6) this.#broken.push(`job ${id}`)
  }

  get audited(): Audited {
    const holds = `none of ${this.#leases} first leases passed over an older ready job of its queue, type and class`
    return { name: 'order', holds, broken: this.#broken }
  }
}

export function auditOrder(db: DatabaseSync): Audited {
  const { leases } = db.prepare('SELECT COUNT(lease_seq) AS leases FROM gq_jobs').get() as { leases: number }
  const order = new Order(leases)
  for (const event of db.prepare(orderEvents).iterate()) order.hear(event as unknown as OrderEvent)
  return order.audited
}
