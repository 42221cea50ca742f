import assert from 'node:assert/strict'
import { once } from 'node:events'
import { Agent, type IncomingHttpHeaders, request } from 'node:http'
import { connect } from 'node:net'
import { after, before, test } from 'node:test'
import fc from 'fast-check'
import type { TSchema } from 'typebox'
import { Compile } from 'typebox/compile'
import { api, type Call, type Endpoint, Problem } from '../../src/store/http/api.ts'
import { Child, fromEnvironment, until } from '../crash/processes.ts'
import { main } from '../support/bundled.ts'
import { temporaryFolder } from '../support/folder.ts'

// FUZZ_REQUESTS=100000 node --test tests/server/fuzz.test.ts
const requests = fromEnvironment('FUZZ_REQUESTS', 2000)

const folder = temporaryFolder()
const agent = new Agent({ keepAlive: true, maxSockets: 50 })
let server: Child
let url: URL

before(async () => {
  const collect = `data:text/javascript,process.on('SIGUSR2',()=>{gc();console.log('heap '+process.memoryUsage().heapUsed)})`
  const args = [
    '--expose-gc',
    '--import',
    collect,
    main,
    '--db',
    folder.file('jobs.db'),
    'serve',
    '--port',
    '0',
    '--log-level',
    'error',
  ]
  server = new Child(process.execPath, args)
  url = new URL(await until('it serves', 20, () => / at (http:\S+)/.exec(server.complaints)?.[1]))
  for (let n = 0; n < 20; n++) await ask('POST', '/v1/jobs', {}, JSON.stringify({ type: 't', payload: n }))
})
after(async () => {
  agent.destroy()
  await server.kill()
  folder[Symbol.dispose]()
})

interface Answered {
  status: number
  headers: IncomingHttpHeaders
  text: string
}

async function ask(method: string, path: string, headers: Record<string, string>, body?: string): Promise<Answered> {
  const given = {
    host: url.hostname,
    port: url.port,
    agent,
    method,
    path,
    headers: { ...json, 'content-length': Buffer.byteLength(body ?? ''), ...headers },
  }
  const asked = request(given).end(body)
  const [response] = await once(asked, 'response')
  let text = ''
  for await (const piece of response.setEncoding('utf8')) text += piece
  return { status: response.statusCode, headers: response.headers, text }
}
const json = { 'content-type': 'application/json' }

const isProblem = Compile(Problem)
const answers = Object.fromEntries(Object.entries(api).map(([call, { response }]) => [call, Compile(response)]))

/** An answer is what the API describes, or a problem that says what it means for the job, and nothing of our insides. */
function check(call: Call | null, { status, headers, text }: Answered): void {
  assert.ok(status < 500, text)
  assert.doesNotMatch(text, /\\n +at |node:internal|node_modules|\.ts:\d+/, 'a stack')
  const value = JSON.parse(text)
  if (status < 300) {
    assert.ok(call && answers[call]!.Check(value), `${call} answered ${text}`)
    return
  }
  assert.match(headers['content-type'] ?? '', /^application\/problem\+json/)
  assert.ok(isProblem.Check(value), text)
  assert.equal(value.status, status)
  assert.equal(value.accepted, 'no', text)
}

const deep = fc.integer({ min: 1, max: 5000 }).map((depth) => `${'['.repeat(depth)}${']'.repeat(depth)}`)
const odd = fc.constantFrom<unknown>(
  ...[null, '', -1, 0, 1.5, 1e308, -1e308, 2 ** 53, 9007199254740993n.toString(), true, [], {}, [[]], '\0', '\ud800', 'ÿ😀\u202e'],
  ...['x'.repeat(129), 'y'.repeat(300), '__proto__', 'constructor', '-0', '1e400', 'NaN', '5m', '-5m', '999999999999d'],
) // biome-ignore format: a list

