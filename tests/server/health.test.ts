import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { test } from 'node:test'
import { GopherQueue, PermanentError } from '../../src/index.ts'
import { Hub } from '../../src/server/hub.ts'
import { Metrics } from '../../src/server/metrics.ts'
import { serve } from '../../src/server/server.ts'
import { Watchdog } from '../../src/server/watchdog.ts'
import { backup } from '../../src/store/sqlite/backup.ts'
import { note } from '../../src/store/sqlite/record.ts'
import { SqliteStore } from '../../src/store/sqlite/store.ts'
import { VirtualClock } from '../../src/testing/clock.ts'
import { lookInto } from '../crash/processes.ts'
import { temporaryFolder } from '../support/folder.ts'

const promtool = 'promtool'
const noPromtool = spawnSync(promtool, ['--version']).error !== undefined && 'promtool is not installed'

const start = async (file: string, patience = 5000) =>
  serve(await SqliteStore.open(file, { tends: true }), { port: 0, logLevel: 'silent', version: '1.2.3', patience })

/** Samples by name with labels, such as `gopherqueue_jobs{queue="default",state="dead"}`. */
async function scrape(url: string): Promise<{ text: string; of: (name: string) => number | undefined }> {
  const response = await fetch(`${url}/metrics`)
  assert.match(response.headers.get('content-type')!, /^text\/plain; version=0\.0\.4/)
  const text = await response.text()
  const samples = new Map(text.split('\n').filter((line) => line && !line.startsWith('#')).map((line) => line.split(/ (?=\S+$)/) as [string, string])) // biome-ignore format: long
  return { text, of: (name) => (samples.has(name) ? Number(samples.get(name)) : undefined) }
}

test('metrics by type come from the file: of embedded workers too, and of what has happened since the server started', async () => {
  using folder = temporaryFolder()
  const file = folder.file('jobs.db')
  await using embedded = await GopherQueue.open(file)
  embedded.define('mail', { maxAttempts: 1 }, ({ payload }) => {
    if (payload === 'bad') throw new Error('no')
  })
  const worker = embedded.work()
  await embedded.wait((await embedded.submit('mail', 1)).id)
  const server = await start(file)
  try {
    const attempts = async (outcome: string) => (await scrape(server.url)).of(`gopherqueue_type_attempts_total{type="mail",outcome="${outcome}"}`) // biome-ignore format: long
    assert.deepEqual([await attempts('succeeded'), await attempts('failed')], [0, 0])
    for (const payload of [2, 3]) await embedded.wait((await embedded.submit('mail', payload)).id)
    await assert.rejects(embedded.wait((await embedded.submit('mail', 'bad')).id))
    assert.deepEqual([await attempts('succeeded'), await attempts('failed')], [2, 1])
    assert.equal((await scrape(server.url)).of('gopherqueue_type_dead_jobs_total{type="mail"}'), 1)
    await worker.stop()
  } finally {
    await server.close()
  }
})

