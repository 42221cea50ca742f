import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { StandardSchemaV1 } from '@standard-schema/spec'
import { z } from 'zod'
import { GopherQueue, type WorkOptions } from '../../src/index.ts'
import { EngineStore } from '../../src/testing/store.ts'
import { next } from './support.ts'

const email = z.object({ to: z.email(), copies: z.coerce.number().default(1) })

test('a payload is checked when it is submitted; nothing of a refused one is stored', async () => {
  await using queue = await GopherQueue.open(':memory:')
  const task = queue.define('email', { payload: email })
  await assert.rejects(task.submit({ to: 'nobody' }), {
    code: 'INVALID_PAYLOAD',
    accepted: 'no',
    message: /'email' does not fit its schema: to: .*Nothing was stored/,
  })
  await assert.rejects(task.submitMany([{ to: 'a@example.com' }, { to: 'b' }]), { code: 'INVALID_PAYLOAD' })
  await assert.rejects(queue.submit('email', { to: 1, copies: 'many' }), (error: { details: unknown }) => {
    const { issues } = error.details as { issues: { message: string; path: string[] }[] }
    assert.deepEqual(
      issues.map(({ path }) => path),
      [['to'], ['copies']],
    )
    return true
  })
  assert.deepEqual((await queue.jobs()).jobs, [])
})

test('the payload is stored as submitted, and the handler gets what the schema makes of it', async () => {
  await using queue = await GopherQueue.open(':memory:')
  const task = queue.define('email', { payload: email }, ({ payload }) => payload)
  const { id } = await task.submit({ to: 'a@example.com', copies: '3' })
  queue.work()
  assert.deepEqual(await task.wait(id), { to: 'a@example.com', copies: 3 })
  assert.deepEqual((await queue.job(id))?.payload, { to: 'a@example.com', copies: '3' })
})

test('an asynchronous validator is awaited, at submission and before the handler', async () => {
  await using queue = await GopherQueue.open(':memory:')
  const schema = z.string().refine(async (text) => text !== 'no', 'said no')
  const task = queue.define('word', { payload: schema }, ({ payload }) => payload.toUpperCase())
  await assert.rejects(task.submit('no'), { code: 'INVALID_PAYLOAD', message: /said no/ })
  const { id } = await task.submit('yes')
  queue.work()
  assert.equal(await task.wait(id), 'YES')
})

test('a stored payload that no longer fits is a permanent failure, with every issue in the history', async () => {
  await using queue = await GopherQueue.open(':memory:')
  const ran: unknown[] = []
  const { id } = await queue.submit('email', { to: 7, copies: 'many' }) // as an older version submitted it
  queue.define('email', { payload: email }, ({ payload }) => ran.push(payload))
  queue.work()
  const [, error, fate] = await next(queue, 'dead')
  assert.equal(fate.reason, 'permanent')
  assert.equal(error.name, 'PermanentError')
  const [attempt] = await queue.history(id)
  assert.match(attempt!.error!.message, /^The payload of 'email' does not fit its schema: to: .+; copies: .+\.$/)
  assert.doesNotMatch(attempt!.error!.message, /Nothing was stored/)
  assert.deepEqual(ran, [])
})

test('a validator that breaks is no verdict on the payload: the attempt is repeated', async () => {
  await using queue = await GopherQueue.open(':memory:')
  let broken = false
  const schema: StandardSchemaV1<string> = {
    '~standard': {
      version: 1,
      vendor: 'test',
      validate(value) {
        if (broken) throw new Error('its database is away')
        return { value: value as string }
      },
    },
  }
  const task = queue.define('word', { payload: schema, backoff: { kind: 'constant', delay: 0 } }, () => 'done')
  const { id } = await task.submit('yes')
  broken = true
  queue.once('retrying', () => {
    broken = false
  })
  queue.work()
  assert.equal(await task.wait(id), 'done')
  assert.equal((await queue.history(id))[0]?.error?.message, 'its database is away')
})

test('what is wrong with a definition is said at once', async () => {
  await using queue = new GopherQueue(new EngineStore())
  queue.define('twice')
  const wrong: [() => unknown, RegExp][] = [
    [() => queue.define('twice'), /defined already/],
    [() => queue.define(''), /type name/],
    [() => queue.define('x', { maxAttempts: 0 }), /maxAttempts/],
    [() => queue.define('x', { queue: 'a\nb' }), /queue name/],
    [() => queue.define('x', { timeout: 'soon' }), /timeout/],
    [() => queue.define('x', { visibilityTimeout: 10 }), /visibilityTimeout must be at least 1000/],
    [() => queue.define('x', { retries: 3 } as object), /no job option 'retries'/],
    [() => queue.define('x', { payload: {} as StandardSchemaV1 }), /Standard Schema/],
    [() => queue.define('x', {}, 'not a function' as unknown as () => void), /handler/],
    [() => queue.defineBackoff('x', 5 as unknown as () => number), /must be a function/],
    [() => queue.work(), /No definition has a handler/],
  ]
  for (const [act, message] of wrong) assert.throws(act, { code: 'INVALID_ARGUMENT', accepted: 'no', message })
  queue.define('x', {}, () => null) // none of the refused ones left its name behind
  const wrongWork = [{ concurrency: 0 }, { concurrency: 1.5 }, { queues: [] }, { queues: [''] }, { name: '' }]
  for (const options of [...wrongWork, { queues: 'mail' }, { threads: 3 }])
    assert.throws(() => queue.work(options as WorkOptions), { code: 'INVALID_ARGUMENT' }, JSON.stringify(options))
})
