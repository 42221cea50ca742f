import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { StandardSchemaV1 } from '@standard-schema/spec'
import { z } from 'zod'
import { type Backoff, GopherQueue, jobType, type WaitOptions, type WorkOptions } from '../../src/index.ts'
import { EngineStore } from '../../src/testing/store.ts'
import { gate, next, virtualQueue } from './support.ts'

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
    [() => queue.define('x', { timeout: 'soon' as '1s' }), /timeout/],
    [() => queue.define('x', { visibilityTimeout: 10 }), /visibilityTimeout must be at least 1000/],
    [() => queue.define('x', { retries: 3 } as object), /no job option 'retries'/],
    [() => queue.define('x', { payload: {} as StandardSchemaV1 }), /Standard Schema/],
    [() => queue.define('x', {}, 'not a function' as unknown as () => void), /handler/],
    [
      () => queue.define('x', new URL('./gone.ts', import.meta.url)),
      /module file:.*gone\.ts, which is no file that can be read/,
    ],
    [() => queue.define('x', new URL('.', import.meta.url)), /no file that can be read/],
    [() => queue.define('x', new URL('https://example.com/x.js')), /no file that can be read/],
    [() => queue.define('x', { classify: 'permanent' } as object, () => null), /classify of 'x' must be a function/],
    [() => queue.define('x', { replace: 1 } as object, () => null), /replace must be true or false/],
    [() => queue.define(null as unknown as string), /takes the name of a type, or what jobType gives; got null/],
    [
      () => queue.define(jobType('x'), { maxAttempts: 3 } as object, () => null),
      /no option for the handler of a job type 'maxAttempts'/,
    ],
    [() => jobType('x', { maxAttempts: 0 }), /maxAttempts/],
    [() => jobType('x', { replace: true } as object), /no job option 'replace'/],
    [() => queue.defineBackoff('x', 5 as unknown as () => number), /must be a function/],
    [() => queue.work(), /No definition has a handler/],
  ]
  for (const [act, message] of wrong) assert.throws(act, { code: 'INVALID_ARGUMENT', accepted: 'no', message })
  queue.define('x', {}, () => null) // none of the refused ones left its name behind
  const wrongWork = [{ concurrency: 0 }, { concurrency: 1.5 }, { queues: [] }, { queues: [''] }, { name: '' }]
  for (const options of [...wrongWork, { queues: 'mail' }, { threads: 3 }])
    assert.throws(() => queue.work(options as WorkOptions), { code: 'INVALID_ARGUMENT' }, JSON.stringify(options))
})

test('a misspelt option is refused, with what was meant, however deep it stands', async () => {
  const { queue } = virtualQueue()
  await using _ = queue
  const backoff = (options: object) => () => queue.define('x', { backoff: options as Backoff })
  const wrong: [() => unknown, RegExp][] = [
    [() => queue.define('x', { maxAttemps: 3 } as object), /no job option 'maxAttemps'\. Did you mean 'maxAttempts'\?/],
    [() => queue.define('x', { maxattempts: 3 } as object), /Did you mean 'maxAttempts'\?/],
    [() => queue.define('x', { retries: 3 } as object), /Did you mean 'maxAttempts'\?/],
    [() => queue.define('x', { colour: 3 } as object), /There are: queue, priority, maxAttempts, /],
    [backoff({ kind: 'exponential', delya: 5 }), /no exponential backoff option 'delya'\. Did you mean 'delay'\?/],
    [backoff({ kind: 'constant', delay: 5, factor: 2 }), /'factor'\. There are: kind, delay, max, jitter\./],
    [backoff({ kind: 'table', delay: [5] }), /'delay'\. Did you mean 'delays'\?/],
    [backoff({ kind: 'custom', name: 'x', jitter: 1 }), /'jitter'/],
    [backoff({ kind: 'constructor' }), /backoff\.kind must be/],
    [backoff({ type: 'constant', delay: 5 }), /backoff\.kind must be/],
    [() => queue.define('x', { clasify: 3 } as object), /Did you mean 'classify'\?/],
    [() => queue.work({ concurency: 3 } as WorkOptions), /Did you mean 'concurrency'\?/],
  ]
  for (const [act, message] of wrong) assert.throws(act, { code: 'INVALID_ARGUMENT', message })
  const refused = (message: RegExp) => ({ code: 'INVALID_ARGUMENT', message })
  await assert.rejects(queue.wait(1, { timeOut: '1s' } as WaitOptions), refused(/Did you mean 'timeout'\?/))
  await assert.rejects(
    queue.schedule('s', '0 3 * * *', 'x', null, { timeZone: 'UTC' } as object),
    refused(/'timezone'\?/),
  )
  await assert.rejects(queue.configure('q', { maxDepht: 1 } as object), refused(/Did you mean 'maxDepth'\?/))
  await assert.rejects(
    queue.submit('x', null, { backoff: { kind: 'table', delays: [1], jiter: 1 } as Backoff }),
    refused(/'jitter'/),
  )
  queue.define('x', () => null)
  const worker = queue.work()
  assert.throws(() => worker.stop({ drian: false } as object), refused(/Did you mean 'drain'\?/))
})

