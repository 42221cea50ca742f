import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { connect as dial } from 'node:net'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { setTimeout } from 'node:timers/promises'
import { GopherQueue } from '../../src/index.ts'
import { serve } from '../../src/server/server.ts'
import { SqliteStore } from '../../src/store/sqlite/store.ts'
import { temporaryFolder } from '../support/folder.ts'
import { freePort } from '../support/port.ts'
import { ask, serving } from './support.ts'

const quiet = { logLevel: 'silent' }
const publicUrl = 'https://example.org/jobs'

test('a public URL takes a token, and is an address without user, query or #', async () => {
  using folder = temporaryFolder()
  const store = await SqliteStore.open(folder.file('jobs.db'))
  await assert.rejects(serve(store, { ...quiet, port: 0, publicUrl }), /Without a token/)
  for (const wrong of [
    'example.org',
    'ftp://example.org',
    'https://a:b@example.org',
    'https://x/?a',
    'https://x/#a',
    'https://@example.org',
    'https://example.org/?',
    'https://example.org/#',
    'https://*/',
    'https://*.example.org',
    'https://example.org./jobs',
    'https://exam\nple.org',
    'https:example.org',
    'https:///example.org',
    'https:\\\\example.org',
    'https://a,b',
    '',
  ])
    await assert.rejects(serve(store, { ...quiet, port: 0, publicUrl: wrong }), /The public URL is/)
  await store.close()
})

test('host and origin of the public URL are taken beside its own, and no others', async (t) => {
  const at = await serving(t, { ...quiet, publicUrl, tokens: [['app', 'submit', 'read']] }) // biome-ignore format: short
  const token = at.secrets.app!
  const own = new URL(at.server.url).host
  const body = { type: 'x' }
  for (const [host, origin, status] of [
    ['example.org', 'https://example.org', 201],
    ['EXAMPLE.org:443', 'https://example.org', 201],
    [own, 'https://example.org', 201], // nginx without a line for Host
    [own, `http://${own}`, 201],
    ['example.org', 'https://evil.example', 403],
    ['example.org', 'http://example.org:81', 403],
    [own, 'http://example.org', 403],
    [own, 'null', 403],
    ['evil.example', 'https://example.org', 403],
    ['sub.example.org', 'https://sub.example.org', 403],
  ] as const)
    assert.equal((await at.ask('POST', '/v1/jobs', { token, body, headers: { host, origin } })).status, status, `${host} ${origin}`) // biome-ignore format: long
  const document = await at.ask('GET', '/openapi.json', { token })
  assert.deepEqual(document.json.servers, [{ url: publicUrl }])
})

test('paths are taken with the prefix and without it', async (t) => {
  const at = await serving(t, { ...quiet, publicUrl: 'http://example.org/v1/', tokens: [['app', 'read']] }) // biome-ignore format: short
  const token = at.secrets.app!
  for (const [path, status] of [
    ['/v1/stats', 200],
    ['/v1/v1/stats', 200],
    ['/v1/healthz', 200],
    ['/v1/v1/v1/stats', 404],
    ['/v2/stats', 404],
  ] as const)
    assert.equal((await at.ask('GET', path, { token })).status, status, path)
})

const page = readFileSync(join(import.meta.dirname, '../../docs/operations.md'), 'utf8')
const blockOf = (language: string): string => new RegExp(`\`\`\`${language}\\n(.*?)\`\`\``, 's').exec(page)?.[1] ?? ''

/** A proxy in a folder of its own, by a configuration that knows its port, until the test ends. */
async function behind(t: TestContext, start: (file: (name: string) => string, port: number) => string[]) {
  const folder = temporaryFolder()
  const port = await freePort()
  const [command, ...args] = start(folder.file, port)
  const env = { PATH: process.env.PATH, HOME: folder.file('home') }
  const running = spawn(command!, args, { stdio: 'ignore', env })
  t.after(async () => {
    running.kill('SIGTERM')
    if (running.exitCode === null) await once(running, 'exit')
    folder[Symbol.dispose]()
  })
  for (;;) {
    assert.equal(running.exitCode, null, `${command} has ended`)
    const socket = dial(port, '127.0.0.1')
    const there = await Promise.race([once(socket, 'connect').then(() => true), once(socket, 'error').then(() => false)]).catch(() => false) // biome-ignore format: long
    socket.destroy()
    if (there) return `http://127.0.0.1:${port}`
    await setTimeout(20)
  }
}

/** Debian's nginx with a block of the page. */
const nginx = (location: string) => (t: TestContext, upstream: string) =>
  behind(t, (file, port) => {
    for (const name of ['body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']) mkdirSync(file(name))
    const paths = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((name) => `${name}_temp_path ${file(name.replace('client_', ''))};`) // biome-ignore format: long
    const block = location.replaceAll('127.0.0.1:7420', new URL(upstream).host)
    writeFileSync(
      file('nginx.conf'),
      `daemon off; pid ${file('pid')}; error_log ${file('error.log')};
       events {}
       http { access_log off; ${paths.join(' ')} server { listen 127.0.0.1:${port}; server_name example.org; ${block} } }`,
    )
    return ['nginx', '-c', file('nginx.conf')]
  })

