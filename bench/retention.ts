// npm run bench:retention [-- --seconds 10 --dir FOLDER]: how long retention's steps hold the storage thread, what that
// does to submissions, and whether it keeps up with a busy queue.
import { mkdtempSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { GopherQueue } from '../src/index.ts'
import { systemClock } from '../src/model/clock.ts'
import { Engine } from '../src/store/sqlite/commit.ts'
import { connect } from '../src/store/sqlite/connection.ts'
import type { Stats } from '../src/store/store.ts'

const { values: flags } = parseArgs({
  options: { seconds: { type: 'string', default: '10' }, dir: { type: 'string', default: tmpdir() } },
})
const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))
const megabytes = (bytes: number) => `${(bytes / 1e6).toFixed(1)} MB`

function show(times: number[]): string {
  times.sort((a, b) => a - b)
  const at = (q: number) => (times[Math.min(times.length - 1, Math.floor(times.length * q))] ?? Number.NaN).toFixed(2)
  return `p50 ${at(0.5)}  p99 ${at(0.99)}  max ${at(1)} ms`
}

/** Dead jobs whose time is over, as rows: nobody would want to wait for so many failures. */
function fill(path: string, jobs: number, bytes: number, attempts: number): void {
  const { connection: db } = connect(path, systemClock)
  const job = db.prepare(`INSERT INTO gq_jobs (type, payload) VALUES ('old', ?)`)
  const attempt = db.prepare(
    `INSERT INTO gq_attempts (job_id, attempt, worker, started_at, finished_at, outcome, error_name, error_message, error_stack)
     VALUES (?, ?, 'w', 1, 2, 'failed', 'Error', 'no', ?)`,
  )
  const [payload, stack] = [JSON.stringify('x'.repeat(bytes - 2)), 'x'.repeat(8192)]
  for (let left = jobs; left > 0; left -= 100) {
    db.exec('BEGIN')
    for (let i = 0; i < Math.min(100, left); i++) {
      const { lastInsertRowid: id } = job.run(payload)
      for (let n = 1; n <= attempts; n++) attempt.run(id, n, stack)
    }
    db.exec('COMMIT')
  }
  db.exec(`UPDATE gq_jobs SET state = 'dead', reason = 'exhausted', attempt = ${attempts}, finished_at = 1, prune_at = 2;
           UPDATE gq_queues SET ready = 0, dead = ${jobs}; PRAGMA wal_checkpoint(TRUNCATE)`)
  db.close()
}

/** Each look of the engine, timed to its end: COMMIT, fsync and the WAL's checkpoint included. */
function steps(path: string, jobs: number): string {
  const engine = new Engine(path, systemClock)
  const ask = (operation: 'register' | 'stats', input: unknown) =>
    engine.execute([{ seq: 1, operation, input } as never])[0] as { value: unknown }
  const stats = () => ask('stats', null).value as Stats
  ask('register', { name: 'bench', sources: [{ queue: 'default', type: 'none' }], slots: 1 })
  const phase = (done: (now: Stats) => boolean): { times: number[]; seconds: number } => {
    const times: number[] = []
    let busy = 0
    for (let idle = 0; idle < 30; ) {
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, Math.min(engine.tickIn(20), 300))
      const start = performance.now()
      engine.tick()
      const took = performance.now() - start
      if (done(stats())) break
      idle = took < 0.3 ? idle + 1 : 0
      times.push(took)
      busy += took
    }
    return { times, seconds: busy / 1000 }
  }
  const before = statSync(path).size
  const start = performance.now()
  const pruning = phase(({ queues }) => (queues[0]?.counts.dead ?? 0) === 0)
  const rate = jobs / ((performance.now() - start) / 1000)
  const giving = phase(({ file }) => file!.freeBytes <= Math.max(2 ** 22, file!.bytes / 4))
  engine.close()
  return `delete: ${show(pruning.times)}, ${Math.round(rate).toLocaleString('en')} jobs/s
                       give back: ${show(giving.times)}, ${megabytes(before)} -> ${megabytes(statSync(path).size)}`
}

/** One submitter, one job each 2 ms or so, while `path` has nothing old in it or much. */
async function latency(path: string): Promise<string> {
  const queue = await GopherQueue.open(path)
  queue.define('none', {}, () => undefined)
  const times: number[] = []
  queue.work()
  for (const end = performance.now() + 1000 * Number(flags.seconds); performance.now() < end; await sleep(2)) {
    const start = performance.now()
    await queue.submit('other', 'x'.repeat(200))
    times.push(performance.now() - start)
  }
  const { queues, file } = await queue.stats()
  await queue.close()
  return `${show(times)}, ${queues[0]?.counts.dead ?? 0} old jobs left, ${megabytes(file!.freeBytes)} of ${megabytes(file!.bytes)} free`
}

/** A queue that finishes 10,000 jobs a second (or as many as it can), each of which is to go after `keep` ms. */
async function sustained(path: string, keep: number, perSecond: number): Promise<string> {
  const queue = await GopherQueue.open(path)
  let finished = 0
  queue.define('work', {}, () => void finished++)
  await queue.configure('default', { keepSucceeded: keep })
  queue.work({ concurrency: 100 })
  const kept: number[] = []
  const start = performance.now()
  const elapsed = () => (performance.now() - start) / 1000
  for (let submitted = 0; elapsed() < Number(flags.seconds); ) {
    if (submitted < elapsed() * perSecond && submitted - finished < 5000) {
      await queue.submitMany('work', Array(500).fill('x'.repeat(200)))
      submitted += 500
    } else await sleep(5)
    if (elapsed() > kept.length + 1) kept.push((await queue.stats()).queues[0]!.counts.succeeded)
  }
  const rate = Math.round(finished / elapsed())
  await queue.close()
  return `${rate.toLocaleString('en')} jobs/s finished; kept after each second: ${kept.join(' ')}`
}

async function inFolder(work: (path: string) => Promise<string> | string): Promise<string> {
  const dir = mkdtempSync(join(flags.dir, 'bench-'))
  try {
    return await work(join(dir, 'jobs.db'))
  } finally {
    rmSync(dir, { recursive: true, force: true })
  }
}

for (const [name, jobs, bytes, attempts] of [
  ['200 B', 100_000, 200, 0],
  ['10 KB', 10_000, 10_000, 0],
  ['1 MiB', 500, 2 ** 20, 0],
  ['200 B, 12 attempts', 3000, 200, 12],
  ['1 MiB, 12 attempts', 300, 2 ** 20, 12],
] as const) {
  const filled = (then: (path: string, jobs: number) => Promise<string> | string) =>
    inFolder((path) => {
      fill(path, jobs, bytes, attempts)
      return then(path, jobs)
    })
  console.log(`${name.padEnd(22)} ${await filled(steps)}`)
}
const filled = (path: string) => fill(path, 200_000, 200, 0)
console.log(`submissions, quiet:    ${await inFolder(latency)}`)
console.log(
  `submissions, pruning:  ${await inFolder((path) => {
    filled(path)
    return latency(path)
  })}`,
)
for (const [keep, perSecond] of [[0, 10_000], [1000, 10_000], [0, 1_000_000]] as const) // biome-ignore format: short
  console.log(
    `keep ${`${keep} ms, ${perSecond}/s`.padEnd(17)} ${await inFolder((path) => sustained(path, keep, perSecond))}`,
  )
