import assert from 'node:assert/strict'
import { test } from 'node:test'
import { jobSpec } from '../../src/model/job.ts'
import { Engine } from '../../src/store/sqlite/commit.ts'
import type { Input, Operation, Output } from '../../src/store/store.ts'
import { VirtualClock } from '../../src/testing/clock.ts'
import { rowsOf } from '../support/filled.ts'
import { temporaryFolder } from '../support/folder.ts'

// Names that clients choose have bounds, and a name that is no longer needed makes room for another.

type Said = { value: unknown } | { error: { code: string; accepted: string } }

function on(engine: Engine) {
  const say = <K extends Operation>(operation: K, input: Input<K>, who?: string): Said =>
    engine.execute([{ seq: 1, operation, input, ...(who !== undefined && { who }) }])[0] as Said
  const told = (said: Said) => ('error' in said ? `${said.error.code} ${said.error.accepted}` : 'yes')
  return {
    say,
    read: <K extends Operation>(operation: K, input: Input<K>) => (say(operation, input) as { value: Output<K> }).value,
    /** Whether jobs of these queues and types are taken, in one bulk. */
    takes: (lines: [queue: string, type: string][], who?: string) => {
      const specs = lines.map(([queue, type]) => jobSpec(type, { queue }))
      return told(say('submit', { specs, payloads: specs.map(() => '1'), keys: null }, who))
    },
    sets: (queue: string, who?: string) => told(say('setQueue', { queue, maxDepth: 9 }, who)),
    schedules: (queue: string) =>
      told(
        say('setSchedule', {
          ...{ name: queue, cron: '0 3 * * *', timezone: 'UTC', payload: '1', missed: 'skip', overlap: 'allow' },
          spec: jobSpec('work', { queue }),
        }),
      ),
  }
}

const many = (from: number, to: number) =>
  Array.from({ length: to - from }, (_, i): [string, string] => [`q${from + i}`, 'work'])

test('a file takes 50,000 names of queues, by whatever way they come, and a forgotten one makes room', () => {
  using folder = temporaryFolder()
  const clock = new VirtualClock()
  const engine = new Engine(folder.file('jobs.db'), clock)
  const at = on(engine)
  for (let from = 0; from < 50_000; from += 10_000)
    assert.equal(at.takes(many(from, Math.min(49_999, from + 10_000))), 'yes')
  const full = 'TOO_MANY_QUEUES no'
  assert.equal(at.takes([['new', 'work'], ['newer', 'work']]), full) // biome-ignore format: short
  assert.equal(at.takes([['new', 'work'], ['new', 'other']]), 'yes') // biome-ignore format: short
  assert.deepEqual([at.takes([['newer', 'work']]), at.sets('newer'), at.schedules('newer')], [full, full, full])
  assert.deepEqual([at.takes([['q7', 'work']]), at.sets('q7'), at.schedules('q7')], ['yes', 'yes', 'yes'])
  assert.equal(rowsOf(folder.file('jobs.db'), 'SELECT count(*) AS n FROM gq_queues')[0]!.n, 50_000)

  const { jobs } = at.read('jobs', { queue: 'q8' })
  at.say('cancel', jobs[0]!.id)
  at.say('remove', jobs[0]!.id)
  assert.deepEqual([at.takes([['newer', 'work']]), at.takes([['newest', 'work']])], ['yes', full])

  const { queues, others, waiting } = at.read('stats', null)
  assert.deepEqual([queues.length, others.queues, others.lines], [1000, 49_000, false])
  assert.equal(queues.find(({ queue }) => queue === 'new')?.counts.ready, 2) // the largest are among them
  const ready = queues.reduce((sum, { counts }) => sum + counts.ready, others.counts.ready)
  const submitted = queues.reduce((sum, { totals }) => sum + totals.submitted, others.totals.submitted)
  assert.deepEqual([ready, submitted, waiting.length], [50_002, 50_003, 1001])
  const names: string[] = []
  for (let after: string | null = ''; after !== null; ) {
    const page: Output<'queues'> = at.read('queues', { after })
    names.push(...page.queues.map(({ queue }) => queue))
    after = page.next
  }
  assert.deepEqual([names.length, names], [50_000, [...new Set(names)].sort()])
  engine.close()
})

test('a bulk that is refused for its names leaves none of them', () => {
  using folder = temporaryFolder()
  const engine = new Engine(folder.file('jobs.db'), new VirtualClock())
  const at = on(engine)
  for (let from = 0; from < 40_000; from += 10_000) assert.equal(at.takes(many(from, from + 10_000)), 'yes')
  assert.equal(at.takes(many(40_000, 49_995)), 'yes')
  const half = many(60_000, 60_010)
  const says = engine.execute([
    { seq: 1, operation: 'submit', input: bulk(half), who: 'token:a' },
    { seq: 2, operation: 'submit', input: bulk(half.slice(0, 5)), who: 'token:a' },
    { seq: 3, operation: 'submit', input: bulk(half.slice(5, 6)), who: 'token:a' },
  ])
  assert.deepEqual(says.map((reply) => ('error' in reply ? reply.error.code : 'yes')), ['TOO_MANY_QUEUES', 'yes', 'TOO_MANY_QUEUES']) // biome-ignore format: long
  const made = rowsOf(folder.file('jobs.db'), `SELECT answer FROM gq_requests WHERE request = 'queues token:a'`)
  assert.equal(made[0]!.answer, '5')
  engine.close()
})

