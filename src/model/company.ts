// What becomes of jobs whose process was lost. A job that kills its process and the jobs that ran beside it have the same
// history, so each death halves the company of all of them: the one that causes it is soon alone, and only then charged.

/** What a loss needs to know of its job. */
export interface LostJob {
  /** Attempts of the present budget, this one included. */
  tries: number
  maxAttempts: number
  /** Beside how many others it may run; null for any number. */
  company: number | null
  /** Its losses alone, one after the other, before this one. */
  losses: number
}

export interface AfterLoss {
  /** False: the budget grows by one, so that this attempt costs none. */
  charged: boolean
  company: number | null
  losses: number
  /** 'scheduled' waits for its backoff. */
  becomes: 'ready' | 'scheduled' | 'dead'
}

/**
 * What a loss makes of a job. `others`: how many jobs its process ran besides it; null when the loss is no evidence against
 * any of them, as when the process had begun to stop or its host was restarted.
 */
export function afterLoss({ tries, maxAttempts, company, losses }: LostJob, others: number | null): AfterLoss {
  const isLast = tries >= maxAttempts
  // The claim gives it no more than `company` others. Any above that are handlers that outlived their attempts: they may
  // run for ever, and then a job that kills its process each time would never be found alone.
  const beside = others === null ? null : Math.min(others, company ?? others)
  if (beside === 0) {
    const row = losses + 1
    return { charged: true, company, losses: row, becomes: isLast ? 'dead' : row === 1 ? 'ready' : 'scheduled' }
  }
  const half = beside === null ? company : Math.floor(beside / 2)
  return { charged: maxAttempts === 1, company: half, losses, becomes: maxAttempts === 1 ? 'dead' : 'ready' }
}

/** How long a handler that goes on after its attempt keeps its job from starting beside it in the same process, in ms. */
export const overdueFor = 30_000

/** A job that waits for room in its process lets higher classes pass for this long (ms), before the process first drains. */
const patience = 5000

/**
 * Whether a process that holds jobs back for one with limited company takes none at all, not even of a higher class. It
 * alternates: 5 s open, 5 s drained, 10 s open, 20 s drained, and so on. Without it a steady stream of higher classes
 * would keep the job from ever having room; since the times double, every running job ends in one of them.
 */
export function drains(heldBackFor: number): boolean {
  return heldBackFor >= patience && Math.floor(Math.log2(heldBackFor / patience)) % 2 === 0
}

/** A job that may start, as its process weighs it. */
export interface Candidate {
  id: number
  priority: number
  company: number | null
}

/**
 * 'take': it may start. 'pass': it stays back for the job that waits for room, and the next candidate is asked. 'stop': no
 * further candidate may start. 'wait': it is the job that waits for room from now on, and no further candidate may start.
 */
export type Verdict = 'take' | 'pass' | 'stop' | 'wait'

/**
 * What a process does with one candidate after the other. It runs `held` jobs, of which one allows `least` others (null: any
 * number); `awaited` is the job that it holds others back for.
 */
export function gateOf(
  held: number,
  least: number | null,
  awaited: Candidate | null,
): (candidate: Candidate) => Verdict {
  let before = awaited
  let holds = held
  let most = (least ?? Number.POSITIVE_INFINITY) + 1
  return ({ id, priority, company }) => {
    const isOlder = before !== null && priority === before.priority && id < before.id
    const mayPass = !before || before.id === id || isOlder || priority < before.priority
    if (!mayPass) return 'pass'
    const limit = Math.min(most, (company ?? Number.POSITIVE_INFINITY) + 1)
    if (holds + 1 > limit) return company !== null && holds > company ? 'wait' : 'stop'
    holds++
    most = limit
    if (before?.id === id) before = null
    return 'take'
  }
}
