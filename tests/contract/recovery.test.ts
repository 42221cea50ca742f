import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import { states } from '../../src/model/lifecycle.ts'
import { SqliteStore } from '../../src/store/sqlite/store.ts'
import { VirtualClock } from '../../src/testing/clock.ts'
import { EngineStore } from '../../src/testing/store.ts'
import { temporaryFolder } from '../support/folder.ts'
import { Subject } from '../support/subject.ts'

/** One file and the processes that open it, all on one clock; a process is an engine of its own. */
class File implements AsyncDisposable {
  readonly #folder = temporaryFolder()
  readonly path = this.#folder.file('jobs.db')
  readonly clock = new VirtualClock()
  readonly #open: Subject[] = []

  process(): Subject {
    const store = new EngineStore(this.path, this.clock)
    const subject = new Subject({ store, time: store, close: () => store.close() })
    this.#open.push(subject)
    return subject
  }

  sql<Row>(statement: string, ...values: (string | number)[]): Row[] {
    using db = new DatabaseSync(this.path)
    return db.prepare(statement).all(...values) as Row[]
  }

  /** A digest of all that the tables say. */
  digest(): string {
    const hash = createHash('sha256')
    const tables = this.sql<{ name: string }>(`SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name`)
    for (const { name } of tables)
      hash.update(`${name} ${JSON.stringify(this.sql(`SELECT * FROM ${name} ORDER BY 1, 2`))}\n`)
    return hash.digest('hex')
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const subject of this.#open) await subject[Symbol.asyncDispose]()
    this.#folder[Symbol.dispose]()
  }
}

/** Jobs in every state; a running one for each of two workers. Answers with the workers and what each runs. */
async function populate(at: Subject) {
  const [gone, alive] = [await at.worker(1, [], 'gone'), await at.worker(1, [], 'alive')]
  await at.fail(await at.running({ idempotencyKey: 'k' }), 'permanent')
  await at.fail(await at.running({ maxAttempts: 2 }))
  await at.succeed(await at.running(), { sum: 3 })
  await at.store.call('cancel', await at.submit({ queue: 'other', delay: '1h' }))
  const orphan = await at.running({}, gone)
  const kept = await at.running({}, alive)
  await at.submit({ deadline: '1d' })
  assert.deepEqual([...new Set((await at.all()).map(({ state }) => state))].sort(), [...states].sort())
  return { gone, alive, orphan: orphan.id, kept: kept.id }
}

/** As if the process that registered the worker had died. */
function kill(file: File, worker: number): void {
  const { pid } = spawnSync(process.execPath, ['--version'])
  file.sql(`UPDATE gq_workers SET pid = ?, pid_started = 'long ago' WHERE id = ?`, pid, worker)
}

test('recovery happens at open: what a dead process held is taken back, all else is left alone; twice equals once', async () => {
  await using file = new File()
  const { gone, orphan, kept } = await populate(file.process())
  kill(file, gone)
  const crashed = file.digest()
  const before = await file.process().all()
  const recovered = file.digest()
  assert.notEqual(recovered, crashed)
  const at = file.process()
  file.process()
  assert.equal(file.digest(), recovered)

  const changed = (await at.all()).filter(({ id }) => id === orphan || id === kept)
  assert.deepEqual(
    changed.map(({ state, attempt }) => [state, attempt]),
    [
      ['ready', 1],
      ['running', 1],
    ],
  )
  assert.deepEqual(await at.all(), before)
  const [lost] = await at.store.call('attempts', orphan)
  assert.deepEqual([lost?.outcome, lost?.worker], ['lost', 'gone'])
  assert.match(
    lost!.error!.message,
    /^Its process ended while it and 1 other ran \(process \d+ of worker gone is gone\)/,
  )
})

test('opening a file on which nothing was left open changes nothing', async () => {
  await using file = new File()
  await populate(file.process())
  const digest = file.digest()
  for (let i = 0; i < 2; i++) {
    file.process()
    assert.equal(file.digest(), digest)
  }
})

test('a worker whose process dies is noticed at the next look of any other, not after its lease', async () => {
  await using file = new File()
  const dying = file.process()
  const worker = await dying.worker()
  const job = await dying.running({}, worker)
  const other = file.process()
  await other.worker()
  other.advance(250)
  assert.equal(await other.state(job.id), 'running')
  kill(file, worker)
  other.advance(250)
  assert.equal(await other.state(job.id), 'ready')
  await dying.refused('LEASE_LOST', () => dying.succeed(job))
})

test('a process that was down for twenty minutes: its jobs are not charged, nor dead by their timeout', async () => {
  await using file = new File()
  const dying = file.process()
  const worker = await dying.worker()
  for (const timeout of ['1s', '5s', '1m', '15m'] as const)
    for (let i = 0; i < 26; i++) await dying.running({ timeout, onTimeout: 'dead', maxAttempts: 2 }, worker)
  kill(file, worker)
  file.clock.advance(1_200_000)
  const other = file.process()
  const jobs = await other.all()
  assert.deepEqual([...new Set(jobs.map(({ state, attempt, attemptsLeft }) => [state, attempt, attemptsLeft].join()))], ['ready,1,2']) // biome-ignore format: one line
  const losses = file.sql<{ jobs: number; named: number }>(
    `SELECT jobs, json_array_length(names) AS named FROM gq_losses`,
  )
  assert.deepEqual(losses.map((loss) => ({ ...loss })), [{ jobs: 104, named: 100 }]) // biome-ignore format: one line
})

