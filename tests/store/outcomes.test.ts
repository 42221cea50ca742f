import assert from 'node:assert/strict'
import type { SQLInputValue } from 'node:sqlite'
import { test } from 'node:test'
import type { Clock } from '../../src/model/clock.ts'
import { GopherQueueError } from '../../src/model/errors.ts'
import { jobSpec } from '../../src/model/job.ts'
import { Engine } from '../../src/store/sqlite/commit.ts'
import { connect } from '../../src/store/sqlite/connection.ts'
import { Db } from '../../src/store/sqlite/db.ts'
import type { Reply } from '../../src/store/sqlite/request.ts'
import type { Input, LeasedJob, Operation } from '../../src/store/store.ts'
import { VirtualClock } from '../../src/testing/clock.ts'
import { rowsOf } from '../support/filled.ts'
import { temporaryFolder } from '../support/folder.ts'

/** A disk whose COMMIT is on disk and reported as failed. */
class LateDb extends Db {
  isLate = false

  override run(sql: string, ...values: SQLInputValue[]): number {
    const changes = super.run(sql, ...values)
    if (sql !== 'COMMIT' || !this.isLate) return changes
    this.isLate = false
    throw Object.assign(new Error('disk I/O error'), { code: 'ERR_SQLITE_ERROR', errcode: 10 })
  }
}

test('an outcome whose COMMIT may have taken place is never told to be refused', () => {
  using folder = temporaryFolder()
  const path = folder.file('jobs.db')
  const clock = new VirtualClock()
  let db: LateDb | undefined
  const open = (path: string, clock: Clock) => {
    if (db) throw new GopherQueueError('STORAGE_CORRUPT', 'The file is damaged.')
    db = connect(path, clock, () => new LateDb(path, clock)) as LateDb
    return db
  }
  const engine = new Engine(path, clock, { open })
  let seq = 0
  const ask = <K extends Operation>(operation: K, input: Input<K>): Reply | undefined =>
    engine.execute([{ seq: ++seq, operation, input }]).find((reply) => reply.seq === seq)
  const sources = [{ queue: 'default', type: 'a' }]
  const worker = (ask('register', { name: 'w', sources, slots: 1 }) as { value: number }).value
  ask('submit', { specs: jobSpec('a', {}), payloads: ['1'], keys: null })
  const [job] = (ask('lease', { worker, sources, slots: 1, exclude: [] }) as { value: LeasedJob[] }).value
  db!.isLate = true
  const { id, queue, type, token } = job!
  assert.equal(ask('succeed', { lease: { id, queue, type, token }, result: '1' }), undefined) // it is held
  clock.advance(1000)
  const [reply] = engine.tick()
  assert.ok(reply && 'error' in reply)
  assert.deepEqual([reply.seq, reply.error.code, reply.error.accepted], [seq, 'STORAGE_CORRUPT', 'unknown'])
  engine.close()
  assert.equal(rowsOf(path, 'SELECT state FROM gq_jobs')[0]!.state, 'succeeded')
})
