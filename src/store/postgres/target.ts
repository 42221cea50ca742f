import { randomUUID } from 'node:crypto'
import type pg from 'pg'
import { GopherQueueError, isQueueError } from '../../model/errors.ts'
import { movingKey } from '../sqlite/moved.ts'
import { ServerClock } from './clock.ts'
import { type Copied, copySql, digestSql, lastKeySql, tables } from './copied.ts'
import { loadable, loaded, takesWrites } from './driver.ts'
import { connect } from './open.ts'
import { type Place, placeOf, withoutPassword } from './place.ts'
import { lockTimeout } from './statements.ts'

// The place that a file moves to. Its mark in gq_meta keeps everybody else from writing, and names the run of the move
// that may: one that was stopped and goes on in another process writes nothing more.

/** In gq_meta, while the move goes on. */
interface Moving {
  id: string
  /** The epoch of the file. */
  from: string
  run: string
}

/** In gq_meta from then on. */
interface Arrived {
  id: string
  /** The newest row of gq_marks: another one means that somebody has written since. */
  n: number
}
const arrivedKey = 'moved_from'

/** What the driver gives to who writes for COPY. */
interface Copying {
  sendCopyFromChunk(bytes: Buffer): void
  endCopyFrom(): void
}

/** `@` is the place. */
export type Ask = (text: string) => Promise<string[][]>
/** Adds lines, or none: then it answers what was wrong. */
export type Add = (table: Copied, lines: string[]) => Promise<pg.DatabaseError | null>

/** What is done with the place when a move begins, goes on, or was done. */
export type Claimed = 'begun' | 'goes on' | 'done'

export class Target {
  readonly #driver: typeof pg
  readonly #client: pg.Client
  readonly #place: Place
  readonly #url: string
  /** The mark of this run. */
  #mark = ''

  private constructor(driver: typeof pg, client: pg.Client, place: Place, url: string) {
    this.#driver = driver
    this.#client = client
    this.#place = place
    this.#url = url
  }

  /** Connects to a server that is fit for a queue, with its schema. */
  static async open(url: string): Promise<Target> {
    const place = placeOf(url)
    await loadable()
    connect(place, new ServerClock()).connection.close()
    const driver = await loaded()
    for (const [i, connectionString] of place.connectionStrings.entries()) {
      const client = new driver.Client({ connectionString, keepAlive: true, application_name: 'gopherqueue move' })
      client.on('error', () => undefined) // the statement that it meets says so
      const target = new Target(driver, client, place, url)
      if (i === place.connectionStrings.length - 1) await target.#tried(() => client.connect())
      else if (!(await takesWrites(client))) continue
      return target
    }
    throw new Error('an URL has a host')
  }

  async close(): Promise<void> {
    await this.#client.end().catch(() => undefined)
  }

