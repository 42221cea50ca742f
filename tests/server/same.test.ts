import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { type TSchema, Type } from 'typebox'
import { parseBackoff } from '../../src/model/backoff.ts'
import { systemClock } from '../../src/model/clock.ts'
import { type Job, type JobOptions, jobSpec, priorities } from '../../src/model/job.ts'
import { states } from '../../src/model/lifecycle.ts'
import { shaping } from '../../src/server/http.ts'
import { serve } from '../../src/server/server.ts'
import { api } from '../../src/store/http/api.ts'
import { HttpStore } from '../../src/store/http/store.ts'
import { operations } from '../../src/store/operations.ts'
import { Engine } from '../../src/store/sqlite/commit.ts'
import type { Failure, Input, LeasedJob, Operation, Output } from '../../src/store/store.ts'
import { VirtualClock } from '../../src/testing/clock.ts'
import { EngineStore } from '../../src/testing/store.ts'
import { temporaryFolder } from '../support/folder.ts'

// What a file answers, a server in front of it answers too.

type Read = { [K in Operation]: (typeof operations)[K] extends { kind: 'read' } ? K : never }[Operation]

const backoffs: JobOptions['backoff'][] = [
  { kind: 'constant', delay: 300, max: '1m', jitter: 0.5 },
  { kind: 'linear', delay: '2s' },
  { kind: 'exponential', delay: 7, factor: 10, jitter: 1 },
  { kind: 'table', delays: [100, '1s', 0], jitter: 0.25 },
  { kind: 'custom', name: 'mine' },
]
const payloads = [
  null,
  '',
  'a "text"\u2028\u{1F600}',
  0,
  -1.5e-7,
  true,
  [],
  {},
  [[1, { a: [] }], null],
  { toJSON: 1, jobs: [{ id: 1 }] },
]

const error = {
  name: 'Boom',
  message: 'no\nsecond line',
  stack: 'Boom: no\n    at x\n[cause]: TypeError: deep\n    at y',
}
const types = ['ok', 'warned', 'bad', 'retries', 'put off', 'late', 'runs', 'stops', 'lost', 'lost too']

/** Makes a file with jobs, queues, schedules and workers of each shape that they have. */
function fill(path: string, clock: VirtualClock): void {
  const engine = new Engine(path, clock, { tends: true })
  let seq = 0
  const ask = <K extends Operation>(operation: K, input: Input<K>): Output<K> => {
    const [reply] = engine.execute([{ seq: ++seq, operation, input, who: 'cli:me@here' }])
    if (!reply || 'error' in reply) throw reply?.error ?? new Error(`${operation} waits`)
    return reply.value as Output<K>
  }
  const pass = (seconds: number) => {
    for (let i = 0; i < seconds; i++) {
      clock.advance(1000)
      engine.tick()
    }
  }
  const submit = (type: string, options: JobOptions = {}, texts: unknown[] = [null], trace: object | null = null) =>
    ask('submit', {
      specs: jobSpec(type, options),
      payloads: texts.map((payload) => JSON.stringify(payload)),
      keys: options.idempotencyKey === undefined ? null : texts.map((_, i) => `${options.idempotencyKey} ${i}`),
      trace: trace && JSON.stringify(trace),
    })
  for (const backoff of backoffs) submit('backoff', backoff && { backoff })
  for (const priority of priorities) submit('class', { priority, queue: `tenant/${priority} é\u{1F600}` })
  submit('payload', { idempotencyKey: 'once', idempotencyWindow: '7d' }, payloads)
  submit('limits', { timeout: '90s', onTimeout: 'dead', visibilityTimeout: '1h', maxAttempts: 1 })
  submit('times', { runAt: clock.now() + 86_400_000, deadline: '2d' }, [1], {
    traceparent: '00-1-2-01',
    tracestate: 'a=b',
  })
  submit('keys', { uniqueKey: 'only', concurrencyKey: 'k' }, [1])
  submit('expires', { deadline: '10s', delay: '5s' })
  ask('cancel', submit('cancelled').ids[0]!)

  const sources = types.map((type) => ({ queue: 'default', type }))
  for (const type of types) submit(type, { visibilityTimeout: type.startsWith('lost') ? '30s' : '1h' }, [{ type }])
  const remote = (name: string, given: typeof sources) => {
    const worker = ask('register', { name, sources: given, slots: 20, remote: '10.0.0.7', instance: name })
    return ask('lease', { worker, sources: given, slots: 20, exclude: [] })
  }
  remote('dies', sources.slice(-2)) // two jobs together, of which nothing is heard any more
  const jobs = new Map(remote('works', sources.slice(0, -2)).map((job) => [job.type, job]))
  const lease = (type: string) => jobs.get(type) as LeasedJob
  const fail = (type: string, kind: Failure['kind'], retryAfter: number | null = null) =>
    ask('fail', { lease: lease(type), kind, error, retryAfter })
  ask('progress', { lease: lease('runs'), percent: 12.5, message: 'some "more"' })
  ask('checkpoint', { lease: lease('runs'), state: '{"at":[1,2]}' })
  ask('succeed', { lease: lease('ok'), result: JSON.stringify({ payloads }) })
  ask('succeed', { lease: lease('warned'), result: 'null', warning: 'It was too large.' })
  fail('bad', 'permanent')
  fail('retries', 'temporary')
  fail('put off', 'postpone', 86_400_000)
  fail('late', 'timeout')
  ask('cancel', lease('stops').id)

  const schedule = (name: string, spec: JobOptions, more: Partial<Input<'setSchedule'>>) =>
    ask('setSchedule', {
      ...{ name, cron: '* * * * *', timezone: 'Europe/Berlin', payload: '{"of":["schedule"]}', missed: 'all' },
      ...{ overlap: 'allow', spec: jobSpec('tick', spec), ...more },
    })
  schedule('each minute', { backoff: backoffs[4]! }, {})
  schedule('once', { queue: 'other' }, { cron: '0 0 29 2 *', missed: 'once', overlap: 'skip' })
  schedule('paused', {}, { missed: 'skip' })
  ask('pauseSchedule', { name: 'paused', paused: true })
  ask('setQueue', { queue: 'full', maxDepth: 1, maxRunning: 3, rate: { max: 5, per: 60_000 }, keepDead: null })
  submit('fills', { queue: 'full' })
  schedule('refused', { queue: 'full' }, {})
  ask('setQueue', { queue: 'away', paused: true, maxRunningPerKey: 2, keepSucceeded: 1000, keepCancelled: 86_400_000 })
  pass(130)
  engine.close()
}

