import assert from 'node:assert/strict'
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { GopherQueue } from '../../src/index.ts'
import type { ChaosPayload } from './chaos.child.ts'
import { judge } from './chaos.judge.ts'
import { folderFor, lookInto } from './processes.ts'

// The judge of the chaos run finds no fault in a good run, and each fault in a spoiled one.

const began = 1_700_000_000_000

/** A process's log: words with ms since the run began, and a beat each 50 ms from its start to its last line. */
function log(from: number, worker: string, lines: [at: number, words: string][], last: number): string {
  const beats = Array.from({ length: (last - from) / 50 }, (_, i): [number, string] => [from + 50 * (i + 1), 'beat'])
  const all = [...beats, ...lines].sort(([a], [b]) => a - b)
  const text = all.map(([at, words]) => `${words} ${at * 1_000_000}\n`).join('')
  return `up ${from * 1_000_000} ${began + from}\nworker ${worker}\n${text}`
}

/** Job 1 is beside the poison, job 2, when that kills process A; then the poison kills B, C and D alone. E was stopped with job 3. */
async function goodRun(folder: string): Promise<void> {
  const queue = await GopherQueue.open(join(folder, 'jobs.db'))
  const payload = (poison: boolean): ChaosPayload => ({ ms: 10, poison })
  await queue.submitMany('chaos', [payload(false), payload(true), payload(false)])
  await queue.close()
  const db = lookInto(join(folder, 'jobs.db'))
  const succeeded = `state = 'succeeded', result = 'null', finished_at = ${began + 9000}`
  db.exec(`
    UPDATE gq_jobs SET attempt = 2, budget_from = 1, ${succeeded} WHERE id = 1;
    UPDATE gq_jobs SET attempt = 4, budget_from = 1, state = 'dead', reason = 'exhausted', finished_at = ${began + 9000} WHERE id = 2;
    UPDATE gq_jobs SET attempt = 2, budget_from = 0, ${succeeded} WHERE id = 3`)
  for (const [id, job, attempt, worker, from, to] of [
    ...[
      [1, 1, 1, 'A', 1000, 2200],
      [1, 2, 1, 'A', 1000, 2200],
      [2, 2, 2, 'B', 3000, 3200],
    ],
    ...[
      [3, 2, 3, 'C', 4000, 4200],
      [4, 2, 4, 'D', 5000, 5200],
      [5, 3, 1, 'E', 1000, 7000],
    ],
  ] as [number, number, number, string, number, number][]) {
    // biome-ignore format: a table
    db.exec(`INSERT OR IGNORE INTO gq_losses VALUES (${id}, '${worker}', ${began + to}, 1, '[]')`)
    db.exec(
      `INSERT INTO gq_attempts (job_id, attempt, worker, started_at, finished_at, outcome, loss_id)
       VALUES (${job}, ${attempt}, '${worker}', ${began + from}, ${began + to}, 'lost', ${id})`,
    )
  }
  db.exec('PRAGMA wal_checkpoint(TRUNCATE)')
  db.close()
  const write = (name: string, text: string) => writeFileSync(join(folder, name), text)
  write('kills.log', 'stop work-5.log 1500000000\ncont work-5.log 8000000000\n')
  write('submit-1.log', 'up 1 1\nack 1 innocent\nack 2 poison\nack 3 innocent\n')
  write('work-1.log', log(0, 'A', [[1001, 'start 1 1'], [1002, 'start 2 1']], 2000)) // biome-ignore format: short
  write('work-2.log', log(0, 'B', [[2500, 'start 1 2'], [2600, 'end 1 2'], [3001, 'start 2 2']], 3100)) // biome-ignore format: short
  write('work-3.log', log(0, 'C', [[4001, 'start 2 3']], 4100))
  write('work-4.log', log(0, 'D', [[5001, 'start 2 4']], 5100))
  const stopped = log(0, 'E', [[1001, 'start 3 1']], 1500)
  write('work-5.log', `${stopped}${log(8000, 'E', [[8100, 'lost 3 1'], [8500, 'end 3 1']], 9000)}`) // biome-ignore format: short
  write('work-7.log', log(8500, 'A', [], 9000)) // the system gave A's process id again
  write('work-6.log', log(6000, 'F', [[7001, 'start 3 2'], [7100, 'end 3 2']], 9000)) // biome-ignore format: short
}

