import assert from 'node:assert/strict'
import { mkdirSync, readdirSync, realpathSync, renameSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { StatementSync } from 'node:sqlite'
import { type TestContext, test } from 'node:test'
import type { GopherQueueError } from '../../src/model/errors.ts'
import { jobSpec } from '../../src/model/job.ts'
import { Engine } from '../../src/store/sqlite/commit.ts'
import { type Disk, realFile, systemDisk } from '../../src/store/sqlite/disk.ts'
import type { Reply, Request } from '../../src/store/sqlite/request.ts'
import { SqliteStore } from '../../src/store/sqlite/store.ts'
import type { Input, LeasedJob, Operation, StoreHealth } from '../../src/store/store.ts'
import { VirtualClock } from '../../src/testing/clock.ts'
import { temporaryFolder } from '../support/folder.ts'

// The engine on a disk that fails when told to, in virtual time: what it refuses, what it holds, and what it says.

const reserve = 1000

class FakeDisk implements Disk {
  room = 1_000_000
  trouble: string | null = null
  held = false
  roomToSetAside = true
  readonly calls: string[] = []

  free(): number {
    return this.room
  }
  problem(): string | null {
    return this.trouble
  }
  setAside(): boolean {
    this.calls.push('setAside')
    this.held = this.roomToSetAside
    return this.held
  }
  release(): boolean {
    this.calls.push('release')
    const { held } = this
    this.held = false
    return held
  }
}

/** An engine on a file of its own, with one worker and its disk. */
class Rig {
  readonly disk = new FakeDisk()
  readonly clock = new VirtualClock()
  readonly engine: Engine
  /** The SQLite error code that matching statements meet, as long as it is set. */
  fault: { matching: RegExp; errcode: number } | undefined
  worker = 0
  #lastSeq = 0

  constructor(t: TestContext) {
    const folder = temporaryFolder()
    const rig = this
    const { run } = StatementSync.prototype
    t.mock.method(StatementSync.prototype, 'run', function (this: StatementSync, ...values: unknown[]) {
      const { fault } = rig
      if (fault?.matching.test(this.sourceSQL))
        throw Object.assign(new Error('storage failed'), { errcode: fault.errcode, errstr: 'storage failed' })
      return Reflect.apply(run, this, values)
    })
    this.engine = new Engine(folder.file('jobs.db'), this.clock, { disk: this.disk, diskReserve: reserve })
    t.after(() => {
      this.engine.close()
      folder[Symbol.dispose]()
    })
  }

  request<K extends Operation>(operation: K, input: Input<K>): Request {
    return { seq: ++this.#lastSeq, operation, input }
  }

  /** The value or error of one operation; undefined when it is held or waits. */
  ask<K extends Operation>(operation: K, input: Input<K>): Reply | undefined {
    const request = this.request(operation, input)
    return this.engine.execute([request]).find(({ seq }) => seq === request.seq)
  }

  value<T>(reply: Reply | undefined): T {
    assert.ok(reply && 'value' in reply, JSON.stringify(reply))
    return reply.value as T
  }

  error(reply: Reply | undefined): GopherQueueError {
    assert.ok(reply && 'error' in reply, JSON.stringify(reply))
    return reply.error
  }

  register(): void {
    const sources = [{ queue: 'default', type: 'work' }]
    this.worker = this.value(this.ask('register', { name: 'w', sources, slots: 10 }))
  }

  submit(): Reply | undefined {
    return this.ask('submit', { specs: jobSpec('work', {}), payloads: ['1'], keys: null })
  }

  lease(): Reply | undefined {
    const sources = [{ queue: 'default', type: 'work' }]
    return this.ask('lease', { worker: this.worker, sources, slots: 10, exclude: [] })
  }

  /** One job that runs. */
  running(): LeasedJob {
    if (this.worker === 0) this.register()
    this.value(this.submit())
    return this.value<LeasedJob[]>(this.lease())[0]!
  }

  state(id: number): string | undefined {
    return this.value<{ state: string } | null>(this.ask('job', id))?.state
  }

  /** Time passes, a tick each 50 ms; answers with what was told meanwhile. */
  advance(ms: number): Reply[] {
    const replies: Reply[] = []
    for (let passed = 0; passed < ms; passed += 50) {
      this.clock.advance(50)
      replies.push(...this.engine.tick())
    }
    return replies
  }

  /** The words of health since the last call. */
  healths(): StoreHealth[] {
    return this.engine.events.splice(0).flatMap((event) => (event.event === 'health' ? [event.health] : []))
  }
}

const full = /^(INSERT|UPDATE)/
const sqlite = { ioError: 10, full: 13 }

test('under the reserve, submissions are refused and nothing else; one word of health, and one when space is back', (t) => {
  const rig = new Rig(t)
  const job = rig.running()
  const second = rig.running()
  assert.deepEqual(rig.healths(), [])
  rig.disk.room = reserve - 1
  rig.advance(250)
  for (let i = 0; i < 3; i++) {
    const { code, accepted } = rig.error(rig.submit())
    assert.deepEqual([code, accepted], ['STORAGE_FULL', 'no'])
  }
  assert.equal(rig.state(second.id + 1), undefined)
  rig.value(rig.ask('succeed', { lease: job, result: '1' }))
  rig.value(rig.ask('release', second))
  assert.equal(rig.value<LeasedJob[]>(rig.lease())[0]!.id, second.id)
  rig.advance(1000)
  const said = rig.healths()
  assert.equal(said.length, 1)
  assert.deepEqual([said[0]!.status, said[0]!.causes.map(({ code }) => code)], ['degraded', ['STORAGE_FULL']])
  assert.deepEqual(said[0]!.works, { submit: false, lease: true, complete: true })
  assert.match(said[0]!.causes[0]!.message, /are kept for jobs that run, so that they go on/)

  rig.disk.room = reserve // not enough to come back: the next few submissions would be refused again
  rig.advance(250)
  assert.equal(rig.error(rig.submit()).code, 'STORAGE_FULL')
  rig.disk.room = reserve * 1.125
  rig.advance(250)
  rig.value(rig.submit())
  assert.deepEqual(rig.healths(), [{ status: 'ok', causes: [], works: { submit: true, lease: true, complete: true } }])
})

test('space is set aside as soon as this process works, and when there is none submissions are refused', (t) => {
  const rig = new Rig(t)
  rig.value(rig.submit())
  rig.advance(1000)
  assert.deepEqual(rig.disk.calls, [], 'who only submits keeps nothing')
  rig.disk.roomToSetAside = false
  rig.register()
  rig.advance(250)
  assert.deepEqual([...new Set(rig.disk.calls)], ['setAside'])
  assert.equal(rig.error(rig.submit()).code, 'STORAGE_FULL')
  rig.disk.roomToSetAside = true
  rig.advance(250)
  rig.value(rig.submit())
})

test('the disk is full: what was set aside is given to the outcome that met it, and submissions are refused', (t) => {
  const rig = new Rig(t)
  const job = rig.running()
  rig.advance(250)
  assert.ok(rig.disk.held)
  rig.disk.room = 0
  rig.fault = { matching: full, errcode: sqlite.full }
  t.mock.method(rig.disk, 'release', () => {
    rig.fault = undefined
    return true
  })
  const submission = rig.request('submit', { specs: jobSpec('work', {}), payloads: ['1'], keys: null })
  const success = rig.request('succeed', { lease: job, result: '1' })
  const replies = rig.engine.execute([submission, success])
  assert.equal(rig.error(replies.find(({ seq }) => seq === submission.seq)).code, 'STORAGE_FULL')
  rig.value(replies.find(({ seq }) => seq === success.seq))
  assert.equal(rig.state(job.id), 'succeeded')
})

test('the disk is full and nothing is left: outcomes are held, and are on disk when space is back', (t) => {
  const rig = new Rig(t)
  const jobs = [rig.running(), rig.running(), rig.running()]
  rig.healths()
  rig.disk.room = 0
  rig.disk.roomToSetAside = false
  rig.disk.held = false
  rig.fault = { matching: full, errcode: sqlite.full }
  const [one, two, three] = jobs as [LeasedJob, LeasedJob, LeasedJob]
  const error = { name: 'Boom', message: 'no', stack: null }
  assert.equal(rig.ask('succeed', { lease: one, result: '1' }), undefined)
  assert.equal(rig.ask('fail', { lease: two, kind: 'permanent', error, retryAfter: null }), undefined)
  assert.equal(rig.ask('release', three), undefined)
  assert.deepEqual(rig.advance(2000), [])
  assert.deepEqual(
    jobs.map(({ id }) => rig.state(id)),
    ['running', 'running', 'running'],
  )
  const refused = rig.error(rig.submit())
  assert.equal(refused.code, 'STORAGE_FULL')
  assert.match(refused.message, /Nothing was accepted/)
  // What was so at the first refusal, and what a submission is told, is not so of the storage now.
  const { causes, works } = rig.healths().at(-1)!
  assert.deepEqual([works.complete, causes.map(({ code }) => code)], [false, ['STORAGE_FULL']])
  assert.match(causes[0]!.message, /nothing can be written, .* held in memory/)
  for (const text of [refused.message, causes[0]!.message]) assert.doesNotMatch(text, /go(es)? on|MiB free/)
  assert.doesNotMatch(causes[0]!.message, /accepted/)

  rig.fault = undefined
  rig.disk.room = 1_000_000
  rig.disk.roomToSetAside = true
  const told = rig.advance(1500)
  assert.equal(told.length, 3)
  assert.deepEqual(
    jobs.map(({ id }) => rig.state(id)),
    ['succeeded', 'dead', 'ready'],
  )
  assert.equal(rig.engine.health.status, 'ok')
})

test('COMMIT fails: nothing of it is believed, outcomes are held, who waits for a job still gets it', (t) => {
  const rig = new Rig(t)
  const job = rig.running()
  rig.advance(250)
  rig.healths()
  rig.fault = { matching: /^COMMIT/, errcode: sqlite.ioError }
  const submission = rig.request('submit', { specs: jobSpec('work', {}), payloads: ['1'], keys: null })
  const success = rig.request('succeed', { lease: job, result: '1' })
  const sources = [{ queue: 'default', type: 'work' }]
  const hungry = rig.request('lease', { worker: rig.worker, sources, slots: 10, exclude: [] })
  const replies = rig.engine.execute([success, submission, hungry])
  const { code, accepted } = rig.error(replies[0])
  assert.deepEqual([replies.length, replies[0]!.seq], [1, submission.seq], 'only the submission is answered')
  assert.deepEqual([code, accepted], ['STORAGE_UNAVAILABLE', 'unknown'])
  const said = rig.healths()
  assert.deepEqual(
    said.map(({ status, works }) => [status, works.complete]),
    [['degraded', false]],
  )
  const refused = rig.error(rig.submit())
  assert.deepEqual([refused.code, refused.accepted], ['STORAGE_UNAVAILABLE', 'no'])

  rig.fault = undefined
  const told = rig.advance(1500)
  assert.deepEqual(
    told.map(({ seq }) => seq),
    [success.seq],
  )
  assert.equal(rig.state(job.id), 'succeeded')
  assert.equal(rig.healths().at(-1)!.status, 'ok')
  const next = rig.request('submit', { specs: jobSpec('work', {}), payloads: ['1'], keys: null })
  const fed = rig.engine.execute([next]).find(({ seq }) => seq === hungry.seq)
  assert.equal(rig.value<LeasedJob[]>(fed).length, 1)
})

test('the lease of a job whose COMMIT failed was not given: the job is ready, its attempt not counted', (t) => {
  const rig = new Rig(t)
  rig.register()
  const { ids } = rig.value<{ ids: number[] }>(rig.submit())
  rig.fault = { matching: /^COMMIT/, errcode: sqlite.ioError }
  assert.equal(rig.lease(), undefined)
  rig.fault = undefined
  const told = rig.advance(1500)
  assert.equal(told.length, 1)
  const [job] = rig.value<LeasedJob[]>(told[0])
  assert.deepEqual([job!.id, job!.attempt], [ids[0], 1])
})

test('the file is gone: refused, in one word of health, until it is back', (t) => {
  const rig = new Rig(t)
  const job = rig.running()
  rig.advance(250)
  rig.healths()
  rig.disk.trouble = 'the file is gone'
  rig.advance(250)
  const { code, message } = rig.error(rig.submit())
  assert.equal(code, 'STORAGE_UNAVAILABLE')
  assert.match(message, /the file is gone/)
  assert.equal(rig.ask('succeed', { lease: job, result: '1' }), undefined)
  rig.advance(3000)
  assert.deepEqual(
    rig.healths().map(({ status }) => status),
    ['degraded'],
  )
  rig.disk.trouble = null
  assert.equal(rig.advance(1500).length, 1)
  assert.equal(rig.state(job.id), 'succeeded')
  assert.deepEqual(
    rig.healths().map(({ status }) => status),
    ['ok'],
  )
})

test('what is set aside on a real disk is a file of the asked size beside the database, until it is given away', () => {
  using folder = temporaryFolder()
  const path = folder.file('jobs.db')
  const aside = `${path}-reserve`
  writeFileSync(path, '')
  const disk = systemDisk(path, 3 * 1024 * 1024 + 17)
  assert.ok(disk.free() > 0)
  for (let i = 0; i < 2; i++) {
    assert.ok(disk.setAside(true))
    assert.equal(statSync(aside).size, 3 * 1024 * 1024 + 17)
  }
  assert.equal(disk.release(), true)
  assert.equal(statSync(aside).size, 0)
  assert.equal(disk.release(), false)
  assert.equal(disk.setAside(false), false, 'given up: not taken back from the database')
  assert.equal(statSync(aside).size, 0)
  assert.ok(disk.setAside(true), 'made again')
  assert.equal(statSync(aside).size, 3 * 1024 * 1024 + 17)
})

test('a file that is gone or another one is told from the one that was opened', () => {
  using folder = temporaryFolder()
  const path = folder.file('jobs.db')
  writeFileSync(path, '')
  const disk = systemDisk(path, 0)
  assert.equal(disk.problem(), null)
  renameSync(path, folder.file('away'))
  assert.match(disk.problem()!, /is gone/)
  writeFileSync(path, '')
  assert.match(disk.problem()!, /another file/)
  renameSync(folder.file('away'), path)
  assert.equal(disk.problem(), null)
})

test('the file lies where links lead to, and what is set aside beside it', async () => {
  using folder = temporaryFolder()
  mkdirSync(folder.file('disk'))
  symlinkSync('disk', folder.file('data'))
  symlinkSync('data/jobs.db', folder.file('link.db'))
  symlinkSync(folder.file('link.db'), folder.file('app.db'))
  const real = join(realpathSync(folder.file('disk')), 'jobs.db')
  assert.equal(realFile(folder.file('app.db')), real, 'also before it is made')
  for (let opening = 0; opening < 2; opening++) {
    const store = await SqliteStore.open(folder.file('app.db'), { diskReserve: 4000, tends: true })
    await store.call('submit', { specs: jobSpec('work', {}), payloads: ['1'], keys: null })
    assert.equal(store.health.status, 'ok')
    await store.close()
    assert.equal(statSync(`${real}-reserve`).size, 1000)
  }
  assert.deepEqual(readdirSync(folder.file('disk')), ['jobs.db', 'jobs.db-reserve'])
  symlinkSync(folder.file('round'), folder.file('round'))
  assert.equal(realFile(folder.file('round')), join(dirname(dirname(real)), 'round'), 'a circle ends')
})

test('a reserve that cannot be made for another reason than room is said to be so', () => {
  using folder = temporaryFolder()
  const path = folder.file('jobs.db')
  writeFileSync(path, '')
  mkdirSync(`${path}-reserve`) // as root, nothing else keeps a file from being made
  assert.throws(() => systemDisk(path, 8192).setAside(true), /EISDIR/)
})

test('a tick of a schedule that meets a full disk is told, and taken when space is back', (t) => {
  const rig = new Rig(t)
  rig.register()
  const spec = jobSpec('work', {})
  const schedule = { name: 's', cron: '0 * * * *', timezone: 'UTC', spec, payload: '1' }
  rig.value(rig.ask('setSchedule', { ...schedule, missed: 'once', overlap: 'allow' }))
  const problem = () =>
    rig.value<{ schedules: { problem: { code: string } | null }[] }>(rig.ask('schedules', {})).schedules[0]!.problem
      ?.code
  rig.disk.room = reserve - 1
  rig.clock.advance(3_600_000)
  rig.advance(1000)
  assert.deepEqual([rig.state(1), problem()], [undefined, 'STORAGE_FULL'])
  rig.disk.room = 2 * reserve
  rig.advance(2500)
  const job = rig.value<{ jobs: { tick: number }[] }>(rig.ask('jobs', {})).jobs[0]
  assert.deepEqual([job?.tick, problem()], [Date.UTC(2030, 0, 1, 1), undefined])
})
