import assert from 'node:assert/strict'
import { symlinkSync } from 'node:fs'
import { test } from 'node:test'
import { GopherQueue, nextTimes, retryAfter, retryTimes } from '../../src/index.ts'
import { SqliteStore } from '../../src/store/sqlite/store.ts'
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

test('functions beside the queue refuse what they cannot use, and never go on for ever', async () => {
  const wrongs = [
    undefined,
    null,
    Number.NaN,
    Number.POSITIVE_INFINITY,
    1e308,
    2 ** 53,
    'x',
    Symbol('s'),
    {},
  ] as never[]
  await using queue = await GopherQueue.open(':memory:')
  for (const wrong of wrongs) {
    assert.throws(() => nextTimes('* * * * *', 'UTC', wrong, 0), refused)
    assert.throws(() => nextTimes('* * * * *', 'UTC', 5, wrong), refused)
    assert.throws(() => retryTimes(wrong, 0), refused)
    assert.equal(retryAfter(wrong), undefined)
    if (wrong !== undefined) assert.throws(() => queue.work({ queues: wrong }), refused)
  }
  assert.equal(retryAfter(5 as never), 5000)
})

test('an argument of the wrong kind is the caller’s fault, not storage’s, and hurts no other call', async () => {
  await using queue = await GopherQueue.open(':memory:')
  const wrongs = [undefined, Symbol('s'), () => 1, { with: [() => 1] }, 1.5, new Map()] as never[]
  for (const wrong of wrongs)
    for (const call of [
      () => queue.pauseSchedule(wrong),
      () => queue.resumeSchedule(wrong),
      () => queue.removeSchedule(wrong),
      () => queue.queues(wrong ?? ('' as never)),
      () => queue.deadLetters({ cursor: wrong ?? ('' as never) }),
      () => queue.jobs({ text: wrong ?? ('' as never) }),
      () => queue.schedule('s', wrong, 't', 1),
      () => queue.schedule('s', '* * * * *', 't', 1, { timezone: wrong ?? (null as never) }),
      () => queue.wait(1, { signal: wrong ?? (null as never) }),
    ])
      await assert.rejects(call, refused, `${call} with ${String(wrong)}`)
})

test('what cannot go to the storage thread is refused alone: the calls beside it are answered', async () => {
  await using store = await SqliteStore.open(':memory:')
  const calls = [
    store.call('stats', null),
    store.call('removeSchedule', Symbol('s') as never),
    store.call('stats', null),
    store.call('pauseSchedule', { name: 's', paused: () => true } as never),
    store.call('stats', null),
  ]
  const answers = await Promise.allSettled(calls)
  const told = answers.map((answer) => (answer.status === 'fulfilled' ? 'answered' : answer.reason.code))
  assert.deepEqual(told, ['answered', 'INVALID_ARGUMENT', 'answered', 'INVALID_ARGUMENT', 'answered'])
})

test('a text with NUL is refused, and a filter whose value is undefined: each would mean all jobs', async () => {
  await using queue = await GopherQueue.open(':memory:')
  await queue.submit('t', 'a payload')
  for (const filter of [{ text: '\0' }, { text: 'pay\0load' }, { text: 'x'.repeat(257) }, { queue: undefined }, { text: undefined }] as never[]) // biome-ignore format: one line
    for (const all of [queue.cancelAll, queue.retryAll, queue.runAllNow, queue.removeAll])
      await assert.rejects(all.call(queue, filter), refused)
  assert.equal((await queue.stats()).queues[0]!.counts.ready, 1)
})

test('a place that cannot be opened is refused in words of the queue', async () => {
  using folder = temporaryFolder()
  symlinkSync('loop', folder.file('loop'))
  for (const place of [folder.file('loop'), folder.file('loop/a.db'), folder.file('x'.repeat(300))])
    await assert.rejects(GopherQueue.open(place), { ...refused, code: 'STORAGE_UNAVAILABLE' })
  await (await GopherQueue.open(folder.file('jobs.db'))).close()
  const inFile = await GopherQueue.open(folder.file('jobs.db/a.db')).catch((error: Error) => error.message)
  assert.match(`${inFile}`, /ENOTDIR.* Correct the path/)
  assert.doesNotMatch(`${inFile}`, /report this/)
  for (const place of ['http://', 'https://h:99999']) await assert.rejects(GopherQueue.open(place), refused)
})
