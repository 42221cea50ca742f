import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { readJournal } from './journal.ts'

// Judges a run from outside, when all its processes have ended: what they wrote down against the public tables, by
// plain SQL. Nothing of the engine is used. Every worker of the run must have handled every type.
//   node check.ts FOLDER [one-worker: it had one slot]
// The folder holds jobs.db, submit-*.log, work-*.log and kills.log. Prints a report as JSON; exit 1 when a promise was broken.

interface Row {
  id: number
  queue: string
  type: string
  priority: number
  state: string
  payload: string
  attempt: number
  ready_seq: number | null
  lease_seq: number | null
  idempotency_key: string | null
}

const [folder, mode] = process.argv.slice(2) as [string, string?]
const classes = ['critical', 'high', 'normal', 'low', 'bulk']
const broken: Record<string, string[]> = {}
const breach = (promise: string, what: string) => {
  broken[promise] ??= []
  broken[promise].push(what)
}

const logs = readdirSync(folder).sort()
const submitted = logs.filter((name) => name.startsWith('submit-')).flatMap((name) => readJournal(join(folder, name)))
const worked = logs
  .filter((name) => name.startsWith('work-'))
  .flatMap((name) => readJournal(join(folder, name)).map((words) => ({ name, words })))
const killedAt = new Map(readJournal(join(folder, 'kills.log')).map(([, name, at]) => [name!, BigInt(at!)]))

const db = new DatabaseSync(join(folder, 'jobs.db'), { timeout: 10_000 })
const rows = db
  .prepare(
    `SELECT id, queue, type, priority, state, payload, attempt, ready_seq, lease_seq, idempotency_key
     FROM gq_jobs ORDER BY id`,
  )
  .all() as unknown as Row[]
const jobs = new Map(rows.map((row) => [row.id, row]))

for (const words of [...submitted, ...worked.map((line) => line.words)])
  if (words[0] === 'error') breach('no error at any caller', words.join(' '))

// Acknowledged jobs are there, as they were submitted, and ended well.
const acknowledged = new Set<number>()
for (const [word, id, type, priority] of submitted) {
  if (word !== 'ack' && word !== 'known') continue
  const job = jobs.get(Number(id))
  if (word === 'ack' && acknowledged.has(Number(id))) breach('an id is given once', id!)
  acknowledged.add(Number(id))
  if (!job) breach('no acknowledged job is lost', id!)
  else if (job.type !== type || classes[job.priority] !== priority) breach('a job is what was submitted', id!)
}
for (const { id, state, lease_seq } of rows)
  if (state !== 'succeeded') breach('every job ended succeeded', `${id} is ${state}, first lease ${lease_seq}`)

// A bulk is there whole or not at all, a key has one job.
const batches = new Map<string, { size: number; found: number }>()
const keys = new Map<string, number>()
for (const { payload, idempotency_key: key } of rows) {
  const { batch, size } = JSON.parse(payload) as { batch?: string; size: number }
  if (batch) batches.set(batch, { size, found: (batches.get(batch)?.found ?? 0) + 1 })
  if (key !== null) keys.set(key, (keys.get(key) ?? 0) + 1)
}
for (const [batch, { size, found }] of batches)
  if (size !== found) breach('a bulk is all or nothing', `${batch}: ${found} of ${size}`)
for (const [key, found] of keys) if (found !== 1) breach('one job for a key', `${key}: ${found}`)
for (const [word, key] of submitted)
  if (word === 'done' && !keys.has(key!)) breach('no acknowledged job is lost', `key ${key}`)

// Each run of a handler is an attempt that was recorded first, each attempt runs at most once.
const starts = new Map<number, { attempt: number; from: bigint; to: bigint }[]>()
const open = new Map<string, { to: bigint }>()
for (const { name, words } of worked) {
  const [word, id, attempt, at] = words
  const run = `${name} ${id} ${attempt}`
  if (word === 'start') {
    const dead = killedAt.get(name)
    const entry = { attempt: Number(attempt), from: BigInt(at!), to: dead ?? BigInt(at!) }
    starts.set(Number(id), [...(starts.get(Number(id)) ?? []), entry])
    open.set(run, entry)
  } else if (word === 'end') {
    open.get(run)!.to = BigInt(at!)
    open.delete(run)
  }
}
let runs = 0
for (const [id, entries] of starts) {
  runs += entries.length
  const job = jobs.get(id)
  if (!job) {
    breach('only stored jobs run', `${id}`)
    continue
  }
  if (entries.length > job.attempt) breach('no run without its attempt', `${id}: ${entries.length} > ${job.attempt}`)
  if (new Set(entries.map((entry) => entry.attempt)).size < entries.length)
    breach('an attempt runs at most once', `${id}: ${entries.map((entry) => entry.attempt)}`)
  const inTime = entries.sort((a, b) => (a.from < b.from ? -1 : 1))
  for (const [i, entry] of inTime.entries())
    if (i > 0 && entry.from < inTime[i - 1]!.to) breach('no job runs twice at once', `${id} attempt ${entry.attempt}`)
}
for (const { id, state, attempt } of rows)
  if (state === 'succeeded' && !starts.get(id)?.some((entry) => entry.attempt === attempt))
    breach('a success was a run', `${id} attempt ${attempt}`)

