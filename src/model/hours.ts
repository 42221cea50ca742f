// What happened to the jobs of a type, hour by hour: counts, and how long jobs waited and attempts ran.

/** Ms of an hour: rows are of whole hours since 1970, UTC. */
export const hourMs = 3_600_000
/** How long hours are kept, in ms: a week, and the day that is not over. */
export const hoursKept = 8 * 24 * hourMs

/** Upper bounds in ms, 1, 2 and 5 times each power of ten up to 5 h; the last bucket is of what is longer. */
const bounds: readonly number[] = Array.from({ length: 23 }, (_, i) => [1, 2, 5][i % 3]! * 10 ** Math.floor(i / 3))

/** Durations by size. */
export interface Spread {
  /** How many are at most `bounds[i]` and above the bound before. */
  counts: number[]
  /** The longest, in ms. */
  max: number
}

/** What has happened to the jobs of a type in an interval. */
export interface Happened {
  /** Jobs stored. */
  submitted: number
  /** Jobs that ended well. */
  succeeded: number
  /** Attempts that failed: a throw, a timeout, a lost lease; also those that history calls 'cancelled', as their job was to stop. */
  failed: number
  /** Of these, those after which their job is tried again. */
  retried: number
  /** Jobs that died. */
  dead: number
  /** How long jobs were ready before each start. */
  waits: Spread
  /** How long attempts ran that succeeded, failed or timed out. */
  runs: Spread
}

export const nothingHappened = (): Happened => ({
  ...{ submitted: 0, succeeded: 0, failed: 0, retried: 0, dead: 0 },
  ...{ waits: { counts: [], max: 0 }, runs: { counts: [], max: 0 } },
})

/** Counts one duration of `ms`; returns what takes it back. */
export function spread(into: Spread, ms: number): () => void {
  const { max } = into
  let i = 0
  while (i < bounds.length && ms > bounds[i]!) i++
  while (into.counts.length <= i) into.counts.push(0)
  into.counts[i]!++
  into.max = Math.max(max, ms)
  return () => {
    into.counts[i]!--
    into.max = max
  }
}

export const sumOf = (some: number[], more: number[]): number[] =>
  (some.length < more.length ? more : some).map((_, i) => (some[i] ?? 0) + (more[i] ?? 0))

/** Adds what happened in another interval. */
export function addTo(into: Happened, other: Happened): void {
  for (const name of ['submitted', 'succeeded', 'failed', 'retried', 'dead'] as const) into[name] += other[name]
  for (const name of ['waits', 'runs'] as const) {
    into[name].counts = sumOf(into[name].counts, other[name].counts)
    into[name].max = Math.max(into[name].max, other[name].max)
  }
}

/** Durations in short. */
export interface Durations {
  /** How many. */
  count: number
  /** Half of them took at most so long, in ms: an estimate, since they are counted in steps of 1, 2, 5, 10, 20 ms and so on. Null of none. */
  p50: number | null
  /** 95 % of them took at most so long, in ms: an estimate as `p50`. Null of none. */
  p95: number | null
  /** The longest, in ms. Null of none. */
  max: number | null
}

export function durations({ counts, max }: Spread): Durations {
  const count = counts.reduce((sum, one) => sum + one, 0)
  if (count === 0) return { count, p50: null, p95: null, max: null }
  const quantile = (share: number): number => {
    let left = share * count
    const i = counts.findIndex((one) => {
      left -= one
      return left <= 0
    })
    const [from, to] = [bounds[i - 1] ?? 0, Math.min(bounds[i] ?? max, max)]
    return Math.round(from + (to - from) * (1 + left / counts[i]!))
  }
  return { count, p50: quantile(0.5), p95: quantile(0.95), max }
}

/** JSON of a spread's counts: the place of the first bucket that is not empty, then the counts from there on. */
export function packed(counts: number[]): string {
  const first = counts.findIndex((count) => count > 0)
  return JSON.stringify(first < 0 ? [] : [first, ...counts.slice(first)])
}

export function unpacked(json: string): number[] {
  const [first = 0, ...counts] = JSON.parse(json) as number[]
  return [...Array<number>(first).fill(0), ...counts]
}

/** An hour of a type. */
export interface Hour extends Happened {
  /** Its begin (Unix ms). */
  at: number
  /** The type of the jobs; '' for all beyond the 1,000 that had a row of their own first. */
  type: string
}
