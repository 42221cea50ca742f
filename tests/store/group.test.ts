import assert from 'node:assert/strict'
import { test } from 'node:test'
import { jobSpec } from '../../src/model/job.ts'
import { groupsOf } from '../../src/store/sqlite/group.ts'
import type { Request } from '../../src/store/sqlite/request.ts'

const specs = jobSpec('work', {})
const submit = (jobs: number, bytes = 1): Request => {
  const payloads = Array<string>(jobs).fill('1'.repeat(bytes))
  return { seq: 0, operation: 'submit', input: { specs, payloads, keys: null } }
}
const lease = { id: 1, token: 1, queue: 'default', type: 'work' }
const succeed = (bytes: number): Request => {
  return { seq: 0, operation: 'succeed', input: { lease, result: '1'.repeat(bytes) } }
}
const many = (limit: number): Request => ({ seq: 0, operation: 'many', input: { event: 'cancel', filter: { limit } } })
const read: Request = { seq: 0, operation: 'stats', input: null }
const sizes = (requests: Request[]) => groupsOf(requests).map(({ length }) => length)
const mebibyte = 1024 * 1024

for (const [name, requests, expected] of [
  ['few', [submit(1), succeed(1)], [2]],
  ['none', [], [0]],
  ['10,000 jobs', Array(10_001).fill(submit(1)), [10_000, 1]],
  ['10,000 other operations', Array(20_001).fill(succeed(1)), [10_000, 10_000, 1]],
  ['bulks', Array(5).fill(submit(4000)), [2, 2, 1]],
  ['a bulk of all that may be', [submit(1), submit(10_000), submit(1)], [1, 1, 1]],
  ['16 MiB of payloads', Array(40).fill(submit(1, mebibyte)), [16, 16, 8]],
  ['16 MiB of results', Array(20).fill(succeed(mebibyte)), [16, 4]],
  ['one that is larger', [submit(64, mebibyte), submit(1)], [1, 1]],
  ['pages of many', Array(15).fill(many(1000)), [10, 5]],
] as [string, Request[], number[]][])
  test(`a transaction is full: ${name}`, () => assert.deepEqual(sizes(requests), expected))

test('what only reads has a transaction of its own, after what was asked for beside it', () => {
  const write = submit(1)
  assert.deepEqual(groupsOf([read, write, read]), [[write], [read, read]])
  assert.deepEqual(groupsOf([read]), [[], [read]])
})
