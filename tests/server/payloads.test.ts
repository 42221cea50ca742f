import assert from 'node:assert/strict'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import { serve } from '../../src/server/server.ts'
import { SqliteStore } from '../../src/store/sqlite/store.ts'
import { temporaryFolder } from '../support/folder.ts'

/** A server, and its answers to bodies as they are written. */
async function served() {
  const folder = temporaryFolder()
  const store = await SqliteStore.open(folder.file('jobs.db'), { tends: true })
  const server = await serve(store, { port: 0, logLevel: 'silent' })
  const call = async (path: string, body?: string | Uint8Array<ArrayBuffer>, headers: Record<string, string> = {}) => {
    const type = { 'content-type': 'application/json', ...headers }
    const response = await fetch(server.url + path, {
      method: body === undefined ? 'GET' : 'POST',
      headers: type,
      body: body ?? null,
    })
    return { status: response.status, answer: (await response.json()) as Record<string, unknown> }
  }
  return {
    ...{ path: folder.file('jobs.db'), store, call },
    async [Symbol.asyncDispose]() {
      await server.close()
      folder[Symbol.dispose]()
    },
  }
}

test('a number that no double holds is refused with its path, at every way in', async () => {
  await using at = await served()
  const ndjson = { 'content-type': 'application/x-ndjson' }
  const refused: [string, string, RegExp, Record<string, string>?][] = [
    ['/v1/jobs', '{"type":"t","payload":9007199254740993}', /it is an integer beyond/],
    ['/v1/jobs', '{"type":"t","payload":{"a":[1,{"id":-9007199254740992.0}]}}', /a\.1\.id: it is an integer/],
    ['/v1/jobs', '{"type":"t","payload":{"a":1e400}}', /a: it is Infinity/],
    ['/v1/jobs/bulk', '{"common":{"type":"t"},"jobs":[{"payload":1},{"payload":{"n":1e16}}]}', /index 1 .*n: it is an/],
    [
      '/v1/jobs/bulk',
      '{"type":"t","payload":1}\n{"type":"t","payload":[12345678901234567890]}',
      /index 1 .*0: it/,
      ndjson,
    ],
  ]
  for (const [path, body, detail, headers] of refused) {
    const { status, answer } = await at.call(path, body, headers)
    assert.deepEqual([status, answer.code, answer.accepted], [422, 'INVALID_PAYLOAD', 'no'], body)
    assert.match(String(answer.detail), detail)
  }
  assert.deepEqual((await at.store.call('jobs', {})).jobs, [])

  await at.call('/v1/jobs', '{"type":"t","payload":[9007199254740991,0.1,1e3]}')
  const lease = await at.call('/v1/leases', '{"worker":"w","types":["t"],"waitMs":1000}')
  const [job] = lease.answer.jobs as { id: number; token: string; payload: unknown }[]
  assert.deepEqual(job!.payload, [9007199254740991, 0.1, 1000])
  const report = (event: string, said: string) =>
    at.call(`/v1/jobs/${job!.id}/${event}`, `{"token":"${job!.token}",${said}}`)
  for (const [event, said] of [
    ['succeed', '"result":{"id":9007199254740993}'],
    ['checkpoint', '"state":[1e999]'],
  ] as const)
    assert.equal((await report(event, said)).answer.code, 'INVALID_PAYLOAD')
  const { answer } = await report('succeed', '"result":null,"warning":"the report was too long"')
  assert.equal(answer.state, 'succeeded')
  assert.equal((await at.store.call('job', job!.id))?.warning, 'the report was too long')
})

test('what is not UTF-8 is refused wherever it stands, and a key in UTF-8 is one key in header and body', async () => {
  await using at = await served()
  const latin1 = (text: string) => Uint8Array.from(text, (char) => char.charCodeAt(0))
  const utf8 = (text: string) => Buffer.from(text).toString('latin1')
  const ndjson = { 'content-type': 'application/x-ndjson' }
  const json = (charset: string) => ({ 'content-type': `application/json; charset=${charset}` })
  const refused: [string, (string | Uint8Array<ArrayBuffer>)?, Record<string, string>?][] = [
    ['/v1/jobs', latin1('{"type":"t","idempotencyKey":"\xe9"}')],
    ['/v1/jobs', latin1('{"type":"t","payload":"\xc3')], // cut in the middle of a character
    ['/v1/jobs/bulk', latin1('{"jobs":[{"type":"t","payload":"\xff"}]}')],
    ['/v1/jobs/bulk', latin1('{"type":"t"}\n{"type":"t","payload":"\xed\xa0\x80"}\n'), ndjson],
    ['/v1/jobs', '{"type":"t"}', json('iso-8859-1')],
    ['/v1/jobs', '{"type":"t"}', json('"utf-16"')],
    ['/v1/jobs', '{"type":"t"}', { 'idempotency-key': '\xe9' }],
    ['/v1/jobs?queue=%E9'],
  ]
  for (const [path, body, headers] of refused) {
    const { status, answer } = await at.call(path, body, headers)
    assert.deepEqual([status, answer.code, answer.accepted], [400, 'INVALID_ARGUMENT', 'no'], path)
  }
  assert.deepEqual((await at.store.call('jobs', {})).jobs, [])

  const { answer } = await at.call('/v1/jobs', '{"type":"t","idempotencyKey":"é"}', json('"UTF-8"'))
  const again = await at.call('/v1/jobs', '{"type":"t"}', { 'idempotency-key': utf8('é') })
  assert.deepEqual([again.answer.id, again.answer.duplicate], [answer.id, true])
})

