import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { test } from 'node:test'
import { setImmediate, setTimeout } from 'node:timers/promises'
import { PermanentError, TemporaryError } from '../../src/index.ts'
import { fail, script, sleep, slow, testQueue } from '../../src/testing/index.ts'

const minute = 60_000
const hour = 60 * minute
const start = Date.UTC(2030, 0, 1)

test('nothing runs before drain, and drain leaves what is scheduled', async () => {
  await using queue = testQueue()
  const mail = queue.define('mail', {}, ({ payload }) => `to ${payload}`)
  const [now, later] = await Promise.all([mail.submit('Ada'), mail.submit('Bob', { delay: '1h' })])
  await queue.stats()
  assert.equal((await queue.job(now.id))?.state, 'ready')
  await queue.drain()
  assert.deepEqual([(await queue.job(now.id))?.result, (await queue.job(later.id))?.state], ['to Ada', 'scheduled'])
  assert.equal(queue.clock.now(), start)
  await queue.advance('1h')
  assert.equal((await queue.job(later.id))?.result, 'to Bob')
  assert.equal(queue.clock.now(), start + hour)
})

test('drain works what its handlers submit, chain after chain', async () => {
  await using queue = testQueue()
  const count = queue.define<number>('count', {}, async ({ payload }) => {
    if (payload > 0) await count.submit(payload - 1)
  })
  await count.submit(30)
  await queue.drain()
  assert.equal((await queue.stats()).queues[0]?.counts.succeeded, 31)
})

test('handlers may wait for microtasks, turns of the event loop, files and real timers', async () => {
  await using queue = testQueue({ concurrency: 3 })
  const ends: Record<string, () => Promise<unknown>> = {
    micro: () => Promise.resolve().then(() => 1),
    turn: async () => {
      for (let i = 0; i < 200; i++) await setImmediate()
      return 2
    },
    file: async () => (await readFile(import.meta.filename, 'utf8')).length > 0,
    timer: () => setTimeout(30, 4),
  }
  const task = queue.define<string>('any', {}, ({ payload }) => ends[payload]!())
  await task.submitMany([...Object.keys(ends), ...Object.keys(ends)])
  await queue.drain()
  const { jobs } = await queue.jobs({ order: 'oldest' })
  assert.deepEqual(
    jobs.map(({ result }) => result),
    [1, 2, true, 4, 1, 2, true, 4],
  )
})

test('a payload that its schema checks with real I/O is waited for', async () => {
  await using queue = testQueue()
  const validate = async (value: unknown) => {
    await setTimeout(10)
    return { value: value as string }
  }
  const payload = { '~standard': { version: 1, vendor: 'test', validate } } as const
  const task = queue.define('checked', { payload }, ({ payload }) => payload)
  const { id } = await task.submit('x')
  await queue.drain()
  assert.equal((await queue.job(id))?.result, 'x')
})

test('each retry happens at its own instant, with the handler run in between', async () => {
  await using queue = testQueue()
  const seen: number[] = []
  const charge = queue.define('charge', { backoff: { kind: 'table', delays: ['1s', '1m', '1h'], jitter: 0 } }, () => {
    seen.push(queue.clock.now() - start)
    if (seen.length < 5) throw new Error('bank is busy')
  })
  await charge.submit(null)
  await queue.advance('7d')
  assert.deepEqual(seen, [0, 1000, 61_000, 61_000 + hour, 61_000 + 2 * hour])
  assert.equal(queue.clock.now(), start + 7 * 24 * hour)
})

test('retryAfter, permanent errors and the last attempt are as in an app', async () => {
  await using queue = testQueue()
  const options = { maxAttempts: 3, backoff: { kind: 'constant', delay: '1m' } } as const
  queue.define('busy', options, fail(1, new TemporaryError('busy', { retryAfter: '5m' })))
  queue.define('wrong', options, fail(1, new PermanentError('no address')))
  queue.define('never', options, fail(Number.POSITIVE_INFINITY, 'no'))
  for (const type of ['busy', 'wrong', 'never']) await queue.submit(type, null)
  await queue.advance('1d')
  assert.equal(
    await queue.transcript(),
    `#1 busy null
  0d 00:00:00.000 submitted
  0d 00:00:00.000 attempt 1 failed: TemporaryError: busy
  0d 00:05:00.000 attempt 2 succeeded
  0d 00:05:00.000 succeeded with null
#2 wrong null
  0d 00:00:00.000 submitted
  0d 00:00:00.000 attempt 1 failed: PermanentError: no address
  0d 00:00:00.000 dead (permanent)
#3 never null
  0d 00:00:00.000 submitted
  0d 00:00:00.000 attempt 1 failed: Error: no
  0d 00:01:00.000 attempt 2 failed: Error: no
  0d 00:02:00.000 attempt 3 failed: Error: no
  0d 00:02:00.000 dead (exhausted)
`,
  )
})

