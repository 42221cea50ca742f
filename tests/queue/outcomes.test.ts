import assert from 'node:assert/strict'
import { AsyncLocalStorage } from 'node:async_hooks'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import { inspect } from 'node:util'
import { runInNewContext } from 'node:vm'
import { z } from 'zod'
import {
  type DefinitionOptions,
  GopherQueue,
  type Handler,
  PermanentError,
  Postpone,
  retryAfter,
  TemporaryError,
} from '../../src/index.ts'
import { testQueue } from '../../src/testing/index.ts'
import { temporaryFolder } from '../support/folder.ts'
import { gate, hear, next, virtualQueue } from './support.ts'

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
  const over = Promise.race(
    (['succeeded', 'retrying', 'postponed', 'dead'] as const).map((event) => next(queue, event)),
  )
  queue.work()
  await over
  const [job, history, now] = [await queue.job(id), await queue.history(id), store.clock.now()]
  assert.ok(job)
  return { ...job, delay: job.runAt === null ? null : job.runAt - now, error: history[0]?.error ?? null, history }
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
  const { state, delay, error } = await once(boom(new TemporaryError('busy', { retryAfter: 'soon' as '1s' })))
  assert.deepEqual([state, delay], ['scheduled', 5000])
  assert.equal(error?.message, 'busy', "the handler's own error")
  assert.match(error?.stack ?? '', /TemporaryError: busy[\s\S]*Besides: retryAfter is no delay: retryAfter must be/)
})

test('TemporaryError and Postpone take a Date, and a number that is an instant is refused', async () => {
  const now = (await once(() => null)).createdAt // the virtual clock begins anew each time
  assert.equal((await once(boom(new TemporaryError('busy', { retryAfter: new Date(now + 60_000) })))).delay, 60_000)
  assert.equal((await once(boom(new TemporaryError('busy', { retryAfter: new Date(now + 1) })))).delay, 1)
  const put = await once(boom(new Postpone(new Date(now + 90_000))))
  assert.deepEqual([put.state, put.delay, put.attempt, put.attemptsLeft, put.history], ['scheduled', 90_000, 0, 12, []])
  for (const wrong of [now + 60_000, new Date(Number.NaN), 'soon' as '1s', -1, undefined as never]) {
    const { state, delay, attempt, error } = await once(boom(new Postpone(wrong, { cause: new Error('busy') })))
    assert.deepEqual([state, delay, attempt, error?.name], ['scheduled', 5000, 1, 'Postpone'])
    assert.match(error?.message ?? '', /^The handler put its job off\. It counts as failed: until .*\.$/)
    assert.doesNotMatch(error?.message ?? '', /Nothing was changed/)
    assert.match(error?.stack ?? '', /Postpone: The handler put its job off[\s\S]*Besides: Postpone names no time: until[\s\S]*Caused by: Error: busy/) // biome-ignore format: one line
  }
})

test('Postpone is no failure: classify is not asked, and a subclass, another copy of the package and a promise are one too', async () => {
  class Later extends Postpone {}
  const copy = Object.defineProperty(Object.assign(new Error('later'), { until: '5m' }), Symbol.for('gopherqueue.postpone'), { value: true }) // biome-ignore format: one line
  for (const handler of [
    boom(new Postpone('5m')),
    boom(new Later('5m')),
    boom(copy),
    () => Promise.reject(new Postpone(300_000)),
  ]) {
    const { state, delay, attempt, postponed } = await once(handler, { classify: () => 'permanent' })
    assert.deepEqual([state, delay, attempt, postponed], ['scheduled', 300_000, 0, 1])
  }
})

