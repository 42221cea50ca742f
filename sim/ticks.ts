import type { Snapshot } from './file.ts'

// Schedules once more: which ticks are owed, by their names and the clock alone.

/** The lines that simulated schedules have, with the ms between their ticks. */
export const crons = { '* * * * *': 60_000, '*/10 * * * * *': 10_000 } as const
const missedAfter = 60_000
const mostMissed = 1000

export interface ScheduleRow {
  name: string
  cron: keyof typeof crons
  missed: 'skip' | 'once' | 'all'
  nextAt: number
}

export interface Tick {
  schedule: string
  at: number
}

/** The tick of which a job is, by its key. */
export function tickOf({ key }: { key: string | null }): Tick | null {
  const [, schedule, at] = /^schedule (\S+) (\d+)$/.exec(key ?? '') ?? []
  return schedule === undefined ? null : { schedule, at: Number(at) }
}

/** Which ticks were taken. */
export class Ticks {
  readonly #taken = new Map<string, Set<number>>()

  /** A job of a tick is there: false if another was, or no line that the schedule had in this call has such a tick. */
  take({ schedule, at }: Tick, ...snapshots: Snapshot[]): boolean {
    const taken = this.#taken.get(schedule) ?? new Set()
    this.#taken.set(schedule, taken)
    const lines = snapshots.flatMap(({ schedules }) => schedules.get(schedule)?.cron ?? [])
    if (taken.has(at) || !lines.some((cron) => at % crons[cron] === 0)) return false
    taken.add(at)
    return true
  }

  restored(): void {
    this.#taken.clear()
  }

  /** Of the ticks that a schedule has gone over, those that `missed` keeps and nobody took. */
  owed(before: ScheduleRow, after: ScheduleRow, now: number): number[] {
    const ticks: number[] = []
    for (let at = before.nextAt; at <= now; at += crons[before.cron]) ticks.push(at)
    const isUpToDate = after.nextAt > now
    const last = ticks.slice(-1)
    const kept = {
      all: ticks.slice(-mostMissed), // the newest by now, also of a step that has not come to the last
      once: isUpToDate ? last : [],
      skip: isUpToDate ? last.filter((at) => now - at < missedAfter) : [],
    }[after.missed]
    return kept.filter((at) => at < after.nextAt && !this.#taken.get(after.name)?.has(at))
  }
}
