import assert from 'node:assert/strict'
import { DatabaseSync } from 'node:sqlite'
import { type TestContext, test } from 'node:test'
import { GopherQueue } from '../../src/index.ts'
import { jobSpec } from '../../src/model/job.ts'
import { Engine } from '../../src/store/sqlite/commit.ts'
import type { Input, Operation } from '../../src/store/store.ts'
import { VirtualClock } from '../../src/testing/clock.ts'
import { temporaryFolder } from '../support/folder.ts'

// Somebody drops tables of the queue, as a migration tool does with those that its schema does not know.

const sources = [{ queue: 'default', type: 'work' }]

function rig(t: TestContext) {
  const folder = temporaryFolder()
  const path = folder.file('app.db')
  const clock = new VirtualClock()
  const engine = new Engine(path, clock)
  const app = new DatabaseSync(path, { timeout: 5000 })
  t.after(() => {
    engine.close()
    app.close()
    folder[Symbol.dispose]()
  })
  let seq = 0
  const ask = <K extends Operation>(operation: K, input: Input<K>) => {
    const own = ++seq
    return engine.execute([{ seq: own, operation, input }]).find((one) => one.seq === own)
  }
  const submit = () => ask('submit', { specs: jobSpec('work', {}), payloads: ['1'], keys: null })!
  const tables = () =>
    app
      .prepare(`SELECT name FROM sqlite_schema WHERE type = 'table' AND name LIKE 'gq%' ORDER BY name`)
      .all()
      .map(({ name }) => String(name))
  const drop = (names: string[]) => {
    app.exec('PRAGMA foreign_keys = OFF')
    for (const name of names) app.exec(`DROP TABLE ${name}`)
  }
  return { engine, app, clock, path, ask, submit, tables, drop }
}

const gone = /Tables of the queue are gone.*tablesFilter: \['!gq_\*'\].*no new tables were made.*restore a backup/

for (const which of ['all of them', 'gq_jobs', 'gq_meta', 'gq_schedules', 'gq_audit'])
  test(`${which} dropped: the process that has the file open says so, makes no new ones, and none is made at open`, async (t) => {
    const { engine, app, clock, path, submit, tables, drop } = rig(t)
    assert.ok('value' in submit())
    drop(which === 'all of them' ? tables() : [which])
    const left = tables()
    const reply = submit()
    if ('error' in reply) {
      assert.deepEqual([reply.error.code, reply.error.accepted], ['STORAGE_UNAVAILABLE', 'no'])
      assert.match(reply.error.message, gone)
      for (let i = 0; i < 20; i++) {
        clock.advance(1000)
        engine.tick()
      }
      assert.deepEqual([engine.health.status, engine.health.works.submit], ['degraded', false])
      assert.match(engine.health.causes[0]!.message, gone)
    } else assert.ok(which === 'gq_schedules' || which === 'gq_audit', 'a submission does not need them')
    assert.deepEqual(tables(), left)
    engine.close()
    await assert.rejects(GopherQueue.open(path), { code: 'STORAGE_UNAVAILABLE', accepted: 'no', message: gone })
    assert.deepEqual(tables(), left)
    drop(left)
    await assert.rejects(GopherQueue.open(path), { message: gone })
    app.exec(`DELETE FROM sqlite_sequence WHERE name = 'gq_file'`) // as the message says
    const queue = await GopherQueue.open(path)
    assert.equal((await queue.submit('work', 1)).duplicate, false)
    await queue.close()
  })

test('the outcome of a job that runs meanwhile is stored once the tables are back', (t) => {
  const { engine, app, clock, ask, submit } = rig(t)
  submit()
  const worker = (ask('register', { name: 'w', sources, slots: 1 }) as { value: number }).value
  const leased = ask('lease', { worker, sources, slots: 1, exclude: [] }) as { value: { id: number; token: number }[] }
  const { id, token } = leased.value[0]!
  app.exec('PRAGMA legacy_alter_table = ON; ALTER TABLE gq_jobs RENAME TO hidden')
  assert.equal(ask('succeed', { lease: { id, token, ...sources[0]! }, result: '"done"' }), undefined, 'it is kept')
  for (let i = 0; i < 5; i++) {
    clock.advance(1000)
    engine.tick()
  }
  assert.equal(engine.health.status, 'degraded')
  app.exec('ALTER TABLE hidden RENAME TO gq_jobs')
  for (let i = 0; i < 5; i++) {
    clock.advance(1000)
    engine.tick()
  }
  assert.equal(engine.health.status, 'ok')
  assert.deepEqual(
    { ...app.prepare('SELECT state, result FROM gq_jobs').get() },
    { state: 'succeeded', result: '"done"' },
  )
})

test('submitWith says so too, and leaves the transaction as it was', async (t) => {
  const { engine, app, path, drop } = rig(t)
  engine.close()
  const queue = await GopherQueue.open(path)
  drop(['gq_jobs'])
  app.exec('PRAGMA synchronous = FULL; CREATE TABLE orders (id); BEGIN IMMEDIATE; INSERT INTO orders VALUES (1)')
  assert.throws(() => queue.submitWith(app, 'work', 1), { code: 'STORAGE_UNAVAILABLE', accepted: 'no', message: gone })
  app.exec('COMMIT')
  assert.equal(app.prepare('SELECT COUNT(*) AS orders FROM orders').get()!.orders, 1)
  await queue.close()
})
