import assert from 'node:assert/strict'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import { inspect } from 'node:util'
import { type DefinitionOptions, GopherQueue, type Handler, PermanentError, TemporaryError } from '../../src/index.ts'
import { temporaryFolder } from '../support/folder.ts'
import { gate, next, virtualQueue } from './support.ts'

/** Runs one job of a handler until its first attempt is over; `history` and `job` are as they stand then. */
async function once(
  handler: Handler<unknown, unknown>,
  options: DefinitionOptions = {},
  prepare?: (queue: GopherQueue) => void,
) {
  const { queue, store } = virtualQueue()
  await using _ = queue
  prepare?.(queue)
  const task = queue.define('t', options, handler)
  const { id } = await task.submit(null)
  const over = Promise.race((['succeeded', 'retrying', 'dead'] as const).map((event) => next(queue, event)))
  queue.work()
  await over
  const [job, history, now] = [await queue.job(id), await queue.history(id), store.clock.now()]
  assert.ok(job)
  return { ...job, delay: job.runAt === null ? null : job.runAt - now, error: history[0]!.error, history }
}

const boom = (error: unknown) => () => {
  throw error
}

test('a throw is temporary: again after the backoff, with the error in the history', async () => {
  const { state, delay, error, attempt, attemptsLeft } = await once(boom(new TypeError('no luck')))
  assert.deepEqual([state, delay, attempt, attemptsLeft], ['scheduled', 5000, 1, 11])
  assert.deepEqual([error?.name, error?.message], ['TypeError', 'no luck'])
  assert.match(error?.stack ?? '', /TypeError: no luck\n +at .*outcomes\.test\.ts/)
})

test('an error carries its causes; what is no error is told as it is', async () => {
  const { error } = await once(boom(new Error('no mail', { cause: new Error('no network') })))
  assert.match(error?.stack ?? '', /Error: no mail[\s\S]*Caused by: Error: no network/)
  const odd = await once(boom({ status: 503 }))
  assert.deepEqual([odd.state, odd.error], ['scheduled', { name: 'NonError', message: '{ status: 503 }', stack: null }])
  assert.equal((await once(boom(undefined))).error?.message, 'undefined')
  const half = await once(boom(Object.assign(new Error(), { name: undefined, message: { status: 503 } })))
  assert.deepEqual([half.error?.name, half.error?.message], ['undefined', '{ status: 503 }'])
  const evil = {
    [inspect.custom](): never {
      throw this
    },
  }
  assert.equal((await once(boom(evil))).error?.message, 'What was thrown throws when it is looked at.')
})

test('PermanentError ends the job at once, also a subclass and one from a promise', async () => {
  class Unknown extends PermanentError {}
  for (const handler of [
    boom(new PermanentError('gone')),
    boom(new Unknown('gone')),
    () => Promise.reject(new PermanentError('gone')),
  ]) {
    const { state, reason, attempt, error } = await once(handler)
    assert.deepEqual([state, reason, attempt, error?.message], ['dead', 'permanent', 1, 'gone'])
  }
})

test('TemporaryError is repeated by the backoff, or when it says', async () => {
  assert.equal((await once(boom(new TemporaryError('busy')))).delay, 5000)
  assert.equal((await once(boom(new TemporaryError('busy', { retryAfter: '90s' })))).delay, 90_000)
  assert.equal((await once(boom(new TemporaryError('busy', { retryAfter: 1 })))).delay, 1)
  const { state, delay, error } = await once(boom(new TemporaryError('busy', { retryAfter: 'soon' })))
  assert.deepEqual([state, delay], ['scheduled', 5000])
  assert.match(error?.message ?? '', /retryAfter must be/)
})

test('the last attempt is the last, whatever the error says', async () => {
  const { state, reason } = await once(boom(new TemporaryError('busy', { retryAfter: 1 })), { maxAttempts: 1 })
  assert.deepEqual([state, reason], ['dead', 'exhausted'])
})

test('classify overrules both ways, undefined leaves it, and its own fault is a temporary failure', async () => {
  const state = async (error: Error, classify: DefinitionOptions['classify']) =>
    (await once(boom(error), { classify: classify! })).state
  assert.equal(await state(new Error('404'), () => 'permanent'), 'dead')
  assert.equal(await state(new PermanentError('but no'), () => 'temporary'), 'scheduled')
  assert.equal(await state(new Error('?'), () => undefined), 'scheduled')
  assert.equal(await state(new PermanentError('?'), () => undefined), 'dead')
  assert.equal(await state(new PermanentError('?'), boom(new Error('in classify'))), 'scheduled')
})

