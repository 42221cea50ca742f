import assert from 'node:assert/strict'
import { test } from 'node:test'
import { runInNewContext } from 'node:vm'
import fc from 'fast-check'
import { limits } from '../../src/model/job.ts'
import { canonical, canonicalText, fromJson, kept, toJson } from '../../src/model/json.ts'

const same: [string, ...string[]][] = [
  ['1', '1.0', '1e0', '10e-1', '0.1e1', ' 1 ', '1.000000000000000000001'],
  ['0', '-0', '0.0', '-0e5', '1e-400'],
  ['1e21', '1000000000000000000000', '1E+21'],
  ['0.1', '1e-1', '0.10', '0.1000000000000000055511151231257827'],
  ['{"a":1,"b":2}', '{"b":2,"a":1}', ' {\n"b": 2.0,\t"a" :1}', '{"a":7,"b":2,"a":1}'],
  ['{"a":{"x":[],"y":{}}}', '{"a":{"y":{},"x":[ ]}}'],
  ['"é"', '"\\u00e9"', '"\\u00E9"'],
  ['"/"', '"\\/"'],
  ['{"a":1}', '{"\\u0061":1}'],
  ['"\\ud800"', '"\\uD800"'],
  ['{"__proto__":1,"a":2}', '{"a":2,"__proto__":1}'],
  ['{"10":1,"9":2}', '{"9":2,"10":1}'],
]
const apart = ['1', '"1"', 'true', 'null', '[]', '{}', '[1]', '[[1]]', '{"a":1}', '{"a":null}', '[1,2]', '[2,1]', '1.5', '-1', '"é"', '"e\\u0301"', '""', 'false', '1e400', '-1e400', '{"__proto__":1}'] // biome-ignore format: short

test('one text for each JSON value, however it was written', () => {
  for (const [first, ...others] of same)
    for (const other of others) assert.equal(canonicalText(other), canonicalText(first), `${other} is ${first}`)
  const texts = [...same.map(([first]) => first), ...apart.filter((text) => !same.some(([first]) => first === text))]
  assert.equal(new Set(texts.map(canonicalText)).size, texts.length, 'others are told apart')
  assert.equal(canonicalText('{"cut'), '{"cut', 'what damage left is itself')
})

/** A JSON value written in a random way. */
const written = (value: unknown, pick: (most: number) => number): string => {
  const space = () => ['', ' ', '\n', '\t '][pick(3)]!
  if (Array.isArray(value)) return `[${value.map((one) => space() + written(one, pick) + space()).join(',')}]`
  if (typeof value === 'object' && value !== null) {
    const members = Object.entries(value).map((member) => ({ member, at: pick(1000) }))
    const ordered = members
      .sort((a, b) => a.at - b.at)
      .map(({ member: [name, one] }) => {
        return `${space()}${written(name, pick)}${space()}:${written(one, pick)}`
      })
    return `{${ordered.join(',')}}`
  }
  if (typeof value === 'number') return pick(1) ? value.toExponential() : JSON.stringify(value)
  if (typeof value !== 'string') return JSON.stringify(value)
  const units = Array.from({ length: value.length }, (_, i) => value.charCodeAt(i))
  return pick(1)
    ? JSON.stringify(value)
    : `"${units.map((unit) => `\\u${unit.toString(16).padStart(4, '0')}`).join('')}"`
}

test('values are the same exactly when their canonical texts are', () => {
  fc.assert(
    fc.property(fc.jsonValue(), fc.jsonValue(), fc.infiniteStream(fc.nat(1000)), (one, other, random) => {
      const pick = (most: number) => Number(random.next().value) % (most + 1)
      assert.equal(canonicalText(written(one, pick)), canonical(one))
      assert.equal(canonicalText(canonical(one)), canonical(one))
      const equal = JSON.stringify(JSON.parse(canonical(one))) === JSON.stringify(JSON.parse(canonical(other)))
      assert.equal(canonical(one) === canonical(other), equal)
    }),
  )
})

const nested = (levels: number) => JSON.parse('['.repeat(levels) + ']'.repeat(levels))

test('what is as deep and as large as is taken is compared and checked all the same', () => {
  const deep = nested(limits.depth)
  assert.equal(canonical(deep), toJson('payload', deep))
  const wide = Object.fromEntries(Array.from({ length: 70_000 }, (_, i) => [`k${i}`, i]))
  assert.equal(canonicalText(toJson('payload', wide)), canonical(wide))
  for (const levels of [limits.depth + 1, 100_000])
    assert.throws(() => toJson('payload', nested(levels)), {
      code: 'INVALID_PAYLOAD',
      message: /: 0\.0\.0\.0\.0\.0\.0\.0: it is nested deeper than 1000/,
    })
})

