import { useMemo, useState } from 'preact/hooks'
import { get, type Job, type Query, useData } from './api.ts'
import { number } from './parts.tsx'

/** Jobs that were found, and the job up to which all were looked through; null when all were. */
export interface Found {
  jobs: Job[]
  next: number | null
}

/**
 * So many jobs of a filter that `fits` too: each look of the server is bounded by time, so it looks on by itself until it
 * has them, all are looked through, or somebody stops it.
 */
export function useSearch(of: string, filter: () => Query, size: number, fits = (_: Job) => true) {
  const [soFar, setSoFar] = useState<Found & { of: string }>()
  const [round, setRound] = useState(0)
  const kept = useMemo(() => ({ held: undefined as Found | undefined, stopAt: null as number | null }), [of])
  const found = useData(`${of} ${round}`, async (signal) => {
    const { cursor, ...given } = filter()
    let { jobs, next } = kept.held ?? { jobs: [], next: Number(cursor ?? 0) || null }
    kept.held = undefined
    const isPastStop = () =>
      kept.stopAt !== null && (given.order === 'newest' ? next! <= kept.stopAt : next! >= kept.stopAt)
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
  const { next = null, jobs = [] } = looking ?? found.value ?? {}
  const stop = () => {
    kept.stopAt = next
  }
  const goOn = () => {
    kept.held = found.value
    kept.stopAt = null
    setSoFar(found.value && { of, ...found.value })
    setRound(round + 1)
  }
  const bar = next !== null && jobs.length < size && (
    <>
      <span role={looking ? undefined : 'status'}>
        {looking ? 'Looking' : 'Stopped'}: looked through {filter().order === 'due' ? 'the first' : 'as far as job'}{' '}
        {number(next)}, {number(jobs.length)} found.
      </span>
      <button type="button" class={looking ? 'main' : ''} onClick={looking ? stop : goOn}>
        {looking ? 'Stop' : 'Go on'}
      </button>
    </>
  )
  /** What is found so far, and what has been looked through, where that is not all. */
  return { found: looking ? { ...found, value: looking as Found } : found, bar }
}
