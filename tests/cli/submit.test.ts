import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { existsSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { main } from '../support/bundled.ts'
import { Bench } from './support.ts'

test('a submitted job has every option it was given', async (t) => {
  const bench = new Bench(t)
  const args = [
    '--queue',
    'mail',
    '--priority',
    'high',
    '--max-attempts',
    '3',
    '--timeout',
    '2s',
    '--on-timeout',
    'dead',
  ]
  const more = ['--visibility-timeout', '5s', '--run-at', '2050-01-01T00:00:00Z', '--deadline', '2051-01-01T00:00:00Z']
  const keyed = [
    '--key',
    'k1',
    '--key-window',
    '1h',
    '--backoff',
    '{"kind":"exponential","delay":"1s","factor":3,"max":"1m"}',
  ]
  const first = await bench.run('submit', 'email', '{"to":"a"}', ...args, ...more, ...keyed)
  assert.deepEqual([first.code, first.stdout, first.stderr], [0, '1\n', ''])
  const again = await bench.run('submit', 'email', '{"to":"a"}', ...args, '--key', 'k1', '--json')
  assert.deepEqual(JSON.parse(again.stdout), { id: 1, duplicate: true, state: 'scheduled' })
  const { code, stdout } = await bench.run('job', '1', '--json')
  const { id, queue, type, state, priority, maxAttempts, timeout, onTimeout, ...job } = JSON.parse(stdout)
  assert.equal(code, 0)
  assert.deepEqual([id, queue, type, state, priority], [1, 'mail', 'email', 'scheduled', 'high'])
  assert.deepEqual([maxAttempts, timeout, onTimeout, job.visibilityTimeout], [3, 2000, 'dead', 5000])
  assert.deepEqual([job.runAt, job.deadline], [Date.UTC(2050, 0), Date.UTC(2051, 0)])
  assert.deepEqual(job.backoff, { kind: 'exponential', delay: 1000, factor: 3, max: 60_000, jitter: 0 })
  assert.deepEqual([job.idempotencyKey, job.payload, job.history], ['k1', { to: 'a' }, []])
  assert.match(job.why, /^Job 1 waits until 2050/)
})

test('forms of backoff, and payloads that look like options', async (t) => {
  const bench = new Bench(t)
  const forms = [
    '{"kind":"constant","delay":"5s"}',
    '{"kind":"exponential"}',
    '{"kind":"table","delays":["1s","5s","1m"]}',
    '{"kind":"constant","delay":7,"jitter":0.5}',
  ]
  for (const form of forms) assert.equal((await bench.run('submit', 'a', '-5', '--backoff', form)).code, 0, form)
  const { stdout } = await bench.run('jobs', '--json', '--oldest')
  const jobs = stdout.trim().split('\n').map((line) => JSON.parse(line)) // biome-ignore format: short
  assert.deepEqual(
    jobs.map(({ backoff }) => backoff.delay ?? backoff.delays),
    [5000, 5000, [1000, 5000, 60_000], 7],
  )
  assert.equal(jobs[0].payload, -5)
})

test('bad input is a usage error, makes no file and shows no stack', async (t) => {
  const bench = new Bench(t)
  const wrong = [
    ['submit'],
    ['submit', 'a', '{bad'],
    ['submit', 'a', '1', '2'],
    ['submit', 'a', '1', '--priority', 'urgent'],
    ['submit', 'a', '1', '--delay', '5'],
    ['submit', 'a', '1', '--delay', '5s', '--run-at', '2050-01-01'],
    ['submit', 'a', '1', '--run-at', 'tomorrow'],
    ['submit', 'a', '1', '--run-at', '2026-02-30'],
    ['submit', 'a', '1', '--run-at', '2026-13-45'],
    ['submit', 'a', '1', '--deadline', '2027-02-31T10:00Z'],
    ['submit', 'a', '1', '--max-attempts', '0'],
    ['submit', 'a', '1', '--max-attempts', 'many'],
    ['submit', 'a', '1', '--backoff', 'sometimes'],
    ['submit', 'a', '1', '--backoff', '{"kind":"sometimes"}'],
    ['submit', 'a', '1', '--backoff', '5'],
    ['submit', 'a', '-', '--key', 'k'],
    ['submit', 'bad\ntype'],
    ['work', 'a'],
    ['work', 'a', '--exec', 'true', '--grace', 'long'],
    ['job', 'one'],
    ['nope'],
    ['jobs', '--nope'],
    [],
  ]
  await Promise.all(
    wrong.map(async (args) => {
      const { code, stdout, stderr } = await bench.run(...args)
      assert.deepEqual([code, stdout], [2, ''], args.join(' '))
      assert.match(stderr, /^gopherqueue: INVALID_ARGUMENT: [^\n]+\n$/, args.join(' '))
    }),
  )
  assert.ok(!existsSync(bench.file))
  const { stderr } = await bench.run('jobs', '--nope', '--json')
  assert.equal(JSON.parse(stderr).code, 'INVALID_ARGUMENT')
})

test('commands that do not bring jobs refuse a file that is absent, and say so without --db', async (t) => {
  const bench = new Bench(t)
  for (const args of [
    ['jobs'],
    ['job', '1'],
    ['why', '1'],
    ['stats'],
    ['cancel', '1'],
    ['retry', '1'],
    ['rm', '1'],
    ['pause'],
    ['resume'],
  ]) {
    const { code, stderr } = await bench.run(...args)
    assert.equal(code, 1, args.join(' '))
    assert.match(stderr, /^gopherqueue: NOT_A_QUEUE: There is no file /)
  }
  assert.ok(!existsSync(bench.file))
  const none = await bench.run('jobs', '--db', '')
  assert.deepEqual([none.code, /--db FILE or GOPHERQUEUE_DB/.test(none.stderr)], [2, true])
  writeFileSync(bench.file, 'this is a letter and no queue, long enough to be seen as one')
  const { code, stderr } = await bench.run('submit', 'a', '1', '--json')
  assert.deepEqual([code, JSON.parse(stderr).code, JSON.parse(stderr).accepted], [1, 'NOT_A_QUEUE', 'no'])
})

test('help, version and their exit codes', async (t) => {
  const bench = new Bench(t)
  const help = await bench.run('--help')
  assert.deepEqual([help.code, /Exit status: 0 ok, 1 failed, 2 usage/.test(help.stdout)], [0, true])
  assert.match((await bench.run('work', '--help')).stdout, /exit 65 +permanent/)
  assert.match((await bench.run('--version')).stdout, /^\d+\.\d+\.\d+\n$/)
  assert.deepEqual(Object.keys(JSON.parse((await bench.run('version', '--json')).stdout)), [
    'gopherqueue',
    'node',
    'sqlite',
  ])
})

test('JSON lines of stdin become jobs, in chunks', async (t) => {
  const bench = new Bench(t)
  const lines = Array.from({ length: 2501 }, (_, i) => `{"n":${i}}`)
  lines.splice(1000, 0, '', '   ')
  const { code, stdout } = await bench.feed(
    `\ufeff${lines.join('\r\n')}`,
    'submit',
    'n',
    '-',
    '--priority',
    'low',
    '--json',
  )
  const total = JSON.parse(stdout)
  assert.deepEqual([code, total.accepted, total.lastId - total.firstId], [0, 2501, 2500])
  const queue = await bench.open()
  const { jobs } = await queue.jobs({ limit: 1 })
  assert.deepEqual([jobs[0]!.payload, jobs[0]!.priority, jobs[0]!.id], [{ n: 2500 }, 'low', total.lastId])
  const nothing = await bench.feed('', 'submit', 'n', '-', '--json')
  assert.deepEqual(JSON.parse(nothing.stdout), { accepted: 0, firstId: null, lastId: null })
})

test('lines that fit one bulk are stored all or none: a bad one is named', async (t) => {
  const bench = new Bench(t)
  const lines = Array.from({ length: 3000 }, (_, i) => `${i}`)
  lines[1499] = '{"open":'
  const bad = await bench.feed(lines.join('\n'), 'submit', 'n', '-', '--json')
  const error = JSON.parse(bad.stderr)
  assert.deepEqual([bad.code, bad.stdout, error.code], [1, '', 'INVALID_PAYLOAD'])
  assert.match(error.message, /^Line 1500 is no payload: .* None of the lines was stored\.$/)
  assert.deepEqual(error.details, { accepted: 0, firstId: null, lastId: null, nextLine: 1 })

  const latin = await bench.feed(Buffer.from('1\n"caf\xe9"\n2\n', 'latin1'), 'submit', 'n', '-')
  assert.match(latin.stderr, /^gopherqueue: INVALID_PAYLOAD: Line 2 /)
  const large = await bench.feed(`1\n"${'x'.repeat(2 ** 20)}"\n`, 'submit', 'n', '-')
  assert.match(large.stderr, /^gopherqueue: PAYLOAD_TOO_LARGE: Line 2 [^\n]+ name\. None of the lines was stored\.\n$/)
  const endless = await bench.feed(`1\n${'x'.repeat(9 * 2 ** 20)}`, 'submit', 'n', '-')
  assert.match(endless.stderr, /^gopherqueue: PAYLOAD_TOO_LARGE: Line 2 is no payload: longer than/)
  const queue = await bench.open()
  assert.equal((await queue.stats()).queues.length, 0, 'nothing was stored of any of them')
})

test('of longer input, a bad line says which bulks were stored, and from which line to go on', async (t) => {
  const bench = new Bench(t)
  const lines = Array.from({ length: 10_500 }, (_, i) => `${i}`)
  lines[10_400] = '{"open":'
  const bad = await bench.feed(lines.join('\n'), 'submit', 'n', '-', '--json')
  const error = JSON.parse(bad.stderr)
  assert.deepEqual([bad.code, error.code], [1, 'INVALID_PAYLOAD'])
  assert.match(
    error.message,
    /^Line 10401 is .* The 10000 jobs of the lines before are stored, the first as job 1, the last as job 10000; line 10001 and those after it were not: go on from there\.$/,
  )
  assert.deepEqual(error.details, { accepted: 10_000, firstId: 1, lastId: 10_000, nextLine: 10_001 })
  const queue = await bench.open()
  assert.equal((await queue.stats()).queues[0]!.counts.ready, 10_000)
  lines[10_400] = '10400'
  const rest = await bench.feed(lines.slice(error.details.nextLine - 1).join('\n'), 'submit', 'n', '-')
  assert.equal(rest.code, 0)
  const { jobs } = await queue.jobs({ limit: 1 })
  assert.equal(jobs[0]!.payload, 10_499)
  assert.equal((await queue.stats()).queues[0]!.counts.ready, 10_500)
})

test('a full queue stops lines at the bulk that did not fit', async (t) => {
  const bench = new Bench(t)
  const queue = await bench.open()
  await queue.configure('default', { maxDepth: 11_000 })
  const lines = Array.from({ length: 12_500 }, (_, i) => `${i}\n`).join('')
  const { code, stderr } = await bench.feed(lines, 'submit', 'n', '-')
  assert.equal(code, 1)
  assert.match(
    stderr,
    /^gopherqueue: QUEUE_FULL: .* The 10000 jobs of the lines before are stored, .*; line 10001 and those/,
  )
  assert.equal((await queue.stats()).queues[0]!.counts.ready, 10_000)
})

test('an argument that is not UTF-8 is refused: keys that differ in such bytes would be one', async (t) => {
  const bench = new Bench(t)
  // Node passes strings alone to a program: a shell makes the bytes.
  const submit = (key: string) =>
    spawnSync('bash', ['-c', `"$0" "$1" submit t 7 --key $'${key}'`, process.execPath, main], {
      env: { ...process.env, GOPHERQUEUE_DB: bench.file },
      encoding: 'utf8',
    })
  const refused = submit('caf\\xe9')
  assert.match(
    refused.stderr,
    /INVALID_ARGUMENT: The argument "caf.+" has bytes that are not UTF-8, so nothing was done/,
  )
  assert.deepEqual([refused.status, refused.stdout, submit('café').stdout], [2, '', '1\n'])
})
