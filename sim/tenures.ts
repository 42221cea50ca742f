import { grace, type Happening, type Held, type Row } from './model.ts'
import type { Life } from './process.ts'

// Section 6 of the contract: when a lease may be taken, and what it means for the job. A lease lives on its holder's
// clock: a process that stands still renews nothing, one that waits for a lock would if it could.

export const laws = {
  living: 'a living lease is not taken',
  unwatched: 'who takes a lease has watched it for a second',
  gap: 'the first transaction after a gap takes nothing',
  whole: 'an attempt has its whole timeout',
  silent: 'an attempt whose holder was gone or silent at its timeout is lost, not timed out',
  company: 'a job that did not run alone is not charged',
  alone: 'a job lost alone is charged',
  restored: 'what ran in a restored file goes back',
  unheard: 'a lease that was never received is not charged',
} as const

/** How often a lease that nobody confirms is not charged. */
export const mostUndelivered = 3
/** How much later than it is due a renewal may come. */
const slack = 300

interface Tenure {
  /** `id token` */
  name: string
  started: number
  /** When its holder was told: its timeout counts from then on. */
  told: number
  startedWall: number
  /** When it was given or renewed. */
  since: number
  /** The holder's life then. */
  atFirst: Life
  /** How long each process had watched then. */
  watched: Map<number, number>
  /** What its holder has attended to when it was given. */
  attendedAtStart: number
  holder: Life
  /** The wall clock was set forward since it was given. */
  everJumped: boolean
  /** So it was, and no renewal tells of it. */
  jumped: boolean
}

export interface Taker {
  pid: number
  elapsed: number
  now: number
  /** For how long it had watched by then. */
  watched: number
  afterGap: boolean
}

const goesBack: Happening[] = [{ what: 'release' }, { what: 'lost', charged: false, company: null }]
const charges: Happening[] = [
  { what: 'lost', charged: true, company: null },
  { what: 'lost', charged: true, company: null, waits: true },
  { what: 'fail', kind: 'timeout', retryAfter: null },
]

/** The leases that run, as their holders see them, and the last signs of life of those that hold them. */
export class Tenures {
  readonly #tenures = new Map<number, Tenure>()
  /** Who held what when it was seen last, and whether a loss of it was written: holder -> names of its leases. */
  readonly #lastSigns = new Map<string, { held: Set<string>; at: number; isSettled: boolean }>()
  readonly #lifeOf: (worker: number) => { holder: string; life: Life }
  readonly #lives: ReadonlyMap<number, Life>
  /** Leases that their workers have confirmed by a heartbeat, by name. */
  readonly confirmed = new Set<string>()

  readonly #restored = new Set<string>()
  #jumpedAt = Number.NEGATIVE_INFINITY

  constructor(lifeOf: (worker: number) => { holder: string; life: Life }, lives: ReadonlyMap<number, Life>) {
    this.#lifeOf = lifeOf
    this.#lives = lives
  }

  holderOf(row: Pick<Held, 'worker'>): { holder: string; life: Life } {
    return this.#lifeOf(row.worker!)
  }

  toldAt(id: number): number {
    return this.#tenures.get(id)!.told
  }

  /** A lease was given, or renewed if it is the same. */
  given(row: Row, isNew: boolean, { elapsed, now, ended }: { elapsed: number; now: number; ended: number }): void {
    const before = this.#tenures.get(row.id)
    const { life } = this.#lifeOf(row.worker!)
    // Where nobody who had seen it begin renewed it, the wall clock ended its timeout: what set that forward still counts.
    const left = isNew ? 0 : before!.started + row.timeout + grace - elapsed
    const byWall = row.expiresAt! - now < Math.min(row.visibility, left)
    // A renewal tells of it only where it reaches further than a slow COMMIT of the lease explains.
    const over = (isNew ? now : before!.startedWall) + row.timeout
    const isNear = row.expiresAt! > over && row.expiresAt! <= over + 2 * grace
    this.#tenures.set(row.id, {
      name: nameOf(row),
      started: isNew ? elapsed : before!.started,
      told: isNew ? ended : before!.told,
      startedWall: isNew ? now : before!.startedWall,
      since: elapsed,
      attendedAtStart: isNew ? life.attended + ended - life.plannedAt : before!.attendedAtStart,
      holder: life,
      atFirst: { ...life },
      watched: new Map([...this.#lives].map(([pid, { watched }]) => [pid, watched])),
      jumped: isNew ? this.#jumpedAt >= elapsed : before!.everJumped && (byWall || isNear),
      everJumped: isNew ? this.#jumpedAt >= elapsed : before!.everJumped,
    })
  }

