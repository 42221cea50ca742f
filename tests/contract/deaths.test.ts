import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Job } from '../../src/model/job.ts'
import { type Does, Host, type Process } from '../support/host.ts'
import type { Options } from '../support/subject.ts'

// Processes that die of one of their jobs, and what becomes of the others: the real engine, a host of the test's own.

/** Lets all live in steps, and starts a process anew when it dies, until `over`; answers with the jobs that killed, in order. */
async function until(
  host: Host,
  start: () => Promise<Process>,
  over: (jobs: Job[]) => boolean,
  { step = 50, most = 4000 } = {},
): Promise<number[]> {
  const killers: number[] = []
  for (let i = 0; i < most; i++) {
    for (const process of [...host.processes]) {
      if (await process.live(step)) continue
      killers.push(process.killer!)
      await start()
    }
    if (i % 4 === 0 && over(await host.processes[0]!.at.all())) return killers
  }
  const jobs = (await host.processes[0]!.at.all()).filter(({ state }) => state !== 'succeeded')
  assert.fail(`not over: ${JSON.stringify(jobs.slice(0, 5))}`)
}

const ended = (jobs: Job[]) => jobs.every(({ state }) => state === 'succeeded' || state === 'dead')
const backoff = { kind: 'constant', delay: '1s' } as const

async function submit(process: Process, does: Does[], options: Options = {}): Promise<number[]> {
  return (await process.at.submitMany({ backoff, ...options }, does)).ids
}

for (const [
  concurrency,
  poisons,
  maxAttempts,
] of [[1, 1, 3], [10, 1, 2], [10, 2, 3], [100, 1, 3], [100, 2, 2]] as const) // biome-ignore format: a table
  test(`${poisons} of 100 jobs kill their process, ${concurrency} at once, maxAttempts ${maxAttempts}: only they die`, async () => {
    await using host = new Host()
    const start = () => host.start([concurrency])
    const first = await start()
    const does = Array.from({ length: 100 }, (_, i) =>
      i === 4 || (poisons === 2 && i === 37) ? { kills: 30 } : { ms: 100 },
    )
    const ids = await submit(first, does, { maxAttempts })
    const killers = await until(host, start, ended)
    const { at } = host.processes[0]!
    for (const [i, id] of ids.entries()) {
      const job = await at.job(id)
      if ('ms' in does[i]!) assert.equal(job.state, 'succeeded', `innocent ${i}`)
      else {
        assert.deepEqual([job.state, job.reason], ['dead', 'exhausted'])
        const deaths = killers.filter((killer) => killer === id).length
        assert.ok(deaths <= maxAttempts + Math.log2(concurrency) + 1, `${deaths} deaths of ${i}`)
        const last = (await at.store.call('attempts', id)).at(-1)!
        assert.match(last.error!.message, /it ran alone/)
      }
    }
  })

test('losses alone count, also with one in company between them: that one costs no attempt', async () => {
  await using host = new Host()
  const [id, other] = await submit(await host.start([0]), Array<Does>(3).fill({}), { maxAttempts: 3 })
  const deaths: string[] = []
  // Three run; then it alone, since the process has one slot; then two, as many as may; then it alone, whatever the slots.
  for (const slots of [3, 1, 4, 4, 4]) {
    const process = await host.start([slots])
    host.processes.find((one) => one !== process)?.die()
    process.at.advance(1000) // its backoff
    await process.live(10)
    await process.live(10)
    assert.ok(process.running.some((job) => job.id === id))
    process.die()
    const { at } = await host.start([0])
    const { state, attemptsLeft, company } = await at.job(id!)
    const [record] = (await at.store.call('attempts', id!)).slice(-1)
    const beside = record!.error!.message.match(/it (ran alone|and \d)/)![1]
    deaths.push(`${beside}: ${state}, ${attemptsLeft} left, beside ${company}`)
  }
  assert.deepEqual(deaths, [
    'and 2: ready, 3 left, beside 1',
    'ran alone: ready, 2 left, beside 1',
    'and 1: ready, 2 left, beside 0',
    'ran alone: scheduled, 1 left, beside 0',
    'ran alone: dead, 0 left, beside 0',
  ])
  assert.equal(await host.processes[0]!.at.state(other!), 'ready')
})

test('jobs with one attempt are never started again, whoever killed their process', async () => {
  await using host = new Host()
  const start = () => host.start([10])
  const ids = await submit(await start(), [{ kills: 30 }, ...Array<Does>(19).fill({ ms: 100 })], { maxAttempts: 1 })
  assert.equal((await until(host, start, ended)).length, 1)
  const jobs = await host.processes[0]!.at.all()
  assert.deepEqual(jobs.map(({ attempt }) => attempt), Array(20).fill(1)) // biome-ignore format: one line
  assert.deepEqual(jobs.map(({ state }) => state), ids.map((_, i) => (i < 10 ? 'dead' : 'succeeded'))) // biome-ignore format: one line
})

