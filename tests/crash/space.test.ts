import assert from 'node:assert/strict'
import { statSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { systemClock } from '../../src/model/clock.ts'
import { connect } from '../../src/store/sqlite/connection.ts'
import { folderFor, fromEnvironment, lookInto, start, until } from './processes.ts'
import { randomFrom } from './random.ts'

const kills = fromEnvironment('CRASH_SPACE_KILLS', 6)
const jobs = 40_000

test(`killed ${kills} times while it gives space back, a file is whole and keeps every job`, async (t) => {
  const file = join(folderFor(t), 'jobs.db')
  const { connection } = connect(file, systemClock)
  const insert = connection.prepare(
    `INSERT INTO gq_jobs (type, payload) VALUES ('work', json_object('n', ?, 'text', ?))`,
  )
  connection.exec('BEGIN')
  for (let n = 0; n < jobs; n++) insert.run(n, 'x'.repeat(1 + ((n * 37) % 6000))) // some on pages of their own
  connection.exec(`COMMIT; DELETE FROM gq_jobs WHERE id % 10 <> 0; UPDATE gq_queues SET ready = ${jobs / 10};
    PRAGMA wal_checkpoint(TRUNCATE)`)
  connection.close()
  const random = randomFrom(fromEnvironment('CRASH_SEED', 1))
  const size = () => statSync(file).size
  const whole = size()
  const floor = whole / 5
  for (let kill = 1; kill <= kills; kill++) {
    const from = size()
    const child = start(t, 'space.child.ts', { file })
    await until('the file shrinks', 30, () => size() < from || !child.alive)
    const goal = whole - ((whole - floor) * (kill - 1 + random())) / kills
    await until('it shrinks on', 30, () => size() < goal || !child.alive)
    await child.kill()
    const db = lookInto(file)
    assert.equal(db.prepare('PRAGMA integrity_check').get()!.integrity_check, 'ok')
    const found = db.prepare(
      `SELECT COUNT(*) AS jobs, SUM(id % 10) AS strays, SUM(LENGTH(payload ->> 'text') = 1 + ((payload ->> 'n') * 37) % 6000) AS right FROM gq_jobs`,
    )
    assert.deepEqual({ ...found.get() }, { jobs: jobs / 10, strays: 0, right: jobs / 10 })
    db.close()
  }
  const last = start(t, 'space.child.ts', { file })
  assert.equal(await last.ended, 0, last.complaints)
  assert.ok(size() < floor, `${size()} of ${whole}`)
})
