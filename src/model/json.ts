import { GopherQueueError, isQueueError } from './errors.ts'
import { limits } from './job.ts'

// What is stored of a value: JSON that gives it back as it was meant, or a refusal that says where it would not.

export type Kind = 'payload' | 'result' | 'checkpoint'
type Path = (string | number)[]

const bounds = {
  checkpoint: ['PAYLOAD_TOO_LARGE', limits.checkpointBytes],
  payload: ['PAYLOAD_TOO_LARGE', limits.payloadBytes],
  result: ['RESULT_TOO_LARGE', limits.resultBytes],
} as const

/** A value as it is stored. */
export interface Kept {
  json: string
  /** JSON gives back something else than was handed in, such as a text for a Date: a schema has to see that too. */
  altered: boolean
}

/**
 * JSON text of a payload, result or checkpoint; undefined becomes null. `place` says which of several it is. Throws
 * INVALID_PAYLOAD with the path in its `details`, PAYLOAD_TOO_LARGE or RESULT_TOO_LARGE.
 */
export function toJson(kind: Kind, value: unknown, place = ''): string {
  return kept(kind, value, place).json
}

/** As `toJson`, and whether JSON changes the value. */
export function kept(kind: Kind, value: unknown, place = ''): Kept {
  if (value === undefined || value === null) return { json: 'null', altered: false } // what most handlers return
  const what = `${kind}${place}`
  const [code, most] = bounds[kind]
  const walk = new Walk(what, most, code)
  let json: string
  try {
    walk.look(value, '')
    json = value === undefined ? 'null' : (JSON.stringify(value) ?? 'null')
  } catch (cause) {
    if (isQueueError(cause)) throw cause
    throw walk.refuse(`to look at it throws ${words(cause)}`, cause) // a getter or a toJSON
  }
  mustFit(kind, json, place)
  return { json, altered: walk.altered }
}

/** Throws PAYLOAD_TOO_LARGE or RESULT_TOO_LARGE. */
export function mustFit(kind: Kind, json: string, place = ''): void {
  const [code, most] = bounds[kind]
  if (json.length * 3 > most && Buffer.byteLength(json) > most)
    throw new GopherQueueError(
      code,
      `The ${kind}${place} has ${Buffer.byteLength(json)} bytes of JSON; at most ${most} are taken. Keep large things elsewhere and pass their name.${fate(kind)}`,
    )
}

/** Digits and exponents that can make a number which a double does not hold: without them there is nothing to look for. */
export const mayBeLarge = /\d{16}|\d[eE]/

/** The value of a stored JSON text. Throws INVALID_PAYLOAD when plain SQL has put a number there that no double holds. */
export function fromJson(kind: Kind, json: string): unknown {
  const value: unknown = JSON.parse(json)
  if (mayBeLarge.test(json)) new Walk(kind).look(value, '')
  return value
}

function words(thrown: unknown): string {
  try {
    return String(thrown)
  } catch {
    return 'what cannot be told'
  }
}

/** Of whose own members JSON makes something else than they are: the name that an object gives itself, in any realm. */
const lossy = /^\[object (Map|Set|WeakMap|WeakSet|WeakRef|Promise|RegExp|Error|DOMException|(Shared)?ArrayBuffer|DataView|\w+Array|Generator|AsyncGenerator)\]$/ // biome-ignore format: long

/** Of how many elements, 8 more for each array, the arrays of a value are asked for further members: some 10 us. */
const mostListed = 256

/** Goes through a value as JSON.stringify does, and throws at the first thing that would be lost. */
/** Of https://github.com/tc39/proposal-json-parse-with-source, which TypeScript's library lacks. */
const isRaw = (value: object): boolean =>
  (JSON as { isRawJSON?: (value: object) => boolean }).isRawJSON?.(value) ?? false

class Walk {
  altered = false
  readonly path: Path = []
  readonly #within: object[] = []
  readonly #what: string
  readonly #verb: 'stored as JSON' | 'read'
  readonly #most: number
  readonly #code: 'PAYLOAD_TOO_LARGE' | 'RESULT_TOO_LARGE'
  #seen = 0
  #listable: number

