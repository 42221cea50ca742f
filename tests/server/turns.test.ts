import assert from 'node:assert/strict'
import { mock, type TestContext, test } from 'node:test'
import { GopherQueue } from '../../src/index.ts'
import { jobSpec } from '../../src/model/job.ts'
import { Stored, textOf } from '../../src/server/text.ts'
import { Engine } from '../../src/store/sqlite/commit.ts'
import { VirtualClock } from '../../src/testing/clock.ts'
import { lookInto } from '../crash/processes.ts'
import { temporaryFolder } from '../support/folder.ts'
import { serving } from './support.ts'

// No client holds the others up: what is large is looked at in turns of the event loop of its own.

const quiet = { logLevel: 'silent' }
const members = (count: number) => Object.fromEntries(Array.from({ length: count }, (_, i) => [`${i}`, 0]))

/** How many texts of the size of one job were parsed in one turn of the event loop, at most; and how many in all. */
function parsing(t: TestContext): { most: number; all: number } {
  const seen = { most: 0, all: 0 }
  let inTurn = 0
  let goesOn = true
  const turn = () => {
    inTurn = 0
    if (goesOn) setImmediate(turn)
  }
  turn()
  const { parse } = JSON
  const mocked = mock.method(JSON, 'parse', (text: string) => {
    if (text.length > 500_000 && text.length < 900_000) {
      seen.all++
      seen.most = Math.max(seen.most, ++inTurn)
    }
    return parse(text)
  })
  t.after(() => {
    goesOn = false
    mocked.mock.restore()
  })
  return seen
}

test('of large bodies that come together, and of large jobs that are leased together, one is parsed in a turn', async (t) => {
  const at = await serving(t, quiet)
  const body = JSON.stringify({ type: 'x', payload: members(60_000) })
  const seen = parsing(t)
  const answers = await Promise.all(Array.from({ length: 10 }, () => at.ask('POST', '/v1/jobs', { body })))
  assert.deepEqual([seen.most, seen.all, new Set(answers.map(({ status }) => status))], [1, 10, new Set([201])])
  seen.all = 0
  const leases = await Promise.all(
    ['a', 'b', 'c'].map((worker) =>
      at.ask('POST', '/v1/leases', { body: { worker, types: ['x'], slots: 3, waitMs: 0 } }),
    ),
  )
  const jobs = leases.flatMap(({ json }) => json.jobs as { payload: unknown }[])
  assert.equal(jobs.length, 9)
  for (const { payload } of jobs) assert.deepEqual(payload, members(60_000))
  assert.deepEqual([seen.most, seen.all], [1, 9])
})

test('payloads, results and checkpoints go out as they were stored, whatever is in them', async (t) => {
  const at = await serving(t, quiet)
  const odd = {
    '"': ['\\"', '\u0000', '\u2028', '🎈', { $1: '$&', __proto__: 1 }],
    n: [0.1, -1, 1e3],
    deep: [[[null]]],
  }
  const { json: made } = await at.ask('POST', '/v1/jobs', { body: { type: 'x', payload: odd } })
  const [job] = (await at.ask('POST', '/v1/leases', { body: { worker: 'w', types: ['x'], slots: 1, waitMs: 0 } })).json
    .jobs as { payload: unknown; checkpoint: unknown; token: string }[]
  assert.deepEqual([job!.payload, job!.checkpoint], [odd, null])
  const { token } = job!
  await at.ask('POST', `/v1/jobs/${made.id}/checkpoint`, { body: { token, state: odd } })
  await at.ask('POST', `/v1/jobs/${made.id}/release`, { body: { token } })
  const [again] = (await at.ask('POST', '/v1/leases', { body: { worker: 'w', types: ['x'], slots: 1, waitMs: 0 } }))
    .json.jobs as { checkpoint: unknown; token: string }[]
  assert.deepEqual(again!.checkpoint, odd)
  await at.ask('POST', `/v1/jobs/${made.id}/succeed`, { body: { token: again!.token, result: odd } })
  const { json: one } = await at.ask('GET', `/v1/jobs/${made.id}`)
  const { json: page } = await at.ask('GET', '/v1/jobs')
  assert.deepEqual([one.payload, one.result], [odd, odd])
  assert.deepEqual(page.jobs, [one])
  assert.equal((await at.ask('GET', '/v1/jobs/2')).status, 404)
})

test('a number that plain SQL has put there is shown as its text, and reaches no worker', async (t) => {
  const at = await serving(t, quiet)
  await at.ask('POST', '/v1/jobs', { body: { type: 'x' } })
  using db = lookInto(at.file)
  db.exec(`UPDATE gq_jobs SET payload = '[9007199254740993]'`)
  const { json } = await at.ask('GET', '/v1/jobs/1')
  assert.equal(json.payload, '[9007199254740993]')
  const { json: leased } = await at.ask('POST', '/v1/leases', { body: { worker: 'w', types: ['x'], waitMs: 0 } })
  assert.deepEqual(leased.jobs, [])
})

