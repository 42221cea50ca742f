import assert from 'node:assert/strict'
import { test } from 'node:test'
import { GopherQueue } from '../../src/index.ts'
import { serving } from './support.ts'

const quiet = { logLevel: 'silent' }
const bulk = (from: number, to: number) => {
  return { jobs: Array.from({ length: to - from }, (_, i) => ({ type: 'x', queue: `q${from + i}` })) }
}

test('a token makes 1,000 queues an hour, by whatever call, and another token makes its own', async (t) => {
  const at = await serving(t, { ...quiet, tokens: [['a', 'submit', 'work'], ['b', 'submit'], ['root', 'admin']] }) // biome-ignore format: short
  const { a, b, root } = at.secrets
  assert.equal((await at.ask('POST', '/v1/jobs/bulk', { token: a!, body: bulk(0, 999) })).status, 201)
  assert.equal((await at.ask('POST', '/v1/jobs', { token: a!, body: { type: 'x', queue: 'q999' } })).status, 201)
  for (const [path, body] of [
    ['/v1/jobs', { type: 'x', queue: 'new' }],
    ['/v1/jobs', { type: 'x', queue: 'new', idempotencyKey: 'k' }],
    ['/v1/jobs', { type: 'x', queue: 'new', uniqueKey: 'k' }],
    ['/v1/jobs', { type: 'x', queue: 'new', delay: '1h' }],
    ['/v1/jobs/bulk', bulk(998, 1001)],
  ] as const) {
    const { status, json, headers } = await at.ask('POST', path, { token: a!, body })
    assert.deepEqual([status, json.code, json.accepted, headers['content-type']], [429, 'TOO_MANY_QUEUES', 'no', 'application/problem+json; charset=utf-8']) // biome-ignore format: long
  }
  assert.equal((await at.ask('POST', '/v1/jobs', { token: a!, body: { type: 'x', queue: 'q5' } })).status, 201)
  const own = { token: a!, body: { name: 'w', slots: 1, sources: [{ queue: 'new', type: 'x' }] } }
  assert.equal((await at.ask('POST', '/v1/workers', own)).status, 201) // makes none
  assert.equal((await at.ask('POST', '/v1/jobs', { token: b!, body: { type: 'x', queue: 'new' } })).status, 201)
  assert.equal((await at.ask('GET', '/v1/audit', { token: root! })).text, '{"entries":[],"next":null}')

  assert.equal((await at.ask('POST', '/v1/jobs/bulk', { token: root!, body: bulk(2000, 2999) })).status, 201)
  const setting = { token: root!, body: { paused: true } }
  assert.equal((await at.ask('PATCH', '/v1/queues/r1', setting)).status, 200)
  assert.equal((await at.ask('PATCH', '/v1/queues/r2', setting)).status, 429)
  const line = { token: root!, body: { cron: '0 3 * * *', type: 'x', queue: 'r3' } }
  assert.equal((await at.ask('PUT', '/v1/schedules/s', line)).status, 429)
})

test('without tokens all clients of a server count as one, and the library on the file makes what it needs', async (t) => {
  const at = await serving(t, quiet)
  assert.equal((await at.ask('POST', '/v1/jobs/bulk', { body: bulk(0, 1000) })).status, 201)
  await using far = await GopherQueue.open(at.server.url)
  await assert.rejects(far.submit('x', 1, { queue: 'new' }), { code: 'TOO_MANY_QUEUES', accepted: 'no' })
  await using near = await GopherQueue.open(at.file)
  await near.submit('x', 1, { queue: 'new' })
  await far.submit('x', 1, { queue: 'new' })
})