  constructor(what: string, most?: number, code: 'PAYLOAD_TOO_LARGE' | 'RESULT_TOO_LARGE' = 'PAYLOAD_TOO_LARGE') {
    this.#what = what
    this.#verb = most === undefined ? 'read' : 'stored as JSON'
    this.#most = most ?? Number.POSITIVE_INFINITY
    this.#code = code
    this.#listable = most === undefined ? 0 : mostListed // JSON.parse gives an array nothing but elements
  }

  look(value: unknown, key: string | number): void {
    switch (typeof value) {
      case 'string':
      case 'boolean':
        return
      case 'number':
        this.#number(value)
        return
      case 'undefined':
        if (this.path.length > 0) throw this.refuse('it is undefined, which an array in JSON does not have: use null')
        return
      case 'object':
        if (value !== null) this.#object(value, key)
        return
      case 'bigint':
        if ('toJSON' in BigInt.prototype) {
          this.#asSaid(value as never, key)
          return
        }
        throw this.refuse(`it is the bigint ${short(value)}, which JSON does not have: pass it as a string`)
      default:
        throw this.refuse(`it is a ${typeof value}, which JSON does not have`)
    }
  }

  #number(value: number): void {
    if (Number.isFinite(value) && (!Number.isInteger(value) || Number.isSafeInteger(value))) {
      if (Object.is(value, -0)) this.altered = true
      return
    }
    const why = Number.isNaN(value)
      ? 'it is NaN, which JSON does not have'
      : Number.isFinite(value)
        ? `it is an integer beyond ±(2^53 - 1), near ${value}, whose digits a double does not keep: pass it as a string`
        : `it is ${value}, or a number too large for a double: pass it as a string`
    throw this.refuse(why)
  }

  /** `said`: its toJSON has spoken. JSON.stringify asks nobody twice. */
  #object(value: object, key: string | number, said = false): void {
    if (!said && typeof (value as { toJSON?: unknown }).toJSON === 'function') {
      this.#asSaid(value as never, key)
      return
    }
    const isArray = Array.isArray(value)
    if (!isArray && Object.getPrototypeOf(value) !== Object.prototype && this.#isBoxed(value, key)) return
    this.#enter(value)
    if (isArray) {
      this.#mustBeElements(value)
      for (let i = 0; i < value.length; i++) {
        this.path.push(i)
        this.#member(value[i], i)
      }
    } else {
      const names = Object.keys(value)
      this.#mustHaveAll(value, names.length)
      for (const name of names) {
        this.path.push(name) // before it is read: a getter that throws is refused with its path
        const member: unknown = (value as Record<string, unknown>)[name]
        if (member !== undefined) this.#member(member, name)
        else {
          this.altered = true
          this.path.pop()
        }
      }
    }
    this.#within.pop()
  }

  /** Of an array, JSON keeps the elements alone. `mostListed` bounds the cost: to list the members makes a text of each index. */
  #mustBeElements(value: unknown[]): void {
    const cost = 8 + value.length
    if (cost > this.#listable) return
    this.#listable -= cost
    const names = Object.keys(value)
    if (names.length > value.length) {
      this.path.push(names[value.length]!) // indexes come first
      throw this.refuse('it is a member of an array, of which JSON keeps the elements alone: put both into an object')
    }
    this.#mustHaveNoSymbols(value)
  }

  #mustHaveNoSymbols(value: object): void {
    for (const symbol of Object.getOwnPropertySymbols(value))
      if (Object.prototype.propertyIsEnumerable.call(value, symbol))
        throw this.refuse(`it has a member ${String(symbol)}, and JSON keeps no symbols`)
  }

  /** JSON keeps own enumerable members with text names: private fields, getters of a class and symbols would go unheard. */
  #mustHaveAll(value: object, names: number): void {
    this.#mustHaveNoSymbols(value)
    if (names > 0) return
    const prototype: unknown = Object.getPrototypeOf(value)
    // Plain in any realm: made by a literal, or of null.
    if (prototype === null || prototype === Object.prototype || Object.getPrototypeOf(prototype) === null) return
    throw this.refuse(
      `it is ${nameOf(value)} without a toJSON or enumerable fields of its own: JSON keeps nothing of it`,
    )
  }

  /** Of a value whose key is the last of the path. */
  #member(value: unknown, key: string | number): void {
    // Each member takes two bytes at least: what has more cannot fit, and a graph that shares its parts has no end.
    if (++this.#seen * 2 > this.#most)
      throw new GopherQueueError(this.#code, `The ${this.#what} has more than ${this.#seen} members; at most ${this.#most} bytes of JSON are taken. Keep large things elsewhere and pass their name.${fate(this.#what)}`) // biome-ignore format: long
    this.look(value, key)
    this.path.pop()
  }

  #enter(value: object): void {
    if (this.#within.push(value) <= limits.depth) return
    const cyclic = new Set(this.#within).size < this.#within.length
    const first = cyclic ? this.#within.findIndex((one, i) => this.#within.indexOf(one) < i) : 0
    this.path.length = cyclic ? first : 8 // where to look: all of it has a thousand
    throw this.refuse(cyclic ? 'it contains itself' : `it is nested deeper than ${limits.depth}, which SQLite does not read as JSON`) // biome-ignore format: long
  }

  /** What it says itself that JSON is to have of it: a Date its instant, a URL its text. */
  #asSaid(value: { toJSON(key: string): unknown }, key: string | number): void {
    this.altered = true
    const said = value.toJSON(String(key))
    if (said === null && Object.prototype.toString.call(value) === '[object Date]')
      throw this.refuse('it is a Date that is none (Invalid Date)')
    if (said === undefined && this.path.length > 0)
      throw this.refuse('its toJSON gives undefined, which JSON does not have: let it give null')
    if (typeof said === 'object' && said !== null) this.#object(said, key, true)
    else this.look(said, key)
  }

  /** True for a boxed number, text or boolean, which JSON takes out of its box. Throws for what JSON empties. */
  #isBoxed(value: object, key: string | number): boolean {
    this.altered = true // a class: JSON keeps its members and not what they can do
    const tag = Object.prototype.toString.call(value)
    if (isRaw(value))
      throw this.refuse('it is a JSON.rawJSON, whose text nobody has looked at: pass the value or a string')
    if (lossy.test(tag)) throw this.refuse(`it is a ${tag.slice(8, -1)}, of which JSON keeps nothing or something else`)
    if (!/^\[object (Number|String|Boolean|BigInt)\]$/.test(tag)) return false
    this.look((value as { valueOf(): unknown }).valueOf(), key)
    return true
  }

  refuse(why: string, cause?: unknown): GopherQueueError {
    const at = this.path.length > 0 ? `${this.path.join('.')}: ` : ''
    return new GopherQueueError(
      'INVALID_PAYLOAD',
      `The ${this.#what} cannot be ${this.#verb} as it was meant: ${at}${why}.${this.#verb === 'read' ? '' : fate(this.#what)}`,
      { details: { issues: [{ message: why, path: [...this.path] }] }, cause },
    )
  }
}

