import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { GopherQueue } from '../../src/index.ts'
import { nanoseconds, readJournal } from './journal.ts'
import { Child, folderFor, lookInto, start, until } from './processes.ts'
import type { WorkConfig } from './work.child.ts'

// What a killed worker held runs again at once on the same host, although its leases last 30 s: a second on a quiet machine.

const jobs = 5

/** Milliseconds of the clock that all processes share. */
const toMs = (written: string | bigint) => Number(written) / 1e6
const now = () => toMs(nanoseconds())

/** A file with jobs whose first attempt never ends by itself. */
async function fileWithLongJobs(t: TestContext): Promise<string> {
  const folder = folderFor(t)
  const queue = await GopherQueue.open(join(folder, 'jobs.db'))
  const payloads = Array.from({ length: jobs }, () => null)
  await queue.submitMany('hang', payloads, { visibilityTimeout: '30s', timeout: '1h' })
  await queue.close()
  return folder
}

const workConfig = (folder: string, name: string): WorkConfig => ({
  file: join(folder, 'jobs.db'),
  log: join(folder, name),
  concurrency: jobs,
})

/** When the last of the jobs started, by a worker's log. */
async function started(folder: string, name: string): Promise<number> {
  const log = join(folder, name)
  return until(`${jobs} starts in ${name}`, 20, () => {
    const starts = readJournal(log).filter(([word]) => word === 'start')
    return starts.length >= jobs && Math.max(...starts.map((words) => toMs(words[3]!)))
  })
}

/** Each job has one lost attempt, and has then succeeded. */
async function assertResumed(folder: string): Promise<void> {
  const db = lookInto(join(folder, 'jobs.db'))
  const ended = db.prepare(`SELECT COUNT(*) AS n FROM gq_jobs WHERE state = 'succeeded' AND attempt = 2`)
  await until('all succeeded', 10, () => ended.get()!.n === jobs)
  const lost = db.prepare(`SELECT outcome, error_name, COUNT(*) AS n FROM gq_attempts GROUP BY 1, 2`).all()
  assert.deepEqual(
    lost.map((row) => ({ ...row })),
    [{ outcome: 'lost', error_name: 'LeaseLost', n: jobs }],
  )
  db.close()
}

/** Long before a lease of 30 s is over, and long after what a busy machine needs. */
function wasAtOnce(t: TestContext, ms: number): void {
  t.diagnostic(`all ${jobs} jobs run again ${ms.toFixed(0)} ms after`)
  assert.ok(ms < 15_000, `${ms} ms`)
}

test('after SIGKILL, a new process starts the jobs again as soon as it is up', async (t) => {
  const folder = await fileWithLongJobs(t)
  const first = start(t, 'work.child.ts', workConfig(folder, 'first.log'))
  await started(folder, 'first.log')
  await first.kill()
  const second = start(t, 'work.child.ts', workConfig(folder, 'second.log'))
  const last = await started(folder, 'second.log')
  wasAtOnce(t, last - toMs(readJournal(join(folder, 'second.log')).find(([word]) => word === 'up')![1]!))
  await assertResumed(folder)
  await second.stop()
})

test('after SIGKILL, a worker that was already there starts the jobs again at once', async (t) => {
  const folder = await fileWithLongJobs(t)
  const first = start(t, 'work.child.ts', workConfig(folder, 'first.log'))
  await started(folder, 'first.log')
  const second = start(t, 'work.child.ts', workConfig(folder, 'second.log'))
  await until('the second worker works', 20, () =>
    readJournal(join(folder, 'second.log')).some(([word]) => word === 'working'),
  )
  const killed = now()
  await first.kill()
  wasAtOnce(t, (await started(folder, 'second.log')) - killed)
  await assertResumed(folder)
  await second.stop()
})

/** The state letter of a process, as the third field of its stat has it. */
function stateOf(pid: number): string {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
  return stat.slice(stat.lastIndexOf(')') + 2)[0]!
}

const noProc = process.platform !== 'linux' && 'zombies are looked for in /proc'
test('a killed worker whose parent never waits for it counts as gone too', { skip: noProc }, async (t) => {
  const folder = await fileWithLongJobs(t)
  const program = new URL('work.child.ts', import.meta.url).pathname
  const config = JSON.stringify(workConfig(folder, 'first.log'))
  // The shell starts the worker and then becomes a program that waits for nobody, as a careless PID 1 of a container.
  const script = '"$0" "$1" "$2" </dev/zero & echo $!; exec sleep 3600'
  const parent = new Child('sh', ['-c', script, process.execPath, program, config])
  t.after(() => parent.kill())
  const pid = await until('the worker was started', 10, () => parent.output.endsWith('\n') && Number(parent.output))
  await started(folder, 'first.log')
  const killed = now()
  process.kill(pid, 'SIGKILL')
  await until('the worker is a zombie', 10, () => stateOf(pid) === 'Z')

  const second = start(t, 'work.child.ts', workConfig(folder, 'second.log'))
  const last = await started(folder, 'second.log')
  assert.equal(stateOf(pid), 'Z')
  wasAtOnce(t, last - killed)
  await assertResumed(folder)
  await second.stop()
})
