import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { existsSync, rmSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import { pathToFileURL } from 'node:url'
import { z } from 'zod'
import { GopherQueue, type GopherQueueError, type Task } from '../../src/index.ts'
import { testQueue } from '../../src/testing/index.ts'
import { temporaryFolder } from '../support/folder.ts'
import { gate, next, virtualQueue } from './support.ts'

const file = new URL('./threads.handler.ts', import.meta.url)
interface Told {
  payload: unknown
  attempt: number
  type: string
  checkpoint: unknown
  threadId: number
}

/** A queue on virtual time whose handler runs in real threads, and what became of a job that does one deed. */
function threaded(concurrency = 2) {
  const { queue, store } = virtualQueue()
  const task = queue.define<{ deed: string }, Told>('deed', { maxAttempts: 2, timeout: '20s' }, file)
  const worker = queue.work({ concurrency })
  const failed = async (deed: string, as: 'retrying' | 'dead') => {
    const told = next(queue, as)
    const { id } = await task.submit({ deed })
    const [, error, fate] = await told
    return { id, error, fate }
  }
  return { queue, store, task, worker, failed }
}

/** The next `count` ids that handlers say from their threads. */
async function heard(count: number, cause: () => unknown): Promise<number[]> {
  const channel = new BroadcastChannel('threads.test')
  const ids: number[] = []
  const all = new Promise<void>((resolve) => {
    channel.onmessage = (event) => {
      if (ids.push((event as { data: number }).data) === count) resolve()
    }
  })
  await cause()
  await all
  channel.close()
  return ids
}

const outcome = (task: Task<{ deed: string }, unknown>, deed: string) =>
  task.submit({ deed }).then(({ id }) => task.wait(id))

test('a module is the handler: it runs in a thread, which the next job gets too', async () => {
  await using queue = await GopherQueue.open(':memory:')
  const payload = z.object({ deed: z.literal('tell'), at: z.string().transform((text) => new Date(text)) })
  const task = queue.define('deed', { payload }, file)
  queue.work()
  const told: Told[] = []
  for (const at of ['2030-01-01', '2030-01-02'])
    told.push((await task.wait((await task.submit({ deed: 'tell', at })).id)) as Told)
  const [first, second] = told
  assert.deepEqual(first, {
    ...{ payload: { deed: 'tell', at: '2030-01-01T00:00:00.000Z' }, attempt: 1, type: 'deed', checkpoint: null },
    threadId: second!.threadId,
  })
  assert.ok(first.threadId > 0)
  await assert.rejects(task.submit({ deed: 'else', at: '' } as never), { code: 'INVALID_PAYLOAD' })
})

test('errors keep name, message, stack and meaning on their way', async () => {
  const { queue, task, failed, store } = threaded()
  await using _ = queue
  const permanent = await failed('permanent', 'dead')
  assert.deepEqual([permanent.error.name, permanent.error.message], ['PermanentError', 'never'])
  assert.match(permanent.error.stack!, /threads\.handler\.ts:\d+[\s\S]*Caused by: Error: the cause/)
  assert.equal(permanent.fate.reason, 'permanent')

  const later = await failed('later', 'retrying')
  assert.deepEqual([later.error.name, later.error.message], ['TemporaryError', 'busy'])
  assert.equal(later.fate.runAt, store.clock.now() + 7000)

  const postponed = next(queue, 'postponed')
  await task.submit({ deed: 'postpone' })
  const [job, { runAt }] = await postponed
  assert.deepEqual([runAt, (await queue.job(job.id))?.attempt], [store.clock.now() + 9000, 0])

  const plain = await failed('coded', 'retrying')
  assert.deepEqual([plain.error.name, plain.error.message], ['RangeError', 'out of it'])
  assert.equal(plain.fate.runAt, store.clock.now() + 5000) // the default backoff

  const text = await failed('text', 'retrying')
  assert.deepEqual(text.error, { name: 'NonError', message: "'only text'", stack: null })
  const long = await failed('long', 'retrying')
  assert.match(long.error.message, /^x+… \[cut: 20000 bytes in all\]$/)
  const odd = await failed('odd', 'retrying')
  assert.deepEqual([odd.error.name, odd.error.message], ['undefined', '{ status: 503 }'])
  const [told] = [next(queue, 'warning'), await outcome(task, 'bigint')]
  assert.match(String(await told), /result was not kept: .*bigint 1/)
  const [throws] = [next(queue, 'warning'), await outcome(task, 'revoked')]
  assert.match(String(await throws), /result was not kept: to look at it throws: .*revoked/)
})

test('what a handler posts on parentPort, and does to it, is its own affair', async () => {
  const { queue, task } = threaded(1)
  await using _ = queue
  for (const turn of [1, 2]) assert.equal(await outcome(task, 'chatter'), 'its own', `${turn}`)
  const { threadId } = (await outcome(task, 'tell')) as Told
  assert.equal(((await outcome(task, 'tell')) as Told).threadId, threadId)
})

test('a thread that ends right after its handler has had its outcome heard, and the next job is done', async () => {
  const { queue, task } = threaded(1)
  await using _ = queue
  for (let turn = 0; turn < 5; turn++) {
    const { id } = await task.submit({ deed: 'last' })
    assert.equal(await task.wait(id), 'said')
    assert.ok(await outcome(task, 'tell'))
  }
})

test('classify sees the code of an error from a thread', async () => {
  const { queue } = virtualQueue()
  await using _ = queue
  const classify = (error: unknown) => ((error as { code?: string }).code === 'E_RANGE' ? 'permanent' : undefined)
  const task = queue.define<{ deed: string }>('deed', { classify }, file)
  queue.work()
  await assert.rejects(outcome(task, 'coded'), { code: 'JOB_FAILED', message: /dead \(permanent\): out of it/ })
})

test("classify sees an error's own fields from a thread, as far as they can be copied; its class by its brand", async () => {
  const { queue } = virtualQueue()
  await using _ = queue
  const seen: Record<string, unknown>[] = []
  const classify = (error: unknown) => {
    seen.push(error as Record<string, unknown>)
    return undefined
  }
  const task = queue.define<{ deed: string }>('deed', { classify, maxAttempts: 1 }, file)
  queue.work()
  for (const deed of ['axios', 'odd', 'foreign']) await assert.rejects(outcome(task, deed), { code: 'JOB_FAILED' })
  const [axios, odd, foreign] = seen as [Record<string, unknown>, Record<string, unknown>, Record<string, unknown>]
  const { status, retryAfter, response, cause } = axios as {
    response: { status: number; headers: object }
  } & typeof axios
  assert.deepEqual([status, retryAfter, response.status, response.headers], [429, 'soon', 429, { 'x-a': '1' }])
  assert.deepEqual([(cause as { code: string }).code, 'send' in response], ['E_CAUSE', false])
  assert.equal((axios.config as { self?: object }).self, undefined)
  assert.equal(odd.code, undefined)
  assert.equal(foreign.name, 'PermanentError')
  const [job] = (await queue.jobs({ limit: 1 })).jobs
  assert.equal(job!.reason, 'permanent')
  const { error } = (await queue.history(1))[0]!
  assert.equal(error!.stack!.split('Caused by').length, 2, 'the cause is told once')
})

test("a worker in a handler's thread is refused", async () => {
  const { queue, failed } = threaded()
  await using _ = queue
  const { error } = await failed('work', 'retrying')
  assert.deepEqual([error.name, error.message.includes("handler's thread cannot open a worker")], ['GopherQueueError', true]) // biome-ignore format: short
})

test('heartbeat, progress and checkpoint work from a thread', async () => {
  const { queue, store, task, failed } = threaded()
  await using _ = queue
  const { id } = await failed('steps', 'retrying')
  assert.deepEqual((await queue.job(id))?.progress, { percent: 40, message: 'almost' })
  store.advance(0)
  assert.deepEqual(await task.wait(id), { refused: ['GopherQueueError', 'PAYLOAD_TOO_LARGE'] })
})

test('a cancelled job fires the signal in its thread, which others then have in peace', async () => {
  const { queue, store, task } = threaded()
  await using _ = queue
  for (const turn of ['first', 'second']) {
    const cancelled = next(queue, 'cancelled')
    const [id] = await heard(1, () => task.submit({ deed: 'obey' }))
    if (turn === 'second') store.advance(5000) // as long as a thread has after a signal: that of the first job
    await queue.cancel(id!)
    const [job, error] = await cancelled
    assert.deepEqual([job.id, error.name, error.message], [id, 'AbortError', `Job ${id} was cancelled.`])
  }
})

test('a job that is cancelled before its handler starts has a signal that has fired', async () => {
  const { queue } = virtualQueue()
  await using _ = queue
  const [validating, valid] = [gate(), gate()]
  const validator = { version: 1, vendor: 'test', validate: async (value: unknown) => ({ value }) } as const
  const task = queue.define('deed', { payload: { '~standard': validator } }, file)
  const { id } = await task.submit({ deed: 'obey' })
  Object.assign(validator, {
    validate: async (value: unknown) => {
      validating.open()
      await valid.opened
      return { value }
    },
  })
  const cancelled = next(queue, 'cancelled')
  queue.work()
  await validating.opened
  await queue.cancel(id)
  await queue.stats() // the worker has been told
  valid.open()
  assert.equal((await cancelled)[1].name, 'AbortError')
})

test('an endless loop is ended 5 s after its timeout, and then its slot is free', async () => {
  const { queue, store, task, worker } = threaded(1)
  await using _ = queue
  const retrying = next(queue, 'retrying')
  const [id] = await heard(1, () => task.submit({ deed: 'loop' }))
  store.advance(20_000)
  assert.equal((await retrying)[1].name, 'Timeout')
  store.advance(4999)
  assert.deepEqual([worker.overdue, (await queue.job(id!))?.state], [1, 'scheduled'])
  store.advance(1)
  while (worker.overdue > 0) await setImmediate()
  store.advance(1000)
  assert.ok(await task.wait(id!)) // in another thread; this one has no more to say
  assert.deepEqual(
    (await queue.history(id!)).map(({ outcome, error }) => [outcome, error?.name]),
    [
      ['timeout', 'Timeout'],
      ['succeeded', undefined],
    ],
  )
})

test('an endless loop that is cancelled ends cancelled', async () => {
  const { queue, store, task } = threaded()
  await using _ = queue
  const cancelled = next(queue, 'cancelled')
  const [id] = await heard(1, () => task.submit({ deed: 'loop' }))
  await queue.cancel(id!)
  await queue.stats() // the worker has been told
  store.advance(5000)
  const [, error] = await cancelled
  assert.equal(error.name, 'ThreadGone')
  assert.match(error.message, /it went on after its signal had fired, and was ended/)
  assert.equal((await queue.job(id!))?.state, 'cancelled')
})

test('a worker that stops gives an endless loop back', async () => {
  const { queue, store, task, worker } = threaded()
  await using _ = queue
  const [id] = await heard(1, () => task.submit({ deed: 'loop' }))
  const stopped = worker.stop({ drain: false })
  await queue.stats()
  store.advance(5000)
  await stopped
  const job = await queue.job(id!)
  assert.deepEqual([job?.state, job?.attempt], ['ready', 0])
})

test('a thread that dies fails its attempt, temporarily, and not its process', async () => {
  const { queue, task, failed } = threaded()
  await using _ = queue
  const exit = await failed('exit', 'retrying')
  assert.deepEqual([exit.error.name, exit.fate.state], ['ThreadGone', 'scheduled'])
  assert.equal(exit.error.message, 'The thread of the handler is gone: it exited with code 3.')
  const crash = await failed('crash', 'retrying')
  assert.equal(crash.error.message, 'The thread of the handler is gone: Error: from a timer.')
  assert.ok(await outcome(task, 'tell'), 'the next job has a new thread')
})

test('a thread that dies after other jobs ran in it charges nobody: its job runs next in a new thread, and is charged there', async () => {
  const { queue, task, failed } = threaded(1)
  await using _ = queue
  const warned = next(queue, 'warning')
  await outcome(task, 'tell') // might have left a timer behind
  const released = next(queue, 'released')
  const told = failed('exit', 'retrying')
  const [{ id }] = await released
  const [warning] = await warned
  const { error } = await told
  assert.deepEqual([(warning as GopherQueueError).code, error.name], ['THREAD_GONE', 'ThreadGone'])
  assert.deepEqual(
    (await queue.history(id)).map(({ attempt, outcome }) => [attempt, outcome]),
    [[1, 'failed']],
  )
})

test('a thread that runs out of memory fails its attempt, not its process', () => {
  using folder = temporaryFolder()
  writeFileSync(folder.file('eat.mjs'), 'export default () => { let all; for (;;) all = { all } }')
  const { status, stdout } = child(
    `const task = queue.define('eat', { maxAttempts: 1 }, new URL(${JSON.stringify(pathToFileURL(folder.file('eat.mjs')))}))
     const { id } = await task.submit(null)
     queue.work()
     await task.wait(id).catch((error) => console.log(error.message))
     await queue.close()`,
    '--max-old-space-size=60',
  )
  assert.match(stdout, /^Job 1 ended dead \(exhausted\): The thread of the handler is gone: .*memory limit/)
  assert.equal(status, 0)
})

test('a module that cannot be loaded is tried again, and afresh', async () => {
  const { queue, store } = virtualQueue()
  await using _ = queue
  using folder = temporaryFolder()
  const path = folder.file('handler.mjs')
  writeFileSync(path, '') // a deploy takes it away after the program has started
  const task = queue.define('late', { backoff: { kind: 'constant', delay: '1s' } }, pathToFileURL(path))
  queue.work()
  rmSync(path)
  const { id } = await task.submit(null)
  for (const [source, name, message] of [
    [null, 'Error', /Cannot find module/],
    ['throw new RangeError("not yet")', 'RangeError', /not yet/],
    ['export default "no function"', 'TypeError', /default export of file:.* must be a function/],
  ] as const) {
    if (source) writeFileSync(path, source)
    const told = next(queue, 'retrying')
    if (source) store.advance(1000)
    const [, error] = await told
    assert.equal(error.name, name)
    assert.match(error.message, message)
  }
  writeFileSync(path, 'export default () => "mended"')
  store.advance(1000)
  assert.equal(await task.wait(id), 'mended')
})

test('a handler whose attempt has ended while its module was loaded does not begin', async () => {
  const { queue, store } = virtualQueue()
  await using _ = queue
  using folder = temporaryFolder()
  const [path, loads, ran] = ['handler.mjs', 'loads', 'ran'].map((name) => folder.file(name)) as [
    string,
    string,
    string,
  ]
  writeFileSync(
    path,
    `import { existsSync, writeFileSync } from 'node:fs'
     import { setTimeout } from 'node:timers/promises'
     while (!existsSync(${JSON.stringify(loads)})) await setTimeout(5)
     export default () => writeFileSync(${JSON.stringify(ran)}, '')`,
  )
  const task = queue.define('slow', { maxAttempts: 1, timeout: '2s' }, pathToFileURL(path))
  const [started, dead] = [next(queue, 'started'), next(queue, 'dead')]
  queue.work({ concurrency: 1 })
  await task.submit(null)
  await started
  store.advance(2000)
  await dead
  writeFileSync(loads, '')
  const again = queue.define('fast', {}, file) // has the thread after it
  assert.ok(await again.wait((await again.submit({ deed: 'tell' })).id))
  assert.equal(existsSync(ran), false)
})

test('while two jobs compute, this thread goes on', async () => {
  await using queue = await GopherQueue.open(':memory:')
  using folder = temporaryFolder()
  const path = folder.file('enough')
  const task = queue.define<string>('spin', {}, new URL('./threads.spin.ts', import.meta.url))
  const order: string[] = []
  queue.on('succeeded', () => order.push('succeeded'))
  const worker = queue.work({ concurrency: 2 })
  const ids = await heard(2, () => task.submitMany([path, path]))
  order.push('both compute')
  const quick = await queue.submit('spin', path) // waits for a slot: there are two threads, not three
  assert.deepEqual([worker.running, (await queue.job(quick.id))?.state], [2, 'ready'])
  writeFileSync(path, '')
  for (const id of [...ids, quick.id]) await task.wait(id)
  await worker.stop()
  assert.deepEqual(order, ['both compute', 'succeeded', 'succeeded', 'succeeded'])
})

/** Runs a script that has a queue in a process of its own. */
function child(script: string, ...flags: string[]) {
  const library = JSON.stringify(new URL('../../src/index.ts', import.meta.url))
  const source = `import { GopherQueue } from ${library}\nconst queue = await GopherQueue.open(':memory:')\n${script}`
  return spawnSync(process.execPath, [...flags, '--input-type=module', '-e', source], {
    encoding: 'utf8',
    timeout: 30_000,
  })
}

test('a process ends by itself, its threads idle', () => {
  const define = `const task = queue.define('deed', {}, new URL(${JSON.stringify(file)}))
    const worker = queue.work()
    const { id } = await task.submit({ deed: 'tell' })
    console.log((await task.wait(id)).threadId > 0)`
  const closed = child(`${define}\nawait queue.close()`)
  assert.deepEqual([closed.status, closed.stdout, closed.stderr], [0, 'true\n', ''])
})

test('a test queue runs the module on its own clock, without threads', async () => {
  await using queue = testQueue()
  const task = queue.define<{ deed: string }, Told>('deed', {}, file)
  const { id } = await task.submit({ deed: 'later' })
  await queue.drain()
  assert.equal((await queue.job(id))?.runAt, queue.clock.now() + 7000)
  const told = await task.submit({ deed: 'tell' })
  await queue.drain()
  assert.equal((await task.wait(told.id)).threadId, 0)
})

test('a module of CommonJS exports its handler whole or as TypeScript compiles it, in a thread and in a test queue', async () => {
  const { queue } = virtualQueue()
  await using _ = queue
  await using inTests = testQueue()
  using folder = temporaryFolder()
  queue.define('any', () => null)
  queue.work()
  const compiled = `"use strict"; Object.defineProperty(exports, "__esModule", { value: true }); exports.default =`
  for (const [name, source, expected] of [
    ['whole.cjs', 'module.exports = () => "done"', 'done'],
    ['compiled.cjs', `${compiled} () => "done"`, 'done'],
    ['again.mjs', 'export { default } from "./compiled.cjs"', 'done'],
    ['other.cjs', `${compiled} "no function"`, null],
    ['none.cjs', 'exports.handler = () => "done"', null],
    ['null.cjs', 'module.exports = null', null],
  ] as const) {
    const path = folder.file(name)
    writeFileSync(path, source)
    for (const one of [queue, inTests]) {
      const task = one.define(name, { maxAttempts: 1 }, pathToFileURL(path))
      const { id } = await task.submit(null)
      if (one === inTests) await inTests.drain()
      if (expected) assert.equal(await task.wait(id), expected, name)
      else
        await assert.rejects(task.wait(id), {
          message: `Job ${id} ended dead (exhausted): The default export of ${pathToFileURL(path)} must be a function. An operator can retry it.`,
        })
    }
  }
})

test('a handler that is neither function nor URL is refused', async () => {
  const { queue } = virtualQueue()
  await using _ = queue
  assert.throws(() => queue.define('path', {}, './handler.ts' as never), { code: 'INVALID_ARGUMENT' })
})