const lost: [unknown, (string | number)[], RegExp][] = [
  [2 ** 53, [], /integer beyond/],
  [{ a: [1, { b: -(2 ** 53) }] }, ['a', 1, 'b'], /integer beyond/],
  [{ id: 1e300 }, ['id'], /integer beyond/],
  [[Number.NaN], [0], /NaN/],
  [{ a: Number.NEGATIVE_INFINITY }, ['a'], /too large/],
  [{ a: 1n }, ['a'], /bigint 1,/],
  [{ a: [1, undefined] }, ['a', 1], /undefined/],
  // biome-ignore lint/suspicious/noSparseArray: that is what is tested
  [[1, , 2], [1], /undefined/],
  [{ a: () => 1 }, ['a'], /function/],
  [Symbol('s'), [], /symbol/],
  [{ a: { b: Symbol('s') } }, ['a', 'b'], /symbol/],
  [{ a: new Map([[1, 2]]) }, ['a'], /Map/],
  [new Set([1]), [], /Set/],
  [{ a: runInNewContext('new Map()') }, ['a'], /Map/],
  [[Promise.resolve(1)], [0], /Promise/],
  [{ a: /x/ }, ['a'], /RegExp/],
  [{ a: new TypeError('x') }, ['a'], /Error/],
  [{ a: new Uint8Array(2) }, ['a'], /Uint8Array/],
  [{ a: new Date(Number.NaN) }, ['a'], /Invalid Date/],
  [{ a: { toJSON: () => [2 ** 60] } }, ['a', 0], /integer beyond/],
  [{ a: Object(2 ** 60) }, ['a'], /integer beyond/],
  [{ get a() { throw new Error('boom') } }, ['a'], /boom/], // biome-ignore format: short
  [{ b: [1, { get a() { throw new Error('boom') } }] }, ['b', 1, 'a'], /boom/], // biome-ignore format: short
  [Object.assign([1], { total: 1 }), ['total'], /keeps the elements alone: put both into an object/],
  [{ rows: [[1], Object.assign([], { total: undefined })] }, ['rows', 1, 'total'], /keeps the elements alone/],
  [{ rows: Object.assign(Array(248).fill(0), { '01': 1 }) }, ['rows', '01'], /keeps the elements alone/],
  [['ab'.match(/a/)], [0, 'index'], /keeps the elements alone/],
  [{ a: Object.assign([1], { [Symbol('x')]: 1 }) }, ['a'], /member Symbol\(x\)/],
  [{ a: Array(2) }, ['a', 0], /it is undefined/],
]

class Money {
  #cents = 5
  get cents(): number {
    return this.#cents
  }
}

// Objects that JSON would keep nothing of, or not all: by what they are, not by a list of names.
const emptied: [unknown, RegExp][] = [
  ...[new Headers({ a: 'b' }), new URLSearchParams('a=b'), new FormData(), new Blob(['x']), new Response('x')],
  ...[new Request('http://a/'), new Intl.NumberFormat(), [1].values(), new Event('x'), new AbortController().signal],
  ...[new (class extends EventTarget {})(), Object.create(Error.prototype), Object.create({ a: 1 })],
].map((value): [unknown, RegExp] => [value, /JSON keeps no/])
emptied.push([new Money(), /of class Money without a toJSON/])
emptied.push([new URLSearchParams('a=b'), /of class URLSearchParams/])
emptied.push([{ [Symbol('x')]: 1 }, /member Symbol\(x\)/])
emptied.push([{ a: 1, [Symbol('x')]: 1 }, /member Symbol\(x\)/])

test('an object that JSON would empty is refused whatever its class, as payload, checkpoint and result', () => {
  for (const kind of ['payload', 'checkpoint', 'result'] as const)
    for (const [value, why] of emptied) {
      assert.throws(() => toJson(kind, value), { code: 'INVALID_PAYLOAD', message: why })
      assert.throws(() => toJson(kind, { query: [value] }), { code: 'INVALID_PAYLOAD', message: /query\.0: it / })
    }
})

class Point {
  x = 1
  readonly #y = 2
  get y(): number {
    return this.#y
  }
}
class Said extends Money {
  toJSON(): unknown {
    return { cents: this.cents }
  }
}

