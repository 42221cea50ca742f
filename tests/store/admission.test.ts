import assert from 'node:assert/strict'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import { type Attempt, jobSpec } from '../../src/model/job.ts'
import { audit, auditOrder } from '../../src/store/sqlite/audit.ts'
import { Engine } from '../../src/store/sqlite/commit.ts'
import { connect } from '../../src/store/sqlite/connection.ts'
import { Db } from '../../src/store/sqlite/db.ts'
import { prune } from '../../src/store/sqlite/reaper.ts'
import type { Reply } from '../../src/store/sqlite/request.ts'
import type { Fate, Input, LeasedJob, Operation, Stats } from '../../src/store/store.ts'
import { VirtualClock } from '../../src/testing/clock.ts'
import { temporaryFolder } from '../support/folder.ts'

// What others insert with plain SQL: from the insert to its admission, and what becomes of what cannot be admitted.

const sources = [{ queue: 'default', type: 'work' }]

class Rig implements Disposable {
  readonly #folder = temporaryFolder()
  readonly #clock = new VirtualClock()
  readonly #engine = new Engine(this.#folder.file('jobs.db'), this.#clock)
  readonly file = new DatabaseSync(this.#folder.file('jobs.db'))
  readonly #replies = new Map<number, Reply>()
  #lastSeq = 0

  send<K extends Operation>(operation: K, input: Input<K>): number {
    const seq = ++this.#lastSeq
    this.#hear(this.#engine.execute([{ seq, operation, input }]))
    return seq
  }

  reply(seq: number): Reply | undefined {
    return this.#replies.get(seq)
  }

  value<T>(seq: number): T {
    const reply = this.reply(seq)
    assert.ok(reply && 'value' in reply, JSON.stringify(reply))
    return reply.value as T
  }

  ask<K extends Operation>(operation: K, input: Input<K>): unknown {
    return this.value(this.send(operation, input))
  }

  lease(slots: number): LeasedJob[] {
    const worker = this.ask('register', { name: 'w', sources, slots }) as number
    const seq = this.send('lease', { worker, sources, slots, exclude: [] })
    this.look()
    return this.value<LeasedJob[]>(seq)
  }

  look(): void {
    this.#clock.advance(50)
    this.#hear(this.#engine.tick())
  }

  counted(): unknown {
    return this.file.prepare('SELECT ready, scheduled, all_submitted AS submitted FROM gq_queues').get() ?? null
  }

  #hear(replies: Reply[]): void {
    for (const reply of replies) this.#replies.set(reply.seq, reply)
  }

  [Symbol.dispose](): void {
    const rules = [...audit(this.file), auditOrder(this.file)]
    assert.deepEqual(rules.filter(({ broken }) => broken.length > 0), []) // biome-ignore format: one line
    this.file.close()
    this.#engine.close()
    this.#folder[Symbol.dispose]()
  }
}

test('until it is admitted, stats count it and why says so; then the counters have it', () => {
  using rig = new Rig()
  rig.file.exec(`INSERT INTO gq_jobs (type, payload) VALUES ('work', '1'), ('work', '2');
    INSERT INTO gq_jobs (queue, type, payload, state, run_at) VALUES ('later', 'work', '1', 'scheduled', 9e12)`)
  const before = rig.ask('stats', null) as Stats
  assert.deepEqual(
    before.queues.map(({ queue, counts, totals }) => [queue, counts.ready, counts.scheduled, totals.submitted]),
    [
      ['default', 2, 0, 2],
      ['later', 0, 1, 1],
    ],
  )
  assert.equal(rig.counted(), null)
  assert.match(String(rig.ask('why', 1)), /inserted with plain SQL and is not admitted yet/)
  rig.ask('setQueue', { queue: 'other', paused: false }) // any write
  assert.deepEqual({ ...(rig.counted() as object) }, { ready: 2, scheduled: 0, submitted: 2 })
  assert.deepEqual((rig.ask('stats', null) as Stats).queues.filter(({ queue }) => queue !== 'other'), before.queues) // biome-ignore format: one line
  assert.doesNotMatch(String(rig.ask('why', 1)), /admitted/)
})

test('an operation that names a job admits it first, however many stand before it', () => {
  using rig = new Rig()
  rig.file.exec(`INSERT INTO gq_jobs (type, payload)
    WITH n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000) SELECT 'work', i FROM n`)
  assert.equal((rig.ask('cancel', 3000) as Fate).state, 'cancelled')
  assert.deepEqual({ ...(rig.counted() as object) }, { ready: 1000, scheduled: 0, submitted: 1001 })
})

