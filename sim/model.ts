import type { State } from '../src/model/lifecycle.ts'

// Sections 2, 5 and 6 of the contract once more, as plainly as they can be said: what can happen to a job, from which
// state, and what it becomes. It shares no code with the store, and judges it by what the file says.

/** A job as the checker reads it from the file. */
export interface Row {
  id: number
  queue: string
  type: string
  priority: number
  state: State
  payload: string
  attempt: number
  /** Attempts made before the present budget. */
  budget: number
  max: number
  backoff: string | null
  timeout: number
  onTimeout: 'retry' | 'dead'
  visibility: number
  runAt: number | null
  deadline: number | null
  createdAt: number
  token: number | null
  expiresAt: number | null
  renewedAt: number | null
  worker: number | null
  startedAt: number | null
  cancel: number
  finishedAt: number | null
  pruneAt: number | null
  result: string | null
  reason: string | null
  key: string | null
  /** Held by one job that has not ended. */
  uniqueKey: string | null
  concurrency: string | null
  /** Beside how many others it may run, as the file says; null for any number. */
  company: number | null
  /** 1: inserted with plain SQL, and not admitted yet. */
  isNew: number
  /** How often it was given to workers that never received it. */
  undelivered: number
  /** How often its handler has put it off in its budget. */
  postponed: number
  /** Rows in its history. */
  failures: number
}

/** What a worker holds. */
export type Held = Pick<Row, 'id' | 'token' | 'worker'>

/** The part of a job that events change. */
export interface Facts {
  state: State | 'gone'
  attempt: number
  budget: number
  reason: string | null
  runAt: number | null
  deadline: number | null
  postponed: number
  cancel: boolean
  /** Leased since before this call, or within it. */
  lease: 'old' | 'new' | null
}

/**
 * Something that can happen to one job in one call of an engine. `once`: the request that asked for it, once. `law`: what it
 * breaks; nothing that keeps the contract explains what happened if only this does.
 */
export type Happening = {
  once?: number
  law?: string
} /** `early`: its delay is over by the monotonic clock, though not by the wall clock, which was set back. */ & (
  | { what: 'due'; early?: boolean }
  | { what: 'expire' | 'runNow' | 'lease' | 'succeed' | 'release' | 'cancel' | 'retry' | 'remove' | 'prune' }
  | { what: 'fail'; kind: 'temporary' | 'permanent' | 'timeout' | 'postpone'; retryAfter: number | null }
  /** Its holder is gone or silent. `company`: how many others ran beside it; null where that cannot be said. */
  | { what: 'lost'; charged: boolean; company: number | null; waits?: boolean }
)

/** How long after its timeout an attempt's lease may last, so that its worker can report the timeout itself. */
export const grace = 1000

export const ended = (state: State | 'gone'): boolean =>
  state === 'succeeded' || state === 'dead' || state === 'cancelled'

export function factsOf(row: Row, lease: 'old' | 'new'): Facts {
  const { state, attempt, budget, reason, runAt, deadline, postponed } = row
  const running = state === 'running'
  const cancel = running && row.cancel === 1
  return { state, attempt, budget, reason, runAt, deadline, postponed, cancel, lease: running ? lease : null }
}

