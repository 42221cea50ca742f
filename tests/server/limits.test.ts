import assert from 'node:assert/strict'
import { once } from 'node:events'
import { test } from 'node:test'
import { GopherQueue } from '../../src/index.ts'
import { systemClock } from '../../src/model/clock.ts'
import { HttpStore } from '../../src/store/http/store.ts'
import { VirtualClock } from '../../src/testing/clock.ts'
import { raw, serving } from './support.ts'

const quiet = { logLevel: 'silent' }

test('on loopback only loopback names are answered to: another that leads here is a page’s trick', async (t) => {
  const at = await serving(t, quiet)
  const { port } = new URL(at.server.url)
  const table: [string, number][] = [
    ...['localhost', 'LOCALHOST', '127.0.0.1', '127.0.0.2', '[::1]', `localhost:${port}`, `127.0.0.1:${port}`, '[::1]:1'].map((name): [string, number] => [name, 200]), // biome-ignore format: long
    ...['evil.example', `evil.example:${port}`, '0.0.0.0', '192.168.0.1', 'localhost.evil.example', '127.0.0.1.nip.io'].map((name): [string, number] => [name, 403]), // biome-ignore format: long
    ...['localhost@evil.example', 'evil.example#localhost', '[::1]evil', '::1', '[::2]', 'localhost:x', 'local host'].map((name): [string, number] => [name, 403]), // biome-ignore format: long
  ]
  for (const [host, status] of table)
    assert.equal((await at.ask('GET', '/v1/stats', { headers: { host } })).status, status, `Host: ${host}`)
  for (const without of ['HTTP/1.0', 'HTTP/1.1\r\nConnection: close\r\nHost:']) {
    const { all } = await raw(at.server.url, `GET /v1/stats ${without}\r\n\r\n`)
    assert.match(await all, /^HTTP\/1.1 403 /)
  }
  const absolute = await raw(at.server.url, 'GET http://evil.example/v1/stats HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n') // biome-ignore format: long
  assert.match(await absolute.all, /^HTTP\/1.1 403 /)
})

test('a page of another origin changes nothing', async (t) => {
  const at = await serving(t, quiet)
  const own = new URL(at.server.url).host
  const table: [method: string, origin: string | undefined, status: number][] = [
    ['POST', undefined, 201],
    ['POST', `http://${own}`, 201],
    ['POST', `https://${own}`, 201],
    ['POST', 'null', 403],
    ['POST', '', 403],
    ['POST', 'http://evil.example', 403],
    ['POST', `http://${own}.evil.example`, 403],
    ['POST', `http://127.0.0.1:${Number(new URL(at.server.url).port) + 1}`, 403],
    ['POST', 'http://127.0.0.1', 403],
    ['GET', 'http://evil.example', 200], // which it cannot read: nothing here says that it may
  ]
  for (const [method, origin, status] of table) {
    const body = method === 'POST' ? { body: { type: 'x' } } : {}
    const answer = await at.ask(method, '/v1/jobs', { headers: origin === undefined ? {} : { origin }, ...body })
    assert.equal(answer.status, status, `${method} from ${origin}`)
    assert.equal(Object.keys(answer.headers).some((name) => name.startsWith('access-control')), false) // biome-ignore format: short
  }
  for (const path of ['/v1/jobs/1/cancel', '/v1/jobs/1', '/v1/queues/x', '/v1/schedules/x', '/v1/leases'])
    for (const method of ['POST', 'DELETE', 'PATCH', 'PUT', 'OPTIONS'])
      assert.equal((await at.ask(method, path, { headers: { origin: 'http://evil.example' } })).status, 403, path)
})

