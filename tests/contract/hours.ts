import assert from 'node:assert/strict'
import { hourMs } from '../../src/model/hours.ts'
import { typesReport } from '../../src/queue/types.ts'
import { stranger } from '../support/subject.ts'
import type { Suite } from './contract.ts'

const none = { submitted: 0, succeeded: 0, failed: 0, retried: 0, dead: 0 }

/** What is kept of each type and hour. */
export function hours({ holds, holdsOverTime }: Suite): void {
  holds('what happens to the jobs of a type is counted, and what was refused never happened', async (at) => {
    await at.store.call('setQueue', { queue: 'default', maxDepth: 6 })
    await at.submitMany({}, [1, 2, 3, 4, 5])
    await at.submit({ type: 'mail' })
    await at.refused('QUEUE_FULL', () => at.submitMany({ type: 'never' }, [1, 2], ['a', 'b']))
    const [done, failed, again, cancelled, released] = await at.lease(stranger, { slots: 5 })
    await at.succeed(done!)
    await at.fail(failed!, 'permanent')
    await at.fail(again!)
    await at.store.call('cancel', cancelled!.id)
    await at.fail(cancelled!)
    await at.store.call('release', released!)
    await at.store.call('remove', done!.id)
    const { types, hours } = await typesReport(at.store, at.clock)
    const counted = types.map(({ wait, run, ...counts }) => ({ ...counts, starts: wait.count, runs: run.count }))
    assert.deepEqual(counted, [
      { type: 'work', submitted: 5, succeeded: 1, failed: 3, retried: 1, dead: 1, starts: 5, runs: 4 },
      { ...none, type: 'mail', submitted: 1, starts: 0, runs: 0 },
    ])
    const sum = (name: keyof typeof none) => hours.reduce((all, hour) => all + hour[name], 0)
    assert.deepEqual([hours.length, sum('submitted'), sum('failed')], [25, 6, 3])
    assert.deepEqual(
      (await typesReport(at.store, at.clock, { type: 'mail' })).types.map(({ type }) => type),
      ['mail'],
    )
  })

  holdsOverTime('hours are kept for 8 days, with how long jobs waited and attempts ran', async (at) => {
    const first = at.clock.now()
    for (const [waits, runs] of [
      [100, 1000],
      [100, 1000],
      [100, 3000],
      [4000, 90_000],
    ] as const) {
      await at.submit({ timeout: '5m', visibilityTimeout: '5m' })
      at.advance(waits)
      const [job] = await at.lease(stranger)
      at.advance(runs)
      await at.succeed(job!)
    }
    const [work] = (await typesReport(at.store, at.clock)).types
    assert.deepEqual(work?.wait, { count: 4, p50: 83, p95: 3600, max: 4000 })
    assert.deepEqual(work?.run, { count: 4, p50: 1000, p95: 82_000, max: 90_000 })
    at.advance(26 * hourMs)
    assert.deepEqual((await typesReport(at.store, at.clock)).types, [])
    const long = await typesReport(at.store, at.clock, { since: first })
    assert.equal(long.types[0]?.succeeded, 4)
    const busy = long.hours.filter(({ submitted }) => submitted > 0)
    assert.deepEqual(busy.map(({ at }) => at), [...new Set([first, first + 98_300].map((t) => Math.floor(t / hourMs) * hourMs))]) // biome-ignore format: long
    assert.equal(
      long.hours.reduce((sum, { run }) => sum + run.count, 0),
      4,
    )
    assert.equal(Math.max(...long.hours.map(({ run }) => run.max ?? 0)), 90_000)
    at.advance(7 * 24 * hourMs)
    await at.submit()
    assert.equal((await at.store.call('hours', { since: first })).hours.length, 1, 'older ones are gone')
  })

  holdsOverTime('the age of what is ready counts from when it became ready', async (at) => {
    const ages = async () => {
      const { oldestReadyMs, waiting } = await at.store.call('stats', null)
      return [oldestReadyMs, ...waiting.map((one) => `${one.type} ${one.oldestReadyMs}`)]
    }
    assert.deepEqual(await ages(), [null])
    await at.worker(1, []) // who works makes due what is due
    await at.submit({ type: 'late', delay: '7d' })
    const failing = await at.running({ type: 'again', maxAttempts: 3, backoff: { kind: 'constant', delay: '1h' } })
    await at.fail(failing)
    at.advance(7 * 24 * hourMs)
    await at.submit({ type: 'late' })
    at.advance(5000)
    const age = 7 * 24 * hourMs - hourMs + 5000
    assert.deepEqual(await ages(), [age, `again ${age}`, 'late 5000'])
    await at.store.call('setQueue', { queue: 'default', paused: true })
    assert.deepEqual(await ages(), [null, `again ${age}`, 'late 5000'], 'a paused queue is late on purpose')
  })
}
