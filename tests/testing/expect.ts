import assert from 'node:assert/strict'

// As much of the `test` and `expect` of vitest and jest as docs/testing.md uses, on node:test.

export { test } from 'node:test'

export const expect = (actual: unknown) => ({
  toMatchObject: (expected: object) => assert.partialDeepStrictEqual(actual, expected),
})