test('a sign of life that the clock had before it was set back does not say that a process lived at a timeout', async () => {
  await using file = new File()
  const dying = file.process()
  const worker = await dying.worker()
  file.clock.jump(-3_600_000)
  const { id } = await dying.running({ timeout: '5s', onTimeout: 'dead' }, worker)
  kill(file, worker)
  file.clock.advance(60_000)
  assert.equal(await file.process().state(id), 'ready')
})

test('a process that goes on after the clock was set back says so by the new time', async () => {
  await using file = new File()
  const at = file.process()
  await at.worker()
  file.clock.jump(-3_600_000)
  at.advance(250)
  const [row] = file.sql<{ seen: number }>(`SELECT seen_at AS seen FROM gq_workers`)
  assert.equal(row!.seen, file.clock.now())
})

test('a process whose clock was set back before it began says so, from the last job or the last worker, until the clock is there', async () => {
  for (const leave of [(at: Subject) => at.submit(), (at: Subject) => at.worker()]) {
    await using file = new File()
    await leave(file.process())
    file.clock.jump(-3 * 86_400_000)
    const late = file.process()
    const causes = () => late.store.health.causes.map(({ code, message }) => `${code} ${message}`)
    late.advance(250)
    assert.match(causes().join(), /^CLOCK_SET_BACK The wall clock is 3d behind .* before this process began\. /)
    assert.equal(late.store.health.works.submit, true)
    file.clock.jump(3 * 86_400_000)
    late.advance(250)
    assert.deepEqual(causes(), [])
    const sound = file.process()
    sound.advance(250)
    assert.deepEqual(sound.store.health.causes, [])
  }
})

test('another process that got the id of a dead worker is not taken for it', {
  skip: process.platform === 'linux' ? false : 'only Linux says when a process started',
}, async () => {
  await using file = new File()
  const at = file.process()
  const job = await at.running({}, await at.worker(1, [], 'gone'))
  file.sql(`UPDATE gq_workers SET pid_started = 'long ago'`) // its id is that of this process, which lives
  assert.equal(await file.process().state(job.id), 'ready')
})

test('a process that ends just after the wall clock was set forward has lost its jobs: none ran out of its time', async () => {
  await using file = new File()
  const at = file.process()
  const worker = await at.worker(2)
  await at.running({}, worker)
  const job = await at.running({ timeout: '3s', onTimeout: 'dead' }, worker)
  file.clock.jump(30_000)
  at.advance(500)
  kill(file, worker)
  const other = file.process()
  assert.equal(await other.state(job.id), 'ready')
  const [{ outcome } = {}] = await other.store.call('attempts', job.id)
  assert.equal(outcome, 'lost')
})

test('a worker of another machine is left to its lease; one of this machine before a restart is not', async () => {
  await using file = new File()
  const at = file.process()
  const [far, rebooted] = [await at.worker(1, [], 'far'), await at.worker(1, [], 'rebooted')]
  const jobs = [await at.running({}, far), await at.running({}, rebooted)]
  file.sql(`UPDATE gq_workers SET boot = 'earlier', host = CASE name WHEN 'far' THEN 'elsewhere' ELSE host END`)
  const other = file.process()
  assert.deepEqual(await Promise.all(jobs.map(({ id }) => other.state(id))), ['running', 'ready'])
  await other.worker()
  other.lapse()
  assert.equal(await other.state(jobs[0]!.id), 'ready')
})

test('several processes: what one submits, cancels or ends, those that wait in another hear of', async () => {
  await using file = new File()
  const [here, there] = [file.process(), file.process()]
  const worker = await here.worker()
  const asked = here.ask(worker)
  await here.settle()
  const id = await there.submit()
  here.tick()
  await here.settle()
  assert.deepEqual(
    asked.jobs?.map((job) => job.id),
    [id],
  )
  let ended = false
  const waiting = there.store.call('wait', id).then(() => {
    ended = true
  })
  await there.store.call('cancel', id)
  assert.deepEqual([here.events, ended], [[], false])
  here.tick()
  const { token } = asked.jobs![0]!
  assert.deepEqual(here.events, [{ event: 'cancelRequested', id, token }])
  await here.succeed(asked.jobs![0]!)
  there.tick()
  await waiting
})

test('several processes: who waits for a job that is not kept hears that it has ended', async () => {
  await using file = new File()
  const [here, there] = [file.process(), file.process()]
  await here.worker()
  await here.store.call('setQueue', { queue: 'default', keepSucceeded: 0 })
  const job = await here.running()
  const waiting = there.store.call('wait', job.id)
  waiting.catch(() => undefined)
  await there.settle()
  await here.succeed(job, 'done')
  for (let passed = 0; passed < 2000; passed += 100) here.advance(100)
  there.tick()
  await assert.rejects(waiting, {
    code: 'NOT_FOUND',
    message: /^Job \d+ has ended, and is deleted already: .*keepSucceeded/,
  })
})

