import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { after, test } from 'node:test'
import { explore } from '../sim/explore.ts'
import { Files } from '../sim/machine.ts'
import { simulate } from '../sim/simulate.ts'
import { operations } from '../src/store/operations.ts'

const files = new Files()
after(() => files[Symbol.dispose]())

test('the engine keeps its contract over many seeds of chance, crashes and faults', () => {
  const counts: Record<string, number> = {}
  const drawn = new Set<string>()
  for (let seed = 1; seed <= 40; seed++) {
    const result = simulate(seed, files)
    for (const [, word] of result.trace.join('\n').matchAll(/#\d+ (\w+)/g)) drawn.add(word!)
    assert.equal(result.failure, null, `npm run simulate -- --seed ${seed} --trace: ${result.failure?.rule}`)
    for (const [name, count] of Object.entries(result.counts)) counts[name] = (counts[name] ?? 0) + count
  }
  for (const fault of ['crash', 'busy', 'io', 'full', 'fsync', 'lateFsync']) assert.ok(counts[fault]! > 0, fault)
  // `fail` is drawn as the kind of its failure; `many` is pages of others; tokens and what people see are no state of a job.
  const others = [
    'fail',
    'many',
    'endLease',
    'checkpoint',
    'pauseSchedule',
    'runSchedule',
    'createToken',
    'revokeToken',
    'tokenUsed',
  ]
  for (const [name, { kind }] of Object.entries(operations))
    if (kind === 'write' || kind === 'outcome') assert.equal(drawn.has(name), !others.includes(name), name)
})

test('all interleavings of a small world, four steps deep, keep the contract', () => {
  for (const budget of [
    { holds: 1, stops: 0, deaths: 0 },
    { holds: 0, stops: 0, deaths: 1 },
  ]) {
    const { depth, states, broken } = explore(files, budget, { ms: 60_000, deepest: 4 })
    assert.deepEqual([...broken], [])
    assert.equal(depth, 4)
    assert.ok(states > 100)
  }
})

test('the same seed gives the same trace byte for byte, and fewer steps the start of it', () => {
  for (const seed of [7, 8, 9]) {
    const first = simulate(seed, files).trace
    assert.ok(first.length > 50)
    assert.deepEqual(simulate(seed, files).trace, first)
    using elsewhere = new Files()
    assert.deepEqual(simulate(seed, elsewhere).trace, first)
    const cut = simulate(seed, files, { steps: 60 }).trace.filter((line) => Number.parseInt(line, 10) <= 60)
    assert.deepEqual(cut, first.slice(0, cut.length))
  }
})

/** Engines spoiled in one statement each, and the rules of which one must say so. */
const spoiled: [what: string, from: string, to: string, rules: RegExp][] = [
  ['takes the youngest job', 'ORDER BY priority, id LIMIT', 'ORDER BY priority, id DESC LIMIT', /first ready job/],
  ['ignores the class', 'ORDER BY priority, id LIMIT', 'ORDER BY id LIMIT', /first ready job/],
  ['believes stale leases', 'AND lease_token = ?3 AND queue', 'AND ?3 = ?3 AND queue', /stale lease|table of states/],
  ['acknowledges what is not on disk', 'COMMIT', 'ROLLBACK', /acknowledged job is on disk|lease/],
  [
    'takes leases too early',
    'MIN(visibility_timeout, timeout + 1000) AS life',
    '1 AS life',
    /living lease|watched it|bounded time|table of states/,
  ],
  [
    'charges what is given back',
    'attempt = ?3, undelivered',
    'attempt = ?3 + 1, undelivered',
    /table of states|history|never exceed/,
  ],
  ['miscounts', 'SET scheduled = ?2, ready = ?3', 'SET scheduled = ?2, ready = ?3 + 1', /counters/],
  [
    'forgets keys',
    '?5, ?6)\n       ON CONFLICT DO NOTHING', // of gq_keys: that of gq_requests has no job_id, and would fail
    '?5, ?6) ON CONFLICT DO UPDATE SET job_id = ?4',
    /key is used once|job is there/,
  ],
  [
    'prunes too early',
    'prune_at <= ?1 AND blocked < 2 AND finished_at IS NOT NULL LIMIT',
    'prune_at <= ?1 + 80000000 LIMIT',
    /no job is lost/,
  ],
  ['is deaf to others', 'PRAGMA data_version', 'SELECT 7 AS data_version', /waits|whole timeout|hears of|goes first/],
  [
    'loses its history',
    'VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)',
    'SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11 WHERE ?2 > 1',
    /histor/,
  ],
  [
    'renews for too long',
    'SET lease_expires_at = ?3, renewed',
    'SET lease_expires_at = ?3 + 9000, renewed',
    /a lease lasts/,
  ],
  [
    'retries too early',
    'SET state = ?2, run_at = ?3, company',
    'SET state = ?2, run_at = ?3 - 1, company',
    /table of states/,
  ],
]
for (const [what, from, to, rules] of spoiled)
  test(`an engine that ${what} is caught`, () => {
    let met = false
    const rewrite = (sql: string) => {
      if (!sql.includes(from)) return sql
      met = true
      return sql.replace(from, to)
    }
    for (let seed = 1; seed <= 60; seed++) {
      const { failure } = simulate(seed, files, { rewrite })
      if (!failure) continue
      assert.match(failure.rule, rules)
      return
    }
    assert.fail(met ? 'not caught' : `no statement has ${from}`)
  })

test('the command line runs a seed, prints its trace and says what it did', () => {
  const args = ['sim/run.ts', '--seed', '3', '--steps', '20', '--trace']
  const { stdout, status } = spawnSync(process.execPath, args, { encoding: 'utf8' })
  assert.match(stdout, /p1 open\n(.*\n)*1 seeds, 0 failed/)
  assert.equal(status, 0)
})
