import { parseArgs } from 'node:util'
import { forgiven } from './checker.ts'
import { Files } from './machine.ts'
import { simulate } from './simulate.ts'

const { values } = parseArgs({
  options: {
    seed: { type: 'string' },
    seeds: { type: 'string', default: '1000' },
    from: { type: 'string', default: '1' },
    steps: { type: 'string', default: '200' },
    forgive: { type: 'string', multiple: true, default: [] },
    quiet: { type: 'boolean', default: false },
    trace: { type: 'boolean', default: false },
  },
})
const from = Number(values.seed ?? values.from)
const count = values.seed === undefined ? Number(values.seeds) : 1
const steps = Number(values.steps)

for (const rule of values.forgive) forgiven.add(rule)
using files = new Files()
/** The seeds that broke each rule. */
const broken = new Map<string, number[]>()
const totals: Record<string, number> = {}
let failed = 0
for (let seed = from; seed < from + count; seed++) {
  const { trace, counts, failure } = simulate(seed, files, { steps })
  if (values.trace) process.stdout.write(`${trace.join('\n')}\n`)
  for (const [name, value] of Object.entries(counts)) totals[name] = (totals[name] ?? 0) + value
  if (!failure) continue
  failed++
  const rule = failure.rule.split(/[:\n]/)[0]!
  broken.set(rule, [...(broken.get(rule) ?? []), seed])
  if (values.quiet) continue
  process.stdout.write(
    `seed ${seed} step ${failure.step}: ${failure.rule}\n  npm run simulate -- --seed ${seed} --steps ${Math.min(failure.step, steps)} --trace\n`,
  )
}
for (const [rule, seeds] of [...broken].sort((a, b) => b[1].length - a[1].length))
  process.stdout.write(`${seeds.length} seeds broke '${rule}': ${seeds.slice(0, 8).join(', ')}\n`)
const { user, system } = process.cpuUsage()
const rate = (count / ((user + system) / 1e6)).toFixed(1)
const summary = Object.entries(totals).map(([name, value]) => `${value} ${name}`)
process.stdout.write(`${count} seeds, ${failed} failed; ${summary.join(', ')}; ${rate} seeds a second of one core\n`)
process.exitCode = failed > 0 ? 1 : 0
