import assert from 'node:assert/strict'
import { symlinkSync } from 'node:fs'
import { test } from 'node:test'
import { GopherQueue } from '../../src/index.ts'
import { temporaryFolder } from '../support/folder.ts'

const refused = { name: 'GopherQueueError', code: 'INVALID_ARGUMENT', accepted: 'no' }

test('options that are no object are refused by every call that takes some', async () => {
  await using queue = await GopherQueue.open(':memory:')
  queue.define('t', {}, () => null)
  const worker = queue.work()
  for (const wrong of [null, 3, 'x', []] as never[])
    for (const call of [
      () => GopherQueue.open(':memory:', wrong),
      () => queue.jobs(wrong),
      () => queue.configure('q', wrong),
      () => queue.schedule('s', '* * * * *', 't', 1, wrong),
      () => queue.submit('t', 1, wrong),
      () => queue.wait(1, wrong),
      async () => queue.define('u', wrong),
      async () => queue.work(wrong),
      async () => worker.stop(wrong),
    ])
      await assert.rejects(call, refused, `${call} with ${wrong}`)
})

test('a place that cannot be opened is refused in words of the queue', async () => {
  using folder = temporaryFolder()
  symlinkSync('loop', folder.file('loop'))
  for (const place of [folder.file('loop'), folder.file('loop/a.db'), folder.file('x'.repeat(300))])
    await assert.rejects(GopherQueue.open(place), { ...refused, code: 'STORAGE_UNAVAILABLE' })
  for (const place of ['http://', 'https://h:99999']) await assert.rejects(GopherQueue.open(place), refused)
})
