import type { DatabaseSync } from 'node:sqlite'

// What must hold between the rows of a queue's file, asked of its public tables.

interface Rule {
  name: string
  holds: string
  /** Selects in one column what breaks it. */
  broken: string
  /** It can be so without damage, such as after a salvage. */
  mild?: boolean
}

const rules: Rule[] = [
  {
    name: 'counters',
    holds: 'those of gq_queues agree with the jobs',
    broken: `SELECT 'queue ' || COALESCE(name, queue) FROM gq_queues FULL JOIN (
               SELECT queue, SUM(state = 'scheduled') AS s, SUM(state = 'ready') AS r, SUM(state = 'running') AS u,
                      SUM(state = 'succeeded') AS k, SUM(state = 'dead') AS d, SUM(state = 'cancelled') AS c
               FROM gq_jobs GROUP BY queue) ON queue = name
             WHERE name IS NULL OR (scheduled, ready, running, succeeded, dead, cancelled)
               IS NOT (IFNULL(s, 0), IFNULL(r, 0), IFNULL(u, 0), IFNULL(k, 0), IFNULL(d, 0), IFNULL(c, 0))`,
  },
  {
    name: 'leases',
    holds: 'each running job, and no other, has one, of a worker that has not ended',
    broken: `SELECT 'job ' || j.id FROM gq_jobs j LEFT JOIN gq_workers w ON w.id = j.worker_id
             WHERE (j.state = 'running') <> (j.lease_token IS NOT NULL)
               OR (j.state = 'running' AND (w.id IS NULL OR w.ended_at IS NOT NULL))`,
  },
  {
    name: 'keys',
    holds: 'each idempotency key leads to its job',
    broken: `SELECT 'job ' || id FROM gq_jobs j WHERE idempotency_key IS NOT NULL AND by_sql = 0 AND NOT EXISTS (
               SELECT 1 FROM gq_keys
               WHERE queue = j.queue AND type = j.type AND key = j.idempotency_key AND job_id = j.id)`,
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
    name: 'sequence',
    holds: 'it is ahead of every id and event number',
    broken: `SELECT 'at ' || seq FROM sqlite_sequence WHERE name = 'gq_jobs' AND seq <
               (SELECT MAX(MAX(id, IFNULL(ready_seq, 0), IFNULL(lease_seq, 0), IFNULL(lease_token, 0))) FROM gq_jobs)`,
  },
]

export interface Audited {
  name: string
  holds: string
  mild: boolean
  /** The first few that break the rule. */
  broken: string[]
}

export function audit(db: DatabaseSync): Audited[] {
  return [shapes(db), ...rules].map(({ name, holds, broken, mild = false }) => {
    const rows = db.prepare(`${broken} LIMIT 6`).all()
    return { name, holds, mild, broken: rows.map((row) => `${Object.values(row)[0]}`) }
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
 * The proof of order that docs/schema.md gives as a query, in one pass: goes through the events of each line and class
 * in their sequence, and compares each first lease with the first of the jobs that waited then.
 */
export function auditOrder(db: DatabaseSync): Audited & { leases: number } {
  const events = db.prepare(
    `SELECT queue, type, priority, COALESCE(ready_seq, id) AS at, id, 0 AS leased FROM gq_jobs WHERE lease_seq IS NOT NULL
     UNION ALL
     SELECT queue, type, priority, lease_seq, id, 1 FROM gq_jobs WHERE lease_seq IS NOT NULL
     ORDER BY 1, 2, 3, 4, 5`,
  )
  const broken: string[] = []
  let leases = 0
  let last: { queue: string; type: string; priority: number; at: number } | undefined
  let waiting = new Waiting()
  let together: number[] = [] // ids of one lease request: their order among each other says nothing
  const compare = () => {
    const first = waiting.first()
    const passing = first === undefined ? [] : together.filter((id) => id > first)
    for (const id of passing) if (broken.length < 6) broken.push(`job ${id} before ${first}`)
    together = []
  }
  for (const row of events.iterate() as Iterable<NonNullable<typeof last> & { id: number; leased: number }>) {
    const sameLine = last?.priority === row.priority && last.type === row.type && last.queue === row.queue
    if (together.length > 0 && (!sameLine || last?.at !== row.at)) compare()
    if (!sameLine) waiting = new Waiting()
    if (row.leased === 0) waiting.add(row.id)
    else {
      waiting.remove(row.id)
      together.push(row.id)
      leases++
    }
    last = row
  }
  compare()
  const holds = `none of ${leases} first leases passed over an older ready job of its queue, type and class`
  return { name: 'order', holds, mild: false, broken, leases }
}

/** A heap of ids; those that are taken away are dropped when they come to its top. */
class Waiting {
  readonly #heap: number[] = []
  readonly #gone = new Set<number>()

  add(id: number): void {
    const heap = this.#heap
    let at = heap.push(id) - 1
    for (let up = (at - 1) >> 1; at > 0 && heap[up]! > id; up = (at - 1) >> 1) {
      heap[at] = heap[up]!
      at = up
    }
    heap[at] = id
  }

  remove(id: number): void {
    this.#gone.add(id)
  }

  first(): number | undefined {
    while (this.#heap.length > 0 && this.#gone.delete(this.#heap[0]!)) this.#pop()
    return this.#heap[0]
  }

  #pop(): void {
    const heap = this.#heap
    const last = heap.pop()!
    if (heap.length === 0) return
    let at = 0
    for (let down = 1; down < heap.length; down = at * 2 + 1) {
      if (down + 1 < heap.length && heap[down + 1]! < heap[down]!) down++
      if (heap[down]! >= last) break
      heap[at] = heap[down]!
      at = down
    }
    heap[at] = last
  }
}