/** Values of a schema, some of them wrong somewhere. */
function like(schema: TSchema, name = ''): fc.Arbitrary<unknown> {
  const own = schema as TSchema & { enum?: unknown[]; anyOf?: TSchema[]; const?: unknown; type?: string }
  const right = (): fc.Arbitrary<unknown> => {
    if (own.enum) return fc.constantFrom(...own.enum)
    if (own.anyOf) return fc.oneof(...own.anyOf.map((one) => like(one)))
    if (name === 'waitMs') return fc.integer({ min: 0, max: 2 })
    switch (own.type) {
      case 'object': {
        const { properties = {}, required = [] } = own as unknown as {
          properties: Record<string, TSchema>
          required: string[]
        }
        const fields = Object.entries(properties).map(([key, one]) => [key, like(one, key)])
        const requiredKeys = 'waitMs' in properties ? [...required, 'waitMs'] : required // else it waits for 30 s
        return fc.record(Object.fromEntries(fields) as Record<string, fc.Arbitrary<unknown>>, { requiredKeys })
      }
      case 'array':
        return fc.array(like((own as unknown as { items: TSchema }).items), { maxLength: 4 })
      case 'string':
        return fc.oneof(
          fc.constantFrom('t', 'default', '5m', '* * * * *', 'UTC'),
          fc.string({ minLength: 1, maxLength: 20 }),
        )
      case 'integer':
        return fc.oneof(fc.integer({ min: 1, max: 30 }), fc.maxSafeInteger())
      case 'number':
        return fc.oneof(fc.integer({ min: 0, max: 100 }), fc.double())
      case 'boolean':
        return fc.boolean()
      case 'null':
        return fc.constant(null)
      default:
        return fc.jsonValue()
    }
  }
  return fc.oneof({ weight: 30, arbitrary: right() }, { weight: 1, arbitrary: odd })
}

const path = (url: string, id: unknown) => url.replace(/:\w+/, () => encodeURIComponent(String(id).toWellFormed()))
const header = fc.oneof(
  fc.constantFrom('k', 'ü', ' ', 'x'.repeat(257), 'y'.repeat(9000)),
  fc.string({ unit: 'grapheme-ascii', maxLength: 30 }),
)
const headers = fc.oneof(
  { weight: 6, arbitrary: fc.constant({}) },
  { weight: 1, arbitrary: fc.record({ 'idempotency-key': header }) },
  {
    weight: 1,
    arbitrary: fc.record({
      'content-type': fc.constantFrom(
        '',
        'text/plain',
        'application/x-ndjson',
        'application/json; charset=utf-16',
        'multipart/form-data',
        'x',
      ),
    }),
  },
)

/** A request to an endpoint that is nearly right, or not at all. */
const requestOf = fc.constantFrom(...(Object.keys(api) as Call[])).chain((call) => {
  const { method, url, query, body }: Endpoint = api[call]
  const text: fc.Arbitrary<string | undefined> = body
    ? fc.oneof(
        { weight: 12, arbitrary: like(body).map((value) => JSON.stringify(value)) },
        { weight: 1, arbitrary: deep },
        {
          weight: 1,
          arbitrary: fc.constantFrom(
            '',
            '{',
            'null',
            '{"type":"t"}}',
            '{"__proto__":{"type":"t"}}',
            '\ufeff{}',
            '{"type":"t","type":"u","payload":1e999}',
            '\0',
          ),
        },
        { weight: 1, arbitrary: deep.map((nested) => `{"type":"t","payload":${nested}}`) },
        { weight: 1, arbitrary: fc.string({ unit: 'binary', maxLength: 200 }) },
      )
    : fc.constantFrom(undefined, '{}', 'x')
  return fc.record({
    call: fc.constant(call),
    method: fc.oneof(
      { weight: 30, arbitrary: fc.constant<string>(method) },
      fc.constantFrom('OPTIONS', 'HEAD', 'PROPFIND', 'PUT', 'TRACE'),
    ),
    path: fc
      .oneof(
        { weight: 5, arbitrary: fc.integer({ min: 1, max: 30 }) },
        odd,
        fc.string({ unit: 'binary', maxLength: 10 }),
      )
      .map((id) => path(url, id)),
    query: fc.oneof(
      {
        weight: 8,
        arbitrary: query
          ? like(query).map(
              (value) =>
                `?${new URLSearchParams(Object.entries(Object(value)).map(([key, one]): [string, string] => [key, `${one}`]))}`,
            )
          : fc.constant(''),
      },
      fc.constantFrom('?waitMs=1&waitMs=2', '?%zz', '?=', '?a[]=1&__proto__=2', `?${'x=1&'.repeat(500)}`),
    ),
    headers,
    text,
  })
})