const inFile = (sql: string) => (folder: string) => {
  const db = lookInto(join(folder, 'jobs.db'))
  db.exec(sql)
  db.exec('PRAGMA wal_checkpoint(TRUNCATE)')
  db.close()
}
const inLog = (name: string, change: (text: string) => string) => (folder: string) =>
  writeFileSync(join(folder, name), change(readFileSync(join(folder, name), 'utf8')))

/** Process A, or E, was there all the time. */
const alive = (name: string, worker: string, lines: [number, string][]) =>
  inLog(name, () => log(0, worker, lines, 9000))
const aLives = alive('work-1.log', 'A', [[1001, 'start 1 1'], [1002, 'start 2 1']]) // biome-ignore format: short
const eLives = alive('work-5.log', 'E', [[1001, 'start 3 1'], [7050, 'lost 3 1'], [8500, 'end 3 1']]) // biome-ignore format: short

const faults: [promise: string, spoil: (folder: string) => void][] = [
  ['no acknowledged job is lost', inFile(`DELETE FROM gq_jobs WHERE id = 3`)],
  ['every job ends', inFile(`INSERT INTO gq_jobs (type, payload) VALUES ('chaos', '{"ms":1,"poison":false}')`)],
  ['a job is what was submitted', inLog('submit-1.log', (text) => text.replace('1 innocent', '1 poison'))],
  ['a job that kills its process does not succeed', inFile(`UPDATE gq_jobs SET payload = '{"poison":true}' WHERE id = 1`)],
  ['a charged loss is of a job that ran alone', inFile(`UPDATE gq_jobs SET budget_from = 0 WHERE id = 1`)],
  ['a charged loss is of a job that ran alone', inFile(`UPDATE gq_jobs SET budget_from = 0 WHERE id = 2`)],
  ['no innocent dies', inFile(`UPDATE gq_jobs SET state = 'dead', result = NULL, reason = 'exhausted' WHERE id = 1`)],
  ['a loss is recorded as one', inFile(`UPDATE gq_attempts SET outcome = 'timeout' WHERE job_id = 3`)],
  ['each loss names its evidence', inFile(`UPDATE gq_attempts SET loss_id = NULL WHERE job_id = 3`)],
  ['an attempt runs at most once', inLog('work-6.log', (text) => text.replace('start 3 2', 'start 3 1'))],
  ['attempts whose leases live do not overlap', aLives],
  ['attempts whose leases live do not overlap', eLives],
  ['a lease is taken from the dead and the silent only', aLives],
  ['a lease is taken from the dead and the silent only', eLives],
  [
    'no attempt starts beside a handler of its job in the same process',
    inLog('work-5.log', (text) => text.replace(/^end 3 1 .*$/m, 'start 3 3 8500000000')),
  ],
] // biome-ignore format: a table

test('the judge of a chaos run finds no fault in a good run, and each fault in a spoiled one', async (t) => {
  const good = folderFor(t)
  await goodRun(good)
  const names = ['jobs.db', 'kills.log', 'submit-1.log', ...[1, 2, 3, 4, 5, 6].map((n) => `work-${n}.log`)]
  const { broken, ...figures } = judge(good)
  assert.deepEqual(broken, {})
  const counts = { acknowledged: 3, runs: 8, kills: 0, stops: 1, losses: 6 }
  assert.deepEqual(figures, { ...counts, charged: 4, poisonDead: 1, convictedByChance: 0 })
  const copied = () => {
    const folder = folderFor(t)
    for (const name of names) copyFileSync(join(good, name), join(folder, name))
    return folder
  }
  for (const [promise, spoil] of faults) {
    const folder = copied()
    spoil(folder)
    const found = judge(folder).broken
    assert.ok(promise in found, `${promise}: ${JSON.stringify(found)}`)
  }
  // E is stopped at 1500 ms, and its job starts elsewhere 2 s later: too soon, unless it could not renew before it was stopped.
  const folder = copied()
  inLog('work-5.log', (text) => text.replace('start 3 1 1001', 'start 3 1 200'))(folder)
  inLog('work-6.log', (text) => text.replace('start 3 2 7001', 'start 3 2 3500'))(folder)
  assert.deepEqual(Object.keys(judge(folder).broken), ['attempts whose leases live do not overlap'])
  inLog('kills.log', (text) => `locked 100000000 1400000000\n${text}`)(folder)
  assert.deepEqual(judge(folder).broken, {})
})
