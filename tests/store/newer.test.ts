import assert from 'node:assert/strict'
import { once } from 'node:events'
import { DatabaseSync } from 'node:sqlite'
import { type TestContext, test } from 'node:test'
import { GopherQueue } from '../../src/index.ts'
import { jobSpec } from '../../src/model/job.ts'
import { Engine } from '../../src/store/sqlite/commit.ts'
import { newestSchema } from '../../src/store/sqlite/schema.ts'
import type { Input, Operation } from '../../src/store/store.ts'
import { VirtualClock } from '../../src/testing/clock.ts'
import { temporaryFolder } from '../support/folder.ts'

// A newer GopherQueue brings the file's schema forward while an older one has it open.

const sources = [{ queue: 'default', type: 'work' }]
const raise = `UPDATE gq_meta SET value = ${newestSchema + 1} WHERE key = 'schema'`

function rig(t: TestContext) {
  const folder = temporaryFolder()
  const file = folder.file('jobs.db')
  const clock = new VirtualClock()
  const engine = new Engine(file, clock)
  const newer = new DatabaseSync(file, { timeout: 5000 })
  t.after(() => {
    engine.close()
    newer.close()
    folder[Symbol.dispose]()
  })
  let seq = 0
  const ask = <K extends Operation>(operation: K, input: Input<K>) => {
    const own = ++seq
    const reply = engine.execute([{ seq: own, operation, input }]).find((one) => one.seq === own)
    return reply && 'error' in reply ? reply.error.code : reply?.value
  }
  const contents = () => ['gq_jobs', 'gq_workers', 'gq_meta', 'gq_attempts', 'sqlite_sequence'].map((table) => newer.prepare(`SELECT * FROM ${table}`).all()) // biome-ignore format: short
  const submit = () => ask('submit', { specs: jobSpec('work', {}), payloads: ['1'], keys: null })
  return { engine, newer, clock, ask, contents, submit }
}

for (const way of ['a call', 'its next look'])
  test(`an older process that learns of a newer schema by ${way} writes nothing more, and says so`, (t) => {
    const { engine, newer, clock, ask, contents, submit } = rig(t)
    const worker = ask('register', { name: 'w', sources, slots: 2 }) as number
    submit()
    const [job] = ask('lease', { worker, sources, slots: 2, exclude: [] }) as { id: number; token: number }[]
    engine.execute([{ seq: 1000, operation: 'wait', input: job!.id }])
    engine.execute([{ seq: 1001, operation: 'lease', input: { worker, sources, slots: 2, exclude: [] } }])
    engine.tick()
    newer.exec(raise)
    const before = contents()
    const { id, token } = job!
    const lease = { id, token, ...sources[0]! }
    if (way === 'a call') assert.equal(ask('succeed', { lease, result: '1' }), 'SCHEMA_TOO_NEW')
    else {
      const told = engine.tick().map((reply) => [reply.seq, 'error' in reply && reply.error.code])
      assert.deepEqual(told.sort(), [[1000, 'SCHEMA_TOO_NEW'], [1001, 'SCHEMA_TOO_NEW']]) // biome-ignore format: short
    }
    assert.equal(engine.health.status, 'failed')
    assert.deepEqual(engine.health.causes.map(({ code }) => code), ['SCHEMA_TOO_NEW']) // biome-ignore format: short
    assert.deepEqual(engine.events.filter(({ event }) => event === 'leaseLost'), [{ event: 'leaseLost', id, token }]) // biome-ignore format: short
    const calls: [Operation, unknown][] = [['succeed', { lease, result: '1' }], ['heartbeat', lease], ['job', id], ['stats', null], ['wait', id], ['lease', { worker, sources, slots: 1, exclude: [] }], ['unregister', worker], ['vitals', null]] // biome-ignore format: short
    for (const [operation, input] of calls) assert.equal(ask(operation, input as never), 'SCHEMA_TOO_NEW', operation)
    assert.equal(submit(), 'SCHEMA_TOO_NEW')
    for (let i = 0; i < 100; i++) {
      clock.advance(1000)
      engine.tick()
    }
    engine.close()
    assert.deepEqual(contents(), before)
  })

test('an old and a newer process side by side under load: the old one stops at once, its handlers hear it, all else goes on', async (t) => {
  const folder = temporaryFolder()
  t.after(() => folder[Symbol.dispose]())
  const file = folder.file('jobs.db')
  const old = await GopherQueue.open(file, { diskReserve: 0 })
  const signals: AbortSignal[] = []
  old.define('long', {}, async (_, { signal }) => {
    signals.push(signal)
    await once(signal, 'abort')
  })
  let handled = 0
  old.define('work', {}, () => {
    handled++
  })
  old.on('warning', () => undefined)
  await old.submitMany('long', [1, 2])
  old.work({ concurrency: 10 })
  const newer = new DatabaseSync(file, { timeout: 5000 })
  let refused: string | undefined
  const submitting = Promise.all(
    Array.from({ length: 4 }, async () => {
      while (!refused) await old.submit('work', 1).catch(({ code }) => (refused = code))
    }),
  )
  while (handled < 100 || signals.length < 2) await new Promise((resolve) => setTimeout(resolve, 5))
  newer.exec(raise)
  // What follows is of the newer schema: this change must be the last of the file.
  const contents = () => JSON.stringify(newer.prepare('SELECT * FROM gq_jobs').all())
  const before = contents()
  await submitting
  assert.equal(refused, 'SCHEMA_TOO_NEW')
  await Promise.all(signals.map((signal) => signal.aborted || once(signal, 'abort')))
  assert.equal((await old.health()).status, 'failed')
  await assert.rejects(old.stats(), { code: 'SCHEMA_TOO_NEW' })
  assert.throws(() => old.submitWith(newer, 'work', 1), { code: 'SCHEMA_TOO_NEW' })
  await old.close().catch(({ code }) => assert.equal(code, 'SCHEMA_TOO_NEW'))
  assert.equal(contents(), before)
  newer.close()
})
