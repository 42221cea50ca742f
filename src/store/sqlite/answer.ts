import { isQueueError } from '../../model/errors.ts'
import { type Input, type Operation, type Output, operations } from '../operations.ts'
import { checkpoint, fail, heartbeat, release, succeed, succeedTogether } from './attempt.ts'
import { deadLetters, failing } from './caused.ts'
import { isStorageFault, storageError } from './connection.ts'
import type { Db } from './db.ts'
import { mustBeOf } from './delivery.ts'
import { attempts } from './history.ts'
import { hours } from './hours.ts'
import { queues } from './listed.ts'
import { settled } from './losses.ts'
import { cancel, endLease, many, remove, retry, runNow, setQueue } from './operator.ts'
import { job, jobs, queueNames, stats } from './queries.ts'
import { found, record } from './record.ts'
import { register } from './registration.ts'
import type { Reply, Request } from './request.ts'
import { pauseSchedule, removeSchedule, runSchedule, schedules, setSchedule } from './schedules.ts'
import { alikeFrom, submit } from './submit.ts'
import { auditLog, createToken, revokeToken, tokens, tokenUsed } from './tokens.ts'
import { why } from './why.ts'
import { stopping, unregister } from './workers.ts'

const epoch = (db: Db): string => db.epoch

type Run = {
  [K in Operation as (typeof operations)[K]['kind'] extends 'memory' ? never : K]: (
    db: Db,
    input: Input<K>,
  ) => Output<K>
}
/** One that has no function does not compile. */
const run: Run = {
  ...{
    submit,
    deadLetters,
    failing,
    many,
    job,
    jobs,
    attempts,
    why,
    cancel,
    endLease,
    retry,
    runNow,
    remove,
    register,
    unregister,
  },
  ...{ stopping },
  ...{ succeed, fail, release, settled, heartbeat, checkpoint, setQueue, queues, queueNames },
  ...{ schedules, setSchedule, pauseSchedule, removeSchedule, runSchedule },
  ...{ stats, hours, epoch, tokens, createToken, revokeToken, tokenUsed, auditLog },
}

const named = (...kinds: string[]) => Object.entries(operations).filter(([, { kind }]) => kinds.includes(kind))
export const writes: Readonly<Record<string, unknown>> = Object.fromEntries(named('write', 'outcome'))
/** What a running handler reports is never refused for want of storage: it is held and tried again. */
export const outcomes = new Set(named('outcome').map(([name]) => name))

/** Runs requests on an open transaction, each for itself: one that is refused leaves the others as they are. */
export function answerAll(db: Db, requests: Request[]): Reply[] {
  const answers: Reply[] = []
  for (let i = 0; i < requests.length; ) {
    const well = db.storesTogether ? successesFrom(requests, i) : []
    if (well.length > 1) {
      answers.push(...succeedAll(db, well))
      i += well.length
      continue
    }
    const alike = alikeFrom(requests, i)
    answers.push(...(alike.length > 1 ? submitTogether(db, alike) : [answer(db, requests[i]!)]))
    i += Math.max(1, alike.length)
  }
  return answers
}

/** As one bulk, which costs a third of as many single inserts. If that is refused, its savepoint has undone it, and each is tried alone. */
function submitTogether(db: Db, alike: Request<'submit'>[]): Reply[] {
  try {
    db.names.who = alike[0]!.who ?? null
    const payloads = alike.map(({ input }) => input.payloads[0]!)
    const { ids } = submit(db, { ...alike[0]!.input, payloads })
    return alike.map(({ seq }, i) => ({ seq, value: { ids: [ids[i]!], duplicates: [] } }))
  } catch (error) {
    if (isStorageFault(error) || !db.goesOn) throw error
    return alike.map((request) => answer(db, request))
  }
}

/** The reports of success that stand together from `start` on, of this process. */
function successesFrom(requests: Request[], start: number): Request<'succeed'>[] {
  let end = start
  while (requests[end]?.operation === 'succeed' && requests[end]!.epoch === undefined) end++
  return requests.slice(start, end) as Request<'succeed'>[]
}

function succeedAll(db: Db, requests: Request<'succeed'>[]): Reply[] {
  const fates = succeedTogether(
    db,
    requests.map(({ input }) => input),
  )
  return requests.map((request, i) => {
    const value = fates[i] ?? null
    return value === null ? answer(db, request) : { seq: request.seq, value }
  })
}

function answer(db: Db, { seq, operation, input, who, epoch }: Request): Reply {
  try {
    db.names.who = who ?? null
    if (epoch !== undefined) mustBeOf(db, epoch, operation as Operation)
    const before = who === undefined ? null : found(db, operation as Operation, input)
    const value = (run[operation as keyof Run] as (db: Db, input: unknown) => unknown)(db, input)
    if (who !== undefined && operation !== 'submit') record(db, who, operation as Operation, input, before, value)
    return { seq, value }
  } catch (error) {
    if (isQueueError(error)) return { seq, error }
    if (isStorageFault(error) || !db.goesOn) throw error // the whole group fails
    return { seq, error: storageError(error, `'${operation}' was refused`) } // its own fault alone, such as a CHECK
  }
}
