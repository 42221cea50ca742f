import assert from 'node:assert/strict'
import { test } from 'node:test'
import { z } from 'zod'
import { type ActiveJob, type Fate, type Job, jobType, type SubmitResult, type Task } from '../src/index.ts'
import { virtualQueue } from './queue/support.ts'
import { is } from './support/types.ts'

// Checked by tsc: each @ts-expect-error line fails the check if it does compile. Run as well, so that nothing here
// compiles only because it could never work.

const invalidPayload = { code: 'INVALID_PAYLOAD' }
const invalidArgument = { code: 'INVALID_ARGUMENT' }

test('with a schema: submit takes its input, the handler its output, wait what the handler returns', async () => {
  const { queue } = virtualQueue()
  await using _ = queue
  const schema = z.object({
    to: z.string(),
    at: z.string().transform((text) => new Date(text)),
    copies: z.number().default(1),
  })
  const task = queue.define('email', { payload: schema }, async ({ payload }) => {
    is<{ to: string; at: Date; copies: number }>()(payload)
    return { year: payload.at.getUTCFullYear(), copies: payload.copies }
  })
  is<Task<{ to: string; at: string; copies?: number | undefined }, { year: number; copies: number }>>()(task)
  const accepted = is<SubmitResult>()(await task.submit({ to: 'a', at: '2030-01-01' }))
  queue.work()
  const result = is<{ year: number; copies: number }>()(await task.wait(accepted.id))
  assert.deepEqual(result, { year: 2030, copies: 1 })

  // @ts-expect-error: of another type
  await assert.rejects(task.submit({ to: 1, at: '2030-01-01' }), invalidPayload)
  // @ts-expect-error: missing
  await assert.rejects(task.submit({ to: 'a' }), invalidPayload)
  // @ts-expect-error: the output is not the input
  await assert.rejects(task.submit({ to: 'a', at: new Date() }), invalidPayload)
  // @ts-expect-error: one of several
  await assert.rejects(task.submitMany([{ to: 'a', at: '2030-01-01' }, { to: 'b' }]), invalidPayload)
  await task.submitMany([{ to: 'a', at: '2030-01-01' }], (payload, index) => {
    is<string>()(payload.at)
    return { idempotencyKey: `${payload.to}-${is<number>()(index)}` }
  })
})

test('what a schema coerces it takes as anything', async () => {
  const { queue } = virtualQueue()
  await using _ = queue
  const task = queue.define('n', { payload: z.coerce.number() }, ({ payload }) => is<number>()(payload) + 1)
  is<Task<unknown, number>>()(task)
  const { id } = await task.submit('41')
  queue.work()
  assert.equal(await task.wait(id), 42)
})

test('without a schema, types come from the handler or from type arguments', async () => {
  const { queue } = virtualQueue()
  await using _ = queue
  const add = queue.define('add', {}, ({ payload }: ActiveJob<{ a: number; b: number }>) => payload.a + payload.b)
  is<Task<{ a: number; b: number }, number>>()(add)
  // @ts-expect-error: b is missing
  await add.submit({ a: 1 })
  const length = queue.define<string, number>('length', {}, ({ payload }) => payload.length)
  const elsewhere = queue.define<{ path: string }>('elsewhere')
  is<Task<{ path: string }, unknown>>()(elsewhere)
  // @ts-expect-error: another property
  await elsewhere.submit({ file: 'a' })
  is<Task<unknown, unknown>>()(queue.define('anything'))
  // @ts-expect-error: the handler returns another type than promised
  queue.define<string, number>('promised', {}, ({ payload }) => payload)
  // @ts-expect-error: the handler reads what the schema does not give
  queue.define('unread', { payload: z.object({ a: z.string() }) }, ({ payload }) => payload.b)
  const { id } = await length.submit('four')
  queue.work()
  assert.equal(is<number>()(await length.wait(id)), 4)
  is<unknown>()(await queue.wait(id))
  is<number>()(await queue.wait<number>(id))
})

