import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import { fitted } from '../../src/cli/output.ts'
import { main } from '../support/bundled.ts'
import { Bench } from './support.ts'

const script = 'script'
const needsScript = {
  skip: spawnSync(script, ['--version']).error === undefined ? false : 'script(1) of util-linux is not installed',
}

// What a terminal must never get from a file: controls other than newline and tab, and changes of direction.
const raw = /(?![\n\t])\p{Cc}|[\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/u

/** What a command writes to a terminal of this width, without the carriage returns that the terminal adds. */
function terminal(bench: Bench, columns: number, args: string, colour = false): string[] {
  const command = `stty cols ${columns} rows 40; '${process.execPath}' '${main}' ${args}`
  const { NO_COLOR: _, FORCE_COLOR: __, CI: ___, ...inherited } = process.env // Node takes CI for a terminal without colours
  const env = { ...inherited, TERM: 'xterm-256color', GOPHERQUEUE_DB: bench.file, ...(!colour && { NO_COLOR: '1' }) }
  const { stdout } = spawnSync(script, ['-qec', command, '/dev/null'], { env, encoding: 'utf8' })
  return stdout.replaceAll('\r\n', '\n').trimEnd().split('\n')
}

async function exampleJobs(bench: Bench): Promise<void> {
  const queue = await bench.open()
  await queue.submit('email', { to: 'a@example.com', text: '日本語 '.repeat(30) }, { priority: 'high' })
  await queue.submit('a.rather.long.type.name.that.needs.room', 'x'.repeat(500), { delay: '2h' })
  const { id } = await queue.submit('email', 3)
  await queue.cancel(id)
}

test('a table fits the terminal, whatever is in it', needsScript, async (t) => {
  const bench = new Bench(t)
  await exampleJobs(bench)
  assert.equal(terminal(bench, 5, 'jobs').length, 4) // too narrow for any table: no crash
  for (const columns of [60, 80, 160]) {
    const lines = terminal(bench, columns, 'jobs')
    assert.match(lines[0]!, /^ID +STATE +TYPE/)
    assert.equal(lines.length, 4)
    for (const line of lines) {
      const width = [...line].reduce((sum, char) => sum + (char >= '\u1100' && char !== '…' ? 2 : 1), 0)
      assert.ok(width <= columns, `${width} > ${columns}: ${line}`)
    }
    if (columns < 80) continue // there states may be cut too
    const column = lines[0]!.indexOf('STATE')
    assert.deepEqual(lines.slice(1).map((line) => line.slice(column).split(' ')[0]), ['cancelled', 'scheduled', 'ready']) // biome-ignore format: short
    assert.match(lines[2]!, /in (1h 59m|2h) /)
  }
})

test(
  'at 80 columns no state and no id is cut, whatever the names; what has no room is left out',
  needsScript,
  async (t) => {
    const bench = new Bench(t)
    const queue = await bench.open()
    const name = 'a-queue-with-a-really-long-name-of-a-tenant-that-nobody-shortened'
    queue.define('email.newsletter.customer.weekly.digest.send', { maxAttempts: 1, queue: name }, () => {
      throw new Error('no')
    })
    const { id } = await queue.submit('email.newsletter.customer.weekly.digest.send', 1)
    const worker = queue.work({ queues: [name], name: `worker-${'x'.repeat(60)}` })
    await queue.wait(id).catch(() => undefined)
    await queue.configure(name, { rate: { max: 1_000_000, per: '1m' }, maxDepth: 1_000_000, maxRunning: 100_000 })
    await queue.pause(name)
    await queue.submit('日本語の型の名前はとても長いです', '日本語'.repeat(40), { queue: '列'.repeat(30), delay: '2d' })
    await queue.schedule('s'.repeat(60), '*/15 3,4,5,6 * * MON-FRI', 'x', {}, { timezone: 'America/Argentina/Buenos_Aires' }) // biome-ignore format: long
    for (const [args, whole] of [
      ['jobs', [/^ID +STATE +TYPE/, /dead \(exhausted\)/, /scheduled/, / 0\/12 +in (1d 23h|2d)/]],
      [
        'stats',
        [/ SCHEDULED +READY +RUNNING +SUCCEEDED +DEAD +CANCELLED$/, /^a-queue.* paused /, / alive /, /^s+…? +open /],
      ],
      ['queue', [/ paused +1000000 +100000 +1 +1000000 in 1m$/]],
      ['schedule', [/ open .* in [\dhdm ]+/]],
      ['retry --all --dry-run', [/^ *1 +dead +ready/]],
    ] as const)
      for (const columns of [80, 160]) {
        const lines = terminal(bench, columns, args)
        for (const pattern of whole)
          if (columns === 80)
            assert.ok(
              lines.some((line) => pattern.test(line)),
              `${pattern}:\n${lines.join('\n')}`,
            )
        assert.ok(lines.every((line) => columns === 80 || !/(paus|schedu|dea|ope|aliv)…/.test(line)))
      }
    await worker.stop()
    // As ids are in a restored file.
    assert.deepEqual(fitted([13, 16, 40, 60, 8, 5, 10, 99], ['ID', 'STATE', 'TYPE', 'QUEUE', 'PRIORITY', 'TRIES', 'WHEN', 'PAYLOAD'], 80), [13, 16, 8, 8, 8, 5, 10, 0]) // biome-ignore format: long
    assert.deepEqual(fitted([13, 16, 40], ['ID', 'STATE', 'TYPE'], 20), [13, 0, 0]) // a part of an id would be another
    assert.deepEqual(fitted([13, 16], ['ID', 'STATE'], 5), [5, 0]) // nothing else is left to cut
    assert.deepEqual(fitted([20, 13, 14, 20], ['TYPE', 'BYTES', 'SINCE', 'CAUSE'], 50, [false, true, true, false]), [8, 13, 14, 9]) // biome-ignore format: long
  },
)

test('no number, no time and no head of `types` is cut, at 80 columns in two tables', needsScript, async (t) => {
  const bench = new Bench(t)
  const queue = await bench.open()
  const mail = 'email.newsletter.customer.weekly.digest.send'
  queue.define(mail, {}, () => undefined)
  const { id } = await queue.submit(mail, 1)
  const worker = queue.work()
  await queue.wait(id)
  await worker.stop()
  using sql = new DatabaseSync(bench.file)
  const figures = 'submitted = 2000000, succeeded = 1999999, failed = 1234567, retried = 1000001, dead = 234567'
  sql.exec(`UPDATE gq_hours SET ${figures}`)
  const counts = /^email\S* +2000000 +1999999 +1234567 +1000001 +234567/
  for (const columns of [80, 160]) {
    const lines = terminal(bench, columns, 'types')
    const shown = lines.join('\n')
    assert.equal(lines.filter((line) => counts.test(line)).length, 1, shown)
    assert.match(shown, /^TYPE +SUBMITTED +SUCCEEDED +FAILED +RETRIED +DEAD/)
    assert.match(shown, /RUN P50 +P95 +MAX +WAIT P50 +P95 +MAX$/m)
    assert.match(shown, /^email.*( +\d+(ms|s)){6}$/m)
    assert.ok(
      lines.slice(0, -1).every((line) => [...line].length <= columns && !/\d…/.test(line)),
      shown,
    )
  }
  const narrow = terminal(bench, 40, 'types').slice(0, 2)
  assert.match(narrow.join('\n'), /FAILED\nemail\S* +2000000 +1999999 +1234567$/)
})

test('colours only on a terminal that wants them', needsScript, async (t) => {
  const bench = new Bench(t)
  await exampleJobs(bench)
  assert.ok(terminal(bench, 80, 'jobs', true).join('').includes('\x1b[33mscheduled'))
  for (const args of ['jobs', 'stats', 'job 1']) assert.doesNotMatch(terminal(bench, 80, args).join('\n'), raw)
  assert.doesNotMatch((await bench.run('jobs')).stdout, raw)
})

test('control and bidi characters of a file are never raw, in any form of output', needsScript, async (t) => {
  const bench = new Bench(t)
  const queue = await bench.open()
  const evil = 'a\x1b[2J\x07\x7f\x9b31m\u202e\u2066b\r\tc'
  const worker = bench.start(
    'work',
    'evil',
    '--exec',
    `printf 'x\\033]0;title\\007\\302\\233y\\r\\342\\200\\256z\\n\\tin a line' >&2; exit 65`,
  )
  const { id } = await queue.submit('evil', evil, { queue: 'default', idempotencyKey: evil })
  await queue.submit('\u202eevil', evil, { queue: '\u202equeue' })
  await worker.says(new RegExp(`job ${id} dead`))
  worker.child.kill('SIGTERM')
  assert.doesNotMatch((await worker.ended).stderr, raw)
  const shown = [
    ['jobs'],
    ['job', `${id}`],
    ['stats'],
    ['jobs', '--json'],
    ['job', `${id}`, '--json'],
    ['stats', '--json'],
  ]
  for (const { stdout } of await Promise.all(shown.map((args) => bench.run(...args)))) assert.doesNotMatch(stdout, raw)
  for (const args of ['jobs', `job ${id}`, 'stats'])
    assert.doesNotMatch(terminal(bench, 200, args).join('\n'), raw, args)
  assert.equal(JSON.parse((await bench.run('job', `${id}`, '--json')).stdout).payload, evil)
  assert.match(
    (await bench.run('job', `${id}`)).stdout,
    /attempt\t1\tfailed\t.*x\\x1b\]0;title\\x07\\x9by\\x0d\\u202ez\\x0a\\x09in a line/,
  )
  assert.match((await bench.run('retry', `${id}\x1b[31m`)).stderr, /^gopherqueue: INVALID_ARGUMENT: .*\\x1b/)
})