test('several processes: an urgent job of another goes first, also before this one has looked at the file', async () => {
  await using file = new File()
  const [here, there] = [file.process(), file.process()]
  const worker = await here.worker()
  here.tick()
  const asked = here.ask(worker, { types: ['calm', 'urgent'], slots: 1 })
  await here.settle()
  const urgent = await there.submit({ type: 'urgent', priority: 'critical' })
  await here.submit({ type: 'calm' })
  await here.settle()
  assert.deepEqual(
    asked.jobs?.map(({ id }) => id),
    [urgent],
  )
})

test('several processes: a job is leased once, and a lease taken over is told to who had it', async () => {
  await using file = new File()
  const [here, there] = [file.process(), file.process()]
  const workers = [await here.worker(), await there.worker()] as const
  const { ids } = await here.submitMany({}, Array(20).fill(0))
  const leased = await Promise.all([here.lease(workers[0], { slots: 8 }), there.lease(workers[1], { slots: 8 })])
  assert.deepEqual(
    leased.map((jobs) => jobs.map(({ id }) => id)),
    [ids.slice(0, 8), ids.slice(8, 16)],
  )

  there.advance(250)
  there.lapse() // `here` is stopped meanwhile
  assert.deepEqual(
    (await there.all()).map(({ state }) => state),
    [...Array(8).fill('ready'), ...Array(8).fill('running'), ...Array(4).fill('ready')],
  )
  here.tick()
  const lost = here.events.map((event) => event.event === 'leaseLost' && event.id)
  assert.deepEqual(lost, ids.slice(0, 8))
})

for (const until of ['its handler has ended', '30 s have passed'] as const)
  test(`a job whose lease was lost does not start in the same process, in none of its workers, until ${until}`, async () => {
    await using file = new File()
    const [here, there] = [file.process(), file.process()] // engines of one process, as `workers` says
    const workers = [await here.worker(), await here.worker()] as const
    await there.worker()
    const job = await here.running({}, workers[0])
    there.advance(250)
    there.lapse()
    assert.equal(await there.state(job.id), 'ready')
    assert.deepEqual(await here.lease(workers[1]), [])
    here.tick()
    assert.deepEqual(here.events.map((event) => 'id' in event && [event.event, event.id]), [['leaseLost', job.id]]) // biome-ignore format: one line
    file.clock.jump(3_600_000) // what the file says of the time is worth nothing from now on
    assert.deepEqual(await here.lease(workers[0]), [])
    if (until === 'its handler has ended') await here.store.call('settled', job)
    else here.advance(30_000)
    assert.deepEqual((await here.lease(workers[0])).map(({ id }) => id), [job.id]) // biome-ignore format: one line
  })

test('a process that leases a job again in the round in which it lost it tells the older handler first', async () => {
  await using file = new File()
  const at = file.process()
  const worker = await at.worker()
  const job = await at.running({ visibilityTimeout: '1s' }, worker)
  const asked = at.ask(worker)
  at.tick()
  file.sql(`UPDATE gq_jobs SET state = 'ready', lease_token = NULL, lease_expires_at = NULL, started_at = NULL`) // by another process
  file.sql(`UPDATE gq_queues SET ready = 1, running = 0`)
  at.tick()
  await at.settle()
  assert.deepEqual(at.events.map((event) => 'token' in event && [event.event, event.token]), [['leaseLost', job.token]]) // biome-ignore format: one line
  assert.equal(asked.jobs![0]!.id, job.id)
})

test('counters equal what the table says, after all that happened', async () => {
  await using file = new File()
  await populate(file.process())
  const counted = file.sql(`SELECT name, scheduled, ready, running, succeeded, dead, cancelled FROM gq_queues
                            ORDER BY name`)
  const select = states.map((state) => `SUM(state = '${state}') AS ${state}`)
  const actual = file.sql<Record<string, number>>(
    `SELECT queue AS name, ${select} FROM gq_jobs GROUP BY queue ORDER BY queue`,
  )
  assert.deepEqual(
    counted.map((row) => ({ ...(row as object) })),
    actual.map(({ name, scheduled, ready, running, succeeded, dead, cancelled }) => ({
      ...{ name, scheduled, ready, running, succeeded, dead, cancelled },
    })),
  )
})

test('what is no queue is refused and left as it is', async () => {
  using folder = temporaryFolder()
  const path = folder.file('notes.txt')
  writeFileSync(path, 'not a database, but long enough to be looked at as one. '.repeat(20))
  for (const open of [() => SqliteStore.open(path), async () => new EngineStore(path)])
    await assert.rejects(open, { code: 'NOT_A_QUEUE' })
  await assert.rejects(SqliteStore.open(folder.file('missing/jobs.db')), { code: 'NOT_A_QUEUE' })
})
