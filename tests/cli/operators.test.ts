import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import { stripVTControlCharacters } from 'node:util'
import { rowsOf, screen } from '../../src/cli/top.ts'
import { PermanentError } from '../../src/index.ts'
import { retryTimes } from '../../src/model/backoff.ts'
import { testQueue } from '../../src/testing/index.ts'
import { rowsOf as rowsIn } from '../support/filled.ts'
import { Bench, runAll } from './support.ts'

test('schedules are listed, looked ahead, paused, resumed and removed; what is not there is said so', async (t) => {
  const bench = new Bench(t)
  const queue = await bench.open()
  await queue.schedule('nightly', '0 3 * * *', 'report', {}, { timezone: 'Europe/Berlin' })
  assert.match((await bench.run('schedule')).stdout, /^nightly\t\S.*\t0 3 \* \* \*\tEurope\/Berlin\t/)
  const { stdout } = await bench.run('schedule', 'next', 'nightly', '--count', '3', '--json')
  const times = JSON.parse(stdout) as number[]
  assert.deepEqual([times.length, times.every((at) => [1, 2].includes(new Date(at).getUTCHours()))], [3, true])
  for (const [act, paused] of [['pause', true], ['resume', false]] as const) {
    assert.equal((await bench.run('schedule', act, 'nightly')).code, 0)
    assert.equal((await queue.schedules())[0]?.paused, paused)
  } // biome-ignore format: a table
  assert.equal((await bench.run('schedule', 'rm', 'nightly')).code, 0)
  assert.deepEqual(await queue.schedules(), [])
  const gone = await bench.run('schedule', 'next', 'nightly')
  assert.deepEqual([gone.code, gone.stderr], [1, "gopherqueue: NOT_FOUND: There is no schedule 'nightly'.\n"])
})

test('what acts on jobs takes ids or a filter, and a dry run changes nothing', async (t) => {
  const bench = new Bench(t)
  const queue = await bench.open()
  const later = await queue.submitMany('mail', [1, 2, 3], { delay: '1h' })
  await queue.submit('other', 4, { delay: '1h' })
  const counts = async () =>
    Object.values((await queue.stats()).queues[0]!.counts)
      .slice(0, 6)
      .join(' ')
  const run = async (...args: string[]) => {
    const { code, stdout, stderr } = await bench.run(...args)
    return code === 0 ? stdout : `${code}: ${stderr}`
  }
  assert.equal(
    await run('run-now', '--type', 'mail', '--dry-run'),
    '3 jobs would be changed\njob\t3\tscheduled\tready\tmail\tdefault\njob\t2\tscheduled\tready\tmail\tdefault\njob\t1\tscheduled\tready\tmail\tdefault\n',
  )
  assert.equal(await run('run-now', `${later[0]!.id}`, '--dry-run'), `${later[0]!.id}\tready\t(dry run)\n`)
  assert.equal(await counts(), '4 0 0 0 0 0')
  assert.equal(await run('run-now', `${later[0]!.id}`), `${later[0]!.id}\tready\n`)
  assert.match(
    await run('run-now', `${later[0]!.id}`),
    /^1: gopherqueue: INVALID_STATE: Job 1 is ready: 'runNow' does not fit/,
  )
  assert.match(await run('retry', '1', '--dry-run'), /^1: gopherqueue: INVALID_STATE/)
  assert.equal(await run('run-now', '--type', 'mail'), '2 jobs changed\n')
  assert.equal(await run('cancel', '--all', '--json'), '{"changed":4,"dryRun":false}\n')
  assert.equal(await run('retry', '--type', 'other'), '1 job changed\n')
  assert.equal(await run('rm', '--state', 'cancelled', '--queue', 'default'), '3 jobs changed\n')
  assert.equal(await counts(), '0 1 0 0 0 0')
  for (const args of [['cancel'], ['cancel', '1', '--all'], ['rm', '1', '--type', 'mail'], ['rm', '--dry-run']])
    assert.match(await run(...args), /^2: gopherqueue: INVALID_ARGUMENT: Name the jobs by their ids, or by a filter/)
})

