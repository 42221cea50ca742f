import { type JobOptions, jobSpec, priorities } from '../src/model/job.ts'
import type { Input, QueueSettings, Source } from '../src/store/store.ts'
import type { Random } from './random.ts'

// What apps and operators ask for, drawn from small sets so that they meet each other.

export const lines: Source[] = ['a', 'b'].flatMap((queue) => ['x', 'y'].map((type) => ({ queue, type })))

export function anySubmission(random: Random, nextPayload: () => number, now: number): Input<'submit'> {
  const count = random.weighted({ one: 8, few: 2, many: 0.3 })
  const size = count === 'one' ? 1 : count === 'few' ? 2 + random.below(3) : 35
  const specs = Array.from({ length: random.chance(0.7) ? 1 : size }, () => {
    const { queue, type } = random.pick(lines)
    return jobSpec(type, { queue, ...anyOptions(random, now) })
  })
  const payloads = Array.from({ length: size }, () => `{"n":${nextPayload()}}`)
  const keys = random.chance(0.3) ? payloads.map(() => random.pick(['k1', 'k2', 'k3', null])) : null
  return { specs: specs.length === 1 ? specs[0]! : specs, payloads, keys }
}

function anyOptions(random: Random, now: number): JobOptions {
  const options: JobOptions = {
    priority: random.pick(priorities),
    maxAttempts: random.pick([1, 2, 3, 12]),
    timeout: random.pick([10_000, 60_000, 900_000]),
    visibilityTimeout: random.pick([5000, 30_000]),
    onTimeout: random.pick(['retry', 'dead']),
    idempotencyWindow: random.pick([0, 60_000, 86_400_000]),
  }
  const delay = random.pick([0, 1000, 60_000])
  if (random.chance(0.7))
    options.backoff = random.pick([
      { kind: 'constant', delay },
      { kind: 'linear', delay },
      { kind: 'table', delays: [0, delay] },
    ] as const satisfies NonNullable<JobOptions['backoff']>[])
  if (random.chance(0.15)) options.delay = random.pick([1, 1000, 30_000, 3_600_000])
  else if (random.chance(0.05)) options.runAt = now + random.pick([-1000, 0, 5000])
  if (random.chance(0.3)) options.concurrencyKey = random.pick(['k', 'l'])
  if (random.chance(0.1)) options.deadline = random.chance(0.5) ? now + random.pick([0, 10_000]) : '30s'
  return options
}

export function anySettings(random: Random): QueueSettings {
  const queue = random.pick(['a', 'b'])
  const what = random.weighted({ pause: 2, resume: 4, depth: 1, running: 2, keep: 2 })
  if (what === 'pause' || what === 'resume') return { queue, paused: what === 'pause' }
  if (what === 'depth') return { queue, maxDepth: random.pick([3, 20, null]) }
  if (what === 'running')
    return { queue, maxRunning: random.pick([1, 3, null, null]), maxRunningPerKey: random.pick([1, 2]) }
  return {
    queue,
    keepSucceeded: random.pick([1000, 60_000, null]),
    keepCancelled: 30_000,
    keepDead: random.pick([null, 60_000]),
  }
}

/** What one process works on: up to two workers, or none where an app only submits. */
export function anyWorkers(random: Random): { sources: Source[]; slots: number }[] {
  return Array.from({ length: random.below(3) }, () => {
    const sources = lines.filter(() => random.chance(0.7))
    return { sources: sources.length > 0 ? sources : [random.pick(lines)], slots: 1 + random.below(4) }
  })
}
