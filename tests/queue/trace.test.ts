import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { DatabaseSync } from 'node:sqlite'
import { beforeEach, test } from 'node:test'
import { type Span, SpanKind, SpanStatusCode, trace } from '@opentelemetry/api'
import type { ReadableSpan } from '@opentelemetry/sdk-trace'
import { GopherQueue, PermanentError } from '../../src/index.ts'
import { temporaryFolder } from '../support/folder.ts'
import { exporter } from './otel.ts'
import { next, virtualQueue } from './support.ts'

const tracer = trace.getTracer('app')
const inSpan = <T>(name: string, work: (span: Span) => Promise<T>) =>
  tracer.startActiveSpan(name, (span) => work(span).finally(() => span.end()))

beforeEach(() => exporter.reset())

/** The spans that have ended, by name; those of one name in their order. */
function ended(...names: string[]): ReadableSpan[] {
  const spans = exporter.getFinishedSpans()
  return names.map((name) => {
    const at = spans.findIndex((span) => span.name === name)
    assert.notEqual(at, -1, `${name} among ${spans.map((span) => span.name)}`)
    return spans.splice(at, 1)[0]!
  })
}

const isChild = (child: ReadableSpan, parent: ReadableSpan) => {
  assert.equal(child.spanContext().traceId, parent.spanContext().traceId)
  assert.equal(child.parentSpanContext?.spanId, parent.spanContext().spanId)
}

test('a job runs in the trace of its submitter, and what the handler does hangs below it', async () => {
  const { queue } = virtualQueue()
  await using _ = queue
  const task = queue.define('email', { queue: 'mail' }, () => inSpan('deliver', async () => 'sent'))
  const { id } = await inSpan('request', () => task.submit({ to: 'ada' }))
  const succeeded = next(queue, 'succeeded')
  queue.work()
  await succeeded
  const [request, publish, process, deliver] = ended('request', 'publish email', 'process email', 'deliver')
  isChild(publish!, request!)
  isChild(process!, publish!)
  isChild(deliver!, process!)
  assert.deepEqual([publish!.kind, process!.kind], [SpanKind.PRODUCER, SpanKind.CONSUMER])
  const common = {
    'messaging.system': 'gopherqueue',
    'messaging.destination.name': 'mail',
    'messaging.message.id': String(id),
    'gopherqueue.job.type': 'email',
  }
  assert.deepEqual(publish!.attributes, {
    ...common,
    'messaging.operation.name': 'publish',
    'messaging.operation.type': 'send',
  })
  assert.deepEqual(process!.attributes, {
    ...common,
    'messaging.operation.name': 'process',
    'messaging.operation.type': 'process',
    'gopherqueue.job.attempt': 1,
    'gopherqueue.job.outcome': 'succeeded',
  })
  assert.equal(process!.status.code, SpanStatusCode.UNSET)
})

test('the trace goes from one process to another', async () => {
  using folder = temporaryFolder()
  const file = folder.file('jobs.db')
  const script = `
    import { trace } from '@opentelemetry/api'
    import { exporter } from ${JSON.stringify(new URL('./otel.ts', import.meta.url))}
    import { GopherQueue } from ${JSON.stringify(new URL('../../src/index.ts', import.meta.url))}
    const queue = await GopherQueue.open(${JSON.stringify(file)})
    await trace.getTracer('app').startActiveSpan('request', () => queue.submit('email', null))
    await queue.close()
    console.log(JSON.stringify(exporter.getFinishedSpans()[0].spanContext()))`
  const printed = execFileSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' })
  const published = JSON.parse(printed) as { traceId: string; spanId: string }
  await using queue = await GopherQueue.open(file)
  const task = queue.define('email', {}, () => trace.getActiveSpan()!.spanContext().traceId)
  const worker = queue.work()
  assert.equal(await task.wait(1), published.traceId)
  await worker.stop()
  assert.equal(ended('process email')[0]!.parentSpanContext?.spanId, published.spanId)
})

