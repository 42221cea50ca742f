import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import { stripVTControlCharacters } from 'node:util'
import { screen } from '../../src/cli/top.ts'
import { PermanentError, TemporaryError } from '../../src/index.ts'
import { main } from '../support/bundled.ts'
import { Bench } from './support.ts'

const refused = 'PermanentError: the receipt printer of the shop answered with status 503 and a page about maintenance'

/** 12 dead of one cause, 3 of another; 4 fail now. */
async function outage(bench: Bench): Promise<void> {
  const queue = await bench.open()
  const receipt = queue.define<number>('receipt', { queue: 'shop' }, ({ payload }) => {
    if (payload < 12) throw new PermanentError(refused.slice('PermanentError: '.length))
    throw new PermanentError(`no order ${payload} of customer${payload}@example.com`)
  })
  const mail = queue.define<number>('mail', {}, ({ payload }) => {
    throw new TemporaryError(`connect ECONNREFUSED 10.0.0.${payload}:25`, { retryAfter: '1h' })
  })
  const receipts = await receipt.submitMany(Array.from({ length: 15 }, (_, i) => i))
  const mails = await mail.submitMany([1, 2, 3, 4])
  const worker = queue.work()
  await Promise.allSettled(receipts.map(({ id }) => queue.wait(id)))
  while ((await queue.failing()).causes[0]?.count !== mails.length)
    await new Promise((resolve) => setTimeout(resolve, 20))
  await worker.stop()
}

test('dead and failing: counted by cause, retried by it, some first', async (t) => {
  const bench = new Bench(t)
  await outage(bench)
  const dead = await bench.run('dead')
  const rows = dead.stdout
    .trimEnd()
    .split('\n')
    .map((line) => line.split('\t'))
  const short = rows.map(([count, type, queue, , newest, cause]) => [count, type, queue, newest, cause])
  assert.deepEqual(short, [['12', 'receipt', 'shop', '12', refused], ['3', 'receipt', 'shop', '15', 'PermanentError: no order # of #']]) // biome-ignore format: a table
  const { causes, counting, next } = JSON.parse((await bench.run('failing', '--json')).stdout)
  assert.deepEqual([causes.length, causes[0].count, causes[0].cause, counting, next], [1, 4, 'TemporaryError: connect ECONNREFUSED #:25', false, null]) // biome-ignore format: one line
  assert.equal((await bench.run('dead', '--type', 'mail')).stdout, '')
  const listed = await bench.run('jobs', '--cause', 'PermanentError: no order # of #', '--state', 'dead')
  assert.deepEqual(listed.stdout.trimEnd().split('\n').map((line) => line.split('\t').at(-1)), [14, 13, 12].map((n) => `PermanentError: no order ${n} of customer${n}@example.com`)) // biome-ignore format: one line
  const changed = async (...args: string[]) => JSON.parse((await bench.run(...args, '--json')).stdout).changed
  assert.equal(await changed('retry', '--cause', refused, '--dry-run'), 12)
  assert.equal(await changed('retry', '--cause', refused, '--limit', '10'), 10)
  assert.equal(await changed('retry', '--cause', refused, '--queue', 'other'), 0)
  assert.equal(await changed('retry', '--cause', refused), 2)
  assert.equal(await changed('rm', '--cause', 'PermanentError: no order # of #', '--type', 'receipt'), 3)
  assert.equal((await bench.run('dead')).stdout, '')
  const bad = await bench.run('retry', '--limit', '10')
  assert.deepEqual([bad.code, bad.stdout], [2, ''])
})

const recorder = 'script'
const script = { skip: spawnSync(recorder, ['--version']).error ? 'script(1) of util-linux is not installed' : false }

test('a cause is whole at 80 and at 160 columns, with its count', script, async (t) => {
  const bench = new Bench(t)
  await outage(bench)
  for (const columns of [80, 160]) {
    const command = `stty cols ${columns} rows 40; '${process.execPath}' '${main}' dead`
    const env = { ...process.env, TERM: 'xterm-256color', NO_COLOR: '1', GOPHERQUEUE_DB: bench.file }
    const { stdout } = spawnSync(recorder, ['-qec', command, '/dev/null'], { env, encoding: 'utf8' })
    const lines = stripVTControlCharacters(stdout).replaceAll('\r\n', '\n').trimEnd().split('\n')
    if (columns === 160) assert.match(lines[1]!, new RegExp(`^ *12 +receipt +shop +.* ago +${refused}$`))
    else assert.deepEqual([/^ *12 +receipt in shop, .* ago$/.test(lines[0]!), lines[1]!.trim()], [true, refused])
  }
})

test('top shows in a line or two why jobs fail now', async (t) => {
  const bench = new Bench(t)
  await outage(bench)
  const queue = await bench.open()
  const { causes } = await queue.failing({ limit: 2 })
  const look = { at: Date.now(), stats: await queue.stats(), health: await queue.health(), running: [], dead: [], failing: causes } // biome-ignore format: one line
  for (const columns of [80, 160]) {
    const lines = screen(look, null, 0, columns, 24).map((line) => stripVTControlCharacters(line).trimEnd())
    assert.ok(lines.includes('4 failing: mail: TemporaryError: connect ECONNREFUSED #:25'), lines.join('\n'))
  }
})

test('doctor --repair counts anew what somebody has changed', async (t) => {
  const bench = new Bench(t)
  await outage(bench)
  const db = new DatabaseSync(bench.file)
  db.exec('UPDATE gq_causes SET jobs = 99; UPDATE gq_jobs SET cause = NULL WHERE id = 1')
  const broken = await bench.run('doctor')
  assert.match(broken.stdout, /^FAIL\tcauses\tnot so that .*\t'gopherqueue doctor --repair' counts them anew$/m)
  const { code, stdout } = await bench.run('doctor', '--repair')
  assert.equal(code, 0, stdout)
  const said = db.prepare('SELECT dead, cause, jobs FROM gq_causes ORDER BY jobs DESC').all().map(Object.values)
  assert.deepEqual(said, [[1, refused, 12], [0, 'TemporaryError: connect ECONNREFUSED #:25', 4], [1, 'PermanentError: no order # of #', 3]]) // biome-ignore format: a table
  db.close()
})
