import assert from 'node:assert/strict'
import { once } from 'node:events'
import { test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import { GopherQueue } from '../../src/queue/gopherqueue.ts'
import { serve } from '../../src/server/server.ts'
import { SqliteStore } from '../../src/store/sqlite/store.ts'
import { VirtualClock } from '../../src/testing/clock.ts'
import { Bench } from '../cli/support.ts'
import { lookInto } from '../crash/processes.ts'
import { temporaryFolder } from '../support/folder.ts'
import { serving } from './support.ts'

const start = async (file: string, port = 0) =>
  serve(await SqliteStore.open(file, { tends: true }), { port, logLevel: 'silent' })

test('the library works over HTTP as on a file: submit, run, progress, retry, result, history', async () => {
  using folder = temporaryFolder()
  const server = await start(folder.file('jobs.db'))
  const submitter = await GopherQueue.open(server.url)
  const queue = await GopherQueue.open(server.url)
  queue.define<{ n: number }>(
    'double',
    { backoff: { kind: 'constant', delay: 1 } },
    async (job, { progress, checkpoint }) => {
      progress(50, 'half')
      if (job.attempt === 1) {
        await checkpoint({ seen: job.payload.n })
        throw new Error('the first time it fails')
      }
      return [job.payload.n * 2, job.checkpoint]
    },
  )
  const worker = queue.work({ concurrency: 3 })
  const { id } = await submitter.submit('double', { n: 21 })
  assert.deepEqual(await submitter.wait(id, { timeout: '10s' }), [42, { seen: 21 }])
  assert.deepEqual((await submitter.history(id)).map(({ outcome }) => outcome), ['failed', 'succeeded']) // biome-ignore format: short
  assert.equal((await submitter.job(id))?.progress?.percent, 50)
  await worker.stop()
  await queue.close()
  await submitter.close()
  await server.close()
})

test('a server that goes away and comes back: nothing is lost, each result is handed over, no job runs twice', async () => {
  using folder = temporaryFolder()
  let server = await start(folder.file('jobs.db'))
  const { port } = new URL(server.url)
  const queue = await GopherQueue.open(server.url)
  queue.on('warning', () => undefined)
  const runs: number[] = []
  const gate = Promise.withResolvers<void>()
  queue.define<number>('slow', {}, async (job) => {
    runs.push(job.payload)
    await gate.promise
    return job.payload
  })
  queue.work({ concurrency: 2 })
  const submitted = await Promise.all([0, 1].map((n) => queue.submit('slow', n)))
  while (runs.length < 2) await once(queue, 'started')
  await server.close()
  const whileAway = queue.submit('slow', 2)
  gate.resolve()
  server = await start(folder.file('jobs.db'), Number(port))
  const all = [...submitted, await whileAway]
  assert.deepEqual(await Promise.all(all.map(({ id }) => queue.wait(id, { timeout: '20s' }))), [0, 1, 2])
  assert.deepEqual(runs.sort(), [0, 1, 2])
  await queue.close()
  await server.close()
})

const json = async (url: string, method: string, body?: object): Promise<Record<string, unknown>> => {
  const headers = body ? { 'content-type': 'application/json' } : {}
  return (await (await fetch(url, { method, headers, ...(body && { body: JSON.stringify(body) }) })).json()) as never
}

test('all workers of a process are one process to the server, also those of several queues', async () => {
  using folder = temporaryFolder()
  const server = await start(folder.file('jobs.db'))
  const queues = [await GopherQueue.open(server.url), await GopherQueue.open(server.url)]
  for (const [i, queue] of queues.entries()) {
    queue.define('nothing', {}, async () => null)
    for (const n of [1, 2]) queue.work({ name: `${i}-${n}` })
  }
  while ((await queues[0]!.stats()).workers.length < 4) await setImmediate()
  const db = lookInto(folder.file('jobs.db'))
  const rows = db.prepare(`SELECT group_concat(name ORDER BY name) AS names FROM gq_workers GROUP BY instance ORDER BY 1`).all() // biome-ignore format: one query
  db.close()
  assert.deepEqual(
    rows.map(({ names }) => names),
    ['0-1,0-2,1-1,1-2'],
  )
  for (const queue of queues) await queue.close()
  await server.close()
})

test('a worker that asks by a name: what it takes is brought up to date, also after a restart, and it signs off by its name', async () => {
  using folder = temporaryFolder()
  let server = await start(folder.file('jobs.db'))
  const ask = async (types: string[], slots = 2) =>
    (await json(`${server.url}/v1/leases`, 'POST', { worker: 'by-name', types, slots, waitMs: 0 })).jobs as object[]
  const workers = async () =>
    ((await json(`${server.url}/v1/stats`, 'GET')).workers as Record<string, unknown>[]).map(
      ({ id, sources, running }) => [id, (sources as { type: string }[]).map(({ type }) => type), running],
    )
  assert.deepEqual(await ask(['a']), [])
  assert.deepEqual(await ask(['a', 'b']), [])
  assert.deepEqual(await workers(), [[1, ['a', 'b'], 0]])
  await server.close()
  server = await start(folder.file('jobs.db'))
  await json(`${server.url}/v1/jobs`, 'POST', { type: 'c' })
  assert.equal((await ask(['c'])).length, 1)
  assert.deepEqual(await workers(), [[1, ['c'], 1]])
  for (const name of ['nobody', 'by-name', 'by-name'])
    assert.equal(await json(`${server.url}/v1/workers/${name}`, 'DELETE'), null)
  assert.deepEqual(await workers(), [])
  const { state, attempt } = await json(`${server.url}/v1/jobs/1`, 'GET')
  assert.deepEqual([state, attempt], ['ready', 0])
  await server.close()
})

test('a poll whose worker asks for no more, or signs off, is answered at once', async () => {
  using folder = temporaryFolder()
  const server = await start(folder.file('jobs.db'))
  const poll = async (slots: number, waitMs: number) => {
    const before = server.waiting
    const answer = json(`${server.url}/v1/leases`, 'POST', { worker: 'w', types: ['a'], slots, waitMs })
    while (waitMs > 0 && server.waiting === before) await setImmediate()
    return { answer }
  }
  const first = await poll(1, 60_000)
  const second = await poll(0, 0)
  assert.deepEqual(await first.answer, { jobs: [], replaced: true })
  assert.deepEqual(await second.answer, { jobs: [], replaced: false })
  const third = await poll(1, 60_000)
  await json(`${server.url}/v1/workers/w`, 'DELETE')
  assert.deepEqual(await third.answer, { jobs: [], replaced: true })
  await server.close()
})

test('a request for jobs that is sent again gives what its lost answer gave, uncharged; one that was overtaken gives nothing', async () => {
  using folder = temporaryFolder()
  const server = await start(folder.file('jobs.db'))
  await json(`${server.url}/v1/jobs`, 'POST', { type: 'a' })
  const ask = async (turn: number, holds: string[] = [], waitMs = 0) => {
    const body = { worker: 'w', types: ['a'], slots: 1, turn, waitMs, holds }
    const { jobs, replaced } = await json(`${server.url}/v1/leases`, 'POST', body)
    return { job: (jobs as { id: number; token: string; attempt: number }[])[0], replaced }
  }
  const first = (await ask(10)).job!
  const { job: second } = await ask(11, [], 5000)
  assert.deepEqual([second!.id, second!.attempt, second!.token !== first.token], [1, 1, true])
  assert.deepEqual(await ask(10), { job: undefined, replaced: false })
  assert.deepEqual(await ask(20, [second!.token]), { job: undefined, replaced: false })
  const succeed = (token: string) => json(`${server.url}/v1/jobs/1/succeed`, 'POST', { token })
  assert.equal((await succeed(first.token)).code, 'LEASE_LOST')
  assert.equal((await succeed(second!.token)).state, 'succeeded')
  await server.close()
})

test('gopherqueue dashboard serves the page and the API of a file to this machine, until it is asked to stop', async (t) => {
  const bench = new Bench(t)
  const { id } = await (await bench.open()).submit('mail', {})
  const running = bench.start('dashboard')
  while (!running.stdout.includes('\n')) await once(running.child.stdout, 'data')
  const url = /^serving \S+ at (http:\/\/127\.0\.0\.1:\d+)$/m.exec(running.stdout)?.[1]
  const page = await fetch(`${url}/`)
  assert.match(page.headers.get('content-security-policy')!, /^default-src 'self';/)
  assert.match(await page.text(), /<title>GopherQueue/) // also where it was not built
  const { jobs } = (await (await fetch(`${url}/v1/jobs`)).json()) as { jobs: { id: number }[] }
  assert.deepEqual(jobs.map((job) => job.id), [id]) // biome-ignore format: short
  running.child.kill('SIGTERM')
  const { code, stderr } = await running.ended
  assert.deepEqual([code, stderr], [0, ''])
})

test('what embedded workers do is told to listeners, and sampled for the time before', async (t) => {
  const clock = new VirtualClock()
  const at = await serving(t, { logLevel: 'silent', clock })
  const history = async (since = 0) =>
    (await at.ask('GET', `/v1/history?since=${since}`)).json.samples as {
      at: number
      submitted: number
      ready: number
    }[]
  while ((await history()).length < 1) await setImmediate()
  const { body } = await fetch(`${at.server.url}/v1/events?events=changed`)
  const told = (async () => {
    for await (const text of body!.pipeThrough(new TextDecoderStream())) if (text.includes('event: changed')) return
  })()
  const queue = await GopherQueue.open(at.file)
  await queue.submitMany('mail', [1, 2, 3])
  while ((await history()).length < 3) {
    clock.advance(1000)
    await setImmediate()
  }
  await told
  const [first, second, third] = await history()
  assert.deepEqual([first!.submitted, second!.submitted, third!.ready], [0, 3, 3])
  assert.deepEqual([second!.at - first!.at, third!.at - second!.at], [10_000, 10_000])
  assert.deepEqual(await history(second!.at), [third])
  await queue.close()
})