// The history is complete: every attempt but the successful one has its record.
const history = new Map<number, string[]>()
const outcomes: Record<string, number> = {}
for (const row of db.prepare(`SELECT job_id, attempt, outcome FROM gq_attempts ORDER BY job_id, attempt`).all()) {
  const id = Number(row.job_id)
  history.set(id, [...(history.get(id) ?? []), String(row.attempt)])
  outcomes[String(row.outcome)] = (outcomes[String(row.outcome)] ?? 0) + 1
}
for (const { id, state, attempt } of rows) {
  const recorded = history.get(id) ?? []
  const due = Array.from({ length: state === 'succeeded' ? attempt - 1 : attempt }, (_, i) => String(i + 1))
  if (recorded.join() !== due.join()) breach('every attempt is in the history', `${id}: ${recorded} for ${due}`)
}

// Order, as the workers saw it: one worker with one slot starts the jobs of a line and class for the first time by id.
if (mode === 'one-worker') {
  const last = new Map<string, number>()
  const seen = new Set<number>()
  for (const { words } of worked) {
    const id = Number(words[1])
    const job = jobs.get(id)
    if (words[0] !== 'start' || seen.has(id) || !job) continue
    seen.add(id)
    const line = `${job.queue} ${job.type} ${job.priority}`
    if (id < (last.get(line) ?? 0)) breach('first starts are in order', `${id} after ${last.get(line)} in ${line}`)
    last.set(line, Math.max(id, last.get(line) ?? 0))
  }
}

// Order, as the file has it: ids and first leases share one sequence, so it can be walked through; each first lease
// must have taken the first of the jobs by (class, id) that were there.
const events = [
  ...rows.map((job) => ({ at: job.ready_seq ?? job.id, job, lease: false })),
  ...rows.filter((job) => job.lease_seq !== null).map((job) => ({ at: job.lease_seq!, job, lease: true })),
].sort((a, b) => a.at - b.at || a.job.priority - b.job.priority || a.job.id - b.job.id)
const waiting: Row[][] = classes.map(() => [])
const heads = classes.map(() => 0)
const leased = new Set<number>()
for (const { job, lease } of events) {
  if (!lease) {
    if (job.ready_seq !== null) throw new Error('This check is not made for jobs that were submitted for later.')
    waiting[job.priority]!.push(job)
    continue
  }
  for (const [priority, line] of waiting.entries())
    while (leased.has(line[heads[priority]!]?.id ?? 0)) heads[priority] = heads[priority]! + 1
  const first = waiting.map((line, priority) => line[heads[priority]!]).find((head) => head !== undefined)
  if (first?.id !== job.id) breach('first leases are in order', `${job.id} before ${first?.id}`)
  leased.add(job.id)
}

// The file itself.
for (const row of db.prepare('PRAGMA integrity_check').all())
  if (row.integrity_check !== 'ok') breach('the file is sound', String(row.integrity_check))
const counted = db.prepare(
  `SELECT name, scheduled, ready, running, succeeded, dead, cancelled FROM gq_queues
   EXCEPT
   SELECT queue, SUM(state = 'scheduled'), SUM(state = 'ready'), SUM(state = 'running'), SUM(state = 'succeeded'),
          SUM(state = 'dead'), SUM(state = 'cancelled')
   FROM gq_jobs GROUP BY queue`,
)
for (const row of counted.all()) breach('counters agree with the jobs', JSON.stringify(row))
db.close()

const report = {
  acknowledged: acknowledged.size,
  stored: rows.length,
  runs,
  keys: keys.size,
  bulks: batches.size,
  kills: killedAt.size,
  unfinishedRuns: open.size,
  outcomes,
  broken: Object.fromEntries(
    Object.entries(broken).map(([promise, cases]) => [promise, { times: cases.length, first: cases.slice(0, 5) }]),
  ),
}
console.log(JSON.stringify(report))
process.exitCode = Object.keys(broken).length > 0 ? 1 : 0
