import { type Clock, systemClock } from '../../model/clock.ts'
import type { ServerFigures, ServerStats } from '../stats.ts'
import { isStandby } from './driver.ts'
import { connectedTo, figuresOf } from './figures.ts'
import type { Place } from './place.ts'

/** How long what a look found is good for, and how long who asks waits for one, in ms. */
const times = { rest: 15_000, patience: 1000 }

/** Looks at the server over a connection of their own: that of the engine may wait for the very lock whose holder is looked for. */
export class Looks {
  readonly #look: () => Promise<ServerFigures>
  readonly #clock: Clock
  #last: ServerStats
  #going: Promise<void> | undefined
  /** The look that goes on has ended, or has been waited for long enough. */
  #soon: Promise<void> | undefined
  #dueAt = Number.NEGATIVE_INFINITY

  constructor(look: () => Promise<ServerFigures>, clock: Clock = systemClock) {
    this.#look = look
    this.#clock = clock
    this.#last = { at: clock.now(), problem: 'The first look at the server has not ended.', figures: null }
  }

  /** What is known: of a look that begins now, unless one goes on, or the last one ended less than 15 s ago. */
  async latest(): Promise<ServerStats> {
    if (!this.#going && this.#clock.monotonic() >= this.#dueAt) this.#begin()
    await this.#soon
    return this.#last
  }

  #begin(): void {
    const { promise, resolve } = Promise.withResolvers<void>()
    const stop = this.#clock.timer(times.patience, resolve)
    this.#soon = promise
    const end = (problem: string | null, figures: ServerFigures | null) => {
      this.#last = { at: this.#clock.now(), problem, figures }
      this.#dueAt = this.#clock.monotonic() + times.rest
      this.#going = undefined
      stop()
      resolve()
    }
    this.#going = this.#look().then(
      (figures) => end(null, figures),
      ({ message, code }) => end(`The server could not be looked at: ${message || code}.`, null),
    )
  }

  /** Of the look that goes on; none begins then unless somebody asks. */
  async ended(): Promise<void> {
    await this.#going
  }
}

/** A network that breaks must not keep a look for ever: no other begins before its end. */
const settings = { application_name: 'gopherqueue looks', query_timeout: 10_000 }

/** Of the host that takes writes. */
export async function lookAt(place: Place): Promise<ServerFigures> {
  let failed: unknown = new Error('of the hosts that answer, each is a standby')
  for (const connectionString of place.connectionStrings)
    try {
      const figures = await connectedTo({ connectionString, ...settings }, async (client) =>
        (await isStandby(client)) ? null : figuresOf(client, place),
      )
      if (figures) return figures
    } catch (error) {
      failed = error
    }
  throw failed
}
