import { systemClock } from '../model/clock.ts'
import { type Operation, operations } from './operations.ts'

/** An answer that takes this long is one that waits for the write lock, the disk or the network, in ms. */
const leastStall = 1000

/** Whether a handler may wait for the answer, and nothing keeps it but the write lock, the disk or the network. */
export function mayStall(operation: Operation): boolean {
  const { kind } = operations[operation]
  return kind === 'read' || kind === 'write'
}

/** How long callers have waited for a store without an answer to anybody. */
export class Stalls {
  #total = 0
  #awaited = 0
  /** Since when somebody waits and nobody was answered; null while nobody waits. */
  #since: number | null = null

  /** Somebody waits for an answer. */
  begins(): void {
    if (++this.#awaited === 1) this.#since = systemClock.monotonic()
  }

  /** An answer has come, or its caller has given it up. */
  ends(): void {
    this.#awaited--
    this.heard()
  }

  /** The store has answered somebody. */
  heard(): void {
    if (this.#since === null) return
    const now = systemClock.monotonic()
    this.#total += stall(now - this.#since)
    this.#since = this.#awaited > 0 ? now : null
  }

  /** In ms, each wait of a second and more. */
  get ms(): number {
    return this.#total + (this.#since === null ? 0 : stall(systemClock.monotonic() - this.#since))
  }
}

const stall = (waited: number): number => (waited >= leastStall ? waited : 0)