/** The kind of an object, for a sentence: its class, or the name that it gives itself. */
function nameOf(value: object): string {
  const tag = Object.prototype.toString.call(value).slice(8, -1)
  const name: unknown = tag === 'Object' ? value.constructor?.name : tag
  return typeof name === 'string' && name !== '' && name !== 'Object' ? `of class ${name}` : 'of a class'
}

/** What became of it: of a result, whoever handed it in says more. */
const fate = (what: string): string => (what === 'result' ? '' : ' Nothing was stored.')

const short = (value: bigint): string => {
  const digits = String(value)
  return digits.length > 40 ? `${digits.slice(0, 20)}…` : digits
}

/**
 * One text for each JSON value, however it was written: members in order, no white space, numbers by their value. Of
 * members with the same name the last one counts, as for JSON.parse.
 */
export function canonical(value: unknown): string {
  if (typeof value === 'number') return Number.isFinite(value) ? String(value + 0) : String(value) // -0 is 0
  if (typeof value !== 'object' || value === null) return JSON.stringify(value) ?? 'null'
  if (Array.isArray(value)) return `[${value.map(canonical).join(',')}]`
  const members = value as Record<string, unknown>
  const names = Object.keys(members).filter((name) => members[name] !== undefined)
  return `{${names
    .sort()
    .map((name) => `${JSON.stringify(name)}:${canonical(members[name])}`)
    .join(',')}}`
}

/** As `canonical`, of a JSON text; of a text that is none, which only damage can have left, the text itself. */
export function canonicalText(json: string): string {
  try {
    return canonical(JSON.parse(json))
  } catch {
    return json
  }
}
