import assert from 'node:assert/strict'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import { jobSpec } from '../../src/model/job.ts'
import { Engine } from '../../src/store/sqlite/commit.ts'
import { connect } from '../../src/store/sqlite/connection.ts'
import type { Db } from '../../src/store/sqlite/db.ts'
import type { Request } from '../../src/store/sqlite/request.ts'
import type { Histogram, Input, Operation, Vitals } from '../../src/store/store.ts'
import { VirtualClock } from '../../src/testing/clock.ts'
import { temporaryFolder } from '../support/folder.ts'

/** An engine on a file, its own connection, and what it answers: requests of one call share a transaction. */
function opened(path: string) {
  let db!: Db
  const clock = new VirtualClock()
  const engine = new Engine(path, clock, {
    open: (at, time) => {
      db = connect(at, time)
      return db
    },
  })
  engine.tick() // a first look at the file: from here on it knows what others change
  let seq = 0
  const ask = <K extends Operation>(operation: K, input: Input<K>): Request => ({ seq: ++seq, operation, input })
  const together = (...requests: Request[]) => engine.execute(requests)
  const only = <T>(operation: Operation, input: unknown): T => {
    const request = ask(operation, input as never)
    const reply = together(request).find((one) => one.seq === request.seq)
    return (reply && 'value' in reply ? reply.value : undefined) as T
  }
  const vitals = () => structuredClone(only<Vitals>('vitals', null))
  const submission = { specs: jobSpec('mail', {}), payloads: ['1'], keys: null }
  return { engine, clock, connection: db.connection, ask, together, only, vitals, submission }
}

const total = ({ counts }: Histogram) => counts.reduce((sum, count) => sum + count, 0)
const up = ({ counts, bounds }: Histogram, to: number) => counts[bounds.indexOf(to)]
/** Of nobody's transaction: it is ready and counted, but nobody was told. */
const insert = `INSERT INTO gq_jobs (type, payload, blocked) VALUES ('mail', '1', 0);
  INSERT INTO gq_queues (name, ready) VALUES ('default', 1) ON CONFLICT DO UPDATE SET ready = ready + 1`

test('what shares a transaction is counted as one group, with the time of its COMMIT', () => {
  const { ask, together, vitals, submission, only } = opened(':memory:')
  const before = vitals()
  together(...[1, 2, 3].map(() => ask('submit', submission)))
  only('submit', submission)
  only('stats', null) // reads share no fsync
  const { groups, commits } = vitals()
  assert.equal(total(groups) - total(before.groups), 2)
  assert.deepEqual([up(groups, 1), up(groups, 5), groups.sum - before.groups.sum], [1, 1, 4])
  assert.equal(total(commits) - total(before.commits), 2)
})

test('asking for the vitals writes nothing', () => {
  using folder = temporaryFolder()
  const { vitals, engine } = opened(folder.file('jobs.db'))
  using other = new DatabaseSync(folder.file('jobs.db'))
  const version = () => other.prepare('PRAGMA data_version').get()!.data_version
  const before = version()
  const { commits } = vitals()
  assert.deepEqual([version(), total(vitals().commits)], [before, total(commits)])
  engine.close()
})

test('a waiting request that is passed over is noticed, and nothing else is taken for it', () => {
  const { connection, together, ask, vitals, only } = opened(':memory:')
  const sources = [{ queue: 'default', type: 'mail' }]
  const worker = only<number>('register', { name: 'w', sources, slots: 1 })
  const request = { worker, sources, slots: 1, exclude: [] }
  together(ask('lease', request))
  assert.equal(vitals().starving, false, 'there is no job')
  connection.exec(insert) // on the engine's own connection, which sees no change by others: nobody is woken
  assert.equal(vitals().starving, true)
  only('setQueue', { queue: 'default', paused: true })
  assert.equal(vitals().starving, false, 'a paused queue starves nobody')
  connection.exec('UPDATE gq_queues SET paused = 0')
  assert.equal(vitals().starving, true)
  together(ask('lease', request)) // asked anew, it gets the job
  connection.exec(insert)
  together(ask('lease', request))
  assert.equal(vitals().starving, false, 'all its slots are taken')
})
