import type { Happening, Row } from './model.ts'

/** What each job has been through, by the contract: its charges, and beside how many others it may run. */
export class Ledger {
  readonly #charges = new Map<number, number>()
  readonly #mostBeside = new Map<number, number>()
  readonly #kills = new Map<number, { deaths: number; slots: number }>()
  /** What ended a lease by its holder's word: name -> 'succeed', 'fail', or 'release' of a job that was to be cancelled. */
  readonly ends = new Map<string, string>()

  /** A job went this way. `old`: as it was before, with the name of its lease. */
  follow(row: Row, old: { lease: string; cancel: number } | null, way: Happening[]): void {
    const lease = old?.lease
    let cancelled = old?.cancel === 1
    for (const happening of way) {
      const { what, law } = happening
      if (what === 'cancel') cancelled = true
      if (what === 'retry') for (const known of [this.#charges, this.#kills]) known.delete(row.id) // a fresh budget
      const isPutOff = what === 'fail' && happening.kind === 'postpone' && !cancelled
      if (what === 'succeed' || (what === 'fail' && !isPutOff)) this.#mostBeside.delete(row.id)
      if ((what === 'succeed' || what === 'fail') && happening.once && lease) this.ends.set(lease, what)
      if (what === 'release' && happening.once && lease && cancelled) this.ends.set(lease, what) // else it is as if never taken
      const charged = (what === 'fail' && !isPutOff) || (what === 'lost' && happening.charged)
      if (charged && !law) this.#charges.set(row.id, this.charges(row.id) + 1)
      // Of one that was to be cancelled, nothing says whether it was lost or had run out of time.
      if (what === 'lost' && happening.company && !cancelled)
        this.#mostBeside.set(row.id, Math.min(this.mostBeside(row.id), Math.floor(happening.company / 2)))
    }
  }

  /** It has killed a process of so many slots: how often it has killed one in all, and the most slots of any. */
  killed(id: number, slots: number): { deaths: number; slots: number } {
    const before = this.#kills.get(id) ?? { deaths: 0, slots: 1 }
    const kills = { deaths: before.deaths + 1, slots: Math.max(before.slots, slots) }
    this.#kills.set(id, kills)
    return kills
  }

  restored(ids: Iterable<number>): void {
    for (const known of [this.#charges, this.#mostBeside, this.#kills, this.ends]) known.clear()
    for (const id of ids) this.#charges.set(id, Number.POSITIVE_INFINITY) // nobody knows
  }

  charges(id: number): number {
    return this.#charges.get(id) ?? 0
  }

  /** Others beside which it may run. */
  mostBeside(id: number): number {
    return this.#mostBeside.get(id) ?? Number.POSITIVE_INFINITY
  }
}
