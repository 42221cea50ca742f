import type { Instant } from '../../model/clock.ts'
import { timeoutGrace } from '../../model/loss.ts'
import type { LeasedJob } from '../store.ts'
import type { Db } from './db.ts'
import { leastJump } from './delays.ts'
import { stepEnd } from './steps.ts'

interface Own {
  token: number
  /** When the job was leased: a gap before that has not shortened it. */
  addedAt: number
  visibility: number
  renewAt: number
  /** When the attempt is over whether or not its handler says so; its worker has had time to report the timeout. */
  overAt: number
}

/** A lease that another process renews, as it was last seen. */
export interface Watched {
  id: number
  token: number
  expiresAt: Instant
  /** How long it lasts once it is given or renewed. */
  life: number
  /** When a process found it over, by the wall clock; null while none has. */
  overSince: Instant | null
  /** When it will have been seen unchanged for all of its life. */
  unchangedAt: number
  /** Since when it has been seen over, with this `overSince`, and for how long it was over by the wall clock then. */
  seenOverFrom: number
  overBefore: number
  /** When the attempt is over whether or not its lease is renewed, as the wall clock told when it was first seen. */
  overAt: number
}

/** Of it, what its row says. */
type Lease = Pick<Watched, 'id' | 'token' | 'expiresAt' | 'overSince' | 'life'>

/** How long a process must itself have seen a lease over before it takes it, in ms; no lease is taken sooner after it was found over. */
const leastWatch = 1000

/**
 * SQL of when an attempt is over, its lease included, for a process that did not see it begin. A lease that was renewed
 * beyond the attempt's end shows that the wall clock was set forward while it ran; one whose worker still renews it
 * when it should be over, that it may have been, or that no server was there: then it has its whole time from `now`.
 */
const attemptOver = (now: string): string => `timeout + ${timeoutGrace} +
  CASE WHEN lease_expires_at > started_at + timeout + ${2 * timeoutGrace} OR started_at + timeout + ${timeoutGrace} <= ${now}
    THEN ${now} ELSE started_at END`

/**
 * How long leases last, on this process's monotonic clock: a wall clock that jumps must neither end a lease that is
 * renewed nor keep one that is not. A process renews the leases of its own workers and watches those of others. A lease
 * is taken in two steps: the process that finds it over writes `over_since` into its row; a process that finds it
 * unchanged half of its life later takes it. In between, a holder that could not renew (the write lock was busy) can.
 */
export class Terms {
  readonly #own = new Map<number, Own>()
  readonly #others = new Map<number, Watched>()
  /** Renewed by a transaction that is not committed yet. */
  #renewing: Own[] = []
  /** When all running jobs were read last. */
  #lookedAt = Number.NEGATIVE_INFINITY
  /** By how much the wall clock was ahead of the monotonic one at the last renewal. */
  #ahead = Number.POSITIVE_INFINITY

