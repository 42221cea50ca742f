import assert from 'node:assert/strict'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { IncomingMessage, ServerResponse } from 'node:http'
import { Socket } from 'node:net'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import { Bodies } from '../../src/server/bodies.ts'
import { api } from '../../src/store/http/api.ts'
import type { Operation, Store } from '../../src/store/store.ts'
import { VirtualClock } from '../../src/testing/clock.ts'
import { raw, serving } from './support.ts'

// Clients that hang up while their request is on its way, before anything listens for their end.

/** A clock that tells how many timers are set. */
class CountingClock extends VirtualClock {
  timers = 0

  override timer(ms: number, callback: () => void): () => void {
    let counts = 1
    const done = () => {
      this.timers -= counts
      counts = 0
    }
    this.timers++
    const stop = super.timer(ms, () => {
      done()
      callback()
    })
    return () => {
      done()
      stop()
    }
  }
}

/** A server with a page of 256 KiB, whose store keeps its answer to one operation back when that is `held`. */
async function holding(t: TestContext) {
  const clock = new CountingClock()
  const at = await serving(t, { logLevel: 'silent', clock, tokens: [['all', 'admin']] })
  const call = at.store.call.bind(at.store) as (operation: Operation, ...rest: unknown[]) => Promise<unknown>
  let kept: Operation | undefined
  let [reached, go] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
  at.store.call = (async (operation: Operation, ...rest: unknown[]) => {
    if (operation === kept) {
      kept = undefined
      reached.resolve()
      await go.promise
    }
    return call(operation, ...rest)
  }) as Store['call']
  /** Keeps the next answer to `operation` back, until `go`; resolves when it was asked for. */
  const held = (operation: Operation) => {
    kept = operation
    ;[reached, go] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
    return reached.promise
  }
  const headers = `Host: localhost\r\nAuthorization: Bearer ${at.secrets.all}\r\n`
  const body = { type: 'x', payload: 'x'.repeat(256 * 1024), idempotencyKey: 'once' }
  assert.equal((await at.ask('POST', '/v1/jobs', { token: at.secrets.all!, body })).status, 201)

  /** Sends requests on one connection while the answer to `operation` is kept back. */
  const hold = async (operation: Operation, ...requests: string[]) => {
    const asked = held(operation)
    clock.advance(1000) // tokens are read again
    const connection = await raw(at.server.url, requests.join(''))
    await asked
    return connection
  }

  /** The same, and hangs up meanwhile. Answers with what became of them. */
  async function hangUp(operation: Operation, ...requests: string[]): Promise<ServerResponse[]> {
    const responses: ServerResponse[] = []
    const note = (message: unknown) => responses.push((message as { response: ServerResponse }).response)
    subscribe('http.server.request.start', note)
    const { socket } = await hold(operation, ...requests)
    while (responses.length < requests.length) await setImmediate()
    unsubscribe('http.server.request.start', note)
    const gone = once(responses[0]!.req.socket, 'close')
    socket.destroy()
    await gone
    await setImmediate()
    go.resolve()
    return responses
  }

  /** A request as it is sent, with a token. */
  const request = (method: string, path: string, body?: object) => {
    const text = body ? JSON.stringify(body) : ''
    return `${method} ${path} HTTP/1.1\r\n${headers}${body ? `Content-Type: application/json\r\nContent-Length: ${text.length}\r\n` : ''}\r\n${text}`
  }
  return { ...at, clock, held, hold, hangUp, request, go: () => go.resolve() }
}

type Rig = Awaited<ReturnType<typeof holding>>

/** Nothing is kept for them: no listener, no timer, no place among those that wait, no bytes. */
async function forgotten(
  { server, clock, ask, secrets }: Rig,
  timers: number,
  responses: ServerResponse[],
  what: string,
): Promise<void> {
  // The store answers in order: after some answers, all steps of those requests are done that wait for it.
  for (let i = 0; i < 6; i++) await ask('GET', '/v1/jobs?limit=1', { token: secrets.all! })
  const { waiting, unread, held } = server
  assert.deepEqual({ waiting, unread, held, timers: clock.timers }, { waiting: 0, unread: 0, held: 0, timers }, what)
  for (const response of responses) assert.equal(response.listenerCount('close'), 0, what)
}

