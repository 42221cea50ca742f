import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import { GopherQueueError } from '../../src/model/errors.ts'
import { Watchdog } from '../../src/server/watchdog.ts'
import type { Store, StoreHealth, Vitals } from '../../src/store/store.ts'
import { VirtualClock } from '../../src/testing/clock.ts'

const none = { bounds: [], counts: [0], sum: 0 }
const vitals = (starving: boolean): Vitals => ({ starving, commits: none, groups: none })

/** A watchdog over storage that answers as the test says. */
function watched() {
  const clock = new VirtualClock()
  let answer: () => Promise<Vitals> = async () => vitals(false)
  const store = {
    health: { status: 'ok', causes: [], works: { submit: true, lease: true, complete: true } } as StoreHealth,
    call: () => answer(),
  }
  const told: string[] = []
  const dog = new Watchdog(store as unknown as Store, clock, 5000, ({ submit, lease, complete }) =>
    told.push([submit, lease, complete].map(({ works }) => (works ? 'yes' : 'no')).join(' ')),
  )
  dog.start()
  return {
    dog,
    store,
    told,
    answers: (next: typeof answer) => {
      answer = next
    },
    async pass(seconds: number) {
      for (let i = 0; i < seconds; i++) {
        clock.advance(1000)
        await setImmediate() // storage answers in turns of their own
      }
    },
  }
}

test('storage that does not answer is not taken for well after 5 s, and is again when it answers', async () => {
  const { dog, told, answers, pass } = watched()
  await pass(3)
  const late = Promise.withResolvers<Vitals>()
  answers(() => late.promise)
  await pass(5)
  assert.ok(dog.readiness.submit.works, 'four seconds are no proof of trouble')
  await pass(1)
  for (const { works, cause } of Object.values(dog.readiness))
    assert.match(`${works} ${cause}`, /^false .*not answered/)
  late.resolve(vitals(false))
  await pass(2)
  assert.deepEqual(told, ['no no no', 'yes yes yes'])
  dog.stop()
})

test('a worker that is passed over for 5 s makes leasing stuck, and nothing else; a claim shows that it is not', async () => {
  const { dog, told, answers, pass } = watched()
  answers(async () => vitals(true))
  await pass(4)
  dog.claimed()
  await pass(5)
  assert.ok(dog.readiness.lease.works)
  await pass(1)
  assert.match(dog.readiness.lease.cause!, /ready and gets none/)
  assert.deepEqual(told, ['yes no yes'])
  answers(async () => vitals(false))
  await pass(1)
  assert.ok(dog.readiness.lease.works)
  dog.stop()
})

test('what storage says of itself, and that it is closed, is the cause', async () => {
  const { dog, store, answers, pass } = watched()
  store.health = {
    status: 'degraded',
    causes: [{ code: 'STORAGE_FULL', message: 'The disk is full.', since: 0 }],
    works: { submit: false, lease: true, complete: true },
  }
  assert.deepEqual(
    Object.values(dog.readiness).map(({ cause }) => cause),
    ['The disk is full.', null, null],
  )
  answers(() => Promise.reject(new GopherQueueError('CLOSED', 'The thread ended.')))
  await pass(2)
  assert.deepEqual(
    Object.values(dog.readiness).map(({ cause }) => cause),
    ['The disk is full.', 'The thread ended.', 'The thread ended.'],
  )
  dog.stop()
})
