import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { GopherQueueError } from '../../src/model/errors.ts'
import { Condition } from '../../src/store/sqlite/condition.ts'
import { storageError } from '../../src/store/sqlite/connection.ts'
import { Db } from '../../src/store/sqlite/db.ts'
import { noDisk } from '../../src/store/sqlite/disk.ts'
import type { StoreHealth } from '../../src/store/store.ts'
import { VirtualClock } from '../../src/testing/clock.ts'

// What health says, over any sequence of what disks do, in virtual time.

const reserve = 8000
const enough = reserve * 1.125

/** A condition, its disk, and all that health has said. */
class Rig {
  readonly clock = new VirtualClock()
  free = 10 * reserve
  aside: () => boolean = () => true
  readonly said: StoreHealth[] = []
  readonly #db = new Db(':memory:', this.clock)
  readonly condition = new Condition(
    this.clock,
    { ...noDisk, free: () => this.free, setAside: () => this.aside() },
    reserve,
  )

  look(): void {
    this.clock.advance(250)
    this.condition.look(true, this.#db)
    this.listen()
  }

  listen(): void {
    const { health } = this.condition
    const { submit, lease, complete } = health.works
    assert.ok(health.status !== 'ok' || (submit && lease && complete), `ok, but ${JSON.stringify(health.works)}`)
    assert.equal(health.status === 'ok', health.causes.length === 0)
    if (!this.condition.changed) return
    this.condition.changed = false
    this.said.push(health)
  }
}

test('a disk whose room sways about the reserve changes health only by a real change of room', () => {
  const room = fc.oneof(fc.integer({ min: 0, max: 3 * reserve }), fc.integer({ min: reserve - 20, max: reserve + 20 }))
  fc.assert(
    fc.property(fc.array(room, { maxLength: 60 }), (rooms) => {
      const rig = new Rig()
      let full = false
      let changes = 0
      for (const free of rooms) {
        rig.free = free
        rig.look()
        const now: boolean = full ? free < enough : free < reserve
        if (now !== full) changes++
        full = now
        assert.equal(rig.condition.health.works.submit, !full, `${free} free`)
        assert.equal(rig.said.length, changes)
      }
    }),
  )
})

test('whatever fails and recovers in whatever order: health is ok exactly while all works and nothing is wrong', () => {
  const failure = fc.constantFrom('STORAGE_UNAVAILABLE', 'STORAGE_FULL', 'NOT_A_QUEUE', 'UNSUPPORTED_FILESYSTEM')
  const step = fc.oneof(
    fc.integer({ min: 0, max: 2 * reserve }),
    failure,
    fc.constantFrom('written', 'aside', 'no room aside', 'none aside'),
  )
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const rig = new Rig()
      for (const step of steps) {
        if (typeof step === 'number') rig.free = step
        else if (step === 'aside') rig.aside = () => true
        else if (step === 'no room aside') rig.aside = () => false
        else if (step === 'none aside')
          rig.aside = () => {
            throw Object.assign(new Error('EACCES: permission denied'), { code: 'EACCES' })
          }
        else if (step !== 'written') rig.condition.block(new GopherQueueError(step, 'it failed'))
        else if (!rig.condition.failed) rig.condition.unblock()
        rig.listen()
        rig.look()
      }
      if (rig.condition.failed) return
      rig.aside = () => true
      rig.free = 10 * reserve
      rig.condition.unblock()
      rig.look()
      assert.equal(rig.condition.health.status, 'ok')
    }),
  )
})

test('a reserve that cannot be made is one steady warning: all works, and nothing more is said', () => {
  const rig = new Rig()
  rig.aside = () => {
    throw Object.assign(new Error('EACCES: permission denied'), { code: 'EACCES' })
  }
  for (let i = 0; i < 20; i++) {
    rig.look()
    rig.condition.unblock() // writes go on
    rig.listen()
  }
  assert.deepEqual(
    rig.said.map(({ status, causes, works }) => [status, causes.map(({ code }) => code), works]),
    [['degraded', ['RESERVE_MISSING'], { submit: true, lease: true, complete: true }]],
  )
  rig.free = 0
  rig.look()
  assert.equal(rig.condition.refusal().code, 'STORAGE_FULL', 'a warning refuses nothing')
  assert.equal(rig.condition.health.causes.at(-1)!.code, 'STORAGE_FULL')
  rig.free = 10 * reserve
  rig.aside = () => true
  rig.look()
  assert.equal(rig.condition.health.status, 'ok')
})

test('an error of the file or of a statement says what became of the call, and never that a further try alone helps', () => {
  const failed = (errcode: number) => Object.assign(new Error('as SQLite says'), { errcode, errstr: '' })
  const told = (error: unknown, accepted: 'no' | 'unknown') => storageError(error, 'It failed', accepted).message
  for (const error of [failed(778), failed(7), failed(8), failed(14), failed(15)]) {
    assert.match(told(error, 'no'), /^It failed: as SQLite says\. Nothing was accepted\. Mend the file, .*doctor/)
    assert.match(told(error, 'unknown'), /It may or may not be stored: .* idempotency key that it had.* Mend the file/)
  }
  for (const error of [failed(1), failed(275), new TypeError('as SQLite says')])
    assert.match(told(error, 'no'), /Nothing was accepted\. The same call fails again: .*doctor.* report this/)
  for (const code of [1, 5, 7, 8, 10, 11, 13, 14, 15, 19, 26])
    for (const accepted of ['no', 'unknown'] as const) {
      const text = told(failed(code), accepted)
      assert.doesNotMatch(text, /try again/)
      assert.equal(/Nothing was (accepted|changed|overwritten)/.test(text), accepted === 'no', text)
      assert.equal(/It may or may not be stored/.test(text), accepted === 'unknown', text)
    }
})
