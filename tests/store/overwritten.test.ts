import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { DatabaseSync, StatementSync } from 'node:sqlite'
import { type TestContext, test } from 'node:test'
import { jobSpec } from '../../src/model/job.ts'
import { Checkpoints } from '../../src/store/sqlite/checkpoints.ts'
import { Engine } from '../../src/store/sqlite/commit.ts'
import { Db } from '../../src/store/sqlite/db.ts'
import { systemDisk } from '../../src/store/sqlite/disk.ts'
import { FileGuard } from '../../src/store/sqlite/guard.ts'
import { VirtualClock } from '../../src/testing/clock.ts'
import { temporaryFolder } from '../support/folder.ts'

// What happens to the files of an open queue from outside. Other processes do it: to open and close the file in this
// one would drop SQLite's locks.

const skip = process.platform === 'win32' && 'there, an open file cannot be written over'

class Rig {
  readonly clock = new VirtualClock()
  readonly path: string
  readonly other: string
  readonly engine: Engine
  /** A connection of another process's kind. */
  readonly beside: DatabaseSync

  constructor(t: TestContext) {
    const folder = temporaryFolder()
    this.path = folder.file('jobs.db')
    this.other = folder.file('other.db')
    this.engine = this.open(this.path)
    const other = this.open(this.other)
    this.submit(40, other)
    other.close()
    this.beside = new DatabaseSync(this.path)
    t.after(() => {
      this.engine.close()
      this.beside.close()
      folder[Symbol.dispose]()
    })
  }

  open(path: string): Engine {
    return new Engine(path, this.clock, { guard: new FileGuard(path) })
  }

  submit(jobs: number, engine = this.engine): void {
    const payloads = Array<string>(jobs).fill(JSON.stringify('x'.repeat(500)))
    const [reply] = engine.execute([
      { seq: 1, operation: 'submit', input: { specs: jobSpec('work', {}), payloads, keys: null } },
    ])
    assert.ok(reply && 'value' in reply, JSON.stringify(reply))
  }

  look(): string[] {
    this.clock.advance(100)
    this.engine.tick()
    return this.engine.health.causes.map(({ code }) => code)
  }

  checkpoint(): void {
    this.beside.exec('PRAGMA wal_checkpoint(PASSIVE)')
  }
}

const acts: [what: string, act: (rig: Rig, copy: string) => void][] = [
  ['another queue is copied over it', ({ path, other }) => execFileSync('cp', [other, path])],
  ['an older copy of its own is copied over it', ({ path }, copy) => execFileSync('cp', [copy, path])],
  ['it is cut to nothing', ({ path }) => execFileSync('truncate', ['-s', '0', path])],
  ['it is cut to half', ({ path }) => execFileSync('truncate', ['-s', '20480', path])],
  ['text is written over it', ({ path }) => execFileSync('sh', ['-c', `echo gone > '${path}'`])],
]
for (const [what, act] of acts)
  for (const when of ['at rest', 'with a WAL that is not in the file', 'with a checkpoint between two looks'])
    test(`${what}, ${when}: noticed within a second, and nothing is written from then on`, { skip }, (t) => {
      const rig = new Rig(t)
      rig.submit(20)
      rig.checkpoint()
      const copy = `${rig.other}-copy`
      execFileSync('cp', [rig.path, copy])
      rig.submit(20)
      rig.checkpoint()
      rig.look()
      rig.look()
      if (when === 'with a WAL that is not in the file') rig.submit(1)
      assert.deepEqual(rig.look(), [])
      if (when === 'with a checkpoint between two looks') rig.submit(1)
      act(rig, copy)
      if (when === 'with a checkpoint between two looks' && what.startsWith('another')) rig.checkpoint()
      const bytes = () =>
        [rig.path, existsSync(`${rig.path}-wal-kept`) ? `${rig.path}-wal-kept` : `${rig.path}-wal`].map(
          (name) => execFileSync('sha256sum', [name], { encoding: 'utf8' }).split(' ')[0],
        )
      const before = bytes()
      assert.equal(before.length, 2)
      let causes: string[] = []
      for (let ms = 0; ms < 1000 && causes.length === 0; ms += 100) causes = rig.look()
      assert.deepEqual([rig.engine.health.status, causes], ['failed', ['STORAGE_CORRUPT']])
      assert.match(rig.engine.health.causes[0]!.message, /overwritten or cut while it was open/)
      const [reply] = rig.engine.execute([{ seq: 1, operation: 'stats', input: null }])
      assert.ok(reply && 'error' in reply && reply.error.code === 'STORAGE_CORRUPT')
      rig.engine.close()
      assert.deepEqual(bytes(), before)
    })

