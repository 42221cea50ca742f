import assert from 'node:assert/strict'
import { copyFileSync, rmSync } from 'node:fs'
import { type TestContext, test } from 'node:test'
import { GopherQueue, type GopherQueueError } from '../../src/index.ts'
import { jobSpec } from '../../src/model/job.ts'
import { serve } from '../../src/server/server.ts'
import { HttpStore } from '../../src/store/http/store.ts'
import { backup } from '../../src/store/sqlite/backup.ts'
import { SqliteStore } from '../../src/store/sqlite/store.ts'
import type { LeasedJob } from '../../src/store/store.ts'
import { VirtualClock } from '../../src/testing/clock.ts'
import { rowsOf } from '../support/filled.ts'
import { temporaryFolder } from '../support/folder.ts'
import { FaultProxy } from './proxy.ts'
import { ask, serving } from './support.ts'

// Answers that the server gave and nobody heard, lost one by one.

async function remote(t: TestContext) {
  const at = await serving(t, { logLevel: 'silent' })
  const proxy = await FaultProxy.start(Number(new URL(at.server.url).port), 1)
  proxy.faulty = false
  const queue = await GopherQueue.open(proxy.url)
  const warnings: GopherQueueError[] = []
  queue.on('warning', (error) => warnings.push(error as GopherQueueError))
  const close = async () => {
    await queue.close()
    await proxy.close()
  }
  return { ...at, proxy, queue, warnings, close }
}

/** Resolves when the event has come `times` times. */
const heard = (queue: GopherQueue, event: 'succeeded' | 'retrying' | 'dead' | 'started', times = 1) =>
  new Promise<void>((resolve) => {
    let left = times
    queue.on(event, () => --left === 0 && resolve())
  })

test('the answer to a success is lost: the job counts once, the worker hears it, nobody is warned', async (t) => {
  const { proxy, queue, warnings, file, close } = await remote(t)
  queue.define('a', {}, () => {
    proxy.losing.push('/v1/reports', '/v1/reports')
    return 'done'
  })
  const done = heard(queue, 'succeeded')
  const { id } = await queue.submit('a', 1)
  queue.work({ concurrency: 1 })
  await done
  assert.deepEqual([warnings, proxy.losing], [[], []])
  assert.deepEqual((await queue.job(id))!.result, 'done')
  assert.equal(rowsOf(file, 'SELECT attempt FROM gq_jobs')[0]!.attempt, 1)
  await close()
})

test('the answer to a failure is lost: it counts once, and the worker hears what came of it', async (t) => {
  const { proxy, queue, warnings, close } = await remote(t)
  queue.define('a', { maxAttempts: 1 }, () => {
    proxy.losing.push('/v1/reports')
    throw new Error('no')
  })
  const died = heard(queue, 'dead')
  const { id } = await queue.submit('a', 1)
  queue.work({ concurrency: 1 })
  await died
  assert.deepEqual([warnings, (await queue.history(id)).length], [[], 1])
  await close()
})

test('the answer with jobs is lost: they come again at once, uncharged, each handler runs once', async (t) => {
  const { proxy, queue, warnings, file, close } = await remote(t)
  const runs: number[] = []
  queue.define('a', { visibilityTimeout: '1h' }, ({ id }) => {
    runs.push(id)
  })
  const done = heard(queue, 'succeeded', 5)
  await queue.submitMany('a', [1, 2, 3, 4, 5])
  proxy.losing.push('/v1/leases', '/v1/leases')
  queue.work({ concurrency: 5 })
  await done
  assert.deepEqual([warnings, proxy.losing, new Set(runs).size, runs.length], [[], [], 5, 5])
  const rows = rowsOf(file, 'SELECT DISTINCT attempt, undelivered FROM gq_jobs').map((row) => Object.values(row))
  assert.deepEqual(rows, [[1, 2]])
  await close()
})

test('the answer to a registration is lost: there is one worker', async (t) => {
  const { proxy, queue, warnings, close } = await remote(t)
  queue.define('a', {}, () => null)
  proxy.losing.push('/v1/workers', '/v1/workers')
  const done = heard(queue, 'succeeded')
  queue.work({ concurrency: 1 })
  await queue.submit('a', 1)
  await done
  assert.deepEqual([warnings, (await queue.stats()).workers.length], [[], 1])
  await close()
})

test('a worker that was signed off by somebody registers again by itself, as the same one', async (t) => {
  const { queue, warnings, store, close } = await remote(t)
  queue.define('a', {}, () => null)
  const done = heard(queue, 'succeeded', 2)
  queue.work({ concurrency: 1 })
  await queue.submit('a', 1)
  while ((await queue.stats()).queues[0]!.counts.succeeded < 1) await new Promise((resolve) => setTimeout(resolve, 5))
  const [signedOn] = (await store.call('stats', null)).workers as { id: number }[]
  const { id } = signedOn!
  await store.call('unregister', id)
  await queue.submit('a', 2)
  await done
  assert.deepEqual([warnings, (await queue.stats()).workers.map((worker) => worker.id)], [[], [id]])
  await close()
})