/** A process that runs these jobs. */
async function running(host: Host, does: Does[], slots = [100]): Promise<{ process: Process; ids: number[] }> {
  const process = await host.start(slots)
  const ids = await submit(process, does)
  await process.live(10)
  await process.live(10)
  assert.equal(process.running.length, does.length)
  return { process, ids }
}

test('one deploy that kills 100 jobs charges none of them', async () => {
  await using host = new Host()
  const { process } = await running(host, Array<Does>(100).fill({ ms: 60_000 }))
  process.die()
  const { at } = await host.start([100])
  assert.deepEqual(
    [...new Set((await at.all()).map(({ state, attemptsLeft }) => `${state} ${attemptsLeft}`))],
    ['ready 12'],
  )
})

for (const [how, left] of [['killed', 11], ['stopping', 12], ['host restarted', 12]] as const) // biome-ignore format: a table
  test(`a job that ran alone, ${how}: ${left} attempts are left`, async () => {
    await using host = new Host()
    const { process, ids } = await running(host, [{ ms: 60_000 }])
    if (how === 'stopping') await process.at.store.call('stopping', process.pools[0]!.worker)
    if (how === 'host restarted') host.restart()
    else process.die()
    const { state, attempt, attemptsLeft } = await (await host.start([100])).at.job(ids[0]!)
    assert.deepEqual([state, attempt, attemptsLeft], ['ready', 1, left])
  })

test('a job that has its process told to stop, and killed: after ten times it is charged, and an innocent beside it is not', async () => {
  await using host = new Host()
  let { process, ids } = await running(host, [{ ms: 60_000 }, { ms: 60_000 }], [1, 1])
  const [poison, innocent] = ids as [number, number]
  const stops = async () => {
    await process.at.store.call('stopping', process.pools[0]!.worker)
    process.die()
    process = await host.start([1, 1])
  }
  for (let deaths = 1; deaths <= 25; deaths++) {
    await stops()
    const { state, attemptsLeft } = await process.at.job(poison)
    if (deaths <= 10) assert.equal(attemptsLeft, 12)
    if (state === 'dead') break
    await process.live(100_000_000) // whatever it waits for is over
    await process.live(10)
    if (!process.running.some(({ id }) => id === poison)) await process.live(10)
  }
  assert.equal((await process.at.job(poison)).state, 'dead')
  assert.notEqual((await process.at.job(innocent)).state, 'dead')
})

for (const which of [0, 1])
  test(`pool ${which} of two had begun to stop when their process was killed: neither's job is charged`, async () => {
    await using host = new Host()
    const { process, ids } = await running(host, Array<Does>(2).fill({ ms: 60_000 }), [1, 1])
    await process.at.store.call('stopping', process.pools[which]!.worker)
    process.die()
    const { at } = await host.start([1])
    for (const id of ids) assert.equal((await at.job(id)).attemptsLeft, 12)
  })

test('a handler that goes on after its pool was signed off is company to the others of its process', async () => {
  await using host = new Host()
  const { process, ids } = await running(host, Array<Does>(2).fill({ ms: 60_000 }), [1, 1])
  await process.at.store.call('unregister', process.pools[0]!.worker)
  process.die()
  const { at } = await host.start([1])
  const { attemptsLeft, company } = await at.job(ids[1]!)
  assert.deepEqual([attemptsLeft, company], [12, 0])
})

test('two pools in one process are one company, and both are fed again', async () => {
  await using host = new Host()
  const start = () => host.start([5, 5])
  const does = Array.from({ length: 60 }, (_, i) => (i === 3 ? { kills: 30 } : { ms: 100 }))
  await submit(await start(), does, { maxAttempts: 3 })
  const killers = await until(host, start, ended)
  assert.ok(killers.length <= 3 + Math.log2(10) + 1, `${killers.length}`)
  const states = (await host.processes[0]!.at.all()).map(({ state }) => state)
  assert.deepEqual(states, does.map((_, i) => (i === 3 ? 'dead' : 'succeeded'))) // biome-ignore format: one line
})