  async #tried<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work()
    } catch (error) {
      if (isQueueError(error)) throw error
      const { message } = error as Error
      throw new GopherQueueError(
        'STORAGE_UNAVAILABLE',
        `The server at ${withoutPassword(this.#url)} has ended the move: ${message || String(error)}. What is copied stays: run 'gopherqueue move' again, which goes on, or end it with --abort.`,
        { cause: error, accepted: 'unknown' },
      )
    }
  }

  #named(text: string): string {
    return text.replaceAll('@', `${this.#place.identifier}.`)
  }

  async #ask<Row extends unknown[]>(text: string, ...values: unknown[]): Promise<Row[]> {
    return (await this.#client.query({ text: this.#named(text), values, rowMode: 'array' })).rows as Row[]
  }

  /** A transaction under the lock of the queue's writers. */
  #inOne<T>(work: () => Promise<T>): Promise<T> {
    return this.#within(async () => {
      await this.#ask(`SELECT set_config('lock_timeout', '${lockTimeout}', true)`)
      await this.#ask('SELECT pg_advisory_xact_lock($1)', this.#place.lock)
      return await work()
    })
  }

  /** A transaction that goes through many rows: that may take longer than the role's statements usually may. */
  #slowly<T>(work: () => Promise<T>): Promise<T> {
    return this.#within(async () => {
      await this.#ask(`SELECT set_config('statement_timeout', '0', true)`)
      return await work()
    })
  }

  #within<T>(work: () => Promise<T>): Promise<T> {
    return this.#tried(async () => {
      await this.#ask('BEGIN')
      try {
        const value = await work()
        await this.#ask('COMMIT')
        return value
      } catch (error) {
        await this.#ask('ROLLBACK').catch(() => undefined) // what went wrong before is what is told
        throw error
      }
    })
  }

  async #meta<T>(key: string): Promise<T | null> {
    const [row] = await this.#ask<[string]>('SELECT value FROM @gq_meta WHERE key = $1', key)
    return row ? (JSON.parse(row[0]) as T) : null
  }

  async #put(key: string, value: string): Promise<void> {
    await this.#ask('INSERT INTO @gq_meta VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = $2', key, value)
  }

  /** Adds rows, and keeps none. Throws INVALID_STATE if the place has a queue already, or gets one from another file. */
  tryOut(from: string, work: (add: Add, ask: Ask) => Promise<void>): Promise<void> {
    return this.#slowly(async () => {
      await this.#ask(`SELECT set_config('idle_in_transaction_session_timeout', '0', true)`) // it waits while the file is read
      await this.#ask('SAVEPOINT before')
      if (!(await this.#isFree(from))) await this.#empty()
      const add: Add = async (table, lines) => {
        await this.#ask('SAVEPOINT batch')
        try {
          return await this.#copy(this.#named(copySql(table)), Buffer.from(`${lines.join('\n')}\n`)).then(() => null)
        } catch (error) {
          await this.#ask('ROLLBACK TO batch')
          return error as pg.DatabaseError
        }
      }
      await work(add, (text) => this.#ask<string[]>(text))
      await this.#ask('ROLLBACK TO before')
    })
  }

  async #isFree(from: string): Promise<boolean> {
    const moving = await this.#meta<Moving>(movingKey)
    if (moving && moving.from !== from) throw this.#refusal('another file is being moved to it')
    if (moving) return false
    for (const table of tables) {
      const [[found]] = (await this.#ask<[boolean]>(`SELECT EXISTS (SELECT 1 FROM @${table})`)) as [[boolean]]
      if (found) throw this.#refusal(`it has a queue already (rows in ${table})`)
    }
    return true
  }

  #refusal(why: string): GopherQueueError {
    return new GopherQueueError(
      'INVALID_STATE',
      `Nothing can be moved to ${withoutPassword(this.#url)}: ${why}. Nothing was changed there: name an empty place, such as another ?schema=.`,
    )
  }

  /** From here on this run alone writes there. What an aborted move of the same file has left is deleted. */
  claim(id: string, from: string): Promise<Claimed> {
    return this.#inOne(async () => {
      if ((await this.#meta<Arrived>(arrivedKey))?.id === id) return 'done'
      const free = await this.#isFree(from)
      const before = await this.#meta<Moving>(movingKey)
      await this.#take({ id, from, run: randomUUID() })
      if (before && before.id !== id) await this.#empty()
      return free || before?.id !== id ? 'begun' : 'goes on'
    })
  }

  async #take(moving: Moving): Promise<void> {
    this.#mark = JSON.stringify(moving)
    await this.#put(movingKey, this.#mark)
    await this.#tell(0)
  }

  /** Processes that have the place open look at gq_meta when there is a new mark. Answers its number. */
  async #tell(seq: number): Promise<number> {
    const [[n]] = (await this.#ask<[string]>(
      `INSERT INTO @gq_marks SELECT n + 1, gen_random_uuid(), GREATEST(seq, CAST($1 AS bigint)) FROM @gq_marks ORDER BY n DESC LIMIT 1
       RETURNING n`,
      seq,
    )) as [[string]]
    return Number(n)
  }

  async #empty(): Promise<void> {
    await this.#ask(`TRUNCATE ${tables.map((name) => `@${name}`).join(', ')}`)
  }

  /** The key of the last row that is there: rows come in its order. */
  async lastKey(table: Copied): Promise<string[] | null> {
    const [row] = await this.#tried(() => this.#ask<string[]>(lastKeySql(table)))
    return row ?? null
  }

  /** Adds rows, as lines of COPY, while this run is the one that may. */
  add(table: Copied, lines: Buffer): Promise<void> {
    return this.#slowly(async () => {
      await this.#mustBeMine()
      await this.#copy(this.#named(copySql(table)), lines)
    })
  }

  /** The driver leaves to others what COPY is to read. */
  #copy(text: string, lines: Buffer): Promise<void> {
    return new Promise((resolve, reject) => {
      const query = new this.#driver.Query({ text }, (error) => (error ? reject(error) : resolve()))
      const handleCopyInResponse = (connection: Copying) => {
        connection.sendCopyFromChunk(lines)
        connection.endCopyFrom()
      }
      this.#client.query(Object.assign(query, { handleCopyInResponse }))
    })
  }

  async digest(table: Copied): Promise<string> {
    const [[found]] = (await this.#slowly(() => this.#ask<[string]>(digestSql(table)))) as [[string]]
    return found
  }

  /** Statistics for who asks this database something else than the queue does. */
  async analyze(): Promise<void> {
    await this.#slowly(() => this.#ask(`ANALYZE ${tables.map((name) => `@${name}`).join(', ')}`))
  }

  /** All of it is there and the same: from this COMMIT on it is a queue, with an epoch of its own. `ids`: the last one given in each table. */
  complete(id: string, sequence: number, ids: Map<string, number>, meta: Map<string, string>): Promise<void> {
    return this.#inOne(async () => {
      await this.#mustBeMine()
      for (const [table, last] of ids)
        await this.#ask(`SELECT setval(pg_get_serial_sequence($1, 'id'), $2, $3)`, `${this.#place.identifier}.${table}`, Math.max(1, last), last > 0) // biome-ignore format: one line
      for (const [key, value] of meta) await this.#put(key, value)
      await this.#put('epoch', randomUUID().replaceAll('-', '').slice(0, 16))
      await this.#put(arrivedKey, JSON.stringify({ id, n: await this.#tell(sequence) } satisfies Arrived))
      await this.#ask('DELETE FROM @gq_meta WHERE key = $1', movingKey)
    })
  }

  async #mustBeMine(): Promise<void> {
    const mine = await this.#ask('SELECT 1 FROM @gq_meta WHERE key = $1 AND value = $2 FOR UPDATE', movingKey, this.#mark) // biome-ignore format: one line
    if (mine.length === 0) throw overtaken()
  }

  /** Keeps everybody from writing there, so that the file can be used again. Throws INVALID_STATE if somebody has written since the end of the move. */
  giveUp(id: string, from: string): Promise<void> {
    return this.#inOne(async () => {
      const arrived = await this.#meta<Arrived>(arrivedKey)
      const moving = await this.#meta<Moving>(movingKey)
      if (arrived?.id !== id && moving?.id !== id) return
      const [[n]] = (await this.#ask<[string]>('SELECT MAX(n) FROM @gq_marks')) as [[string]]
      if (arrived?.id === id && Number(n) !== arrived.n)
        throw new GopherQueueError(
          'INVALID_STATE',
          `The move has ended, and ${withoutPassword(this.#url)} has been written to since: what was accepted there is not in the file. Nothing was changed: go on there.`,
        )
      await this.#take({ id, from, run: randomUUID() })
      await this.#ask('DELETE FROM @gq_meta WHERE key = $1', arrivedKey)
    })
  }

  /** Deletes what was copied, after `giveUp`. */
  async clear(): Promise<void> {
    if (this.#mark === '') return
    await this.#inOne(async () => {
      await this.#mustBeMine()
      await this.#empty()
      await this.#ask(`DELETE FROM @gq_meta WHERE key IN ($1, 'causes', 'forgotten')`, movingKey)
      await this.#tell(0)
    })
  }
}

const overtaken = (): GopherQueueError =>
  new GopherQueueError(
    'INVALID_STATE',
    `Another 'gopherqueue move' has taken this one over, or ended it. This one has stopped: what it has copied stays, and the other goes on.`,
  )
