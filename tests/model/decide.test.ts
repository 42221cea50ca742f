import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as decide from '../../src/model/decide.ts'
import { isTerminal, next, type State, states } from '../../src/model/lifecycle.ts'

const now = 100_000
const error = { name: 'Error', message: 'no', stack: null }
const running: decide.Running = {
  id: 7,
  attempt: 3,
  budgetFrom: 1,
  maxAttempts: 5,
  backoff: JSON.stringify({ kind: 'linear', delay: 1000 }),
  timeout: 60_000,
  onTimeout: 'retry',
  company: 4,
  losses: 1,
  undelivered: 2,
  postponed: 0,
  deadline: null,
  cancelRequestedAt: null,
  worker: 'w',
  startedAt: 90_000,
}
const asked = { cancelRequestedAt: 95_000 }
const last = { maxAttempts: 2 }

/** What becomes of it: state, when it runs, why it is dead, and the outcome in the history. */
const summary = ({ changes, record }: decide.Decision) =>
  [changes.state, changes.runAt ?? null, changes.reason ?? null, record?.outcome ?? null] // biome-ignore format: one line

type Expected = ReturnType<typeof summary>

const failures: [string, Partial<decide.Running>, Partial<decide.Failed>, Expected][] = [
  ['a failure waits for the backoff of its try', {}, {}, ['scheduled', now + 2000, null, 'failed']],
  ['its own delay goes before the backoff', {}, { retryAfter: 5 }, ['scheduled', now + 5, null, 'failed']],
  ['a delay of nothing is one, too', {}, { retryAfter: 0 }, ['scheduled', now, null, 'failed']],
  ['the last attempt of the budget', last, {}, ['dead', null, 'exhausted', 'failed']],
  ['the last but one', { maxAttempts: 3 }, {}, ['scheduled', now + 2000, null, 'failed']],
  ['a permanent failure', {}, { kind: 'permanent' }, ['dead', null, 'permanent', 'failed']],
  ['a permanent failure of the last attempt', last, { kind: 'permanent' }, ['dead', null, 'permanent', 'failed']],
  ['a timeout', {}, { kind: 'timeout' }, ['scheduled', now + 2000, null, 'timeout']],
  ['a timeout that ends the job', { onTimeout: 'dead' }, { kind: 'timeout' }, ['dead', null, 'timeout', 'timeout']],
  ['onTimeout means timeouts only', { onTimeout: 'dead' }, {}, ['scheduled', now + 2000, null, 'failed']],
  ['a timeout of the last attempt', last, { kind: 'timeout' }, ['dead', null, 'exhausted', 'timeout']],
  ['a failure after a request to stop', asked, {}, ['cancelled', null, null, 'cancelled']],
  ['a permanent one after a request to stop', asked, { kind: 'permanent' }, ['cancelled', null, null, 'cancelled']],
  ['the last one after a request to stop', { ...asked, ...last }, {}, ['cancelled', null, null, 'cancelled']],
]

for (const [name, job, failure, expected] of failures)
  test(name, () => {
    const failed = { kind: 'temporary', error, retryAfter: null, ...failure } as const
    const decision = decide.failed({ ...running, ...job }, failed, now, 11)
    assert.deepEqual(summary(decision), expected)
    const { company, losses, leaseToken, leaseExpiresAt, finishedAt } = decision.changes
    assert.deepEqual([company, losses, leaseToken, leaseExpiresAt], [null, 0, null, null])
    assert.equal(finishedAt, isTerminal(decision.changes.state) ? now : undefined)
    assert.deepEqual([decision.record?.token, decision.record?.attempt, decision.record?.error], [11, 3, error])
    assert.equal(decision.tells, undefined)
  })

