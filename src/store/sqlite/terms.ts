import type { Instant } from '../../model/clock.ts'
import type { LeasedJob } from '../store.ts'
import { timeoutGrace } from './attempt.ts'
import type { Db } from './db.ts'
import type { WorkerRow } from './workers.ts'

interface Own {
  token: number
  visibility: number
  renewAt: number
  /** When the attempt is over whether or not its handler says so; its worker has had time to report the timeout. */
  overAt: number
}

interface Running {
  id: number
  worker: number
  token: number
  expiresAt: Instant
  /** How long it lasts once it is given or renewed. */
  life: number
}

/**
 * How long leases last, on this process's monotonic clock: a wall clock that jumps must neither end a lease that is
 * renewed nor keep one that is not. Those of its own workers it renews; those of others it watches: one that has not
 * changed for as long as it was to last is over.
 */
export class Terms {
  readonly #own = new Map<number, Own>()
  readonly #others = new Map<number, { expiresAt: Instant; overAt: number }>()

  /** A worker of this process has leased it: that is on disk. */
  add({ id, token, timeout, visibilityTimeout: visibility }: LeasedJob, monotonic: number): void {
    const overAt = monotonic + timeout + timeoutGrace
    this.#own.set(id, { token, visibility, renewAt: Math.min(monotonic + visibility / 3, overAt), overAt })
  }

  /** Looks at what runs; answers whether a lease is to be renewed or is over. */
  look(db: Db, monotonic: number): boolean {
    const running = db.all<Running>(
      `SELECT id, worker_id AS worker, lease_token AS token, lease_expires_at AS expiresAt,
              MIN(visibility_timeout, timeout + ${timeoutGrace}) AS life
       FROM gq_jobs WHERE state = 'running'`,
    )
    const tokens = new Map(running.map(({ id, token }) => [id, token]))
    for (const [id, { token }] of this.#own) if (tokens.get(id) !== token) this.#own.delete(id)
    for (const id of this.#others.keys()) if (!tokens.has(id) || this.#own.has(id)) this.#others.delete(id)
    const alive = new Map<number, boolean>()
    for (const { id, worker, expiresAt, life } of running) {
      if (this.#own.has(id) || this.#others.get(id)?.expiresAt === expiresAt) continue
      if (!alive.has(worker)) alive.set(worker, isAlive(db, worker))
      const left = alive.get(worker) ? life : Math.max(0, expiresAt - db.now)
      this.#others.set(id, { expiresAt, overAt: monotonic + left })
    }
    for (const { renewAt } of this.#own.values()) if (renewAt <= monotonic) return true
    for (const { overAt } of this.#others.values()) if (overAt <= monotonic) return true
    return false
  }

  /**
   * Renews what is due, a third of the visibility timeout after the last time, up to the attempt's timeout. Also a lease
   * that is over by the wall clock but that nobody has taken: after a pause of this process it is still its own.
   */
  renew(db: Db, monotonic: number): void {
    for (const [id, { token, visibility, renewAt, overAt }] of this.#own)
      if (renewAt <= monotonic && monotonic < overAt)
        db.run(
          `UPDATE gq_jobs SET lease_expires_at = ?3 WHERE id = ?1 AND state = 'running' AND lease_token = ?2`,
          ...[id, token, db.now + Math.ceil(Math.min(visibility, overAt - monotonic))],
        )
  }

  /** The renewals of that moment are on disk. The last one reaches to the attempt's end. */
  renewed(monotonic: number): void {
    for (const own of this.#own.values())
      if (own.renewAt <= monotonic)
        own.renewAt = monotonic + own.visibility < own.overAt ? monotonic + own.visibility / 3 : own.overAt
  }

  /** The leases that are over, as they were seen. */
  over(monotonic: number): { id: number; token: number | null; expiresAt: Instant | null }[] {
    const own = [...this.#own].filter(([, { overAt }]) => overAt <= monotonic)
    const others = [...this.#others].filter(([, { overAt }]) => overAt <= monotonic)
    return [
      ...own.map(([id, { token }]) => ({ id, token, expiresAt: null })),
      ...others.map(([id, { expiresAt }]) => ({ id, token: null, expiresAt })),
    ]
  }
}

/**
 * Whether a lease could be renewed still: then it has all its time from when it is first seen, whatever the wall clock says.
 * A worker of a server could not while that was away.
 */
function isAlive(db: Db, worker: number): boolean {
  const row = db.get<WorkerRow>(`SELECT * FROM gq_workers WHERE id = ?1 AND ended_at IS NULL`, worker)
  return row !== undefined && (row.pid === null || db.processes.isAlive(row) === true)
}
