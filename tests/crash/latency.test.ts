import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as pause } from 'node:timers/promises'
import { promisify } from 'node:util'
import { GopherQueue } from '../../src/index.ts'
import { nanoseconds, readJournal } from './journal.ts'
import { folderFor, fromEnvironment, start, until } from './processes.ts'
import { randomFrom } from './random.ts'
import type { WorkConfig } from './work.child.ts'

const jobs = fromEnvironment('CRASH_LATENCY_JOBS', 60)

test('an idle worker in another process starts a job within 50 ms of its submission', async (t) => {
  const folder = folderFor(t)
  const file = join(folder, 'jobs.db')
  const log = join(folder, 'work.log')
  const config: WorkConfig = { file, log, concurrency: 4 }
  const worker = start(t, 'work.child.ts', config)
  await until('the worker works', 20, () => readJournal(log).some(([word]) => word === 'working'))

  const queue = await GopherQueue.open(file)
  const random = randomFrom(1)
  const submittedAt = new Map<string, bigint>()
  for (let i = 0; i < jobs; i++) {
    const calledAt = nanoseconds()
    const { id } = await queue.submit('work', null)
    submittedAt.set(String(id), calledAt)
    await queue.wait(id, { timeout: '10s' })
    await pause(random() * 50) // so that the submissions fall anywhere between two looks of the worker
  }
  await queue.close()
  await worker.stop()

  const delays = readJournal(log)
    .filter(([word]) => word === 'start')
    .map(([, id, , at]) => Number(BigInt(at!) - submittedAt.get(id!)!) / 1e6)
    .sort((a, b) => a - b)
  assert.equal(delays.length, jobs)
  const [median, p99, max] = [0.5, 0.99, 1].map((part) => delays[Math.ceil(part * jobs) - 1]!) as [
    number,
    number,
    number,
  ]
  t.diagnostic(
    `submit to start in another process, ${jobs} jobs: median ${median.toFixed(1)} ms, p99 ${p99.toFixed(1)} ms, max ${max.toFixed(1)} ms`,
  )
  assert.ok(median < 30, `median ${median} ms`)
  assert.ok(max < 1000, `max ${max} ms`) // generous: another's work on this machine is not the queue's fault
})

/** Looks 50 times a second, as a worker does, and at nothing. */
const bareLoop = `
  setInterval(() => {}, 20)
  setTimeout(() => {
    const before = process.cpuUsage()
    const since = performance.now()
    setTimeout(() => {
      const { user, system } = process.cpuUsage(before)
      console.log((user + system) / (performance.now() - since) / 10)
      process.exit()
    }, 5000)
  }, 500)`

test('an idle worker costs a few times the CPU of a timer of 20 ms alone', async (t) => {
  const folder = folderFor(t)
  const log = join(folder, 'work.log')
  const config: WorkConfig = { file: join(folder, 'jobs.db'), log, concurrency: 4, measureCpu: 5000 }
  const bare = promisify(execFile)(process.execPath, ['-e', bareLoop]) // at the same time: both have the same noise
  const worker = start(t, 'work.child.ts', config)
  const percent = Number(
    await until('its CPU was measured', 30, () => readJournal(log).find(([word]) => word === 'cpu')?.[1]),
  )
  await worker.stop()
  const timer = Number((await bare).stdout)
  t.diagnostic(`CPU over 5 s: ${percent} % for an idle worker, ${timer.toFixed(3)} % for a timer alone`)
  const most = Math.max(8, 8 * timer) // three to four times on a quiet machine
  assert.ok(percent < most, `${percent} %, a timer alone ${timer} %`)
})
