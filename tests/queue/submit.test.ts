import assert from 'node:assert/strict'
import { test } from 'node:test'
import { GopherQueue, type JobFilter, type JobOptions } from '../../src/index.ts'
import { virtualQueue } from './support.ts'

test('a bulk takes options for all, or for each', async () => {
  await using queue = await GopherQueue.open(':memory:')
  const task = queue.define<number>('n', { queue: 'numbers', priority: 'low', maxAttempts: 3 })
  await task.submitMany([1, 2], { priority: 'high' })
  await task.submitMany([3, 4], (n, index) => ({
    priority: n === 3 ? 'critical' : 'bulk',
    idempotencyKey: `k${index}`,
  }))
  const { jobs } = await queue.jobs({ order: 'oldest' })
  assert.deepEqual(
    jobs.map((job) => [job.queue, job.payload, job.priority, job.maxAttempts, job.idempotencyKey]),
    [
      ['numbers', 1, 'high', 3, null],
      ['numbers', 2, 'high', 3, null],
      ['numbers', 3, 'critical', 3, 'k0'],
      ['numbers', 4, 'bulk', 3, 'k1'],
    ],
  )
})

test('a key is one job, within a bulk and across them; another payload is a conflict and stores nothing', async () => {
  await using queue = await GopherQueue.open(':memory:')
  const keys = (payload: string): JobOptions => ({ idempotencyKey: payload })
  const first = await queue.submitMany('t', ['a', 'b', 'a'], keys)
  assert.deepEqual(first, [
    { id: 1, duplicate: false },
    { id: 2, duplicate: false },
    { id: 1, duplicate: true, state: 'ready' },
  ])
  assert.deepEqual(await queue.submit('t', 'b', { idempotencyKey: 'b' }), { id: 2, duplicate: true, state: 'ready' })
  await assert.rejects(
    queue.submitMany('t', ['new', 'other'], (payload) => ({ idempotencyKey: payload === 'new' ? 'new' : 'a' })),
    { code: 'IDEMPOTENCY_CONFLICT', accepted: 'no', details: { jobId: 1 } },
  )
  assert.equal((await queue.jobs()).jobs.length, 2)
})

test('one key for several jobs is refused', async () => {
  await using queue = await GopherQueue.open(':memory:')
  await assert.rejects(queue.submitMany('t', [1, 2], { idempotencyKey: 'k' }), {
    code: 'INVALID_ARGUMENT',
    message: /as a function/,
  })
})

test('a bulk is all or nothing, and of bounded size', async () => {
  await using queue = await GopherQueue.open(':memory:')
  assert.deepEqual(await queue.submitMany('t', []), [])
  await assert.rejects(queue.submitMany('t', [1, () => 2]), { code: 'INVALID_PAYLOAD' })
  await assert.rejects(queue.submitMany('t', Array(10_001).fill(0)), { code: 'PAYLOAD_TOO_LARGE' })
  await assert.rejects(queue.submitMany('t', Array(80).fill('x'.repeat(1_000_000))), { code: 'PAYLOAD_TOO_LARGE' })
  await queue.configure('default', { maxDepth: 2 })
  await assert.rejects(queue.submitMany('t', [1, 2, 3]), { code: 'QUEUE_FULL', accepted: 'no' })
  assert.deepEqual((await queue.jobs()).jobs, [])
})

test('single submissions of one moment are stored together, and each is refused alone', async () => {
  await using queue = await GopherQueue.open(':memory:')
  const task = queue.define<number>('t')
  await queue.configure('default', { maxDepth: 3 })
  const results = await Promise.allSettled([1, 2, 3, 4, 5].map((payload) => task.submit(payload)))
  assert.deepEqual(
    results.map((result) => (result.status === 'rejected' ? result.reason.code : 'stored')),
    ['stored', 'stored', 'stored', 'QUEUE_FULL', 'QUEUE_FULL'],
  )
  const { jobs } = await queue.jobs({ order: 'oldest' })
  assert.deepEqual(
    jobs.map(({ payload }) => payload),
    [1, 2, 3],
  )
})

test('a payload is JSON of at most 1 MiB', async () => {
  await using queue = await GopherQueue.open(':memory:')
  const cycle: Record<string, unknown> = {}
  cycle.self = cycle
  for (const payload of [1n, cycle, () => null, Symbol('s')])
    await assert.rejects(queue.submit('t', payload), { code: 'INVALID_PAYLOAD', accepted: 'no' })
  await assert.rejects(queue.submit('t', 'x'.repeat(1024 * 1024 - 1)), { code: 'PAYLOAD_TOO_LARGE' })
  await assert.rejects(queue.submit('t', 'é'.repeat(600_000)), { code: 'PAYLOAD_TOO_LARGE' }) // bytes, not characters
  const { id } = await queue.submit('t', 'x'.repeat(1024 * 1024 - 2))
  const job = await queue.job(id)
  assert.equal(String(job?.payload).length, 1024 * 1024 - 2)
  const nothing = await queue.submit('t', undefined)
  assert.equal((await queue.job(nothing.id))?.payload, null)
})

