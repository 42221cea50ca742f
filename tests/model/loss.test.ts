import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as loss from '../../src/model/loss.ts'

const job: loss.Holding = {
  timeout: 60_000,
  visibilityTimeout: 30_000,
  company: null,
  undelivered: 0,
  startedAt: 0,
  renewedAt: null,
  leaseExpiresAt: 30_000,
  seenAt: null,
  remote: 0,
}
const at = 61_000

/** The attempt is over at 60,000; a lease of 30 s is renewed each 10 s, and a look may be 250 ms late. */
const signs: [string, Partial<loss.Holding>, number, boolean][] = [
  ['nothing was heard', {}, at, false],
  ['a renewal within the last third', { renewedAt: 49_750 }, at, true],
  ['an older renewal', { renewedAt: 49_749 }, at, false],
  ['a renewal, but its time is not over', { renewedAt: 49_750 }, 59_999, false],
  ['a word of its worker since', { seenAt: 60_000, leaseExpiresAt: 61_000 }, at, true],
  ['a word of its worker before', { seenAt: 59_999, leaseExpiresAt: 61_000 }, at, false],
  ['a word of a clock that was set back since', { seenAt: at + 1, leaseExpiresAt: 61_000 }, at, false],
  ['a word of a remote worker, which may hang', { seenAt: 60_000, leaseExpiresAt: 61_000, remote: 1 }, at, false],
  ['a word of a worker that had let the lease end: its clock was set forward', { seenAt: 60_000 }, at, false],
  ['a renewal of a remote worker', { renewedAt: 50_000, remote: 1 }, at, true],
  ['a lease that reaches further: the clock was set forward', { renewedAt: 50_000, leaseExpiresAt: 90_000 }, at, false],
  [
    'the same of a lease of 1 s',
    { renewedAt: 95_000, leaseExpiresAt: 96_000, visibilityTimeout: 1000 },
    120_000,
    false,
  ],
  [
    'the same, renewed up to the end',
    { renewedAt: 95_000, leaseExpiresAt: 95_990, visibilityTimeout: 1000 },
    120_000,
    true,
  ],
]

for (const [name, known, now, expected] of signs)
  test(`whether its process lived at its timeout: ${name}`, () =>
    assert.equal(loss.wasAlive({ ...job, ...known }, now), expected))

test('it was alone where nothing ran beside it that counts', () => {
  const alone = (company: number | null, jobs: number) => loss.wasAlone({ company }, { id: 1, jobs })
  assert.deepEqual([alone(null, 1), alone(null, 2), alone(0, 9), alone(1, 2)], [true, false, true, false])
})

test('a silent remote worker may never have heard of a lease: three times, and only of what ran alone', () => {
  const death = { id: 1, jobs: 1 }
  const unheard = (known: Partial<loss.Holding>, jobs = 1) =>
    loss.fellSilent({ ...job, remote: 1, ...known }, { ...death, jobs }, undefined).isUnheard
  assert.deepEqual([unheard({}), unheard({ undelivered: 2 }), unheard({ company: 0 }, 3)], [true, true, true])
  assert.deepEqual(
    [unheard({ undelivered: 3 }), unheard({ renewedAt: 1 }), unheard({ remote: 0 }), unheard({}, 2)],
    [false, false, false, false],
  )
})

test('the end of a process excuses its jobs when it was to stop, or its host was restarted', () => {
  const excuse = (rebooted: boolean, stopping: boolean, before = 9) => loss.excuseOf({ rebooted, stopping }, before)
  assert.equal(excuse(false, false), null)
  assert.match(excuse(false, true)!, /had begun to stop/)
  assert.match(excuse(true, true)!, /host was restarted/)
  assert.deepEqual([excuse(false, true, 10), excuse(true, false, 10)], [null, null], 'the tenth was the last')
})

const local = { name: 'w', host: 'h', pid: 12 }
const sentences: [loss.Lost, string, number | null][] = [
  [loss.died({ id: 1, jobs: 1 }, local), 'Its process ended while it ran alone (process 12 of worker w is gone).', 0],
  [
    loss.fellSilent(job, { id: 1, jobs: 2 }, { ...local, pid: null }),
    'Its process fell silent while it and 1 other ran (worker w on h did not renew its lease).',
    1,
  ],
  [
    loss.stoodStill(job, { id: 1, jobs: 3 }, undefined),
    "Its process stood still while it and 2 others ran (the app's thread of a worker that is not known did not report its timeout of 60000 ms).",
    2,
  ],
  [
    loss.excused('Its host was restarted while it ran', local),
    'Its host was restarted while it ran (process 12 of worker w). No job is charged for that.',
    null,
  ],
]

for (const [lost, sentence, others] of sentences)
  test(sentence, () => assert.deepEqual([lost.error.message, lost.others], [sentence, others]))
