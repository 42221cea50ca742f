import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Backoff } from '../../src/model/backoff.ts'
import { checkId, checkKey, checkName, type JobOptions, jobSpec, limits } from '../../src/model/job.ts'
import { toJson } from '../../src/model/json.ts'

test('the defaults are those of the contract', () => {
  assert.deepEqual(jobSpec('email', {}), {
    queue: 'default',
    type: 'email',
    priority: 2,
    maxAttempts: 12,
    backoff: null, // the default one
    timeout: 900_000,
    onTimeout: 'retry',
    visibilityTimeout: 30_000,
    delay: 0,
    runAt: null,
    deadline: null,
    deadlineIn: null,
    idempotencyWindow: 86_400_000,
    uniqueKey: null,
    concurrencyKey: null,
  })
})

test('every option is taken', () => {
  const options: JobOptions = {
    queue: 'mail',
    priority: 'critical',
    maxAttempts: 3,
    backoff: { kind: 'constant', delay: '1s' },
    timeout: '30s',
    onTimeout: 'dead',
    visibilityTimeout: '10s',
    runAt: new Date(5000),
    deadline: 9000,
    idempotencyKey: 'k',
    idempotencyWindow: '1h',
    uniqueKey: 'mail-17',
    concurrencyKey: 'customer-17',
  }
  assert.deepEqual(jobSpec('email', options), {
    queue: 'mail',
    type: 'email',
    priority: 0,
    maxAttempts: 3,
    backoff: { kind: 'constant', delay: 1000, max: 3_600_000, jitter: 0 },
    timeout: 30_000,
    onTimeout: 'dead',
    visibilityTimeout: 10_000,
    delay: 0,
    runAt: 5000,
    deadline: 9000,
    deadlineIn: null,
    idempotencyWindow: 3_600_000,
    uniqueKey: 'mail-17',
    concurrencyKey: 'customer-17',
  })
})

test('a deadline is an instant, or as a string a time from now', () => {
  const { deadline, deadlineIn } = jobSpec('t', { deadline: '1m' })
  assert.deepEqual([deadline, deadlineIn], [null, 60_000])
  assert.equal(jobSpec('t', { deadline: new Date(7) }).deadline, 7)
})

test('each bad option is refused, by name', () => {
  const refused: Record<keyof JobOptions, unknown[]> = {
    queue: ['', 'x'.repeat(129), 'a\nb', 'a\0b', 5],
    priority: ['urgent', 2, '', 'Normal', 'toString'],
    maxAttempts: [0, -1, 1001, 1.5, '3', Number.NaN, Number.POSITIVE_INFINITY],
    backoff: [null, 'constant', 5, { kind: 'never' }],
    timeout: [0, 0.4, -1, '0s', 'long', Number.POSITIVE_INFINITY],
    onTimeout: ['retry ', true, 'kill'],
    visibilityTimeout: [0, 999, '0.9s', -5],
    delay: [-1, 'soon', Number.NaN, '101y'],
    runAt: [8_640_000_000_000_001, -1, 1.5, '2030-01-01', null, new Date(Number.NaN), Number.POSITIVE_INFINITY],
    deadline: [8_640_000_000_000_001, -1, 1.5, '2030-01-01', null, new Date(Number.NaN)],
    idempotencyKey: [],
    idempotencyWindow: [-1, 'for ever'],
    uniqueKey: ['', 'x'.repeat(257), 5, null],
    concurrencyKey: ['', 'x'.repeat(257), 5, null],
  }
  for (const [option, values] of Object.entries(refused))
    for (const value of values)
      assert.throws(
        () => jobSpec('t', { [option]: value }),
        { code: 'INVALID_ARGUMENT', message: /Nothing was changed\.$/ },
        `${option}: ${String(value)}`,
      )
})

test('an instant given as a delay is refused, and runAt is named: the job would be gone for 56 years', () => {
  const at = Date.UTC(2026, 8)
  const kinds = [
    { kind: 'constant', delay: at },
    { kind: 'table', delays: ['1s', at] },
  ] as const
  for (const options of [{ delay: at }, ...kinds.map((backoff) => ({ backoff: backoff as Backoff }))])
    assert.throws(() => jobSpec('t', options), { code: 'INVALID_ARGUMENT', message: /looks like an instant.* runAt/ })
  assert.equal(jobSpec('t', { delay: '400d' }).delay, 400 * 86_400_000)
})

