import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { setTimeout as pause } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { Journal, nanoseconds, readJournal } from './journal.ts'
import { type Child, drained, folderFor, fromEnvironment, start, until } from './processes.ts'
import { randomFrom } from './random.ts'
import type { SubmitConfig } from './submit.child.ts'
import type { WorkConfig } from './work.child.ts'

const rounds = fromEnvironment('CRASH_ROUNDS', 15)
const seed = fromEnvironment('CRASH_SEED', Date.now() % 1_000_000)
const check = fileURLToPath(new URL('check.ts', import.meta.url))

/** A process of the run, and what takes its place when it was killed. */
interface Member {
  log: string
  child: Child
  next(): Member
}

/** Makes submitters and workers on one file, each with a log of its own. */
function crewOn(t: TestContext, folder: string, work: Pick<WorkConfig, 'concurrency' | 'longest' | 'slowEvery'>) {
  const file = join(folder, 'jobs.db')
  let count = 0
  const nextLog = (kind: string) => `${kind}-${String(++count).padStart(5, '0')}.log`
  const submitter = (before?: string): Member => {
    const log = nextLog('submit')
    const words = before ? readJournal(join(folder, before)) : []
    const answered = new Set(words.filter(([word]) => word === 'done').map(([, key]) => key))
    const again = words.flatMap(([word, key]) => (word === 'try' && !answered.has(key) ? [key!] : []))
    const config: SubmitConfig = { file, log: join(folder, log), seed: seed + count, flaky: true, again }
    return { log, child: start(t, 'submit.child.ts', config), next: () => submitter(log) }
  }
  const worker = (): Member => {
    const log = nextLog('work')
    const config: WorkConfig = { file, log: join(folder, log), ...work }
    return { log, child: start(t, 'work.child.ts', config), next: worker }
  }
  return { submitter, worker }
}

/** Rounds of kills of some of the members, then the end of all work, then the verdict. */
async function killRounds(
  t: TestContext,
  folder: string,
  [submitters, workers]: [Member[], Member[]],
  mode: 'one-worker' | 'many-workers',
): Promise<void> {
  t.diagnostic(`CRASH_SEED=${seed}`)
  const kills = new Journal(join(folder, 'kills.log'))
  const random = randomFrom(seed)
  const kill = async ({ log, child }: Member) => {
    kills.write('kill', log, nanoseconds())
    await child.kill()
    assert.equal(await child.ended, 'SIGKILL', child.complaints)
    assert.equal(child.complaints, '')
  }
  for (let round = 0; round < rounds; round++) {
    await pause(random() * 1000) // a random moment: while they start, migrate, recover, or are in full swing
    const all = [...submitters, ...workers]
    const dead = all.filter(() => random() < 0.5)
    if (dead.length === 0) dead.push(all[Math.floor(random() * all.length)]!)
    await Promise.all(dead.map(kill))
    for (const crew of [submitters, workers])
      for (const [i, member] of crew.entries()) if (dead.includes(member)) crew[i] = member.next()
  }
  // On a busy machine the rounds may be over before a process has begun: the verdict needs something to be said of.
  const acknowledged = () =>
    readdirSync(folder)
      .filter((name) => name.startsWith('submit-'))
      .flatMap((name) => readJournal(join(folder, name)))
      .filter(([word]) => word === 'ack').length
  await until('enough was submitted', 120, () => acknowledged() > 2 * rounds)
  for (const { child } of submitters) await child.stop()
  await drained(join(folder, 'jobs.db'), 60 + rounds)
  for (const { child } of workers) await child.stop()
  kills.close()

  const { stdout, stderr } = spawnSync(process.execPath, [check, folder, mode], { encoding: 'utf8' })
  t.diagnostic(stdout.trim())
  assert.equal(stderr, '')
  const report = JSON.parse(stdout) as { acknowledged: number; broken: object }
  assert.deepEqual(report.broken, {})
  assert.ok(report.acknowledged > rounds, 'hardly anything was submitted')
}

test(`${rounds} rounds of SIGKILL lose nothing, run nothing unrecorded and keep the order`, async (t) => {
  const folder = folderFor(t)
  const { submitter, worker } = crewOn(t, folder, { concurrency: 1, longest: 5, slowEvery: 20 })
  await killRounds(t, folder, [[submitter()], [worker()]], 'one-worker')
})

test(`${rounds} rounds of SIGKILL among two submitting and three working processes: those that live take over`, async (t) => {
  const folder = folderFor(t)
  const { submitter, worker } = crewOn(t, folder, { concurrency: 4, longest: 20, slowEvery: 3 })
  await killRounds(
    t,
    folder,
    [
      [submitter(), submitter()],
      [worker(), worker(), worker()],
    ],
    'many-workers',
  )
})
