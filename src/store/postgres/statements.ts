// What the queue says to the server around the engine's statements.

/** How long a write waits for the others of its queue, in ms. */
export const lockTimeout = 10_000
/** How long a process that stands still keeps others waiting, in ms. */
const idleTimeout = 2000
/** Transaction-local: a pooler may give each transaction another session. The planner must not go by statistics that are not there yet. */
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
  ...{ plan_cache_mode: 'force_generic_plan', jit: 'off' },
})
  .map(([name, value]) => `set_config('${name}', '${value}', true)`)
  .join(', ')

/** The newest mark, and the server's time. */
export const newest = (schema: string): string =>
  `SELECT n, seq, CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS bigint) FROM ${schema}.gq_marks ORDER BY n DESC LIMIT 1`

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
