import { parseArgs } from 'node:util'
import { Files } from './machine.ts'
import { simulate } from './simulate.ts'

const { values } = parseArgs({
  options: {
    seed: { type: 'string' },
    seeds: { type: 'string', default: '1000' },
    from: { type: 'string', default: '1' },
    steps: { type: 'string', default: '200' },
    trace: { type: 'boolean', default: false },
  },
})
const from = Number(values.seed ?? values.from)
const count = values.seed === undefined ? Number(values.seeds) : 1
const steps = Number(values.steps)

using files = new Files()
const totals: Record<string, number> = {}
let failed = 0
for (let seed = from; seed < from + count; seed++) {
  const { trace, counts, failure } = simulate(seed, files, { steps })
  if (values.trace) process.stdout.write(`${trace.join('\n')}\n`)
  for (const [name, value] of Object.entries(counts)) totals[name] = (totals[name] ?? 0) + value
  if (!failure) continue
  failed++
  process.stdout.write(
    `seed ${seed} step ${failure.step}: ${failure.rule}\n  npm run simulate -- --seed ${seed} --steps ${Math.min(failure.step, steps)} --trace\n`,
  )
}
const { user, system } = process.cpuUsage()
const rate = (count / ((user + system) / 1e6)).toFixed(1)
const summary = Object.entries(totals).map(([name, value]) => `${value} ${name}`)
process.stdout.write(`${count} seeds, ${failed} failed; ${summary.join(', ')}; ${rate} seeds a second of one core\n`)
process.exitCode = failed > 0 ? 1 : 0