test('slow takes virtual time: a timeout ends the attempt at its instant, the next one is quick enough', async () => {
  await using queue = testQueue()
  const options = { timeout: '2s', backoff: { kind: 'constant', delay: '10s' } } as const
  const report = queue.define(
    'report',
    options,
    script(
      slow('1h'),
      slow('1500ms', () => 'done'),
    ),
  )
  await report.submit({ month: 1 }, { queue: 'reports' })
  queue.work({ queues: ['reports'] })
  await queue.advance('1m')
  assert.equal(
    await queue.transcript(),
    `#1 report in reports {"month":1}
  0d 00:00:00.000 submitted
  0d 00:00:00.000 attempt 1 timeout after 2000 ms: Timeout: The attempt ran longer than its timeout of 2000 ms.
  0d 00:00:12.000 attempt 2 succeeded after 1500 ms
  0d 00:00:13.500 succeeded with "done"
`,
  )
})

test('a handler that runs longer than its lease keeps it', async () => {
  await using queue = testQueue()
  const long = queue.define('long', { timeout: '8h' }, slow('6h'))
  const { id } = await long.submit(null)
  await queue.advance('1h')
  assert.equal((await queue.job(id))?.state, 'running')
  await queue.advance('5h')
  const { state, attempt } = (await queue.job(id))!
  assert.deepEqual([state, attempt], ['succeeded', 1])
})

test('drain lets time pass as far as running handlers wait for it', async () => {
  await using queue = testQueue()
  const task = queue.define('nap', {}, slow('10s'))
  await task.submitMany(Array(25).fill(null)) // ten at once
  await queue.drain()
  assert.equal(queue.clock.now(), start + 30_000)
})

test('a cron line ticks at its instants, in its time zone', async () => {
  await using queue = testQueue({ now: new Date('2030-03-30T00:00Z') })
  const runs: string[] = []
  const report = queue.define('report', {}, () => void runs.push(new Date(queue.clock.now()).toISOString()))
  await report.schedule('nightly', '30 3 * * *', null, { timezone: 'Europe/Berlin' })
  await queue.advance('2d')
  assert.deepEqual(runs, ['2030-03-30T02:30:00.000Z', '2030-03-31T01:30:00.000Z']) // summer time begins
})

test('a deadline that passes is noticed at its instant', async () => {
  await using queue = testQueue()
  const task = queue.define(
    'task',
    { backoff: { kind: 'constant', delay: '3h' } },
    fail(1, 'no', () => undefined),
  )
  const { id } = await task.submit(null, { deadline: '1234ms' })
  await queue.advance('1h')
  const { state, reason, finishedAt } = (await queue.job(id))!
  assert.deepEqual([state, reason, finishedAt], ['dead', 'expired', start + 1234])
})

test('ended jobs stay for the test, unless the queue is configured otherwise', async () => {
  await using queue = testQueue()
  const task = queue.define('task', {}, () => undefined)
  queue.define('brief', { queue: 'brief' }, () => undefined)
  await queue.configure('brief', { keepSucceeded: '1h' })
  const [kept, gone] = [await task.submit(null), await queue.submit('brief', null)]
  await queue.advance('30d')
  assert.equal((await queue.job(kept.id))?.state, 'succeeded')
  assert.equal(await queue.job(gone.id), null)
})

test("an app's own worker runs jobs at once; drain waits for it", async () => {
  await using queue = testQueue()
  let most = 0
  let running = 0
  const task = queue.define('task', {}, async () => {
    most = Math.max(most, ++running)
    await setTimeout(2)
    running--
  })
  const worker = queue.work({ concurrency: 2 })
  const { id } = await task.submit(null)
  await task.wait(id)
  await task.submitMany(Array(6).fill(null))
  await queue.drain()
  assert.equal((await queue.stats()).queues[0]?.counts.succeeded, 7)
  assert.equal(most, 2)
  await worker.stop()
})

test('a handler may wait for another job, also one that only time brings', async () => {
  await using queue = testQueue()
  const part = queue.define(
    'part',
    { backoff: { kind: 'constant', delay: '1m' } },
    fail(2, 'not yet', () => 20),
  )
  const whole = queue.define('whole', {}, async () => {
    const { id } = await part.submit(null)
    return (await part.wait(id)) + 1
  })
  const { id } = await whole.submit(null)
  await queue.advance('1h')
  assert.equal((await queue.job(id))?.result, 21)
})

