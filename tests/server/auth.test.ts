import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { hostname, userInfo } from 'node:os'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import { GopherQueue } from '../../src/index.ts'
import { type Scope, scopes } from '../../src/model/token.ts'
import { makeToken } from '../../src/server/auth.ts'
import { serve } from '../../src/server/server.ts'
import { api, type Call, type Endpoint } from '../../src/store/http/api.ts'
import { SqliteStore } from '../../src/store/sqlite/store.ts'
import { VirtualClock } from '../../src/testing/clock.ts'
import { Bench } from '../cli/support.ts'
import { rowsOf } from '../support/filled.ts'
import { temporaryFolder } from '../support/folder.ts'
import { serving } from './support.ts'

const all = [...scopes]
/** Who may call what, written a second time: by the calls' names, and what is no call of the API by its path. */
const allowed = {
  submit: ['submit'],
  submitMany: ['submit'],
  jobs: ['read'],
  job: ['read'],
  deadLetters: ['read'],
  hours: ['read'],
  types: ['read'],
  failing: ['read'],
  many: [],
  attempts: ['read'],
  why: ['read'],
  wait: ['read'],
  cancel: [],
  endLease: [],
  retry: [],
  runNow: [],
  remove: [],
  register: ['work'],
  unregister: ['work'],
  stopping: ['work'],
  lease: ['work'],
  report: ['work'],
  succeed: ['work'],
  fail: ['work'],
  release: ['work'],
  settled: ['work'],
  heartbeat: ['work'],
  progress: ['work'],
  checkpoint: ['work'],
  queues: ['read'],
  queueNames: ['work'],
  setQueue: [],
  schedules: ['read'],
  setSchedule: [],
  pauseSchedule: [],
  removeSchedule: [],
  runSchedule: [],
  stats: ['read'],
  history: ['read'],
  vitals: ['read'],
  server: ['read'],
  access: ['read'],
  health: all,
  audit: [],
  '/openapi.json': all,
  '/metrics': ['read'],
  '/v1/nothing': all,
} as const satisfies Record<Call, readonly Scope[]> & Record<string, readonly Scope[]>

test('each endpoint is open to exactly the tokens that it should be', async (t) => {
  const clock = new VirtualClock()
  const at = await serving(t, { logLevel: 'silent', clock, tokens: [...all.map((one) => [one, one] as [string, Scope]), ['gone', 'admin']] }) // biome-ignore format: short
  await at.store.call('revokeToken', 'gone')
  clock.advance(1000) // then the server looks again
  const bearers: [string, string | undefined][] = [
    ...all.map((scope): [string, string] => [scope, `Bearer ${at.secrets[scope]}`]),
    ['none', undefined],
    ['revoked', `Bearer ${at.secrets.gone}`],
    ['wrong', `Bearer gq_${'A'.repeat(43)}`],
    ['cut', `Bearer ${at.secrets.admin!.slice(0, -1)}`],
    ['other scheme', `Basic ${at.secrets.admin}`],
    ['no scheme', at.secrets.admin],
    ['two', `Bearer ${at.secrets.read} ${at.secrets.admin}`],
  ]
  let checked = 0
  for (const [name, scopesOf] of Object.entries(allowed)) {
    const { method, url }: Pick<Endpoint, 'method' | 'url'> = name.startsWith('/')
      ? { method: 'GET', url: name }
      : api[name as Call]
    const path = url.replace(':id', '999').replace(':name', 'x')
    for (const [who, authorization] of bearers) {
      const body = method === 'GET' || method === 'DELETE' ? {} : { body: {} }
      const { status, json, headers } = await at.ask(method, path, { headers: authorization === undefined ? {} : { authorization }, ...body }) // biome-ignore format: long
      const isKnown = all.includes(who as Scope)
      const may = who === 'admin' || (scopesOf as readonly string[]).includes(who)
      const what = `${name} by ${who}: ${status}`
      if (!isKnown)
        assert.deepEqual([status, json.code, json.accepted, headers['www-authenticate']], [401, 'UNAUTHORIZED', 'no', 'Bearer'], what) // biome-ignore format: short
      else if (!may) assert.deepEqual([status, json.code, json.accepted], [403, 'FORBIDDEN', 'no'], what)
      else assert.ok(status !== 401 && status !== 403, what)
      checked++
    }
  }
  assert.equal(checked, Object.keys(allowed).length * bearers.length)
  for (const [path, statuses] of [
    ['/v1/events', [401, 403]],
    ['/healthz', [200, 200]],
    ['/readyz', [200, 200]],
  ] as const) {
    const heard = [await at.ask('GET', path), await at.ask('GET', path, { token: at.secrets.submit! })]
    assert.deepEqual(heard.map(({ status }) => status), statuses, path) // biome-ignore format: short
  }
})

