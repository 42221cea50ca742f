import type { Reply, Request } from './request.ts'
import type { Share } from './upkeep.ts'
import type { Fed, Told } from './waiting.ts'

/** What one transaction does besides what it was asked for. */
export interface Round {
  reaping: boolean
  /** The file is being opened: what processes left that are gone goes back, and no lease is taken from one that may live. */
  opening: boolean
  /** Another process may have changed anything. */
  lookAround: boolean
  /** The last write failed: finds out whether the next would not, also when nobody wants to write. */
  probing: boolean
  /** Progress has waited for a transaction long enough. */
  telling: boolean
  /** A worker that is about to be signed off: some of what it holds goes back. */
  leaving?: number
}

export const plain: Round = { reaping: false, opening: false, lookAround: false, probing: false, telling: false }

/** The same, with what is known before it begins. */
export interface Plan extends Round, Share {
  requests: Request[]
  /** Something is to be written, whoever waits for a job. */
  asked: boolean
  /** It takes the write lock, and feeds who waits. */
  writing: boolean
  /** Somebody asks for the vitals. */
  watched: boolean
  /** The last write failed: this one shows whether writing works. */
  proving: boolean
  /** When it was planned, on the monotonic clock. */
  before: number
}

/** What a transaction came to. */
export interface Done {
  /** When it had the lock, on the monotonic clock. */
  at: number
  answers: Reply[]
  fed: Fed[]
  told: Told[]
  /** Leases that another process took. */
  heard: { id: number; token: number }[]
  behind: boolean
  admitting: boolean
  starving: boolean
  owesASign: boolean
}
