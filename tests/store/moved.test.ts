import assert from 'node:assert/strict'
import { DatabaseSync } from 'node:sqlite'
import { type TestContext, test } from 'node:test'
import { GopherQueue } from '../../src/index.ts'
import { jobSpec } from '../../src/model/job.ts'
import { Engine } from '../../src/store/sqlite/commit.ts'
import { connect } from '../../src/store/sqlite/connection.ts'
import { examine } from '../../src/store/sqlite/doctor.ts'
import { close, jobsAtWork, markOf, seal, unseal } from '../../src/store/sqlite/seal.ts'
import type { Input, LeasedJob, Operation } from '../../src/store/store.ts'
import { VirtualClock } from '../../src/testing/clock.ts'
import { temporaryFolder } from '../support/folder.ts'

// What the processes that have a file open do while it is moved away under them.

const to = 'postgres://app@db.example/app'
const sources = [{ queue: 'default', type: 'work' }]

function rig(t: TestContext) {
  const folder = temporaryFolder()
  const file = folder.file('jobs.db')
  const clock = new VirtualClock()
  const engine = new Engine(file, clock, { tends: true })
  const mover = connect(file, clock)
  t.after(() => {
    engine.close()
    mover.connection.close()
    folder[Symbol.dispose]()
  })
  let seq = 0
  const ask = <K extends Operation>(operation: K, input: Input<K>) => {
    const own = ++seq
    const reply = engine.execute([{ seq: own, operation, input }]).find((one) => one.seq === own)
    return reply && 'error' in reply ? `${reply.error.code} ${reply.error.accepted}` : reply?.value
  }
  const submit = (options: Parameters<typeof jobSpec>[1] = {}) =>
    ask('submit', { specs: jobSpec('work', options), payloads: ['1'], keys: null })
  const worker = ask('register', { name: 'w', sources, slots: 9 }) as number
  const lease = (slots = 1) => ask('lease', { worker, sources, slots, exclude: [] }) as LeasedJob[] | undefined
  const leaseOf = ({ id, token }: LeasedJob) => ({ id, token, ...sources[0]! })
  const jobs = (columns: string) => mover.arrays(`SELECT ${columns} FROM gq_jobs ORDER BY id`)
  return { file, clock, engine, mover, ask, submit, worker, lease, leaseOf, jobs }
}

test('a sealed file takes no submission and starts no job, and takes the outcomes of what runs', (t) => {
  const { clock, engine, mover, ask, submit, lease, leaseOf, jobs } = rig(t)
  for (let i = 0; i < 3; i++) submit()
  const when = { cron: '* * * * *', timezone: 'UTC', missed: 'all', overlap: 'allow' } as const
  ask('setSchedule', { name: 's', ...when, spec: jobSpec('work', {}), payload: '1' })
  const schedule = () => mover.get('SELECT next_at, owed_at, last_at, problem FROM gq_schedules')
  const before = schedule()
  assert.ok(before)
  const [job] = lease()!
  seal(mover, to, 'me')
  assert.equal(submit(), 'MOVED no')
  assert.equal(ask('runSchedule', 's'), 'MOVED no')
  assert.equal(ask('submit', { specs: jobSpec('work', {}), payloads: ['1', '2'], keys: ['a', 'b'] }), 'MOVED no')
  assert.equal(lease(2), undefined) // it waits
  clock.advance(10 * 60_000)
  engine.tick()
  engine.tick()
  assert.deepEqual(engine.health.works, { submit: false, lease: false, complete: true })
  assert.match(engine.health.causes[0]!.message, /moves to postgres:\/\/app@db\.example\/app since/)
  assert.deepEqual(ask('succeed', { lease: leaseOf(job!), result: '1' }), { state: 'succeeded', runAt: null, reason: null }) // biome-ignore format: one line
  assert.deepEqual(jobs('state'), [['succeeded'], ['ready'], ['ready']])
  assert.deepEqual(schedule(), before) // its ticks are owed, where it goes on
  assert.equal(ask('setQueue', { queue: 'default', maxDepth: 5 }) !== undefined, true)
})