test('an option that does not exist, or has a wrong value, does not compile', async () => {
  const { queue } = virtualQueue()
  await using _ = queue
  // @ts-expect-error
  assert.throws(() => queue.define('t', { retries: 3 }), invalidArgument)
  // @ts-expect-error
  assert.throws(() => queue.define('t', { priority: 'urgent' }), invalidArgument)
  // @ts-expect-error: a linear backoff needs a delay
  assert.throws(() => queue.define('t', { backoff: { kind: 'linear' } }), invalidArgument)
  // @ts-expect-error: what only a submission can say
  queue.define('delayed', { delay: '5m' })
  // @ts-expect-error: a verdict that does not exist
  queue.define('classified', { classify: () => 'fatal' })
  const task = queue.define('t', { timeout: '30s', backoff: { kind: 'table', delays: ['1s', 2000] } }, () => null)
  // @ts-expect-error
  await assert.rejects(task.submit(null, { color: 'red' }), invalidArgument)
  // @ts-expect-error
  await assert.rejects(task.submit(null, { delay: new Date() }), invalidArgument)
  // @ts-expect-error
  await assert.rejects(queue.jobs({ state: 'asleep' }), invalidArgument)
  // @ts-expect-error
  await assert.rejects(queue.configure('q', { depth: 3 }), invalidArgument)
  // @ts-expect-error
  assert.throws(() => queue.work({ threads: 3 }), invalidArgument)
  // @ts-expect-error
  await assert.rejects(queue.job('1'), invalidArgument)
})

test('jobs, fates and events have types', async () => {
  const { queue } = virtualQueue()
  await using _ = queue
  queue.on('succeeded', (job, result) => {
    is<ActiveJob>()(job)
    is<string>()(result)
  })
  queue.on('retrying', (_job, error, { runAt }) => {
    is<string | null>()(error.stack)
    is<number | null>()(runAt)
  })
  queue.on('health', ({ status }) => is<'ok' | 'degraded' | 'failed'>()(status))
  // @ts-expect-error: there is no such argument
  queue.on('started', (_job, result) => result)
  const { id } = await queue.submit('t', null)
  is<Job | null>()(await queue.job(id))
  is<Fate>()(await queue.cancel(id))
})

test('a result that JSON does not have does not compile; interfaces and what they hold do', async () => {
  interface Tree {
    at: Date
    children: Tree[]
    of?: number | undefined
  }
  const { queue } = virtualQueue()
  await using _ = queue
  const tree: Tree = { at: new Date(0), children: [] }
  const task = queue.define('tree', {}, async () => tree)
  is<Task<unknown, null>>()(queue.define('nothing', () => undefined))
  const { id } = await task.submit(null)
  queue.work()
  const stored = await task.wait(id)
  is<string>()(stored.at)
  is<string | undefined>()(stored.children[0]?.children[0]?.at)
  assert.deepEqual(stored, { at: '1970-01-01T00:00:00.000Z', children: [] })
  // @ts-expect-error: JSON has no bigint
  queue.define('bigint', {}, () => 1n)
  // @ts-expect-error: nor a Map
  queue.define('map', {}, async () => ({ rows: new Map<string, number>() }))
  // @ts-expect-error: nor functions
  queue.define('functions', { payload: z.string() }, ({ payload }) => [() => payload])
})

