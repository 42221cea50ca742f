import assert from 'node:assert/strict'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import { Random } from '../../sim/random.ts'
import { priorities } from '../../src/model/job.ts'
import { VirtualClock } from '../../src/testing/clock.ts'
import { EngineStore } from '../../src/testing/store.ts'
import { temporaryFolder } from '../support/folder.ts'
import { Subject } from '../support/subject.ts'

// A worker of many lines remembers which of them have jobs. Two engines on one file change everything that this memory
// depends on; each claim is held against a plain ORDER BY over the file.

const queues = Array.from({ length: 10 }, (_, i) => `q${i}`)
const types = Array.from({ length: 10 }, (_, i) => `t${i}`)
const ready = `SELECT id FROM gq_jobs LEFT JOIN gq_queues ON name = queue
  WHERE state = 'ready' AND blocked <> 1 AND paused IS NOT 1 AND (deadline IS NULL OR deadline > ?1) ORDER BY priority, id LIMIT ?2`

for (let seed = 1; seed <= 6; seed++)
  test(`a worker of 100 lines gets what a plain ORDER BY gives, whoever changed the file: seed ${seed}`, async () => {
    using folder = temporaryFolder()
    const clock = new VirtualClock()
    const random = new Random(seed)
    const engines = [0, 1].map(() => new EngineStore(folder.file('jobs.db'), clock))
    const [here, there] = engines.map((store) => new Subject({ store, time: store, close: () => store.close() }))
    const sources = queues.flatMap((queue) => types.map((type) => ({ queue, type })))
    const worker = await here!.worker(50, sources)
    await there!.worker(1, [{ queue: 'none', type: 'none' }])
    const file = new DatabaseSync(folder.file('jobs.db'))
    const expected = (most: number) =>
      file
        .prepare(ready)
        .all(clock.now(), most)
        .map(({ id }) => id)
    for (const queue of queues) await here!.store.call('setQueue', { queue, paused: false })
    for (let step = 0; step < 250; step++) {
      const at = random.pick([here!, there!])
      const [queue, type] = [random.pick(queues), random.pick(types)]
      const what = random.weighted({ submit: 10, lease: 8, delay: 2, expire: 1, pause: 1, resume: 2, cancel: 2, advance: 3, sql: 1, refused: 1, wait: 2 }) // biome-ignore format: one line
      if (what === 'submit') await at.submit({ queue, type, priority: random.pick(priorities) })
      else if (what === 'delay') await at.submit({ queue, type, delay: 1 + random.below(5000) })
      else if (what === 'expire') await at.submit({ queue, type, deadline: `${1 + random.below(3000)}ms` })
      else if (what === 'pause' || what === 'resume')
        await at.store.call('setQueue', { queue, paused: what === 'pause' })
      else if (what === 'sql')
        file.exec(`INSERT INTO gq_jobs (queue, type, payload) VALUES ('${queue}', '${type}', '1')`)
      else if (what === 'refused') await assert.rejects(at.store.call('cancel', 1e9))
      else if (what === 'cancel') {
        const id = random.pick(expected(20))
        if (id !== undefined) await at.store.call('cancel', Number(id))
      } else if (what === 'advance') {
        clock.advance(random.below(2000))
        for (const engine of engines) engine.tick()
      } else if (what === 'lease') {
        const slots = 1 + random.below(4)
        const first = expected(slots)
        const jobs = await here!.store.call('lease', { worker, sources, slots, exclude: [] }, AbortSignal.timeout(1)).catch(() => []) // biome-ignore format: one line
        assert.deepEqual(jobs.map(({ id }) => id), first, `step ${step}`) // biome-ignore format: one line
        for (const job of jobs) await here!.succeed(job)
      } else if (what === 'wait' && expected(1).length === 0) {
        const waiting = here!.store.call('lease', { worker, sources, slots: 1, exclude: [] })
        const id = await there!.submit({ queue, type })
        const paused = expected(1).length === 0
        if (paused) await there!.store.call('setQueue', { queue, paused: false })
        clock.advance(300)
        engines[0]!.tick()
        const [job] = await waiting
        assert.ok(job!.id <= id)
        await here!.succeed(job!)
      }
    }
    file.close()
    for (const engine of engines) await engine.close()
  })

for (const types of [1, 100])
  test(`of two processes on a file, each lets its worker of ${types} lines have what a rate has left`, async () => {
    using folder = temporaryFolder()
    const clock = new VirtualClock()
    const engines = [0, 1].map(() => new EngineStore(folder.file('jobs.db'), clock))
    const both = engines.map((store) => new Subject({ store, time: store, close: () => store.close() }))
    const [here, there] = both as [Subject, Subject]
    const sources = Array.from({ length: types }, (_, i) => ({ queue: 'default', type: `t${i}` }))
    await here.store.call('setQueue', { queue: 'default', rate: { max: 3, per: 1000 } })
    await here.submitMany({ type: 't0' }, Array(10).fill(0))
    const workers = [await here.worker(2, sources), await there.worker(2, sources)]
    const ask = () => both.map((at, i) => at.ask(workers[i]!, { types: sources.map(({ type }) => type), slots: 2 }))
    const settle = async () => {
      for (const at of both) await at.settle()
    }
    const counts = (asked: ReturnType<typeof ask>) => asked.map(({ jobs }) => jobs?.length)
    const asked = ask()
    await settle()
    assert.deepEqual(counts(asked), [2, 1])
    for (const [i, { jobs }] of asked.entries()) for (const job of jobs!) await both[i]!.succeed(job)
    const again = ask()
    await settle()
    assert.deepEqual(counts(again), [undefined, undefined])
    clock.advance(1000)
    engines[1]!.tick() // the one makes room known, and the other hears of it by the file alone
    engines[0]!.tick()
    await settle()
    assert.deepEqual(counts(again), [1, 2])
    for (const engine of engines) await engine.close()
  })