test('without a token the machine itself may do all, and nobody else is served', async (t) => {
  const at = await serving(t, { logLevel: 'silent' })
  assert.equal((await at.ask('POST', '/v1/jobs', { body: { type: 'x' } })).status, 201)
  assert.equal((await at.ask('POST', '/v1/jobs/1/cancel')).status, 200)
  using folder = temporaryFolder()
  const store = await SqliteStore.open(folder.file('jobs.db'))
  for (const host of ['0.0.0.0', '::', '192.0.2.1', 'example.com', '127.0.0.1.example.com', '128.0.0.1'])
    await assert.rejects(serve(store, { host, port: 0 }), { code: 'INVALID_ARGUMENT', message: /token create/ }, host)
  await store.call('createToken', { name: 'x', scopes: ['read'], hash: '0'.repeat(64) })
  const log: string[] = []
  const server = await serve(store, { host: '0.0.0.0', port: 0, log: (line) => log.push(line) })
  assert.match(log.join(''), /"level":"warn".*Plain HTTP/)
  const { port } = new URL(server.url)
  const answer = await fetch(`http://127.0.0.1:${port}/v1/stats`)
  assert.equal(answer.status, 401)
  await server.close()
})

test('a token that is made or revoked counts within a second; revoking the last one opens nothing', async (t) => {
  const clock = new VirtualClock()
  const at = await serving(t, { logLevel: 'silent', clock })
  const stats = async (token?: string) => (await at.ask('GET', '/v1/stats', token ? { token } : {})).status
  assert.equal(await stats(), 200)
  const token = await at.token('reader', 'read')
  clock.advance(1000)
  assert.deepEqual([await stats(), await stats(token)], [401, 200])
  await at.store.call('revokeToken', 'reader')
  clock.advance(1000)
  assert.deepEqual([await stats(), await stats(token)], [401, 401])
})

test('a long poll that was begun before its token was revoked gets nothing more', async (t) => {
  const clock = new VirtualClock()
  const at = await serving(t, { logLevel: 'silent', clock, tokens: [['thief', 'work'], ['ops', 'admin']] }) // biome-ignore format: short
  const body = { worker: 'thief', types: ['secret'], waitMs: 30_000 }
  const polled = at.ask('POST', '/v1/leases', { token: at.secrets.thief!, body }).then(
    ({ status }) => status,
    () => 'hung up on',
  )
  while ((await at.store.call('stats', null)).workers.length === 0);
  await at.store.call('revokeToken', 'thief')
  let heard: unknown
  polled.then((how) => {
    heard = how
  })
  for (let i = 0; heard === undefined && i < 20; i++) {
    clock.advance(1000)
    await at.ask('GET', '/healthz')
  }
  assert.equal(heard, 'hung up on')
})

test('its last use is written down, at most once a minute', async (t) => {
  const clock = new VirtualClock(Date.now())
  const at = await serving(t, { logLevel: 'silent', clock, tokens: [['reader', 'read'], ['other', 'read']] }) // biome-ignore format: short
  const writes: unknown[] = []
  const { call } = at.store
  t.mock.method(at.store, 'call', function (this: SqliteStore, ...given: Parameters<typeof call>) {
    if (given[0] === 'tokenUsed') writes.push(given[1])
    return call.apply(this, given)
  })
  const use = () => at.ask('GET', '/v1/stats', { token: at.secrets.reader! })
  for (let i = 0; i < 5; i++) await use()
  clock.advance(30_000)
  await use()
  assert.deepEqual(writes, ['reader'])
  clock.advance(40_000) // by the file, which has the system's time, too
  await use()
  assert.deepEqual(writes, ['reader', 'reader'])
  const used = (await at.store.call('tokens', null)).map(({ name, lastUsedAt }) => [name, lastUsedAt !== null])
  assert.deepEqual(used, [['reader', true], ['other', false]]) // biome-ignore format: pairs
})

