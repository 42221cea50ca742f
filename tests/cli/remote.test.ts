import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { type TestContext, test } from 'node:test'
import { GopherQueue } from '../../src/queue/gopherqueue.ts'
import { serve } from '../../src/server/server.ts'
import { SqliteStore } from '../../src/store/sqlite/store.ts'
import type { Store } from '../../src/store/store.ts'
import { Bench, type Ended } from './support.ts'

/** The command line on a server in this process. What GOPHERQUEUE_DB names in its folder must never be made. */
async function remote(t: TestContext) {
  const server = await serve(await SqliteStore.open(':memory:', { tends: true }), { port: 0, logLevel: 'silent' })
  const bench = new Bench(t)
  t.after(async () => {
    await server.close()
    assert.ok(!existsSync(bench.file), 'no command has touched the file of the environment')
  })
  const fed = (stdin: string, ...args: string[]) => bench.feed(stdin, '--url', server.url, ...args)
  return { server, bench, fed, run: (...args: string[]) => fed('', ...args) }
}

const rows = ({ code, stdout, stderr }: Ended): string[][] => {
  assert.deepEqual([code, stderr], [0, ''])
  return stdout.trimEnd().split('\n').map((line) => line.split('\t')) // biome-ignore format: short
}

test('submit, look, cancel, retry, remove, pause and resume on a server', async (t) => {
  const { run } = await remote(t)
  assert.deepEqual(rows(await run('submit', 'mail', '{"to":"ada"}', '--key', 'k', '--delay', '1h')), [['1']])
  assert.deepEqual(JSON.parse((await run('submit', 'mail', '{"to":"ada"}', '--key', 'k', '--delay', '1h', '--json')).stdout), { id: 1, duplicate: true, state: 'scheduled' }) // biome-ignore format: long
  assert.deepEqual(rows(await run('submit', 'mail', '2', '--queue', 'post', '--priority', 'high')), [['2']])
  const listed = rows(await run('jobs', '--oldest')).map(([id, state, type, queue, priority]) => [id, state, type, queue, priority]) // biome-ignore format: long
  assert.deepEqual(listed, [['1', 'scheduled', 'mail', 'default', 'normal'], ['2', 'ready', 'mail', 'post', 'high']]) // biome-ignore format: a table
  assert.deepEqual(rows(await run('jobs', '--state', 'ready', '--queue', 'post')).length, 1)
  const job = JSON.parse((await run('job', '1', '--json')).stdout)
  assert.deepEqual([job.payload, job.idempotencyKey, job.history], [{ to: 'ada' }, 'k', []])
  assert.match((await run('why', '1')).stdout, /^Job 1 waits until .* as it was submitted for later/)
  assert.deepEqual(rows(await run('cancel', '1', '2')), [['1', 'cancelled'], ['2', 'cancelled']]) // biome-ignore format: a table
  assert.deepEqual(rows(await run('retry', '2')), [['2', 'ready']])
  const removed = await run('rm', '1', '2', '3')
  assert.deepEqual([removed.code, removed.stdout], [1, '1\tremoved\n'])
  assert.match(removed.stderr, /INVALID_STATE: Job 2 is ready[^\n]*\n[^\n]*NOT_FOUND: There is no job 3/)
  assert.deepEqual(rows(await run('pause', 'post')), [['post', 'paused']])
  assert.match((await run('why', '2')).stdout, /paused/)
  assert.deepEqual(rows(await run('resume', 'post')), [['post', 'resumed']])
  const missing = await run('job', '1')
  assert.deepEqual([missing.code, missing.stdout], [1, ''])
  assert.match(missing.stderr, /^gopherqueue: NOT_FOUND: There is no job 1/)
})

test('Ctrl-C ends an event for many jobs after a step, and says how many were changed', async (t) => {
  const store = await SqliteStore.open(':memory:')
  const call = store.call.bind(store)
  let steps = 0
  const endless: Store['call'] = (operation, ...rest) => {
    if (operation !== 'many') return call(operation, ...rest)
    if (++steps === 3) running.child.kill('SIGINT')
    return Promise.resolve({ changed: 2, next: 5 } as never)
  }
  t.mock.method(store, 'call', endless)
  const server = await serve(store, { port: 0, logLevel: 'silent' })
  t.after(() => server.close())
  const running = new Bench(t).start('cancel', '--all', '--url', server.url)
  const { code, stdout, stderr } = await running.ended
  assert.deepEqual([code, stdout, stderr], [130, '', `gopherqueue: INTERRUPTED: ${2 * steps} jobs changed, then stopped.\n`]) // biome-ignore format: long
})

