import assert from 'node:assert/strict'
import type { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import { GopherQueue } from '../../src/index.ts'
import { newestSchema } from '../../src/store/sqlite/schema.ts'
import { temporaryFolder } from '../support/folder.ts'
import { olderFile } from '../support/older.ts'
import { runAll as run } from './support.ts'

// A look changes nothing: neither the schema of a file on which older processes work, nor does it wait for their lock.

const looks = [
  ['stats'],
  ['jobs'],
  ['jobs', '--state', 'dead'],
  ['job', '2'],
  ['job', '2', '--evidence'],
  ['why', '1'],
  ['queue', 'list'],
  ['schedule', 'list'],
  ['schedule', 'next', 'nightly'],
  ['schedule', '--retries', 'mail'],
  ['audit'],
  ['token', 'list'],
  ['doctor'],
  ['recover', '--plan'],
  ['retry', '--text', 'mail', '--dry-run'],
  ['retry', '2', '--dry-run'],
  ['cancel', '--type', 'mail', '--dry-run'],
  ['run-now', '--all', '--dry-run'],
  ['rm', '--state', 'dead', '--dry-run'],
  ['prune', '--state', 'dead', '--older-than', '0s', '--dry-run'],
]
const counted = [['types'], ['dead'], ['failing'], ['jobs', '--failing'], ['retry', '--cause', 'Error: x', '--dry-run']]

function fill(db: DatabaseSync): void {
  const at = Date.now()
  db.exec(`
    INSERT INTO gq_jobs (type, payload) VALUES ('mail', '{"n":1}');
    INSERT INTO gq_jobs (type, payload, state, attempt, finished_at, reason) VALUES ('mail', '"mail"', 'dead', 3, ${at}, 'exhausted');
    INSERT INTO gq_attempts (job_id, attempt, started_at, finished_at, outcome, error_name, error_message)
      VALUES (2, 3, ${at}, ${at}, 'failed', 'Error', 'x');
    INSERT INTO gq_schedules (name, cron, timezone, spec, payload, missed, overlap, next_at, defined_at, defined_by)
      VALUES ('nightly', '0 3 * * *', 'UTC', '{"queue":"default","type":"mail"}', '{}', 'once', 'skip', ${at + 1e6}, ${at}, '[]');
    INSERT INTO gq_tokens (name, scopes, hash, created_at) VALUES ('shop', 'read', '${'0'.repeat(64)}', ${at});
    INSERT INTO gq_audit (at, who, action, target, details) VALUES (${at}, 'me', 'pause', 'default', NULL)`)
}

for (const schema of [1, 4, newestSchema - 1])
  test(`looks leave a file of schema ${schema} as it is, and need no lock that another holds`, async () => {
    using folder = temporaryFolder()
    const file = folder.file('jobs.db')
    const old = await olderFile(file, schema)
    fill(old)
    const dump = () => old.prepare('SELECT sql FROM sqlite_schema').all()
    const before = dump()
    old.exec('BEGIN IMMEDIATE')
    for (const { args, code, out, err } of run(file, looks)) {
      assert.equal(err, '', args.join(' '))
      assert.equal(code, 0, args.join(' '))
      if (args[0] === 'jobs' || args[1] === '--text') assert.match(out, /\tdead[\t ]/)
      if (args[0] === 'job') assert.match(out, /Error: x|"message": "x"/)
      if (args[0] === 'token') assert.match(out, /^shop/)
      if (args[0] === 'doctor') assert.match(out, new RegExp(`warn\tschema\tversion ${schema}\t.*not looked at`))
    }
    for (const { args, code, err } of run(file, counted)) {
      if (schema >= (args[0] === 'types' ? 4 : 5)) continue
      assert.equal(code, 1, args.join(' '))
      assert.match(err, new RegExp(`SCHEMA_TOO_OLD: The file has schema ${schema}`), args.join(' '))
    }
    old.exec('ROLLBACK')
    assert.equal(run(file, [['backup', folder.file('copy.db')]])[0]!.code, 0)
    assert.deepEqual(dump(), before)
    assert.equal(old.prepare(`SELECT value FROM gq_meta WHERE key = 'schema'`).get()!.value, String(schema))
    old.close()
  })

test('a look that goes on while the schema is brought forward sees what the file has then', async () => {
  using folder = temporaryFolder()
  const file = folder.file('jobs.db')
  const old = await olderFile(file, 4)
  fill(old)
  old.close()
  const { Reader } = await import('../../src/store/sqlite/reader.ts')
  await using reader = new Reader(file)
  await assert.rejects(reader.call('deadLetters', {}), { code: 'SCHEMA_TOO_OLD', accepted: 'no' })
  await using newer = await GopherQueue.open(file)
  await newer.submit('mail', 1) // what is made by plain SQL is counted with the next transaction
  assert.equal((await reader.call('deadLetters', {})).causes[0]?.count, 1)
})

test('looks of this version do not wait for a lock either', async () => {
  using folder = temporaryFolder()
  const file = folder.file('jobs.db')
  const db = await olderFile(file, newestSchema)
  fill(db)
  db.exec('BEGIN IMMEDIATE')
  for (const { args, code, err } of run(file, [...looks, ...counted])) {
    assert.equal(err, '', args.join(' '))
    assert.equal(code, 0, args.join(' '))
  }
  db.close()
})
