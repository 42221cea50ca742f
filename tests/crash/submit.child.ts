import { setTimeout as pause } from 'node:timers/promises'
import { GopherQueue, type JobOptions, type Priority, type SubmitResult } from '../../src/index.ts'
import { Journal, nanoseconds } from './journal.ts'
import { randomFrom } from './random.ts'

// A submitting process: one by one, several at once and in bulk; writes down each acknowledgement after it came.

export interface SubmitConfig {
  file: string
  log: string
  seed: number
  /** Also jobs of type `flaky`, whose first attempt fails. */
  flaky?: boolean
  /** Idempotency keys that an earlier process tried and had no answer for. */
  again?: string[]
}

const { file, log, seed, flaky = false, again = [] } = JSON.parse(process.argv[2]!) as SubmitConfig
const journal = new Journal(log)
const random = randomFrom(seed)
const below = (n: number) => Math.floor(random() * n)
const classes: Priority[] = ['critical', 'high', 'normal', 'low', 'bulk']
const mostWaiting = 2000
let stopping = false
let batches = 0
process.stdin.once('end', () => (stopping = true)).resume()

const queue = await GopherQueue.open(file)

const acknowledged = (results: SubmitResult[], type: string, priority: string, calledAt: bigint) =>
  journal.writeAll(
    results.map(({ id, duplicate }) => [duplicate ? 'known' : 'ack', id, type, priority, calledAt, nanoseconds()]),
  )

function someJob(): { type: string; priority: Priority; options: JobOptions } {
  const priority = classes[below(classes.length)]!
  const type = flaky && below(10) === 0 ? 'flaky' : 'work'
  return { type, priority, options: { priority, backoff: { kind: 'constant', delay: 1 } } }
}

async function one(): Promise<void> {
  const { type, priority, options } = someJob()
  const calledAt = nanoseconds()
  acknowledged([await queue.submit(type, { of: process.pid }, options)], type, priority, calledAt)
}

async function bulk(size: number): Promise<void> {
  const { type, priority, options } = someJob()
  const batch = `${process.pid}.${++batches}`
  const payloads = Array.from({ length: size }, () => ({ batch, size }))
  const calledAt = nanoseconds()
  acknowledged(await queue.submitMany(type, payloads, options), type, priority, calledAt)
}

async function keyed(key: string): Promise<void> {
  journal.write('try', key)
  const options: JobOptions = { idempotencyKey: key, priority: 'normal' }
  const calledAt = nanoseconds()
  const result = await queue.submit('work', { key }, options)
  acknowledged([result], 'work', 'normal', calledAt)
  journal.write('done', key)
}

try {
  for (const key of again) await keyed(key)
  for (let round = 0; !stopping; round++) {
    const kind = below(10)
    if (kind < 5) await one()
    else if (kind < 7) await keyed(`${process.pid}-${round}`)
    else if (kind < 9) await Promise.all(Array.from({ length: 1 + below(8) }, one))
    else await bulk(1 + below(50))
    if (round % 20 > 0) continue
    while (!stopping) {
      const { queues } = await queue.stats()
      if ((queues[0]?.counts.ready ?? 0) < mostWaiting) break
      await pause(20)
    }
  }
} catch (error) {
  journal.write('error', 'submitter', String(error).replaceAll('\n', ' '))
  process.exitCode = 1
} finally {
  await queue.close()
}
