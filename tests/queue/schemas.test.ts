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