test('stats tell each cause once, and no longer when it is over', async (t) => {
  const { run, server } = await remote(t)
  await run('submit', 'mail', '1')
  const causes = (await run('stats')).stdout.split('\n').filter((line) => line.startsWith('cause'))
  assert.deepEqual(causes.map((line) => line.split('\t')[1]), ['NO_WORKER']) // biome-ignore format: short
  const queue = await GopherQueue.open(server.url)
  queue.define('mail', {}, () => 'sent')
  queue.work()
  await queue.wait(1)
  assert.deepEqual((await queue.health()).causes, [])
  await queue.close()
})

test('25,000 lines in bulk', async (t) => {
  const { fed } = await remote(t)
  const lines = Array.from({ length: 25_000 }, (_, i) => `${i}\n`).join('')
  assert.deepEqual(rows(await fed(lines, 'submit', 'number', '-')), [['25000', '1', '25000']])
  const bad = await fed('1\n2\nthree\n', 'submit', 'number', '-')
  assert.equal(bad.code, 1)
  assert.match(bad.stderr, /Line 3 is no payload.* None of the lines was stored/)
})

test('work runs commands for the jobs of a server, and signs off', async (t) => {
  const { bench, server } = await remote(t)
  const queue = await GopherQueue.open(server.url)
  t.after(() => queue.close())
  const command = 'read -r n; [ "$n" = 3 ] && exit 65; echo "$((n * 2))"'
  const worker = bench.start('--url', server.url, 'work', 'double', '--exec', command, '--concurrency', '2')
  const ids = (await queue.submitMany('double', [1, 2, 3])).map(({ id }) => id)
  assert.deepEqual([await queue.wait(ids[0]!), await queue.wait(ids[1]!)], [2, 4])
  await worker.says(new RegExp(`job ${ids[2]} dead: attempt 1 of 12 .*Exit code 65`))
  worker.child.kill('SIGTERM')
  assert.equal((await worker.ended).code, 0)
  assert.deepEqual((await queue.stats()).workers, [])
})

test('work waits for a server that is away, and hands over what it has', async (t) => {
  const bench = new Bench(t)
  let server = bench.start('serve', '--port', '0', '--log-level', 'warn')
  const url = await server.serves()
  const worker = bench.start('--url', url, 'work', 'slow', '--exec', 'echo > begun; while [ ! -e go ]; do sleep 0.02; done; echo done') // biome-ignore format: long
  assert.equal((await bench.run('--url', url, 'submit', 'slow', '1')).stdout, '1\n')
  await bench.appears('begun')
  server.child.kill('SIGKILL')
  await server.ended
  bench.write('go')
  server = bench.start('serve', '--port', new URL(url).port, '--log-level', 'warn')
  await server.serves()
  await worker.says(/job 1 succeeded: attempt 1 of 12/)
  assert.match((await bench.run('--url', url, 'job', '1')).stdout, /^result\t"?done"?$/m)
})

test('commands on the file itself say that they need it', async (t) => {
  const { run } = await remote(t)
  const commands = ['doctor', 'backup copy.db', 'recover --plan', 'serve --port 0', 'token list']
  for (const command of commands) {
    const { code, stdout, stderr } = await run(...command.split(' '))
    assert.deepEqual([code, stdout], [2, ''], command)
    assert.match(stderr, /INVALID_ARGUMENT: This command works on the file itself: name it with --db FILE/, command)
  }
})

