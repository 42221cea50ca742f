// node bench/lines.ts [--jobs 10000]: a worker that drains so many jobs of one queue, and as many of 2,000 queues x 5 types.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { GopherQueue } from '../src/index.ts'

const { values } = parseArgs({ options: { jobs: { type: 'string', default: '10000' } } })
const jobs = Number(values.jobs)

async function drain(queues: number, types: number): Promise<number> {
  const dir = mkdtempSync(join(tmpdir(), 'bench-lines-'))
  const gq = await GopherQueue.open(join(dir, 'jobs.db'))
  let left = jobs
  let done: (ms: number) => void
  const ended = new Promise<number>((resolve) => (done = resolve))
  let start = 0
  const handler = () => {
    if (--left === 0) done(performance.now() - start)
  }
  const tasks = Array.from({ length: types }, (_, i) => gq.define(`t${i}`, {}, handler))
  const payloads = Array.from({ length: jobs / queues / types }, () => ({ body: 'x'.repeat(160) }))
  const names = Array.from({ length: queues }, (_, i) => `q${i}`)
  for (const queue of names) await Promise.all(tasks.map((task) => task.submitMany(payloads, { queue })))
  start = performance.now()
  const worker = gq.work({ queues: names, concurrency: 100 })
  const ms = await ended
  await worker.stop()
  await gq.close()
  rmSync(dir, { recursive: true })
  return ms
}

for (let run = 0; run < 3; run++) {
  const one = await drain(1, 1)
  const many = await drain(2000, 5)
  console.log(
    `one queue ${one.toFixed(0)} ms, 2,000 queues x 5 types ${many.toFixed(0)} ms: ${(many / one).toFixed(1)} x`,
  )
}
