import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { test } from 'node:test'
import { GopherQueue, GopherQueueError, PermanentError, type QueueEvents } from '../../src/index.ts'
import type { Input, Operation } from '../../src/store/store.ts'
import { temporaryFolder } from '../support/folder.ts'
import { hear, next, virtualQueue } from './support.ts'

test('each step of a job is told, in its order', async () => {
  const { queue, store } = virtualQueue()
  await using _ = queue
  const told: unknown[] = []
  const tell = <K extends keyof QueueEvents>(event: K, say: (...args: QueueEvents[K]) => unknown[]) =>
    hear(queue, event, (...args) => told.push([event, ...say(...args)]))
  tell('started', (job) => [job.attempt])
  tell('retrying', (_job, error, { state, runAt }) => [error.message, state, runAt! - store.clock.now()])
  tell('succeeded', (job, result) => [job.id, result])
  tell('dead', (job, error, { reason }) => [job.id, error.message, reason])
  tell('expired', ({ id, type, queue }) => [id, type, queue])

  const task = queue.define<string>('t', {}, ({ payload, attempt }) => {
    if (payload === 'second time' && attempt === 1) throw new Error('not yet')
    if (payload === 'never') throw new PermanentError('no')
    return payload
  })
  const [first, never] = await task.submitMany(['second time', 'never'])
  const late = await task.submit('late', { queue: 'elsewhere', deadline: '1m' })
  const dead = next(queue, 'dead')
  queue.work({ concurrency: 1 })
  await dead
  store.advance(5000)
  await task.wait(first!.id)
  const expired = next(queue, 'expired')
  store.advance(60_000)
  await expired
  assert.deepEqual(told, [
    ['started', 1],
    ['retrying', 'not yet', 'scheduled', 5000],
    ['started', 1],
    ['dead', never!.id, 'no', 'permanent'],
    ['started', 2],
    ['succeeded', first!.id, '"second time"'],
    ['expired', late.id, 't', 'elsewhere'],
  ])
})

test('an event of a job’s end is told when it is on disk', async () => {
  await using queue = await GopherQueue.open(':memory:')
  queue.define('t', {}, () => 'done')
  const { id } = await queue.submit('t', null)
  const seen = new Promise((resolve) => queue.once('succeeded', ({ id }) => resolve(queue.job(id))))
  queue.work()
  assert.equal(((await seen) as { state: string }).state, 'succeeded')
  assert.equal(await queue.wait(id), 'done')
})

test('an outcome that the store refuses is a warning: to its listeners, or to the process', async () => {
  const { queue, store } = virtualQueue()
  await using _ = queue
  const refusal = new GopherQueueError('INVALID_RESULT', 'not today')
  const call = store.call.bind(store)
  store.call = <K extends Operation>(operation: K, input: Input<K>, signal?: AbortSignal) =>
    operation === 'succeed' ? Promise.reject(refusal) : call(operation, input, signal)
  queue.define('t', {}, () => null)
  await queue.submitMany('t', [1, 2])
  const unheard = once(process, 'warning')
  queue.work({ concurrency: 1 }) // keeps its slot: the store still counts the job as running
  assert.deepEqual(await unheard, [refusal])
  const heard = next(queue, 'warning')
  queue.work({ concurrency: 1 })
  assert.deepEqual(await heard, [refusal])
})

for (const outcome of ['succeed', 'fail'] as const)
  test(`a handler that ends before it hears that its lease is lost: \`leaseLost\` once, when its ${outcome} is refused`, async () => {
    const { queue, store } = virtualQueue()
    await using _ = queue
    const call = store.call.bind(store)
    store.call = async <K extends Operation>(operation: K, input: Input<K>, signal?: AbortSignal) => {
      if (operation === outcome) {
        await call('setQueue', { queue: 'default', paused: true })
        await call('release', (input as Input<'succeed' | 'fail'>).lease) // as if another process had taken it
      }
      return call(operation, input, signal)
    }
    queue.define('t', {}, () => {
      if (outcome === 'fail') throw new Error('no')
    })
    const told: string[] = []
    for (const event of ['leaseLost', 'warning', 'succeeded', 'retrying'] as const)
      hear(queue, event, () => told.push(event))
    await queue.submit('t', null)
    const worker = queue.work()
    await next(queue, 'leaseLost')
    await worker.stop()
    assert.deepEqual(told, ['leaseLost'])
  })

test('a listener that throws crashes as any would, and the job is done all the same', async () => {
  using folder = temporaryFolder()
  const script = `
    import { GopherQueue } from ${JSON.stringify(join(import.meta.dirname, '../../src/index.ts'))}
    const queue = await GopherQueue.open(${JSON.stringify(folder.file('q.db'))})
    process.once('uncaughtException', async (error) => {
      console.log('uncaught:', error.message)
      console.log(await queue.wait(1), await queue.wait(2))
      await queue.close()
    })
    queue.once('started', () => { throw new Error('in a listener') })
    queue.define('t', {}, ({ payload }) => payload * 10)
    await queue.submitMany('t', [1, 2])
    queue.work({ concurrency: 1 })`
  const { status, stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
    encoding: 'utf8',
    timeout: 20_000,
  })
  assert.deepEqual([status, stdout, stderr], [0, 'uncaught: in a listener\n10 20\n', ''])
  await using queue = await GopherQueue.open(folder.file('q.db'))
  const { jobs } = await queue.jobs()
  assert.deepEqual(
    jobs.map((job) => [job.state, job.attempt]),
    Array(2).fill(['succeeded', 1]),
  )
})
