import { setTimeout as pause } from 'node:timers/promises'
import type { ActiveJob } from '../../src/index.ts'
import { Journal, nanoseconds } from './journal.ts'

// A worker process: writes down each start as its handler's first act, and each end as its last.

export interface WorkConfig {
  file: string
  log: string
  concurrency: number
  /** Longest duration of a `work` handler in ms; 0 (default) ends it in the same turn. */
  longest?: number
  /** Only every so manieth job takes that time. Default 1: all do. */
  slowEvery?: number
  /** Measure this process's CPU for so many ms, then write it down. */
  measureCpu?: number
  /** Stop by itself when no job is left to run. */
  whileWaiting?: boolean
}

const config = JSON.parse(process.argv[2]!) as WorkConfig
const journal = new Journal(config.log)
journal.write('up', nanoseconds())
const { GopherQueue } = await import('../../src/index.ts') // after the line: its loading is part of the start-up measured

const queue = await GopherQueue.open(config.file)
queue.on('warning', (error) => journal.write('error', 'worker', String(error).replaceAll('\n', ' ')))
queue.on('leaseLost', ({ id, attempt }) => journal.write('lost', id, attempt))
queue.on('health', (health) => journal.write('error', 'health', JSON.stringify(health)))

const started = (job: ActiveJob) => journal.write('start', job.id, job.attempt, nanoseconds())
const ended = (job: ActiveJob) => journal.write('end', job.id, job.attempt, nanoseconds())
const { longest = 0, slowEvery = 1 } = config

queue.define('work', {}, async (job) => {
  started(job)
  if (longest > 0 && job.id % slowEvery === 0) await pause((job.id * 7919) % (longest + 1))
  ended(job)
})
queue.define('flaky', {}, (job) => {
  started(job)
  ended(job)
  if (job.attempt === 1) throw new Error('the first time always fails')
})
queue.define('hang', {}, async (job, { signal }) => {
  started(job)
  if (job.attempt === 1) await pause(3_600_000, undefined, { signal })
  ended(job)
  return `attempt ${job.attempt}`
})
queue.define('nap', {}, async (job) => {
  started(job)
  if (job.attempt === 1) await pause(1500)
  ended(job)
  return `attempt ${job.attempt}`
})
queue.define('poison', {}, (job) => {
  started(job)
  process.kill(process.pid, 'SIGKILL')
  for (;;); // the signal is on its way: no later line of this handler may run
})
const worker = queue.work({ concurrency: config.concurrency })
process.stdin.once('end', () => void queue.close()).resume()
await queue.stats() // answered after the worker's registration: start-up is over

if (config.measureCpu) {
  const before = process.cpuUsage()
  const since = nanoseconds()
  await pause(config.measureCpu)
  const used = process.cpuUsage(before)
  const passed = Number(nanoseconds() - since) / 1000
  journal.write('cpu', (((used.user + used.system) / passed) * 100).toFixed(3))
}
journal.write('working', worker.name)

while (config.whileWaiting) {
  const { queues } = await queue.stats()
  const left = queues.reduce((sum, { counts }) => sum + counts.scheduled + counts.ready + counts.running, 0)
  if (left === 0) break
  await pause(10)
}
if (config.whileWaiting) {
  await queue.close()
  process.exit()
}