test('the history of a job and a page of the audit log have a bound in bytes, and say what is left out', async (t) => {
  const at = await serving(t, quiet)
  await at.ask('POST', '/v1/jobs', { body: { type: 'x' } })
  using db = lookInto(at.file)
  const many = 'WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)'
  db.exec(`INSERT INTO gq_attempts (job_id, attempt, started_at, finished_at, outcome, error_name, error_message, error_stack)
    ${many} SELECT 1, i, i, i, 'failed', 'Error', 'no ' || i, printf('%.*c', 10000, 'x') FROM n`)
  db.exec(`INSERT INTO gq_audit (at, who, action, target, details)
    ${many} SELECT i, 'loopback', 'many', 'jobs', '"' || printf('%.*c', 10000, 'x') || '"' FROM n`)
  const { json, text } = await at.ask('GET', '/v1/jobs/1/attempts')
  const attempts = json.attempts as { attempt: number; error: { stack: string } }[]
  assert.deepEqual([attempts.length, text.length < 2 * 1024 * 1024], [1000, true])
  assert.match(attempts[0]!.error.stack, /^Error: no 1\n\(its stack is left out/)
  assert.equal(attempts.at(-1)!.error.stack.length, 10_000)
  const seen: number[] = []
  for (let cursor: unknown = ''; cursor !== null; ) {
    const page = await at.ask('GET', `/v1/audit?limit=1000${cursor === '' ? '' : `&cursor=${cursor}`}`)
    assert.ok(page.text.length < 2 * 1024 * 1024)
    for (const { id } of page.json.entries as { id: number }[]) seen.push(id)
    cursor = page.json.next
  }
  assert.deepEqual(
    seen,
    Array.from({ length: 1000 }, (_, i) => 1000 - i),
  )
})

test('a text stands where its value stood', () => {
  const stored = new Stored('{"a" : 1}')
  assert.equal(textOf({ x: stored, y: [stored, null, 'z'], u: undefined }), '{"x":{"a" : 1},"y":[{"a" : 1},null,"z"]}')
  assert.equal(textOf(null), 'null')
})

test('messages of many attempts, and who ran beside them, have a bound too', async (t) => {
  const at = await serving(t, quiet)
  await at.ask('POST', '/v1/jobs', { body: { type: 'x' } })
  using db = lookInto(at.file)
  db.exec(`INSERT INTO gq_attempts (job_id, attempt, started_at, finished_at, outcome, error_name, error_message)
    WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 12000)
    SELECT 1, i, i, i, 'failed', 'Error', printf('%.*c', 8000, 'x') FROM n`)
  const { json, text } = await at.ask('GET', '/v1/jobs/1/attempts')
  const attempts = json.attempts as { attempt: number; error: { message: string; stack: string | null } }[]
  assert.ok(text.length < 4 * 1024 * 1024, `${text.length}`)
  assert.deepEqual([attempts.length, attempts[0]!.attempt, attempts.at(-1)!.attempt], [10_000, 2001, 12_000])
  assert.match(attempts[0]!.error.message, /^\(its texts are left out/)
  const whole = attempts.filter(({ error }) => error.message.length === 8000)
  assert.equal(whole.length, Math.floor((1024 * 1024) / 8005), 'texts of 1 MiB: each message and its name')
  assert.deepEqual([attempts.at(-1)!.error.message.length, attempts.at(-1)!.error.stack], [8000, null])
})

test('a page of schedules ends at 4 MiB of payloads with the name to go on from, and may be had without them', async (t) => {
  const at = await serving(t, quiet)
  using db = lookInto(at.file)
  db.exec(`INSERT INTO gq_schedules (name, cron, timezone, spec, payload, missed, overlap, next_at, defined_at, defined_by)
    WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20)
    SELECT format('s%02d', i), '0 3 * * *', 'UTC', '{"queue":"q","type":"t"}', '"' || printf('%.*c', 1000000, 'x') || '"', 'once', 'skip', 8e15, 1, '[]' FROM n`)
  const pages: string[][] = []
  for (let next: unknown = ''; next !== null; ) {
    const { json, text } = await at.ask('GET', `/v1/schedules?after=${next}`)
    assert.ok(text.length < 5 * 1024 * 1024)
    pages.push((json.schedules as { name: string }[]).map(({ name }) => name))
    next = json.next
  }
  assert.deepEqual(pages.map(({ length }) => length), [4, 4, 4, 4, 4]) // biome-ignore format: one line
  assert.deepEqual(pages.flat(), pages.flat().sort())
  const { json, text } = await at.ask('GET', '/v1/schedules?payloads=false')
  assert.deepEqual([(json.schedules as []).length, json.next, text.length < 100_000], [20, null, true])
  await using queue = await GopherQueue.open(at.server.url)
  assert.equal((await queue.schedules()).length, 20)
  assert.equal('payload' in (await queue.schedules({ payloads: false }))[0]!, false)
})

test('a page of large jobs is answered without parsing what goes out as it is stored', (t) => {
  using folder = temporaryFolder()
  const engine = new Engine(folder.file('jobs.db'), new VirtualClock())
  const payloads = [JSON.stringify(members(90_000)), '[9007199254740993]']
  engine.execute([{ seq: 1, operation: 'submit', input: { specs: jobSpec('x', {}), payloads, keys: null } }])
  const parse = t.mock.method(JSON, 'parse')
  const [reply] = engine.execute([{ seq: 2, operation: 'jobs', input: { order: 'oldest', asText: true } }])
  const large = parse.mock.calls.filter((call) => String(call.arguments[0]).length > 1000)
  parse.mock.restore()
  assert.ok(reply && 'value' in reply)
  const { jobs } = reply.value as { jobs: { payload: string }[] }
  assert.deepEqual([jobs[0]!.payload === payloads[0], jobs[1]!.payload], [true, '"[9007199254740993]"'])
  assert.equal(large.length, 0)
  engine.close()
})