test('an aborted move: the same processes go on by themselves', (t) => {
  const { engine, mover, submit, worker, jobs } = rig(t)
  submit()
  const mark = seal(mover, to, 'me')
  engine.execute([{ seq: 1000, operation: 'lease', input: { worker, sources, slots: 1, exclude: [] } }])
  assert.equal(submit(), 'MOVED no')
  unseal(mover, mark, 'me')
  const got = engine.tick().find(({ seq }) => seq === 1000) as { value: LeasedJob[] }
  assert.equal(got.value.length, 1)
  assert.notEqual(submit(), 'MOVED no')
  assert.deepEqual(engine.health.status, 'ok')
  assert.deepEqual(jobs('state'), [['running'], ['ready']])
  assert.equal(markOf(mover), null)
  assert.deepEqual(mover.arrays(`SELECT name FROM sqlite_schema WHERE type = 'trigger'`), [])
})

test('a closed file: what still runs goes back uncharged, and who has it open writes nothing more', (t) => {
  const { file, engine, mover, ask, submit, lease, leaseOf, jobs } = rig(t)
  submit()
  submit({ maxAttempts: 1 })
  submit()
  const [first] = lease(2)!
  const mark = seal(mover, to, 'me')
  assert.equal(jobsAtWork(mover), 2)
  assert.equal(close(mover, mark).phase, 'closed')
  assert.deepEqual(jobs('state, attempt, reason'), [
    ['ready', 0, null],
    ['dead', 1, 'exhausted'],
    ['ready', 0, null],
  ])
  engine.tick()
  const { id, token } = leaseOf(first!)
  assert.ok(engine.events.some((event) => event.event === 'leaseLost' && event.id === id && event.token === token))
  assert.equal(engine.health.status, 'failed')
  assert.deepEqual(engine.health.causes.map(({ code }) => code), ['MOVED']) // biome-ignore format: short
  assert.match(String(ask('succeed', { lease: leaseOf(first!), result: '1' })), /^MOVED/)
  for (const [operation, input] of [
    ['setQueue', { queue: 'q', maxDepth: 1 }],
    ['cancel', 1],
    ['stats', null],
  ] as const)
    assert.equal(ask(operation, input as never), 'MOVED no')
  assert.equal(submit(), 'MOVED no')
  assert.throws(() => new Engine(file, new VirtualClock()), { code: 'MOVED', message: /moves to postgres/ })
})

test('plain SQL and processes of an older version are held off, too', (t) => {
  const { file, mover, submit } = rig(t)
  submit()
  const told = () => examine(file, 0, false).find(({ name }) => name === 'moved')?.says
  assert.equal(told(), undefined)
  using other = new DatabaseSync(file, { timeout: 5000 })
  const insert = `INSERT INTO gq_jobs (type, payload) VALUES ('work', '1')`
  const mark = seal(mover, to, 'me')
  assert.throws(() => other.exec(insert), /MOVED: the queue moves to postgres/)
  other.exec(`UPDATE gq_jobs SET progress = 1`) // what runs may still report
  close(mover, mark)
  for (const sql of [insert, 'UPDATE gq_jobs SET progress = 2', 'DELETE FROM gq_jobs', `DELETE FROM gq_queues`])
    assert.throws(() => other.exec(sql), /MOVED/, sql)
  assert.match(told()!, /^on its way to postgres:/) // what `doctor` says
})

test('submitWith is refused, in a process that has heard nothing of the move', async (t) => {
  using folder = temporaryFolder()
  const file = folder.file('jobs.db')
  await using queue = await GopherQueue.open(file)
  const mover = connect(file, new VirtualClock())
  t.after(() => mover.connection.close())
  seal(mover, to, 'me')
  using app = new DatabaseSync(file, { timeout: 5000 })
  app.exec('PRAGMA synchronous = FULL; PRAGMA fullfsync = 1')
  assert.throws(() => queue.submitWith(app, 'work', 1), { code: 'MOVED', accepted: 'no' })
  await assert.rejects(queue.submit('work', 1), { code: 'MOVED', accepted: 'no', details: { to } })
})

test('a file that moves to one place is not sealed for another', (t) => {
  const { mover } = rig(t)
  const { id } = seal(mover, to, 'me')
  assert.equal(seal(mover, to, 'me').id, id)
  assert.throws(() => seal(mover, 'postgres://else/where', 'me'), { code: 'INVALID_STATE', message: /--abort/ })
})
