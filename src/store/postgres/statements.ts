import type { KeyKind } from '../sqlite/session.ts'
import { block } from './numbers.ts'
import type { Place } from './place.ts'

// What the queue says to the server around the engine's statements.

/** How long a write waits for the others of its queue, in ms. */
export const lockTimeout = 10_000
/** How long a process that stands still keeps others waiting, in ms. */
const idleTimeout = 2000
/** With these values of synchronous_commit, a commit is on the disks of all that a failover may promote. */
export const durable: ReadonlySet<string | null> = new Set(['on', 'remote_apply'])

/**
 * Transaction-local: a pooler may give each transaction another session. The planner must not go by statistics that are not
 * there yet; and whatever a session was left with, each commit is durable.
 */
export const settings = Object.entries({
  lock_timeout: lockTimeout,
  idle_in_transaction_session_timeout: idleTimeout,
  ...{
    enable_seqscan: 'off',
    enable_bitmapscan: 'off',
    enable_sort: 'off',
    enable_hashjoin: 'off',
    enable_mergejoin: 'off',
  },
  ...{ plan_cache_mode: 'force_generic_plan', jit: 'off', standard_conforming_strings: 'on' },
})
  .map(([name, value]) => `set_config('${name}', '${value}', true)`)
  .concat(
    `set_config('synchronous_commit', CASE current_setting('synchronous_commit') WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, true)`,
  )
  .join(', ')

/** The newest mark's number and its last job id or event number, the time, whether jobs wait for admission, the lowest id that was made ready since the mark of `$1`, a block of numbers. */
export type Look = [n: number, seq: number, now: number, isNew: 0 | 1, readied: number | null, block?: number | null]

/** In SQL: the server's time in Unix ms. */
export const time = 'CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS bigint)'

/** Most marks that are asked what they have made ready: of more, anything may be. */
const mostAsked = 1000

const seen = (schema: string): string => `n, seq, ${time}, EXISTS (SELECT 1 FROM ${schema}.gq_jobs WHERE blocked = 2),
  (SELECT CASE WHEN COUNT(*) < ${mostAsked} THEN MIN(COALESCE(readied, 0)) ELSE 0 END
   FROM (SELECT readied FROM ${schema}.gq_marks WHERE n > $1 ORDER BY n DESC LIMIT ${mostAsked}) AS others)`

export const newest = (schema: string): string =>
  `SELECT ${seen(schema)} FROM ${schema}.gq_marks ORDER BY n DESC LIMIT 1`

/**
 * A look of who has the lock, and a block of numbers if somebody has taken one since. A sequence that is behind, as
 * replication of rows alone leaves it, is brought forward.
 */
const newestAndBlock = (schema: string): string =>
  `SELECT ${seen(schema)},
     CASE WHEN (SELECT last_value FROM ${schema}.gq_blocks) > seq THEN nextval('${schema}.gq_blocks')
       WHEN (SELECT last_value FROM ${schema}.gq_blocks) < seq / ${block} * ${block} THEN setval('${schema}.gq_blocks', (seq / ${block} + 1) * ${block})
     END
   FROM (SELECT n, seq FROM ${schema}.gq_marks ORDER BY n DESC LIMIT 1) AS mark`

type Told = [text: string, ...values: (string | number)[]]

/** The flight that begins a transaction, whose last row is a Look. Who writes takes the lock, for which it waits as long as the settings before it in the same list say. */
export const begin = {
  write: ({ identifier, lock }: Place, mark: number): Told[] => [
    ['BEGIN'],
    [`SELECT ${settings}, pg_advisory_xact_lock($1)`, lock],
    [newestAndBlock(identifier), mark],
  ],
  read: ({ identifier }: Place, mark: number): Told[] => [
    ['BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY'],
    [`SELECT ${settings}`],
    [newest(identifier), mark],
  ],
}

export const nextBlock = (schema: string): string => `SELECT nextval('${schema}.gq_blocks')`

/** In SQL: the advisory lock of a key. Whoever inserts the key has it to the end of the transaction. */
export const keyLock = (schema: string, kind: KeyKind, queue: string, type: string, key: string): string =>
  `hashtextextended('gopherqueue ${schema} ${kind} ' || ${[queue, type, key].map((part) => `CAST(${part} AS text)`).join(` || ' ' || `)}, 0)`

const inserts = new Map<string, string>()

/** An INSERT of jobs with their ids: from the value of that number on. */
export function numbered(sql: string, value: number): string {
  const known = inserts.get(sql)
  if (known) return known
  let row = 0
  const text = sql.replace('(queue,', '(id, queue,').replace(/\(\?1,/g, () => `(?${value} + ${row++}, ?1,`)
  inserts.set(sql, text)
  return text
}
