import { useMemo, useState } from 'preact/hooks'
import { type Data, get, type Job, type Query, useData } from './api.ts'

/** Jobs that were found, and the job up to which all were looked through; null when all were. */
export interface Found {
  jobs: Job[]
  next: number | null
}

interface Search {
  found: Data<Found>
  /** What is found so far, while it looks for the first time. */
  looking: Found | undefined
  stop: () => void
  goOn: () => void
}

/**
 * So many jobs of a filter that `fits` too: each look of the server is bounded by time, so it looks on by itself until it
 * has them, all are looked through, or somebody stops it.
 */
export function useSearch(of: string, filter: () => Query, size: number, fits = (_: Job) => true): Search {
  const [soFar, setSoFar] = useState<Found & { of: string }>()
  const [round, setRound] = useState(0)
  const kept = useMemo(() => ({ held: undefined as Found | undefined, stopAt: null as number | null }), [of])
  const found = useData(`${of} ${round}`, async (signal) => {
    const { cursor, ...given } = filter()
    let { jobs, next } = kept.held ?? { jobs: [], next: Number(cursor ?? 0) || null }
    kept.held = undefined
    const isPastStop = () =>
      kept.stopAt !== null && (given.order === 'oldest' ? next! >= kept.stopAt : next! <= kept.stopAt)
    for (let told = 0; ; ) {
      const answer = await get<'jobs'>('jobs', { ...given, limit: size - jobs.length, cursor: next }, signal)
      jobs = [...jobs, ...answer.jobs.filter(fits)]
      next = answer.next
      if (next === null || jobs.length === size) kept.stopAt = null // it was not needed
      if (next === null || jobs.length === size || isPastStop()) return { jobs, next }
      if (performance.now() < told + 200) continue
      told = performance.now()
      setSoFar({ of, jobs, next })
    }
  })
  const looking = found.value === undefined && !found.error && soFar?.of === of ? soFar : undefined
  return {
    found,
    looking,
    stop() {
      kept.stopAt = looking?.next ?? null
    },
    goOn() {
      kept.held = found.value
      kept.stopAt = null
      setSoFar(found.value && { of, ...found.value })
      setRound(round + 1)
    },
  }
}