test('which queue is meant is said in one way, and what is no server is no file either', async (t) => {
  const { run, bench, server } = await remote(t)
  const both = await run('jobs', '--db', bench.file)
  assert.deepEqual([both.code, both.stderr.split(':')[1]], [2, ' INVALID_ARGUMENT'])
  for (const url of ['localhost:7420', 'ftp://localhost', 'jobs.db'])
    assert.match(
      (await bench.run('--url', url, 'submit', 'a')).stderr,
      /INVALID_ARGUMENT: --url takes http:\/\/HOST:PORT/,
    )
  const inEnvironment = { GOPHERQUEUE_URL: server.url }
  const { code, stderr } = await bench.startWith(inEnvironment, 'jobs', '--db', 'other.db').ended
  assert.deepEqual([code, stderr.includes('There is no file other.db')], [1, true])
  assert.deepEqual((await bench.startWith(inEnvironment, 'submit', 'a').ended).stdout, '1\n')
})

test('a server that cannot be reached: exit 1, what became of it, and nothing is made in its place', async (t) => {
  const { server, bench } = await remote(t)
  await server.close()
  const commands = ['submit a 1', 'submit a -', 'jobs', 'work a --exec true', 'cancel 1', 'stats', 'pause']
  const all = await Promise.all(commands.map((command) => bench.run('--url', server.url, '--json', ...command.split(' ')))) // biome-ignore format: long
  for (const [i, { code, stdout, stderr }] of all.entries()) {
    assert.deepEqual([code, stdout], [1, ''], commands[i])
    const told = JSON.parse(stderr)
    assert.deepEqual([told.code, told.accepted], ['STORAGE_UNAVAILABLE', 'no'], commands[i])
    assert.match(told.message, /cannot be reached \(.*ECONNREFUSED.*\)\. It never got there; nothing was accepted/)
  }
})

test('prune on a server is one entry of its audit log, with its filter and count', async (t) => {
  const { server, run } = await remote(t)
  await using queue = await GopherQueue.open(server.url)
  for (const type of ['mail', 'other']) await queue.submitMany(type, [1, 2, 3], { delay: '1h' })
  await queue.cancelAll({})
  const prune = ['prune', '--state', 'cancelled', '--type', 'mail', '--older-than']
  assert.deepEqual(rows(await run(...prune, '1h')), [['0 removed']])
  assert.deepEqual(rows(await run(...prune, '0s', '--dry-run')), [['3 would be removed']])
  assert.deepEqual(rows(await run(...prune, '0s')), [['3 removed']])
  const { entries } = (await (await fetch(`${server.url}/v1/audit`)).json()) as { entries: { details: { event: string; filter: Record<string, unknown>; changed: number } }[] } // biome-ignore format: long
  const removals = entries
    .map(({ details }) => details)
    .filter(({ event, changed }) => event === 'remove' && changed > 0)
  assert.deepEqual(
    removals.map(({ filter: { endedBefore, ...filter }, changed }) => [typeof endedBefore, filter, changed]),
    [['number', { state: 'cancelled', type: 'mail' }, 3]],
  )
  assert.equal((await queue.jobs()).jobs.length, 3)
})

test('audit shows what operators did, of a server and of a file, by who and since when', async (t) => {
  const { run, bench } = await remote(t)
  const own = new Bench(t)
  for (const go of [run, (...args: string[]) => own.run(...args)]) {
    if (go !== run) await own.open()
    await go('pause', 'default', '--create')
    await go('resume', 'default')
    const shown = rows(await go('audit'))
    assert.deepEqual(shown.map(([, , action, target]) => [action, target]), Array(2).fill(['setQueue', 'default'])) // biome-ignore format: short
    const who = shown[0]![1]!
    assert.match(who, go === run ? /^loopback$/ : /^cli:/)
    assert.deepEqual(JSON.parse(shown[0]![4]!), { before: { paused: true }, after: { paused: false } })
    assert.equal(rows(await go('audit', '--limit', '1', '--who', who, '--since', '1h')).length, 1)
    const lines = (await go('audit', '--json')).stdout.trimEnd().split('\n')
    assert.deepEqual(lines.map((line) => JSON.parse(line).details.after.paused), [false, true]) // biome-ignore format: short
    assert.equal((await go('audit', '--who', 'token:nobody')).stdout, '')
    const none = await go('audit', '--limit', '0')
    assert.deepEqual([none.code, /INVALID_ARGUMENT: limit must be/.test(none.stderr)], [2, true], none.stderr)
    assert.equal((await go('audit', '--since', '2100-01-01')).stdout, '')
  }
  assert.equal((await bench.run('audit', '--db', 'missing.db')).code, 1)
})