  /** After COMMIT: a worker of this process has leased a job. */
  add({ id, token, timeout, visibilityTimeout: visibility }: LeasedJob, monotonic: number): void {
    const overAt = monotonic + timeout + timeoutGrace
    this.#own.set(id, {
      token,
      addedAt: monotonic,
      visibility,
      renewAt: Math.min(monotonic + visibility / 3, overAt),
      overAt,
    })
  }

  /** As `add`, of a worker on the network: a wall clock that is set before the first look must not end its attempt. */
  watch({ id, token, timeout, visibilityTimeout, startedAt }: LeasedJob, monotonic: number): void {
    const life = Math.min(visibilityTimeout, timeout + timeoutGrace)
    const lease = { id, token, expiresAt: startedAt + life, overSince: null, life }
    this.#watchFrom(lease, monotonic + timeout + timeoutGrace, startedAt, monotonic)
  }

  #watchFrom(lease: Lease, overAt: number, now: Instant, monotonic: number): void {
    const seen = { unchangedAt: monotonic + lease.life, ...this.#seenOver(lease.overSince, now, monotonic) }
    this.#others.set(lease.id, { ...lease, ...seen, overAt })
  }

  /** After a gap of `ms`: all times move by it, and the own leases are renewed at once. */
  skip(ms: number, monotonic: number): void {
    for (const own of this.#own.values()) {
      own.overAt += Math.min(ms, monotonic - own.addedAt)
      own.renewAt = Math.min(own.renewAt, monotonic)
    }
    this.waited(ms)
  }

  /** Time in which nobody could renew a lease, as this process could not: it has not watched those of others in it. */
  waited(ms: number): void {
    for (const watched of this.#others.values()) {
      watched.unchangedAt += ms
      watched.seenOverFrom += ms
    }
  }

  /** Some jobs ran at the last look, or since. */
  get someRun(): boolean {
    return this.#own.size + this.#others.size > 0
  }

  /** The fields of a lease that is seen to be over from now on. It was found over since the last look, however far the wall clock was set forward since. */
  #seenOver(overSince: Instant | null, now: Instant, monotonic: number) {
    const over = overSince === null ? 0 : Math.min(Math.max(0, now - overSince), monotonic - this.#lookedAt)
    return { overSince, seenOverFrom: monotonic, overBefore: over }
  }

  /** Reads all running jobs; returns whether a lease has to be renewed, is over or may be taken. */
  look(db: Db, monotonic: number): boolean {
    const running = db.all<Lease & { over: Instant }>(
      `SELECT id, lease_token AS token, lease_expires_at AS expiresAt, over_since AS overSince,
              MIN(visibility_timeout, timeout + ${timeoutGrace}) AS life, ${attemptOver('?1')} AS over
       FROM gq_jobs WHERE state = 'running' AND lease_token >= ?2`,
      ...[db.now, db.leasedFrom],
    )
    const oldest = running.reduce((least, { token }) => Math.min(least, token), Number.POSITIVE_INFINITY)
    if (!db.isFile && running.length > 0) db.leasedFrom = oldest // tokens rise with the leases, whoever gives them
    const tokens = new Map(running.map(({ id, token }) => [id, token]))
    for (const [id, { token }] of this.#own) if (tokens.get(id) !== token) this.#own.delete(id)
    for (const id of this.#others.keys()) if (!tokens.has(id) || this.#own.has(id)) this.#others.delete(id)
    for (const { over, ...row } of running) {
      const own = this.#own.get(row.id)
      if (own) {
        if (row.overSince !== null) own.renewAt = Math.min(own.renewAt, monotonic) // another process found it over, and would take it
        continue
      }
      const before = this.#others.get(row.id)
      if (before?.token !== row.token || before.expiresAt !== row.expiresAt)
        this.#watchFrom(row, before?.token === row.token ? before.overAt : monotonic + over - db.now, db.now, monotonic)
      else if (before.overSince !== row.overSince)
        Object.assign(before, this.#seenOver(row.overSince, db.now, monotonic))
    }
    this.#lookedAt = monotonic
    for (const { renewAt, overAt } of this.#own.values()) if (renewAt <= monotonic || overAt <= monotonic) return true
    for (const watched of this.#others.values())
      if (isOver(watched, db.now, monotonic) || mayBeTaken(watched, monotonic)) return true
    return false
  }

  /**
   * Renews own leases, each a third of its visibility timeout after the last time, up to the attempt's timeout. A lease that
   * expired during a pause of this process, and that nobody has taken, is renewed too. All are renewed when the wall clock
   * was set forward: if this process died then, its attempts would look as if they had run longer than their timeouts.
   * True when time left some.
   */
  renew(db: Db, monotonic: number): boolean {
    this.#renewing = []
    const ahead = db.now - monotonic
    if (ahead - this.#ahead >= leastJump)
      for (const own of this.#own.values()) own.renewAt = Math.min(own.renewAt, monotonic)
    this.#ahead = ahead
    const end = stepEnd(db)
    for (const [id, own] of this.#own) {
      const { token, visibility, renewAt, overAt } = own
      if (renewAt > monotonic || monotonic >= overAt) continue
      if (this.#renewing.length > 0 && db.clock.monotonic() >= end) return true
      db.later(
        `UPDATE gq_jobs SET lease_expires_at = ?3, renewed_at = ?4, over_since = NULL
         WHERE id = ?1 AND state = 'running' AND lease_token = ?2`,
        ...[id, token, db.now + Math.ceil(Math.min(visibility, overAt - monotonic)), db.now],
      )
      this.#renewing.push(own)
    }
    return false
  }

  /** After COMMIT of the renewals of that moment. The last one reaches to the attempt's end. */
  renewed(monotonic: number): void {
    for (const own of this.#renewing.splice(0))
      own.renewAt = monotonic + own.visibility < own.overAt ? monotonic + own.visibility / 3 : own.overAt
  }

  /** The leases of others were not watched so far: their time begins now. */
  watchAnew(monotonic: number): void {
    for (const watched of this.#others.values())
      Object.assign(watched, { unchangedAt: monotonic + watched.life, seenOverFrom: monotonic })
  }

  /** For how long an attempt may still run, its lease included; null where it was never seen. */
  left({ id, token }: { id: number; token: number }, monotonic: number): number | null {
    const known = this.#own.get(id) ?? this.#others.get(id)
    return known?.token === token ? known.overAt - monotonic : null
  }

  /** Own attempts that had run out of time at that moment without a word of their worker. */
  ranOut(monotonic: number): { id: number; token: number }[] {
    return [...this.#own].filter(([, { overAt }]) => overAt <= monotonic).map(([id, { token }]) => ({ id, token }))
  }

  /** First step: leases of others that are found over, and that no process has found so before. */
  foundOver(now: Instant, monotonic: number): Watched[] {
    return [...this.#others.values()].filter((watched) => isOver(watched, now, monotonic))
  }

  /** Second step: leases of others that were found over, and not renewed since. */
  toTake(monotonic: number): Watched[] {
    return [...this.#others.values()].filter((watched) => mayBeTaken(watched, monotonic))
  }
}

const isOver = ({ overSince, expiresAt, unchangedAt }: Watched, now: Instant, monotonic: number): boolean =>
  overSince === null && (expiresAt <= now || unchangedAt <= monotonic)

/** Whether half of its life has passed since `over_since`: by the wall clock up to when this process first saw it, then by the monotonic clock. */
function mayBeTaken({ overSince, seenOverFrom, overBefore, life }: Watched, monotonic: number): boolean {
  const seen = monotonic - seenOverFrom
  return overSince !== null && seen >= leastWatch && overBefore + seen >= life / 2
}
