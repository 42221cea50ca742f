// node bench/limits.ts [--jobs 1000000 --keys 10000]: what a claim and a completion cost with limits and without, at the same backlog.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { systemClock } from '../src/model/clock.ts'
import { jobSpec } from '../src/model/job.ts'
import { Engine } from '../src/store/sqlite/commit.ts'
import type { Reply } from '../src/store/sqlite/request.ts'
import type { LeasedJob } from '../src/store/store.ts'

const { values } = parseArgs({
  options: { jobs: { type: 'string', default: '1000000' }, keys: { type: 'string', default: '10000' } },
})
const [jobs, keys] = [Number(values.jobs), Number(values.keys)]
const [slots, rounds] = [100, 200]
const sources = [{ queue: 'default', type: 'bench' }]
const payload = JSON.stringify({ to: 'someone@example.com', body: 'x'.repeat(160) })

function measure(limited: boolean): { submit: number; claim: number; complete: number } {
  const dir = mkdtempSync(join(tmpdir(), 'bench-'))
  const engine = new Engine(join(dir, 'jobs.db'), systemClock)
  let seq = 0
  const value = (replies: Reply[]) => {
    const reply = replies[0]!
    if ('error' in reply) throw reply.error
    return reply.value
  }
  if (limited) {
    const input = { queue: 'default', maxRunning: slots * 2, maxRunningPerKey: 1 }
    value(engine.execute([{ seq: ++seq, operation: 'setQueue', input }]))
  }
  const plain = jobSpec('bench', {})
  const specs = Array.from({ length: keys }, (_, i) => jobSpec('bench', { concurrencyKey: `customer-${i}` }))
  const time = { submit: 0, claim: 0, complete: 0 }
  const timed = (what: keyof typeof time, work: () => void) => {
    const start = performance.now()
    work()
    time[what] += performance.now() - start
  }
  for (let at = 0; at < jobs; at += 1000) {
    const payloads = Array<string>(1000).fill(payload)
    const own = limited ? payloads.map((_, i) => specs[(at + i) % keys]!) : plain
    timed('submit', () =>
      value(engine.execute([{ seq: ++seq, operation: 'submit', input: { specs: own, payloads, keys: null } }])),
    )
  }
  const registration = { name: 'bench', sources, slots }
  const worker = value(engine.execute([{ seq: ++seq, operation: 'register', input: registration }])) as number
  for (let round = 0; round < rounds; round++) {
    let leased: LeasedJob[] = []
    timed('claim', () => {
      const input = { worker, sources, slots, exclude: [] }
      leased = value(engine.execute([{ seq: ++seq, operation: 'lease', input }])) as LeasedJob[]
    })
    if (leased.length !== slots) throw new Error(`${leased.length} leased, not ${slots}`)
    timed('complete', () =>
      engine.execute(
        leased.map((lease) => ({ seq: ++seq, operation: 'succeed', input: { lease, result: 'null' } }) as const),
      ),
    )
  }
  engine.close()
  rmSync(dir, { recursive: true })
  const each = (ms: number, count: number) => (ms * 1000) / count
  return {
    submit: each(time.submit, jobs),
    claim: each(time.claim, rounds * slots),
    complete: each(time.complete, rounds * slots),
  }
}

const [without, limited] = [measure(false), measure(true)]
console.log(`${jobs} ready jobs, ${keys} keys with limits; µs a job, ${slots} a transaction`)
for (const what of ['submit', 'claim', 'complete'] as const)
  console.log(
    `${what.padEnd(9)} without ${without[what].toFixed(1).padStart(6)}   with ${limited[what].toFixed(1).padStart(6)}   ${(limited[what] / without[what]).toFixed(2)} x`,
  )
