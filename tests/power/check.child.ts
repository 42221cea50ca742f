import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { setTimeout } from 'node:timers/promises'
import type { GopherQueue as Queue } from '../../src/index.ts'
import { states } from '../../src/model/lifecycle.ts'

// Judges what a power cut left. The library must open the file without an error; then plain SQL on the public tables
// looks for every fact that was acknowledged before the cut. One process judges all states, because to start one for
// each costs more than the judgement: it is asked through one pipe and answers through another.

export interface CheckConfig {
  ask: string
  answer: string
  /** URL of the library. */
  library: string
}

interface Row {
  id: number
  queue: string
  type: string
  state: string
  payload: string
  attempt: number
  budget_from: number
  result: string | null
  reason: string | null
  idempotency_key: string | null
}

const { ask, answer, library } = JSON.parse(process.argv[2]!) as CheckConfig
const { GopherQueue } = (await import(library)) as typeof import('../../src/index.ts')

for (;;) {
  const [state, acked] = readFileSync(ask, 'utf8').split('\n') as [string, string]
  let verdict = 'good'
  try {
    const facts = readFileSync(acked, 'utf8').split('\n')
    facts.pop()
    await check(join(state, 'jobs.db'), facts)
    console.log(facts.length)
  } catch (error) {
    verdict = String(error)
  }
  writeFileSync(answer, verdict)
}

async function check(file: string, facts: string[]): Promise<void> {
  const queue = await GopherQueue.open(file, { diskReserve: 0 })
  try {
    const db = new DatabaseSync(file)
    try {
      await reaped(queue, db)
      const jobs = jobsOf(db)
      sound(db, jobs)
      for (const fact of facts.map((text) => text.split(' '))) if (fact[0] === 'paused') paused(db, fact[1]!)
      acknowledged(db, jobs, facts)
    } finally {
      db.close()
    }
    const { id } = await queue.submit('after', null)
    const given = facts.map((fact) => Number(fact.split(' ')[1])).filter((id) => id > 0)
    for (const earlier of given) assert.ok(id > earlier, `id ${id} is given after ${earlier} was`)
  } finally {
    await queue.close()
  }
}

/** On a busy machine an opening leaves the last jobs of dead processes to the reaper, which runs where a worker is. */
async function reaped(queue: Queue, db: DatabaseSync): Promise<void> {
  const running = db.prepare(`SELECT COUNT(*) AS jobs FROM gq_jobs WHERE state = 'running'`)
  if (running.get()!.jobs === 0) return
  queue.define('of nobody', {}, () => undefined)
  const worker = queue.work()
  for (let look = 0; look < 1000 && running.get()!.jobs !== 0; look++) await setTimeout(20)
  await worker.stop()
}

function jobsOf(db: DatabaseSync): Map<number, Row> {
  const rows = db
    .prepare(
      `SELECT id, queue, type, state, payload, attempt, budget_from, result, reason, idempotency_key FROM gq_jobs`,
    )
    .all() as unknown as Row[]
  return new Map(rows.map((row) => [row.id, row]))
}

