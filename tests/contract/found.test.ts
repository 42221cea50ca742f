import assert from 'node:assert/strict'
import { DatabaseSync } from 'node:sqlite'
import { type TestContext, test } from 'node:test'
import { Faults, FaultyDb, SimulatedDisk } from '../../sim/faults.ts'
import { Random } from '../../sim/random.ts'
import { jobSpec } from '../../src/model/job.ts'
import { Engine } from '../../src/store/sqlite/commit.ts'
import { connect } from '../../src/store/sqlite/connection.ts'
import { systemProcesses as processes } from '../../src/store/sqlite/processes.ts'
import type { Reply } from '../../src/store/sqlite/request.ts'
import type { Input, LeasedJob, Operation, Vitals } from '../../src/store/store.ts'
import { VirtualClock } from '../../src/testing/clock.ts'
import { temporaryFolder } from '../support/folder.ts'

// What the simulator found, each in the fewest steps that show it.

const submission = { specs: jobSpec('work', {}), payloads: ['1'], keys: null }
const sources = [{ queue: 'default', type: 'work' }]

/** One engine on a file of its own, with the simulator's faults in between. */
class Rig {
  readonly clock = new VirtualClock()
  readonly disk = new SimulatedDisk()
  readonly faults = new Faults({})
  readonly path: string
  readonly engine: Engine
  readonly replies = new Map<number, Reply>()
  #lastSeq = 0

  constructor(t: TestContext) {
    const folder = temporaryFolder()
    this.path = folder.file('jobs.db')
    const { clock, faults, disk } = this
    const options = { faults, disk, random: new Random(1), rewrite: (sql: string) => sql }
    const open = (path: string) => connect(path, clock, () => new FaultyDb({ path, clock, processes }, options))
    new Engine(this.path, clock).close() // the file is there already, as it mostly is
    this.engine = new Engine(this.path, clock, { disk, diskReserve: 1, open })
    t.after(() => {
      this.engine.close()
      folder[Symbol.dispose]()
    })
  }

  ask<K extends Operation>(operation: K, input: Input<K>): number {
    const seq = ++this.#lastSeq
    this.#hear(this.engine.execute([{ seq, operation, input }]))
    return seq
  }

  advance(ms: number): void {
    for (let passed = 0; passed < ms; passed += 50) this.look(50)
  }

  /** Lets time pass and the engine look once. */
  look(ms: number): void {
    this.clock.advance(ms)
    this.#hear(this.engine.tick())
  }

  value<T>(seq: number): T {
    const reply = this.replies.get(seq)
    assert.ok(reply && 'value' in reply, JSON.stringify(reply))
    return reply.value as T
  }

  code(seq: number): string | undefined {
    const reply = this.replies.get(seq)
    return reply && 'error' in reply ? reply.error.code : undefined
  }

  sql(statement: string): Record<string, unknown>[] {
    using db = new DatabaseSync(this.path)
    return db.prepare(statement).all()
  }

  #hear(replies: Reply[]): void {
    for (const reply of replies) this.replies.set(reply.seq, reply)
  }
}

test('a job that another submits while the file cannot be read is found once it can', (t) => {
  const rig = new Rig(t)
  const worker = rig.value<number>(rig.ask('register', { name: 'w', sources, slots: 1 }))
  rig.advance(250)
  const lease = rig.ask('lease', { worker, sources, slots: 1, exclude: [] })
  rig.disk.gone = true
  rig.look(250)
  rig.sql(`INSERT INTO gq_jobs (type, payload) VALUES ('work', '1')`)
  rig.disk.gone = false
  rig.advance(2000)
  assert.equal(rig.value<LeasedJob[]>(lease).length, 1)
})

test('a counter that somebody has changed keeps no job from running, and health says so', (t) => {
  const rig = new Rig(t)
  const worker = rig.value<number>(rig.ask('register', { name: 'w', sources, slots: 1 }))
  rig.ask('submit', { ...submission, specs: jobSpec('work', { delay: 1000 }) })
  rig.sql('UPDATE gq_queues SET scheduled = 0')
  const lease = rig.ask('lease', { worker, sources, slots: 1, exclude: [] })
  rig.advance(1500)
  assert.equal(rig.value<LeasedJob[]>(lease).length, 1)
  assert.deepEqual(rig.engine.health.causes.map(({ code }) => code), ['COUNTS_WRONG']) // biome-ignore format: one line
})