test('plain empty objects, and classes that JSON keeps something of, are stored', () => {
  const hidden = Object.defineProperty({ a: 1 }, Symbol('hidden'), { value: 1 })
  const stored: [unknown, string][] = [
    [{}, '{}'],
    [Object.create(null), '{}'],
    [runInNewContext('({})'), '{}'],
    [new Point(), '{"x":1}'],
    [new Said(), '{"cents":5}'],
    [hidden, '{"a":1}'],
    [{ a: undefined }, '{}'],
    [Object.assign(Object.create({}), { a: {} }), '{"a":{}}'],
  ]
  for (const [value, json] of stored) assert.equal(toJson('payload', value), json)
})

test('what JSON does not keep is refused, with the path', () => {
  for (const [value, path, why] of lost)
    assert.throws(
      () => toJson('payload', value),
      (error: { code: string; message: string; details: { issues: { path: unknown }[] } }) => {
        assert.equal(error.code, 'INVALID_PAYLOAD')
        assert.match(error.message, why)
        if (path.length > 0) assert.ok(error.message.includes(`${path.join('.')}: `), error.message)
        assert.deepEqual(error.details.issues[0]!.path, path)
        return true
      },
    )
  const ring = { a: { b: [0] as unknown[] } }
  ring.a.b.push(ring)
  assert.throws(() => toJson('payload', ring), { code: 'INVALID_PAYLOAD', message: /a\.b\.1: it contains itself/ })
  let shared: unknown[] = [1]
  for (let i = 0; i < 100; i++) shared = [shared, shared]
  assert.throws(() => toJson('payload', shared), { code: 'PAYLOAD_TOO_LARGE' })
})

test('what JSON keeps is taken, and whether it comes back as something else is known', () => {
  class Point {
    x = 1
  }
  const taken: [unknown, string, boolean][] = [
    [undefined, 'null', false],
    [Number.MAX_SAFE_INTEGER, '9007199254740991', false],
    [[-Number.MAX_SAFE_INTEGER, 0.1, 5e-324], '[-9007199254740991,0.1,5e-324]', false],
    [{ a: 'ü', b: null, c: [true] }, '{"a":"ü","b":null,"c":[true]}', false],
    [JSON.parse('{"__proto__":{"a":1}}'), '{"__proto__":{"a":1}}', false],
    [{ a: undefined, b: 1 }, '{"b":1}', true],
    [{ at: new Date(0) }, '{"at":"1970-01-01T00:00:00.000Z"}', true],
    [new URL('http://a/b'), '"http://a/b"', true],
    [{ p: new Point() }, '{"p":{"x":1}}', true],
    [Object(5), '5', true],
    [-0, '0', true],
    [Object.defineProperty([1], 'raw', { value: 1 }), '[1]', false],
    [[[], [[2]]], '[[],[[2]]]', false],
    [Buffer.from([1]), '{"type":"Buffer","data":[1]}', true],
  ]
  for (const [value, json, altered] of taken) assert.deepEqual(kept('payload', value), { json, altered })
})

test('a value of JSON comes back from its text', () => {
  fc.assert(
    fc.property(fc.jsonValue(), (value) => {
      const large = JSON.stringify(value, (_, one) => (typeof one === 'number' && Number.isInteger(one) && !Number.isSafeInteger(one) ? '!' : one)) // biome-ignore format: short
      if (large !== JSON.stringify(value)) assert.throws(() => toJson('payload', value), { code: 'INVALID_PAYLOAD' })
      else assert.deepEqual(fromJson('payload', toJson('payload', value)), JSON.parse(JSON.stringify(value)))
    }),
  )
})

test('a text with a number that no double holds is not read as another', () => {
  const refused: [string, string][] = [
    ['9007199254740993', ''],
    ['-9007199254740992', ''],
    ['{"a":[0,9007199254740993.0]}', 'a.1: '],
    ['[1e400]', '0: '],
    ['{"a":-1E999}', 'a: '],
    ['{"a":1e16}', 'a: '],
  ]
  for (const [text, path] of refused)
    assert.throws(
      () => fromJson('payload', text),
      ({ code, message }) =>
        code === 'INVALID_PAYLOAD' && message.includes(`cannot be read as it was meant: ${path}it is`),
    )
  for (const text of ['9007199254740991', '0.30000000000000004', '1e15', '"9007199254740993"', '1.5e-400', '"1e400"'])
    assert.deepEqual(fromJson('payload', text), JSON.parse(text))
})