test('a handler gets what JSON makes of a payload, and a payload that JSON does not have does not compile', async () => {
  const { queue } = virtualQueue()
  await using _ = queue
  const task = queue.define<{ at: Date; by?: string }, number>('dated', ({ payload }) => {
    is<{ at: string; by?: string }>()(payload)
    return payload.at.length
  })
  const { id } = await task.submit({ at: new Date(0) })
  queue.work()
  assert.equal(await task.wait(id), 24)
  // @ts-expect-error: what it declares to get is what was submitted, not what JSON gives back
  queue.define('declared', ({ payload }: ActiveJob<{ at: Date }>) => payload.at.getTime())
  const sums = queue.define<{ sums: bigint[] }>('sums')
  // @ts-expect-error: JSON has no bigint
  await assert.rejects(sums.submit({ sums: [1n] }), invalidPayload)
  const deep = queue.define<{ a: { b: { c: { d: { e: Map<string, 1> } } } } }>('deep')
  // @ts-expect-error: nor a Map, however deep
  await assert.rejects(deep.submit({ a: { b: { c: { d: { e: new Map() } } } } }), invalidPayload)
  const called = jobType<{ call: () => void }>('called')
  // @ts-expect-error: nor functions
  await assert.rejects(queue.define(called).submit({ call: () => undefined }), invalidPayload)
})

test('a job type has one payload and one result for all programs that share it', async () => {
  const { queue } = virtualQueue()
  await using _ = queue
  const schema = z.object({ to: z.string(), at: z.coerce.date() })
  const mail = jobType('mail', { payload: schema, maxAttempts: 3 })
  const task = queue.define(mail, ({ payload }) => {
    is<{ to: string; at: Date }>()(payload)
    return { to: payload.to, at: payload.at }
  })
  const { id } = await task.submit({ to: 'a', at: 0 })
  queue.work()
  is<{ to: string; at: string }>()(await task.wait(id))
  // @ts-expect-error: of another type
  await assert.rejects(task.submit({ to: 1, at: 0 }), invalidPayload)
  const sized = jobType<{ file: string }, { bytes: number }>('sized', { timeout: '5m' })
  is<Task<{ file: string }, { bytes: number }>>()(queue.define(sized))
  // @ts-expect-error: the handler returns another type than the job type says
  queue.define(sized, { replace: true }, ({ payload }) => payload.file)
  is<Task<{ file: string }, { bytes: 1 }>>()(queue.define(sized, { replace: true }, () => ({ bytes: 1 as const })))
  // @ts-expect-error: the policy is that of the job type
  assert.throws(() => queue.define(sized, { replace: true, timeout: '1s' }, () => ({ bytes: 1 })), invalidArgument)
  // With type arguments for the payload alone, TypeScript infers no result in `define`; it does with a job type.
  is<Task<{ n: number }, string>>()(queue.define(jobType<{ n: number }>('n'), ({ payload }) => `${payload.n}`))
})

test('a duration is a number of ms, or digits with a unit', async () => {
  const { queue } = virtualQueue()
  await using _ = queue
  const task = queue.define('t', { timeout: '1.5h', visibilityTimeout: 30_000 })
  await task.submit(null, { delay: '500ms', deadline: '2w', idempotencyKey: 'k', idempotencyWindow: '1d' })
  // @ts-expect-error: no unit
  await assert.rejects(task.submit(null, { delay: '5' }), invalidArgument)
  // @ts-expect-error: no such unit
  await assert.rejects(task.submit(null, { delay: '5 minutes' }), invalidArgument)
  // @ts-expect-error: no number
  await assert.rejects(task.submit(null, { deadline: 'soon' }), invalidArgument)
  // @ts-expect-error: also where it lies deeper
  assert.throws(() => queue.define('u', { backoff: { kind: 'table', delays: ['1s', 'later'] } }), invalidArgument)
  // @ts-expect-error: also elsewhere
  await assert.rejects(queue.configure('q', { keepDead: '7 days' }), invalidArgument)
  // @ts-expect-error: any text may be any text
  await task.submit(null, { delay: `${1}s` as string })
})

test('define takes a handler without options', async () => {
  const { queue } = virtualQueue()
  await using _ = queue
  is<Task<{ a: number }, number>>()(queue.define('add', ({ payload }: ActiveJob<{ a: number }>) => payload.a))
  is<Task<unknown, string>>()(queue.define('text', async () => 'text'))
  // @ts-expect-error: the handler stands last
  assert.throws(() => queue.define('turned', () => null, { maxAttempts: 3 }), invalidArgument)
})
