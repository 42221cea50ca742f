import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { type } from 'arktype'
import * as v from 'valibot'
import { z } from 'zod'
import { type GopherQueue, GopherQueueError, type Task } from '../../src/index.ts'
import { is } from '../support/types.ts'
import { gate, next, virtualQueue } from './support.ts'

type Input = { to: string; copies: string }
type Output = { to: string; copies: number }
type Define = (queue: GopherQueue) => Task<Input, Output>

// The same contract in the words of each: submit takes its input, the handler gets its output. tsc checks both.
const schemas = {
  zod: z.object({ to: z.email(), copies: z.string().regex(/^\d+$/).transform(Number) }),
  valibot: v.object({
    to: v.pipe(v.string(), v.email()),
    copies: v.pipe(v.string(), v.regex(/^\d+$/), v.transform(Number)),
  }),
  arktype: type({ to: 'string.email', copies: 'string.integer.parse' }),
}
const validators: Record<string, Define> = {
  zod: (queue) => {
    const task = queue.define('email', { payload: schemas.zod }, ({ payload }) => is<Output>()(payload))
    return is<Task<Input, Output>>()(task)
  },
  valibot: (queue) => {
    const task = queue.define('email', { payload: schemas.valibot }, ({ payload }) => is<Output>()(payload))
    return is<Task<Input, Output>>()(task)
  },
  arktype: (queue) => {
    const task = queue.define('email', { payload: schemas.arktype }, ({ payload }) => is<Output>()(payload))
    return is<Task<Input, Output>>()(task)
  },
}

for (const [name, define] of Object.entries(validators))
  describe(`a payload's schema by ${name}`, () => {
    test('the handler gets its output, the file keeps its input', async () => {
      await using queue = virtualQueue().queue
      const task = define(queue)
      const { id } = await task.submit({ to: 'ada@example.com', copies: '3' })
      queue.work()
      assert.deepEqual({ ...(await task.wait(id)) }, { to: 'ada@example.com', copies: 3 })
      assert.deepEqual((await queue.job(id))?.payload, { to: 'ada@example.com', copies: '3' })
    })

    test('what does not fit is refused with each issue, and nothing is stored', async () => {
      await using queue = virtualQueue().queue
      const task = define(queue)
      const submission = task.submitMany([
        { to: 'ada@example.com', copies: '3' },
        { to: 'nobody', copies: 'many' },
      ])
      await assert.rejects(submission, (error) => {
        assert.ok(error instanceof GopherQueueError)
        assert.deepEqual([error.code, error.accepted], ['INVALID_PAYLOAD', 'no'])
        assert.match(
          error.message,
          /'email' does not fit its schema: (to|copies): .+; (to|copies): .+Nothing was stored/,
        )
        const { issues } = error.details as { issues: { message: string; path: unknown[] }[] }
        assert.deepEqual(issues.flatMap(({ path }) => path).sort(), ['copies', 'to']) // biome-ignore format: one call
        assert.ok(issues.every(({ message }) => message.length > 0))
        return true
      })
      assert.deepEqual((await queue.jobs()).jobs, [])
    })

    test('what is stored and fits no longer fails for good, with the same issues', async () => {
      await using queue = virtualQueue().queue
      const { id } = await queue.submit('email', { to: 'nobody', copies: 'many' }) // by an older version
      define(queue)
      queue.work()
      const [, , fate] = await next(queue, 'dead')
      assert.equal(fate.reason, 'permanent')
      const [attempt] = await queue.history(id)
      assert.match(
        attempt!.error!.message,
        /^The payload of 'email' does not fit its schema: (to|copies): .+; (to|copies): .+\.$/,
      )
    })
  })

test('a handler whose validator answers when the attempt is over does not start any more', async () => {
  const { queue, store } = virtualQueue()
  await using _ = queue
  const [asked, answer] = [gate(), gate()]
  const slow = z.number().refine(async () => {
    asked.open()
    await answer.opened
    return true
  })
  await queue.submit('slow', 1, { timeout: '1s', maxAttempts: 1 })
  let started = false
  queue.define('slow', { payload: slow }, () => {
    started = true
  })
  const worker = queue.work()
  await asked.opened
  const dead = next(queue, 'dead')
  store.advance(1000)
  assert.equal((await dead)[1].name, 'Timeout')
  answer.open()
  await until(() => worker.overdue === 0)
  assert.equal(started, false)
})

/** Lets what is under way go on until something is so. */
async function until(is: () => boolean): Promise<void> {
  while (!is()) await new Promise(setImmediate)
}

test('what is stored must fit too: a schema that takes what JSON does not keep refuses at submission, with the path', async () => {
  const { queue } = virtualQueue()
  await using _ = queue
  const handled: unknown[] = []
  const at = new Date(0)
  const define = (type: string, payload: z.ZodType) =>
    queue.define(type, { payload }, (job) => void handled.push(job.payload)) as Task<unknown, unknown>
  const date = define('date', z.object({ deep: z.array(z.object({ at: z.date() })) }))
  const issue = { path: ['deep', 0, 'at'] }
  for (const submit of [date.submit({ deep: [{ at }] }), date.submitMany([{ deep: [{ at }] }])])
    await assert.rejects(submit, (error: GopherQueueError) => {
      assert.equal(error.code, 'INVALID_PAYLOAD')
      assert.match(error.message, /deep\.0\.at: .*expected date.*when JSON has kept it/)
      assert.deepEqual((error.details as { issues: object[] }).issues.map((one) => ({ path: (one as typeof issue).path })), [issue]) // biome-ignore format: short
      return true
    })
  await assert.rejects(queue.schedule('s', '* * * * *', 'date', { deep: [{ at }] }), { code: 'INVALID_PAYLOAD' })
  class Point {}
  const others: [z.ZodType, unknown][] = [
    [z.instanceof(Point), new Point()],
    [z.map(z.string(), z.number()), new Map([['a', 1]])],
    [z.set(z.number()), new Set([1])],
    [z.bigint(), 1n],
    [z.nan(), Number.NaN],
    [z.array(z.number().optional()), [undefined]],
    [
      z.object({ a: z.unknown().refine((a) => a !== undefined || true), b: z.custom((b) => b instanceof Date) }),
      { b: at },
    ],
  ]
  for (const [i, [schema, value]] of others.entries())
    await assert.rejects(define(`other ${i}`, schema).submit(value), { code: 'INVALID_PAYLOAD' }, `schema ${i}`)
  assert.deepEqual((await queue.jobs()).jobs, [])

  const coerced = define('coerced', z.object({ at: z.coerce.date(), id: z.string().default(() => `${Math.random()}`) }))
  const text = define('text', z.object({ at: z.string().transform((iso) => new Date(iso)) }))
  const ids = [await coerced.submit({ at }), await coerced.submit({ at: at.toISOString() }), await text.submit({ at: at.toISOString() })] // biome-ignore format: short
  queue.work()
  for (const { id } of ids) await queue.wait(id)
  assert.deepEqual(
    handled.map((payload) => (payload as { at: Date }).at),
    [at, at, at],
  )
})