test('a dry run counts what the real one changes: states that fit, and unique keys that are free', async (t) => {
  const bench = new Bench(t)
  const queue = await bench.open()
  for (const key of ['a', 'a', 'b', 'b%', null]) {
    const { id } = await queue.submit('mail', 1, key === null ? {} : { uniqueKey: key })
    await queue.cancel(id)
  }
  await queue.submit('mail', 2, { uniqueKey: 'b' })
  await queue.submit('mail', 'a', { uniqueKey: 'ab' }) // has the text, and another key
  const counted = async (...args: string[]) => JSON.parse((await bench.run(...args, '--json')).stdout)
  const dry = await counted('retry', '--type', 'mail', '--dry-run')
  assert.deepEqual([dry.changed, dry.sample.map(({ id }: { id: number }) => id)], [3, [5, 4, 2]])
  assert.deepEqual(dry.sample[0], { id: 5, state: 'cancelled', to: 'ready', type: 'mail', queue: 'default' })
  assert.deepEqual(await counted('retry', '--type', 'mail'), { changed: 3, dryRun: false })
  await queue.submitMany('bulk', Array(2500).fill(null))
  const { changed, sample } = await counted('cancel', '--type', 'bulk', '--dry-run')
  assert.deepEqual([changed, sample.length], [2500, 10])
  assert.equal((await counted('cancel', '--type', 'bulk')).changed, 2500)
  const prune = ['prune', '--state', 'cancelled', '--older-than', '0s', '--type', 'bulk']
  assert.deepEqual(await counted(...prune, '--dry-run'), { removed: 2500, dryRun: true })
  assert.deepEqual(await counted(...prune), { removed: 2500 })
  const entries = rowsIn(bench.file, `SELECT details FROM gq_audit WHERE action IN ('prune', 'remove')`)
  const filter = { state: 'cancelled', olderThan: '0s', type: 'bulk' }
  assert.deepEqual(entries.map(({ details }) => JSON.parse(String(details))), [{ filter, changed: 2500 }]) // biome-ignore format: short
})

test('the times of retries are known before anything fails, and are those at which it is retried', async (t) => {
  const bench = new Bench(t)
  await bench.run('submit', 'charge', '1', '--max-attempts', '4', '--backoff', '{"kind":"table","delays":["1s","1m"]}')
  const { times } = JSON.parse((await bench.run('schedule', '--retries', 'charge', '--json')).stdout)
  assert.deepEqual(times.map((at: number) => at - times[0]), [0, 1000, 61_000, 121_000]) // biome-ignore format: short
  await using queue = testQueue()
  const started: number[] = []
  const charge = queue.define('charge', { maxAttempts: 5 }, (job) => {
    started.push(job.startedAt)
    throw new Error('the bank is closed')
  })
  const { id } = await charge.submit(null)
  const expected = retryTimes((await queue.job(id))!, queue.clock.now())
  await queue.drain()
  await queue.advance('1h')
  assert.deepEqual(started, expected)
})

test('evidence is all of a job in one document; prune deletes only what is old enough and of the state', async (t) => {
  const bench = new Bench(t)
  const queue = await bench.open()
  queue.define('mail', {}, ({ payload }) => {
    if (payload === 'bad') throw new PermanentError('550 no such\nmailbox')
  })
  const [bad, good] = await queue.submitMany('mail', ['bad', 'good'])
  const worker = queue.work({ name: 'mailer' })
  await Promise.allSettled([queue.wait(bad!.id), queue.wait(good!.id)])
  await worker.stop()
  const evidence = JSON.parse((await bench.run('job', `${bad!.id}`, '--evidence')).stdout)
  assert.deepEqual([evidence.evidenceOf, evidence.job.state, evidence.retryTimes], [bad!.id, 'dead', []])
  assert.equal(evidence.history[0].worker, 'mailer')
  assert.match(evidence.history[0].error.stack, /550 no such\nmailbox/)
  assert.equal((await bench.run('prune', '--state', 'dead', '--older-than', '1h')).stdout, '0 removed\n')
  assert.equal((await bench.run('prune', '--state', 'dead', '--older-than', '0s')).stdout, '1 removed\n')
  assert.deepEqual([await queue.job(bad!.id), (await queue.job(good!.id))?.state], [null, 'succeeded'])
})

