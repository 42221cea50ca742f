import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Job } from '../../src/model/job.ts'
import {
  type Hurdles,
  type LastAttempt,
  type Turn,
  waitsForItsTurn,
  whyNotReady,
  whyReady,
} from '../../src/model/why.ts'

const now = Date.UTC(2026, 0, 1)
const job = { id: 7, queue: 'q', type: 't', attempt: 2, attemptsLeft: 3, maxAttempts: 5, company: null, concurrencyKey: 'k', worker: 'w', finishedAt: now - 60_000, leaseExpiresAt: now + 1000, runAt: now + 1000, deadline: null, startedAt: now - 60_000, timeout: 300_000, onTimeout: 'retry', cancelRequestedAt: null, warning: null } as Job // biome-ignore format: a table
const failed: LastAttempt = { outcome: 'failed', name: 'Error', message: 'no' }
const lost: LastAttempt = { outcome: 'lost', name: 'LeaseLost', message: 'Its process ended.' }
const aMinuteAgo = '2025-12-31T23:59:00.000Z (1m ago)'

const ends: [Partial<Job>, LastAttempt | undefined, string][] = [
  [{ state: 'succeeded', warning: 'Not kept.' }, undefined, `Job 7 succeeded at ${aMinuteAgo}, on attempt 2; nothing more happens. Not kept.`],
  [{ state: 'cancelled' }, failed, `Job 7 was cancelled at ${aMinuteAgo}; it runs again only if an operator retries it.`],
  [{ state: 'dead', reason: 'exhausted' }, failed, 'all of its 5 attempts failed;'],
  [{ state: 'dead', reason: 'exhausted' }, lost, 'it has no attempt left: its process ended;'],
  [{ state: 'dead', reason: 'permanent' }, failed, 'its handler reported a permanent error;'],
  [{ state: 'dead', reason: 'permanent' }, { ...failed, name: 'NotAdmitted' }, 'it could not be admitted: no;'],
  [{ state: 'dead', reason: 'timeout' }, failed, 'an attempt ran out of time and onTimeout is dead;'],
  [{ state: 'dead', reason: 'permanent' }, { ...failed, name: 'NotAdmitted', message: 'No name.' }, 'it could not be admitted: No name;'],
  [{ state: 'dead', reason: 'expired', attempt: 0 }, undefined, 'its deadline passed before an attempt started;'],
  [{ state: 'dead', reason: 'expired', attempt: 0, postponed: 1 }, undefined, 'its deadline passed before it was tried again;'],
  [{ state: 'dead', reason: 'expired' }, failed, 'its deadline passed before attempt 3 started;'],
  [{ state: 'scheduled', attempt: 0 }, undefined, 'Z (in 1s), as it was submitted for later; then it is ready, in its old place.'],
  [{ state: 'scheduled', queue: 'paused' }, failed, "attempts left); then queue 'paused' is paused, so it runs after a resume."],
  [{ state: 'scheduled', deadline: now + 500 }, failed, 'Job 7 waits to retry: the last of its 2 attempts failed (3 attempts left); but it is due 2026-01-01T00:00:01.000Z (in 1s), and no attempt starts from its deadline, 2026-01-01T00:00:00.500Z (in 500ms), on: it ends dead (expired).'],
  [{ state: 'scheduled', deadline: now + 2000 }, failed, 'then it is ready, in its old place. Its deadline is 2026-01-01T00:00:02.000Z (in 2s): no attempt starts'],
  [{ state: 'scheduled' }, failed, 'to retry: the last of its 2 attempts failed (3 attempts left);'],
  [{ state: 'scheduled', attempt: 1 }, failed, 'to retry: its attempt failed (3 attempts left);'],
  [{ state: 'scheduled' }, lost, 'to retry: its process ended (3 attempts left);'],
  [{ state: 'running' }, undefined, 'is running attempt 2, leased by worker w until 2026-01-01T00:00:01.000Z (in 1s) (renewed while the worker lives); its timeout is at 2026-01-01T00:04:00.000Z (in 4m), and then it is tried again by its backoff.'],
  [{ state: 'running', timeout: 60_500 }, undefined, '(the last time: no lease is renewed past the timeout); its timeout is at 2026-01-01T00:00:00.500Z (in 500ms)'],
  [{ state: 'running', onTimeout: 'dead' }, undefined, '(in 4m), and then the job is dead.'],
  [{ state: 'running', attemptsLeft: 0 }, undefined, '(in 4m), and then the job is dead.'],
  [{ state: 'running', leaseExpiresAt: now }, undefined, '(not renewed: it is taken soon, unless it is renewed first); its timeout'],
  [{ state: 'running', cancelRequestedAt: now }, undefined, 'was asked to stop, leased by worker w'],
] // biome-ignore format: a table