/** MB that live on the heap of its main thread, after a collection. */
async function memory(): Promise<number> {
  const before = server.output.length
  process.kill(server.pid, 'SIGUSR2')
  const bytes = await until('it tells its memory', 20, () => /heap (\d+)\n/.exec(server.output.slice(before))?.[1])
  return Number(bytes) / 1e6
}

test('requests that are nearly right are answered as the API says, or with a problem; never with a failure', async () => {
  const sizes: number[] = []
  let asked = 0
  await fc.assert(
    fc.asyncProperty(requestOf, async ({ call, method, path, query, headers, text }) => {
      if (call === 'wait' && !query.includes('waitMs')) return // right, and it would wait for 30 s
      const answer = await ask(
        method,
        path + query,
        headers as Record<string, string>,
        method === 'TRACE' ? undefined : text,
      )
      if (method !== 'HEAD') check(method === api[call].method ? call : null, answer)
      if (++asked % Math.ceil(requests / 20) === 0) sizes.push(await memory())
    }),
    { numRuns: requests },
  )
  assert.equal(server.alive, true)
  assert.equal(server.complaints.replace(/^(.*Warning.*|serving .*)$/gm, '').trim(), '')
  const [before, after] = [Math.max(...sizes.slice(5, 10)), Math.max(...sizes.slice(-5))]
  assert.ok(after - before < 5, `memory grows (MB): ${sizes.map(Math.round)}`)
})

const exchange = async (bytes: string | Uint8Array): Promise<string> => {
  const socket = connect(Number(url.port), url.hostname)
  socket.on('error', () => undefined)
  let text = ''
  socket.setEncoding('latin1').on('data', (piece) => {
    text += piece
  })
  socket.end(bytes)
  await once(socket, 'close')
  return text
}

const line = fc.constantFrom(
  ...['GET / HTTP/1.1', 'GET /v1/jobs HTTP/9.9', 'POST /v1/jobs HTTP/1.1', 'get /v1/jobs HTTP/1.1', 'GET /v1/jobs', 'PRI * HTTP/2.0', 'GET %zz HTTP/1.1', 'GET //\\ HTTP/1.1', 'GET http://[ HTTP/1.1'],
  ...['Host: x', 'Host:', 'Content-Length: 5', 'Content-Length: -1', 'Content-Length: 5, 6', 'Content-Length: 99999999999999999999', 'Transfer-Encoding: chunked', 'Transfer-Encoding: gzip', 'Expect: 100-continue', 'Expect: x', 'Upgrade: h2c', 'Connection: Upgrade', 'Content-Type: application/json', ': x', 'a b: c', `x: ${'y'.repeat(20_000)}`],
  ...['', '', 'ffffffffffffffffff', '5', '{"a"}', '0', '\0', '\x16\x03\x01\x02'],
) // biome-ignore format: a list

test('bytes that are no HTTP are answered with a problem, or by hanging up', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.oneof(
        fc.uint8Array({ maxLength: 300 }),
        fc.array(line, { maxLength: 8 }).map((lines) => lines.join('\r\n')),
        fc
          .array(line, { maxLength: 8 })
          .map((lines) => `POST /v1/jobs HTTP/1.1\r\nHost: x\r\n${lines.join('\r\n')}\r\n\r\n`),
      ),
      async (bytes) => {
        const [status, rest = ''] = (await exchange(bytes)).split(/(?<=^HTTP\/1.1 \d\d\d)/)
        if (status === '') return
        const code = Number(status!.slice(-3))
        assert.ok(code < 500, status! + rest)
        if (code < 400 || code === 417) return // Node's own, for a header Expect
        const length = Number(/^content-length: (\d+)/im.exec(rest)![1])
        const body = rest.slice(rest.indexOf('\r\n\r\n') + 4).slice(0, length)
        assert.ok(body.length < length || isProblem.Check(JSON.parse(body)), rest) // it may have hung up within its answer
      },
    ),
    { numRuns: requests / 4 },
  )
  assert.equal(server.alive, true)
})