test('bench measures on the disk of the file, beside it, and leaves nothing', async (t) => {
  const bench = new Bench(t)
  const { code, stdout } = await bench.run('bench', '--jobs', '1200', '--json')
  const { submitOneByOne, submitBy100, work } = JSON.parse(stdout)
  assert.ok(code === 0 && Math.min(submitOneByOne, submitBy100, work) > 0, stdout)
  assert.deepEqual(spawnSync('ls', [bench.folder], { encoding: 'utf8' }).stdout, '')
})

test('the manual is well-formed', async (t) => {
  const bench = new Bench(t)
  const { stdout: page } = await bench.run('man')
  assert.match(page, /^\.TH GOPHERQUEUE 1 .*\n[\s\S]*\.SS schedule next <name>\n/)
  assert.doesNotMatch(page, /^\.(?!TH|SH|SS|TP|B )/m)
})

test('top shows what there is in any width: queues with rates, running jobs, dead letters, what is selected', async () => {
  await using queue = testQueue()
  const fail = queue.define<string>('mail', { priority: 'high' }, ({ payload }) => {
    throw new PermanentError(payload)
  })
  const look = async () => {
    const [running, dead] = await Promise.all([queue.jobs({ state: 'running' }), queue.jobs({ state: 'dead' })])
    return {
      at: queue.clock.now(),
      stats: await queue.stats(),
      health: await queue.health(),
      running: running.jobs,
      dead: dead.jobs,
      failing: [],
    }
  }
  await fail.submit(`\u001b[31m${'x'.repeat(300)}`)
  const before = await look()
  await queue.drain()
  await fail.submitMany(['y', 'z'])
  queue.clock.jump(2000)
  const now = await look()
  for (const columns of [40, 80, 160]) {
    const lines = screen(now, before, 1, columns, 24)
    const plain = lines.map((line) => stripVTControlCharacters(line))
    assert.ok(
      plain.every((line) => [...line].length <= columns),
      plain.join('\n'),
    )
    assert.equal(plain.filter((line) => line.startsWith('>1 ')).length, 1)
    if (columns >= 80) assert.match(plain.join('\n'), /default +open +2 +0 +0 +1 +1\.0 +0\.0 +0\.5/)
    assert.ok(plain.some((line) => columns < 80 || / PermanentError: .*x…$/.test(line)))
    assert.ok(!plain.some((line) => columns >= 80 && / …$/.test(line))) // nothing is cut where there is room
  }
  const restored = { ...now, dead: now.dead.map((job) => ({ ...job, id: 2_857_891_486_001 })) }
  const told = screen(restored, null, 0, 80, 24).map((line) => stripVTControlCharacters(line))
  assert.ok(
    told.some((line) => / 2857891486001 +mail +permanent/.test(line)),
    told.join('\n'),
  ) // no id is cut
  assert.deepEqual(rowsOf(now), [
    { kind: 'queue', name: 'default', paused: false },
    { kind: 'job', id: 1, state: 'dead' },
  ])
})

test('pause and resume refuse a queue that is not there, and take it with --create', async (t) => {
  const bench = new Bench(t)
  await bench.run('submit', 'a', '1', '--queue', 'mail')
  for (const act of ['pause', 'resume']) {
    const { code, stdout, stderr } = await bench.run(act, 'mial')
    assert.deepEqual([code, stdout], [1, ''])
    assert.match(
      stderr,
      /NOT_FOUND: There is no queue 'mial'; did you mean 'mail'\? Nothing was changed: correct the name, or --create\./,
    )
    assert.match((await bench.run(act)).stderr, /There is no queue 'default'; there are 'mail'\. Nothing was changed/)
  }
  const queue = await bench.open()
  assert.deepEqual((await queue.stats()).queues.map((known) => [known.queue, known.paused]), [['mail', false]]) // biome-ignore format: short
  assert.equal((await bench.run('pause', 'mial', '--create')).code, 0)
  assert.equal((await bench.run('pause', 'mail')).code, 0)
  assert.equal((await bench.run('pause', '--create')).code, 0)
  assert.deepEqual((await queue.stats()).queues.map((known) => known.paused), [true, true, true]) // biome-ignore format: short
})

