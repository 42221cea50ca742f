import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync, type SQLInputValue } from 'node:sqlite'
import { test } from 'node:test'
import { isTerminal, type State, states } from '../../src/model/lifecycle.ts'
import { migrate } from '../../src/store/sqlite/schema.ts'

type Columns = Record<string, SQLInputValue>

/** What every job has. */
const common: Columns = {
  queue: 'q',
  type: 't',
  priority: 2,
  payload: '{}',
  max_attempts: 3,
  backoff: '{}',
  timeout: 1,
  on_timeout: 'retry',
  visibility_timeout: 1,
  created_at: 1,
}

/** What a job in each state must have beside that. */
const shapes: Record<State, Columns> = {
  scheduled: { run_at: 1 },
  ready: {},
  running: { attempt: 1, lease_token: 1, lease_expires_at: 1, started_at: 1 },
  succeeded: { finished_at: 1, result: '1' },
  dead: { finished_at: 1, reason: 'exhausted' },
  cancelled: { finished_at: 1 },
}

/** What a job in each state must not be, one change at a time. */
const malformed: Record<State, Columns[]> = {
  scheduled: [{ run_at: null }, { lease_token: 1 }, { finished_at: 1 }, { reason: 'expired' }],
  ready: [{ run_at: 1 }, { lease_token: 1 }, { finished_at: 1 }, { reason: 'expired' }],
  running: [
    { lease_token: null },
    { lease_expires_at: null },
    { started_at: null },
    { attempt: 0 },
    { budget_from: 1 },
    { finished_at: 1 },
    { reason: 'timeout' },
  ],
  succeeded: [{ finished_at: null }, { result: null }, { lease_expires_at: 1 }, { reason: 'permanent' }],
  dead: [{ finished_at: null }, { reason: null }, { reason: 'bored' }, { lease_token: 1 }],
  cancelled: [{ finished_at: null }, { lease_token: 1 }, { reason: 'expired' }],
}

function empty(): DatabaseSync {
  const db = new DatabaseSync(':memory:')
  migrate(db, () => db.exec('BEGIN'))
  return db
}

function insert(db: DatabaseSync, table: string, columns: Columns): void {
  const names = Object.keys(columns)
  db.prepare(`INSERT INTO ${table} (${names}) VALUES (${names.map(() => '?')})`).run(...Object.values(columns))
}

const job = (state: string, ...changes: Columns[]): Columns => Object.assign({ ...common, state }, ...changes)
const refused = { message: /CHECK constraint failed/ }

test('the table takes a job in each state of the lifecycle, and in no other', () => {
  const db = empty()
  for (const state of states) insert(db, 'gq_jobs', job(state, shapes[state]))
  for (const state of ['', 'READY', 'failed', 'retrying', 'ready '])
    for (const shape of Object.values(shapes))
      assert.throws(() => insert(db, 'gq_jobs', job(state, shape)), refused, state)
  assert.throws(() => insert(db, 'gq_jobs', { ...job('ready'), state: null }), /NOT NULL/)
})

for (const state of states)
  test(`a malformed ${state} job is refused`, () => {
    const db = empty()
    for (const change of malformed[state])
      assert.throws(
        () => insert(db, 'gq_jobs', job(state, shapes[state], change)),
        refused,
        `${state} with ${JSON.stringify(change)}`,
      )
  })

test('a state alone cannot be changed: no event leaves a job in the shape of the state before', () => {
  const db = empty()
  for (const from of states)
    for (const to of states) {
      if (from === to || (from === 'succeeded' && to === 'cancelled')) continue // the same shape but for the result
      db.exec('DELETE FROM gq_jobs')
      insert(db, 'gq_jobs', job(from, shapes[from]))
      assert.throws(() => db.prepare('UPDATE gq_jobs SET state = ?').run(to), refused, `${from} as ${to}`)
    }
})

test('a finish time says that the state is terminal, and the other way round', () => {
  for (const state of states) assert.equal('finished_at' in shapes[state], isTerminal(state))
})

