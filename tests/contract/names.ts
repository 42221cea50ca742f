import assert from 'node:assert/strict'
import { jobSpec } from '../../src/model/job.ts'
import type { Input } from '../../src/store/store.ts'
import { type Subject, stranger } from '../support/subject.ts'
import type { Suite } from './contract.ts'

const namesOf = async (at: Subject) => (await at.store.call('stats', null)).queues.map(({ queue }) => queue)

/** A job of a queue comes and goes. */
async function passThrough(at: Subject, queue: string): Promise<void> {
  const id = await at.submit({ queue })
  await at.store.call('cancel', id)
  await at.store.call('remove', id)
}

const schedule = (queue: string): Input<'setSchedule'> => ({
  ...{ name: 'nightly', cron: '0 3 1 1 *', timezone: 'UTC', payload: '1', missed: 'skip', overlap: 'allow' },
  spec: jobSpec('work', { queue }),
})

export function names({ holds, holdsOverTime }: Suite): void {
  holds('a queue is forgotten with its last job, and is there again with the next', async (at) => {
    await at.submit({ queue: 'stays' })
    await passThrough(at, 'q')
    assert.deepEqual(await namesOf(at), ['stays'])
    await at.submit({ queue: 'q' })
    const [job] = await at.lease(stranger, { queues: ['q'] })
    assert.equal(job?.queue, 'q')
    assert.deepEqual(await namesOf(at), ['q', 'stays'])
  })

  const settings: Omit<Input<'setQueue'>, 'queue'>[] = [
    ...[{ paused: true }, { maxDepth: 1 }, { maxRunning: 1 }, { maxRunningPerKey: 2 }, { rate: { max: 1, per: 1000 } }],
    ...[{ keepSucceeded: 1 }, { keepCancelled: null }, { keepDead: 1 }],
  ]
  const defaults: Omit<Input<'setQueue'>, 'queue'> = {
    ...{ paused: false, maxDepth: null, maxRunning: null, maxRunningPerKey: 1, rate: null },
    ...{ keepSucceeded: 86_400_000, keepCancelled: 604_800_000, keepDead: null },
  }
  for (const setting of settings)
    holds(
      `a queue with a setting stays without jobs until it is taken back: ${JSON.stringify(setting)}`,
      async (at) => {
        await at.store.call('setQueue', { queue: 'q', ...setting })
        await passThrough(at, 'q')
        assert.deepEqual(await namesOf(at), ['q'])
        const [name] = Object.keys(setting) as (keyof typeof defaults)[]
        await at.store.call('setQueue', { queue: 'q', [name!]: defaults[name!] })
        assert.deepEqual(await namesOf(at), [])
        await passThrough(at, 'q')
      },
    )

  holds('a queue that a schedule names stays without jobs, until the schedule goes or names another', async (at) => {
    await at.store.call('setSchedule', schedule('a'))
    await passThrough(at, 'a')
    assert.deepEqual(await namesOf(at), ['a'])
    await at.store.call('setSchedule', schedule('b'))
    assert.deepEqual(await namesOf(at), ['b'])
    await at.store.call('removeSchedule', 'nightly')
    assert.deepEqual(await namesOf(at), [])
  })

  holds('who knows the names hears of a queue that took the place of a forgotten one', async (at) => {
    const ask = (input: Input<'queueNames'>) => at.store.call('queueNames', input)
    const id = await at.submit({ queue: 'a' })
    await at.submit({ queue: 'b' })
    const { count, forgotten } = await ask({})
    await at.store.call('cancel', id)
    await at.store.call('remove', id)
    await at.submit({ queue: 'c' })
    const heard = await ask({ known: count, forgotten })
    assert.deepEqual([heard.names, heard.count], [['b', 'c'], 2])
    assert.deepEqual((await ask({ known: heard.count, forgotten: heard.forgotten })).names, [])
  })

  holdsOverTime('retention forgets queues too, in steps', async (at) => {
    for (let i = 0; i < 200; i++) await at.store.call('cancel', await at.submit({ queue: `q${i}` }))
    await at.worker()
    assert.equal((await namesOf(at)).length, 200)
    at.advance(8 * 86_400_000)
    for (let i = 0; i < 50; i++) at.advance(1000)
    assert.deepEqual(await namesOf(at), [])
  })
}
