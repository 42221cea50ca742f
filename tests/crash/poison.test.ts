import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import { GopherQueue } from '../../src/index.ts'
import { folderFor, lookInto, start } from './processes.ts'
import type { WorkConfig } from './work.child.ts'

for (const concurrency of [1, 4])
  test(`a job that kills its worker each time ends dead, and the others succeed (${concurrency} at once)`, async (t) => {
    const folder = folderFor(t)
    const file = join(folder, 'jobs.db')
    const queue = await GopherQueue.open(file)
    const before = await queue.submitMany('work', [1, 2, 3, 4, 5, 6])
    const { id: poison } = await queue.submit('poison', null, { maxAttempts: 3 })
    const after = await queue.submitMany('work', [7, 8, 9, 10, 11, 12])
    await queue.close()

    const db = lookInto(file)
    const unfinished = db.prepare(`SELECT COUNT(*) AS n FROM gq_jobs WHERE state NOT IN ('succeeded', 'dead')`)
    let workers = 0
    let deaths = 0
    while (unfinished.get()!.n !== 0) {
      assert.ok(workers < 10, 'it goes on for ever')
      const config: WorkConfig = {
        file,
        log: join(folder, `work-${++workers}.log`),
        concurrency,
        longest: 20,
        whileWaiting: true,
      }
      const child = start(t, 'work.child.ts', config) // ends when nothing is left to do
      const end = await child.ended
      assert.ok(end === 'SIGKILL' || end === 0, child.complaints)
      if (end === 'SIGKILL') deaths++
    }
    // Those in company single it out and are not charged; alone it is.
    assert.ok(deaths >= 3 && deaths <= 3 + Math.log2(concurrency) + (concurrency > 1 ? 1 : 0), `${deaths} deaths`)

    const job = db.prepare(`SELECT state, reason, attempt FROM gq_jobs WHERE id = ?`).get(poison)
    assert.deepEqual({ ...job }, { state: 'dead', reason: 'exhausted', attempt: deaths })
    const history = db
      .prepare(`SELECT attempt, outcome, error_message AS message FROM gq_attempts WHERE job_id = ? ORDER BY attempt`)
      .all(poison) as { attempt: number; outcome: string; message: string }[]
    assert.deepEqual(
      history.map(({ attempt, outcome }) => [attempt, outcome]),
      Array.from({ length: deaths }, (_, i) => [i + 1, 'lost']),
    )
    // A loss alone may lie between those in company: one that ran beside it had ended a moment before.
    const alone = history.map(({ message }) => /it ran alone/.test(message))
    assert.ok(alone.filter(Boolean).length === 3 && alone.at(-1), JSON.stringify(history))
    const others = db.prepare(`SELECT id, state, attempt FROM gq_jobs WHERE id <> ? ORDER BY id`).all(poison)
    assert.deepEqual(
      others.map((row) => row.id),
      [...before, ...after].map(({ id }) => id),
    )
    for (const { id, state, attempt } of others) {
      assert.equal(state, 'succeeded')
      // With one slot no other job is ever in the hands of the worker that dies; with more, those beside it run again.
      if (concurrency === 1) assert.equal(attempt, 1, `job ${id}`)
    }
    db.close()
  })