test('ten processes: the poison job ends dead, and no process stands still for it', async () => {
  await using host = new Host()
  const start = () => host.start([4])
  for (let i = 0; i < 10; i++) await start()
  const does = Array.from({ length: 100 }, (_, i) => (i === 20 ? { kills: 30 } : { ms: 200 }))
  await submit(host.processes[0]!, does, { maxAttempts: 3 })
  const killers = await until(host, start, ended, { step: 10 })
  assert.ok(killers.length <= 3 + Math.log2(4) + 1, `${killers.length}`)
  assert.equal((await host.processes[0]!.at.all()).filter(({ state }) => state === 'dead').length, 1)
})

/** Three jobs that were lost beside each other: each may now run beside one other. */
async function limited(host: Host, options: Options = {}): Promise<number[]> {
  const process = await host.start([3])
  const ids = await submit(process, Array<Does>(3).fill({ ms: 100 }), options)
  await process.live(10)
  await process.live(10)
  process.die()
  return ids
}

const all = (ids: number[]) => (jobs: Job[]) =>
  jobs.every(({ id, state }) => !ids.includes(id) || state === 'succeeded')

test('a process with jobs of 1 h takes a limited job when it has room, and nothing of its class before', async () => {
  await using host = new Host()
  const ids = await limited(host)
  const process = await host.start([4], ['long', 'work'])
  await submit(process, Array<Does>(3).fill({ ms: 3_600_000 }), { type: 'long', priority: 'high', timeout: '2h' })
  await process.live(10)
  await process.live(10)
  const held = process.running.length
  assert.equal(held, 3)
  const late = await submit(process, [{ ms: 10 }])
  for (let minute = 0; minute < 55; minute++) await process.live(60_000)
  assert.deepEqual([process.running.length, await process.at.state(late[0]!)], [3, 'ready'])
  await until(host, async () => process, all([...ids, ...late]), { step: 20_000 })
})

test('a handler that never ends keeps no limited job from starting for ever', async () => {
  await using host = new Host()
  const ids = await limited(host)
  const process = await host.start([4], ['hang', 'work'])
  await submit(process, Array<Does>(2).fill({}), { type: 'hang', priority: 'high', timeout: '1m', maxAttempts: 1 })
  await until(host, async () => process, all(ids), { step: 1000 })
})

test('a steady stream of higher classes that leaves slots free does not keep a limited job from starting', async () => {
  await using host = new Host()
  const ids = await limited(host)
  const process = await host.start([4])
  await submit(process, [{ ms: 1500 }, { ms: 2500 }], { priority: 'high' })
  let seconds = 0
  for (; seconds < 120 && !all(ids)(await process.at.all()); seconds++) {
    await submit(process, [{ ms: 2500 }], { priority: 'high' }) // two or three of them run at any time
    for (let i = 0; i < 4; i++) await process.live(250)
  }
  assert.ok(seconds > 5 && seconds < 120, `${seconds} s`)
})

test('a paused queue, a limit and a concurrency key: a limited job that may not start holds nobody back', async () => {
  await using host = new Host()
  const ids = await limited(host)
  const process = await host.start([4], ['work', 'long'])
  const { at } = process
  await at.store.call('setQueue', { queue: 'default', maxRunning: 2 })
  await submit(process, Array<Does>(2).fill({ ms: 500 }), { type: 'long', priority: 'high' })
  const others = await submit(process, Array<Does>(6).fill({ ms: 100 }), { concurrencyKey: 'k' })
  await process.live(10)
  await at.store.call('setQueue', { queue: 'default', paused: true })
  for (let i = 0; i < 10; i++) await process.live(250)
  assert.equal(process.running.length, 0)
  await at.store.call('setQueue', { queue: 'default', paused: false, maxRunning: null })
  await until(host, async () => process, all([...ids, ...others]))
})

test('releases between deaths leave the limit: an innocent and a poison job that are given back each time', async () => {
  await using host = new Host()
  const start = () => host.start([8])
  const ids = await submit(await start(), Array.from({ length: 16 }, (_, i) => (i === 2 ? { kills: 40 } : { ms: 100 })), { maxAttempts: 2 }) // biome-ignore format: one call
  let killers: number[] = []
  for (let i = 0; i < 6 && !ended(await host.processes[0]!.at.all()); i++) {
    const process = host.processes[0]!
    await process.live(10)
    await process.live(10)
    for (const pool of process.pools)
      for (const job of pool.running.splice(0)) await process.at.store.call('release', job)
    const before = host.processes[0]
    killers = [...killers, ...(await until(host, start, (jobs) => host.processes[0] !== before || ended(jobs)))]
  }
  const { at } = host.processes[0]!
  assert.deepEqual(await Promise.all(ids.map((id) => at.state(id))), ids.map((_, i) => (i === 2 ? 'dead' : 'succeeded'))) // biome-ignore format: one line
  assert.ok(killers.length <= 2 + 3 + 1, `${killers.length}`)
})
