import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import { GopherQueue } from '../../src/index.ts'
import type { Operation } from '../../src/store/store.ts'
import { temporaryFolder } from '../support/folder.ts'
import { aborted, gate, next, virtualQueue } from './support.ts'

/** A queue with one job that runs until `finish.open()`, and one that waits behind it. */
async function busy() {
  const { queue, store } = virtualQueue()
  const finish = gate()
  let signal: AbortSignal | undefined
  const task = queue.define('t', {}, async (_job, context) => {
    signal = context.signal
    await Promise.race([finish.opened, aborted(signal)])
    signal.throwIfAborted()
    return 'finished'
  })
  const [running, waiting] = await task.submitMany([1, 2])
  const started = next(queue, 'started')
  const worker = queue.work({ concurrency: 1 })
  await started
  const states = async () => (await queue.jobs({ order: 'oldest' })).jobs.map((job) => [job.state, job.attempt])
  return { queue, store, worker, finish, states, id: running!.id, waiting: waiting!.id, aborted: () => signal?.aborted }
}

test('stop takes no more jobs, and lets the running ones finish', async () => {
  const { queue, worker, finish, states, aborted } = await busy()
  await using _ = queue
  const stopped = worker.stop()
  await queue.stats()
  assert.equal(aborted(), false)
  finish.open()
  await stopped
  assert.deepEqual(await states(), [
    ['succeeded', 1],
    ['ready', 0],
  ])
  assert.deepEqual((await queue.stats()).workers, [])
})

test('after the grace, signals fire and the jobs go back, uncharged', async () => {
  const { queue, store, worker, states, aborted } = await busy()
  await using _ = queue
  const released = next(queue, 'released')
  const stopped = worker.stop({ grace: '5s' })
  await queue.stats()
  store.advance(4999)
  assert.equal(aborted(), false)
  store.advance(1)
  await stopped
  assert.equal(aborted(), true)
  assert.equal((await released)[0].id, 1)
  assert.deepEqual(await states(), [
    ['ready', 0],
    ['ready', 0],
  ])
  assert.deepEqual(await queue.history(1), [])
})

test('without drain the signals fire at once', async () => {
  const { queue, worker, states } = await busy()
  await using _ = queue
  await worker.stop({ drain: false })
  assert.deepEqual(await states(), [
    ['ready', 0],
    ['ready', 0],
  ])
})

test('a second stop in a hurry ends the waiting of the first', async () => {
  const { queue, worker, states } = await busy()
  await using _ = queue
  const patient = worker.stop()
  await queue.stats()
  const hasty = worker.stop({ drain: false })
  await Promise.all([patient, hasty])
  assert.deepEqual(await states(), [
    ['ready', 0],
    ['ready', 0],
  ])
})

test('a second stop is heard even before the first has begun to wait', async () => {
  const { queue, worker, states } = await busy()
  await using _ = queue
  await Promise.all([worker.stop(), worker.stop({ drain: false })])
  assert.deepEqual(await states(), [
    ['ready', 0],
    ['ready', 0],
  ])
})

test('a handler that ignores its signal is left after ten seconds; its job goes back all the same', async () => {
  const { queue, store } = virtualQueue()
  await using _ = queue
  const release = gate()
  const task = queue.define('deaf', {}, () => release.opened)
  const { id } = await task.submit(null)
  const started = next(queue, 'started')
  const worker = queue.work()
  await started
  const lost = next(queue, 'leaseLost')
  const stopped = worker.stop({ drain: false })
  await queue.stats()
  store.advance(10_000)
  await stopped
  assert.equal((await lost)[0].id, id)
  const job = await queue.job(id)
  assert.deepEqual([job?.state, job?.attempt, worker.overdue], ['ready', 0, 1])
  release.open() // nobody hears of it
  await queue.stats()
  assert.equal((await queue.job(id))?.state, 'ready')
})