test('a handler in a thread is in its trace too', async () => {
  await using queue = await GopherQueue.open(':memory:')
  const task = queue.define<null, { traceId: string; spanId: string }>('compute', {}, new URL('./otel.thread.ts', import.meta.url)) // biome-ignore format: one line
  const { id } = await task.submit(null)
  const worker = queue.work()
  const { traceId, spanId } = await task.wait(id)
  await worker.stop()
  const [publish, process] = ended('publish compute', 'process compute')
  assert.equal(traceId, publish!.spanContext().traceId)
  assert.equal(spanId, process!.spanContext().spanId)
})

test('a bulk has one span, and each of its jobs hangs below it; also with keys, and in the app’s own transaction', async () => {
  using folder = temporaryFolder()
  await using queue = await GopherQueue.open(folder.file('jobs.db'))
  const task = queue.define<number>('count', {}, () => undefined)
  await task.submitMany([1, 2])
  await task.submitMany([3, 4], (n) => ({ idempotencyKey: `${n}` }))
  const db = new DatabaseSync(folder.file('jobs.db'))
  db.exec('PRAGMA synchronous = FULL; PRAGMA fullfsync = 1')
  task.submitWith(db, 5)
  db.close()
  const both = await Promise.all([inSpan('a', () => task.submit(6)), inSpan('b', () => task.submit(7))]) // one transaction
  const worker = queue.work()
  for (let id = 1; id <= both[1].id; id++) await task.wait(id)
  await worker.stop()
  const published = ended(...Array<string>(5).fill('publish count'))
  const processed = ended(...Array<string>(7).fill('process count'))
  const parents = processed.map(({ parentSpanContext }) =>
    published.findIndex((span) => span.spanContext().spanId === parentSpanContext?.spanId),
  )
  assert.deepEqual(parents.sort(), [0, 0, 1, 1, 2, 3, 4])
  assert.deepEqual(
    published.map(({ attributes }) => attributes['messaging.batch.message_count']),
    [2, 2, undefined, undefined, undefined],
  )
})

test('failures are recorded: of attempts, of hung ones, and of submissions', async () => {
  const { queue, store } = virtualQueue()
  await using _ = queue
  await queue.configure('default', { maxDepth: 1 })
  const task = queue.define<string>('fails', { maxAttempts: 1, timeout: '1s' }, ({ payload }) => {
    if (payload === 'hangs') return new Promise(() => undefined)
    throw new PermanentError('broken')
  })
  await task.submit('throws')
  await assert.rejects(task.submit('again'), { code: 'QUEUE_FULL' })
  const died = next(queue, 'dead')
  const worker = queue.work()
  await died
  const started = next(queue, 'started')
  await task.submit('hangs')
  await started
  const hung = next(queue, 'dead')
  store.advance(1000)
  await hung
  await worker.stop()

  const names = ['publish fails', 'publish fails', 'process fails', 'process fails']
  const [stored, refused, thrown, late] = ended(...names)
  assert.deepEqual([stored!.status.code, refused!.status.code], [SpanStatusCode.UNSET, SpanStatusCode.ERROR])
  assert.equal(refused!.attributes['error.type'], 'QUEUE_FULL')
  assert.deepEqual(thrown!.status, { code: SpanStatusCode.ERROR, message: 'broken' })
  assert.equal(thrown!.attributes['error.type'], 'PermanentError')
  assert.equal(thrown!.attributes['gopherqueue.job.outcome'], 'permanent')
  assert.equal(thrown!.events[0]?.attributes?.['exception.message'], 'broken')
  assert.equal(late!.attributes['error.type'], 'Timeout')
})

test('a retry is another span of the same trace', async () => {
  const { queue, store } = virtualQueue()
  await using _ = queue
  const task = queue.define('flaky', {}, ({ attempt }) => {
    if (attempt === 1) throw new Error('once')
  })
  const retrying = next(queue, 'retrying')
  const { id } = await task.submit(null)
  queue.work()
  await retrying
  store.advance(5000)
  await task.wait(id)
  const [publish, first, second] = ended('publish flaky', 'process flaky', 'process flaky')
  for (const attempt of [first!, second!]) isChild(attempt, publish!)
  assert.equal(second!.attributes['gopherqueue.job.attempt'], 2)
})