test('a delay, an instant and a deadline count from the submission', async () => {
  const { queue, store } = virtualQueue()
  await using _ = queue
  const now = store.clock.now()
  await queue.submit('t', 1, { delay: '5m', deadline: '1h' })
  await queue.submit('t', 2, { runAt: new Date(now + 1000), deadline: now + 2000 })
  await queue.submit('t', 3, { runAt: now - 1000 })
  const { jobs } = await queue.jobs({ order: 'oldest' })
  assert.deepEqual(
    jobs.map((job) => [job.state, job.runAt && job.runAt - now, job.deadline && job.deadline - now]),
    [
      ['scheduled', 300_000, 3_600_000],
      ['scheduled', 1000, 2000],
      ['ready', null, null],
    ],
  )
})

test('a wrong option is INVALID_ARGUMENT and stores nothing', async () => {
  await using queue = await GopherQueue.open(':memory:')
  const wrong: object[] = [
    { priority: 'urgent' },
    { maxAttempts: 1001 },
    { delay: -1 },
    { delay: '5 minutes' },
    { delay: 1, runAt: 2 },
    { runAt: 1.5 },
    { runAt: new Date('never') },
    { deadline: 'tomorrow' },
    { timeout: 0 },
    { onTimeout: 'ignore' },
    { backoff: { kind: 'fibonacci' } },
    { backoff: { kind: 'custom' } },
    { idempotencyKey: '' },
    { idempotencyKey: 'k'.repeat(257) },
    { idempotencyWindow: 'P1D' },
    { queue: '' },
    { queue: 'q'.repeat(129) },
    { color: 'red' },
  ]
  for (const options of wrong)
    await assert.rejects(queue.submit('t', null, options), { code: 'INVALID_ARGUMENT' }, JSON.stringify(options))
  for (const options of [null, 'high', () => undefined] as unknown as JobOptions[])
    await assert.rejects(queue.submitMany('t', [1], options), { code: 'INVALID_ARGUMENT' })
  for (const payloads of [null, 'abc', { 0: 'a' }] as unknown as string[][])
    await assert.rejects(queue.submitMany('t', payloads), { code: 'INVALID_ARGUMENT' })
  await assert.rejects(queue.submit('', null), { code: 'INVALID_ARGUMENT' })
  assert.deepEqual((await queue.jobs()).jobs, [])
})

test('an id that cannot be one is INVALID_ARGUMENT, one that is not there NOT_FOUND', async () => {
  await using queue = await GopherQueue.open(':memory:')
  for (const id of [0, -1, 1.5, Number.NaN, 2 ** 53, '1' as unknown as number])
    for (const ask of ['job', 'history', 'wait', 'cancel', 'retry', 'remove', 'why'] as const)
      await assert.rejects(queue[ask](id), { code: 'INVALID_ARGUMENT' }, `${ask}(${id})`)
  for (const ask of ['wait', 'cancel', 'retry', 'remove'] as const)
    await assert.rejects(queue[ask](7), { code: 'NOT_FOUND' }, ask)
  assert.equal(await queue.job(7), null)
  assert.deepEqual(await queue.history(7), [])
  assert.match(await queue.why(7), /no job 7/)
})

test('a filter or a limit of a queue that cannot be is INVALID_ARGUMENT', async () => {
  await using queue = await GopherQueue.open(':memory:')
  const wrong: object[] = [
    { state: 'asleep' },
    { limit: 0 },
    { limit: 1001 },
    { order: 'random' },
    { cursor: 'next' },
    { cursor: -1 },
    { queue: 7 },
    { type: '' },
    { status: 'dead' },
  ]
  for (const filter of wrong)
    await assert.rejects(queue.jobs(filter as JobFilter), { code: 'INVALID_ARGUMENT' }, JSON.stringify(filter))
  await assert.rejects(queue.configure('q', { maxDepth: 0 }), { code: 'INVALID_ARGUMENT' })
  await assert.rejects(queue.configure('q', { keepDead: 'long' as '1s' }), { code: 'INVALID_ARGUMENT' })
  await assert.rejects(queue.configure('q', { depth: 3 } as object), { code: 'INVALID_ARGUMENT' })
  const rates: [rate: object | number | string, message: RegExp][] = [
    [{ max: 0, per: '1m' }, /rate\.max must be a whole number from 1 to 1000000; got 0/],
    [{ max: 1.5, per: '1m' }, /rate\.max/],
    [{ max: 1_000_001, per: '1m' }, /rate\.max/],
    [{ max: 1 }, /rate\.per/],
    [{ per: '1m' }, /rate\.max/],
    [{ max: 1, per: 0 }, /rate\.per, in ms, must be a whole number from 1 to 86400000; got 0/],
    [{ max: 1, per: '25h' }, /rate\.per/],
    [{ max: 1, per: 'minute' }, /rate\.per must be a number with its unit such as '500ms'/],
    [{ max: 1, duration: 1000 }, /no rate option 'duration'\. Did you mean 'per'\?/],
    [100, /rate option/],
    ['', /rate option/],
  ]
  for (const [rate, message] of rates)
    await assert.rejects(queue.configure('q', { rate } as object), { code: 'INVALID_ARGUMENT', message }, `${message}`)
  assert.deepEqual((await queue.stats()).queues, [])
  await queue.configure('q', { rate: { max: 100, per: '1m' } })
  assert.deepEqual((await queue.stats()).queues[0]!.rate, { max: 100, per: 60_000 })
  await assert.rejects(queue.pause(''), { code: 'INVALID_ARGUMENT' })
  for (const file of ['', 'postgres://host/db?schema=a-b', 7 as unknown as string])
    await assert.rejects(GopherQueue.open(file), { code: 'INVALID_ARGUMENT' })
})
