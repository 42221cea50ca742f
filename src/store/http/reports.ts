import { type Clock, inNextTurn } from '../../model/clock.ts'
import type { GopherQueueError } from '../../model/errors.ts'
import type { Patience } from '../row.ts'
import type { Report } from './calls.ts'
import { Client, isAway } from './client.ts'

/** What a report waits for: it goes with all others of the same turn. */
interface Pending {
  report: Report
  patience: Patience
  resolve(answer: unknown): void
  reject(error: unknown): void
}

/**
 * Bytes from which reports are divided over several requests: in one they may be more than a server takes (65 MiB, or
 * 10,000 reports, which have more bytes than this), or than a slow network carries before the answer counts as lost.
 */
const partBytes = 512 * 1024

/** Sends the reports of one turn of the event loop together. */
export class Reports {
  readonly #client: Client
  readonly #clock: Clock
  #pending: Pending[] = []

  constructor(client: Client, clock: Clock) {
    this.#client = client
    this.#clock = clock
  }

  /** Its answer; a `patient` report is sent until the server has judged it, however long that takes. */
  add(report: Report, patience: Patience): Promise<unknown> {
    const { promise, resolve, reject } = Promise.withResolvers<unknown>()
    this.#enqueue({ report, patience, resolve, reject })
    return promise
  }

  #enqueue(report: Pending): void {
    if (this.#pending.push(report) === 1) inNextTurn(() => this.send())
  }

  /** Sends at once what waits for the end of the turn. */
  send(): void {
    const pending = this.#pending
    this.#pending = []
    for (const patience of ['patient', 'brief'] as const)
      this.#sendAll(divided(pending.filter((one) => one.patience === patience)), patience)
  }

  /** One after the other: on a slow network, parts that share it would all be too slow, and be sent again for ever. */
  async #sendAll(parts: Pending[][], patience: Patience): Promise<void> {
    for (const part of parts) await this.#sendPart(part, patience)
  }

  async #sendPart(part: Pending[], patience: Patience): Promise<void> {
    try {
      const body = { reports: part.map(({ report }) => report) }
      const { answers } = await this.#client.call('report', { body }, undefined, patience)
      for (const [i, pending] of part.entries()) {
        const error = problemIn(answers[i])
        if (!error) pending.resolve(answers[i])
        else if (patience === 'patient' && isAway(error)) this.#clock.timer(1000, () => this.#enqueue(pending))
        else pending.reject(error)
      }
    } catch (error) {
      for (const { reject } of part) reject(error)
    }
  }
}

function divided(reports: Pending[]): Pending[][] {
  const parts: Pending[][] = []
  let left = 0
  for (const one of reports) {
    const bytes = Buffer.byteLength(JSON.stringify(one.report))
    left -= bytes
    if (left >= 0) parts.at(-1)!.push(one)
    else {
      parts.push([one])
      left = partBytes - bytes
    }
  }
  return parts
}

function problemIn(answer: unknown): GopherQueueError | null {
  if (typeof answer !== 'object' || answer === null || !('code' in answer)) return null
  return Client.errorOf(answer)
}
