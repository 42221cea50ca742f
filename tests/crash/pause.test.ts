import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import { GopherQueue } from '../../src/index.ts'
import { readJournal } from './journal.ts'
import { folderFor, lookInto, start, until } from './processes.ts'
import type { WorkConfig } from './work.child.ts'

// A worker that was stopped for longer than its lease comes back and finds that its job has moved on.

for (const type of ['hang', 'nap'])
  test(`a worker that slept through its lease cannot change what the next attempt did (${type})`, async (t) => {
    const folder = folderFor(t)
    const file = join(folder, 'jobs.db')
    const queue = await GopherQueue.open(file)
    const { id } = await queue.submit(type, null, { visibilityTimeout: '1s' })
    await queue.close()
    const worker = (name: string) => {
      const config: WorkConfig = { file, log: join(folder, name), concurrency: 1 }
      return start(t, 'work.child.ts', config)
    }
    const said = (name: string, word: string) =>
      until(`${name} says ${word}`, 20, () => readJournal(join(folder, name)).find((words) => words[0] === word))

    const sleeper = worker('sleeper.log')
    await said('sleeper.log', 'start')
    process.kill(sleeper.pid, 'SIGSTOP')
    const heir = worker('heir.log')
    assert.deepEqual((await said('heir.log', 'end')).slice(1, 3), [String(id), '2'])
    const db = lookInto(file)
    const job = db.prepare(`SELECT * FROM gq_jobs`)
    await until('the job succeeded', 20, () => job.get()!.state === 'succeeded')
    const before = { ...job.get() }
    assert.equal(before.attempt, 2)
    assert.equal(before.result, '"attempt 2"')

    process.kill(sleeper.pid, 'SIGCONT')
    const lost = await until('the sleeper learns of it', 20, () =>
      readJournal(join(folder, 'sleeper.log')).find(
        ([word, ...rest]) => word === 'lost' || rest.join(' ').includes('lease on job'),
      ),
    )
    t.diagnostic(lost.join(' '))
    await sleeper.stop()
    await heir.stop()
    assert.deepEqual({ ...job.get() }, before)
    const attempts = db.prepare(`SELECT attempt, outcome FROM gq_attempts`).all()
    assert.deepEqual(
      attempts.map((row) => ({ ...row })),
      [{ attempt: 1, outcome: 'lost' }],
    )
    db.close()
  })
