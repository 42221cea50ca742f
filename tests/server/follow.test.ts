import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, IncomingMessage, ServerResponse } from 'node:http'
import { type AddressInfo, Socket } from 'node:net'
import { test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import { Drain } from '../../src/server/drain.ts'
import { events } from '../../src/server/events.ts'
import { Hub } from '../../src/server/hub.ts'
import { HttpStore } from '../../src/store/http/store.ts'
import { VirtualClock } from '../../src/testing/clock.ts'
import { serving } from './support.ts'

test('a client whose token is not for events asks for them once', async (t) => {
  const at = await serving(t, { logLevel: 'silent', tokens: [['app', 'submit']] }) // biome-ignore format: short
  const asked: string[] = []
  const before = createServer(async (request, response) => {
    asked.push(request.url!)
    const answer = await fetch(at.server.url + request.url, { headers: { authorization: request.headers.authorization! } }) // biome-ignore format: long
    response.writeHead(answer.status, { 'content-type': answer.headers.get('content-type')! }).end(await answer.text())
  }).listen(0, '127.0.0.1')
  await once(before, 'listening')
  const clock = new VirtualClock()
  const store = await HttpStore.open(`http://127.0.0.1:${(before.address() as AddressInfo).port}`, { token: at.secrets.app! }, clock) // biome-ignore format: long
  const events = () => asked.filter((path) => path.startsWith('/v1/events')).length
  while (events() === 0) await setImmediate()
  for (let i = 0; i < 500; i++) {
    clock.advance(1000)
    await setImmediate()
  }
  assert.equal(events(), 1)
  await store.close()
  before.close()
})

test('a listener that missed more than is kept hears `missed`, and goes on from there', async (t) => {
  const hub = new Hub(1000)
  for (let i = 0; i < 25_000; i++) hub.tell('submitted', { id: i })
  const heard: number[] = []
  const { complete, stop } = hub.listen(1001, ({ seq }) => void heard.push(seq))
  hub.tell('submitted', { id: 25_000 })
  assert.deepEqual([complete, heard.length >= 10_000, heard.at(-1)], [false, true, 26_001])
  stop()

  const at = await serving(t, { logLevel: 'silent' })
  const { body } = await fetch(`${at.server.url}/v1/events?events=submitted`, { headers: { 'last-event-id': '7' } })
  const reader = body!.pipeThrough(new TextDecoderStream()).getReader()
  let text = ''
  const read = async (what: string) => {
    while (!text.includes(what)) {
      const { value, done } = await reader.read()
      assert.equal(done, false, text)
      text += value
    }
  }
  await read('event: missed\n')
  await at.ask('POST', '/v1/jobs', { body: { type: 'x' } })
  await read('event: submitted\n')
  await reader.cancel()
})

test('a stream of events beats every 5 s, and is hung up on when its reader is 1 MiB behind', () => {
  const [hub, clock, request] = [new Hub(1000), new VirtualClock(), new IncomingMessage(new Socket())]
  const response = new ServerResponse(request) // of no socket: nobody reads it
  let text = ''
  const write = response.write.bind(response)
  response.write = (chunk: string) => {
    text += chunk
    return write(chunk)
  }
  const tokens = { check: async () => undefined }
  const parts = { drain: new Drain(9, clock), clock, tokens } as unknown as Parameters<typeof events>[1]
  events(hub, parts)({ request, response, query: {} } as Parameters<ReturnType<typeof events>>[0])
  clock.advance(4999)
  assert.doesNotMatch(text, /beat/)
  clock.advance(1)
  assert.match(text, /: beat\n\n$/)
  clock.advance(5000)
  assert.equal(text.split(': beat').length, 3)
  const tell = (bytes: number) => hub.tell('submitted', { text: 'x'.repeat(bytes) })
  tell(1024 * 1024 - 1000)
  tell(1) // it is still within 1 MiB
  assert.equal(response.destroyed, false)
  tell(1000)
  tell(1)
  assert.equal(response.destroyed, true)
})

test('a stream that was ended is written nothing more, however slowly its client reads', async () => {
  for (const why of ['the token was revoked', 'the server stops']) {
    const [hub, clock, request] = [new Hub(1000), new VirtualClock(), new IncomingMessage(new Socket())]
    const response = new ServerResponse(request) // of no socket: nobody reads it
    const errors: unknown[] = []
    response.on('error', (error) => errors.push(error)) // where nobody listens, it ends the process
    const drain = new Drain(9, clock)
    const check = why === 'the server stops' ? async () => undefined : () => Promise.reject(new Error('revoked'))
    const parts = { drain, clock, tokens: { check } } as unknown as Parameters<typeof events>[1]
    events(hub, parts)({ request, response, query: {} } as Parameters<ReturnType<typeof events>>[0])
    if (why === 'the server stops') for (const end of drain.ends) end()
    else clock.advance(5000)
    await setImmediate()
    assert.equal(response.writableEnded, true, why)
    hub.tell('submitted', { id: 1 })
    clock.advance(60_000)
    await setImmediate()
    assert.deepEqual(
      [errors, hub.listeners, drain.ends.size, clock.untilTimer],
      [[], 0, 0, Number.POSITIVE_INFINITY],
      why,
    )
  }
})