test('every response has the security headers, also those to nonsense', async (t) => {
  const at = await serving(t, { ...quiet, tokens: [['app', 'read', 'submit']] })
  const token = at.secrets.app!
  const long = 'x'.repeat(20_000)
  const answers = {
    200: await at.ask('GET', '/v1/stats', { token }),
    201: await at.ask('POST', '/v1/jobs', { token, body: { type: 'x' } }),
    400: await at.ask('POST', '/v1/jobs', { token, body: '{' }),
    '400 url': await at.ask('GET', '/v1/jobs/%zz', { token }),
    '400 long': await at.ask('GET', `/v1/jobs/${'1'.repeat(5000)}`, { token }),
    401: await at.ask('GET', '/v1/stats'),
    403: await at.ask('POST', '/v1/jobs/1/cancel', { token }),
    '403 host': await at.ask('GET', '/v1/stats', { token, headers: { host: 'evil.example' } }),
    404: await at.ask('GET', '/nothing', { token }),
    413: await at.ask('POST', '/v1/jobs', { token, body: { type: 'x', payload: 'x'.repeat(1_200_000) } }),
    415: await at.ask('POST', '/v1/jobs', { token, body: '<a/>', headers: { 'content-type': 'text/xml' } }),
    431: await at.ask('GET', '/v1/stats', { token, headers: { long } }),
    openapi: await at.ask('GET', '/openapi.json', { token }),
  }
  const statuses = Object.entries(answers).map(([name, { status }]) => [name, status])
  assert.deepEqual(Object.fromEntries(statuses), {
    ...{ 200: 200, 201: 201, 400: 400, '400 url': 400, '400 long': 400, 401: 401, 403: 403, '403 host': 403 },
    ...{ 404: 404, 413: 413, 415: 400, 431: 431, openapi: 200 },
  })
  for (const [name, { status, headers, json }] of Object.entries(answers)) {
    assert.match(String(headers['content-security-policy']), /^default-src 'none';.*frame-ancestors 'none'$/, name)
    assert.doesNotMatch(String(headers['content-security-policy']), /unsafe/, name)
    assert.deepEqual([headers['x-content-type-options'], headers['referrer-policy'], headers['cache-control']], ['nosniff', 'no-referrer', 'no-store'], name) // biome-ignore format: short
    if (status >= 400) assert.deepEqual([String(headers['content-type']).split(';')[0], json.status, json.accepted], ['application/problem+json', status, 'no'], name) // biome-ignore format: short
  }
  for (const bytes of ['\x16\x03\x01\x02\x00\x01', 'EVIL\r\n\r\n', 'GET / HTTP/1.1\r\nHost: localhost\r\nA\r\n\r\n']) {
    const heard = await (await raw(at.server.url, bytes)).all
    assert.match(heard, /^HTTP\/1.1 400 Bad Request\r\n[\s\S]*nosniff[\s\S]*"code":"INVALID_ARGUMENT"/)
    assert.doesNotMatch(heard, /EVIL/)
  }
  const { socket, all } = await raw(at.server.url, `GET /v1/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${token}\r\n\r\n`) // biome-ignore format: long
  await once(socket, 'data')
  socket.destroy()
  assert.match(await all, /default-src 'none'[\s\S]*nosniff[\s\S]*text\/event-stream/)
})

test('names and bodies have their bounds, and what is at the bound is taken', async (t) => {
  const at = await serving(t, quiet)
  const status = async (method: string, path: string, body: unknown) => (await at.ask(method, path, { body })).status
  const most = 'ä'.repeat(128)
  assert.equal(await status('POST', '/v1/jobs', { type: most, queue: most }), 201)
  assert.equal(await status('PATCH', `/v1/queues/${encodeURIComponent('漢'.repeat(128))}`, { paused: true }), 200)
  for (const name of ['', `${most}x`, 'a\nb', 'a\0b', 'a\x7f', '\u0085', `e${'\u0301'.repeat(200)}`]) {
    assert.equal(await status('POST', '/v1/jobs', { type: name }), 400, name)
    assert.equal(await status('POST', '/v1/jobs', { type: 'x', queue: name }), 400, name)
    const path = encodeURIComponent(name)
    for (const [method, to, body] of [
      ['PATCH', `/v1/queues/${path}`, { paused: true }],
      ['PUT', `/v1/schedules/${path}`, { cron: '* * * * *', type: 'x' }],
      ['POST', '/v1/workers', { name, sources: [], slots: 1 }],
      ['POST', '/v1/leases', { worker: name, types: ['x'], waitMs: 0 }],
      ['POST', '/v1/leases', { worker: 'w', types: [name], waitMs: 0 }],
    ] as const)
      assert.ok([400, 404].includes(await status(method, to, body)), `${method} ${to} ${JSON.stringify(name)}`)
  }
  assert.equal(await status('POST', '/v1/jobs', { type: 'x', payload: 'x'.repeat(1024 * 1024 - 2) }), 201)
  assert.equal(await status('POST', '/v1/jobs', { type: 'x', payload: 'x'.repeat(1024 * 1024) }), 413)
  assert.equal(await status('POST', '/v1/jobs', { type: 'x', idempotencyKey: 'x'.repeat(257) }), 400)
})

