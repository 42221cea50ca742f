import assert from 'node:assert/strict'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { GopherQueue } from '../../src/index.ts'
import { nanoseconds, readJournal } from './journal.ts'
import { drained, folderFor, lookInto, start, until } from './processes.ts'
import type { WorkConfig } from './work.child.ts'

// Limits on how many run at once, by the clock that all processes share: what their journals say, not what the file says.

const now = () => Number(nanoseconds()) / 1e6

/** Worker processes on one file, and when each of them was killed. */
function team(t: TestContext, folder: string, longest: number) {
  const killedAt = new Map<string, number>()
  const hire = (name: string) => {
    const config: WorkConfig = { file: join(folder, 'jobs.db'), log: join(folder, name), concurrency: 5, longest }
    const child = start(t, 'work.child.ts', config)
    return {
      working: () => until(`${name} works`, 20, () => readJournal(config.log).some(([word]) => word === 'working')),
      stop: () => child.stop(),
      kill: () => {
        killedAt.set(name, now())
        return child.kill()
      },
    }
  }
  return { hire, killedAt }
}

/** Starts and ends of handlers in their order; of what a kill cut off, the kill. */
function steps(folder: string, names: string[], killedAt: Map<string, number>) {
  const all = names.flatMap((name) => {
    const open = new Map<number, number>()
    const done = readJournal(join(folder, name)).flatMap(([word, id, , at]) => {
      if (word !== 'start' && word !== 'end') return []
      const step = { id: Number(id), change: word === 'start' ? 1 : -1, at: Number(at) / 1e6 }
      if (step.change > 0) open.set(step.id, step.at)
      else open.delete(step.id)
      return [step]
    })
    const cut = [...open].map(([id, since]) => ({ id, change: -1, at: Math.max(since, killedAt.get(name)!) }))
    return [...done, ...cut]
  })
  return all.sort((a, b) => a.at - b.at || a.change - b.change)
}

test('three processes, some of them killed, never run more of a queue and of a key at once than they may', async (t) => {
  const folder = folderFor(t)
  const queue = await GopherQueue.open(join(folder, 'jobs.db'))
  await queue.configure('default', { maxRunning: 4, maxRunningPerKey: 2 })
  const keys = ['a', 'b', null]
  await queue.submitMany('work', Array(600).fill(0), (_, i) => {
    const concurrencyKey = keys[Math.floor(i / 20) % keys.length]
    return concurrencyKey ? { concurrencyKey } : {}
  })
  await queue.close()

  const { hire, killedAt } = team(t, folder, 40) // ms: four kills come while there is work, also on a slow machine
  const names = ['0', '1', '2']
  const workers = names.map(hire)
  for (let i = 0; i < 4; i++) {
    await workers.at(-1)!.working()
    await workers.splice(0, 1)[0]!.kill()
    names.push(String(names.length))
    workers.push(hire(names.at(-1)!))
  }
  await drained(join(folder, 'jobs.db'), 60)
  for (const worker of workers) await worker.stop()

  const db = lookInto(join(folder, 'jobs.db'))
  const keyOf = new Map(
    db
      .prepare('SELECT id, concurrency_key AS key FROM gq_jobs')
      .all()
      .map(({ id, key }) => [id, key]),
  )
  const [{ lost }] = db.prepare(`SELECT COUNT(*) AS lost FROM gq_attempts WHERE outcome = 'lost'`).all() as [{ lost: number }] // biome-ignore format: one line
  db.close()
  const running = new Map<unknown, number>()
  const most = new Map<unknown, number>()
  for (const { id, change, at } of steps(folder, names, killedAt))
    for (const what of ['queue', keyOf.get(id)]) {
      running.set(what, (running.get(what) ?? 0) + change)
      most.set(what, Math.max(most.get(what) ?? 0, running.get(what)!))
      if (what === 'queue') assert.ok(running.get(what)! <= 4, `${at}`)
      else if (what !== null) assert.ok(running.get(what)! <= 2, `${at}`)
    }
  t.diagnostic(`at most ${JSON.stringify([...most])} at once; ${lost} attempts cut off by a kill`)
  assert.deepEqual([most.get('queue'), most.get('a'), most.get('b')], [4, 2, 2], 'the limits are used')
  assert.ok(lost > 0, 'no kill cut anything off')
})

test('three processes, some of them killed, never start more of a queue in a period than its rate', async (t) => {
  const folder = folderFor(t)
  const file = join(folder, 'jobs.db')
  const [max, per] = [30, 500]
  const queue = await GopherQueue.open(file)
  await queue.configure('default', { rate: { max, per } })
  await queue.submitMany('work', Array(300).fill(0))
  await queue.submitMany('flaky', Array(60).fill(0), () => ({ backoff: { kind: 'constant', delay: 1 } }))
  await queue.close()
  const { hire } = team(t, folder, 40)
  const workers = ['0', '1', '2'].map(hire)
  for (const name of ['3', '4']) {
    await workers.at(-1)!.working()
    await workers.splice(0, 1)[0]!.kill()
    workers.push(hire(name))
  }
  await drained(file, 60)
  for (const worker of workers) await worker.stop()

  // Each start as the file has it, in the transaction of its lease: of the last attempt in the job, of others in its history.
  const db = lookInto(file)
  const all = `SELECT started_at AS at FROM gq_jobs UNION ALL SELECT started_at FROM gq_attempts ORDER BY at`
  const starts = db.prepare(all).all().map(({ at }) => Number(at)) // biome-ignore format: one line
  db.close()
  for (const [i, at] of starts.entries()) assert.ok(i < max || at - starts[i - max]! >= per, `start ${i} at ${at}`)
  assert.ok(starts.length >= 420, `${starts.length} starts`)
})

test('the place of a killed worker’s job in its key is taken over at once', async (t) => {
  const folder = folderFor(t)
  const queue = await GopherQueue.open(join(folder, 'jobs.db'))
  const { hire } = team(t, folder, 0)
  const first = hire('first')
  await first.working()
  const key = { concurrencyKey: 'a', visibilityTimeout: '30s', timeout: '1h' } as const
  const { id: held } = await queue.submit('hang', null, key)
  const { id: next } = await queue.submit('work', null, key)
  const { id: second } = await queue.submit('hang', null, key)
  await queue.wait(next) // another type has places of its own
  const other = hire('other')
  await other.working()
  const starts = () => readJournal(join(folder, 'other')).filter(([word]) => word === 'start')
  assert.deepEqual(starts(), [])
  const at = now()
  await first.kill()
  await until('both start', 20, () => starts().length === 2)
  const ids = starts().map(([, id]) => Number(id))
  const took = Number(starts()[1]![3]) / 1e6 - at
  t.diagnostic(`${took.toFixed(0)} ms`)
  assert.deepEqual([ids, took < 15_000], [[held, second], true], `${took} ms: its lease lasts 30 s`)
  await queue.close()
})