test('maxDepth counts those that the step did not come to, of its own queue', () => {
  using rig = new Rig()
  const insert = (jobs: number, queue: string) =>
    rig.file.exec(`INSERT INTO gq_jobs (type, payload, queue)
      WITH n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${jobs}) SELECT 'work', i, '${queue}' FROM n`)
  rig.ask('setQueue', { queue: 'default', maxDepth: 1500 })
  insert(1100, 'other')
  insert(1499, 'default')
  const submit = (payload: string) =>
    rig.reply(rig.send('submit', { specs: jobSpec('work', {}), payloads: [payload], keys: null }))!
  const full = (reply: Reply) => 'error' in reply && reply.error.code
  assert.deepEqual([full(submit('1')), full(submit('2'))], [false, 'QUEUE_FULL'])
})

test('many are admitted in steps, by class and id, and a worker gets them in that order', () => {
  using rig = new Rig()
  rig.file.exec(`INSERT INTO gq_jobs (type, payload, priority)
    WITH n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2500) SELECT 'work', i, iif(i = 2500, 0, 2) FROM n`)
  const jobs = rig.lease(2500)
  assert.deepEqual(jobs.slice(0, 3).map(({ id }) => id), [2500, 1, 2]) // biome-ignore format: one line
  for (let looks = 0; looks < 3; looks++) rig.look()
  const { left } = rig.file.prepare('SELECT COUNT(*) AS left FROM gq_jobs WHERE blocked = 2').get()!
  assert.equal(left, 0, 'nobody has to ask')
})

test('jobs of a concurrency key hold its places from their admission on', () => {
  using rig = new Rig()
  rig.file.exec(`INSERT INTO gq_jobs (type, payload, concurrency_key, priority)
    VALUES ('work', '1', 'k', 2), ('work', '2', 'k', 0), ('work', '3', 'other', 2), ('work', '4', 'k', 2)`)
  const jobs = rig.lease(10)
  assert.deepEqual(jobs.map(({ id }) => id), [2, 3]) // biome-ignore format: one line
})

test('numbers that no version writes stop nobody, neither before nor after their admission', () => {
  const huge = '9223372036854775807'
  for (const [column, value] of [
    ['attempt', '9007199254740991'],
    ['company', huge],
    ['losses', huge],
    ['undelivered', huge],
    ['postponed', huge],
    ['asked', huge],
  ]) {
    // biome-ignore format: a table
    using rig = new Rig()
    rig.file.exec(`INSERT INTO gq_jobs (type, payload, ${column}) VALUES ('work', '1', ${value})`)
    rig.file.exec(`INSERT INTO gq_jobs (type, payload) VALUES ('work', '2')`)
    assert.deepEqual(rig.lease(10).map(({ id }) => id), [1, 2], column) // biome-ignore format: one line
  }
})

const refused: [columns: string, values: string, reason: RegExp][] = [
  ['type, payload', `'', '1'`, /type/],
  ['type, payload, queue', `'work', '1', char(0)`, /queue/],
  ['type, payload, queue', `'work', '1', printf('%.*c', 1000, 'q')`, /queue/],
  ['type, payload, concurrency_key', `'work', '1', ''`, /concurrencyKey/],
  ['type, payload, state, run_at, deadline', `'work', '1', 'scheduled', 9e12, 8e12`, /no attempt could start\.$/],
  ['type, payload, idempotency_key', `'work', '1', printf('%.*c', 1000, 'k')`, /idempotencyKey/],
  // A lone surrogate, and half a character: whoever reads them gets U+FFFD, which finds no such row.
  ['type, payload', `CAST(x'eda080' AS TEXT), '1'`, /^The type .+ is not UTF-8 as it was inserted\.$/],
  ['type, payload, queue', `'work', '1', CAST(x'61c3' AS TEXT)`, /^The queue .+ is not UTF-8 as it was inserted\.$/],
  [
    'type, payload, concurrency_key',
    `'work', '1', CAST(x'eda080' AS TEXT)`,
    /^The concurrency_key .+ is not UTF-8 as it was inserted\.$/,
  ],
  [
    'type, payload, idempotency_key',
    `'work', '1', CAST(x'ff' AS TEXT)`,
    /^The idempotency_key .+ is not UTF-8 as it was inserted\.$/,
  ],
  [
    'type, payload, queue, state, run_at',
    `'work', '1', CAST(x'ff' AS TEXT), 'scheduled', 9e12`,
    /^The queue .+ is not/,
  ],
  ['type, payload, unique_key', `'work', '1', printf('%.*c', 1000, 'k')`, /uniqueKey/],
  [
    'type, payload, unique_key',
    `'work', '1', CAST(x'ff' AS TEXT)`,
    /^The unique_key .+ is not UTF-8 as it was inserted\.$/,
  ],
  ['type, payload, idempotency_key', `'work', '1', 'taken'`, /belongs to job 1/],
  ['type, payload, idempotency_key, state, run_at', `'work', '1', 'taken', 'scheduled', 9e12`, /belongs to job 1/],
]