test('what a handler still throws or returns while it is given back', async () => {
  const { queue } = virtualQueue()
  await using _ = queue
  const both = gate()
  const task = queue.define<string>('t', {}, async ({ payload }, { signal }) => {
    if (payload === 'returns') both.open()
    await aborted(signal)
    if (payload === 'throws') throw new Error('torn down')
    return 'made it'
  })
  const [throws, returns] = await task.submitMany(['throws', 'returns'])
  const worker = queue.work()
  await both.opened
  await worker.stop({ drain: false })
  assert.equal((await queue.job(throws!.id))?.state, 'ready')
  assert.equal(await task.wait(returns!.id), 'made it')
})

test('a job that arrives with the last outcome goes back before the worker signs off', async () => {
  const { queue, store } = virtualQueue()
  await using _ = queue
  const stopping = gate()
  const said: string[] = []
  const call = store.call.bind(store)
  store.call = (async (operation: Operation, input: never) => {
    if (operation === 'stopping') setImmediate().then(stopping.open) // when stop waits for the outcome
    if (operation === 'unregister') said.push('signs off')
    const answer = await call(operation, input)
    const bringsBoth = operation === 'succeed' || (operation === 'lease' && (answer as { id: number }[])[0]?.id === 2)
    if (bringsBoth) await stopping.opened
    if (operation === 'release') {
      await setImmediate() // storage takes its time
      said.push('went back')
    }
    return answer
  }) as typeof store.call
  queue.on('warning', (warning) => said.push(String(warning)))
  const task = queue.define('t', {}, () => 'ran')
  await task.submitMany([1, 2])
  const worker = queue.work({ concurrency: 1 })
  await next(queue, 'started')
  await worker.stop()
  assert.deepEqual(said, ['went back', 'signs off'])
})

test('close while busy stops the workers first; a second close is the same close', async () => {
  const { queue, finish } = await busy()
  const succeeded = next(queue, 'succeeded')
  const closed = queue.close()
  finish.open()
  await Promise.all([closed, queue.close()])
  assert.equal((await succeeded)[0].id, 1)
})

test('close in a hurry, on the real store: nothing is lost, nothing is charged', async () => {
  using folder = temporaryFolder()
  const queue = await GopherQueue.open(folder.file('q.db'))
  queue.define('t', {}, async (_job, { signal }) => {
    throw await aborted(signal)
  })
  const submitted = queue.submitMany('t', [1, 2, 3])
  const started = next(queue, 'started')
  queue.work({ concurrency: 2 })
  await started
  await queue.close({ drain: false })
  assert.equal((await submitted).length, 3)
  await using again = await GopherQueue.open(folder.file('q.db'))
  assert.deepEqual(
    (await again.jobs()).jobs.map((job) => [job.state, job.attempt]),
    Array(3).fill(['ready', 0]),
  )
})

test('after close everything is CLOSED, and so is what waited for an answer', async () => {
  const queue = await GopherQueue.open(':memory:')
  queue.define('t', {}, () => null)
  const { id } = await queue.submit('x', null)
  const waited = assert.rejects(queue.wait(id), { code: 'CLOSED' })
  await queue.stats()
  await queue.close()
  await waited
  await queue.close()
  for (const use of [
    () => queue.submit('t', null),
    () => queue.job(id),
    () => queue.wait(id),
    () => queue.stats(),
    () => queue.pause(),
  ])
    await assert.rejects(use, { code: 'CLOSED', accepted: 'no' })
})

test('a stopped worker keeps no process alive, closed or not', () => {
  const script = `
    import { GopherQueue } from ${JSON.stringify(join(import.meta.dirname, '../../src/index.ts'))}
    const queue = await GopherQueue.open(':memory:')
    queue.define('t', {}, () => null)
    await queue.work().stop()
    console.log('stopped')`
  const { status, stdout } = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
    encoding: 'utf8',
    timeout: 10_000,
  })
  assert.deepEqual([status, stdout], [0, 'stopped\n'])
})
