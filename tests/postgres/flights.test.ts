import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { jobSpec } from '../../src/model/job.ts'
import { Ahead } from '../../src/store/postgres/ahead.ts'
import { connect } from '../../src/store/postgres/open.ts'
import { placeOf } from '../../src/store/postgres/place.ts'
import { PostgresStore } from '../../src/store/postgres/store.ts'
import { VirtualClock } from '../../src/testing/clock.ts'
import { EngineStore } from '../../src/testing/store.ts'
import { PostgresServer, without } from '../support/postgres.ts'

// A flight is what is sent at once and waited for: on a network its round trip takes longer than what it does.

const read = (text: string) => ({ name: text, text, values: [1] })
const answer = (row: number) => ({ command: 'SELECT', changes: 0, fields: ['a'], rows: [[row]], warned: null })

test('what came ahead is known until the transaction writes, or ends', () => {
  const ahead = new Ahead()
  const [a, b] = [read('SELECT a'), read('SELECT b')]
  const learns = () => {
    ahead.ask(a)
    assert.equal(ahead.isAsked(a), true)
    assert.equal(ahead.isAsked({ ...a, values: [2] }), false)
    ahead.answered(ahead.take(), [answer(1)])
    assert.deepEqual(ahead.answerTo(a), answer(1))
    assert.equal(ahead.answerTo(b), undefined)
  }
  for (const text of [
    'INSERT INTO t',
    'UPDATE t',
    'DELETE FROM t',
    'COMMIT',
    'ROLLBACK',
    'ROLLBACK TO one',
    'WITH one AS',
  ]) {
    learns()
    ahead.sends(read(text))
    assert.equal(ahead.answerTo(a), undefined, text)
  }
  learns()
  for (const text of ['SELECT c', 'SAVEPOINT one', 'RELEASE one']) ahead.sends(read(text))
  assert.deepEqual(ahead.answerTo(a), answer(1))
  ahead.ask(b)
  ahead.sends(read('COMMIT'))
  assert.deepEqual(ahead.take(), [], 'sent after COMMIT, it would be read outside of the transaction')
  learns()
  ahead.ask(b)
  ahead.forget()
  assert.deepEqual([ahead.answerTo(a), ahead.take()], [undefined, []])
})

if (without) test('flights to PostgreSQL', { skip: without })
else withServer(new PostgresServer())

function withServer(server: PostgresServer): void {
  after(() => server[Symbol.dispose]())

  test('a submission is two flights, a group of outcomes with the lease of the next jobs seven', async () => {
    const clock = new VirtualClock()
    const db = connect(placeOf(server.url('flights')), clock)
    let flights = 0
    const fly = db.connection.flight.bind(db.connection)
    db.connection.flight = (...of) => {
      flights++
      return fly(...of)
    }
    const store = new EngineStore('postgres', clock, () => db)
    const specs = jobSpec('work', {})
    const count = async (work: () => Promise<unknown>) => {
      const before = flights
      await work()
      return flights - before
    }
    const submit = () => store.call('submit', { specs, payloads: ['1'], keys: null })
    await submit()
    assert.equal(await count(submit), 2)
    await store.call('submit', { specs, payloads: Array<string>(40).fill('1'), keys: null })
    const sources = [{ queue: 'default', type: 'work' }]
    const worker = await store.call('register', { name: 'here', sources, slots: 10 })
    const lease = () => store.call('lease', { worker, slots: 10, exclude: [], sources })
    let jobs = await lease()
    const group = async () => {
      const ends = jobs.map((job) => store.call('succeed', { lease: job, result: '1' }))
      jobs = await lease()
      await Promise.all(ends)
    }
    await group()
    assert.equal(await count(group), 7)
    assert.equal(jobs.length, 10)
    store.close()
  })

  test('admission and retention of hundreds of jobs are few flights', async () => {
    const clock = new VirtualClock()
    const db = connect(placeOf(server.url('hundreds')), clock)
    const store = new EngineStore('postgres', clock, () => db)
    await store.call('register', { name: 'here', sources: [], slots: 1 })
    server.sql(`INSERT INTO hundreds.gq_jobs (type, payload) SELECT 'work', '1' FROM generate_series(1, 300)`)
    let flights = 0
    const fly = db.connection.flight.bind(db.connection)
    db.connection.flight = (...of) => {
      flights++
      return fly(...of)
    }
    const until = async (left: number, where: string) => {
      flights = 0
      for (
        let look = 0;
        look < 20 && Number(server.sql(`SELECT COUNT(*) FROM hundreds.gq_jobs WHERE ${where}`)) > left;
        look++
      )
        store.advance(1000)
      assert.equal(Number(server.sql(`SELECT COUNT(*) FROM hundreds.gq_jobs WHERE ${where}`)), left)
      return flights
    }
    const admitting = await until(0, 'blocked = 2')
    assert.ok(admitting < 100, `${admitting} flights to admit`)
    server.sql(`UPDATE hundreds.gq_jobs SET state = 'succeeded', result = '1', finished_at = 1, prune_at = 1;
      UPDATE hundreds.gq_queues SET ready = 0, succeeded = 300`)
    const pruning = await until(0, 'true')
    assert.ok(pruning < 100, `${pruning} flights to delete`)
    store.close()
  })

  test('a job that the server refuses fails nobody else of its group', async () => {
    const store = await PostgresStore.open(server.url('refused'))
    server.sql(`ALTER TABLE refused.gq_jobs ADD CHECK (payload <> '"no"')`)
    const submit = (queue: string, payload: string) =>
      store.call('submit', { specs: jobSpec('work', { queue }), payloads: [payload], keys: null })
    const said = await Promise.allSettled([submit('a', '1'), submit('b', '"no"'), submit('c', '1')])
    assert.deepEqual(
      said.map(({ status }) => status),
      ['fulfilled', 'rejected', 'fulfilled'],
    )
    assert.equal((said[1] as PromiseRejectedResult).reason.accepted, 'no')
    assert.equal(server.sql('SELECT string_agg(queue, NULL ORDER BY id) FROM refused.gq_jobs').trim(), 'ac')
    await store.close()
  })

  test('one that the server refuses among hundreds: it is found in few transactions', async () => {
    const store = await PostgresStore.open(server.url('halves'))
    server.sql(`ALTER TABLE halves.gq_jobs ADD CHECK (payload <> '99')`)
    const transactions = () => Number(server.sql('SELECT MAX(n) FROM halves.gq_marks'))
    const before = transactions()
    const submit = (n: number) => store.call('submit', { specs: jobSpec('work', {}), payloads: [`${n}`], keys: null })
    const said = await Promise.allSettled(Array.from({ length: 300 }, (_, n) => submit(n)))
    assert.deepEqual(said.flatMap(({ status }, n) => (status === 'rejected' ? [n] : [])), [99]) // biome-ignore format: one call
    assert.ok(transactions() - before <= 30, `${transactions() - before} transactions`)
    assert.equal(server.sql('SELECT COUNT(*) FROM halves.gq_jobs'), '299')
    await store.close()
  })
}
