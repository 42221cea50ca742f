import type { Clock, Instant } from '../model/clock.ts'
import { type Hour, hourMs } from '../model/hours.ts'
import type { Output, Store } from '../store/store.ts'
import { escaped } from './labels.ts'

/** What happened to the jobs of a type since this server started. */
interface Counted {
  succeeded: number
  failed: number
  dead: number
}
const names = ['succeeded', 'failed', 'dead'] as const

/** The label of types without series of their own. */
const other = 'other'
/** Types of so long ago are told from the start, with 0: Prometheus sees no increase in a series that begins with its first failure. */
const knownFor = 24 * hourMs

/**
 * Counts by type, out of the hours that the file keeps: of all processes, embedded workers included. What an hour has grown
 * by since it was last read is added, so that the counts only grow, and begin at 0 with the server.
 */
export class Types {
  readonly #store: Store
  readonly #clock: Clock
  readonly #most: number
  readonly #counted = new Map<string, Counted>()
  /** What was read last, by hour and type. */
  #seen: Map<string, Hour> | null = null

  /** `most`: how many types have series of their own. */
  constructor(store: Store, clock: Clock, most: number) {
    this.#store = store
    this.#clock = clock
    this.#most = most
  }

  /** The first time only what is there is noted. Another process may still write to the hour before this one. */
  async read(signal?: AbortSignal): Promise<void> {
    const now = this.#clock.now()
    const recent = Math.floor(now / hourMs - 1) * hourMs
    const seen = new Map<string, Hour>()
    let next: Instant | null = this.#seen ? recent : Math.max(0, now - knownFor)
    while (next !== null) {
      const page: Output<'hours'> = await this.#store.call('hours', { since: next }, signal)
      for (const hour of page.hours) {
        const key = `${hour.at} ${hour.type}`
        if (hour.at >= recent) seen.set(key, hour)
        const counted = this.#of(hour.type)
        const before = this.#seen && { succeeded: 0, failed: 0, dead: 0, ...this.#seen.get(key) }
        for (const name of names) counted[name] += before ? Math.max(0, hour[name] - before[name]) : 0
      }
      next = page.next
    }
    this.#seen = seen
  }

  #of(type: string): Counted {
    const name = type === '' || (!this.#counted.has(type) && this.#counted.size >= this.#most) ? other : type
    const counted = this.#counted.get(name) ?? { succeeded: 0, failed: 0, dead: 0 }
    this.#counted.set(name, counted)
    return counted
  }

  /** The text format of Prometheus. */
  text(): string {
    const types = [...this.#counted].map(([type, counted]) => [escaped(type), counted] as const)
    const attempts = types.flatMap(([type, counted]) =>
      (['succeeded', 'failed'] as const).map((outcome) => `{type="${type}",outcome="${outcome}"} ${counted[outcome]}`),
    )
    const dead = types.map(([type, counted]) => `{type="${type}"} ${counted.dead}`)
    return `${family('type_attempts_total', 'Attempts of a type by outcome', attempts)}\n${family('type_dead_jobs_total', 'Jobs of a type that have died', dead)}`
  }
}

function family(name: string, what: string, lines: string[]): string {
  const full = `gopherqueue_${name}`
  const head = `# HELP ${full} ${what}, since this server started, in all processes.\n# TYPE ${full} counter\n`
  return head + lines.map((line) => `${full}${line}\n`).join('')
}
