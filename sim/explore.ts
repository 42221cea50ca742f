import { parseArgs } from 'node:util'
import { forgiven } from './checker.ts'
import { Files } from './machine.ts'
import { type Budget, Ground, SmallWorld } from './small.ts'

export interface Explored {
  /** All that can happen in so many steps has been seen. */
  depth: number
  states: number
  runs: number
  /** The shortest way to each rule that was broken. */
  broken: Map<string, { story: string[]; detail: string }>
}

/**
 * All interleavings of a small world, breadth first, until the time is over or `deepest` steps are seen. Each way is run
 * from the start on the real engine; one that leads to a state seen before is not followed.
 */
export function explore(files: Files, budget: Budget, { ms, deepest }: { ms: number; deepest: number }): Explored {
  const explored: Explored = { depth: -1, states: 0, runs: 0, broken: new Map() }
  using ground = new Ground(files.renew())
  const seen = new Set<string>()
  const end = performance.now() + ms
  let front: number[][] = [[]]
  while (front.length > 0 && explored.depth < deepest) {
    const reached: number[][] = []
    for (const script of front) {
      if (performance.now() > end) return explored
      const { choices, digest, story, rule } = new SmallWorld(ground, budget, script).run()
      explored.runs++
      if (rule !== null) {
        const name = rule.split(':')[0]!
        if (!explored.broken.has(name)) explored.broken.set(name, { story, detail: rule })
        continue
      }
      if (seen.has(digest)) continue
      seen.add(digest)
      explored.states++
      for (let choice = 0; choice < choices; choice++) reached.push([...script, choice])
    }
    front = reached
    explored.depth++
  }
  return explored
}

/** The worlds that are looked at: the fewer things can happen, the deeper. */
const budgets: Budget[] = [
  { holds: 1, stops: 0, deaths: 0 },
  { holds: 0, stops: 1, deaths: 0 },
  { holds: 0, stops: 0, deaths: 1 },
  { holds: 1, stops: 1, deaths: 1 },
]

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      minutes: { type: 'string', default: '10' },
      depth: { type: 'string', default: '1000' },
      holds: { type: 'string' },
      stops: { type: 'string' },
      deaths: { type: 'string' },
      forgive: { type: 'string', multiple: true, default: [] },
    },
  })
  for (const rule of values.forgive) forgiven.add(rule)
  using files = new Files()
  const { holds, stops, deaths } = values
  const own = { holds: Number(holds ?? 0), stops: Number(stops ?? 0), deaths: Number(deaths ?? 0) }
  const worlds = (holds ?? stops ?? deaths) ? [own] : budgets
  const ms = (Number(values.minutes) * 60_000) / worlds.length
  for (const budget of worlds) {
    const { depth, states, runs, broken } = explore(files, budget, { ms, deepest: Number(values.depth) })
    const most = Object.entries(budget).map(([name, count]) => `${count} ${name}`)
    process.stdout.write(
      `${most.join(', ')}: all that can happen in ${depth} steps, ${states} states in ${runs} runs\n`,
    )
    for (const [rule, { story, detail }] of broken)
      process.stdout.write(
        `  '${rule}' after ${story.length} steps: ${story.join('; ')}\n    ${detail.slice(0, 300)}\n`,
      )
    if (broken.size > 0) process.exitCode = 1
  }
}