test('what operators do is written down with who it was, when it took effect, without payloads', async (t) => {
  const at = await serving(t, { tokens: [['ops', 'admin'], ['app', 'submit']] }) // biome-ignore format: short
  const before = Date.now()
  const by = (name: string, method: string, path: string, body?: unknown) =>
    at.ask(method, path, { token: at.secrets[name]!, ...(body !== undefined && { body }) })
  await by('app', 'POST', '/v1/jobs', { type: 'x', payload: 'secret' })
  assert.equal((await by('ops', 'POST', '/v1/jobs/1/cancel')).status, 200)
  assert.equal((await by('ops', 'POST', '/v1/jobs/1/cancel')).status, 409) // took no effect
  assert.equal((await by('app', 'POST', '/v1/jobs/1/retry')).status, 403)
  assert.equal((await by('ops', 'POST', '/v1/jobs/1/retry')).status, 200)
  await by('ops', 'POST', '/v1/jobs/1/cancel')
  await by('ops', 'DELETE', '/v1/jobs/1')
  await by('ops', 'PATCH', '/v1/queues/mail', { paused: true, maxDepth: 5 })
  await by('ops', 'PUT', '/v1/schedules/nightly', { cron: '0 0 * * *', type: 'x', payload: 'secret' })
  await by('ops', 'PATCH', '/v1/schedules/nightly', { paused: true })
  await by('ops', 'DELETE', '/v1/schedules/nightly')
  const { json } = await by('ops', 'GET', '/v1/audit')
  const entries = (json.entries as { id: number; at: number; who: string; action: string; target: string; details: Record<string, unknown> }[]).reverse() // biome-ignore format: long
  assert.deepEqual(entries.map(({ who, action, target }) => [who, action, target]), [
    ['token:ops', 'cancel', '1'],
    ['token:ops', 'retry', '1'],
    ['token:ops', 'cancel', '1'],
    ['token:ops', 'remove', '1'],
    ['token:ops', 'setQueue', 'mail'],
    ['token:ops', 'setSchedule', 'nightly'],
    ['token:ops', 'pauseSchedule', 'nightly'],
    ['token:ops', 'removeSchedule', 'nightly'],
  ]) // biome-ignore format: a table
  const details = entries.map((entry) => entry.details)
  assert.deepEqual(details.slice(0, 5), [
    { before: { state: 'ready' }, after: { state: 'cancelled' } },
    { before: { state: 'cancelled' }, after: { state: 'ready' } },
    { before: { state: 'ready' }, after: { state: 'cancelled' } },
    { before: { state: 'cancelled' } },
    { before: { paused: false, maxDepth: null }, after: { paused: true, maxDepth: 5 } },
  ])
  const nightly = { cron: '0 0 * * *', timezone: 'UTC', missed: 'once', overlap: 'allow', paused: false }
  const { before: none, after: made } = details[5] as { before: unknown; after: { cron: string } }
  assert.deepEqual([none, made.cron], [null, '0 0 * * *'])
  assert.deepEqual(details.slice(6), [{ before: nightly, after: { paused: true } }, { before: { ...nightly, paused: true } }]) // biome-ignore format: long
  assert.ok(entries.every(({ at: when }) => when >= before && when <= Date.now()))
  assert.equal(JSON.stringify(rowsOf(at.file, 'SELECT * FROM gq_audit')).includes('secret'), false)
  const page = await by('ops', 'GET', `/v1/audit?limit=2&cursor=${entries[5]!.id}`)
  assert.deepEqual((page.json.entries as { id: number }[]).map(({ id }) => id), [entries[4]!.id, entries[3]!.id]) // biome-ignore format: short
  assert.equal(page.json.next, entries[3]!.id)

  const lines = at.log.map((line) => JSON.parse(line)).filter(({ msg }) => msg === 'audit')
  assert.deepEqual(lines.map(({ who, action, target }) => [who, action, `${target}`]), entries.map(({ who, action, target }) => [who, action, target])) // biome-ignore format: short
})

test('an operation and its entry are one: neither stands without the other', async () => {
  using folder = temporaryFolder()
  const file = folder.file('jobs.db')
  await using store = await SqliteStore.open(file)
  await store.call('setQueue', { queue: 'a', paused: true }, undefined, 'one')
  const db = new DatabaseSync(file)
  db.exec(`CREATE TRIGGER no BEFORE INSERT ON gq_audit BEGIN SELECT RAISE(ROLLBACK, 'no'); END`)
  await assert.rejects(store.call('setQueue', { queue: 'b', paused: true }, undefined, 'two'))
  db.close()
  const { queues } = await store.call('stats', null)
  assert.deepEqual(queues.map(({ queue }) => queue), ['a']) // biome-ignore format: short
  assert.deepEqual(rowsOf(file, 'SELECT who, target FROM gq_audit').map((row) => ({ ...row })), [{ who: 'one', target: 'a' }]) // biome-ignore format: short
})

