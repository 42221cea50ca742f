import assert from 'node:assert/strict'
import { DatabaseSync, type SQLInputValue } from 'node:sqlite'
import { type TestContext, test } from 'node:test'
import { jobSpec } from '../../src/model/job.ts'
import { Engine } from '../../src/store/sqlite/commit.ts'
import type { Input, Operation, Output } from '../../src/store/store.ts'
import { VirtualClock } from '../../src/testing/clock.ts'

// SQLite prepares a statement again, for as long as most of them take to run, when it planned by a bound value that may have
// changed. `LIMIT ?1` is one such (sqlite3ExprIsInteger since 3.50), `LIMIT +?1` is not.

/** Statements that SQLite prepares again when they run; it asks the authorizer only when it prepares one. */
function preparedAgain(t: TestContext): Set<string> {
  const again = new Set<string>()
  const watched = new WeakSet<DatabaseSync>()
  let running: string | undefined
  const { prepare } = DatabaseSync.prototype
  t.mock.method(DatabaseSync.prototype, 'prepare', function (this: DatabaseSync, sql: string) {
    if (!watched.has(this))
      this.setAuthorizer(() => {
        if (running !== undefined) again.add(running)
        return 0
      })
    watched.add(this)
    const statement = prepare.call(this, sql)
    for (const method of ['run', 'get', 'all'] as const) {
      const run = statement[method].bind(statement) as (...values: SQLInputValue[]) => unknown
      t.mock.method(statement, method, (...values: SQLInputValue[]) => {
        running = /pragma/i.test(sql) ? undefined : sql // which prepares others by itself
        try {
          return run(...values)
        } finally {
          running = undefined
        }
      })
    }
    return statement
  })
  return again
}

test('no statement is prepared again each time that it runs', (t) => {
  const again = preparedAgain(t)
  const clock = new VirtualClock()
  const engine = new Engine(':memory:', clock)
  let seq = 0
  const ask = <K extends Operation>(operation: K, input: Input<K>): Output<K> => {
    const [reply] = engine.execute([{ seq: ++seq, operation, input, who: 'ann' }])
    if (!reply || 'error' in reply) throw reply?.error ?? new Error(`${operation} waits`)
    return reply.value as Output<K>
  }
  const sources = [{ queue: 'default', type: 'a' }]
  const worker = ask('register', { name: 'w', sources, slots: 10 })
  again.clear() // the schema was made meanwhile
  for (let round = 1; round <= 3; round++) {
    ask('setQueue', { queue: 'default', maxRunningPerKey: round })
    const specs = jobSpec('a', { concurrencyKey: 'k' })
    ask('submit', { specs, payloads: ['1', '2', '3', '4'], keys: null })
    for (const { id, queue, type, token } of ask('lease', { worker, sources, slots: 10, exclude: [] }))
      ask('succeed', { lease: { id, queue, type, token }, result: '1' })
    assert.equal(ask('jobs', { text: '4' }).jobs.length, round)
    assert.ok(ask('auditLog', {}).entries.length > 0)
    clock.advance(1000)
    engine.tick()
  }
  engine.close()
  assert.deepEqual([...again], [])
})
