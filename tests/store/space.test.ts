import assert from 'node:assert/strict'
import { statSync } from 'node:fs'
import { DatabaseSync } from 'node:sqlite'
import { type TestContext, test } from 'node:test'
import { jobSpec } from '../../src/model/job.ts'
import { Engine } from '../../src/store/sqlite/commit.ts'
import { noDisk } from '../../src/store/sqlite/disk.ts'
import { examine } from '../../src/store/sqlite/doctor.ts'
import type { Input, Operation, Output } from '../../src/store/store.ts'
import { VirtualClock } from '../../src/testing/clock.ts'
import { virtualQueue } from '../queue/support.ts'
import { temporaryFolder } from '../support/folder.ts'

/** Each look at it takes a millisecond. */
class TiringClock extends VirtualClock {
  tiring = false
  override monotonic(): number {
    if (this.tiring) this.advance(1)
    return super.monotonic()
  }
}

/** An engine with a worker, on a file of its own, whose cancelled jobs are to go after a second. */
class Rig {
  readonly clock = new TiringClock()
  readonly path: string
  readonly engine: Engine
  free = Number.POSITIVE_INFINITY

  constructor(t: TestContext, prepare: (path: string) => void = () => undefined) {
    const folder = temporaryFolder()
    this.path = folder.file('jobs.db')
    prepare(this.path)
    this.engine = new Engine(this.path, this.clock, { disk: { ...noDisk, free: () => this.free }, diskReserve: 1000 })
    t.after(() => {
      this.engine.close()
      folder[Symbol.dispose]()
    })
    this.ask('register', { name: 'w', sources: [{ queue: 'default', type: 'none' }], slots: 1 })
    this.ask('setQueue', { queue: 'default', keepCancelled: 1000 })
  }

  ask<K extends Operation>(operation: K, input: Input<K>): Output<K> {
    const [reply] = this.engine.execute([{ seq: 1, operation, input }])
    assert.ok(reply && 'value' in reply, JSON.stringify(reply))
    return reply.value as Output<K>
  }

  submit(jobs: number): number[] {
    return this.ask('submit', { specs: jobSpec('work', {}), payloads: Array(jobs).fill(JSON.stringify('x'.repeat(500))), keys: null }).ids // biome-ignore format: one call
  }

  /** Jobs that retention will take when it next looks, and every so many that it will not. */
  grow(jobs: number, keepEvery = Number.POSITIVE_INFINITY): void {
    for (let left = jobs; left > 0; left -= 10_000) {
      const ids = this.submit(Math.min(left, 10_000)).filter((id) => id % keepEvery !== 0)
      this.engine.execute(ids.map((input, seq) => ({ seq, operation: 'cancel', input })))
    }
    this.clock.advance(1000)
  }

  look(times: number): void {
    for (let i = 0; i < times; i++) {
      this.clock.advance(250)
      this.engine.tick()
    }
  }

  get file() {
    return this.ask('stats', null).file!
  }

  get cancelled(): number {
    return this.ask('stats', null).queues[0]!.counts.cancelled
  }
}

const mebibyte = 2 ** 20

test('a step of retention ends by the clock, whatever it has done, and never without having done something', (t) => {
  const rig = new Rig(t)
  rig.grow(10)
  rig.clock.tiring = true
  for (let before = 10; before > 0; before = rig.cancelled) {
    rig.look(1)
    const gone = before - rig.cancelled
    assert.ok(gone >= 1 && gone <= 2, `${gone} in one step`)
  }
})

test('a file that grew by 50,000 jobs shrinks to near its floor, in steps', (t) => {
  const rig = new Rig(t)
  rig.grow(50_000, 100)
  const sizes = [statSync(rig.path).size]
  assert.ok(sizes[0]! > 20 * mebibyte, `${sizes}`)
  while (rig.cancelled > 0) rig.look(1)
  for (let i = 0; i < 20; i++) {
    rig.look(1)
    sizes.push(statSync(rig.path).size)
  }
  const steps = sizes.map((size, i) => (sizes[i - 1] ?? size) - size)
  assert.ok(Math.max(...steps) <= 4 * mebibyte + 64 * 1024, `no step cuts off much: ${steps}`)
  assert.ok(sizes.at(-1)! < 7 * mebibyte, `${sizes}`)
  const { bytes, freeBytes, walBytes, shrinks } = rig.file
  assert.ok(shrinks && bytes === sizes.at(-1) && freeBytes > 2 * mebibyte && freeBytes < 5 * mebibyte && walBytes > 0)
  const integrity = new DatabaseSync(rig.path, { readOnly: true })
  assert.equal(integrity.prepare('PRAGMA integrity_check').get()!.integrity_check, 'ok')
  assert.equal(integrity.prepare('SELECT COUNT(*) AS jobs FROM gq_jobs').get()!.jobs, 500)
  integrity.close()
})

test('what the file will soon use again stays in it', (t) => {
  const rig = new Rig(t)
  for (let i = 0; i < 4; i++) rig.submit(10_000)
  rig.grow(10_000) // a fifth of the file
  while (rig.cancelled > 0) rig.look(1)
  rig.look(5)
  assert.ok(rig.file.freeBytes > 5 * mebibyte, JSON.stringify(rig.file))
})

test("an app's own file stays as it is, and that is said", (t) => {
  const rig = new Rig(t, (path) => {
    const app = new DatabaseSync(path)
    app.exec('CREATE TABLE orders (id INTEGER PRIMARY KEY)')
    app.close()
  })
  rig.grow(20_000)
  while (rig.cancelled > 0) rig.look(1)
  rig.look(5)
  const { shrinks, freeBytes } = rig.file
  assert.ok(!shrinks && freeBytes > 8 * mebibyte, `${freeBytes}`)
  const says = examine(rig.path, 0, false).find(({ name }) => name === 'file')!
  assert.equal(says.verdict, 'ok')
  assert.match(says.says, /MiB of it free; it was made without incremental vacuum: its free space stays in it$/)
})

test('with the disk short of room all that is free in the file goes to it, and no step needs much room', (t) => {
  const rig = new Rig(t)
  rig.grow(20_000)
  rig.free = 0
  const sizes = [statSync(rig.path).size]
  let walBytes = 0
  for (let i = 0; rig.cancelled > 0 || rig.file.freeBytes > 0; i++) {
    assert.ok(i < 1000, JSON.stringify(rig.file))
    rig.look(1)
    if (rig.cancelled > 0) continue
    walBytes ||= rig.file.walBytes
    assert.ok(rig.file.walBytes <= walBytes, 'the WAL grows')
  }
  rig.look(1)
  sizes.push(statSync(rig.path).size)
  assert.ok(sizes[1]! < sizes[0]! / 8, `${sizes}`)
})

test('while somebody reads an old state, the WAL does not grow by what is moved', (t) => {
  const rig = new Rig(t)
  rig.grow(20_000, 10)
  while (rig.cancelled > 0) rig.look(1)
  const reader = new DatabaseSync(rig.path, { readOnly: true })
  reader.exec('BEGIN')
  reader.prepare('SELECT COUNT(*) FROM gq_jobs').get()
  rig.submit(1)
  rig.look(1) // may have begun before
  const { walBytes, freeBytes } = rig.file
  rig.look(20)
  assert.deepEqual([rig.file.walBytes, rig.file.freeBytes], [walBytes, freeBytes])
  reader.close()
  rig.look(20)
  assert.ok(rig.file.freeBytes < 5 * mebibyte)
})

test('a queue in memory has no file', async () => {
  await using queue = virtualQueue().queue
  assert.equal((await queue.stats()).file, null)
})