test('what is odd in JSON is harmless: __proto__, constructor, keys given twice, deep nesting', async (t) => {
  const at = await serving(t, quiet)
  const submit = (body: string) => at.ask('POST', '/v1/jobs', { body })
  const payload = '{"__proto__":{"polluted":1},"constructor":{"prototype":{"polluted":1}}}'
  const { json } = await submit(`{"type":"x","payload":${payload}}`)
  const found = await at.ask('GET', `/v1/jobs/${json.id}`)
  assert.ok(found.text.includes(payload), 'a payload comes back as it was')
  assert.equal(({} as Record<string, unknown>).polluted, undefined)
  for (const body of [
    '{"type":"x","__proto__":{"queue":"other"}}',
    '{"__proto__":{"type":"x"}}',
    '{"type":"x","constructor":1}',
    '{"type":"x","hasOwnProperty":1}',
  ])
    assert.equal((await submit(body)).status, 400, body)
  const line = await at.ask('POST', '/v1/jobs/bulk', { body: `{"type":"x","payload":${payload}}\n`, headers: { 'content-type': 'application/x-ndjson' } }) // biome-ignore format: long
  assert.equal(line.status, 201)
  const odd = await at.ask('POST', '/v1/jobs/bulk', { body: '{"type":"x","__proto__":{"queue":"other"}}', headers: { 'content-type': 'application/x-ndjson' } }) // biome-ignore format: long
  assert.equal(odd.status, 400)
  assert.equal((await at.ask('GET', '/v1/jobs?__proto__=1')).status, 400)

  const twice = await submit('{"type":"first","type":"last","queue":"\\u0071","payload":1,"payload":2}')
  const last = await at.ask('GET', `/v1/jobs/${twice.json.id}`)
  assert.deepEqual([last.json.type, last.json.queue, last.json.payload], ['last', 'q', 2])

  for (const depth of [100, 900, 1100, 100_000, 500_000]) {
    const { status, json } = await submit(`{"type":"x","payload":${'['.repeat(depth)}${']'.repeat(depth)}}`)
    if (depth < 1000) assert.equal(status, 201, `${depth} deep`)
    else assert.deepEqual([status, json.code, json.accepted], [422, 'INVALID_PAYLOAD', 'no'], `${depth} deep`)
    const as = `{"type":${'{"a":'.repeat(depth)}1${'}'.repeat(depth)}}`
    if (as.length < 1_000_000) assert.equal((await submit(as)).status, 400, `a type ${depth} deep`)
  }
  assert.equal((await at.ask('GET', '/v1/jobs')).status, 200)
})

test('more waiting requests than the server takes are refused, and those that do not wait go on', async (t) => {
  const clock = new VirtualClock()
  const at = await serving(t, { ...quiet, clock, mostWaiting: 3 })
  const poll = (worker: string, waitMs: number) =>
    at.ask('POST', '/v1/leases', { body: { worker, types: ['y'], waitMs, slots: Math.sign(waitMs) } })
  const { id } = (await at.ask('POST', '/v1/jobs', { body: { type: 'never' } })).json
  const waiting = [poll('a', 5000), poll('b', 5000), at.ask('GET', `/v1/jobs/${id}/wait?waitMs=5000`)]
  while (at.server.waiting < 3) await at.ask('GET', '/v1/queues')
  for (const refused of [await poll('c', 5000), await at.ask('GET', `/v1/jobs/${id}/wait`), await at.ask('GET', '/v1/events')]) // biome-ignore format: long
    assert.deepEqual([refused.status, refused.json.code, refused.json.accepted, refused.headers['retry-after']], [503, 'OVERLOADED', 'no', '1']) // biome-ignore format: short
  const takenBack = poll('b', 0)
  assert.equal((await waiting[1]!).status, 200)
  assert.equal((await at.ask('POST', '/v1/jobs', { body: { type: 'x' } })).status, 201)
  clock.advance(5000)
  for (const one of [...waiting, takenBack]) assert.equal((await one).status, 200)
  assert.equal(at.server.waiting, 0)
})

