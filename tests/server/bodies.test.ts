import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { VirtualClock } from '../../src/testing/clock.ts'
import { raw, serving } from './support.ts'

const mebibyte = 1024 * 1024
const most = 72 * mebibyte
const head = (path: string, length: number) =>
  `POST ${path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: ${length}\r\n\r\n`

test('bodies that stop before their end have a bound over all clients: those that have held most for longest are refused, who sends all is served', async (t) => {
  const clock = new VirtualClock()
  const at = await serving(t, { logLevel: 'silent', clock })
  const items = `{"jobs":[${`{"type":"x","payload":"${'x'.repeat(mebibyte - 30)}"},`.repeat(30)}`
  const open = (bytes: number) => raw(at.server.url, head('/v1/jobs/bulk', bytes + 1) + items.slice(0, bytes))
  const arrived = async (bytes: number) => {
    while (at.server.held < bytes) await new Promise(setImmediate)
  }
  const stopped = []
  for (let i = 1; i <= 2; i++) {
    stopped.push(await open(items.length))
    await arrived(i * items.length)
    clock.advance(100)
  }
  const jobs = Array.from({ length: 40 }, () => ({ type: 'x', payload: 'x'.repeat(mebibyte - 2) }))
  let [highest, isOver] = [0, false]
  const looks = (async () => {
    for (; !isOver; await new Promise(setImmediate)) highest = Math.max(highest, at.server.held)
  })()
  const { status } = await at.ask('POST', '/v1/jobs/bulk', { body: { jobs } })
  isOver = true
  await looks
  assert.equal(status, 201)
  assert.ok(highest > 60 * mebibyte && highest <= most, `${highest}`)
  const heard = await stopped[0]!.all
  assert.match(heard, /^HTTP\/1.1 503 .*?\r\nretry-after: 1\r\n/s)
  assert.match(heard, /"code":"OVERLOADED","accepted":"no"/)
  for (const { socket } of stopped) socket.destroy()
  while (at.server.held > 0) await at.ask('GET', '/healthz')
})

test('what was read of a body is not kept twice', async (t) => {
  const at = await serving(t, { logLevel: 'silent' })
  const { socket } = await raw(at.server.url, head('/v1/jobs/bulk', 60_000_000).replace('json', 'x-ndjson'))
  socket.write('\n'.repeat(50_000_000))
  while (at.server.held < 50_000_000) await new Promise(setImmediate)
  setFlagsFromString('--expose-gc')
  for (let i = 0; i < 3; i++) {
    await new Promise(setImmediate)
    runInNewContext('gc')()
  }
  const { arrayBuffers } = process.memoryUsage()
  assert.ok(arrayBuffers < 32 * mebibyte, `${arrayBuffers}`)
  socket.destroy()
})