const bulk = (lines: [string, string][]): Input<'submit'> => {
  const specs = lines.map(([queue, type]) => jobSpec(type, { queue }))
  return { specs, payloads: specs.map(() => '1'), keys: null }
}

test('one client on the network makes 1,000 queues an hour, and keeps no other from making its own', () => {
  using folder = temporaryFolder()
  const clock = new VirtualClock()
  let engine = new Engine(folder.file('jobs.db'), clock)
  let at = on(engine)
  assert.equal(at.takes(many(0, 999), 'token:a'), 'yes')
  assert.equal(at.sets('q999', 'token:a'), 'yes')
  const full = 'TOO_MANY_QUEUES no'
  assert.deepEqual([at.takes([['new', 'work']], 'token:a'), at.sets('new', 'token:a')], [full, full])
  assert.deepEqual([at.takes([['q5', 'work']], 'token:a'), at.takes([['b', 'work']], 'token:b')], ['yes', 'yes'])
  engine.close()
  engine = new Engine(folder.file('jobs.db'), clock) // a restart is no way around it
  at = on(engine)
  assert.equal(at.takes([['new', 'work']], 'token:a'), full)
  clock.advance(3_600_000)
  assert.deepEqual([at.takes([['new', 'work']], 'token:a'), at.takes(many(2000, 2999), 'token:a')], ['yes', 'yes'])
  assert.equal(at.takes([['newer', 'work']], 'token:a'), full)
  engine.close()
})

test('a queue takes 10,000 names of types, and they go with it', () => {
  using folder = temporaryFolder()
  const file = folder.file('jobs.db')
  const clock = new VirtualClock()
  const engine = new Engine(file, clock, { tends: true })
  const at = on(engine)
  const types = Array.from({ length: 10_000 }, (_, i): [string, string] => ['q', `t${i}`])
  assert.equal(at.takes(types), 'yes')
  const full = 'TOO_MANY_TYPES no'
  assert.deepEqual(
    [at.takes([['q', 'new']]), at.takes([['q', 't3']]), at.takes([['other', 'new']])],
    [full, 'yes', 'yes'],
  )
  for (const event of ['cancel', 'remove'] as const)
    for (let next: number | null = null, more = true; more; ) {
      const page: Output<'many'> = at.read('many', { event, filter: { queue: 'q', limit: 1000, ...(next !== null && { cursor: next }) } }) // biome-ignore format: long
      next = page.next
      more = next !== null
    }
  assert.deepEqual(at.read('stats', null).queues.map(({ queue }) => queue), ['other']) // biome-ignore format: short
  at.say('cancel', at.read('jobs', { queue: 'other' }).jobs[0]!.id)
  for (let i = 0; i < 210; i++) {
    at.takes([['other', 'new']])
    const [job] = at.read('jobs', { queue: 'other', state: 'ready' }).jobs
    at.say('cancel', job!.id)
    clock.advance(8 * 86_400_000) // retention has something to do, and looks at some types beside
    engine.tick()
  }
  assert.equal(rowsOf(file, `SELECT count(*) AS n FROM gq_types WHERE queue = 'q'`)[0]!.n, 0)
  engine.close()
})

test('of two processes one forgets a queue and the other goes on with it: its job runs, and counters agree', () => {
  using folder = temporaryFolder()
  const clock = new VirtualClock()
  const [a, b] = [0, 1].map(() => new Engine(folder.file('jobs.db'), clock))
  const [one, other] = [on(a!), on(b!)]
  const lines: [string, string][] = [['q', 'work']]
  const worker = other.read('register', { name: 'w', slots: 2, sources: [{ queue: 'q', type: 'work' }] })
  const ask = { worker, slots: 2, exclude: [], sources: [{ queue: 'q', type: 'work' }] }
  for (let i = 0; i < 3; i++) {
    assert.equal(other.takes(lines), 'yes') // it has the queue and its type in memory now
    const [leased] = other.read('lease', ask)
    other.say('succeed', { lease: leased!, result: '1' })
    one.say('remove', leased!.id)
    assert.deepEqual(one.read('stats', null).queues, [])
    assert.equal(b!.execute([{ seq: 9, operation: 'lease', input: ask }]).length, 0) // it waits
    assert.equal(one.takes(lines), 'yes')
    const [given] = b!.tick() as { value: { id: number; queue: string; type: string; token: number }[] }[]
    assert.equal(given!.value[0]!.queue, 'q')
    other.say('succeed', { lease: given!.value[0]!, result: '1' })
    other.say('remove', given!.value[0]!.id)
    assert.deepEqual(other.read('stats', null).queues, [])
  }
  for (const engine of [a!, b!]) engine.close()
})