for (const [columns, values, reason] of refused)
  test(`(${columns}) VALUES (${values}) fails nobody's transaction, and ends dead with the reason`, () => {
    using rig = new Rig()
    rig.file.exec(`INSERT INTO gq_jobs (type, payload, idempotency_key) VALUES ('work', '1', 'taken');
      INSERT INTO gq_jobs (${columns}) VALUES (${values});
      INSERT INTO gq_jobs (type, payload) VALUES ('work', '3')`)
    assert.deepEqual(rig.lease(10).map(({ id }) => id), [1, 3]) // biome-ignore format: one line
    const [attempt] = rig.ask('attempts', 2) as Attempt[]
    assert.equal(attempt?.error?.name, 'NotAdmitted')
    assert.match(attempt.error.message, reason)
    assert.match(String(rig.ask('why', 2)), /dead since .*: it could not be admitted: .*[^.;]; it runs again only/)
    assert.doesNotMatch(String(rig.ask('why', 2)), /Nothing was/)
  })

test('a unique key is held from the insert on, by whoever inserts', () => {
  using rig = new Rig()
  const insert = (how: string) =>
    rig.file.prepare(`${how} INTO gq_jobs (type, payload, unique_key) VALUES ('work', '1', 'k')`).run().changes
  assert.equal(insert('INSERT'), 1)
  assert.throws(() => insert('INSERT'), /UNIQUE constraint failed: gq_jobs.queue, gq_jobs.type, gq_jobs.unique_key/)
  assert.equal(insert('INSERT OR IGNORE'), 0)
  const submission = { specs: jobSpec('work', { uniqueKey: 'k' }), payloads: ['2'], keys: null }
  assert.deepEqual(rig.ask('submit', submission), { ids: [1], duplicates: [0], states: ['ready'] })
  const [job] = rig.lease(10)
  rig.ask('succeed', { lease: job!, result: '1' })
  assert.equal(insert('INSERT'), 1)
  // Bytes that are read as a key that another job holds.
  rig.file.exec(
    `INSERT INTO gq_jobs (type, payload, unique_key) VALUES ('work', '1', char(65533)), ('work', '1', CAST(x'ff' AS TEXT))`,
  )
  rig.look()
  assert.deepEqual(rig.lease(10).length, 2)
})

test('a retry of a job that can never run is refused, alone and among many', () => {
  using rig = new Rig()
  rig.file.exec(`INSERT INTO gq_jobs (type, payload) VALUES ('a' || char(10) || 'b', '1');
    INSERT INTO gq_jobs (type, payload, state, run_at, deadline) VALUES ('work', '2', 'scheduled', 9e12, 8e12)`)
  rig.look()
  const reply = rig.reply(rig.send('retry', 1))
  assert.ok(reply && 'error' in reply)
  assert.equal(reply.error.code, 'INVALID_STATE')
  assert.match(
    reply.error.message,
    /^Job 1 is dead: it can never run\. A type name .* got "a\\nb"\. Nothing was changed\.$/,
  )
  assert.deepEqual(rig.ask('many', { event: 'retry', filter: { state: 'dead' } }), { changed: 1, next: null })
  assert.deepEqual(rig.lease(10).map(({ id }) => id), [2]) // biome-ignore format: one line
})

test('a process that only submits looks for the jobs of others when others have committed, and then once', (t) => {
  using rig = new Rig()
  const all = t.mock.method(Db.prototype, 'all')
  /** How many submissions of three look for jobs to be admitted. */
  const looks = () => {
    const before = all.mock.calls.length
    for (let i = 0; i < 3; i++) rig.ask('submit', { specs: jobSpec('work', {}), payloads: ['1'], keys: null })
    return all.mock.calls.slice(before).filter(({ arguments: [sql] }) => sql.includes('blocked = 2')).length
  }
  looks()
  assert.equal(looks(), 0)
  rig.file.exec(`INSERT INTO gq_jobs (type, payload) VALUES ('work', '1')`)
  assert.equal(looks(), 1)
  assert.deepEqual({ ...(rig.counted() as object) }, { ready: 10, scheduled: 0, submitted: 10 })
})

test('retention deletes no job that has not ended, whatever plain SQL says of it', () => {
  using rig = new Rig()
  rig.ask('register', { name: 'another', sources: [{ queue: 'default', type: 'other' }], slots: 1 })
  rig.file.exec(`INSERT INTO gq_jobs (type, payload, prune_at) VALUES ('work', '1', 1)`)
  for (let i = 0; i < 100; i++) rig.look()
  const [job] = rig.lease(1)
  assert.equal(job?.id, 1)
})

test('retention deletes no ended job that is not counted yet', () => {
  const db = connect(':memory:', new VirtualClock())
  db.connection.exec(
    `INSERT INTO gq_jobs (type, payload, state, finished_at, prune_at) VALUES ('work', '1', 'cancelled', 1, 1)`,
  )
  db.begin('write')
  prune(db)
  db.commit()
  assert.deepEqual(
    [db.get(`SELECT COUNT(*) AS jobs FROM gq_jobs`), [...db.miscounted]],
    [{ __proto__: null, jobs: 1 }, []],
  )
  db.connection.close()
})
