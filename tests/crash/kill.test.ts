import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as pause } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { Journal, nanoseconds, readJournal } from './journal.ts'
import { type Child, drained, folderFor, fromEnvironment, start } from './processes.ts'
import { randomFrom } from './random.ts'
import type { SubmitConfig } from './submit.child.ts'
import type { WorkConfig } from './work.child.ts'

const rounds = fromEnvironment('CRASH_ROUNDS', 15)
const seed = fromEnvironment('CRASH_SEED', Date.now() % 1_000_000)
const check = fileURLToPath(new URL('check.ts', import.meta.url))

test(`${rounds} rounds of SIGKILL lose nothing, run nothing unrecorded and keep the order`, async (t) => {
  t.diagnostic(`CRASH_SEED=${seed}`)
  const folder = folderFor(t)
  const file = join(folder, 'jobs.db')
  const kills = new Journal(join(folder, 'kills.log'))
  const random = randomFrom(seed)
  let count = 0
  const nextLog = (kind: string) => `${kind}-${String(++count).padStart(5, '0')}.log`

  const submitter = (before?: string) => {
    const log = nextLog('submit')
    const words = before ? readJournal(join(folder, before)) : []
    const answered = new Set(words.filter(([word]) => word === 'done').map(([, key]) => key))
    const again = words.flatMap(([word, key]) => (word === 'try' && !answered.has(key) ? [key!] : []))
    const config: SubmitConfig = { file, log: join(folder, log), seed: seed + count, flaky: true, again }
    return { log, child: start(t, 'submit.child.ts', config) }
  }
  const worker = () => {
    const log = nextLog('work')
    const config: WorkConfig = { file, log: join(folder, log), concurrency: 1, longest: 5, slowEvery: 20 }
    return { log, child: start(t, 'work.child.ts', config) }
  }
  const kill = async ({ log, child }: { log: string; child: Child }) => {
    kills.write('kill', log, nanoseconds())
    await child.kill()
    assert.equal(await child.ended, 'SIGKILL', child.complaints)
    assert.equal(child.complaints, '')
  }

  let submitting = submitter()
  let working = worker()
  for (let round = 0; round < rounds; round++) {
    await pause(random() * 1000) // a random moment: while they start, migrate, recover, or are in full swing
    const victim = random()
    const dead = [...(victim < 0.65 ? [working] : []), ...(victim > 0.35 ? [submitting] : [])]
    await Promise.all(dead.map(kill))
    if (dead.includes(submitting)) submitting = submitter(submitting.log)
    if (dead.includes(working)) working = worker()
  }
  await submitting.child.stop()
  await drained(file, 60 + rounds)
  await working.child.stop()
  kills.close()

  const { stdout, stderr } = spawnSync(process.execPath, [check, folder, 'one-worker'], { encoding: 'utf8' })
  t.diagnostic(stdout.trim())
  assert.equal(stderr, '')
  const report = JSON.parse(stdout) as { acknowledged: number; broken: object }
  assert.deepEqual(report.broken, {})
  assert.ok(report.acknowledged > rounds, 'hardly anything was submitted')
})
