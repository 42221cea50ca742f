type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false

/** `is<T>()(value)` compiles only if `value` has exactly the type T. */
export const is =
  <Expected>() =>
  <Actual>(value: Actual, ..._: Same<Expected, Actual> extends true ? [] : ['has another type']) =>
    value
