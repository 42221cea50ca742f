import assert from 'node:assert/strict'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import { setTimeout as pause } from 'node:timers/promises'
import { GopherQueue, GopherQueueError } from '../../src/index.ts'
import { Child, drained, folderFor, fromEnvironment, until } from '../crash/processes.ts'
import { randomFrom } from '../crash/random.ts'
import { main } from '../support/bundled.ts'
import { FaultProxy } from './proxy.ts'

// NETWORK_SECONDS=300 NETWORK_SEED=1 node --test --test-timeout=600000 tests/server/network.test.ts
const seconds = fromEnvironment('NETWORK_SECONDS', 10)
const seed = fromEnvironment('NETWORK_SEED', Math.floor(Math.random() * 2 ** 31))

const policy = { visibilityTimeout: '1s', maxAttempts: 100 } as const

/** One run of a handler, until it ends or hears that its lease is over. */
interface Run {
  attempt: number
  worker: number
  from: number
  to: number
}

test('cut, reset, silent, half-closed and slow connections, and a server that is killed: nothing is lost, nothing twice, no lease beside another', async (t) => {
  const folder = folderFor(t)
  const file = `${folder}/jobs.db`
  t.diagnostic(`seed ${seed}`)
  const random = randomFrom(seed)
  const serve = async () => {
    const child = new Child(process.execPath, [main, '--db', file, 'serve', '--port', '0', '--log-level', 'error'])
    return { child, port: Number(await until('it serves', 20, () => / at http:\S+:(\d+)/.exec(child.complaints)?.[1])) }
  }
  let server = await serve()
  t.after(() => server.child.kill())
  const proxy = await FaultProxy.start(server.port, seed)
  t.after(() => proxy.close())

  let busy = true
  const fates = new Map<number, 'yes' | 'no' | 'unknown'>() // of each payload
  const ids = new Map<number, number>()
  const failures: Record<string, number> = {}
  let last = 0
  const submit = async (queue: GopherQueue) => {
    while (busy) {
      const size = random() < 0.7 ? 1 : 20
      const payloads = Array.from({ length: size }, () => ++last)
      const slow = random() < 0.02
      try {
        const given = await queue.submitMany('work', payloads.map((n, i) => ({ n, ms: slow && i === 0 ? 2500 : n % 7 === 0 ? 30 : 0 })), policy) // biome-ignore format: short
        for (const [i, n] of payloads.entries()) {
          fates.set(n, 'yes')
          ids.set(n, given[i]!.id)
        }
      } catch (error) {
        assert.ok(error instanceof GopherQueueError, String(error))
        assert.equal(error.code, 'STORAGE_UNAVAILABLE', error.message)
        failures[`${error.code}, accepted ${error.accepted}`] = (failures[`${error.code}, accepted ${error.accepted}`] ?? 0) + 1 // biome-ignore format: short
        for (const n of payloads) fates.set(n, error.accepted)
      }
      await pause(random() * 20)
    }
  }

  const runs = new Map<number, Run[]>()
  const succeeded = new Map<number, number[]>()
  const warnings: Record<string, number> = {}
  const queues: GopherQueue[] = []
  for (let n = 0; n < 3; n++) {
    const queue = await GopherQueue.open(proxy.url)
    queues.push(queue)
    queue.define<{ n: number; ms: number }>(
      'work',
      { visibilityTimeout: '1s', maxAttempts: 100 },
      async (job, { signal }) => {
        const run: Run = { attempt: job.attempt, worker: n, from: performance.now(), to: Number.POSITIVE_INFINITY }
        runs.set(job.id, [...(runs.get(job.id) ?? []), run])
        const end = () => {
          run.to = Math.min(run.to, performance.now())
        }
        signal.addEventListener('abort', end)
        if (job.payload.ms > 0) await pause(job.payload.ms)
        end()
        return job.payload.n
      },
    )
    queue.on('succeeded', ({ id, attempt }) => succeeded.set(id, [...(succeeded.get(id) ?? []), attempt]))
    queue.on('warning', (error) => {
      const code = error instanceof GopherQueueError ? error.code : String(error)
      warnings[code] = (warnings[code] ?? 0) + 1
    })
    queue.work({ concurrency: 10, name: `w${n}` })
  }
  const submitters = await Promise.all([1, 2, 3, 4].map(() => GopherQueue.open(proxy.url)))
  const submitting = submitters.map(submit)

  const end = performance.now() + seconds * 1000
  let kills = 0
  while (performance.now() < end) {
    await pause(3000 + random() * 2000)
    if (performance.now() > end) break
    await server.child.kill()
    kills++
    server = await serve()
    proxy.target = server.port
  }
  busy = false
  await Promise.all(submitting)
  proxy.faulty = false
  proxy.cutAll()
  await drained(file, 60 + seconds)
  await Promise.all([...queues, ...submitters].map((queue) => queue.close()))

  const db = new DatabaseSync(file, { readOnly: true })
  const jobs = db.prepare(`SELECT id, state, attempt, payload ->> 'n' AS n FROM gq_jobs`).all() as unknown as { id: number; state: string; attempt: number; n: number }[] // biome-ignore format: short
  const history = db.prepare(`SELECT job_id AS id, attempt, outcome FROM gq_attempts`).all() as unknown as { id: number; attempt: number; outcome: string }[] // biome-ignore format: short
  db.close()
  const stored = Map.groupBy(jobs, ({ n }) => n)
  for (const [n, fate] of fates) {
    const copies = stored.get(n)?.length ?? 0
    assert.ok(
      fate === 'yes' ? copies === 1 : fate === 'no' ? copies === 0 : copies <= 1,
      `${n}: ${fate}, ${copies} jobs`,
    )
    if (fate === 'yes') assert.equal(stored.get(n)![0]!.id, ids.get(n))
  }
  assert.deepEqual(jobs.filter(({ state }) => state !== 'succeeded'), []) // biome-ignore format: short
  const outcomes = new Map(history.map(({ id, attempt, outcome }) => [`${id} ${attempt}`, outcome]))
  let [again, overlapping] = [0, 0]
  for (const { id, attempt } of jobs) {
    const own = runs.get(id) ?? []
    assert.ok(own.some((run) => run.attempt === attempt), `${id}: no handler has run as attempt ${attempt}`) // biome-ignore format: short
    assert.equal(new Set(own.map((run) => run.attempt)).size, own.length, `${id}: an attempt was given twice`)
    assert.deepEqual((succeeded.get(id) ?? []).filter((one) => one !== attempt), [], `${id}: an outcome of a lost lease was taken`) // biome-ignore format: long
    again += own.length - 1
    for (const earlier of own)
      for (const later of own)
        if (later.attempt > earlier.attempt && later.from < earlier.to) {
          overlapping++
          assert.equal(outcomes.get(`${id} ${earlier.attempt}`), 'lost', `${id}: two live leases`)
        }
  }
  const lost = history.filter(({ outcome }) => outcome === 'lost').length
  t.diagnostic(`${jobs.length} jobs, ${kills} kills, faults ${JSON.stringify(proxy.met)}`)
  t.diagnostic(`refused ${JSON.stringify(failures)}, warnings ${JSON.stringify(warnings)}`)
  t.diagnostic(
    `${lost} leases lost, ${again} handlers started again, ${overlapping} beside one that had lost its lease`,
  )
  assert.ok(jobs.length > seconds * 20, `only ${jobs.length} jobs`)
  for (const fault of ['cut', 'reset', 'silent', 'half to server', 'half to client', 'slow'] as const)
    assert.ok(proxy.met[fault], `no connection was ${fault}`)
})