test('operators: several ids, each reported, and one refusal makes the exit status 1', async (t) => {
  const bench = new Bench(t)
  const queue = await bench.open()
  const submitted = await queue.submitMany('n', [1, 2, 3])
  const [a, b, c] = submitted.map(({ id }) => `${id}`) as [string, string, string]
  const cancelled = await bench.run('cancel', a, '999', b)
  assert.deepEqual([cancelled.code, cancelled.stdout], [1, `${a}\tcancelled\n${b}\tcancelled\n`])
  assert.match(cancelled.stderr, /^gopherqueue: NOT_FOUND: There is no job 999/)
  const retried = await bench.run('retry', a, c, '--json')
  assert.deepEqual([retried.code, JSON.parse(retried.stdout)], [1, { id: Number(a), state: 'ready' }])
  assert.equal(JSON.parse(retried.stderr).code, 'INVALID_STATE')
  assert.deepEqual(await bench.run('rm', b), { code: 0, stdout: `${b}\tremoved\n`, stderr: '' })
  assert.deepEqual((await bench.run('pause', 'mail', '--create', '--json')).stdout, '{"queue":"mail","paused":true}\n')
  await queue.schedule('nightly', '0 3 * * *', 'n', null)
  const stats = JSON.parse((await bench.run('stats', '--json')).stdout)
  assert.ok(stats.file.bytes + stats.file.walBytes > 0 && stats.file.shrinks)
  assert.deepEqual([stats.schedules.length, stats.schedules[0].inCode], [1, true])
  assert.match(
    (await bench.run('stats')).stdout,
    /^file\t\d+\t\d+\t\d+$[\s\S]*^schedule\tnightly\topen\t0 3 \* \* \*\tUTC\t/m,
  )
  assert.deepEqual(stats.queues.map((q: { queue: string; paused: boolean }) => [q.queue, q.paused]), [['default', false], ['mail', true]]) // biome-ignore format: short
  assert.deepEqual([stats.unhandled, stats.health.status], [[{ queue: 'default', type: 'n' }], 'degraded'])
  assert.match((await bench.run('resume', 'mail')).stdout, /^mail\tresumed\n$/)
  const [why, none] = [await bench.run('why', a), await bench.run('why', b)]
  assert.deepEqual([why.code, /no live worker handles type 'n'/.test(why.stdout)], [0, true])
  assert.deepEqual([none.code, none.stdout, /NOT_FOUND/.test(none.stderr)], [1, '', true])
})

test('pages of jobs, as rows and as NDJSON, and a reader that goes away', async (t) => {
  const bench = new Bench(t)
  const queue = await bench.open()
  await queue.submitMany(
    'n',
    Array.from({ length: 1000 }, (_, n) => ({ n, pad: 'x'.repeat(200) })),
  )
  await queue.submit('other', null, { queue: 'side' })
  const page = async (...args: string[]) => (await bench.run('jobs', '--json', ...args)).stdout.trim().split('\n').map((line) => JSON.parse(line).id) // biome-ignore format: short
  assert.deepEqual(await page('--limit', '2'), [1001, 1000])
  assert.deepEqual(await page('--limit', '2', '--cursor', '1000'), [999, 998])
  assert.deepEqual(await page('--limit', '2', '--oldest', '--cursor', '5'), [6, 7])
  assert.deepEqual(await page('--queue', 'side', '--state', 'ready'), [1001])
  assert.deepEqual((await bench.run('jobs', '--type', 'none')).stdout, '')
  const gone = bench.start('jobs', '--limit', '1000')
  gone.child.stdout.destroy()
  const { stderr } = await gone.ended
  assert.equal(stderr, '')
})
