import type { Handler } from './definition.ts'

// What JSON makes of a type, and which types it does not have: TypeScript refuses those, as far as it can see.

/** Values that JSON does not have. */
export type NoJson =
  | bigint
  | symbol
  | ((...given: never[]) => unknown)
  | ReadonlyMap<unknown, unknown>
  | ReadonlySet<unknown>
  | RegExp
  | ArrayBufferLike

/** The parts of a type that JSON does not have, looked for six levels deep; `never` where there are none. */
export type Lost<T, Depth extends 0[] = []> = unknown extends T
  ? never
  : T extends NoJson
    ? T
    : Depth['length'] extends 6
      ? never
      : T extends { toJSON(): unknown }
        ? never
        : T extends readonly (infer Item)[]
          ? Lost<Item, [...Depth, 0]>
          : T extends object
            ? { [Name in keyof T]-?: Lost<T[Name], [...Depth, 0]> }[keyof T]
            : never

/** What a handler must be besides: nothing, or what no handler is where its result is no JSON. */
export type Keeping<Result> = [Lost<Result>] extends [never]
  ? unknown
  : { 'JSON does not keep this of the result': Lost<Result> }

/**
 * What JSON gives back of a value of this type: a text for a Date and null for undefined, what `toJSON` returns for an object that
 * has it, and the same type for what is JSON already.
 */
// biome-ignore lint/suspicious/noConfusingVoidType: the result of handlers that return nothing
export type Stored<T> = T extends undefined | void ? null : StoredPart<T>

/** What JSON gives back of a part of a value; where it leaves out what is undefined, so does the type. */
export type StoredPart<T> = unknown extends T
  ? T
  : T extends string | number | boolean | null | undefined
    ? T
    : T extends { toJSON(): infer Json }
      ? Json
      : T extends NoJson
        ? never
        : { [Name in keyof T]: StoredPart<T[Name]> }

/** A handler whose result JSON keeps, or the URL of a module whose default export is one. */
export type GivenHandler<Payload, Result> = (Handler<Payload, Result> & Keeping<Result>) | URL

/** A payload's type: itself, or what no payload is where JSON does not have it. */
export type Storable<Payload> = [Lost<Payload>] extends [never]
  ? Payload
  : { 'JSON does not keep this of the payload': Lost<Payload> }
