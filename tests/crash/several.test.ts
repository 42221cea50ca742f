import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as pause } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { drained, folderFor, fromEnvironment, lookInto, start } from './processes.ts'
import type { SubmitConfig } from './submit.child.ts'
import type { WorkConfig } from './work.child.ts'

const seconds = fromEnvironment('CRASH_SECONDS', 6)
const seed = fromEnvironment('CRASH_SEED', Date.now() % 1_000_000)
const check = fileURLToPath(new URL('check.ts', import.meta.url))

test(`two processes submit and three work on one file for ${seconds} s: no error, each job runs exactly once`, async (t) => {
  t.diagnostic(`CRASH_SEED=${seed}`)
  const folder = folderFor(t)
  const file = join(folder, 'jobs.db')
  const submitters = [1, 2].map((n) => {
    const config: SubmitConfig = { file, log: join(folder, `submit-${n}.log`), seed: seed + n }
    return start(t, 'submit.child.ts', config)
  })
  const workers = [1, 2, 3].map((n) => {
    const config: WorkConfig = { file, log: join(folder, `work-${n}.log`), concurrency: 4, longest: 3 }
    return start(t, 'work.child.ts', config)
  })
  await pause(seconds * 1000)
  for (const submitter of submitters) await submitter.stop()
  await drained(file, 60)
  for (const worker of workers) await worker.stop()

  const { stdout, stderr } = spawnSync(process.execPath, [check, folder], { encoding: 'utf8' })
  t.diagnostic(stdout.trim())
  assert.equal(stderr, '')
  const report = JSON.parse(stdout) as { acknowledged: number; stored: number; runs: number; broken: object }
  assert.deepEqual(report.broken, {})
  assert.ok(report.acknowledged > 100, 'hardly anything was submitted')
  assert.equal(report.acknowledged, report.stored)
  assert.equal(report.runs, report.stored)
  const db = lookInto(file)
  const once = db.prepare(`SELECT COUNT(*) AS n FROM gq_jobs WHERE state = 'succeeded' AND attempt = 1`).get()!
  assert.equal(once.n, report.stored)
  assert.equal(db.prepare(`SELECT COUNT(*) AS n FROM gq_attempts`).get()!.n, 0)
  const perWorker = db.prepare(`SELECT worker_id AS worker, COUNT(*) AS jobs FROM gq_jobs GROUP BY 1`).all()
  t.diagnostic(`jobs by worker: ${perWorker.map(({ worker, jobs }) => `${worker}: ${jobs}`).join(', ')}`)
  assert.equal(perWorker.length, 3, 'a worker got nothing')
  db.close()
})