test('GopherQueue.open with a token: what it allows works, all else says why not', async (t) => {
  const at = await serving(t, { logLevel: 'silent', tokens: [['app', 'submit'], ['hand', 'work']] }) // biome-ignore format: short
  const refused = (code: string, message: RegExp) => ({ name: 'GopherQueueError', code, accepted: 'no', message })
  await assert.rejects(GopherQueue.open(at.server.url), refused('UNAUTHORIZED', /asks for a token.*\{ token \}/))
  await assert.rejects(GopherQueue.open(at.server.url, { token: 'gq_no' }), refused('UNAUTHORIZED', /does not know/))
  await using app = await GopherQueue.open(at.server.url, { token: at.secrets.app! })
  await using hand = await GopherQueue.open(at.server.url, { token: at.secrets.hand! })
  const { id } = await app.submit('double', 21)
  await assert.rejects(app.job(id), refused('FORBIDDEN', /'app' is for submit; this takes read\./))
  await assert.rejects(app.cancel(id), refused('FORBIDDEN', /takes admin/))
  hand.define<number>('double', {}, ({ payload }) => payload * 2)
  hand.work()
  await using queue = await GopherQueue.open(at.file)
  assert.equal(await queue.wait(id, { timeout: '20s' }), 42)
  await assert.rejects(hand.submit('double', 1), refused('FORBIDDEN', /takes submit/))
})

test('the command line: made and shown once, listed, revoked; the file holds a hash', async (t) => {
  const bench = new Bench(t)
  const usage = await bench.run('token', 'create', 'app', '--scope', 'submit,fly')
  assert.deepEqual([usage.code, /no scope 'fly'/.test(usage.stderr)], [2, true])
  assert.equal((await bench.run('token', 'create', 'app')).code, 2)
  assert.equal((await bench.run('token', 'list')).code, 1) // there is no file, and none is made
  assert.equal(existsSync(bench.file), false)
  const refused = await bench.run('serve', '--host', '0.0.0.0', '--port', '0')
  assert.deepEqual([refused.code, /token create/.test(refused.stderr)], [2, true])

  const made = await bench.run('token', 'create', 'app', '--scope', 'work,submit')
  const token = made.stdout.trim()
  assert.match(token, /^gq_[\w-]{43}$/)
  assert.equal((await bench.run('token', 'create', 'app', '--scope', 'read')).code, 1)
  const [listed] = (await bench.run('token', 'list', '--json')).stdout.trim().split('\n').map((line) => JSON.parse(line)) // biome-ignore format: short
  assert.deepEqual([listed.name, listed.scopes, listed.lastUsedAt, listed.revokedAt], ['app', ['submit', 'work'], null, null]) // biome-ignore format: short
  assert.equal('hash' in listed, false)
  assert.match((await bench.run('token', 'list')).stdout, /^app\tsubmit,work\t\S+\t-\t-\t-\n$/)
  for (const name of [bench.file, `${bench.file}-wal`])
    if (existsSync(name)) assert.equal(readFileSync(name).includes(token.slice(3)), false)

  assert.equal((await bench.run('token', 'revoke', 'nobody')).code, 1)
  assert.equal((await bench.run('token', 'revoke', 'app')).code, 0)
  assert.match((await bench.run('token', 'list')).stdout, /^app\tsubmit,work\t\S+\t-\t2\S+\t-\n$/)
  const audit = rowsOf(bench.file, 'SELECT who, action, target, details FROM gq_audit')
  assert.deepEqual(audit.map(({ action, target }) => [action, target]), [['createToken', 'app'], ['revokeToken', 'app']]) // biome-ignore format: short
  assert.equal(String(audit[0]!.who), `cli:${userInfo().username}@${hostname()}`)
  assert.equal(audit[0]!.details, '{"after":{"scopes":["submit","work"],"expiresAt":null}}')
  assert.equal(audit[1]!.details, '{"before":{"revokedAt":null}}')
})

test('a token expires: refused with what happened, over HTTP and by the client; the list shows when', async (t) => {
  const bench = new Bench(t)
  for (const [when, code] of [['0s', 2], ['2001-01-01', 2], ['soon', 2], ['101000d', 2]] as const)
    assert.equal((await bench.run('token', 'create', 'app', '--scope', 'read', '--expires', when)).code, code, when) // biome-ignore format: short
  const made = await bench.run('token', 'create', 'app', '--scope', 'read', '--expires', '90d', '--json')
  const { expiresAt } = JSON.parse(made.stdout)
  assert.ok(Math.abs(expiresAt - Date.now() - 90 * 86_400_000) < 3_600_000)
  assert.match((await bench.run('token', 'list')).stdout, new RegExp(`\t${new Date(expiresAt).toISOString()}\n$`))
  const day = await bench.run('token', 'create', 'later', '--scope', 'read', '--expires', '2100-01-01', '--json')
  assert.equal(JSON.parse(day.stdout).expiresAt, Date.UTC(2100, 0))
})