test('a handler that neither ends nor waits for virtual time is named', async () => {
  const queue = testQueue({ patience: '20ms' })
  const task = queue.define('hung', {}, () => new Promise(() => undefined))
  await task.submit(null)
  await assert.rejects(queue.drain(), /'hung' \(job 1\) has not ended within 20 ms of real time/)
  await queue.close()
})

test('without a handler there is nothing to drain, and sleep belongs into handlers', async () => {
  await using queue = testQueue()
  queue.define('task')
  await assert.rejects(queue.drain(), { code: 'INVALID_ARGUMENT' })
  await assert.rejects(queue.advance('x' as '1s'), { code: 'INVALID_ARGUMENT' })
  await assert.rejects(sleep('1s'), /wait on the clock of a test queue/)
  await assert.rejects(async () => testQueue({ now: new Date('tomorrow') }), { code: 'INVALID_ARGUMENT' })
  await assert.rejects(async () => testQueue({ patience: -1 }), { code: 'INVALID_ARGUMENT' })
})

test('close lets running handlers end, or aborts them; the time for that passes at once', async () => {
  const ends: unknown[] = []
  for (const own of [false, true])
    for (const drain of [true, false]) {
      const queue = testQueue()
      const task = queue.define('task', {}, slow('10m'))
      for (const name of ['succeeded', 'released'] as const) queue.on(name, () => ends.push([own, drain, name]))
      await task.submit(null)
      if (own) queue.work()
      await queue.advance('1s')
      await queue.close({ drain })
      await setImmediate()
    }
  assert.deepEqual(ends, [
    [false, true, 'succeeded'],
    [false, false, 'released'],
    [true, true, 'released'], // the app's worker has its grace of 30 s
    [true, false, 'released'],
  ])
})

test('cancel reaches a handler that sleeps', async () => {
  await using queue = testQueue()
  const task = queue.define('task', {}, slow('10m'))
  const { id } = await task.submit(null)
  await queue.advance('1s')
  await queue.cancel(id)
  await queue.advance('1s')
  assert.equal((await queue.job(id))?.state, 'cancelled')
  assert.match(await queue.transcript(), /attempt 1 cancelled after 1000 ms: AbortError: Job 1 was cancelled\.\n/)
})

test('a script in which time matters: steps, then the last one for ever', async () => {
  await using queue = testQueue()
  const steps = script<null, string>(
    'first',
    new PermanentError('second'),
    slow('3s', ({ attempt }) => `try ${attempt}`),
  )
  const task = queue.define('task', { backoff: { kind: 'constant', delay: 1000 } }, steps)
  const { id } = await task.submit(null)
  await queue.advance('1m')
  assert.equal((await queue.job(id))?.state, 'dead')
  for (const expected of ['try 3', 'try 3']) {
    if ((await queue.job(id))?.state === 'dead') await queue.retry(id)
    await queue.drain()
    assert.equal((await queue.job(id))?.result, expected)
  }
})

/** An app's week: jobs that fail, time out, die, wait for files, submit others; an hourly retry, a nightly schedule. */
async function week(): Promise<string> {
  await using queue = testQueue()
  const hourly = { maxAttempts: 1000, backoff: { kind: 'constant', delay: '1h' } } as const
  const follow = queue.define('follow', {}, async ({ payload }) => {
    await setImmediate()
    return payload
  })
  const charge = queue.define(
    'charge',
    hourly,
    fail(150, 'bank is busy', () => follow.submit('charged')),
  )
  const mail = queue.define(
    'mail',
    { timeout: '30s' },
    script(
      'refused',
      slow('1m'),
      slow('5s', () => 'sent'),
    ),
  )
  const report = queue.define('report', {}, async () => {
    await readFile(import.meta.filename)
  })
  await report.schedule('nightly', '0 3 * * *', { pages: 2 })
  await charge.submit({ order: 17 })
  await mail.submitMany(['ada', 'bob', 'cem'])
  await mail.submit('dan', { queue: 'nobody', deadline: '2d' })
  await queue.advance('7d')
  return await queue.transcript()
}

test('a week of retries gives the same bytes 100 times', async (t) => {
  const first = await week()
  assert.equal(first.match(/^#/gm)?.length, 13, first)
  assert.equal(first.match(/attempt \d+/g)?.length, 151 + 3 * 3 + 7 + 1)
  const times: number[] = [] // of this process's CPU: other work on the machine must not decide
  for (let i = 0; i < 100; i++) {
    const before = process.cpuUsage()
    assert.equal(await week(), first)
    const { user, system } = process.cpuUsage(before)
    times.push((user + system) / 1000)
  }
  const median = times.sort((a, b) => a - b)[50]!
  t.diagnostic(`${median} ms of CPU each`) // about 100 on a quiet machine
})