const cuts: [what: string, cut: (rig: Rig) => void][] = [
  ['to nothing', ({ path }) => execFileSync('sh', ['-c', `: > '${path}-wal'`])],
  ['to half', ({ path }) => execFileSync('truncate', ['-s', '20480', `${path}-wal`])],
  [
    'and written on behind the hole by another program',
    (rig) => {
      execFileSync('truncate', ['-s', '20480', `${rig.path}-wal`])
      rig.beside.exec('PRAGMA wal_autocheckpoint = 0; CREATE TABLE orders (id)')
    },
  ],
]
for (const [how, cut] of cuts)
  test(`the WAL is cut in place, ${how}: the next write is refused, and the hole never reaches the file`, {
    skip,
  }, (t) => {
    const rig = new Rig(t)
    rig.submit(20)
    rig.checkpoint()
    rig.submit(20)
    const bytes = () =>
      ['', '-wal'].map((suffix) => execFileSync('sha256sum', [`${rig.path}${suffix}`], { encoding: 'utf8' }))
    cut(rig)
    const before = bytes()
    const submission = { specs: jobSpec('work', {}), payloads: ['1'], keys: null }
    const [reply] = rig.engine.execute([{ seq: 1, operation: 'submit', input: submission }])
    assert.ok(reply && 'error' in reply)
    assert.deepEqual([reply.error.code, reply.error.accepted], ['STORAGE_CORRUPT', 'no'])
    assert.match(reply.error.message, /jobs\.db-wal was cut or written over while it was open/)
    assert.equal(rig.engine.health.status, 'failed')
    rig.engine.close()
    assert.deepEqual(bytes(), before)
  })

test('the WAL is cut while a transaction is written: what it stored is not acknowledged', { skip }, (t) => {
  const rig = new Rig(t)
  rig.submit(20)
  const { run } = StatementSync.prototype
  t.mock.method(StatementSync.prototype, 'run', function (this: StatementSync, ...values: unknown[]) {
    const result = Reflect.apply(run, this, values)
    if (this.sourceSQL === 'COMMIT') execFileSync('sh', ['-c', `: > '${rig.path}-wal'`])
    return result
  })
  const submission = { specs: jobSpec('work', {}), payloads: ['1'], keys: null }
  const [reply] = rig.engine.execute([{ seq: 1, operation: 'submit', input: submission }])
  assert.ok(reply && 'error' in reply)
  assert.deepEqual([reply.error.code, reply.error.accepted], ['STORAGE_CORRUPT', 'unknown'])
  assert.match(reply.error.message, /It may or may not be stored/)
  const [later] = rig.engine.execute([{ seq: 2, operation: 'submit', input: submission }])
  assert.ok(later && 'error' in later && later.error.accepted === 'no')
  assert.doesNotMatch(later.error.message, /may or may not/)
})

test('an idle WAL that is cut is noticed without a write', { skip }, (t) => {
  const rig = new Rig(t)
  rig.submit(20)
  assert.deepEqual(rig.look(), [])
  execFileSync('sh', ['-c', `: > '${rig.path}-wal'`])
  assert.deepEqual(rig.look(), ['STORAGE_CORRUPT'])
})

