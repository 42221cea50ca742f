import assert from 'node:assert/strict'
import { once } from 'node:events'
import { test } from 'node:test'
import { GopherQueue } from '../../src/index.ts'
import { GopherQueueError } from '../../src/model/errors.ts'
import { serve } from '../../src/server/server.ts'
import { VirtualClock } from '../../src/testing/clock.ts'
import { lookInto } from '../crash/processes.ts'
import { raw, serving } from './support.ts'

const quiet = { logLevel: 'silent' }

test('half of a surrogate pair is refused in every name and key: it would be stored as another', async (t) => {
  const at = await serving(t, quiet)
  const half = '\ud800'
  const source = { queue: 'x', type: 'x' }
  const worker = { name: 'w', sources: [source], slots: 1 }
  for (const [method, path, body] of [
    ['POST', '/v1/jobs', { type: half }],
    ['POST', '/v1/jobs', { type: 'x', queue: half }],
    ['POST', '/v1/jobs', { type: 'x', idempotencyKey: `a${half}` }],
    ['POST', '/v1/jobs', { type: 'x', uniqueKey: half }],
    ['POST', '/v1/jobs', { type: 'x', concurrencyKey: half }],
    ['POST', '/v1/jobs/bulk', { common: { type: half }, jobs: [{}] }],
    ['POST', '/v1/jobs/bulk', { jobs: [{ type: 'x' }, { type: 'x', idempotencyKey: half }] }],
    ['POST', '/v1/workers', { ...worker, name: half }],
    ['POST', '/v1/workers', { ...worker, instance: half }],
    ['POST', '/v1/workers', { ...worker, sources: [source, { queue: half, type: 'x' }] }],
    ['POST', '/v1/workers', { ...worker, sources: [source, { queue: 'x', type: half }] }],
    ['POST', '/v1/leases', { worker: half, types: ['x'], waitMs: 0 }],
    ['POST', '/v1/leases', { worker: 'w', types: ['x', half], waitMs: 0 }],
    ['POST', '/v1/leases', { worker: 'w', types: ['x'], queue: half, waitMs: 0 }],
    ['POST', '/v1/jobs/many', { event: 'cancel', filter: { queue: half } }],
    ['PUT', '/v1/schedules/a', { cron: '* * * * *', type: half }],
    ['PUT', '/v1/schedules/%ED%A0%80', { cron: '* * * * *', type: 'x' }],
    ['PATCH', '/v1/queues/%ED%A0%80', { paused: true }],
    ['GET', '/v1/jobs?queue=%ED%A0%80', undefined],
  ] as const) {
    const { status, json } = await at.ask(method, path, { body })
    assert.deepEqual([status, json.code, json.accepted], [400, 'INVALID_ARGUMENT', 'no'], `${path} ${JSON.stringify(body)}`) // biome-ignore format: long
  }
  assert.equal((await at.ask('GET', '/v1/jobs')).text, '{"jobs":[],"next":null}')
  assert.deepEqual((await at.ask('GET', '/v1/stats')).json.workers, [])
})

test('a worker has a name that its address can hold: it can sign off', async (t) => {
  const at = await serving(t, quiet)
  const ask = (name: string) => at.ask('POST', '/v1/leases', { body: { worker: name, types: ['x'], waitMs: 0 } })
  const long = '\u{1f426}'.repeat(128)
  const signsOn = { name: long, slots: 1, sources: [{ queue: 'x', type: 'x' }] }
  for (const { status, json } of [await ask(long), await at.ask('POST', '/v1/workers', { body: signsOn })])
    assert.deepEqual([status, json.code], [400, 'INVALID_ARGUMENT'])
  assert.deepEqual((await at.ask('GET', '/v1/stats')).json.workers, [])
  for (const name of ['\u{1f426}'.repeat(64), '\uffee'.repeat(128)]) {
    assert.equal((await ask(name)).status, 200)
    assert.equal((await at.ask('DELETE', `/v1/workers/${encodeURIComponent(name)}`)).status, 200)
  }
})