test('values outside their range are refused', () => {
  const db = empty()
  for (const change of [{ priority: -1 }, { priority: 5 }, { on_timeout: 'kill' }, { payload: '{' }, { payload: '' }])
    assert.throws(() => insert(db, 'gq_jobs', job('ready', change)), refused, JSON.stringify(change))
  // Nanoseconds in place of milliseconds, say: no double holds them, and reading such a row would fail everybody.
  const huge = 2n ** 53n
  for (const column of ['id', 'created_at', 'attempt', 'tick'])
    for (const value of [huge, -1])
      assert.throws(() => insert(db, 'gq_jobs', job('ready', { [column]: value })), refused, `${column} ${value}`)
  assert.throws(() => insert(db, 'gq_jobs', job('succeeded', { finished_at: huge })), refused)
  for (const column of ['keep_succeeded', 'all_submitted', 'ready', 'changed'])
    assert.throws(() => insert(db, 'gq_queues', { name: 'q', [column]: huge }), refused, column)
  assert.throws(() => insert(db, 'gq_jobs', job('ready', { created_at: 'today' })), /cannot store TEXT/)
  for (const change of [{ paused: 2 }, { max_depth: 0 }, { ready: -1 }, { running: -1 }, { dead: -1 }])
    assert.throws(() => insert(db, 'gq_queues', { name: 'q', ...change }), refused, JSON.stringify(change))
  for (const change of [
    { rate_max: 1 },
    { rate_per: 1 },
    { rate_max: 0, rate_per: 1 },
    { rate_max: 1, rate_per: 86_400_001 },
  ])
    assert.throws(() => insert(db, 'gq_queues', { name: 'q', ...change }), refused, JSON.stringify(change))
  assert.throws(() => insert(db, 'gq_starts', { queue: 'q', at: 1, starts: 0 }), refused)
  insert(db, 'gq_jobs', job('ready'))
  const attempt = { job_id: 1, attempt: 1, started_at: 1, finished_at: 2, outcome: 'failed' }
  assert.throws(() => insert(db, 'gq_attempts', { ...attempt, outcome: 'odd' }), refused)
  insert(db, 'gq_attempts', attempt)
  assert.throws(() => insert(db, 'gq_attempts', attempt), /UNIQUE/)
  assert.throws(() => insert(db, 'gq_attempts', { ...attempt, job_id: 7 }), /FOREIGN KEY/)
})

test('a key is unique for its queue and type', () => {
  const db = empty()
  const key = { queue: 'q', type: 't', key: 'k', job_id: 1, digest: '', expires_at: 1 }
  insert(db, 'gq_keys', key)
  insert(db, 'gq_keys', { ...key, queue: 'other' })
  insert(db, 'gq_keys', { ...key, type: 'other' })
  assert.throws(() => insert(db, 'gq_keys', { ...key, job_id: 2 }), /UNIQUE/)
})

test('migrating again changes nothing, and a newer file is refused untouched', () => {
  const db = empty()
  const dump = () => db.prepare('SELECT * FROM sqlite_schema').all()
  const before = dump()
  migrate(db, () => assert.fail('nothing to migrate'))
  assert.deepEqual(dump(), before)
  db.exec(`UPDATE gq_meta SET value = '99' WHERE key = 'schema'`)
  assert.throws(() => migrate(db, () => assert.fail('not to be touched')), { code: 'SCHEMA_TOO_NEW' })
})

/** Of each migration, the SHA-256 of its SQL. A line is added with its file, and never changed once that is released. */
const frozen = {
  '001.ts': '1a3648c0b0ae376448cfc7e1e46e6216ec537c89755d8e2b905327f4834c3d18',
  '002.ts': '390089b0b9823b51b1a15b79d3b0ee92a1199d037638343481d76090734e6c79',
  '003.ts': 'd727c349619a1f2cd3172ec8df7db08d8ab0a1fd2e6e76ba615417e66541db52',
  '004.ts': '0863a06d2fc111a8a015389f29c0d1d64a13c4e92f85b90b115eccff2419a642',
  '005.ts': '66db3daf9947943e1e35bd31854ed46d4fc649fc01e4648a2211535cd338d2d6',
  '006.ts': '41664926802a385bc6af40f35582d35432a4b597503daf3c22c51b9c89d46c42',
  '007.ts': 'a387cdfa5a41574e95e37ad251093f839e8407b24a07a2a60bd822d6d8bc9f49',
  '008.ts': 'b8c3612fc9a3fa95e06952ec8155168b0290a5fc806c3323f152776d7cf03782',
}

test('migrations are frozen: their text is what it was, and no constant of the program is part of it', async () => {
  const folder = join(import.meta.dirname, '../../src/store/sqlite/schema')
  assert.deepEqual(readdirSync(folder), Object.keys(frozen))
  for (const [file, hash] of Object.entries(frozen)) {
    const { sql } = (await import(join(folder, file))) as { sql: string }
    assert.equal(createHash('sha256').update(sql).digest('hex'), hash, file)
    assert.doesNotMatch(readFileSync(join(folder, file), 'utf8'), /\$\{|import/)
  }
})