test('a backup into a folder that is missing says so', async (t) => {
  const bench = new Bench(t)
  await bench.run('submit', 'a', '1')
  const { code, stderr } = await bench.run('backup', `${bench.folder}/no/such.db`)
  assert.equal(code, 1)
  assert.match(
    stderr,
    /NOT_A_QUEUE: The folder .*no does not exist\. Make it first, or correct the path; nothing was created/,
  )
})

test('queue set sets what is named and leaves the rest, none takes a limit away; what is wrong changes nothing', async (t) => {
  const bench = new Bench(t)
  await bench.run('submit', 'a', '1', '--queue', 'mail')
  const set = (...args: string[]) => bench.run('queue', 'set', ...args)
  assert.equal((await set('mail', '--rate', '100/1m', '--max-running', '5', '--max-depth', '9')).code, 0)
  assert.equal((await set('mail', '--max-depth', 'none', '--keep-dead', '30d')).code, 0)
  for (const [args, code, said] of [
    [['mail'], 2, /Name what to set/],
    [['mail', '--rate', 'fast'], 2, /Give a rate such as 100\/1m/],
    [['mail', '--rate', '0/1m'], 2, /rate\.max must be a whole number from 1/],
    [['mail', '--max-running', '-1'], 2, /INVALID_ARGUMENT/],
    [['mial', '--max-running', '1'], 1, /There is no queue 'mial'/],
  ] as const) {
    const refused = await set(...args)
    assert.deepEqual([refused.code, refused.stdout], [code, ''], refused.stderr)
    assert.match(refused.stderr, said)
  }
  const { stdout } = await bench.run('queue', '--json')
  assert.deepEqual(JSON.parse(stdout), { queue: 'mail', paused: false, maxDepth: null, maxRunning: 5, maxRunningPerKey: 1, rate: { max: 100, per: 60_000 }, keepSucceeded: 86_400_000, keepCancelled: 604_800_000, keepDead: 2_592_000_000 }) // biome-ignore format: long
  assert.match((await bench.run('queue')).stdout, /^mail\topen\tnone\t5\t1\t100 in 1m\n$/)
  assert.equal((await set('later', '--max-running', '1', '--create')).code, 0)
})

test('a dry run says of jobs whose names plain SQL made wrong what the real run does', async (t) => {
  const bench = new Bench(t)
  await using queue = await bench.open()
  using sql = new DatabaseSync(bench.file)
  const at = Date.now()
  for (const deed of ['cancel', 'retry', 'rm']) {
    await queue.submit('mail', 1, { delay: '1h' })
    sql.exec(`DELETE FROM gq_jobs WHERE blocked < 2 AND state = 'dead';
      INSERT INTO gq_jobs (queue, type, payload, state, attempt, finished_at, reason) VALUES ('', 'mail', '1', 'dead', 1, ${at}, 'exhausted');
      INSERT INTO gq_jobs (queue, type, payload, state, attempt, finished_at, reason) VALUES ('q', 'mail', '1', 'dead', 1, ${at}, 'exhausted');
      INSERT INTO gq_jobs (queue, type, payload) VALUES ('q', 'a' || char(7), '1')`)
    const [dry, real] = runAll(bench.file, [[deed, '--all', '--dry-run'], [deed, '--all']]) // biome-ignore format: one line
    assert.equal(/^\d+/.exec(dry!.out)?.[0], /^\d+/.exec(real!.out)?.[0], `${deed}: ${dry!.out} ${real!.out}`)
  }
  const wrong = sql.prepare(`INSERT INTO gq_jobs (queue, type, payload, state, attempt, finished_at, reason) VALUES ('', 'mail', '1', 'dead', 1, ${at}, 'exhausted')`).run() // biome-ignore format: long
  const id = `${wrong.lastInsertRowid}`
  const [dry, real] = runAll(bench.file, [['retry', id, '--dry-run'], ['retry', id]]) // biome-ignore format: one line
  assert.deepEqual([dry!.code, dry!.err], [1, real!.err.replace(' Nothing was changed.', '')])
})