test('a wrong method is 405 with what is allowed, HEAD is GET without its body, an unknown Expect is 417', async (t) => {
  const at = await serving(t, quiet)
  for (const [method, path, allow] of [
    ['PUT', '/v1/jobs', 'GET, HEAD, POST'],
    ['OPTIONS', '/v1/jobs', 'GET, HEAD, POST'],
    ['TRACE', '/v1/stats', 'GET, HEAD'],
    ['DELETE', '/healthz', 'GET, HEAD'],
    ['POST', '/metrics', 'GET, HEAD'],
    ['GET', '/v1/leases', 'POST'],
    ['HEAD', '/v1/leases', 'POST'],
  ] as const) {
    const { status, headers } = await at.ask(method, path)
    const type = String(headers['content-type']).split(';')[0]
    assert.deepEqual([status, headers.allow?.split(', ').sort().join(', '), type], [405, allow, 'application/problem+json'], `${method} ${path}`) // biome-ignore format: long
  }
  assert.equal((await at.ask('PUT', '/nothing')).status, 404)
  for (const path of ['/v1/stats', '/v1/jobs', '/healthz', '/metrics', '/openapi.json', '/v1/jobs/1', '/nothing']) {
    const [head, get] = [await at.ask('HEAD', path), await at.ask('GET', path)]
    assert.deepEqual([head.status, head.text, head.headers['content-type']], [get.status, '', get.headers['content-type']]) // biome-ignore format: long
  }
  const odd = await raw(at.server.url, 'POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nExpect: a-miracle\r\nContent-Type: application/json\r\nContent-Length: 12\r\nConnection: close\r\n\r\n{"type":"x"}') // biome-ignore format: long
  assert.match(await odd.all, /^HTTP\/1.1 417 [\s\S]*application\/problem\+json[\s\S]*"code":"INVALID_ARGUMENT"/)
  const usual = await raw(at.server.url, 'POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Type: application/json\r\nContent-Length: 12\r\nConnection: close\r\n\r\n{"type":"x"}') // biome-ignore format: long
  assert.match(await usual.all, /^HTTP\/1.1 100 Continue\r\n\r\nHTTP\/1.1 201/)
})

test('a filter that is not known, or given twice, is refused: it would be taken for all, or for one of the two', async (t) => {
  const at = await serving(t, quiet)
  for (const path of [
    '/v1/stats?a=1',
    '/v1/jobs/1?a=1',
    '/v1/queues?queue=x',
    '/v1/jobs?a=1',
    '/v1/jobs?type=a&type=b',
    '/v1/events?events=foo',
    '/v1/events?events=',
    '/v1/events?events=dead&events=ready',
    '/v1/events?event=dead',
    '/v1/history?__proto__=1',
  ]) {
    // biome-ignore format: long
    const { status, json } = await at.ask('GET', path)
    assert.deepEqual([status, json.code], [400, 'INVALID_ARGUMENT'], path)
  }
  assert.equal((await at.ask('POST', '/v1/jobs?type=x', { body: { type: 'x' } })).status, 400)
  assert.equal((await at.ask('GET', '/v1/jobs/1e3')).status, 400)
})

test('a stream of events ends when its token is revoked', async (t) => {
  const clock = new VirtualClock()
  const at = await serving(t, { ...quiet, clock, tokens: [['app', 'read'], ['other', 'read']] }) // biome-ignore format: long
  const listen = (token: string) => raw(at.server.url, `GET /v1/events?events=dead HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer ${token}\r\n\r\n`) // biome-ignore format: long
  const revoked = await listen(at.secrets.app!)
  const other = await listen(at.secrets.other!)
  while (at.server.waiting < 2) await at.ask('GET', '/healthz')
  await at.store.call('revokeToken', 'app')
  clock.advance(5000)
  assert.match(await revoked.all, /: beat\n\n\r\n0\r\n\r\n$/)
  assert.equal(at.server.waiting, 1)
  clock.advance(5000)
  await once(other.socket, 'data')
  other.socket.destroy()
})

test('a port that is taken is refused with a code, and says so', async (t) => {
  const at = await serving(t, quiet)
  const { port } = new URL(at.server.url)
  await assert.rejects(serve(at.store, { port: Number(port), ...quiet }), { code: 'EADDRINUSE', message: new RegExp(`Port ${port} of 127.0.0.1 is taken`) }) // biome-ignore format: long
})