test('an expired token is refused with what happened, over HTTP and by the client', async (t) => {
  const clock = new VirtualClock()
  const at = await serving(t, { logLevel: 'silent', clock })
  const { token, hash } = makeToken()
  await at.store.call('createToken', { name: 'app', scopes: ['read'], hash, expiresAt: clock.now() + 5000 })
  clock.advance(4999)
  assert.equal((await at.ask('GET', '/v1/stats', { token })).status, 200)
  clock.advance(1)
  const { status, json, headers } = await at.ask('GET', '/v1/stats', { token })
  assert.deepEqual([status, json.code, headers['www-authenticate']], [401, 'UNAUTHORIZED', 'Bearer'])
  assert.equal(json.detail, "The token 'app' expired at 2030-01-01T00:00:05.000Z. Nothing was accepted: make another with 'gopherqueue token create'.") // biome-ignore format: long
  await assert.rejects(GopherQueue.open(at.server.url, { token }), { code: 'UNAUTHORIZED', message: /expired at/ })
})

test('who is not let in is told once a minute, with a count, and no part of the token', async (t) => {
  const clock = new VirtualClock()
  const at = await serving(t, { clock, tokens: [['app', 'submit'], ['gone', 'read'], ['old', 'read']] }) // biome-ignore format: short
  await at.store.call('revokeToken', 'gone')
  const db = new DatabaseSync(at.file)
  db.exec(`UPDATE gq_tokens SET expires_at = 1 WHERE name = 'old'`)
  db.close()
  clock.advance(1000)
  const wrong = `gq_${'A'.repeat(43)}`
  for (let i = 0; i < 20; i++)
    for (const token of [at.secrets.gone!, at.secrets.old!, at.secrets.app!, wrong]) await at.ask('GET', '/v1/stats', { token }) // biome-ignore format: short
  await at.ask('GET', '/v1/stats')
  const told = () => at.log.map((line) => JSON.parse(line)).filter(({ msg }) => msg === 'refused').map(({ level, why, token, count }) => [level, why, token, count]) // biome-ignore format: long
  const first = [['warn', 'revoked', 'gone', undefined], ['warn', 'expired', 'old', undefined], ['warn', 'scope', 'app', undefined], ['warn', 'not known', undefined, undefined], ['warn', 'no token', undefined, undefined]] // biome-ignore format: long
  assert.deepEqual(told(), first)
  clock.advance(60_000)
  assert.deepEqual(told().slice(5), [['warn', 'revoked', 'gone', 19], ['warn', 'expired', 'old', 19], ['warn', 'scope', 'app', 19], ['warn', 'not known', undefined, 19]]) // biome-ignore format: long
  assert.ok(!at.log.join('').includes(wrong.slice(3)) && !at.log.join('').includes(at.secrets.gone!.slice(3)))
})

test('the audit log has one entry of an event for many jobs, with filter and count, whatever its steps', async (t) => {
  const bench = new Bench(t)
  const queue = await bench.open()
  await queue.submitMany('mail', Array(3000).fill(null))
  assert.equal((await bench.run('cancel', '--type', 'mail')).code, 0)
  assert.equal((await bench.run('queue', 'set', 'default', '--max-depth', '7', '--rate', '5/1s')).code, 0)
  assert.equal((await bench.run('queue', 'set', 'default', '--rate', 'none')).code, 0)
  assert.equal((await bench.run('retry', '3000')).code, 0)
  assert.equal((await bench.run('retry', '3000')).code, 1) // took no effect
  const entries = rowsOf(bench.file, 'SELECT who, action, target, details FROM gq_audit ORDER BY id')
  assert.ok(entries.every(({ who }) => who === `cli:${userInfo().username}@${hostname()}`))
  assert.deepEqual(entries.map(({ action, target, details }) => [action, target, JSON.parse(String(details))]), [
    ['many', 'jobs', { event: 'cancel', filter: { type: 'mail' }, changed: 3000 }],
    ['setQueue', 'default', { before: { maxDepth: null, rate: null }, after: { maxDepth: 7, rate: { max: 5, per: 1000 } } }],
    ['setQueue', 'default', { before: { rate: { max: 5, per: 1000 } }, after: { rate: null } }],
    ['retry', '3000', { before: { state: 'cancelled' }, after: { state: 'ready' } }],
  ]) // biome-ignore format: a table
  await queue.cancel(3000) // by the app, not by an operator
  assert.equal(rowsOf(bench.file, 'SELECT 1 FROM gq_audit').length, entries.length)
})