/** What each read is asked. */
const asks = (ids: number[]): { [K in Read]: Input<K>[] } => ({
  jobs: [
    ...[
      {},
      { order: 'oldest', limit: 3 },
      { state: 'scheduled', order: 'due' },
      { text: 'schedule' },
      { failing: true },
    ],
    ...[{ queue: 'full' }, { type: 'no' }, { state: 'dead' }],
  ] as Input<'jobs'>[],
  deadLetters: [{}, { type: 'bad' }, { limit: 1 }],
  failing: [{}, { limit: 1 }],
  job: ids,
  attempts: ids,
  why: ids,
  queues: [{}, { limit: 2, after: 'default' }],
  queueNames: [{}, { prefix: 'tenant/' }, { after: 'default' }],
  schedules: [{}, { payloads: false }, { limit: 1, after: 'once' }],
  stats: [null],
  hours: [{ since: 0 }, { since: 0, type: 'ok' }],
  auditLog: [{}, { limit: 2 }],
  epoch: [null],
  tokens: [null],
})

/** As JSON gives it back; what is free on the disk changes meanwhile. */
const plain = (answer: unknown): unknown =>
  JSON.parse(JSON.stringify(answer, (key, value) => (key === 'diskFreeBytes' ? typeof value : value)))

async function both(t: TestContext) {
  const folder = temporaryFolder()
  const [path, clock] = [folder.file('jobs.db'), new VirtualClock()]
  fill(path, clock)
  const file = new EngineStore(path, clock)
  const server = await serve(file, { port: 0, logLevel: 'silent', clock })
  const http = await HttpStore.open(server.url, {}, systemClock)
  t.after(async () => {
    await http.close()
    const closed = server.close()
    clock.advance(15_000)
    await closed
    folder[Symbol.dispose]()
  })
  const { jobs } = await file.call('jobs', { limit: 1000, order: 'oldest' })
  return { file, http, jobs }
}