test('Retry-After stands only where another try can help', async (t) => {
  const at = await serving(t, quiet)
  const { call } = at.store
  for (const [code, helps] of [
    ['OVERLOADED', '1'],
    ['QUEUE_FULL', '1'],
    ['STORAGE_FULL', '1'],
    ['STORAGE_UNAVAILABLE', '1'],
    ['STORAGE_CORRUPT', undefined],
    ['TWO_SQLITES', undefined],
    ['SCHEMA_TOO_NEW', undefined],
    ['MOVED', undefined],
    ['IDEMPOTENCY_CONFLICT', undefined],
  ] as const) {
    const failing = t.mock.method(at.store, 'call', () => Promise.reject(new GopherQueueError(code, 'No.')))
    const { headers, json, status } = await at.ask('POST', '/v1/jobs', { body: { type: 'x' } })
    assert.deepEqual([json.code, headers['retry-after']], [code, helps])
    if (code === 'MOVED') assert.equal(status, 410)
    failing.mock.restore()
    assert.equal(at.store.call, call)
  }
})

test('a name that no address can have is refused where it would be new; what an older file has of it goes on', async (t) => {
  const at = await serving(t, quiet)
  for (const queue of ['.', '..']) {
    assert.equal((await at.ask('POST', '/v1/jobs', { body: { type: 'x', queue } })).status, 400)
    const lease = { worker: queue, types: ['x'], waitMs: 0 }
    assert.equal((await at.ask('POST', '/v1/leases', { body: lease })).status, 400)
  }
  assert.equal((await at.ask('POST', '/v1/jobs', { body: { type: '..', queue: '...' } })).status, 201)
  using db = lookInto(at.file)
  db.exec(`INSERT INTO gq_jobs (queue, type, payload) VALUES ('..', 'x', '1')`)
  const [job] = (await at.ask('POST', '/v1/leases', { body: { worker: 'w', types: ['x'], queue: '..', waitMs: 0 } })).json.jobs as { queue: string }[] // biome-ignore format: long
  assert.equal(job?.queue, '..')
  await using queue = await GopherQueue.open(at.server.url)
  assert.equal((await queue.jobs({ queue: '..' })).jobs.length, 1)
  await assert.rejects(queue.pause('..'), { code: 'INVALID_ARGUMENT', message: /No address of a server can name '\.\.'/ }) // biome-ignore format: long
  for (const name of ['.', '..']) await assert.rejects(queue.schedule(name, '0 3 * * *', 'x', 1), { code: 'INVALID_ARGUMENT' }) // biome-ignore format: long
  assert.throws(() => queue.work({ name: '.' }), { code: 'INVALID_ARGUMENT' })
})

test('an instant in Unix ms as a delay is refused: the job would be gone for 56 years', async (t) => {
  const at = await serving(t, quiet)
  const instant = Date.UTC(2026, 8)
  const refused = async (path: string, body: object) => {
    const { status, json } = await at.ask('POST', path, { body })
    assert.deepEqual([status, json.code, json.accepted], [400, 'INVALID_ARGUMENT', 'no'], path)
    assert.match(String(json.detail), /looks like an instant/)
  }
  await refused('/v1/jobs', { type: 'x', delay: instant })
  await at.ask('POST', '/v1/jobs', { body: { type: 'x' } })
  const { json } = await at.ask('POST', '/v1/leases', { body: { worker: 'w', types: ['x'], waitMs: 0 } })
  await refused('/v1/jobs/1/fail', { token: (json.jobs as { token: string }[])[0]!.token, retryAfter: instant })
  assert.equal((await at.ask('GET', '/v1/jobs/1')).json.state, 'running')
})

test('no such job is 404, whatever is asked of it', async (t) => {
  const at = await serving(t, quiet)
  for (const path of ['', '/why', '/attempts', '/wait']) {
    const { status, json } = await at.ask('GET', `/v1/jobs/99${path}`)
    assert.deepEqual([status, json.code, json.accepted], [404, 'NOT_FOUND', 'no'], path)
  }
})