for (const first of [1, 4, 6, 7, 48])
  test(`what a queue and its operators do to the file is not taken for that (${first})`, { skip }, (t) => {
    const rig = new Rig(t)
    const reader = new DatabaseSync(rig.path, { readOnly: true })
    t.after(() => reader.close())
    const acts = [
      () => rig.submit(50),
      () => rig.submit(1),
      () => rig.checkpoint(),
      () => rig.beside.exec('PRAGMA wal_checkpoint(TRUNCATE)'),
      () => rig.beside.exec('VACUUM'),
      () => rig.beside.exec(`DELETE FROM gq_jobs; UPDATE gq_queues SET ready = 0; PRAGMA incremental_vacuum`),
      () => rig.beside.exec('CREATE TABLE IF NOT EXISTS orders (id); INSERT INTO orders VALUES (1)'),
      () => execFileSync('touch', [rig.path]),
      () => execFileSync('chmod', ['600', rig.path]),
      () => execFileSync('cat', [rig.path], { maxBuffer: 2 ** 30 }),
      // A reader holds the next checkpoints back: they bring only pages that nobody has changed since it began.
      () => {
        if (reader.isTransaction) reader.exec('COMMIT')
        else reader.exec('BEGIN; SELECT COUNT(*) FROM gq_jobs')
      },
      () => rig.look(),
    ]
    rig.beside.exec('PRAGMA busy_timeout = 0')
    let seed = first
    for (let i = 0; i < 150; i++) {
      seed = (seed * 16807) % 2147483647
      try {
        acts[seed % acts.length]!()
      } catch (error) {
        assert.match(String(error), /database is locked/, 'VACUUM and a whole checkpoint need the file alone')
      }
      assert.deepEqual(rig.look(), [], `after step ${i}`)
    }
  })

test('a WAL that a reader keeps out of the file is a cause of health with who may hold it, and checkpoints that fail are', {
  skip,
}, (t) => {
  const rig = new Rig(t)
  const db = new Db(rig.path, rig.clock)
  t.after(() => db.connection.close())
  const checkpoints = new Checkpoints(rig.clock, { usual: 100_000, large: 400_000, failing: 5000 })
  const look = () => {
    rig.clock.advance(1000)
    return checkpoints.look(db)
  }
  rig.submit(100)
  rig.beside.exec('BEGIN')
  rig.beside.prepare('SELECT COUNT(*) FROM gq_jobs').get()
  rig.submit(300)
  assert.equal(look(), null)
  rig.submit(1500)
  const warning = look()
  assert.equal(warning?.code, 'WAL_LARGE')
  if (process.platform === 'linux') assert.match(warning.message, new RegExp(`${process.pid} \\(this one\\)`))
  rig.beside.exec('COMMIT')
  assert.equal(look(), null)

  t.mock.method(db, 'uncheckpointed', () => {
    throw new Error('disk I/O error')
  })
  for (let seconds = 0; seconds < 5; seconds++) assert.equal(look(), null, 'one failure may be chance')
  assert.equal(look()?.code, 'CHECKPOINTS_FAIL')
  t.mock.restoreAll()
  assert.equal(look(), null)
})

test('a WAL that is moved away with its file overwritten is not brought into the other file', { skip }, (t) => {
  const rig = new Rig(t)
  rig.submit(40)
  const engine = new Engine(rig.path, rig.clock, { guard: new FileGuard(rig.path), disk: systemDisk(rig.path, 0) })
  rig.beside.exec('PRAGMA wal_checkpoint(PASSIVE)')
  rig.clock.advance(1000)
  engine.tick()
  rig.submit(5)
  rig.beside.exec('PRAGMA wal_checkpoint(PASSIVE)') // the first look after it cannot tell alone
  rig.submit(5)
  execFileSync('sh', ['-c', `cat ${rig.other} > ${rig.path}; mv ${rig.path}-wal ${rig.path}-wal-kept`])
  rig.clock.advance(1000)
  engine.tick()
  const [there, put] = execFileSync('sha256sum', [rig.path, rig.other], { encoding: 'utf8' }).match(/^\S+/gm)!
  assert.equal(there, put)
  assert.deepEqual([engine.health.status, engine.health.causes.at(-1)!.code], ['failed', 'STORAGE_CORRUPT'])
  engine.close()
})
