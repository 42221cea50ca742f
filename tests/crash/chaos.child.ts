import { setTimeout as pause } from 'node:timers/promises'
import { GopherQueue, GopherQueueError, type JobOptions } from '../../src/index.ts'
import { Journal, nanoseconds } from './journal.ts'
import { randomFrom } from './random.ts'

// A process of the chaos run. It submits until told to stop, or works; writes down each acknowledgement after it came, each
// start of a handler as its first act and each end as its last, and every 50 ms that it runs at all.

export interface ChaosConfig {
  file: string
  log: string
  role: 'submit' | 'work'
  seed: number
  concurrency: number
  /** Submits poison jobs, ms between two of them. */
  poisonEvery: number
}
export interface ChaosPayload {
  /** How long its handler takes. */
  ms: number
  /** Its handler kills its process then. */
  poison: boolean
}

/** Of all jobs of the run. A lease that is not renewed for so long is over. */
export const visibilityTimeout = 3000
export const maxAttempts = 3
const options: JobOptions = { visibilityTimeout, maxAttempts, backoff: { kind: 'constant', delay: 100 } }
const mostWaiting = 300

async function main(config: ChaosConfig): Promise<void> {
  const journal = new Journal(config.log)
  journal.write('up', nanoseconds(), Date.now())
  setInterval(() => journal.write('beat', nanoseconds()), 50)
  const queue = await opened(config.file)
  // That a late outcome is not taken, or that storage waits for a lock, is part of the run.
  queue.on('warning', (error) => journal.write('warning', String(error).replaceAll('\n', ' ')))
  await (config.role === 'work' ? work(queue, config, journal) : submit(queue, config, journal))
  await queue.close()
  process.exit()
}

/** Its transaction was refused because another that was stopped in the middle of its own held the lock: nothing was stored. */
const isRefusal = (error: unknown) => error instanceof GopherQueueError && error.code === 'STORAGE_UNAVAILABLE'

async function opened(file: string): Promise<GopherQueue> {
  for (;;)
    try {
      return await GopherQueue.open(file)
    } catch (error) {
      if (!isRefusal(error)) throw error
    }
}

function toldToStop(): Promise<void> {
  return new Promise((resolve) => process.stdin.once('end', resolve).resume())
}

async function work(queue: GopherQueue, { concurrency }: ChaosConfig, journal: Journal): Promise<void> {
  queue.on('leaseLost', ({ id, attempt }) => journal.write('lost', id, attempt, nanoseconds()))
  queue.define<ChaosPayload>('chaos', {}, async (job) => {
    journal.write('start', job.id, job.attempt, nanoseconds())
    await pause(job.payload.ms) // heeds no signal, as many handlers do not
    if (job.payload.poison) process.kill(process.pid, 'SIGKILL')
    journal.write('end', job.id, job.attempt, nanoseconds())
  })
  journal.write('worker', queue.work({ concurrency }).name)
  await toldToStop()
}

async function submit(queue: GopherQueue, { seed, poisonEvery }: ChaosConfig, journal: Journal): Promise<void> {
  const random = randomFrom(seed)
  let stopping = false
  void toldToStop().then(() => (stopping = true))
  const payload = (): ChaosPayload => ({ ms: random() < 0.7 ? random() * 30 : 200 + random() * 1300, poison: false })
  const store = async (payloads: ChaosPayload[]) => {
    try {
      const results = await queue.submitMany('chaos', payloads, options)
      journal.writeAll(results.map(({ id }, i) => ['ack', id, payloads[i]!.poison ? 'poison' : 'innocent']))
    } catch (error) {
      if (!isRefusal(error)) throw error
    }
  }
  for (let nextPoison = performance.now() + random() * poisonEvery; !stopping; ) {
    if (performance.now() > nextPoison) {
      nextPoison += poisonEvery
      await store([{ ms: 5 + random() * 100, poison: true }])
    }
    await store(Array.from({ length: random() < 0.8 ? 1 : 20 }, payload))
    const waiting = await queue.stats().catch(() => null)
    const { ready } = waiting?.queues[0]?.counts ?? { ready: 0 }
    await pause(ready > mostWaiting ? 200 : 5)
  }
}

if (process.argv[2]?.startsWith('{')) await main(JSON.parse(process.argv[2]) as ChaosConfig)