test('each read answers the same through a server, of jobs and all else of each shape', async (t) => {
  const { file, http, jobs } = await both(t)
  assert.deepEqual(new Set(jobs.map(({ state }) => state)), new Set(states))
  const asked = asks([...jobs.map(({ id }) => id), 999])
  const reads = (Object.keys(operations) as Operation[]).filter((name) => operations[name].kind === 'read')
  assert.deepEqual(Object.keys(asked).sort(), reads.sort())
  for (const read of reads as Read[])
    for (const input of asked[read] as Input<Read>[]) {
      const answer = http.call(read, input)
      const what = `${read} ${JSON.stringify(input)}`
      if (read === 'epoch' || read === 'tokens') await assert.rejects(answer, { code: 'INVALID_ARGUMENT' }, what)
      else assert.deepEqual(plain(await answer), plain(await file.call(read, input)), what)
    }
})

test('so does what waits for the end of a job, and what a worker is given', async (t) => {
  const { file, http, jobs } = await both(t)
  for (const job of jobs.filter(({ finishedAt }) => finishedAt !== null))
    assert.deepEqual(await http.call('wait', job.id), plain(job))
  const free = jobs.filter(({ type }) => ['backoff', 'class', 'payload', 'retries'].includes(type))
  const sources = free.map(({ queue, type }) => ({ queue, type })) // a job that was lost would hold others up
  const worker = await http.call('register', { name: 'w', sources, slots: 100 })
  const given: LeasedJob[] = []
  while (given.length < free.length)
    given.push(...(await http.call('lease', { worker, sources, slots: 100, exclude: [] })))
  for (const { payload, backoff, priority, ...leased } of given) {
    const job = (await file.call('job', leased.id))!
    const own = {
      ...leased,
      payload: JSON.parse(payload),
      backoff: parseBackoff(backoff),
      priority: priorities[priority],
    }
    for (const [name, value] of Object.entries(own))
      if (name in job) assert.deepEqual(value, plain(job[name as keyof Job]), `${name} of ${job.type}`)
  }
})

interface Shape {
  type?: string
  enum?: unknown[]
  properties?: Record<string, Shape>
  patternProperties?: Record<string, Shape>
  additionalProperties?: unknown
  items?: Shape
  anyOf?: Shape[]
}

/** Values that a schema allows: each branch of it is in one. Of an object that may have more there is more. */
function valuesOf({
  type,
  enum: names,
  properties,
  patternProperties,
  additionalProperties,
  items,
  anyOf,
}: Shape): unknown[] {
  if (anyOf) return anyOf.flatMap(valuesOf)
  if (items) return [[], valuesOf(items)]
  if (properties) {
    const more = additionalProperties ? { more: { of: ['it'] } } : {}
    const each = Object.entries(properties).map(([name, one]) => [name, valuesOf(one)] as const)
    const longest = Math.max(1, ...each.map(([, values]) => values.length))
    const nth = (i: number) => each.map(([name, values]) => [name, values[i % values.length]])
    return Array.from({ length: longest }, (_, i) => ({ ...Object.fromEntries(nth(i)), ...more }))
  }
  if (patternProperties) return [{ any: Object.values(patternProperties).flatMap(valuesOf)[0] }]
  if (names) return names
  return (
    { string: ['x'], integer: [1], number: [0.5], boolean: [true], null: [null] }[type ?? ''] ?? [
      { a: [{ b: 1 }] },
      [[]],
      'x',
      null,
    ]
  )
}

test('nothing of an answer that its schema allows is taken out', () => {
  const { object, list, maybe, string, int, Unknown: any, open } = { ...Type, object: Type.Object, list: Type.Array, string: Type.String, int: Type.Integer, maybe: <T extends TSchema>(one: T) => Type.Union([one, Type.Null()]), open: Type.Object({ kind: Type.String() }, { additionalProperties: true }) } // biome-ignore format: long
  const nested = [
    ...[
      open,
      list(open),
      maybe(open),
      maybe(list(maybe(open))),
      object({ one: open, some: list(object({ own: maybe(open) })) }),
    ],
    ...[
      Type.Record(string(), open),
      Type.Union([object({ a: int() }), object({ b: int() })]),
      Type.Union([open, string()]),
    ],
    ...[Type.Union([object({ a: int() }), Type.Record(string(), int())]), Type.Union([object({ a: int() }), any()])],
    ...[Type.Union([list(int()), maybe(open)]), object({ a: int() }, { additionalProperties: open })],
  ]
  for (const schema of [...nested, ...Object.values(api).map(({ response }) => response)])
    for (const value of valuesOf(schema as Shape))
      assert.deepEqual(shaping(schema)(value), value, JSON.stringify(schema))
  assert.deepEqual(shaping(object({ a: list(object({ b: int() })) }))({ a: [{ b: 1, c: 2 }], d: 3 }), { a: [{ b: 1 }] })
})
