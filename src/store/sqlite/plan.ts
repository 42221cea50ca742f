import type { Ended } from './callers.ts'
import type { Reply, Request } from './request.ts'
import type { Share } from './upkeep.ts'
import type { Assigned } from './waiting.ts'

/** The tasks of one transaction besides its requests. */
export interface Round {
  /** Does what time has made due. */
  reaping: boolean
  /** The file is being opened: takes back the jobs of dead processes, and no lease of a process that may live. */
  opening: boolean
  /** Another connection has committed since the last look: any row may have changed. */
  othersChanged: boolean
  /** The last write failed: a reason to write although nobody asks. */
  probing: boolean
  /** Progress of handlers has waited long enough for a transaction to travel in. */
  progressDue: boolean
  /** A worker that is about to sign off: releases some of its jobs. */
  leaving?: number
}

export const plain: Round = { reaping: false, opening: false, othersChanged: false, probing: false, progressDue: false }

/** A round, and what was found out before its transaction begins. */
export interface Plan extends Round, Share {
  requests: Request[]
  /** A request or task writes, whether or not a worker waits for a job. */
  asked: boolean
  /** It takes the write lock, and leases jobs to workers that wait. */
  writing: boolean
  /** Somebody asks for the vitals. */
  watched: boolean
  /** The last write failed: if this one succeeds, the fault is over. */
  proving: boolean
  /** When it was planned, on the monotonic clock. */
  before: number
}

/** The results of a transaction; memory follows them after COMMIT. */
export interface Done {
  /** When it had the lock, on the monotonic clock. */
  at: number
  /** Of the connection, when the transaction began: `data_version`. */
  version: number
  answers: Reply[]
  assigned: Assigned[]
  ended: Ended[]
  /** Leases that another process took. */
  takenElsewhere: { id: number; token: number }[]
  /** The reaper or retention left something for the next transaction. */
  behind: boolean
  /** Some jobs of plain SQL are not admitted yet. */
  admitting: boolean
  starving: boolean
  /** The app's thread stands still: its workers get no jobs before it calls. */
  owesASign: boolean
}