/** Debian's Caddy with the page's words, but for a certificate. */
const caddy = (t: TestContext, upstream: string) =>
  behind(t, (file, port) => {
    const site = blockOf('caddyfile').replace('example.org {', `http://:${port} {\n  bind 127.0.0.1`)
    const block = site.replaceAll('127.0.0.1:7420', new URL(upstream).host)
    writeFileSync(file('Caddyfile'), `{\n  admin off\n}\n${block}`)
    return ['caddy', 'run', '--adapter', 'caddyfile', '--config', file('Caddyfile')]
  })

const isThere = (command: string, ask: string) => spawnSync(command, [ask]).status === 0
const proxies = [
  ['nginx', 'the words of the page', isThere('nginx', '-v'), nginx(blockOf('nginx'))],
  ['nginx', 'the prefix left on, and no line for Host', isThere('nginx', '-v'), nginx('location /jobs/ { proxy_pass http://127.0.0.1:7420; }')],
  ['caddy', 'the words of the page', isThere('caddy', 'version'), caddy],
] as const // biome-ignore format: a table
for (const [name, how, there, start] of proxies)
  test(`behind ${name} at a path of its own: ${how}`, {
    skip: there ? false : `${name} is not installed`,
  }, async (t) => {
    const at = await serving(t, { ...quiet, publicUrl, tokens: [['ops', 'admin'], ['none', 'submit']] }) // biome-ignore format: short
    const token = at.secrets.ops!
    const url = await start(t, at.server.url)
    const browser = { host: 'example.org', origin: 'https://example.org' }
    const html = await ask(url, 'GET', '/jobs/', { headers: browser })
    assert.ok([200, 503].includes(html.status) && html.text.includes('<!doctype html>'), html.text) // 503: not built here
    assert.doesNotMatch(html.text, /(src|href)="\//) // what the page asks for is beside it
    assert.equal((await ask(url, 'GET', '/jobs/healthz')).status, 200)
    assert.equal((await ask(url, 'GET', '/jobs/v1/stats', { headers: browser })).status, 401)
    // What the page's buttons do, and what a page of another origin tries.
    const pause = { token, body: { paused: true } }
    assert.equal((await ask(url, 'PATCH', '/jobs/v1/queues/q', { ...pause, headers: browser })).status, 200)
    const evil = { ...browser, origin: 'https://evil.example' }
    assert.equal((await ask(url, 'PATCH', '/jobs/v1/queues/q', { ...pause, headers: evil })).status, 403)

    // A client of the library: submission, a worker's long poll, and events as they happen.
    await using queue = await GopherQueue.open(`${url}/jobs`, { token })
    const cancelled = Promise.withResolvers<void>()
    queue.define('x', {}, async (_, { signal }) => {
      await once(signal, 'abort')
      cancelled.resolve()
    })
    queue.work()
    const { id } = await queue.submit('x', { a: 1 })
    while ((await queue.job(id))!.state !== 'running') await setTimeout(20)
    await queue.cancel(id)
    await cancelled.promise

    const heard = await fetch(`${url}/jobs/v1/events?events=submitted`, {
      headers: { authorization: `Bearer ${token}` },
    })
    assert.equal(heard.headers.get('content-type'), 'text/event-stream')
    const reader = heard.body!.pipeThrough(new TextDecoderStream()).getReader()
    let text = ''
    const next = (await ask(url, 'POST', '/jobs/v1/jobs', { token, body: { type: 'y' } })).json
    for (let read = await reader.read(); ; read = await reader.read()) {
      assert.equal(read.done, false, text) // nothing keeps it back, or ends it
      text += read.value
      if (text.includes(`"id":${next.id}`)) break
    }
    await reader.cancel()
    if (how === 'the words of the page')
      assert.equal((await ask(url, 'POST', '/jobs/v1/jobs/bulk', { token, body: { jobs: Array.from({ length: 4000 }, () => ({ type: 'y', payload: 'x'.repeat(1000) })) } })).status, 201) // biome-ignore format: long
  })

test('a public URL in letters beyond ASCII is known by its name in headers; a dot at the end of Host is no other name', async (t) => {
  const at = await serving(t, { ...quiet, publicUrl: 'https://Bücher.example', tokens: [['app', 'submit', 'read']] }) // biome-ignore format: short
  const token = at.secrets.app!
  const [host, origin] = ['xn--bcher-kva.example', 'https://xn--bcher-kva.example']
  for (const given of [host, `${host}.`])
    assert.equal((await at.ask('POST', '/v1/jobs', { token, body: { type: 'x' }, headers: { host: given, origin } })).status, 201, given) // biome-ignore format: long
  assert.equal((await at.ask('GET', '/v1/stats', { token, headers: { host: `${host}..` } })).status, 403)
  assert.deepEqual((await at.ask('GET', '/openapi.json', { token })).json.servers, [{ url: origin }])
})
