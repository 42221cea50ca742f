import assert from 'node:assert/strict'
import { test } from 'node:test'
import { GopherQueue } from '../../src/index.ts'
import { temporaryFolder } from '../support/folder.ts'
import { gate, next, virtualQueue } from './support.ts'

test('progress is kept with the next transaction, and is worth none of its own', async () => {
  const { queue } = virtualQueue()
  await using _ = queue
  const done = gate()
  const task = queue.define('import', {}, async (_job, { progress }) => {
    progress(10)
    progress(40, '400 of 1,000 rows')
    await done.opened
  })
  const { id } = await task.submit(null)
  const started = next(queue, 'started')
  queue.work()
  await started
  await queue.stats() // a read takes nothing to disk
  assert.equal((await queue.job(id))?.progress, null)
  await queue.pause('other') // any write does
  assert.deepEqual((await queue.job(id))?.progress, { percent: 40, message: '400 of 1,000 rows' })
  done.open()
  await task.wait(id)
})

test('a percentage that is none fails the attempt', async () => {
  const { queue } = virtualQueue()
  await using _ = queue
  const task = queue.define('import', { maxAttempts: 1 }, (_job, { progress }) => progress(101))
  const { id } = await task.submit(null)
  queue.work()
  await assert.rejects(task.wait(id), { code: 'JOB_FAILED', message: /progress takes 0 to 100 percent; got 101/ })
})

test('an attempt goes on from the checkpoint of the one before, also in another process', async () => {
  using folder = temporaryFolder()
  const file = folder.file('jobs.db')
  const steps: unknown[] = []
  const handler =
    (fails: boolean) => async (job: { checkpoint: unknown }, context: { checkpoint(s: unknown): Promise<void> }) => {
      steps.push(job.checkpoint)
      const { row } = (job.checkpoint ?? { row: 0 }) as { row: number }
      await context.checkpoint({ row: row + 500 })
      if (fails) throw new Error('the connection broke')
      return row + 500
    }
  const first = await GopherQueue.open(file)
  const task = first.define('import', { backoff: { kind: 'constant', delay: 0 } }, handler(true))
  const { id } = await task.submit(null)
  const failed = next(first, 'retrying')
  first.work()
  await failed
  await first.close()

  await using second = await GopherQueue.open(file)
  second.define('import', {}, handler(false))
  second.work()
  const rows = (await second.wait<number>(id)) / 500
  assert.deepEqual(steps, [null, ...Array.from({ length: rows - 1 }, (_, i) => ({ row: 500 * (i + 1) }))])
  assert.ok(rows >= 2)
})

test('a checkpoint that is too large or not JSON is refused, and one without its lease too', async () => {
  const { queue, store } = virtualQueue()
  await using _ = queue
  const done = gate()
  const task = queue.define('import', { maxAttempts: 1, timeout: 1000 }, async (_job, { checkpoint }) => {
    await assert.rejects(checkpoint('x'.repeat(70_000)), { code: 'PAYLOAD_TOO_LARGE' })
    await assert.rejects(checkpoint(10n), { code: 'INVALID_PAYLOAD' })
    await done.opened
    return checkpoint(1).catch((error) => late.resolve(error.code))
  })
  const late = Promise.withResolvers<string>()
  const { id } = await task.submit(null)
  const dead = next(queue, 'dead')
  const started = next(queue, 'started')
  queue.work()
  await started
  store.advance(1000)
  await dead
  done.open()
  assert.equal(await late.promise, 'LEASE_LOST')
  assert.equal((await queue.job(id))?.state, 'dead')
})
