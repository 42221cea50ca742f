import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { jobBytes } from '../../src/server/body.ts'
import { serving } from './support.ts'

const quiet = { logLevel: 'silent' }
const ndjson = { headers: { 'content-type': 'application/x-ndjson' } }
const large = 'x'.repeat(600_000)

test('a bulk of a million jobs is refused by its count, before its schema is looked at', async (t: TestContext) => {
  const at = await serving(t, quiet)
  const million = '{},'.repeat(1_000_000)
  const bodies: [path: string, body: string, headers?: object][] = [
    ['/v1/jobs/bulk', `{"jobs":[${million}{}]}`],
    ['/v1/jobs/bulk', '{}\n'.repeat(1_000_000), ndjson],
    ['/v1/jobs/bulk', `{"jobs":[${million.slice(0, 300_000)}{}]}`], // fewer bytes than are taken apart
    ['/v1/reports', `{"reports":[${million}{}]}`],
    ['/v1/leases', `{"worker":"w","waitMs":0,"types":[${'"x",'.repeat(200_000)}"x"]}`],
    ['/v1/leases', `{"worker":"w","waitMs":0,"types":["x"],"exclude":[${'1,'.repeat(200_000)}1]}`],
    ['/v1/jobs', `{"type":"x","trace":{${members(50_000)}}}`],
    ['/v1/jobs', `{"type":"x",${members(50_000)}}`],
    ['/v1/jobs/bulk', `{"common":{${members(50_000)}},"jobs":[]}`],
    ['/v1/jobs/bulk', `{"jobs":[{${members(50_000)}}]}`],
    ['/v1/jobs/bulk', `{"jobs":[{"payload":"${large}"},{"payload":"${large}"},{${members(50_000)}}]}`],
  ]
  for (const [path, body, given] of bodies) {
    const { status, json } = await at.ask('POST', path, { body, ...given })
    assert.deepEqual(
      [status, json.code, json.accepted],
      [413, 'PAYLOAD_TOO_LARGE', 'no'],
      `${path} ${body.slice(0, 40)}`,
    )
  }
})

const members = (count: number) => Array.from({ length: count }, (_, i) => `"k${i}":"x"`).join()

test('a job, or a line, that is longer than one may be is refused as soon as it is', async (t) => {
  const at = await serving(t, quiet)
  const long = 'x'.repeat(jobBytes + 1)
  for (const [body, given] of [
    [`{"type":"x"}\n{"type":"x","payload":"${long}`, ndjson],
    [`{"jobs":[{"type":"x"},{"type":"x","payload":"${long}`, {}],
    [`{"jobs":[${'['.repeat(jobBytes + 2)}`, {}],
    [`{"common":${'{"a":'.repeat(jobBytes / 5 + 1)}`, {}],
    [`{"jobs":[],${members(200_000).slice(0, jobBytes)}`, {}],
  ] as const) {
    const { status, json } = await at.ask('POST', '/v1/jobs/bulk', { body, ...given })
    assert.deepEqual([status, json.code, json.accepted], [413, 'PAYLOAD_TOO_LARGE', 'no'], body.slice(0, 40))
  }
  assert.equal((await at.ask('GET', '/v1/jobs')).text, '{"jobs":[],"next":null}')
})

test('a body that is taken apart is the same as one that is parsed whole', async (t) => {
  const at = await serving(t, quiet)
  const odd = { 'a"]},{\\': ['[', '{"', '\\"', ',', [], {}, [[1, { b: [2] }]]], __proto__: 1, é: '漢\u2028🎈' }
  const jobs = [
    { payload: large },
    { payload: odd, priority: 'high' },
    { type: 'own' },
    { payload: large },
    { payload: null },
  ]
  const bodies = [
    JSON.stringify({ common: { type: 'x' }, jobs }),
    ` ${JSON.stringify({ jobs, trace: null, common: { type: 'x' } }, null, 2)}\n`,
    JSON.stringify({ common: { type: 'x' }, jobs }).replace('"jobs":', '"jobs":[1,[2],"]"],"jobs":'), // of two of a name the last counts
  ]
  for (const body of bodies) {
    assert.ok(body.length > jobBytes)
    const { status, json, text } = await at.ask('POST', '/v1/jobs/bulk', { body })
    assert.equal(status, 201, text)
    for (const [i, id] of (json.ids as number[]).entries()) {
      const stored = (await at.ask('GET', `/v1/jobs/${id}`)).json
      assert.deepEqual(stored.payload, JSON.parse(JSON.stringify(jobs[i]!.payload ?? null)))
      assert.deepEqual([stored.type, stored.priority], [jobs[i]!.type ?? 'x', jobs[i]!.priority ?? 'normal'])
    }
  }
})

test('of a body that is taken apart is refused what JSON.parse refuses, with the place of what is wrong', async (t) => {
  const at = await serving(t, quiet)
  const whole = JSON.stringify({
    common: { type: 'x' },
    jobs: [{ payload: large }, { payload: large }, { payload: 1 }],
  })
  for (const [from, to, detail] of [
    ['{"payload":1}]', '{"payload":1},]', /not valid JSON/],
    ['{"payload":1}]', ',{"payload":1}]', /not valid JSON/],
    ['{"payload":1}]', '{"payload":1]', /Item 3 is not JSON/],
    ['{"payload":1}]', '{"payload":1}', /not valid JSON/],
    ['{"payload":1}]', '{"payload":1}}', /not valid JSON/],
    ['{"payload":1}]', '{"payload":1}\u00a0]', /Item 3 is not JSON/],
    ['{"payload":1}]', '{"payload":1}],"jobs":[\u00a0]', /Item 4 is not JSON/],
    ['{"payload":1}', '{"nonsense":1}', /body\/jobs\/2\/nonsense is not known here/],
    ['{"payload":1}', '7', /body\/jobs\/2 must be/],
    ['{"payload":1}', '{"payload":9007199254740993}', /payload at index 2/],
  ] as const) {
    const { status, json } = await at.ask('POST', '/v1/jobs/bulk', { body: whole.replace(from, to) })
    assert.ok(status === 400 || status === 422, `${status} for ${to}`)
    assert.match(String(json.detail), detail)
  }
  const many = { jobs: Array.from({ length: 10_000 }, (_, i) => (i === 7777 ? { typ: 'x' } : { type: 'x' })) }
  const last = await at.ask('POST', '/v1/jobs/bulk', { body: many })
  assert.match(String(last.json.detail), /body\/jobs\/7777\/typ is not known here/)
})