test('a key that is no text is told apart from one of a wrong length', () => {
  assert.throws(() => checkKey(17 as never), {
    message: /^idempotencyKey must be a text of 1 to 256 characters; got 17\./,
  })
  assert.throws(() => checkKey('x'.repeat(257)), { message: /characters; got 257 of them\./ })
})

test('delay and runAt exclude each other', () => {
  assert.throws(() => jobSpec('t', { delay: 1, runAt: 1 }), { code: 'INVALID_ARGUMENT', message: /not both/ })
})

test('an option that does not exist is refused, whatever its value', () => {
  for (const option of ['retries', 'Priority', 'type', 'payload', 'toString'])
    assert.throws(() => jobSpec('t', { [option]: undefined }), {
      code: 'INVALID_ARGUMENT',
      message: new RegExp(`'${option}'`),
    })
})

test('names have 1 to 128 characters, none of them a control character', () => {
  for (const name of ['a', 'x'.repeat(128), 'größe/ü 1', '日本']) assert.equal(checkName('type', name), name)
  for (const name of ['', 'x'.repeat(129), 'tab\t', '\u0085', '\u007f', undefined])
    assert.throws(() => checkName('type', name as string), { code: 'INVALID_ARGUMENT' })
})

test('an idempotency key has 1 to 256 characters', () => {
  for (const key of ['k', 'x'.repeat(256)]) assert.equal(checkKey(key), key)
  for (const key of ['', 'x'.repeat(257), null, 5])
    assert.throws(() => checkKey(key as string), { code: 'INVALID_ARGUMENT' })
})

test('payloads are JSON: nothing becomes null, what JSON lacks is refused', () => {
  assert.equal(toJson('payload', undefined), 'null')
  assert.equal(toJson('payload', { a: [1, 'ü'] }), '{"a":[1,"ü"]}')
  const ring: { self?: unknown } = {}
  ring.self = ring
  for (const value of [ring, 1n, () => 1, Symbol('s')])
    assert.throws(() => toJson('payload', value), { code: 'INVALID_PAYLOAD' })
})

test('payload and result are limited in bytes, not characters, to the last byte', () => {
  const quoted = (bytes: number) => 'x'.repeat(bytes - 2)
  assert.equal(toJson('payload', quoted(limits.payloadBytes)).length, limits.payloadBytes)
  assert.throws(() => toJson('payload', quoted(limits.payloadBytes + 1)), { code: 'PAYLOAD_TOO_LARGE' })
  assert.throws(() => toJson('payload', 'é'.repeat(limits.payloadBytes / 2)), { code: 'PAYLOAD_TOO_LARGE' })
  assert.throws(() => toJson('result', quoted(limits.resultBytes + 1)), { code: 'RESULT_TOO_LARGE' })
})

test('a refused value is shown so that its kind is seen', () => {
  const table: [object, string][] = [
    [{ delay: Number.POSITIVE_INFINITY }, 'Infinity'],
    [{ timeout: Number.NaN }, 'NaN'],
    [{ maxAttempts: '5' }, '"5"'],
    [{ maxAttempts: 5n }, '5n'],
    [{ priority: () => 1 }, 'a function'],
    [{ runAt: new Date(Number.NaN) }, 'Invalid Date'],
    [{ runAt: '5' }, '"5"'],
  ]
  for (const [options, shown] of table)
    assert.throws(() => jobSpec('work', options), (error: Error) => error.message.includes(`got ${shown}.`), shown) // biome-ignore format: short
  assert.throws(() => checkId(Number.NaN), /got NaN\./)
})

test('a refusal of what is too large says that nothing was stored, but for a result', () => {
  const long = 'x'.repeat(limits.payloadBytes)
  for (const large of [long, Array(limits.payloadBytes).fill(1)]) {
    assert.throws(() => toJson('payload', large), /Nothing was stored\.$/)
    assert.throws(() => toJson('checkpoint', large), /Nothing was stored\.$/)
    assert.throws(() => toJson('result', large), /pass their name\.$/)
  }
})

test('a toJSON that gives undefined is named', () => {
  for (const value of [{ a: { toJSON: () => undefined } }, [{ toJSON: () => undefined }]])
    assert.throws(() => toJson('payload', value), /(a|0): its toJSON gives undefined/)
})
