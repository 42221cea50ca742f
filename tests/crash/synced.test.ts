import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { readFileSync, realpathSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { GopherQueue } from '../../src/index.ts'
import { folderFor, fromEnvironment, start } from './processes.ts'
import type { SyncedConfig } from './synced.child.ts'
import { readTrace } from './trace.ts'

// What is promised is on disk before: seen from outside, in the system calls themselves.

const jobs = fromEnvironment('CRASH_TRACED_JOBS', 25)

const tracer = 'strace'

function untraceable(): string | false {
  const { error, status, stderr } = spawnSync(tracer, ['-e', 'trace=none', 'true'], { encoding: 'utf8' })
  if (error) return `${tracer} is not installed`
  return status === 0 ? false : `${tracer} may not trace here: ${stderr.trim().split('\n')[0]}`
}
const skip = untraceable()

async function traceOf(t: TestContext, folder: string, work: boolean, kinds: string[]) {
  const output = join(folder, 'trace')
  const config: SyncedConfig = { file: join(folder, 'jobs.db'), jobs, work }
  const calls = 'trace=fdatasync,fsync,pwrite64,write'
  const child = start(t, 'synced.child.ts', config, [tracer, '-f', '-y', '-s', '32', '-e', calls, '-o', output])
  assert.equal(await child.ended, 0, child.complaints)
  return readTrace(readFileSync(output, 'utf8'), join(realpathSync(folder), 'jobs.db-wal'), kinds)
}

test('each submission is written and synced to the WAL before its acknowledgement', { skip }, async (t) => {
  const folder = folderFor(t)
  const acknowledged = await traceOf(t, folder, false, ['ACK'])
  assert.equal(acknowledged.length, jobs)
  for (const { id, writes, synced } of acknowledged)
    assert.ok(writes > 0 && synced, `job ${id}: ${writes} writes, synced: ${synced}`)
  const writes = acknowledged.reduce((sum, ack) => sum + ack.writes, 0)
  t.diagnostic(
    `${jobs} acknowledgements, ${writes} writes to the WAL, each followed by a sync before the acknowledgement`,
  )
})

test('each lease is written and synced before its handler starts, each success before it is told', {
  skip,
}, async (t) => {
  const folder = folderFor(t)
  const queue = await GopherQueue.open(join(folder, 'jobs.db'))
  await queue.submitMany(
    'traced',
    Array.from({ length: jobs }, (_, i) => ({ i })),
  )
  await queue.close()
  const promised = await traceOf(t, folder, true, ['START', 'DONE'])
  assert.equal(promised.filter(({ promise }) => promise === 'START').length, jobs)
  assert.equal(promised.filter(({ promise }) => promise === 'DONE').length, jobs)
  for (const { promise, id, writes, synced } of promised)
    assert.ok(writes > 0 && synced, `${promise} ${id}: ${writes} writes, synced: ${synced}`)
})

const wal = '/data/jobs.db-wal'
const file = '/data/jobs.db'
const frame = (path = wal) => `101 pwrite64(17<${path}>, "\\0\\0\\0"..., 4096, 32) = 4096`
const sync = (path = wal) => `101 fsync(17<${path}>)              = 0`
const ack = (id: number) => `100 write(1<pipe:[5]>, "ACK ${id}\\n", 6) = 6`
const traces: [what: string, trace: string[], good: boolean][] = [
  ['a write, a sync, the acknowledgement', [frame(), frame(), sync(), ack(1)], true],
  ['no sync', [frame(), ack(1)], false],
  ['a sync of another file', [frame(), sync(file), ack(1)], false],
  ['a sync before the write', [sync(), frame(), ack(1)], false],
  ['a sync only of the first of two writes', [frame(), sync(), frame(), ack(1)], false],
  ['a sync after the acknowledgement', [frame(), ack(1), sync()], false],
  ['nothing written', [sync(), ack(1)], false],
  ['a failed sync', [frame(), sync().replace('= 0', '= -1 EIO (Input/output error)'), ack(1)], false],
  [
    'a sync that takes its time, and comes back in time',
    [
      frame(),
      `101 fsync(17<${wal}> <unfinished ...>`,
      '102 write(9<x>, "", 1) = 1',
      '101 <... fsync resumed>) = 0',
      ack(1),
    ],
    true,
  ],
  [
    'a sync that has not come back',
    [frame(), `101 fsync(17<${wal}> <unfinished ...>`, ack(1), '101 <... fsync resumed>) = 0'],
    false,
  ],
  [
    'a sync that began before the write came back',
    [
      `102 pwrite64(17<${wal}>, "\\0"..., 4096, 32 <unfinished ...>`,
      sync(),
      '102 <... pwrite64 resumed>) = 4096',
      ack(1),
    ],
    false,
  ],
]
test('the reader of traces tells a synced acknowledgement from one that is not', () => {
  for (const [what, lines, good] of traces) {
    const [first] = readTrace(lines.join('\n'), wal, ['ACK'])
    assert.equal(first!.writes > 0 && first!.synced, good, what)
  }
  const second = readTrace([frame(), sync(), ack(1), ack(2)].join('\n'), wal, ['ACK'])[1]!
  assert.deepEqual(second, { promise: 'ACK', id: 2, writes: 0, synced: true })
})