test('a job type is shared: one program submits with its policy, the other works', async () => {
  const { queue: web, store } = virtualQueue()
  await using working = new GopherQueue(store, store.clock)
  const mail = jobType('mail', { payload: email, maxAttempts: 3, queue: 'mails' })
  const { id } = await web.define(mail).submit({ to: 'a@example.com' })
  await assert.rejects(web.define(mail, { replace: true }).submit({ to: 'a' }), { code: 'INVALID_PAYLOAD' })
  assert.equal((await web.job(id))?.maxAttempts, 3)
  const task = working.define(mail, { classify: () => 'permanent' }, ({ payload }) => payload.copies)
  assert.deepEqual(working.work().sources, [{ queue: 'mails', type: 'mail' }])
  assert.equal(await task.wait(id), 1)
})

test('a type that is defined after work is worked', async () => {
  await using queue = await GopherQueue.open(':memory:')
  queue.define('first', () => 1)
  const worker = queue.work()
  const named = queue.work({ queues: ['default'] })
  queue.define('second', { queue: 'other' }, () => 2)
  const later = await queue.submit('third', null)
  queue.define('third', () => 3)
  queue.define('submitted only')
  assert.equal(await queue.wait(later.id), 3)
  assert.equal(await queue.wait((await queue.submit('second', null)).id), 2)
  assert.equal(await queue.wait((await queue.submit('first', null)).id), 1)
  const types = ['first', 'second', 'third']
  const both = ['default', 'other'].flatMap((queue) => types.map((type) => ({ queue, type })))
  assert.deepEqual([worker.sources, named.sources], [both, both.slice(0, 3)])
  const { workers } = await queue.stats()
  assert.deepEqual(
    workers.map(({ sources }) => sources).sort((a, b) => b.length - a.length),
    [both, both.slice(0, 3)],
  )
})

test('a definition takes the place of another where asked, while attempts that run end as they began', async () => {
  await using queue = await GopherQueue.open(':memory:')
  const [begun, go] = [gate(), gate()]
  const task = queue.define('t', async () => {
    begun.open()
    await go.opened
    return 'old'
  })
  queue.work()
  const before = await task.submit(null)
  await begun.opened
  const again = queue.define('t', { replace: true, maxAttempts: 2 }, () => 'new')
  const after = await again.submit(null)
  assert.equal(await again.wait(after.id), 'new')
  go.open()
  assert.equal(await task.wait(before.id), 'old')
  assert.equal((await queue.job(after.id))?.maxAttempts, 2)
  queue.define('t', { replace: true, maxAttempts: 5 }) // the handler stays
  const last = await task.submit(null)
  assert.equal(await task.wait(last.id), 'new')
  assert.equal((await queue.job(last.id))?.maxAttempts, 5)
})

test('a worker tells once of a policy that is not the one a job was submitted with, which counts', async () => {
  const { queue: web, store } = virtualQueue()
  await using working = new GopherQueue(store, store.clock)
  const submitted = web.define('t', { maxAttempts: 3, timeout: '1m', backoff: { kind: 'constant', delay: '1s' } })
  const [first, second] = await submitted.submitMany([1, 2])
  const told: string[] = []
  working.on('warning', (warning) => told.push(String((warning as Error).message)))
  const seen: number[] = []
  const stated = { maxAttempts: 5, backoff: { kind: 'constant', delay: '2s' } } as const // and no timeout: that is the submitter's
  const task = working.define('t', stated, ({ maxAttempts }) => seen.push(maxAttempts))
  working.work({ concurrency: 1 })
  for (const { id } of [first!, second!]) await task.wait(id)
  await task.wait((await task.submit(3)).id) // its own policy
  await new Promise(setImmediate) // listeners are called in a tick of their own
  assert.deepEqual(seen, [3, 3, 5])
  assert.equal(told.length, 2, told.join('\n'))
  assert.match(
    told[0]!,
    /^Job 1 of type 't' was submitted with maxAttempts 3, and this worker's definition says 5: what was submitted counts/,
  )
  assert.match(told[1]!, /^Job 1 .* backoff \{"kind":"constant"/)
})
