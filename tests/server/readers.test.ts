import assert from 'node:assert/strict'
import { once } from 'node:events'
import { get as ask, createServer } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import { type TestContext, test } from 'node:test'
import { Readers } from '../../src/server/readers.ts'
import { VirtualClock } from '../../src/testing/clock.ts'
import { raw, serving } from './support.ts'

const mebibyte = 1024 * 1024

async function withPages(t: TestContext, clock: VirtualClock) {
  const at = await serving(t, { logLevel: 'silent', clock })
  const jobs = Array.from({ length: 8 }, () => ({ payload: 'x'.repeat(mebibyte - 2) }))
  assert.equal((await at.ask('POST', '/v1/jobs/bulk', { body: { common: { type: 'x' }, jobs } })).status, 201)
  return at
}

test('clients that never read are kept a bounded number of bytes, hold nobody up, and are hung up on', async (t) => {
  const clock = new VirtualClock()
  const at = await withPages(t, clock)
  const { port } = new URL(at.server.url)
  const sockets = Array.from({ length: 40 }, () => {
    const socket = connect(Number(port), '127.0.0.1').on('error', () => undefined)
    socket.write('GET /v1/jobs?limit=8 HTTP/1.1\r\nHost: localhost\r\n\r\n'.repeat(20))
    return socket.pause()
  })
  t.after(() => {
    for (const socket of sockets) socket.destroy()
  })
  let most = 0
  for (let i = 0; i < 20; i++) {
    assert.equal((await at.ask('GET', '/v1/jobs?limit=1')).status, 200)
    most = Math.max(most, at.server.unread)
  }
  t.diagnostic(`most bytes that were kept: ${most}`)
  assert.ok(most > 4 * mebibyte && most <= 64 * mebibyte, `${most}`)
  clock.advance(10_000)
  while (at.server.unread > 0) await at.ask('GET', '/healthz')
})

test('a page of large jobs ends early with its cursor, and a client that reads gets all of it', async (t) => {
  const at = await withPages(t, new VirtualClock())
  const { json } = await at.ask('GET', '/v1/jobs?limit=8')
  assert.deepEqual([(json.jobs as object[]).length, json.next], [4, 5])
  assert.equal(at.server.unread, 0)
})

test('requests of one connection are answered one after the other, and too many of them end it', async (t) => {
  const at = await withPages(t, new VirtualClock())
  const get = (path: string, last = '') => `GET ${path} HTTP/1.1\r\nHost: localhost\r\n${last}\r\n`
  const last = 'Connection: close\r\n'
  const some = await raw(at.server.url, get('/v1/jobs/1') + get('/healthz').repeat(10) + get('/nothing', last))
  const heard = await some.all
  assert.deepEqual(heard.match(/HTTP\/1.1 \d+/g), [...Array(11).fill('HTTP/1.1 200'), 'HTTP/1.1 404'])
  const many = await raw(at.server.url, get('/v1/jobs/1').repeat(100) + get('/healthz', last))
  assert.ok((await many.all).split('HTTP/1.1').length < 40)
})

test('over all clients what is unread has a bound: who read nothing for longest is hung up on, and who reads gets all', async (t) => {
  const readers = new Readers(new VirtualClock())
  const body = Buffer.alloc(12 * mebibyte)
  const kept: number[] = []
  const server = createServer((_, response) => {
    readers.send(response, body)
    kept.push(readers.bytes)
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => server.close())
  const { port } = server.address() as AddressInfo
  const sockets = Array.from({ length: 20 }, () =>
    connect(port, '127.0.0.1')
      .on('error', () => undefined)
      .pause(),
  )
  t.after(() => {
    for (const socket of sockets) socket.destroy()
  })
  for (const socket of sockets) {
    const heard = kept.length
    socket.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n')
    while (kept.length === heard) await new Promise(setImmediate)
  }
  assert.ok(Math.max(...kept) > 50 * mebibyte && Math.max(...kept) <= 64 * mebibyte, `${kept}`)
  const [response] = await once(ask({ port, agent: false }), 'response')
  let bytes = 0
  for await (const piece of response) bytes += piece.length
  assert.equal(bytes, body.length)
})

test('an answer counts as long as its memory is kept: until its last piece is read', async (t) => {
  const readers = new Readers(new VirtualClock())
  const server = createServer((_, response) => readers.send(response, 'x'.repeat(24 * mebibyte))).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => server.close())
  const { port } = server.address() as AddressInfo
  for (let i = 0; i < 2; i++) {
    const socket = connect(port, '127.0.0.1').on('error', () => undefined)
    t.after(() => socket.destroy())
    socket.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n')
    for (let read = 0; read < 12 * mebibyte; ) read += ((await once(socket, 'data')) as [Buffer])[0].length
    socket.pause()
  }
  assert.equal(readers.bytes, 2 * 24 * mebibyte)
})

test('who asks for few things does not wait for all pages of many, and pages get their turn too', async () => {
  const readers = new Readers(new VirtualClock())
  const begun: string[] = []
  const ends: (() => void)[] = []
  const ask = (name: string) => () => {
    begun.push(name)
    return new Promise<void>((resolve) => ends.push(resolve))
  }
  const all = ['p1', 'p2', 'p3', 'p4', 'p5'].map((name) => readers.read('many', ask(name)))
  all.push(...['f1', 'f2', 'f3'].map((name) => readers.read('few', ask(name))))
  while (begun.length < 8 || ends.length > 0) {
    ends.shift()?.()
    await new Promise(setImmediate)
  }
  await Promise.all(all)
  assert.deepEqual(begun.slice(0, 2), ['p1', 'p2'])
  assert.ok(begun.indexOf('f1') <= 3 && begun.indexOf('f2') <= 5 && begun.indexOf('p3') <= 3, `${begun}`)
})