test('connections over the limit are closed, and those within it are answered', async (t) => {
  const at = await serving(t, { ...quiet, mostConnections: 5 })
  const held = await Promise.all(Array.from({ length: 5 }, () => raw(at.server.url)))
  const sixth = await raw(at.server.url, 'GET /v1/stats HTTP/1.1\r\nHost: localhost\r\n\r\n')
  assert.equal(await sixth.all, '')
  held[0]!.socket.write('GET /v1/queues HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n')
  assert.match(await held[0]!.all, /^HTTP\/1.1 200/)
  for (const { socket } of held) socket.destroy()
  const freed = async () => (await at.ask('GET', '/v1/stats')).status
  while ((await freed().catch(() => 0)) !== 200);
})

test('a thousand connections that send a byte now and then stop nobody, and are closed', {
  timeout: 60_000,
}, async (t) => {
  const at = await serving(t, quiet)
  await using queue = await GopherQueue.open(at.server.url)
  const slow = await Promise.all(
    Array.from({ length: 1000 }, (_, i) => raw(at.server.url, i % 2 ? 'GET /v1/stats HTTP/1.1\r\nHost: localhost\r\n' : '')),
  ) // biome-ignore format: long
  const drip = setInterval(() => {
    for (const { socket } of slow) if (!socket.destroyed) socket.write('x')
  }, 1000)
  let most = 0
  for (let i = 0; i < 200; i++) {
    const at = performance.now()
    await queue.submit('x', i)
    most = Math.max(most, performance.now() - at)
  }
  t.diagnostic(`longest of 200 submissions meanwhile: ${most.toFixed(0)} ms`)
  const heard = await Promise.all(slow.map(({ all }) => all))
  clearInterval(drip)
  assert.ok(heard.every((text) => text === '' || /^HTTP\/1.1 4(08|00)/.test(text)))
})

test('the log: a line for start, health, what failed and stop; no payload; nothing forges a line', async (t) => {
  const at = await serving(t)
  const forged = 'x\n{"level":30,"msg":"forged"}\r\u2028\u0085\u001b[2J\u009b2J\u202e'
  const headers = { 'idempotency-key': 'x', 'user-agent': 'forged', 'x-forwarded-for': 'forged' }
  for (const body of [
    { type: 'x', payload: { forged } },
    { type: forged },
    { type: 'x', queue: forged, secret: forged },
  ])
    await at.ask('POST', '/v1/jobs', { body, headers })
  await at.ask('GET', `/${encodeURIComponent(forged)}`)
  await at.ask('GET', '/v1/jobs/%0a%zz')
  await (await raw(at.server.url, 'forged\r\n\r\n')).all
  const name = '\u202eforged\u2028' // no control characters, so a queue may be called this
  await at.ask('PATCH', `/v1/queues/${encodeURIComponent(name)}`, { body: { paused: true } })
  t.mock.method(at.store, 'call', () => Promise.reject(new Error(`no luck with ${forged}`)))
  assert.equal((await at.ask('GET', '/v1/queues')).status, 503)
  t.mock.restoreAll()

  const lines = at.log.map((line) => JSON.parse(line))
  assert.ok(
    at.log.every((line) => /^[^\p{Cc}\u2028-\u202e]*\n$/u.test(line)),
    'one line each, which a terminal only shows',
  )
  assert.deepEqual(lines.map(({ msg }) => msg), ['started', 'audit', 'STORAGE_UNAVAILABLE']) // biome-ignore format: short
  assert.equal(lines[1].target, name)
  assert.equal(lines[2].err.message, `no luck with ${forged}`)
  assert.equal(typeof lines[2].reqId, 'string')
  await at.server.close()
  assert.equal(JSON.parse(at.log.at(-1)!).msg, 'stopped')
})

