// Which types of results JSON does not have: TypeScript refuses their handlers, as far as it can see.

/** Values that JSON does not have. */
export type NoJson =
  | bigint
  | symbol
  | ((...given: never[]) => unknown)
  | ReadonlyMap<unknown, unknown>
  | ReadonlySet<unknown>
  | RegExp
  | ArrayBufferLike

/** The parts of a type that JSON does not have, looked for three levels deep; `never` where there are none. */
export type Lost<T, Depth extends 0[] = []> = unknown extends T
  ? never
  : T extends NoJson
    ? T
    : Depth['length'] extends 3
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