const leases = { worker: 'w', types: ['x'], waitMs: 60_000 }

test('who hangs up while its token is looked up leaves nothing behind, whatever it asks for', async (t) => {
  const at = await holding(t)
  const { timers } = at.clock
  const reads = Object.values(api).filter(({ method }) => method === 'GET')
  const paths = [
    '/v1/events',
    '/openapi.json',
    '/metrics',
    '/v1/jobs/1/wait?waitMs=60000',
    ...reads.map(({ url }) => url),
  ]
  for (const path of paths) {
    const asked = `${path.replace(':id', '1')}${path === '/v1/hours' ? '?since=0' : ''}`
    await forgotten(at, timers, await at.hangUp('tokens', at.request('GET', asked)), asked)
  }
  for (const path of ['/v1/leases', '/v1/jobs/bulk'])
    await forgotten(
      at,
      timers,
      await at.hangUp('tokens', at.request('POST', path, { ...leases, x: 'x'.repeat(100_000) })),
      path,
    )
})

test('who hangs up while the store is asked is kept no answer, and given no job', async (t) => {
  const at = await holding(t)
  const { timers } = at.clock
  const page = at.request('GET', '/v1/jobs')
  await forgotten(at, timers, await at.hangUp('jobs', page), 'a page')
  await forgotten(
    at,
    timers,
    await at.hangUp('register', at.request('POST', '/v1/leases', leases)),
    'a request for jobs',
  )
  const { json } = await at.ask('GET', '/v1/jobs/1', { token: at.secrets.all! })
  assert.deepEqual([json.state, json.attempt], ['ready', 0])
})

test('requests that wait behind another one on a connection are over with it: the server can stop', async (t) => {
  const at = await holding(t)
  const { timers } = at.clock
  const one = at.request('GET', '/v1/jobs/1')
  await forgotten(at, timers, await at.hangUp('jobs', one, one, one), 'three')
  const closed = at.server.close()
  at.clock.advance(1) // less than its patience
  await closed
})

test('a request that comes to wait when the server stops already is refused, and holds it up for no time', async (t) => {
  const at = await holding(t)
  const { all } = await at.hold('tokens', at.request('GET', '/v1/jobs/1/wait?waitMs=60000'))
  const closed = at.server.close()
  at.go()
  at.clock.advance(1) // less than its patience
  await closed
  assert.match(await all, /^HTTP\/1.1 503 .*"STORAGE_UNAVAILABLE".*"accepted":"no"/s)
})

test('a wait that ends while its token is looked at again does not look at it for ever', async (t) => {
  const at = await holding(t)
  const { timers } = at.clock
  const { socket, all } = await raw(at.server.url, at.request('GET', '/v1/jobs/1/wait?waitMs=60000'))
  while (at.server.waiting === 0) await setImmediate()
  const looked = at.held('tokens')
  at.clock.advance(1000)
  await looked
  await at.store.call('cancel', 1)
  while (at.server.waiting > 0) await setImmediate()
  at.go()
  await forgotten(at, timers, [], 'a wait')
  socket.destroy()
  assert.match(await all, /"state":"cancelled"/)
})

test('the body of who has hung up counts once, and no more', () => {
  const bodies = new Bodies(new VirtualClock())
  const response = new ServerResponse(new IncomingMessage(new Socket()))
  const body = bodies.of(response)
  bodies.take(body, 1000)
  response.destroy()
  response.emit('close')
  bodies.leave(body) // its request goes on to wait
  assert.equal(bodies.bytes, 0)
  bodies.take(body, 1000) // a piece that had arrived before
  assert.equal(bodies.bytes, 0)
  bodies.take(bodies.of(response), 1000)
  assert.equal(bodies.bytes, 0)
})

test('nothing of the server listens by itself for the end of a request: it may have come', () => {
  const folder = join(import.meta.dirname, '../../src/server')
  for (const file of readdirSync(folder).filter((name) => name !== 'closed.ts'))
    assert.doesNotMatch(
      readFileSync(join(folder, file), 'utf8'),
      /(\bon|once|[lL]istener)\(.*'(close|aborted|finish|end)'/,
      file,
    )
})