test('a custom backoff gets attempt and error; where none is known the default one applies', async () => {
  const backoff = { kind: 'custom', name: 'mine' } as const
  const seen: unknown[] = []
  const failure = new Error('503')
  const known = await once(boom(failure), { backoff }, (queue) =>
    queue.defineBackoff('mine', (attempt, error) => {
      seen.push(attempt, error)
      return '7m'
    }),
  )
  assert.equal(known.delay, 420_000)
  assert.deepEqual(seen, [1, failure])
  assert.equal((await once(boom(failure), { backoff })).delay, 5000)
  const broken = await once(boom(failure), { backoff }, (queue) => queue.defineBackoff('mine', () => 'soon'))
  assert.deepEqual([broken.state, broken.delay], ['scheduled', 5000])
  assert.match(broken.error?.message ?? '', /backoff 'mine' must be/)
})

test('a custom backoff also decides after a timeout', async () => {
  const { queue, store } = virtualQueue()
  await using _ = queue
  const release = gate()
  queue.defineBackoff('mine', () => '7m')
  queue.define('t', { timeout: '1s', backoff: { kind: 'custom', name: 'mine' } }, () => release.opened)
  await queue.submit('t', null)
  const started = next(queue, 'started')
  queue.work()
  await started
  const retrying = next(queue, 'retrying')
  store.advance(1000)
  const [, error, fate] = await retrying
  assert.equal(error.name, 'Timeout')
  assert.equal(fate.runAt, store.clock.now() + 420_000)
  release.open()
})

test('what a handler returns is the result: a value, a promise, any thenable, or nothing', async () => {
  // biome-ignore lint/suspicious/noThenProperty: that is what is tested
  const thenable = { then: (done: (value: string) => void) => done('later') }
  const results: [unknown, unknown][] = [
    [{ sum: 3 }, { sum: 3 }],
    [Promise.resolve([1]), [1]],
    [thenable, 'later'],
    // biome-ignore lint/suspicious/noThenProperty: that is what is tested
    [{ then: 'not a function' }, { then: 'not a function' }],
    [undefined, null],
    [new Date(0), '1970-01-01T00:00:00.000Z'],
  ]
  for (const [returned, result] of results) {
    const job = await once(() => returned)
    assert.deepEqual([job.state, job.result], ['succeeded', result])
  }
  // biome-ignore lint/suspicious/noThenProperty: that is what is tested
  const refusing = { then: (_: unknown, no: (error: Error) => void) => no(new PermanentError('no')) }
  assert.equal((await once(() => refusing)).reason, 'permanent')
})

test('a result that is too large or no JSON is a permanent failure: again would be the same', async () => {
  const cycle: Record<string, unknown> = {}
  cycle.self = cycle
  for (const [result, message] of [
    ['x'.repeat(1024 * 1024), /result has 1048578 bytes/],
    [10n, /result cannot be written as JSON/],
    [cycle, /result cannot be written as JSON/],
    [() => 1, /result is a function/],
  ] as const) {
    const { state, reason, error } = await once(async () => result)
    assert.deepEqual([state, reason, error?.name], ['dead', 'permanent', 'GopherQueueError'])
    assert.match(error?.message ?? '', message)
  }
})

test('message and stack are cut at 8 KiB each, and the cut is marked', async () => {
  const { error } = await once(boom(new Error('é'.repeat(10_000))))
  for (const text of [error?.message, error?.stack]) {
    assert.match(text ?? '', /… \[cut: \d+ bytes in all\]$/)
    assert.ok(Buffer.byteLength(text ?? '') < 8192 + 50)
  }
  assert.match(error?.message ?? '', /\[cut: 20000 bytes/)
  assert.equal((await once(boom(new Error('x'.repeat(8192))))).error?.message.length, 8192)
})

test('a payload that was damaged in the file ends its job, not the process, and can be seen', async () => {
  using folder = temporaryFolder()
  await using queue = await GopherQueue.open(folder.file('jobs.db'))
  const task = queue.define('task', {}, () => 'done')
  const [damaged, sound] = await task.submitMany([1, 2])
  const db = new DatabaseSync(folder.file('jobs.db'))
  db.exec(`PRAGMA ignore_check_constraints = ON; UPDATE gq_jobs SET payload = '{"cut' WHERE id = ${damaged!.id}`)
  db.close()
  queue.work()
  assert.equal(await task.wait(sound!.id), 'done')
  await assert.rejects(task.wait(damaged!.id), { code: 'JOB_FAILED', message: /JSON/ })
  assert.equal((await queue.job(damaged!.id))?.payload, '{"cut')
})
