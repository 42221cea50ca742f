/** What happened, as GET /v1/events tells it. */
export interface Told {
  /** Grows by one with each; a client that comes back names the last that it heard. */
  seq: number
  event: string
  [field: string]: unknown
}

const kept = 10_000

/** The latest events, and who listens. */
export class Hub {
  readonly #events: Told[] = []
  readonly #listeners = new Set<(told: Told) => void>()
  #seq: number

  /** Starts at the clock's ms: what a client has heard from an earlier server counts as long past. */
  constructor(start: number) {
    this.#seq = start
  }

  get listeners(): number {
    return this.#listeners.size
  }

  tell(event: string, fields: Record<string, unknown>): void {
    const told = { seq: ++this.#seq, event, ...fields }
    if (this.#events.push(told) > kept * 2) this.#events.splice(0, kept)
    for (const listener of this.#listeners) listener(told)
  }

  /** Hears all that was told after `seq`, as far as it is kept, and what comes; false when some of it is gone. */
  listen(after: number | null, listener: (told: Told) => void): { complete: boolean; stop: () => void } {
    const missed = after === null ? [] : this.#events.filter(({ seq }) => seq > after)
    const complete = after === null || after === this.#seq || missed[0]?.seq === after + 1
    for (const told of missed) listener(told)
    this.#listeners.add(listener)
    return { complete, stop: () => this.#listeners.delete(listener) }
  }
}