/** A worker of two slots whose handler of job 1 runs, and a server that was restarted meanwhile on a backup of its file. */
async function restoredUnder(t: TestContext) {
  const folder = temporaryFolder()
  t.after(() => folder[Symbol.dispose]())
  const [file, copy] = [folder.file('jobs.db'), folder.file('backup.db')]
  const start = async () => serve(await SqliteStore.open(file, { tends: true }), { port: 0, logLevel: 'silent' })
  const server = await start()
  const proxy = await FaultProxy.start(Number(new URL(server.url).port), 1)
  proxy.faulty = false
  const queue = await GopherQueue.open(proxy.url)
  const warnings: string[] = []
  queue.on('warning', (error) => warnings.push((error as GopherQueueError).code))
  let release: () => void = () => undefined
  const runs: number[] = []
  queue.define('a', {}, ({ id }) => {
    runs.push(id)
    return runs.length > 1 ? null : new Promise<void>((resolve) => (release = resolve))
  })
  const started = heard(queue, 'started')
  queue.work({ concurrency: 2 })
  await queue.submit('a', 1)
  await started
  backup(file, copy, false)
  await server.close()
  for (const name of [file, `${file}-wal`, `${file}-shm`]) rmSync(name, { force: true })
  copyFileSync(copy, file)
  const again = await start()
  proxy.target = Number(new URL(again.url).port)
  proxy.cutAll()
  const close = async () => {
    await queue.close()
    await proxy.close()
    await again.close()
  }
  return { queue, url: again.url, runs, warnings, release: () => release(), close }
}

test('a file that is restored under a server’s workers: old tokens and ids fit nothing, they register again and go on', async (t) => {
  const { queue, url, runs, warnings, release, close } = await restoredUnder(t)
  // Not number 1: a request of that worker, which has not heard of the new file yet, would take its place.
  const { json } = await ask(url, 'POST', '/v1/leases', { body: { worker: `${'0'.repeat(16)}.99`, types: ['a'] } })
  assert.equal(json.code, 'WORKER_UNKNOWN')
  const done = heard(queue, 'succeeded')
  release() // its success is of a lease in the old file
  await done
  assert.deepEqual([runs, warnings.filter((code) => code !== 'LEASE_LOST')], [[1, 1], []])
  await close()
})

test('a job of a restored file does not start beside its handler from before in the same worker', async (t) => {
  const { queue, runs, release, close } = await restoredUnder(t)
  const other = heard(queue, 'succeeded')
  const { id } = await queue.submit('a', 2)
  await other
  assert.deepEqual(runs, [1, id]) // job 1 comes first in order
  const again = heard(queue, 'succeeded')
  release()
  await again
  assert.deepEqual(runs, [1, id, 1])
  await close()
})

test('an answer with jobs that was long on its way: no handler starts before the server says that its lease lives', async (t) => {
  const at = await serving(t, { logLevel: 'silent' })
  const clock = new VirtualClock()
  const store = await HttpStore.open(at.server.url, {}, clock)
  t.after(() => store.close())
  const sources = [{ queue: 'default', type: 'a' }]
  const worker = await store.call('register', { name: 'w', sources, slots: 1 })
  const lease = () => store.call('lease', { worker, sources, slots: 1, exclude: [] })
  await at.store.call('submit', { specs: jobSpec('a', { visibilityTimeout: '3s' }), payloads: ['1'], keys: null })

  const reports: string[] = []
  let meanwhile = async (_: LeasedJob): Promise<unknown> => undefined
  const { fetch } = globalThis
  t.mock.method(globalThis, 'fetch', async (...given: Parameters<typeof fetch>) => {
    const answer = await fetch(...given)
    if (`${given[0]}`.endsWith('/v1/reports')) reports.push(JSON.parse(`${given[1]!.body}`).reports[0].event)
    if (!`${given[0]}`.endsWith('/v1/leases')) return answer
    const { jobs } = (await answer.clone().json()) as { jobs: (Omit<LeasedJob, 'token'> & { token: string })[] }
    for (const job of jobs) await meanwhile({ ...job, token: Number(job.token.split('.')[1]) })
    return answer
  })

  meanwhile = async (job) => {
    await at.store.call('release', job) // as if the lease had been over
    clock.advance(12_000)
  }
  assert.deepEqual([await lease(), reports], [[], ['heartbeat']])

  meanwhile = async ({ id }) => {
    await at.store.call('cancel', id)
    clock.advance(1001)
  }
  const [job] = await lease()
  assert.deepEqual([job!.attempt, reports.splice(0)], [1, ['heartbeat', 'heartbeat']])
  const told = new Promise<void>((resolve) => store.onEvent(({ event }) => event === 'cancelRequested' && resolve()))
  clock.advance(1000)
  await told // also where it was told before there was a handler to hear it
  await store.call('release', job!)

  await at.store.call('submit', { specs: jobSpec('a', { visibilityTimeout: '3s' }), payloads: ['1'], keys: null })
  reports.length = 0
  meanwhile = async () => clock.advance(1000)
  assert.deepEqual([(await lease()).length, reports], [1, []])
})