test('with --log-level debug each request has its line: no headers, no bodies', async (t) => {
  const at = await serving(t, { logLevel: 'debug', tokens: [['app', 'submit']] })
  await at.ask('POST', '/v1/jobs?a=%0aforged', { token: at.secrets.app!, body: { type: 'x', payload: 'secret' } })
  const text = at.log.join('')
  assert.match(text, /"url":"\/v1\/jobs\?a=%0aforged"/)
  assert.doesNotMatch(text, /secret|gq_|authorization/i)
  assert.equal(at.log.length, text.split('\n').length - 1)
})

test('a bulk of one line without an end is refused at its limit, and not kept', async (t) => {
  const at = await serving(t, quiet)
  const { socket, all } = await raw(at.server.url, 'POST /v1/jobs/bulk HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n') // biome-ignore format: long
  const piece = `100000\r\n${'x'.repeat(1024 * 1024)}\r\n`
  let sent = 0
  const isOver = all.then(() => true)
  while (sent < 200 && !socket.destroyed) {
    const written = new Promise<boolean>((resolve) => socket.write(piece, () => resolve(false)))
    if (await Promise.race([written, isOver])) break
    sent++
  }
  assert.match(await all, /^(HTTP\/1.1 413|$)/) // a connection that is reset may swallow the answer
  assert.ok(sent < 100, `${sent} MiB were taken`)
})

test('outcomes of one moment that weigh more than a request may are all taken, each of them once', async (t) => {
  const at = await serving(t, quiet)
  await using queue = await GopherQueue.open(at.server.url)
  const jobs = 70 // of a megabyte each, while a request has 65 MiB at most
  const all = Promise.withResolvers<void>()
  const over = Promise.withResolvers<void>()
  let [begun, succeeded] = [0, 0]
  queue.define('heavy', {}, async () => {
    if (++begun === jobs) all.resolve()
    await all.promise
    return 'x'.repeat(1_000_000)
  })
  queue.on('warning', (warning) => over.reject(warning))
  queue.on('succeeded', () => ++succeeded === jobs && over.resolve())
  await queue.submitMany(
    'heavy',
    Array.from({ length: jobs }, (_, i) => i),
  )
  queue.work({ concurrency: jobs })
  await over.promise
  assert.equal((await queue.stats()).queues[0]!.counts.succeeded, jobs)
  assert.equal(begun, jobs)
})

test('more reports of one moment than a request may have are each answered for itself', async (t) => {
  const at = await serving(t, quiet)
  const store = await HttpStore.open(at.server.url, {}, systemClock)
  const lease = { id: 1, queue: '', type: '', token: 1, epoch: '0'.repeat(16) }
  t.after(() => store.close())
  const told = await Promise.allSettled(Array.from({ length: 10_001 }, () => store.call('heartbeat', lease)))
  const codes = new Set(told.map((one) => one.status === 'rejected' && (one.reason as { code: string }).code))
  assert.deepEqual([...codes], ['LEASE_LOST'])
})

test('a client that hangs up in the middle of its body is no trouble of the server: no error in its log, no refusal in its count', async (t) => {
  const heard = Promise.withResolvers<void>()
  const log: string[] = []
  const at = await serving(t, {
    logLevel: 'debug',
    log(line) {
      log.push(line)
      if (line.includes('client hung up')) heard.resolve()
    },
  })
  const { port } = new URL(at.server.url)
  const { socket } = await raw(at.server.url, `POST /v1/jobs HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{"type":"x"`) // biome-ignore format: long
  await at.ask('GET', '/healthz') // by now the server reads the body
  socket.destroy()
  await heard.promise
  assert.deepEqual(log.filter((line) => /"level":"(warn|error|fatal)"/.test(line)), []) // biome-ignore format: short
  assert.doesNotMatch((await at.ask('GET', '/metrics')).text, /refused_requests_total\{/)
})