test('retryAfter reads seconds and HTTP dates, and nothing else', () => {
  const at = new Date('1994-11-06T08:49:37Z')
  for (const date of ['Sun, 06 Nov 1994 08:49:37 GMT', 'Sunday, 06-Nov-94 08:49:37 GMT', 'Sun Nov  6 08:49:37 1994'])
    assert.deepEqual(retryAfter(date), at, date)
  assert.deepEqual([retryAfter('0'), retryAfter(' 120 ')], [0, 120_000])
  for (const odd of [null, undefined, '', 'soon', '-1', '1.5', '99999999', '1e3', 'Sunday', '2030-01-01T00:00:00Z'])
    assert.equal(retryAfter(odd), undefined, `${odd}`)
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
  const { error } = await once(boom(new RangeError('own')), { classify: boom(new Error('in classify')) })
  assert.deepEqual([error?.name, error?.message], ['RangeError', 'own'])
  assert.match(error?.stack ?? '', /Besides: classify gave no verdict: in classify/)
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
  const broken = await once(boom(failure), { backoff }, (queue) => queue.defineBackoff('mine', () => 'soon' as '1s'))
  assert.deepEqual([broken.state, broken.delay], ['scheduled', 5000])
  assert.equal(broken.error?.message, '503')
  assert.match(broken.error?.stack ?? '', /Besides: The backoff gave no delay: backoff 'mine' must be/)
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

test('a result that is too large or no JSON: the work was done, so the job succeeds, with null and a warning', async () => {
  const cycle: Record<string, unknown> = {}
  cycle.self = cycle
  for (const [result, message] of [
    ['x'.repeat(1024 * 1024), /result has 1048578 bytes/],
    [{ id: 2 ** 53 }, /id: it is an integer beyond/],
    [[Number.NaN], /0: it is NaN/],
    [10n, /it is the bigint 10/],
    [cycle, /self: it contains itself/],
    [() => 1, /it is a function/],
    [new Map(), /it is a Map/],
    [{ a: (JSON as never as { rawJSON(text: string): object }).rawJSON('1e400') }, /a: it is a JSON.rawJSON/],
    [{ headers: new Headers({ a: 'b' }) }, /headers: it is of class Headers/],
  ] as const) {
    const job = await once(async () => result)
    assert.deepEqual([job.state, job.result, job.attempt], ['succeeded', null, 1])
    assert.match(job.warning ?? '', message)
  }
  assert.equal((await once(() => 1)).warning, null)
})

test('a result that throws when it is looked at is not kept, and its job succeeds', async () => {
  const throwing = (traps: (keyof ProxyHandler<object>)[], thrown: unknown) => {
    const refuse = boom(thrown)
    return new Proxy({}, Object.fromEntries(traps.map((trap) => [trap, refuse])))
  }
  const { proxy: revoked, revoke } = Proxy.revocable({}, {})
  revoke()
  const results = {
    revoked,
    member: { deep: [revoked] },
    getter: Object.defineProperty({}, 'then', { get: boom(new Error('no such file')) }),
    has: throwing(['has', 'ownKeys'], new Error('no')),
    prototype: throwing(['getPrototypeOf'], null),
    all: throwing(['get', 'has', 'ownKeys', 'getPrototypeOf'], revoked),
    json: { toJSON: boom(revoked) },
  }
  for (const [name, result] of Object.entries(results)) {
    for (const options of [{}, { payload: z.null() } as DefinitionOptions]) {
      const job = await once(() => result, options)
      assert.deepEqual([job.state, job.result, job.attempt], ['succeeded', null, 1], name)
      assert.match(job.warning ?? '', /^The job succeeded, and its result was not kept: .*throws/, name)
    }
    await using queue = testQueue()
    const { id } = await queue.define(name, () => result as never).submit(null)
    await queue.drain()
    assert.match((await queue.job(id))?.warning ?? '', /result was not kept/, name)
  }
})

test('who waits gets null, and events and why tell the warning', async () => {
  const { queue } = virtualQueue()
  await using _ = queue
  const task = queue.define<null, unknown>('t', {}, () => 1n as never)
  const told = [next(queue, 'succeeded'), next(queue, 'warning')] as const
  const { id } = await task.submit(null)
  queue.work()
  assert.equal(await task.wait(id), null)
  const [[, result, warning], [event]] = await Promise.all(told)
  assert.equal(result, 'null')
  assert.match(warning ?? '', /^The job succeeded, and its result was not kept: /)
  assert.deepEqual(
    [(event as { code: string }).code, (await queue.why(id)).endsWith(warning!)],
    ['INVALID_RESULT', true],
  )
})

test('an AggregateError, and causes of causes, are in the evidence', async () => {
  const chain = new Error('top', { cause: new Error('middle', { cause: { code: 'root' } }) })
  const { error } = await once(boom(new AggregateError([new TypeError('one'), chain, 'three'], 'all failed')))
  assert.deepEqual([error?.name, error?.message], ['AggregateError', 'all failed'])
  const parts = ['all failed', 'Error 1 of 3: TypeError: one', 'Error 2 of 3: Error: top', 'Caused by: Error: middle', "Caused by: { code: 'root' }", "Error 3 of 3: 'three'"] // biome-ignore format: short
  const places = parts.map((part) => error!.stack!.indexOf(part))
  assert.ok(
    places.every((place, i) => place > (places[i - 1] ?? -1)),
    error!.stack!,
  )
})

test('evidence is bounded, whatever errors are made of', async () => {
  const bytes = (error: { stack: string | null } | null) => Buffer.byteLength(error?.stack ?? '')
  const many = new AggregateError(
    Array.from({ length: 100_000 }, (_, i) => new Error(`error ${i} ${'x'.repeat(5000)}`)),
  )
  const { error } = await once(boom(many))
  assert.ok(bytes(error) <= 8192 + 50, `${bytes(error)} bytes`)
  for (const part of [
    'Error 1 of 100000: Error: error 0',
    'Error 10 of 100000: Error: error 9',
    '[cut: ',
    'Of 100000 errors',
  ])
    assert.ok(error?.stack?.includes(part), part)
  let deep = new Error('0')
  for (let i = 1; i < 10_000; i++) deep = new Error(`${i}`, { cause: deep })
  const { error: chained } = await once(boom(deep))
  assert.match(chained?.stack ?? '', /Caused by: Error: 9998[\s\S]*Caused by: more, which is not told/)
  const ring = new AggregateError([], 'ring')
  ring.cause = ring
  ring.errors.push(ring)
  assert.match((await once(boom(ring))).error?.stack ?? '', /Caused by: one that stands above/)
  const evil = Object.defineProperties(new Error('evil'), {
    cause: { get: boom(new Error('no')) },
    errors: { value: new Proxy([1], { get: (of, name) => (name === 'length' ? of.length : boom(new Error('no'))()) }) },
  })
  const { error: told } = await once(boom(evil))
  assert.deepEqual([told?.message, /what throws when it is looked at/.test(told?.stack ?? '')], ['evil', true])
  const { error: realm } = await once(boom(runInNewContext(`new RangeError('there', { cause: new Error('far') })`)))
  assert.deepEqual([realm?.name, realm?.message, /Caused by: Error: far/.test(realm?.stack ?? '')], ['RangeError', 'there', true]) // biome-ignore format: short
})

test('errors are known by their brand: those of another copy of the package count', async () => {
  const copy = (await import(
    `../../src/model/errors.ts?copy=${process.pid}`
  )) as typeof import('../../src/model/errors.ts')
  assert.notEqual(copy.PermanentError, PermanentError)
  assert.equal((await once(boom(new copy.PermanentError('gone')))).reason, 'permanent')
  assert.equal((await once(boom(new copy.TemporaryError('busy', { retryAfter: '90s' })))).delay, 90_000)
  class Own extends copy.PermanentError {}
  assert.equal((await once(boom(new Own('gone')))).reason, 'permanent')
  assert.equal((await once(boom(Object.assign(new Error('no'), { name: 'PermanentError' })))).state, 'scheduled')
  assert.deepEqual(Object.keys(new PermanentError('x')), ['name'])
})

test('an attempt runs in a context of its own, never in that of another job or of whoever caused it', async () => {
  const { queue } = virtualQueue()
  await using _ = queue
  const storage = new AsyncLocalStorage<string>()
  const seen: unknown[] = []
  const stopping = gate()
  const task = queue.define<number, null>('t', {}, async ({ payload }, { signal }) => {
    seen.push([payload, storage.getStore()])
    storage.enterWith(`job ${payload}`)
    if (payload === 3) {
      signal.addEventListener('abort', () => {
        seen.push(['signal', storage.getStore()])
        stopping.open()
      })
      await stopping.opened
    }
    return null
  })
  for (const event of ['started', 'succeeded'] as const)
    hear(queue, event, () => seen.push([event, storage.getStore()]))
  await storage.run('submitter', () => task.submitMany([1, 2, 3]))
  const last = next(queue, 'cancelled')
  const cancelled = next(queue, 'succeeded').then(() => undefined)
  storage.run('worker', () => queue.work({ concurrency: 1 }))
  await cancelled
  while (!seen.some((one) => String(one) === '3,worker')) await setImmediate()
  await storage.run('operator', () => queue.cancel(3))
  await stopping.opened
  await Promise.race([last, task.wait(3)])
  assert.deepEqual(
    seen.filter((one) => (one as unknown[])[1] !== undefined),
    [
      [1, 'worker'],
      [2, 'worker'],
      [3, 'worker'],
      ['signal', 'worker'],
    ],
  )
  assert.equal(seen.filter((one) => (one as unknown[])[0] === 'started').length, 3)
})

test('of what a handler tells of its progress the latest is kept: a million calls are a few messages', async () => {
  const { queue, store } = virtualQueue()
  await using _ = queue
  let calls = 0
  const call = store.call.bind(store)
  store.call = ((operation: string, ...rest: unknown[]) => {
    if (operation === 'progress') calls++
    return (call as (...all: unknown[]) => unknown)(operation, ...rest)
  }) as never
  const task = queue.define('t', {}, (_job, { progress }) => {
    for (let i = 1; i <= 1_000_000; i++) progress(i / 10_000, `step ${i}`)
    return 'done'
  })
  const { id } = await task.submit(null)
  queue.work()
  await task.wait(id)
  assert.deepEqual((await queue.job(id))?.progress, { percent: 100, message: 'step 1000000' })
  assert.ok(calls <= 3, `${calls} messages`)
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

test('a number that plain SQL submits and no double holds ends its job with the reason, and is shown as it is', async () => {
  using folder = temporaryFolder()
  await using queue = await GopherQueue.open(folder.file('jobs.db'))
  const task = queue.define<unknown, string>('task', { maxAttempts: 5 }, () => 'done')
  const db = new DatabaseSync(folder.file('jobs.db'))
  db.exec(`INSERT INTO gq_jobs (type, payload) VALUES ('task', '{"a":[9007199254740993]}'), ('task', '[1e400]'), ('task', '9007199254740991')`) // biome-ignore format: short
  db.close()
  queue.work()
  assert.equal(await task.wait(3), 'done')
  await assert.rejects(task.wait(1), {
    code: 'JOB_FAILED',
    message: /dead \(permanent\): .*a\.0: it is an integer beyond/,
  })
  await assert.rejects(task.wait(2), { code: 'JOB_FAILED', message: /dead \(permanent\): .*0: it is Infinity/ })
  assert.deepEqual([(await queue.job(1))?.attempt, (await queue.job(1))?.payload], [1, '{"a":[9007199254740993]}'])
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