/** What the job is after it, or null where the contract refuses it. */
export function after(job: Facts, happening: Happening, policy: Row, now: number): Facts | null {
  const waits = job.state === 'scheduled' || job.state === 'ready'
  const held = job.state === 'running' && job.lease === 'old' // nobody can report on a lease before its answer
  const end = (state: State, reason: string | null = null): Facts => ({
    ...{ ...job, state, reason, runAt: null, cancel: false, lease: null },
  })
  switch (happening.what) {
    case 'due':
      return job.state === 'scheduled' && (happening.early || job.runAt! <= now)
        ? { ...job, state: 'ready', runAt: null }
        : null
    case 'runNow':
      return job.state === 'scheduled' ? { ...job, state: 'ready', runAt: null } : null
    case 'expire':
      return waits && job.deadline !== null && job.deadline <= now ? end('dead', 'expired') : null
    case 'lease':
      return job.state === 'ready' ? { ...job, state: 'running', attempt: job.attempt + 1, lease: 'new' } : null
    case 'succeed':
      return held ? end('succeeded') : null
    case 'fail':
      if (!held) return null
      if (job.cancel) return end('cancelled')
      if (happening.kind === 'postpone' && job.postponed < 1000) {
        const runAt = now + (happening.retryAfter ?? delayAfter(policy.backoff, job.attempt - job.budget))
        const [attempt, postponed] = [job.attempt - 1, job.postponed + 1]
        return { ...job, state: 'scheduled', lease: null, attempt, postponed, runAt: Math.min(runAt, job.deadline ?? runAt) } // biome-ignore format: one line
      }
      if (happening.kind === 'permanent') return end('dead', 'permanent')
      if (happening.kind === 'timeout' && policy.onTimeout === 'dead') return end('dead', 'timeout')
      if (job.attempt - job.budget >= policy.max) return end('dead', 'exhausted')
      return {
        ...{ ...job, state: 'scheduled', lease: null },
        runAt: now + (happening.retryAfter ?? delayAfter(policy.backoff, job.attempt - job.budget)),
      }
    case 'lost': {
      if (!held) return null
      if (job.cancel) return end('cancelled')
      const tries = job.attempt - job.budget
      if (policy.max === 1 || (happening.charged && tries >= policy.max)) return end('dead', 'exhausted')
      if (!happening.charged) return { ...job, state: 'ready', budget: job.budget + 1, lease: null }
      if (!happening.waits) return { ...job, state: 'ready', lease: null }
      return { ...job, state: 'scheduled', lease: null, runAt: now + delayAfter(policy.backoff, tries) }
    }
    case 'release':
      if (!held) return null
      return job.cancel ? end('cancelled') : { ...job, state: 'ready', attempt: job.attempt - 1, lease: null }
    case 'cancel':
      if (job.state === 'running') return { ...job, cancel: true }
      return waits ? end('cancelled') : null
    case 'retry': {
      if (job.state !== 'dead' && job.state !== 'cancelled') return null
      const deadline = job.deadline !== null && job.deadline <= now ? null : job.deadline
      return { ...job, state: 'ready', budget: job.attempt, postponed: 0, reason: null, deadline }
    }
    case 'remove':
    case 'prune':
      return ended(job.state) ? { ...job, state: 'gone' } : null
  }
}

/** Without jitter, which simulated jobs do not ask for. */
function delayAfter(backoff: string | null, attempt: number): number {
  const hour = 3_600_000
  if (backoff === null) return Math.min(5000 * 2 ** (attempt - 1), hour)
  const { kind, delay, delays, max = hour } = JSON.parse(backoff)
  if (kind === 'table') return delays[Math.min(attempt, delays.length) - 1]
  return Math.min(kind === 'linear' ? delay * attempt : delay, max)
}

/** One moment of a call, and all that may have happened in it. */
export interface Chances {
  now: number
  happenings: Happening[]
}

/** Some order of what may have happened in these moments that leads from one to the other, or null: searched breadth first, a few steps deep. */
export function explained(from: Facts, to: Facts, moments: Chances[], policy: Row): Happening[] | null {
  const wanted = JSON.stringify(sorted(to))
  let front = [{ facts: from, used: [] as number[], at: 0, way: [] as Happening[] }]
  const seen = new Set<string>()
  for (let depth = 0; depth <= 6; depth++) {
    const found = front.find(({ facts }) => JSON.stringify(sorted(facts)) === wanted)
    if (found) return found.way
    const reached: typeof front = []
    for (const { facts, used, at: last, way } of front)
      for (let at = last; at < moments.length; at++)
        for (const happening of moments[at]!.happenings) {
          const { once } = happening
          if (once !== undefined && used.includes(once)) continue
          const then = after(facts, happening, policy, moments[at]!.now)
          if (!then) continue
          const next = { facts: then, used: once === undefined ? used : [...used, once], at, way: [...way, happening] }
          const name = JSON.stringify([sorted(then), next.used, at])
          if (seen.has(name)) continue
          seen.add(name)
          reached.push(next)
        }
    front = reached
  }
  return null
}

const sorted = ({ state, ...f }: Facts) =>
  state === 'gone'
    ? [state]
    : [state, f.attempt, f.budget, f.reason, f.runAt, f.deadline, f.postponed, f.cancel, f.lease]

/** Whether a waiting job may run by its queue's limits: places that are taken, or belong to those before it in its key. */
export function hasPlace(row: Row, jobs: Iterable<Row>, maxRunning: number | null, perKey: number): boolean {
  let running = 0
  let ahead = 0
  for (const other of jobs) {
    if (other.queue !== row.queue || (other.state !== 'running' && other.state !== 'ready')) continue
    if (other.state === 'running') running++
    if (row.concurrency === null || other.type !== row.type || other.concurrency !== row.concurrency) continue
    const precedes = other.priority < row.priority || (other.priority === row.priority && other.id < row.id)
    if (other.state === 'running' || precedes) ahead++
  }
  return running < (maxRunning ?? Number.POSITIVE_INFINITY) && (row.concurrency === null || ahead < perKey)
}