test('metrics: what was submitted, how attempts ended, how long jobs waited and ran, and what the file holds', async (t) => {
  using folder = temporaryFolder()
  const server = await start(folder.file('jobs.db'))
  const queue = await GopherQueue.open(server.url)
  queue.define('well', {}, () => 'done')
  queue.define('badly', { maxAttempts: 2, backoff: { kind: 'constant', delay: 1 } }, () => {
    throw new Error('no')
  })
  queue.define('never', {}, () => {
    throw new PermanentError('never')
  })
  const well = await queue.submitMany('well', [1, 2, 3])
  const late = await queue.submit('well', 4, { delay: 50 })
  await queue.submit('never', 0)
  await queue.submit('badly', 0)
  await queue.submit('nobody', 0)
  await assert.rejects(queue.retry(well[0]!.id), { code: 'INVALID_STATE' })
  const worker = queue.work({ concurrency: 4 })
  let dead = 0
  queue.on('dead', () => dead++)
  await Promise.all([...well, late].map(({ id }) => queue.wait(id)))
  while (dead < 2) await once(queue, 'dead')

  const { of } = await scrape(server.url)
  const expected: Record<string, number> = {
    'gopherqueue_submitted_jobs_total{queue="default"}': 7,
    'gopherqueue_attempts_total{queue="default",outcome="succeeded"}': 4,
    'gopherqueue_attempts_total{queue="default",outcome="failed"}': 3,
    'gopherqueue_ended_jobs_total{queue="default",state="dead"}': 2,
    'gopherqueue_job_wait_seconds_count{queue="default"}': 7, // each start
    'gopherqueue_attempt_duration_seconds_count{queue="default",type="well"}': 4,
    'gopherqueue_attempt_duration_seconds_count{queue="default",type="badly"}': 2,
    'gopherqueue_refused_requests_total{code="INVALID_STATE"}': 1,
    'gopherqueue_jobs{queue="default",state="succeeded"}': 4,
    'gopherqueue_jobs{queue="default",state="dead"}': 2,
    'gopherqueue_jobs{queue="default",state="ready"}': 1,
    'gopherqueue_queue_paused{queue="default"}': 0,
    'gopherqueue_type_attempts_total{type="well",outcome="succeeded"}': 4,
    'gopherqueue_type_attempts_total{type="well",outcome="failed"}': 0, // so that its first failure is an increase
    'gopherqueue_type_attempts_total{type="badly",outcome="failed"}': 2,
    'gopherqueue_type_dead_jobs_total{type="badly"}': 1,
    'gopherqueue_type_dead_jobs_total{type="well"}': 0,
    'gopherqueue_queue_slots{queue="default"}': 4,
    'gopherqueue_queue_slots_busy{queue="default"}': 0,
    gopherqueue_unhandled_types: 1,
    'gopherqueue_degraded{cause="NO_WORKER"}': 1,
    gopherqueue_workers: 1,
    gopherqueue_worker_slots: 4,
    gopherqueue_worker_slots_busy: 0,
    'gopherqueue_works{operation="submit"}': 1,
    'gopherqueue_build_info{version="1.2.3"}': 1,
  }
  assert.deepEqual(Object.fromEntries(Object.keys(expected).map((name) => [name, of(name)])), expected)
  assert.ok(of('gopherqueue_oldest_ready_age_seconds')! > 0)
  // What the storage thread counts comes with the watchdog's next look.
  let told = await scrape(server.url)
  while ((told.of('gopherqueue_commit_operations_sum') ?? 0) < 5) told = await scrape(server.url)
  const commits = told.of('gopherqueue_commit_duration_seconds_count')!
  const grouped = told.of('gopherqueue_commit_operations_count')! // the others did what time made due
  assert.ok(grouped > 0 && grouped <= commits, `${grouped} of ${commits}`)
  assert.ok(grouped <= told.of('gopherqueue_commit_operations_sum')!)
  assert.ok(told.of('gopherqueue_commit_duration_seconds_sum')! < 10, 'in seconds')
  if (noPromtool) t.diagnostic(noPromtool)
  else {
    const { status, stdout, stderr } = spawnSync(promtool, ['check', 'metrics'], { input: told.text, encoding: 'utf8' })
    assert.deepEqual([status, stdout, stderr], [0, '', ''])
  }
  await worker.stop()
  await queue.close()
  await server.close()
})

test('while another process holds the file the server lives, is not ready and says why; then it is ready again', async () => {
  using folder = temporaryFolder()
  const server = await start(folder.file('jobs.db'), 300)
  const ready = async (what = '') => {
    const response = await fetch(`${server.url}/readyz${what}`)
    const told = (await response.json()) as Record<string, { works: boolean; cause: string }>
    return { status: response.status, told }
  }
  const comes = async (status: number) => {
    for (;;) {
      const answer = await ready()
      if (answer.status === status) return answer
    }
  }
  assert.equal((await comes(200)).told.submit!.works, true)
  using other = lookInto(folder.file('jobs.db'))
  other.exec('BEGIN IMMEDIATE')
  const { told } = await comes(503)
  for (const { works, cause } of [told.submit!, told.lease!, told.complete!])
    assert.match(`${works} ${cause}`, /^false Storage has not answered/)
  assert.equal((await fetch(`${server.url}/healthz`)).status, 200)
  const { of } = await scrape(server.url)
  assert.equal(of('gopherqueue_works{operation="lease"}'), 0, 'a scrape is answered all the same')
  assert.equal(of('gopherqueue_workers') ?? 0, 0) // without what only the file knows, unless storage has just given up
  other.exec('COMMIT')
  await comes(200)
  assert.equal((await ready('?for=nonsense')).status, 400)
  await server.close()
})

