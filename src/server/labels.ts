import { states } from '../model/lifecycle.ts'
import type { Stats, Totals } from '../store/store.ts'

type Queue = Stats['queues'][number]
/** A queue as metrics tell it; `paused` is null of the others together. */
type ToldQueue = Pick<Queue, 'queue' | 'counts' | 'totals'> & { paused: boolean | null }

/** The label of what has no series of its own; a queue of that name is among it. */
const other = 'other'

const totalNames: (keyof Totals)[] = ['submitted', 'succeeded', 'failed', 'dead', 'cancelled']

const none: Totals = { submitted: 0, succeeded: 0, failed: 0, dead: 0, cancelled: 0 }
const sumOf = (a: Totals, b: Totals): Totals =>
  Object.fromEntries(totalNames.map((name) => [name, a[name] + b[name]])) as unknown as Totals

/** A queue with series of its own: what it had come to when last told, and what queues of its name had before that were forgotten. */
interface Own {
  seen: Totals
  before: Totals
}

/**
 * Which queues have series of their own: the first that there were room for, as long as they are there. All else is told
 * under `other`, whose totals only grow: a queue that gets or loses series of its own leaves there what it has come to.
 * One that is forgotten and made again goes on from what it was told with: from 0 on, as the file has it, a rate would
 * miss or count anew what comes before the next look.
 */
export class Queues {
  readonly #most: number
  readonly #own = new Map<string, Own>()
  /** What those that are not there any more were last told with: as many as have series. */
  readonly #gone = new Map<string, Totals>()
  /** What all queues had come to, when last told. */
  #all: Totals | null = null
  readonly #other: Totals = { ...none }

  constructor(most: number) {
    this.#most = most
  }

  told(queues: Stats['queues'], others: Stats['others']): ToldQueue[] {
    if (others.queues === 0) this.#forget(new Set(queues.map(({ queue }) => queue)))
    const all = { ...others.totals }
    for (const { totals } of queues) for (const name of totalNames) all[name] += totals[name]
    const grown = { ...all }
    for (const name of totalNames) grown[name] -= this.#all?.[name] ?? 0
    const counts = { ...others.counts }
    const told: ToldQueue[] = []
    for (const one of queues) {
      const known = this.#own.get(one.queue)
      if (one.queue === other || (!known && this.#own.size >= this.#most)) {
        for (const state of states) counts[state] += one.counts[state]
        continue
      }
      const isAnother = known && totalNames.some((name) => one.totals[name] < known.seen[name])
      const seen = known && !isAnother ? known.seen : none
      const before = !known ? (this.#gone.get(one.queue) ?? none) : isAnother ? sumOf(known.before, known.seen) : known.before // biome-ignore format: one line
      for (const name of totalNames) grown[name] -= one.totals[name] - seen[name]
      this.#own.set(one.queue, { seen: one.totals, before })
      this.#gone.delete(one.queue)
      told.push({ ...one, totals: sumOf(before, one.totals) })
    }
    this.#all = all
    for (const name of totalNames) this.#other[name] += Math.max(0, grown[name])
    const hasOthers = others.queues + queues.length > told.length || this.#other.submitted > 0
    return hasOthers ? [...told, { queue: other, paused: null, counts, totals: { ...this.#other } }] : told
  }

  #forget(there: ReadonlySet<string>): void {
    for (const [queue, { seen, before }] of this.#own) {
      if (there.has(queue)) continue
      this.#own.delete(queue)
      this.#gone.set(queue, sumOf(before, seen))
    }
    for (const queue of this.#gone.keys()) if (this.#gone.size > this.#most) this.#gone.delete(queue)
  }
}

/** Of a label's value. */
export const escaped = (value: string): string =>
  value.replace(/[\\"\n]/g, (char) => (char === '\n' ? '\\n' : `\\${char}`))

/** The series of queues in the text format of Prometheus. Written out: by the library, 1,000 queues stopped the event loop for 100 ms. */
export function queuesText(queues: ToldQueue[]): string {
  const families: [
    name: string,
    kind: 'gauge' | 'counter',
    help: string,
    lines: (one: ToldQueue) => [labels: string, value: number][],
  ][] = [
    // biome-ignore format: long
    ['jobs', 'gauge', 'Jobs in the file.', ({ counts }) => states.map((state) => [`,state="${state}"`, counts[state]])],
    ['queue_paused', 'gauge', '1 while none of its jobs are leased.', ({ paused }) => (paused === null ? [] : [['', Number(paused)]])], // biome-ignore format: long
    [
      'submitted_jobs_total',
      'counter',
      'Jobs stored since the file was made.',
      ({ totals }) => [['', totals.submitted]],
    ],
    [
      'attempts_total',
      'counter',
      'Attempts by outcome, succeeded or failed (a throw, a timeout, a lost lease), since the file was made.',
      ({ totals }) => [[',outcome="succeeded"', totals.succeeded], [',outcome="failed"', totals.failed]], // biome-ignore format: short
    ],
    [
      'ended_jobs_total',
      'counter',
      'Jobs that have ended, by state, since the file was made.',
      ({ totals }) =>
        (['succeeded', 'dead', 'cancelled'] as const).map((state) => [`,state="${state}"`, totals[state]]),
    ],
  ]
  const names = queues.map(({ queue }) => escaped(queue))
  return families
    .map(([name, kind, help, lines]) => {
      const full = `gopherqueue_${name}`
      const told = queues.flatMap((one, i) => lines(one).map(([labels, value]) => `${full}{queue="${names[i]}"${labels}} ${value}\n`)) // biome-ignore format: long
      return `# HELP ${full} ${help}\n# TYPE ${full} ${kind}\n${told.join('')}`
    })
    .join('\n')
}
