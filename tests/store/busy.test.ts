import assert from 'node:assert/strict'
import type { SQLInputValue } from 'node:sqlite'
import { test } from 'node:test'
import type { Clock } from '../../src/model/clock.ts'
import { jobSpec } from '../../src/model/job.ts'
import { Engine } from '../../src/store/sqlite/commit.ts'
import { connect, lockWait } from '../../src/store/sqlite/connection.ts'
import { Db } from '../../src/store/sqlite/db.ts'
import type { Reply } from '../../src/store/sqlite/request.ts'
import type { Input, Operation } from '../../src/store/store.ts'
import { VirtualClock } from '../../src/testing/clock.ts'
import { temporaryFolder } from '../support/folder.ts'

/** Others hold the write lock at its next transactions that write. */
class BusyDb extends Db {
  busy = 0
  /** Lines that were read under the write lock. */
  read = 0

  override run(sql: string, ...values: SQLInputValue[]): number {
    if (sql === 'BEGIN IMMEDIATE' && this.busy > 0 && this.busy--)
      throw Object.assign(new Error('database is locked'), { code: 'ERR_SQLITE_ERROR', errcode: 5 })
    return super.run(sql, ...values)
  }

  override arrays(sql: string, ...values: SQLInputValue[]): unknown[][] {
    if (this.connection.isTransaction && sql.includes('SELECT id, priority, ')) this.read++
    return super.arrays(sql, ...values)
  }
}

function busyEngine(path: string): { engine: Engine; db: BusyDb } {
  let db!: BusyDb
  const open = (path: string, clock: Clock) => {
    db = connect(path, clock, () => new BusyDb(path, clock)) as BusyDb
    return db
  }
  return { engine: new Engine(path, new VirtualClock(), { open }), db }
}

test('a wait for the write lock does not make a process forget what it knows of thousands of lines', () => {
  using folder = temporaryFolder()
  const { engine, db } = busyEngine(folder.file('jobs.db'))
  let seq = 0
  const ask = <K extends Operation>(operation: K, input: Input<K>): Reply[] =>
    engine.execute([{ seq: ++seq, operation, input }])
  const sources = Array.from({ length: 2000 }, (_, i) => ({ queue: `q${i}`, type: 'a' }))
  const [registered] = ask('register', { name: 'w', sources, slots: 9 }) as { seq: number; value: number }[]
  ask('lease', { worker: registered!.value, sources, slots: 9, exclude: [] })
  for (const busy of [0, 2]) {
    db.read = 0
    db.busy = busy
    ask('submit', { specs: jobSpec('a', { queue: 'q7' }), payloads: ['1'], keys: null })
    assert.equal(db.busy, 0)
    assert.ok(db.read >= 1 && db.read <= 2, `${db.read} lines read after ${busy} waits`)
    ask('lease', { worker: registered!.value, sources, slots: 9, exclude: [] })
  }
  engine.close()
})

test('who waits for the write lock is refused after 10 s, and told who holds it', (t) => {
  using folder = temporaryFolder()
  const { engine, db } = busyEngine(folder.file('jobs.db'))
  t.after(() => engine.close())
  let waited = 0
  t.mock.method(lockWait, 'sleep', (ms: number) => {
    waited += ms
    return ms
  })
  db.busy = Number.POSITIVE_INFINITY
  const input = { specs: jobSpec('a', {}), payloads: ['1'], keys: null }
  const [reply] = engine.execute([{ seq: 1, operation: 'submit', input }])
  assert.ok(reply && 'error' in reply)
  assert.deepEqual([reply.error.code, reply.error.accepted], ['STORAGE_UNAVAILABLE', 'no'])
  assert.match(
    reply.error.message,
    /holds the file's write lock for too long\. Nothing was accepted: find who holds it/,
  )
  assert.ok(waited > 10_000 && waited <= 10_010, `${waited} ms`)
})