test('a payload of plain SQL that would reach a worker as another ends dead, and is not handed over', async () => {
  await using at = await served()
  const db = new DatabaseSync(at.path)
  db.exec(`INSERT INTO gq_jobs (type, payload) VALUES ('t', '[9007199254740993]'), ('t', '[1]')`)
  db.close()
  const { answer } = await at.call('/v1/leases', '{"worker":"w","types":["t"],"slots":2,"waitMs":1000}')
  assert.deepEqual(
    (answer.jobs as { payload: unknown }[]).map(({ payload }) => payload),
    [[1]],
  )
  const dead = await at.store.call('wait', 1)
  assert.deepEqual([dead.state, dead.reason], ['dead', 'permanent'])
})

test('a bulk that is sent again says so, one with another body is refused; a duplicate says where its job is', async () => {
  await using at = await served()
  const key = { 'idempotency-key': 'import' }
  const first = await at.call('/v1/jobs/bulk', '{"jobs":[{"type":"t","payload":{"a":1,"b":2}}]}', key)
  assert.deepEqual(first, { status: 201, answer: { ids: [1], duplicates: [], replayed: false } })
  const again = await at.call('/v1/jobs/bulk', '{ "jobs":[{"payload":{"b":2.0,"a":1},"type":"t"}]}', key)
  assert.deepEqual(again, { status: 201, answer: { ids: [1], duplicates: [], replayed: true } })
  const other = await at.call('/v1/jobs/bulk', '{"jobs":[{"type":"t","payload":{"a":1,"b":3}}]}', key)
  assert.deepEqual([other.status, other.answer.code], [409, 'IDEMPOTENCY_CONFLICT'])
  const submit = (text: string) => at.call('/v1/jobs', `{"type":"t","payload":${text},"idempotencyKey":"k"}`)
  assert.deepEqual((await submit('{"a":1,"b":1}')).answer, { id: 2, duplicate: false })
  assert.deepEqual((await submit('{"b":1e0, "a":1}')).answer, { id: 2, duplicate: true, state: 'ready' })
  assert.equal((await submit('{"b":1,"a":2}')).status, 409)
  const both = await at.call('/v1/jobs', '{"type":"t","idempotencyKey":"k"}', { 'idempotency-key': 'l' })
  assert.deepEqual([both.status, both.answer.code], [400, 'INVALID_ARGUMENT'])
  assert.match(String(both.answer.detail), /Idempotency-Key is 'l', and idempotencyKey in the body is 'k'/)
  const same = '{"type":"t","payload":{"a":1,"b":1},"idempotencyKey":"k"}'
  assert.equal((await at.call('/v1/jobs', same, { 'idempotency-key': 'k' })).status, 201)
  const { answer } = await at.call('/v1/jobs', '{"type":"t","deadline":60000}')
  assert.deepEqual([answer.code, /is past/.test(String(answer.detail))], ['INVALID_ARGUMENT', true])
})

test('a refusal of a request names what is not known, and the values that there are', async () => {
  await using at = await served()
  for (const [path, body, words] of [
    ['/v1/jobs', '{"type":"t","foo":1}', /^body\/foo is not known here\./],
    [
      '/v1/jobs',
      '{"type":"t","priority":"urgent"}',
      /^body\/priority must be one of critical, high, normal, low, bulk\./,
    ],
    ['/v1/jobs?state=done', undefined, /^querystring\/state must be one of scheduled, ready, running, /],
    ['/v1/jobs', '{"type":"t","runAt":8640000000000001}', /^runAt must be .* from 0 to 8640000000000000; got/],
    ['/v1/jobs', '{"type":"t","deadline":8640000000000001}', /^deadline must be .* from 0 to 8640000000000000; got/],
    ['/v1/jobs/bulk', '{"jobs":[{"type":"t"},{"type":"t","runAt":9000000000000000}]}', /^runAt must be .* from 0 to/],
    ['/v1/leases', '{"worker":"w","types":["t"],"waitMs":0,"turn":1e300}', /^body\/turn must be <= 9007199254740991/],
    ['/v1/jobs', '{"type":"t","delay":"3h","deadline":"2h"}', /no attempt could start/],
  ] as const) {
    const { status, answer } = await at.call(path, body)
    assert.deepEqual([status, answer.code], [400, 'INVALID_ARGUMENT'])
    assert.match(String(answer.detail), words)
  }
  const { status, answer } = await at.call('/v1/jobs', `{"type":"t","payload":"${'x'.repeat(3 * 2 ** 20)}"}`)
  assert.equal(status, 413)
  assert.match(String(answer.detail), /The body has more than \d+ bytes/)
})

test('a number in a URL is digits, and none that a double would make another of', async () => {
  await using at = await served()
  for (const id of ['9007199254740993', '1e3', '0x10', '%205', '-1', '1.0', '0']) {
    const { status, answer } = await at.call(`/v1/jobs/${id}`)
    assert.deepEqual([status, answer.code], [400, 'INVALID_ARGUMENT'], id)
  }
  assert.match(String((await at.call('/v1/jobs/9007199254740993')).answer.detail), /got '9007199254740993'/)
  assert.equal((await at.call('/v1/jobs/9007199254740991')).status, 404)
  assert.equal((await at.call('/v1/jobs?limit=1e2')).status, 400)
  assert.equal((await at.call('/v1/jobs?limit=10&type=9007199254740993')).status, 200)
})

test('what is no token is not said to be one of another file', async () => {
  await using at = await served()
  for (const token of ['x', '1', '0123456789abcdef.x']) {
    const { status, answer } = await at.call('/v1/jobs/1/succeed', JSON.stringify({ token }))
    assert.deepEqual([status, answer.code], [409, 'LEASE_LOST'])
    assert.match(String(answer.detail), /is no token of a lease/)
  }
})