/** What must hold of any file, whatever was acknowledged. */
function sound(db: DatabaseSync, jobs: Map<number, Row>): void {
  for (const { integrity_check } of db.prepare('PRAGMA integrity_check').all()) assert.equal(integrity_check, 'ok')
  assert.deepEqual(db.prepare('PRAGMA foreign_key_check').all(), [])

  const counted = new Map<string, Record<string, number>>()
  const bulks = new Map<string, { size: number; found: number }>()
  for (const { queue, state, payload, id } of jobs.values()) {
    assert.notEqual(state, 'running', `job ${id} runs, though its process is gone`)
    const counts = counted.get(queue) ?? Object.fromEntries(states.map((name) => [name, 0]))
    counted.set(queue, { ...counts, [state]: counts[state]! + 1 })
    const { bulk, size } = JSON.parse(payload) as { bulk?: string; size: number }
    if (bulk) bulks.set(bulk, { size, found: (bulks.get(bulk)?.found ?? 0) + 1 })
  }
  for (const [bulk, { size, found }] of bulks) assert.equal(found, size, `bulk ${bulk} is there in part`)
  const rows = db.prepare(`SELECT name, ${states.join(', ')} FROM gq_queues`).all()
  for (const { name, ...counters } of rows) {
    const counts = counted.get(String(name)) ?? Object.fromEntries(states.map((state) => [state, 0]))
    assert.deepEqual({ ...counters }, counts, `counters of queue ${name}`)
    counted.delete(String(name))
  }
  assert.deepEqual([...counted.keys()], [], 'queues without counters')

  const recorded = new Map<number, number[]>()
  for (const { job_id, attempt } of db.prepare(`SELECT job_id, attempt FROM gq_attempts ORDER BY attempt`).all())
    recorded.set(Number(job_id), [...(recorded.get(Number(job_id)) ?? []), Number(attempt)])
  for (const { id, state, attempt } of jobs.values()) {
    const due = Array.from({ length: state === 'succeeded' ? attempt - 1 : attempt }, (_, i) => i + 1)
    assert.deepEqual(recorded.get(id) ?? [], due, `history of job ${id}, ${state} after attempt ${attempt}`)
  }
}

function paused(db: DatabaseSync, queue: string): void {
  assert.equal(db.prepare(`SELECT paused FROM gq_queues WHERE name = ?`).get(queue)?.paused, 1, `${queue} is paused`)
}

function acknowledged(db: DatabaseSync, jobs: Map<number, Row>, facts: string[]): void {
  const recorded = new Map<string, unknown>()
  for (const { job_id, attempt, outcome } of db.prepare(`SELECT job_id, attempt, outcome FROM gq_attempts`).all())
    recorded.set(`${job_id} ${attempt}`, outcome)
  const keys = db.prepare(`SELECT job_id FROM gq_keys WHERE queue = ? AND type = ? AND key = ?`)
  const takenBack = new Set<string>() // 'releasing 7 1', 'retrying 7': whether it came to that is not known
  for (const fact of facts) if (/^re\w+ing /.test(fact)) takenBack.add(fact)

  for (const fact of facts) {
    const [word, name, ...rest] = fact.split(' ') as [string, string, ...string[]]
    if (word === 'paused' || word === 'releasing' || word === 'retrying') continue
    const job = jobs.get(Number(name))
    assert.ok(job, `${fact}: the job is lost`)
    const [first = '', second = '', key] = rest
    const attempt = Number(first)
    const wasRecorded = (outcome: string) =>
      assert.equal(recorded.get(`${job.id} ${attempt}`), outcome, `${fact}: no such record`)
    const isNow = (state: string) => assert.equal(job.state, state, fact)
    switch (word) {
      case 'submitted':
        assert.equal(job.type, first, fact)
        assert.equal((JSON.parse(job.payload) as { n: number }).n, Number(second), fact)
        if (key) assert.equal(keys.get(job.queue, job.type, key)?.job_id, job.id, `${fact}: its key`)
        break
      case 'started':
        if (!takenBack.has(`releasing ${job.id} ${attempt}`)) assert.ok(job.attempt >= attempt, `${fact}: not counted`)
        break
      case 'released':
        assert.ok(job.attempt >= attempt - 1, fact)
        break
      case 'succeeded':
        isNow('succeeded')
        assert.equal(job.attempt, attempt, fact)
        assert.equal(job.result, second, fact)
        break
      case 'failed':
        assert.ok(job.attempt >= attempt, fact)
        wasRecorded('failed')
        break
      case 'dead':
        wasRecorded('failed')
        if (takenBack.has(`retrying ${job.id}`)) break
        isNow('dead')
        assert.equal(job.reason, second, fact)
        break
      case 'retried':
        assert.ok(job.budget_from >= attempt, fact) // a loss that is not charged moves it on
        break
      case 'cancelled':
        isNow('cancelled')
        if (attempt > 0) wasRecorded('cancelled')
        break
      default:
        assert.fail(`unknown fact: ${fact}`)
    }
  }
}