test('what its handler puts off waits uncharged, with what its losses limited, and leaves no record', () => {
  const decision = decide.postponed({ ...running, postponed: 999 }, error, 500, now, 11)
  const { state, runAt, attempt, postponed, company, losses, budgetFrom, workerId } = decision.changes
  assert.deepEqual([state, runAt, attempt, postponed], ['scheduled', now + 500, 2, 1000])
  assert.deepEqual([company, losses, budgetFrom, workerId, decision.record], [undefined, undefined, undefined, null, undefined]) // biome-ignore format: one line
  assert.equal(decide.postponed(running, error, null, now, 11).changes.runAt, now + 2000) // by its backoff
})

/** What a job is that its handler puts off for 500 ms. */
const putOff: [string, Partial<decide.Running>, Expected][] = [
  ['at its deadline at the latest', { deadline: now + 300 }, ['scheduled', now + 300, null, null]],
  ['before its deadline', { deadline: now + 501 }, ['scheduled', now + 500, null, null]],
  ['beyond 1,000 times it has failed', { postponed: 1000 }, ['scheduled', now + 500, null, 'failed']],
  ['and that was its last attempt', { postponed: 1000, ...last }, ['dead', null, 'exhausted', 'failed']],
  ['after a request to stop it is cancelled', asked, ['cancelled', null, null, 'cancelled']],
]
for (const [name, job, expected] of putOff)
  test(`put off: ${name}`, () => {
    const decision = decide.postponed({ ...running, ...job }, error, 500, now, 11)
    assert.deepEqual(summary(decision), expected)
    const isTold = decision.record?.error.message.startsWith(
      'Put off 1000 times before: this time it counts as failed.',
    )
    assert.equal(isTold, decision.record && job.postponed === 1000)
  })

test('a timeout that nobody reported is one that others hear of, and that no holder reports again', () => {
  const decision = decide.ranOut(running, now)
  assert.deepEqual(summary(decision), ['scheduled', now + 2000, null, 'timeout'])
  assert.deepEqual([decision.tells, decision.record!.token], ['reclaimed', null])
  assert.match(decision.record!.error.message, /its timeout of 60000 ms and its worker did not report it/)
})

/** Beside how many others it was lost, and: the summary, budgetFrom, company, losses. */
const losses: [string, Partial<decide.Running>, number | null, Expected, (number | null | undefined)[]][] = [
  ['alone, for the first time', { losses: 0 }, 0, ['ready', null, null, 'lost'], [1, 4, 1]],
  ['alone, again', {}, 0, ['scheduled', now + 2000, null, 'lost'], [undefined, 4, 2]],
  ['alone, the last attempt', last, 0, ['dead', null, 'exhausted', 'lost'], [undefined, 4, 2]],
  ['beside others', {}, 9, ['ready', null, null, 'lost'], [2, 2, 1]],
  ['beside others, the last attempt', last, 9, ['ready', null, null, 'lost'], [2, 2, 1]],
  ['without evidence', {}, null, ['ready', null, null, 'lost'], [2, 4, 1]],
  ['what may be tried once', { maxAttempts: 1 }, null, ['dead', null, 'exhausted', 'lost'], [undefined, 4, 1]],
  ['what was asked to stop', asked, 9, ['cancelled', null, null, 'cancelled'], [undefined, 2, 1]],
]

for (const [name, job, others, expected, fields] of losses)
  test(`lost: ${name}`, () => {
    const loss = { error, others, lossId: 3, isUnheard: false }
    const decision = decide.lost({ ...running, ...job }, loss, now)
    assert.deepEqual(summary(decision), expected)
    const { budgetFrom, company, losses, undelivered } = decision.changes
    assert.deepEqual([budgetFrom, company, losses], fields)
    assert.deepEqual([undelivered, decision.tells, decision.record!.lossId], [2, 'reclaimed', 3])
    assert.equal(decision.record!.token, null)
  })

test('a lease of which its worker may never have heard is not charged, and that is counted', () => {
  const { changes } = decide.lost(running, { error, others: 0, lossId: 3, isUnheard: true }, now)
  assert.deepEqual([changes.state, changes.budgetFrom, changes.undelivered, changes.losses], ['ready', 2, 3, 1])
})