test('readiness can be asked for one thing alone: a full disk stops submissions only', async () => {
  using folder = temporaryFolder()
  const store = await SqliteStore.open(folder.file('jobs.db'), { tends: true })
  const server = await serve(store, { port: 0, logLevel: 'silent' })
  const status = async (what: string) => (await fetch(`${server.url}/readyz${what}`)).status
  store.health = {
    status: 'degraded',
    causes: [{ code: 'STORAGE_FULL', message: 'The disk is full.', since: 0 }],
    works: { submit: false, lease: true, complete: true },
  }
  assert.deepEqual(
    await Promise.all(['', '?for=submit', '?for=lease', '?for=complete'].map(status)),
    [503, 503, 200, 200],
  )
  const { of } = await scrape(server.url)
  assert.equal(of('gopherqueue_degraded{cause="STORAGE_FULL"}'), 1)
  await server.close()
})

test('metrics of what goes wrong slowly: disk, backup, certificate, ticks, full pools', async (t) => {
  using folder = temporaryFolder()
  const file = folder.file('jobs.db')
  const clock = new VirtualClock(Date.now())
  const store = await SqliteStore.open(file, { tends: true })
  const metrics = new Metrics(store, clock, new Hub(0), new Watchdog(store, clock, 5000, () => undefined), '1')
  const sampled = async (name: string) => new RegExp(`^${name.replace(/[{}"]/g, '\\$&')} (\\S+)$`, 'm').exec(await metrics.text())?.[1] // biome-ignore format: long
  metrics.certificate(null)
  assert.ok(Number(await sampled('gopherqueue_disk_free_bytes')) > 0)
  for (const none of [
    'gopherqueue_last_backup_timestamp_seconds',
    'gopherqueue_tls_certificate_expiry_timestamp_seconds',
  ])
    assert.equal(await sampled(none), undefined, none)
  metrics.certificate(5000)
  assert.equal(await sampled('gopherqueue_tls_certificate_expiry_timestamp_seconds'), '5')
  backup(file, folder.file('b.db'), false)
  note(file, { who: 'cli:x', action: 'backup', target: 'b.db', details: null }, 7000)
  assert.equal(await sampled('gopherqueue_last_backup_timestamp_seconds'), '7')
  const queue = new GopherQueue(store)
  t.after(() => queue.close())
  await queue.schedule('soon', '0 0 1 1 *', 'x', null)
  await queue.schedule('paused', '0 0 1 1 *', 'x', null)
  await queue.pauseSchedule('paused')
  const late = (schedule: string) => sampled(`gopherqueue_schedule_late_seconds{schedule="${schedule}"}`)
  assert.deepEqual([await late('soon'), await sampled('gopherqueue_lost_ticks_total{schedule="soon"}')], ['0', '0'])
  clock.jump(400 * 86_400_000) // for the server alone: no tick is taken
  assert.ok(Number(await late('soon')) > 86_400)
  assert.deepEqual([await late('paused'), await sampled('gopherqueue_schedule_refused{schedule="soon"}')], ['0', '0'])
  const video = { queue: 'video', type: 'cut' }
  const register = (name: string, queueName: string, slots: number) =>
    store.call('register', { name, sources: [{ queue: queueName, type: 'cut' }], slots, remote: 'x' } as never)
  const worker = await register('one', 'video', 1)
  await register('other', 'mail', 9)
  for (const name of ['video', 'video', 'mail']) await queue.submit('cut', null, { queue: name })
  await store.call('lease', { worker, sources: [video], slots: 1, exclude: [], remote: 'x' } as never)
  const of = (name: string) => Promise.all(['', '_busy'].map((part) => sampled(`gopherqueue_queue_slots${part}{queue="${name}"}`))) // biome-ignore format: long
  assert.deepEqual([await of('video'), await of('mail')], [['1', '1'], ['9', '0']]) // biome-ignore format: pairs
})
