import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { GopherQueue } from '../../src/index.ts'
import { lookInto } from './processes.ts'

// The judge of the other tests must be able to find fault: each case spoils a good run in one way.

const program = fileURLToPath(new URL('check.ts', import.meta.url))

/** A run without fault: four jobs, the second of which needed two attempts. */
async function goodRun(folder: string): Promise<void> {
  const queue = await GopherQueue.open(join(folder, 'jobs.db'))
  const starts: string[] = []
  queue.define('work', {}, ({ id, attempt }) => {
    const at = 1000 * (starts.length + 1)
    starts.push(`start ${id} ${attempt} ${at}`, `end ${id} ${attempt} ${at + 1}`)
    if (id === 2 && attempt === 1) throw new Error('once')
  })
  await queue.submitMany(
    'work',
    [
      { batch: 'b', size: 3 },
      { batch: 'b', size: 3 },
      { batch: 'b', size: 3 },
    ],
    {
      backoff: { kind: 'constant', delay: 0 },
    },
  )
  const { id: last } = await queue.submit('work', {}, { idempotencyKey: 'k' })
  queue.work({ concurrency: 1 })
  await queue.wait(last)
  await queue.wait(2)
  await queue.close()
  writeFileSync(join(folder, 'submit-1.log'), [1, 2, 3, last].map((id) => `ack ${id} work normal 1 2\n`).join(''))
  writeFileSync(join(folder, 'work-2.log'), `${starts.join('\n')}\n`)
}

/** The promises that the check finds broken. */
function verdict(folder: string): string[] {
  const { stdout, stderr, status } = spawnSync(process.execPath, [program, folder, 'one-worker'], { encoding: 'utf8' })
  assert.equal(stderr, '')
  const { broken } = JSON.parse(stdout) as { broken: object }
  assert.equal(status, Object.keys(broken).length > 0 ? 1 : 0)
  return Object.keys(broken)
}

const inFile = (sql: string) => (folder: string) => {
  const db = lookInto(join(folder, 'jobs.db'))
  db.exec(`PRAGMA ignore_check_constraints = ON; ${sql}`) // the file itself would refuse some of it
  db.close()
}
const inLog = (name: string, change: (text: string) => string) => (folder: string) =>
  writeFileSync(join(folder, name), change(readFileSync(join(folder, name), 'utf8')))

const faults: [promise: string, spoil: (folder: string) => void][] = [
  ['no acknowledged job is lost', inFile(`DELETE FROM gq_jobs WHERE id = 3`)],
  ['a bulk is all or nothing', inFile(`DELETE FROM gq_jobs WHERE id = 3`)],
  ['no acknowledged job is lost', inLog('submit-1.log', (text) => `${text}done lost-key\n`)],
  ['a job is what was submitted', inFile(`UPDATE gq_jobs SET priority = 1 WHERE id = 3`)],
  ['every job ended succeeded', inFile(`UPDATE gq_jobs SET state = 'cancelled' WHERE id = 3`)],
  ['counters agree with the jobs', inFile(`UPDATE gq_queues SET ready = 1`)],
  ['every attempt is in the history', inFile(`DELETE FROM gq_attempts`)],
  ['no run without its attempt', inFile(`UPDATE gq_jobs SET attempt = 1 WHERE id = 2`)],
  ['a success was a run', inLog('work-2.log', (text) => text.replaceAll(/^(start|end) 3 .*\n/gm, ''))],
  ['an attempt runs at most once', inLog('work-2.log', (text) => `${text}start 2 1 9000\nend 2 1 9001\n`)],
  ['no job runs twice at once', inLog('work-2.log', (text) => text.replace(/^end 2 1 .*$/m, 'end 2 1 999999'))],
  ['only stored jobs run', inLog('work-2.log', (text) => `${text}start 777 1 9000\n`)],
  ['first starts are in order', inLog('work-2.log', (text) => `start 4 1 1\nend 4 1 2\n${text}`)],
  ['first leases are in order', inFile(`UPDATE gq_jobs SET lease_seq = lease_seq + 100 WHERE id = 1`)],
  ['first leases are in order', inFile(`UPDATE gq_jobs SET priority = 0 WHERE id = 3`)],
  ['an id is given once', inLog('submit-1.log', (text) => `${text}ack 3 work normal 1 2\n`)],
  ['no error at any caller', inLog('submit-1.log', (text) => `${text}error submitter database is locked\n`)],
]

test('the check of a crash run finds no fault in a good one, and every fault in a spoiled one', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'gopherqueue-check-'))
  t.after(() => rmSync(folder, { recursive: true }))
  await goodRun(folder)
  assert.deepEqual(verdict(folder), [])
  const names = ['jobs.db', 'submit-1.log', 'work-2.log']
  const good = names.map((name) => readFileSync(join(folder, name)))
  for (const [promise, spoil] of faults)
    await t.test(promise, () => {
      for (const [i, name] of names.entries()) writeFileSync(join(folder, name), good[i]!)
      spoil(folder)
      assert.ok(verdict(folder).includes(promise), String(verdict(folder)))
    })
})