test('a job without a context starts a trace of its own, wherever its worker was made', async () => {
  const { queue, store } = virtualQueue()
  await using _ = queue
  const task = queue.define('tidy', {}, () => undefined)
  await task.schedule('each minute', '* * * * *', null)
  await inSpan('start', async () => queue.work())
  const succeeded = next(queue, 'succeeded')
  store.advance(60_000)
  await succeeded
  assert.equal(ended('process tidy')[0]!.parentSpanContext, undefined)
})

/** An SDK of which one function throws; '...after' when its work is done. */
function faulty(fault: string): { sdk: object; thrown: () => number } {
  let thrown = 0
  const does =
    (name: string, work: (...args: never[]) => unknown = () => undefined) =>
    (...args: never[]) => {
      const fails = (when: string) => {
        if (when !== fault) return
        thrown++
        throw new Error(`${fault} is broken`)
      }
      fails(name)
      const value = work(...args)
      fails(`${name} after`)
      return value
    }
  const span = Object.fromEntries(
    ['setAttribute', 'recordException', 'setStatus', 'end'].map((name) => [name, does(name)]),
  )
  const startActiveSpan = does('startActiveSpan', (_name, _options, _context, work: (started: object) => unknown) =>
    work(span),
  )
  const sdk = {
    context: { active: does('active', () => ({})), with: does('with', (_, work: () => unknown) => work()) },
    propagation: {
      inject: does('inject', (_, carrier: object, { set }: { set: (...args: unknown[]) => void }) =>
        set(carrier, 'traceparent', 'x'),
      ),
      extract: does('extract', () => ({})),
    },
    trace: { getTracer: does('getTracer', () => ({ startActiveSpan })) },
  }
  return { sdk, thrown: () => thrown }
}

const faults = ['active', 'inject', 'extract', 'getTracer', 'startActiveSpan', 'startActiveSpan after']
for (const fault of [...faults, 'setAttribute', 'recordException', 'setStatus', 'end'])
  test(`no job is harmed by tracing that throws: ${fault}`, async (t) => {
    const globals = globalThis as Record<symbol, object>
    const registry = Symbol.for('opentelemetry.js.api.1')
    const sound = globals[registry]!
    const { sdk, thrown } = faulty(fault)
    globals[registry] = sdk
    t.after(() => Object.assign(globals, { [registry]: sound }))
    t.mock.method(process, 'emitWarning', () => undefined)
    const { queue } = virtualQueue()
    await using _ = queue
    const runs: number[] = []
    const task = queue.define<string>('email', { maxAttempts: 1 }, ({ id, payload }) => {
      runs.push(id)
      if (payload === 'bad') throw new Error('broken')
      return payload
    })
    await queue.configure('default', { maxDepth: 2 })
    const [{ id: good }, { id: bad }] = [await task.submit('good'), await task.submit('bad')]
    await assert.rejects(task.submit('one too many'), { code: 'QUEUE_FULL' })
    queue.work()
    assert.equal(await task.wait(good), 'good')
    await assert.rejects(task.wait(bad), { code: 'JOB_FAILED', message: /broken/ })
    assert.deepEqual(runs, [good, bad])
    assert.equal((await queue.stats()).queues[0]!.counts.succeeded, 1)
    assert.ok(thrown() > 0)
  })

test('what is in the column of the trace harms no job', async () => {
  using folder = temporaryFolder()
  await using queue = await GopherQueue.open(folder.file('jobs.db'))
  const task = queue.define('email', { maxAttempts: 1 }, () => 'sent')
  const db = new DatabaseSync(folder.file('jobs.db'))
  for (const trace of ['null', '17', '[{}]', '{"traceparent":{"a":1}}'])
    db.prepare(`INSERT INTO gq_jobs (type, payload, max_attempts, trace) VALUES ('email', '1', 1, ?)`).run(trace)
  db.close()
  const worker = queue.work()
  for (const id of [1, 2, 3, 4]) assert.equal(await task.wait(id), 'sent')
  await worker.stop()
})
