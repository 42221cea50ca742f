import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import { systemClock } from '../../src/model/clock.ts'
import { type JobOptions, jobSpec } from '../../src/model/job.ts'
import { Engine } from '../../src/store/sqlite/commit.ts'
import type { Input, LeasedJob, Operation, Submitted } from '../../src/store/store.ts'
import { folderFor } from './processes.ts'

// Two engines on one file, as two processes have them, but taking turns where the test says so.

function engine(file: string) {
  const engine = new Engine(file, systemClock)
  let seq = 0
  const ask = <K extends Operation>(operation: K, input: Input<K>) => {
    const replies = engine.execute([{ seq: ++seq, operation, input }])
    return replies.map((reply) => ('value' in reply ? reply.value : assert.fail(reply.error)))
  }
  const submit = (type: string, options: JobOptions) =>
    ask('submit', { specs: jobSpec(type, options), payloads: ['null'], keys: null }) as [Submitted, ...LeasedJob[][]]
  return { ask, submit, tick: () => engine.tick(), close: () => engine.close() }
}

for (const [theirs, ours] of [
  ['critical', 'bulk'],
  ['normal', 'normal'],
] as const)
  test(`an idle worker takes another process's earlier ${theirs} job before its own process's ${ours} job of another type`, (t) => {
    const file = join(folderFor(t), 'jobs.db')
    const here = engine(file)
    const there = engine(file)
    const sources = ['x', 'y'].map((type) => ({ queue: 'default', type }))
    const [worker] = here.ask('register', { name: 'w', sources, slots: 1 }) as [number]
    assert.deepEqual(here.ask('lease', { worker, sources, slots: 1, exclude: [] }), [])
    here.tick()

    const [{ ids: first }] = there.submit('y', { priority: theirs })
    const [, leased] = here.submit('x', { priority: ours }) // before `here` has looked at what `there` did
    assert.deepEqual(
      leased?.map((job) => job.id),
      first,
    )
    here.close()
    there.close()
  })