for (const [change, last, part] of ends)
  test(`why: ${JSON.stringify(change)}${last ? `, ${last.outcome}` : ''}`, () => {
    const sentence = whyNotReady({ ...job, ...change }, last, change.queue === 'paused', now)
    assert.ok(sentence.includes(part), sentence)
  })

const clear: Hurdles = { isAdmitted: true, waitsForPlace: false, paused: false, running: 1, maxRunning: 2, maxRunningPerKey: 1, usedUp: null, workers: 2, free: 3 } // biome-ignore format: a table
/** The first of them that holds is told. */
const hurdles: [Partial<Hurdles>, string][] = [
  [{ isAdmitted: false, paused: true }, 'was inserted with plain SQL and is not admitted yet'],
  [{ paused: true, workers: 0 }, "queue 'q' is paused"],
  [{ workers: 0, waitsForPlace: true }, "no live worker handles type 't' of queue 'q'"],
  [
    { waitsForPlace: true, running: 2 },
    "others with its concurrency key 'k': of type 't' in queue 'q' at most 1 of a key",
  ],
  [{ running: 2, usedUp: { max: 100, per: 60_000, again: now + 500 } }, "queue 'q' has used up its rate of 100 in 1m; it may run from 2026-01-01T00:00:00.500Z (in 500ms) on"], // biome-ignore format: long
  [{ running: 2 }, "queue 'q' runs 2 jobs and may run 2 at once"],
]

for (const [change, part] of hurdles)
  test(`why a ready job waits: ${JSON.stringify(change)}`, () => {
    assert.ok(!waitsForItsTurn({ ...clear, ...change }))
    const sentence = whyReady(job, undefined, { ...clear, ...change }, null, now)
    assert.ok(sentence.includes(part), sentence)
  })

const first: Turn = { ahead: [0, 0, 0], heldUp: [undefined, undefined], keptBack: [undefined] }
const beside = { id: 3, company: 0, worker: 'a' }
const goesOn = { worker: 'b', since: now - 60_000 }
const turns: [Partial<Turn>, string][] = [
  [{}, "first of its type in queue 'q'; it runs when one of 2 worker(s) has a free slot (3 free now)"],
  [{ ahead: [1, 0, 10_000] }, "behind 1 critical, 10000 or more normal of type 't' in queue 'q', for 2 worker(s)"],
  [{ heldUp: [beside, beside] }, 'worker a runs job 3 alone, as a process was lost with it'],
  [{ heldUp: [{ ...beside, company: 4 }, beside] }, 'worker a runs job 3 beside 4 others at most'],
  [{ heldUp: [beside, undefined] }, 'first of its type'],
  [{ keptBack: [goesOn, goesOn] }, `worker b still runs a handler of it whose attempt is over since ${aMinuteAgo}`],
  [{ keptBack: [goesOn, undefined] }, 'first of its type'],
  [{ heldUp: [], keptBack: [] }, 'first of its type'],
]

for (const [change, part] of turns)
  test(`why a ready job has not had its turn: ${JSON.stringify(change)}`, () => {
    assert.ok(waitsForItsTurn({ ...clear, maxRunning: null }))
    const sentence = whyReady(job, undefined, clear, { ...first, ...change }, now)
    assert.ok(sentence.includes(part), sentence)
  })

test('why a ready job was lost, and what limits it since', () => {
  const sentence = whyReady({ ...job, company: 2 }, lost, clear, first, now)
  assert.match(sentence, /free now\)\. Its process ended\. Until an attempt of it ends, .* holds at most 2 others;/)
  const late = whyReady({ ...job, deadline: now + 1000 }, failed, clear, first, now)
  assert.match(late, /free now\)\. Its deadline is 2026-01-01T00:00:01\.000Z \(in 1s\): no attempt starts from then on/)
  assert.match(whyReady({ ...job, company: 0 }, failed, clear, first, now), /now\)\. Until .* holds nothing else;/)
})
