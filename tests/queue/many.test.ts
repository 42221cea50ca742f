import assert from 'node:assert/strict'
import { test } from 'node:test'
import { GopherQueueError, PermanentError } from '../../src/index.ts'
import { changeAll } from '../../src/queue/many.ts'
import type { Store } from '../../src/store/store.ts'
import { virtualQueue } from './support.ts'

test('an operator acts on all jobs of a filter, and hears how many were changed', async () => {
  const { queue } = virtualQueue()
  await using _ = queue
  const mail = queue.define<number>('mail', {}, () => {
    throw new PermanentError('no postman')
  })
  const sent = await mail.submitMany(Array.from({ length: 2500 }, (_, i) => i))
  await queue.submitMany('other', [1, 2, 3], { delay: '1h' })
  assert.equal(await queue.runAllNow({ type: 'mail' }), 0)
  assert.equal(await queue.runAllNow({}), 3)
  assert.equal(await queue.cancelAll({ type: 'mail' }), 2500)
  assert.equal(await queue.cancelAll({ type: 'mail' }), 0, 'those that it does not fit stay as they are')
  assert.equal(await queue.retryAll({ type: 'mail', state: 'cancelled' }), 2500)
  queue.work()
  await Promise.allSettled(sent.map(({ id }) => queue.wait(id)))
  assert.equal(await queue.retryAll({ cause: 'PermanentError: no letter' }), 0)
  assert.equal(await queue.removeAll({ cause: 'PermanentError: no postman' }), 2500)
  assert.deepEqual((await queue.jobs()).jobs.map(({ type }) => type), ['other', 'other', 'other']) // biome-ignore format: one line
})

test('a filter that does not exist, or that names a page, is refused', async () => {
  const { queue } = virtualQueue()
  await using _ = queue
  for (const filter of [{ stat: 'dead' }, { limit: 1 }, { cursor: 5 }, { order: 'oldest' }, null, undefined])
    await assert.rejects(queue.cancelAll(filter as object), { code: 'INVALID_ARGUMENT' })
})

test('an error in a later step says how many were changed before it', async () => {
  const answers = [{ changed: 7, next: 12 }, new GopherQueueError('STORAGE_FULL', 'The disk has no room.')]
  const call = async () => {
    const answer = answers.shift()
    if (answer instanceof Error) throw answer
    return answer
  }
  const all = changeAll({ call } as unknown as Store, 'retry', {})
  await assert.rejects(all, { code: 'STORAGE_FULL', accepted: 'yes', message: /no room\. 7 jobs were changed before/ })
})
