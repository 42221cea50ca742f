import assert from 'node:assert/strict'
import { test } from 'node:test'
import { exactJson, isExact } from '../../src/model/exact.ts'
import { limits } from '../../src/model/job.ts'
import { toJson } from '../../src/model/json.ts'

const nested = (depth: number) => `${'['.repeat(depth)}${']'.repeat(depth)}`

test('a JSON text is exact only if nothing of it would be refused or changed', () => {
  const texts = [
    ...['{}', '[]', '{"a":[1,-2.5,true,null,"x"]}', '{"0":0,"1":{"__proto__":{"toJSON":1}}}', '["1e400","12345678901234567890"]'], // biome-ignore format: a list
    ...['[" \\\\" ,"\\"", "]]]]{{{{"]', '["é漢\\ud83d\\ude00"]', nested(limits.depth), nested(limits.depth + 1)],
    ...['[1e400]', '[-1E400]', '[9007199254740993]', '[12345678901234567890]', '{"a":{"b":1e5}}', '[123456789012345]'],
    ...[`["${'['.repeat(limits.depth + 5)}"]`, `{"a":"\\\\","b":${nested(limits.depth)}}`],
  ]
  const exact = texts.filter(isExact)
  assert.equal(exact.length, 10, exact.map((text) => text.slice(0, 40)).join('\n'))
  for (const text of exact)
    assert.equal(exactJson('payload', JSON.parse(text)), toJson('payload', JSON.parse(text)), text)
  const others = texts.filter((text) => !isExact(text))
  for (const text of others.filter((text) => !/1e5/.test(text)))
    assert.throws(() => toJson('payload', JSON.parse(text)), { code: 'INVALID_PAYLOAD' }, text.slice(0, 40))
})

test('what is exact may still be too large', () => {
  assert.throws(() => exactJson('payload', ['x'.repeat(limits.payloadBytes)]), { code: 'PAYLOAD_TOO_LARGE' })
  assert.throws(() => exactJson('result', ['é'.repeat(limits.resultBytes / 2)]), { code: 'RESULT_TOO_LARGE' })
})
