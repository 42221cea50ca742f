import { openSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as pause } from 'node:timers/promises'
import type { JobOptions, Worker } from '../../src/index.ts'

// A process of the recorded run. It does a step when its standard input names one, and says when the step is done: two
// such processes take turns, because a recording has one order only as long as one of them writes at a time.
// After each acknowledgement it appends a line to acks.log. What is about to take a fact back is written down before.

export interface RunConfig {
  folder: string
  /** URL of the library: the real one, or a copy that was weakened. */
  library: string
  /** The app's better-sqlite3, if the queue runs on that. */
  driver?: string
}

const { folder, library, ...options } = JSON.parse(process.argv[2]!) as RunConfig
const { GopherQueue, PermanentError, TemporaryError } = (await import(library)) as typeof import('../../src/index.ts')
type Queue = Awaited<ReturnType<typeof GopherQueue.open>>

const acks = openSync(join(folder, 'acks.log'), 'a')
const say = (...words: (string | number)[]): void => void writeSync(acks, `${words.join(' ')}\n`)

let queue: Queue
const running = new Map<number, number>()
let successes = 0
let killAt = Number.POSITIVE_INFINITY

async function open(): Promise<void> {
  queue = await GopherQueue.open(join(folder, 'jobs.db'), { diskReserve: 64 * 1024, ...options })
  const started = (id: number, attempt: number) => {
    running.set(id, attempt)
    say('started', id, attempt)
  }
  queue.define<Numbered>('good', {}, ({ id, attempt, payload }) => {
    started(id, attempt)
    return payload.n
  })
  queue.define<Numbered>('flaky', {}, ({ id, attempt, payload }) => {
    started(id, attempt)
    if (attempt === 1) throw new TemporaryError('not yet', { retryAfter: 1 })
    return payload.n
  })
  queue.define('bad', {}, ({ id, attempt }) => {
    started(id, attempt)
    throw new PermanentError('never')
  })
  queue.define('poor', { maxAttempts: 2, backoff: { kind: 'constant', delay: 1 } }, ({ id, attempt }) => {
    started(id, attempt)
    throw new Error('no luck')
  })
  queue.define('unwanted', {}, async ({ id, attempt }, { signal }) => {
    started(id, attempt)
    await queue.cancel(id)
    await pause(60_000, undefined, { signal })
  })
  queue.define('hang', { visibilityTimeout: '10m' }, async ({ id, attempt }, { signal }) => {
    started(id, attempt)
    await pause(600_000, undefined, { signal })
  })
  queue.on('succeeded', ({ id, attempt }, result) => {
    say('succeeded', id, attempt, result)
    running.delete(id)
    if (++successes === killAt) process.kill(process.pid, 'SIGKILL')
  })
  queue.on('retrying', ({ id, attempt }) => say('failed', id, attempt))
  queue.on('dead', ({ id, attempt }, _error, { reason }) => say('dead', id, attempt, reason!))
  queue.on('cancelled', ({ id, attempt }) => say('cancelled', id, attempt))
  queue.on('released', ({ id, attempt }) => say('released', id, attempt))
  queue.on('leaseLost', ({ id, attempt }) => {
    throw new Error(`attempt ${attempt} of job ${id} was taken away`)
  })
  queue.on('warning', (error) => {
    throw error
  })
}

interface Numbered {
  n: number
  text: string
  bulk?: string
  size?: number
}
let lastNumber = 0
const numbered = (bytes: number): Numbered => ({ n: ++lastNumber, text: 'x'.repeat(bytes) })

async function submit(type: string, options: JobOptions = {}, bytes = 200): Promise<number> {
  const payload = numbered(bytes)
  const { id } = await queue.submit(type, payload, options)
  say('submitted', id, type, payload.n, ...(options.idempotencyKey ? [options.idempotencyKey] : []))
  return id
}

/** Calls that wait together share a transaction. */
const together = (count: number, type: string, options: JobOptions = {}) =>
  Promise.all(Array.from({ length: count }, () => submit(type, options)))

async function bulk(name: string, size: number, bytes: number, options: JobOptions = {}, keyed = false): Promise<void> {
  const payloads = Array.from({ length: size }, () => ({ ...numbered(bytes), bulk: name, size }))
  const key = (i: number) => (keyed ? { idempotencyKey: `${name}-${i}` } : {})
  const stored = await queue.submitMany('good', payloads, (_, i) => ({ ...options, ...key(i) }))
  writeSync(
    acks,
    stored
      .map(({ id }, i) => ['submitted', id, 'good', payloads[i]!.n, ...Object.values(key(i))].join(' ').concat('\n'))
      .join(''),
  )
}

async function cancelWaiting(id: number): Promise<void> {
  await queue.cancel(id)
  say('cancelled', id, 0)
}

async function drained(): Promise<void> {
  for (;;) {
    const { counts } = (await queue.stats()).queues.find((row) => row.queue === 'default')!
    if (counts.ready + counts.scheduled + counts.running === 0) return
    await pause(5)
  }
}

async function holds(jobs: number): Promise<void> {
  while (running.size < jobs) await pause(5)
}

let worker: Worker | undefined

const steps: Record<string, () => Promise<void>> = {
  /** The file is created and migrated; the last one to close it copies the log into it and removes the log. */
  async create() {
    await open()
    for (let i = 0; i < 6; i++) await submit('good')
    await together(20, 'good')
    await queue.close()
  },
  open,
  async submit() {
    for (const type of ['good', 'flaky', 'bad', 'poor', 'unwanted']) {
      for (const priority of ['normal', 'critical', 'bulk'] as const) await submit(type, { priority })
      await together(4, type)
    }
    await bulk('keyed', 40, 100, {}, true)
    await submit('good', { idempotencyKey: 'once' })
    await bulk('large', 150, 5000)
    await queue.pause('quiet')
    say('paused', 'quiet')
    const quiet = [await submit('good', { queue: 'quiet' }), await submit('good', { queue: 'quiet', delay: '1h' })]
    for (const id of quiet) await cancelWaiting(id)
    await submit('good', { queue: 'later', delay: '1h' })
  },
  async work() {
    worker = queue.work({ concurrency: 3 })
    await drained()
    await worker.stop()
    running.clear()
  },
  /** Enough to fill the log several times: it is copied into the file, and begins anew. */
  async fill() {
    for (const { id, attempt } of (await queue.jobs({ state: 'dead', limit: 5 })).jobs) {
      say('retrying', id)
      await queue.retry(id)
      say('retried', id, attempt)
    }
    for (let i = 0; i < 4; i++) {
      await bulk(`fill-${i}`, 250, 3000, { queue: 'store' })
      for (let j = 0; j < 5; j++) await submit('good', { queue: 'store' })
    }
  },
  async giveBack() {
    await together(4, 'hang')
    worker = queue.work({ concurrency: 4 })
    await holds(4)
    for (const [id, attempt] of running) say('releasing', id, attempt)
    await worker.stop({ drain: false })
    running.clear()
  },
  /** Leaves running jobs behind, and has time to set space aside. */
  async hold() {
    worker = queue.work({ concurrency: 3 })
    await holds(3)
    await pause(400)
  },
  /** Submits and works until it is killed amid both. No job is due later: the other process would set it ready. */
  async die() {
    worker = queue.work({ concurrency: 4 })
    killAt = successes + 60
    for (;;) {
      await submit('good')
      await together(3, 'good', { priority: 'high' })
      await submit('bad')
    }
  },
}

for await (const step of createInterface({ input: process.stdin })) {
  await steps[step]!()
  console.log(`${step} done`)
}
process.exit()
