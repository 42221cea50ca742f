import { type JobOptions, jobSpec, priorities } from '../src/model/job.ts'
import type { Input, QueueSettings, ScheduleSettings, Source } from '../src/store/store.ts'
import type { Happens } from './happen.ts'
import type { Random } from './random.ts'
import { crons } from './ticks.ts'

// What apps and operators ask for, drawn from small sets so that they meet each other.

export const lines: Source[] = ['a', 'b'].flatMap((queue) => ['x', 'y'].map((type) => ({ queue, type })))
/** Where schedules submit, and nothing else. */
const ticking: Source = { queue: 't', type: 'x' }
/** Rows that no rule can read. */
const wild: Source = { queue: 'w', type: 'x' }
export const allLines = [...lines, ticking, wild]

/** What happens once in some seeds, whatever chance says: by the last digits of the seed. */
export type Incident = 'restored' | 'newer' | 'wild'
export const incidents: Record<number, Incident> = { 7: 'restored', 13: 'newer', 17: 'wild' }

/** What a seed is about. */
export interface Flavour {
  name: 'chance' | 'poison' | 'remote'
  weights: Record<Happens, number>
  /** How often others act between two statements. */
  odds: number
  /** No handler fails. */
  succeeds: boolean
  slots: readonly number[]
  /** Processes on other hosts. */
  remotes: number
}

const chance: Record<Happens, number> = {
  ...{ submit: 14, execute: 30, finish: 22, tick: 10, advance: 12, operate: 6, late: 2, heartbeat: 2, wait: 2 },
  ...{
    crash: 1.5,
    kill: 0.5,
    start: 3,
    stop: 0.5,
    sleep: 1,
    jump: 0.5,
    hold: 1.5,
    fault: 3,
    sql: 1,
    recount: 0.5,
    schedule: 0.5,
  },
}
/** Jobs kill their processes, and nothing else goes wrong. */
const poison: Record<Happens, number> = {
  ...{ submit: 10, execute: 30, finish: 16, tick: 6, advance: 10, operate: 0, late: 0, heartbeat: 1, wait: 1 },
  ...{ crash: 0, kill: 0, start: 8, stop: 0, sleep: 0, jump: 0, hold: 0.5, fault: 0, sql: 0, recount: 0, schedule: 0 },
}
/** Servers stand still and answers are lost, but files are sound. */
const remote: Record<Happens, number> = { ...chance, crash: 0.5, sleep: 1.5, fault: 0.5, jump: 0.2, late: 0.5 }

export function anyFlavour(random: Random, incident: Incident | null): Flavour {
  const odds = random.pick([0, 0.005, 0.02])
  const base = {
    name: 'chance',
    weights: chance,
    odds,
    succeeds: random.chance(0.2),
    slots: [1, 2, 3, 4],
    remotes: 0,
  } as const
  const name = incident === 'restored' ? 'remote' : random.weighted({ chance: 6, poison: 2, remote: 2 })
  if (name === 'poison') return { ...base, name, weights: poison, odds: 0, succeeds: true, slots: [1, 2, 5, 10, 20] }
  if (name === 'remote') return { ...base, name, weights: remote, remotes: 1 + random.below(2) }
  return base
}

export function anySubmission(
  random: Random,
  nextPayload: () => number,
  now: number,
  flavour: Flavour,
): Input<'submit'> {
  if (flavour.name === 'poison') return beside(random, nextPayload)
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

/** Innocent jobs, and now and then one that kills its process some time after it has started. */
function beside(random: Random, nextPayload: () => number): Input<'submit'> {
  const { queue, type } = random.pick(lines)
  const specs = jobSpec(type, { queue, priority: random.pick(priorities), maxAttempts: random.pick([2, 3, 12]) })
  const payloads = Array.from({ length: 1 + random.below(8) }, () =>
    random.chance(0.04) ? `{"n":${nextPayload()},"poison":${random.pick([1, 200, 2000])}}` : `{"n":${nextPayload()}}`,
  )
  return { specs, payloads, keys: null }
}

function anyOptions(random: Random, now: number): JobOptions {
  const options: JobOptions = {
    priority: random.pick(priorities),
    maxAttempts: random.pick([1, 2, 3, 12]),
    timeout: random.pick([3000, 10_000, 60_000, 900_000]),
    visibilityTimeout: random.pick([1000, 5000, 30_000]),
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
  if (random.chance(0.1)) options.uniqueKey = random.pick(['u', 'v'])
  if (random.chance(0.1)) options.deadline = random.chance(0.5) ? now + random.pick([0, 10_000]) : '30s'
  return options
}

export function anySchedule(random: Random): ScheduleSettings {
  const name = random.pick(['s1', 's2', 's3'])
  const cron = random.pick(Object.keys(crons))
  const missed = ({ s1: 'skip', s2: 'once', s3: 'all' } as const)[name as 's1']
  const spec = jobSpec(ticking.type, { queue: ticking.queue })
  return { name, cron, timezone: 'UTC', spec, payload: `{"s":"${name}"}`, missed, overlap: 'allow' }
}

export function anySettings(random: Random): QueueSettings {
  const queue = random.pick(['a', 'b'])
  const what = random.weighted({ pause: 2, resume: 4, depth: 1, running: 2, rate: 2, keep: 2 })
  if (what === 'pause' || what === 'resume') return { queue, paused: what === 'pause' }
  if (what === 'depth') return { queue, maxDepth: random.pick([3, 20, null]) }
  if (what === 'running')
    return { queue, maxRunning: random.pick([1, 3, null, null]), maxRunningPerKey: random.pick([1, 2]) }
  if (what === 'rate')
    return {
      queue,
      rate: random.pick([{ max: 1, per: 1000 }, { max: 3, per: 10_000 }, { max: 7, per: 60_000 }, null, null]),
    }
  return {
    queue,
    keepSucceeded: random.pick([1000, 60_000, null]),
    keepCancelled: 30_000,
    keepDead: random.pick([null, 60_000]),
  }
}

/** What one process works on: up to two workers, or none where an app only submits. */
export function anyWorkers(random: Random, { slots }: Flavour): { sources: Source[]; slots: number }[] {
  return Array.from({ length: random.below(3) }, () => {
    const sources = [...lines, ticking].filter(() => random.chance(0.7))
    return { sources: sources.length > 0 ? sources : [random.pick(lines)], slots: random.pick(slots) }
  })
}