test('what no rule can read stops only what time makes due: health says so, and it goes on when that is mended', (t) => {
  const rig = new Rig(t)
  const worker = rig.value<number>(rig.ask('register', { name: 'w', sources, slots: 1 }))
  rig.advance(250)
  const settle = (settling: string | null) => {
    using db = new DatabaseSync(rig.path)
    db.exec('PRAGMA ignore_check_constraints = ON')
    db.prepare('UPDATE gq_queues SET settling = ?').run(settling)
  }
  rig.ask('submit', submission)
  settle('no JSON')
  rig.advance(500)
  const causes = () => rig.engine.health.causes.map(({ code }) => code)
  assert.deepEqual(causes(), ['UPKEEP_FAILS'])
  assert.equal(rig.value<LeasedJob[]>(rig.ask('lease', { worker, sources, slots: 1, exclude: [] })).length, 1)
  settle(null)
  rig.ask('submit', { ...submission, specs: jobSpec('work', { delay: 100 }) })
  rig.advance(1000)
  assert.deepEqual(causes(), [])
})

test('outcomes that were held share transactions as all others do: none holds the lock for more than 16 MiB', (t) => {
  const rig = new Rig(t)
  const slots = 40
  const worker = rig.value<number>(rig.ask('register', { name: 'w', sources, slots }))
  rig.ask('submit', { ...submission, payloads: Array<string>(slots).fill('1') })
  const jobs = rig.value<LeasedJob[]>(rig.ask('lease', { worker, sources, slots, exclude: [] }))
  const before = structuredClone(rig.value<Vitals>(rig.ask('vitals', null)))
  rig.faults.commit = 'early'
  const result = JSON.stringify('x'.repeat(1024 * 1024))
  const reports = jobs.map((lease) => rig.ask('succeed', { lease, result }))
  rig.advance(3000)
  for (const seq of reports) assert.ok('value' in rig.replies.get(seq)!)
  const { groups } = rig.value<Vitals>(rig.ask('vitals', null))
  const full = groups.bounds.map((bound, i) => [bound, groups.counts[i]! - before.groups.counts[i]!])
  assert.deepEqual(full.filter(([bound, count]) => bound! > 20 && count! > 0), []) // biome-ignore format: one line
})

test('a worker that is not known hears so, also when it asked while storage was away', (t) => {
  const rig = new Rig(t)
  rig.value<number>(rig.ask('register', { name: 'w', sources, slots: 1 }))
  rig.faults.commit = 'early'
  rig.ask('submit', submission)
  const lease = rig.ask('lease', { worker: 99, sources, slots: 1, exclude: [] })
  rig.ask('stats', null) // what only reads goes on meanwhile
  assert.equal(rig.replies.has(lease), false)
  rig.advance(2000)
  assert.equal(rig.code(lease), 'WORKER_UNKNOWN')
})

test('a process that only submits recovers from a failed fsync by itself, and takes submissions again', (t) => {
  const rig = new Rig(t)
  rig.faults.commit = 'early'
  assert.equal(rig.code(rig.ask('submit', submission)), 'STORAGE_UNAVAILABLE')
  assert.equal(rig.code(rig.ask('submit', submission)), 'STORAGE_UNAVAILABLE')
  assert.equal(rig.engine.health.status, 'degraded')
  rig.advance(250)
  assert.equal(rig.engine.health.status, 'ok')
  rig.value(rig.ask('submit', submission))
})

test('space that comes back between two tries is no reason to forget why nothing is written yet', (t) => {
  const rig = new Rig(t)
  rig.disk.full = true
  for (let i = 0; i < 3; i++) {
    rig.clock.advance(1000)
    rig.ask('setQueue', { queue: 'default', paused: false }) // not even this finds room
  }
  rig.disk.full = false
  rig.clock.advance(250)
  assert.equal(rig.code(rig.ask('submit', submission)), 'STORAGE_FULL')
  rig.advance(1500)
  assert.equal(rig.engine.health.status, 'ok')
  rig.value(rig.ask('submit', submission))
})