test('what is given back has its attempt back; what was to stop is cancelled by it', () => {
  const back = decide.released(running, now, 11)
  assert.deepEqual(summary(back), ['ready', null, null, null])
  const { attempt, undelivered, workerId, startedAt } = back.changes
  assert.deepEqual([attempt, undelivered, workerId, startedAt], [2, 2, null, null])
  assert.equal(decide.released(running, now, null, true).changes.undelivered, 3)
  const stopped = decide.released({ ...running, ...asked }, now, 11)
  assert.deepEqual([summary(stopped), stopped.record!.token], [['cancelled', null, null, 'cancelled'], 11])
})

test('what ran in the source of a copy goes back, unless it may be tried once only', () => {
  assert.deepEqual(summary(decide.restored(running, now)), ['ready', null, null, null])
  const once = decide.restored({ ...running, attempt: 1, budgetFrom: 0, maxAttempts: 1 }, now)
  assert.deepEqual([summary(once), once.tells], [['dead', null, 'exhausted', 'lost'], undefined])
})

test('what time does: due, expired, refused at its admission', () => {
  assert.deepEqual(decide.due({ leaseSeq: null }), { from: 'scheduled', changes: { state: 'ready', runAt: null }, isNumbered: true }) // biome-ignore format: one line
  assert.equal(decide.due({ leaseSeq: 3 }).isNumbered, false)
  for (const state of ['scheduled', 'ready'] as const) {
    const expired = decide.expired({ state }, now)
    assert.deepEqual([summary(expired), expired.from, expired.tells], [['dead', null, 'expired', null], state, 'expired']) // biome-ignore format: one line
    const refused = decide.refused(state, 'why', now)
    assert.deepEqual(summary(refused), ['dead', null, 'permanent', 'failed'])
    assert.deepEqual([refused.changes.attempt, refused.changes.idempotencyKey], [1, null])
    assert.deepEqual(refused.record!.error, { name: decide.notAdmitted, message: 'why', stack: null })
  }
})

test('what people ask for fits the states of the table, and no other', () => {
  const job = { attempt: 3, deadline: null, leaseSeq: null, ...asked }
  const becomes = (decision: decide.Decision | null) => decision?.changes.state
  for (const state of states) {
    const cancelled = next(state, state === 'running' ? 'requestCancel' : 'cancel') as State | undefined
    assert.equal(becomes(decide.cancelled({ ...job, state }, now)), cancelled, `cancel ${state}`)
    assert.equal(becomes(decide.ranNow({ ...job, state })), next(state, 'runNow'), `run now ${state}`)
    assert.equal(becomes(decide.retried({ ...job, state }, now)), next(state, 'retry'), `retry ${state}`)
    assert.equal(decide.mayBeRemoved(state), next(state, 'remove') === null, `remove ${state}`)
  }
})

test('a running job is asked to stop once; the first request counts', () => {
  const first = decide.cancelled({ state: 'running', cancelRequestedAt: null }, now)!
  assert.deepEqual([first.changes.cancelRequestedAt, first.tells], [now, 'cancelRequested'])
  assert.equal(decide.cancelled({ state: 'running', ...asked }, now)!.changes.cancelRequestedAt, 95_000)
})

test('a retry gives a fresh budget, and drops a deadline that has passed', () => {
  const dead = { state: 'dead', attempt: 3, leaseSeq: 5 } as const
  const deadlines = [null, now - 1, now, now + 1].map(
    (deadline) => decide.retried({ ...dead, deadline }, now)!.changes.deadline,
  )
  assert.deepEqual(deadlines, [null, null, null, now + 1])
  const { changes, isNumbered } = decide.retried({ ...dead, deadline: null }, now)!
  const { budgetFrom, losses, undelivered, reason, finishedAt, cancelRequestedAt } = changes
  assert.deepEqual([budgetFrom, losses, undelivered, reason, finishedAt, cancelRequestedAt], [3, 0, 0, null, null, null]) // biome-ignore format: one line
  assert.equal(isNumbered, false)
})
