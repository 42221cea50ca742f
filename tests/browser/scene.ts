import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { setTimeout as pause } from 'node:timers/promises'
import { GopherQueue, PermanentError, TemporaryError } from '../../src/index.ts'

// A bad night: 6 queues, 15 types, 8 causes, a worker that is stuck, one that crashed, a backlog behind a pause, and a week
// of hours before it.

const hour = 3_600_000
/** Each type, its queue, and how many of 56,000 jobs succeed. */
const types: (readonly [type: string, queue: string, jobs: number])[] = [
  ...([['mail.welcome', 'mail', 6000], ['mail.receipt', 'mail', 8000], ['mail.reset', 'mail', 2000]] as const),
  ...([['invoice', 'billing', 4000], ['charge', 'billing', 5000], ['refund', 'billing', 0]] as const),
  ...([['export.csv', 'exports', 1500], ['export.pdf', 'exports', 500]] as const),
  ...([['webhook.order', 'webhooks', 7000], ['webhook.user', 'webhooks', 3000], ['webhook.stock', 'webhooks', 1000]] as const),
  ...([['thumbnail', 'media', 0], ['transcode', 'media', 0]] as const),
  ...([['report.daily', 'reports', 1000], ['report.weekly', 'reports', 1000]] as const),
] // biome-ignore format: a table
/** What fails: its type, how many of 56,000, its message, and whether it dies of it. */
const causes: [type: string, jobs: number, message: (n: number) => string, dies: boolean][] = [
  ['mail.welcome', 700, (n) => `connect ECONNREFUSED 10.0.0.${n % 250}:587`, false],
  ['mail.receipt', 900, (n) => `connect ECONNREFUSED 10.0.0.${n % 250}:587`, false],
  ['mail.reset', 500, (n) => `550 5.1.1 <user${n}@example.com>: mailbox unavailable`, true],
  ['charge', 400, () => 'Request failed with status code 503', false],
  ['charge', 600, () => 'card declined: insufficient_funds', true],
  ['invoice', 300, () => "Cannot read properties of undefined (reading 'vat')", true],
  ['webhook.order', 800, () => 'Request failed with status code 404', true],
  ['export.csv', 300, (n) => `ENOSPC: no space left on device, write '/tmp/export-${n}.csv'`, true],
] // biome-ignore format: a table

export interface Scene extends AsyncDisposable {
  jobs: number
}

/** Makes it in the file: `part` of the jobs of the whole one. */
export async function badNight(file: string, part: number): Promise<Scene> {
  const children: ChildProcess[] = []
  const queue = await GopherQueue.open(file)
  const of = (jobs: number) => Math.ceil(jobs * part)
  const queueOf = (type: string) => types.find(([name]) => name === type)![1]
  await queue.pause('media')
  await queue.submit('export.pdf', { customer: 'customer-1' }, { queue: 'exports', timeout: '12h' })
  children.push(await child(file, 'press-2', 'export.pdf', 1))
  await queue.submitMany('export.csv', [{ customer: 'customer-2' }, { customer: 'customer-3' }], { queue: 'exports' })
  const crashed = await child(file, 'press-3', 'export.csv', 2)
  crashed.kill('SIGKILL')
  await once(crashed, 'exit')
  let jobs = 3
  const submit = async (type: string, payloads: object[], options: object = {}) => {
    for (let at = 0; at < payloads.length; at += 10_000)
      await queue.submitMany(type, payloads.slice(at, at + 10_000), { queue: queueOf(type), ...options })
    jobs += payloads.length
  }
  const some = (count: number, more: object = {}) =>
    Array.from({ length: of(count) }, (_, n) => ({ customer: `customer-${1000 + n}`, ...more, n }))
  for (const [type, , count] of types) await submit(type, some(count))
  for (const [cause, [type, count]] of causes.entries()) await submit(type, some(count, { cause }))
  await submit('invoice', [{ customer: 'customer-4711-x', cause: 5, n: 0 }])
  await submit('thumbnail', some(8000))
  await submit('refund', some(2000)) // nobody works on these
  await submit('report.weekly', some(1500), { delay: '7d' })
  await work(queue, of(2000) + 1) // all but the refunds, and what is stuck
  await queue.close()
  before(file)
  return {
    jobs,
    async [Symbol.asyncDispose]() {
      for (const one of children) {
        one.kill('SIGKILL')
        if (one.exitCode === null && one.signalCode === null) await once(one, 'exit')
      }
    },
  }
}

async function child(file: string, name: string, type: string, jobs: number): Promise<ChildProcess> {
  const program = join(import.meta.dirname, 'scene.child.ts')
  const started = spawn(process.execPath, [program, file, name, type, `${jobs}`], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  await once(started.stdout, 'data')
  return started
}

/** Runs all but those that `stay`, and fails what fails. */
async function work(queue: GopherQueue, stay: number): Promise<void> {
  for (const [type, name] of types.filter(([type]) => type !== 'refund'))
    queue.define<{ n: number; cause?: number }>(type, { queue: name }, ({ payload: { n, cause } }) => {
      const [, , message, dies] = causes[cause ?? -1] ?? []
      if (!message) return
      throw dies
        ? new PermanentError(message(n))
        : new TemporaryError(message(n), { retryAfter: hour + 1000 * ((n * 7) % 900) })
    })
  const worker = queue.work({ name: 'night-1', concurrency: 200 })
  for (let left = 1; left > 0; await pause(100)) {
    const { queues } = await queue.stats()
    const open = queues.filter(({ paused }) => !paused)
    left = open.reduce((sum, { counts }) => sum + counts.ready + counts.running, 0) - stay
  }
  await worker.stop()
}

/** A week of hours, in which each type takes twice as long as the one before it; and the stuck job is so since three hours. */
function before(file: string): void {
  const db = new DatabaseSync(file, { timeout: 10_000 })
  const now = Math.floor(Date.now() / hour)
  const insert = db.prepare('INSERT OR IGNORE INTO gq_hours VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)')
  db.exec('BEGIN IMMEDIATE')
  for (let ago = 1; ago < 8 * 24; ago++)
    for (const [i, [type]] of types.entries()) {
      const all = 50 + ((ago * 13 + i * 29) % 200)
      insert.run(
        now - ago,
        type,
        all + (ago % 7),
        all,
        ago % 23,
        ago % 19,
        ago % 5,
        `[3,${all}]`,
        `[${i},${all},${ago % 9}]`,
        10,
        3 * 2 ** i,
      )
    }
  db.exec(`UPDATE gq_jobs SET started_at = started_at - ${3 * hour} WHERE state = 'running'`)
  db.exec('COMMIT')
  db.close()
}
