import assert from 'node:assert/strict'
import { test } from 'node:test'
import { GopherQueueError } from '../../src/model/errors.ts'
import { GopherQueue } from '../../src/queue/gopherqueue.ts'
import { Log } from '../../src/server/log.ts'
import { VirtualClock } from '../../src/testing/clock.ts'
import { Bench } from '../cli/support.ts'
import { serving } from './support.ts'

type Line = Record<string, unknown> & { err?: Record<string, unknown> }
const full = () => new GopherQueueError('STORAGE_FULL', 'The disk has no room.')

test('a thousand refusals of a full disk are a line at once and one a minute, with a count and no stack', async (t) => {
  const clock = new VirtualClock()
  const at = await serving(t, { clock })
  const refusing = t.mock.method(at.store, 'call', () => Promise.reject(full()))
  const lines = (): Line[] => at.log.map((line) => JSON.parse(line)).filter(({ msg }) => msg === 'STORAGE_FULL')
  for (let i = 0; i < 1000; i++) {
    assert.equal((await at.ask('POST', '/v1/jobs', { body: { type: 'x' } })).status, 503)
    if (i % 100 === 99) clock.advance(12_000) // two minutes in all
  }
  assert.deepEqual(lines().map(({ level, count }) => [level, count]), [['error', undefined], ['error', 499], ['error', 500]]) // biome-ignore format: long
  assert.ok(at.log.join('').length < 8000, `${at.log.join('').length} bytes`)
  for (const { err, time } of lines()) {
    assert.deepEqual([err!.code, 'stack' in err!], ['STORAGE_FULL', false])
    assert.match(String(time), /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/)
  }
  clock.advance(600_000) // nothing repeats: nothing is told
  assert.equal(lines().length, 3)
  await at.ask('POST', '/v1/jobs', { body: { type: 'x' } })
  assert.equal(lines().length, 4, 'the next one is told at once')
  refusing.mock.restore()
})

test('what was counted is told at the end; kinds that clients invent are bounded; an unforeseen error has its stack once', () => {
  const clock = new VirtualClock()
  const written: Line[] = []
  const log = new Log('info', (line) => written.push(JSON.parse(line)), clock)
  for (let i = 0; i < 5000; i++) log.repeated('warn', 'refused', `from ${i}`, { from: i })
  assert.equal(written.length, 201)
  clock.advance(60_000)
  assert.deepEqual(written.slice(201).map(({ count }) => count), [4799]) // biome-ignore format: short
  for (let i = 0; i < 3; i++) log.repeated('error', 'failed', 'x', { err: new TypeError('a bug') })
  log.close()
  const [first, last] = written.slice(-2)
  assert.match(String(first!.err!.stack), /log\.test/)
  assert.deepEqual([last!.count, last!.err], [2, { type: 'TypeError', message: 'a bug' }])
  log.repeated('error', 'failed', 'y', { err: new TypeError('late') }) // such as what a closing store tells
  assert.equal(written.at(-1)!.msg, 'failed')
  assert.equal(clock.untilTimer, Number.POSITIVE_INFINITY, 'nothing is left that would keep the process')
})

test('each line on stdout of a server is of the log: a level in words, a time in ISO 8601, a message', async (t) => {
  const bench = new Bench(t)
  const running = bench.start('serve', '--port', '0')
  const url = await running.serves()
  await fetch(`${url}/v1/stats`)
  running.child.kill('SIGTERM')
  const { stdout } = await running.ended
  const lines = stdout.trimEnd().split('\n').map((line) => JSON.parse(line) as Line) // biome-ignore format: short
  assert.ok(lines.length >= 2)
  for (const { level, time, msg } of lines) {
    assert.match(String(level), /^(trace|debug|info|warn|error|fatal)$/)
    assert.equal(new Date(String(time)).toISOString(), time)
    assert.equal(typeof msg, 'string')
  }
})

test('of an event for many jobs the log says which, of what filter, and how many each step changed; a step that changed none has no line', async (t) => {
  const at = await serving(t)
  await using queue = await GopherQueue.open(at.server.url)
  for (const type of ['mail', 'other', 'other']) await queue.submit(type, null)
  const { id } = await queue.submit('mail', null)
  await queue.cancel(id)
  assert.equal(await queue.retryAll({ type: 'mail' }, { limit: 1 }), 1)
  assert.equal(await queue.cancelAll({ type: 'none' }), 0)
  assert.equal((await at.ask('POST', '/v1/jobs/many', { body: { event: 'cancel', filter: { type: 'mail', limit: 1 } } })).status, 200) // biome-ignore format: long
  const lines = at.log.map((line) => JSON.parse(line)).filter(({ msg, action }) => msg === 'audit' && action === 'many') // biome-ignore format: long
  const what = lines.map(({ event, filter, changed }) => [event, filter.type, filter.limit, changed])
  assert.deepEqual(what, [['retry', 'mail', 1, 1], ['cancel', 'mail', 1, 1]]) // biome-ignore format: short
})