test('what is cancelled in the transaction that made its queue is kept no longer than any other', (t) => {
  const rig = new Rig(t)
  const submit = { seq: 101, operation: 'submit', input: submission } as const
  rig.engine.execute([submit, { seq: 102, operation: 'cancel', input: 1 }])
  assert.deepEqual(
    { ...rig.sql('SELECT state, prune_at - finished_at AS kept FROM gq_jobs')[0] },
    {
      ...{ state: 'cancelled', kept: 7 * 86_400_000 },
    },
  )
})

test('a lease whose COMMIT was reported as failed but took place is given back, not held until its timeout', (t) => {
  const rig = new Rig(t)
  const worker = rig.value<number>(rig.ask('register', { name: 'w', sources, slots: 1 }))
  rig.ask('submit', submission)
  rig.faults.commit = 'late'
  const lease = rig.ask('lease', { worker, sources, slots: 1, exclude: [] })
  assert.equal(rig.replies.has(lease), false)
  assert.equal(rig.sql('SELECT state FROM gq_jobs')[0]?.state, 'running')
  rig.advance(250)
  assert.deepEqual(
    rig.value<LeasedJob[]>(lease).map(({ attempt }) => attempt),
    [1],
  )
})

test('a late word on an older lease does not make this process deaf to what happens to the present one', (t) => {
  const rig = new Rig(t)
  const worker = rig.value<number>(rig.ask('register', { name: 'w', sources, slots: 1 }))
  rig.ask('submit', submission)
  const next = () =>
    rig.value<LeasedJob[]>(rig.ask('lease', { worker, sources, slots: 1, exclude: [] }))[0] as LeasedJob
  const older = next()
  rig.ask('release', older)
  const present = next()
  assert.equal(rig.code(rig.ask('succeed', { lease: older, result: '1' })), 'LEASE_LOST')
  rig.engine.events = []
  rig.sql('UPDATE gq_jobs SET cancel_requested_at = 1')
  rig.advance(50)
  assert.deepEqual(rig.engine.events, [{ event: 'cancelRequested', id: present.id, token: present.token }])
})

test('recovery once is recovery twice, also for a job that is taken back after its deadline', (t) => {
  const rig = new Rig(t)
  const worker = rig.value<number>(rig.ask('register', { name: 'w', sources, slots: 1 }))
  const specs = jobSpec('work', { deadline: rig.clock.now() + 1000, backoff: { kind: 'constant', delay: 0 } })
  rig.ask('submit', { ...submission, specs })
  rig.ask('lease', { worker, sources, slots: 1, exclude: [] })
  rig.sql(`UPDATE gq_workers SET pid_started = 'long ago'`)
  rig.clock.advance(2000)
  const states = [1, 2].map(() => {
    new Engine(rig.path, rig.clock).close()
    return rig.sql('SELECT state FROM gq_jobs')[0]?.state
  })
  assert.deepEqual(states, ['dead', 'dead'])
})

test('a lock that is gone in a moment degrades nothing, whichever statement meets it', (t) => {
  const rig = new Rig(t)
  const worker = rig.value<number>(rig.ask('register', { name: 'w', sources, slots: 2 }))
  rig.ask('submit', submission)
  rig.ask('lease', { worker, sources, slots: 2, exclude: [] })
  rig.ask('lease', { worker, sources, slots: 2, exclude: [] })
  for (let after = 0; after < 12; after++) {
    rig.sql(`INSERT INTO gq_jobs (type, payload) VALUES ('other', '1')`)
    Object.assign(rig.faults, { busy: 1, busyAfter: after })
    rig.advance(50)
    assert.equal(rig.engine.health.status, 'ok', `after ${after} statements`)
  }
})

test('who waits for the end of a job that is cancelled and retried in one transaction waits on, and hears of it once', (t) => {
  const rig = new Rig(t)
  rig.ask('submit', submission)
  const wait = rig.ask('wait', 1)
  const cancel = (seq: number) => ({ seq, operation: 'cancel', input: 1 }) as const
  const retry = { seq: 102, operation: 'retry', input: 1 } as const
  const told = (replies: Reply[]) => replies.filter(({ seq }) => seq === wait).length
  assert.equal(told(rig.engine.execute([cancel(101), retry])), 0)
  assert.equal(told(rig.engine.execute([cancel(103), retry, cancel(104)])), 1)
})
