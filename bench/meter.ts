import type { SQLInputValue } from 'node:sqlite'
import { type Clock, systemClock } from '../src/model/clock.ts'
import { connect } from '../src/store/sqlite/connection.ts'
import { Db } from '../src/store/sqlite/db.ts'

/** One transaction, from BEGIN IMMEDIATE's return to COMMIT's. Times in ms. */
interface Hold {
  wall: number
  /** Of this thread: what another program on the machine takes from it does not count. */
  cpu: number
  statements: Map<string, { times: number; ms: number }>
}

const cpuNow = (): number => {
  const { user, system } = process.threadCpuUsage()
  return (user + system) / 1000
}

const length = ({ wall, cpu }: Hold) => Math.min(wall, cpu)

/** Watches the transactions of one connection that hold the write lock. */
export class Meter {
  holds: Hold[] = []
  #open: Hold | undefined

  statement<T>(sql: string, work: () => T): T {
    if (!this.#open) {
      const result = work()
      if (sql === 'BEGIN IMMEDIATE') this.#open = { wall: -performance.now(), cpu: -cpuNow(), statements: new Map() }
      return result
    }
    const hold = this.#open
    const start = performance.now()
    try {
      return work()
    } finally {
      const known = hold.statements.get(sql) ?? { times: 0, ms: 0 }
      hold.statements.set(sql, { times: known.times + 1, ms: known.ms + performance.now() - start })
      if (sql === 'COMMIT' || sql === 'ROLLBACK') this.#end(hold)
    }
  }

  #end(hold: Hold): void {
    hold.wall += performance.now()
    hold.cpu += cpuNow()
    this.#open = undefined
    this.holds.push(hold)
  }

  /** Takes what was seen since the last call: the longest hold, and what it spent its time on. */
  take(): { count: number; wall: number; cpu: number; on: string } {
    const holds = this.holds
    this.holds = []
    const longest = holds.reduce<Hold | undefined>(
      (most, hold) => (length(hold) > (most ? length(most) : -1) ? hold : most),
      undefined,
    )
    if (!longest) return { count: 0, wall: 0, cpu: 0, on: '' }
    const { wall, cpu, statements } = longest
    const sorted = [...statements].sort((a, b) => b[1].ms - a[1].ms)
    const inSql = sorted.reduce((sum, [, { ms }]) => sum + ms, 0)
    const [sql, { times, ms }] = sorted[0]!
    const text = sql.replace(/\s+/g, ' ').replaceAll('|', '/').slice(0, 90)
    return {
      count: holds.length,
      wall,
      cpu,
      on: `${(wall - inSql).toFixed(1)} outside SQL; ${times} x ${ms.toFixed(1)} ${text}`,
    }
  }
}

/** A connection whose statements a meter sees. It checkpoints between transactions, when it holds no lock. */
class MeteredDb extends Db {
  readonly #meter: Meter

  constructor(path: string, clock: Clock, meter: Meter) {
    super(path, clock)
    this.#meter = meter
  }

  override run(sql: string, ...values: SQLInputValue[]): number {
    const changes = this.#meter.statement(sql, () => super.run(sql, ...values))
    if (sql === 'COMMIT') this.connection.exec('PRAGMA wal_autocheckpoint = 0; PRAGMA wal_checkpoint(PASSIVE)')
    return changes
  }
  override insert(sql: string, ...values: SQLInputValue[]): number {
    return this.#meter.statement(sql, () => super.insert(sql, ...values))
  }
  override get<Row>(sql: string, ...values: SQLInputValue[]): Row | undefined {
    return this.#meter.statement(sql, () => super.get<Row>(sql, ...values))
  }
  override all<Row>(sql: string, ...values: SQLInputValue[]): Row[] {
    return this.#meter.statement(sql, () => super.all<Row>(sql, ...values))
  }
  override arrays(sql: string, ...values: SQLInputValue[]): unknown[][] {
    return this.#meter.statement(sql, () => super.arrays(sql, ...values))
  }
}

export const openMetered = (meter: Meter) => (path: string, clock: Clock) =>
  connect(path, systemClock, () => new MeteredDb(path, clock, meter))