  /** A copy has taken the file's place: nobody holds what runs in it, and its next tokens may be those of other leases before. */
  restored(running: Row[], elapsed: number, now: number): void {
    for (const names of [this.confirmed, this.#lastSigns, this.#restored]) names.clear()
    for (const row of running) {
      this.given(row, true, { elapsed, now, ended: elapsed })
      this.#restored.add(nameOf(row))
    }
  }

  /** The wall clock was set forward, also for the lease that is being given. */
  jumped(elapsed: number): void {
    this.#jumpedAt = elapsed
    for (const tenure of this.#tenures.values()) tenure.jumped = tenure.everJumped = true
  }

  /** A lease was taken; `isLoss`: its job was lost, beside all that its holder then held. */
  taken(row: Held, isLoss: boolean): void {
    const { holder, life } = this.holderOf(row)
    const last = this.#lastSigns.get(holder)
    if (isLoss && last?.held.has(nameOf(row))) last.isSettled = true
    if (life.isAlive) life.hasOverdue = true // its handler goes on, as far as anyone knows
  }

  /** A report ended it, whoever sent it: nobody can tell that its holder had died before, unless that loss is written. */
  reported(row: Row): void {
    const last = this.#lastSigns.get(this.holderOf(row).holder)
    if (last && !last.isSettled) last.held.delete(nameOf(row))
  }

  /** Another than its holder, which is dead, said that it lives: what ran beside it when that died cannot be said any more. */
  heardOf(row: Row): void {
    const { holder, life } = this.holderOf(row)
    if (!life.isAlive) this.#lastSigns.delete(holder)
  }

  /** The holder falls silent at this moment, or dies. */
  silent(holder: string, held: Held[], at: number): void {
    this.#lastSigns.set(holder, { held: new Set(held.map(nameOf)), at, isSettled: false })
  }

  /** What taking a lease at that moment can mean for its job, with the law that each breaks. */
  taking(row: Row, taker: Taker): Happening[] {
    const tenure = this.#tenures.get(row.id)!
    if (this.#restored.has(tenure.name)) return [...goesBack, ...charges.map((c) => ({ ...c, law: laws.restored }))]
    const { holder, life } = this.#lifeOf(row.worker!)
    const breaks = this.#mayNotTake(row, tenure, life, taker)
    const isUnheard = this.isUnheard(row)
    const reached = taker.elapsed - tenure.started >= row.timeout
    const byWall = tenure.jumped && taker.now >= tenure.startedWall + row.timeout
    let late: string | undefined
    if (!reached && !byWall) late = laws.whole
    else if (this.#lives.get(taker.pid) !== life && this.#wasSilent(row, tenure, life)) late = laws.silent
    if (isUnheard) late ??= laws.unheard
    const company = this.#company(holder, life, tenure)
    const uncharged = company === 0 && !isUnheard ? laws.alone : undefined
    const charged =
      isUnheard && row.undelivered >= mostUndelivered
        ? undefined
        : isUnheard
          ? laws.unheard
          : company !== null && company > 0
            ? laws.company
            : undefined
    const law = (own: string | undefined) => (breaks ?? own) as string
    return [
      { what: 'lost', charged: false, company, law: law(uncharged) },
      { what: 'lost', charged: true, company, law: law(charged) },
      { what: 'lost', charged: true, company, waits: true, law: law(charged) },
      { what: 'fail', kind: 'timeout', retryAfter: null, law: law(late) },
    ]
  }

  /** For how long at most its holder may take itself to have stood still since it was given. */
  stoodStill(id: number, elapsed: number): number {
    const { told, attendedAtStart, holder } = this.#tenures.get(id)!
    return elapsed - told - (holder.attendedBefore - attendedAtStart)
  }

  /** Its worker, on the network, has never said that it knows of it. */
  isUnheard(row: Row): boolean {
    return !this.confirmed.has(nameOf(row)) && Number.isNaN(Number(this.holderOf(row).holder))
  }

  #mayNotTake(row: Row, tenure: Tenure, life: Life, taker: Taker): string | null {
    if (!life.isAlive) return null
    const lasts = Math.min(row.visibility, row.timeout + grace)
    const ranFor = taker.elapsed - tenure.started
    if (this.#lives.get(taker.pid) === life) return ranFor >= row.timeout ? null : laws.whole
    if (ranFor >= row.timeout + grace) return null
    const silence = taker.elapsed - tenure.since
    const least = tenure.jumped ? Math.min(lasts, Math.max(1000, lasts / 2)) : lasts
    if (silence < least) return laws.living
    // One on the network cannot while its server stands still: what that then takes is judged by its own gap.
    const couldRenew = life.faultyAt < tenure.since && !Number.isNaN(Number(this.holderOf(row).holder))
    if (couldRenew && life.stopped - tenure.atFirst.stopped < 1000 && life.free - tenure.atFirst.free < 1000)
      return laws.living
    if (taker.watched - (tenure.watched.get(taker.pid) ?? 0) < 1000) return laws.unwatched
    return taker.afterGap ? laws.gap : null
  }

  /** The holder was gone when the attempt's timeout was over, or had said nothing for as long as a lease lasts. */
  #wasSilent(row: Row, tenure: Tenure, life: Life): boolean {
    const over = tenure.started + row.timeout
    const third = Math.min(row.visibility, row.timeout + grace) / 3
    if (tenure.jumped || tenure.since >= over - third - slack) return false
    if (life.diedAt < over) return true
    return life.stoppedAt + row.visibility < over && life.stoppedAt >= tenure.since
  }

  /** How many others ran beside it at its holder's last sign of life; null where that cannot be said. */
  #company(holder: string, life: Life, { name }: Tenure): number | null {
    const last = this.#lastSigns.get(holder)
    if (!last?.held.has(name)) return null
    if (life.isAlive && life.stoppedAt === Number.POSITIVE_INFINITY) return null // it woke again
    if (life.isStopping || life.hasOverdue) return null
    return last.held.size - 1
  }
}

export const nameOf = ({ id, token }: { id: number; token: number | null }): string => `${id} ${token}`
