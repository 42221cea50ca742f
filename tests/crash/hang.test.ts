import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as pause } from 'node:timers/promises'
import { GopherQueue } from '../../src/index.ts'
import type { HangConfig } from './hang.child.ts'
import { readJournal } from './journal.ts'
import { folderFor, start, until } from './processes.ts'

test('a process whose thread stands still gets no job: what has one attempt waits for it, and does not die of it', async (t) => {
  const folder = folderFor(t)
  const config: HangConfig = {
    file: join(folder, 'jobs.db'),
    log: join(folder, 'work.log'),
    release: join(folder, 'release'),
  }
  const queue = await GopherQueue.open(config.file)
  await queue.submit('hang', null)
  const worker = start(t, 'hang.child.ts', config)
  await until('it hangs', 30, () => readJournal(config.log).some(([word]) => word === 'hangs'))
  const jobs = await Promise.all(
    Array.from({ length: 10 }, () => queue.submit('quick', null, { maxAttempts: 1, timeout: '1s' })),
  )
  await pause(3000) // longer than their timeout and its grace: those that were given would be over
  for (const { id } of jobs) assert.equal((await queue.job(id))?.state, 'ready')
  writeFileSync(config.release, '')
  for (const { id } of jobs) assert.equal(await queue.wait(id), null)
  await queue.close()
  await worker.stop()
})
