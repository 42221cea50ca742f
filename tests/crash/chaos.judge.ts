import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import type { DatabaseSync } from 'node:sqlite'
import { maxAttempts, visibilityTimeout } from './chaos.child.ts'
import { readJournal } from './journal.ts'
import { lookInto } from './processes.ts'

// Judges a chaos run by what its processes wrote down and by plain SQL on the public tables; nothing of the engine is used.
//
// When a lease lives. A process renews its leases every third of the visibility timeout while it runs. Its silence is the
// time between two lines of its log, which it writes at least every 50 ms: it was stopped, or it is gone. A lease lives
// from its handler's start until its handler ended, its process died, its process was told `leaseLost`, or its process
// was silent for the whole visibility timeout. That is lenient: a lease that was renewed at most a third of that time before
// the silence began may be found over after two thirds of it, and is taken half of its life later, after seven sixths. Who
// waits for the write lock cannot renew: where a silence follows on a time in which another process was stopped in the middle
// of a transaction, its lease was last renewed before that. Such a time alone ends no lease.
//
// Who ran alone. At a death, or at the beginning of a silence of a second or more, the process ran those handlers that had
// started and not ended by its log, one whose lease was lost included. A job ran alone when there was no other.

const ms = 1_000_000n
const visibility = BigInt(visibilityTimeout) * ms
const noticed = 1000n * ms
const handlersKeptApart = 30_000n * ms

interface Run {
  process: string
  job: number
  attempt: number
  from: bigint
  /** It ended, or its process did. */
  to: bigint
  /** Its process was told that its lease was lost. */
  lost: bigint | null
}
interface Silence {
  from: bigint
  /** Null: it never spoke again. */
  to: bigint | null
  /** Jobs whose handlers ran as it began. */
  running: Set<number>
}
interface Life {
  worker: string | null
  /** Unix ms. */
  began: number
  runs: Run[]
  silences: Silence[]
  /** From Unix ms to the clock of the logs. */
  at(unix: number): bigint
}

export interface Verdict {
  acknowledged: number
  runs: number
  kills: number
  stops: number
  losses: number
  charged: number
  poisonDead: number
  /** Innocents whose every charged loss was alone: the run's own kills met each of their attempts. */
  convictedByChance: number
  broken: Record<string, { times: number; first: string[] }>
}

function readLife(path: string, process: string, killedAt: bigint | undefined): Life {
  const life: Life = { worker: null, began: 0, runs: [], silences: [], at: () => 0n }
  const running = new Set<Run>()
  let last = 0n
  const hear = (at: bigint) => {
    if (last > 0n && at - last >= noticed)
      life.silences.push({ from: last, to: at, running: new Set([...running].map(({ job }) => job)) })
    last = at
  }
  for (const [word, ...rest] of readJournal(path)) {
    if (word === 'up') {
      const [at, unix] = [BigInt(rest[0]!), BigInt(rest[1]!) * ms]
      life.began ||= Number(rest[1]!)
      life.at = (instant) => at + BigInt(Math.round(instant)) * ms - unix
      hear(at)
    } else if (word === 'worker') life.worker = rest[0]!
    else if (word === 'beat') hear(BigInt(rest[0]!))
    else if (word === 'start' || word === 'end' || word === 'lost') {
      const [job, attempt, at] = [Number(rest[0]), Number(rest[1]), BigInt(rest[2]!)]
      hear(at)
      const run = life.runs.find((run) => run.job === job && run.attempt === attempt)
      if (word === 'start') {
        const started: Run = { process, job, attempt, from: at, to: at, lost: null }
        life.runs.push(started)
        running.add(started)
      } else if (run && word === 'lost') run.lost ??= at
      else if (run) {
        run.to = at
        running.delete(run)
      }
    }
  }
  const end = killedAt !== undefined && killedAt > last ? killedAt : last
  for (const run of running) run.to = end
  life.silences.push({ from: last, to: null, running: new Set([...running].map(({ job }) => job)) })
  return life
}

/** A time in which nobody could write. */
interface Locked {
  from: bigint
  to: bigint
}

/** The longest time, until a moment, in which a process that held a lease from then on did not renew it. */
function silent({ silences }: Life, from: bigint, until: bigint, locked: Locked[]): bigint {
  let longest = 0n
  for (const silence of silences) {
    const to = silence.to === null || silence.to > until ? until : silence.to
    let begun = silence.from
    for (const lock of locked.toReversed())
      if (lock.from < begun && lock.to + visibility / 3n >= begun) begun = lock.from
    if (begun < from) begun = from
    if (to - begun > longest) longest = to - begun
  }
  return longest
}

type Breach = (promise: string, what: string) => void
interface Loss {
  attempt: number
  alone: boolean
}

/** What a run's folder shows: jobs.db, the logs of its processes, and kills.log. */
export function judge(folder: string): Verdict {
  const broken: Verdict['broken'] = {}
  const breach: Breach = (promise, what) => {
    broken[promise] ??= { times: 0, first: [] }
    if (broken[promise].times++ < 5) broken[promise].first.push(what)
  }
  const kills = readJournal(join(folder, 'kills.log'))
  const killedAt = new Map(kills.flatMap(([word, name, at]) => (word === 'kill' ? [[name!, BigInt(at!)]] : [])))
  const logs = readdirSync(folder).filter((name) => /^(submit|work)-.*\.log$/.test(name))
  const works = logs.filter((name) => name.startsWith('work-'))
  const lives = new Map(works.map((name) => [name, readLife(join(folder, name), name, killedAt.get(name))]))
  const runs = [...lives.values()].flatMap((life) => life.runs)
  const locked = kills.flatMap(([word, from, to]) =>
    word === 'locked' ? [{ from: BigInt(from!), to: BigInt(to!) }] : [],
  )
  judgeOverlaps(runs, lives, locked, breach)
  const db = lookInto(join(folder, 'jobs.db'))
  const losses = judgeAttempts(db, lives, locked, breach)
  const words = logs.flatMap((name) => readJournal(join(folder, name)))
  const acknowledged = new Map(words.flatMap(([word, id, kind]) => (word === 'ack' ? [[Number(id), kind!]] : [])))
  const figures = judgeJobs(db, acknowledged, losses, breach)
  db.close()
  return {
    ...{ acknowledged: acknowledged.size, runs: runs.length, kills: killedAt.size },
    stops: kills.filter(([word]) => word === 'stop').length,
    losses: [...losses.values()].flat().length,
    ...figures,
    broken,
  }
}

/** What is recorded of the attempts: the losses of each job. */
function judgeAttempts(
  db: DatabaseSync,
  lives: ReadonlyMap<string, Life>,
  locked: Locked[],
  breach: Breach,
): Map<number, Loss[]> {
  // A worker is named by its process id, which the system gives again: it is the last that began before the attempt.
  const byAge = [...lives.values()].toSorted((a, b) => b.began - a.began)
  const lifeOf = (worker: string, started: number) =>
    byAge.find((life) => life.worker === worker && life.began <= started)
  const losses = new Map<number, Loss[]>()
  const rows = db.prepare(
    `SELECT a.job_id AS job, a.attempt, a.outcome, a.worker, a.started_at AS started, a.finished_at AS finished,
            a.error_message AS message, l.id AS evidence
     FROM gq_attempts a LEFT JOIN gq_losses l ON l.id = a.loss_id ORDER BY a.job_id, a.attempt`,
  )
  for (const row of rows.all()) {
    const [job, attempt] = [Number(row.job), Number(row.attempt)]
    const what = `job ${job} attempt ${attempt} of ${row.worker}`
    if (row.outcome !== 'lost') {
      breach('a loss is recorded as one', `${what}: ${row.outcome}, ${row.message}`)
      continue
    }
    if (row.evidence === null) breach('each loss names its evidence', what)
    const life = lifeOf(String(row.worker), Number(row.started))
    // It may have died before it could write down its name; then no handler of it had started.
    const loss: Loss = { attempt, alone: true }
    losses.set(job, [...(losses.get(job) ?? []), loss])
    if (!life) continue
    const [from, until] = [life.at(Number(row.started)), life.at(Number(row.finished)) + 100n * ms]
    const died = life.silences.some(({ from, to }) => to === null && from <= until)
    if (!died && silent(life, from, until, locked) < visibility)
      breach('a lease is taken from the dead and the silent only', what)
    const within = life.silences.filter(({ from: begun, to }) => begun <= until && (to === null || to >= from))
    loss.alone = within.some(({ running }) => ![...running].some((other) => other !== job))
  }
  return losses
}

/** What became of the jobs. */
function judgeJobs(
  db: DatabaseSync,
  acknowledged: ReadonlyMap<number, string>,
  losses: ReadonlyMap<number, Loss[]>,
  breach: Breach,
): Pick<Verdict, 'charged' | 'poisonDead' | 'convictedByChance'> {
  const figures = { charged: 0, poisonDead: 0, convictedByChance: 0 }
  const stored = new Set<number>()
  const jobs = db.prepare(`SELECT id, state, attempt, budget_from, payload ->> 'poison' AS poison FROM gq_jobs`)
  for (const row of jobs.all()) {
    const [id, attempt, kind] = [Number(row.id), Number(row.attempt), row.poison === 1 ? 'poison' : 'innocent']
    stored.add(id)
    const [dead, succeeded] = [row.state === 'dead', row.state === 'succeeded']
    const charged = attempt - Number(row.budget_from) - (succeeded ? 1 : 0)
    figures.charged += charged
    const own = losses.get(id) ?? []
    const what = `${kind} ${id} is ${row.state} after ${attempt} attempts, ${charged} charged: ${JSON.stringify(own)}`
    if (!dead && !succeeded) breach('every job ends', what)
    if (kind === 'poison' && succeeded) breach('a job that kills its process does not succeed', what)
    if ((acknowledged.get(id) ?? kind) !== kind) breach('a job is what was submitted', what)
    const wereAlone = charged <= own.filter(({ alone }) => alone).length
    if (!wereAlone) breach('a charged loss is of a job that ran alone', what)
    if (!dead) continue
    if (kind === 'poison') figures.poisonDead++
    else if (wereAlone && charged === maxAttempts) figures.convictedByChance++
    else breach('no innocent dies', what)
  }
  for (const id of acknowledged.keys()) if (!stored.has(id)) breach('no acknowledged job is lost', `job ${id}`)
  return figures
}

function judgeOverlaps(runs: Run[], lives: ReadonlyMap<string, Life>, locked: Locked[], breach: Breach): void {
  const byJob = Map.groupBy(runs, ({ job }) => job)
  for (const [job, ofJob] of byJob) {
    ofJob.sort((a, b) => (a.from < b.from ? -1 : 1))
    for (const [i, later] of ofJob.entries())
      for (const earlier of ofJob.slice(0, i)) {
        const at = later.from
        const what = `job ${job}: attempt ${earlier.attempt} in ${earlier.process}, ${later.attempt} in ${later.process}, ${(later.from - earlier.from) / ms} ms later`
        if (earlier.attempt === later.attempt) breach('an attempt runs at most once', what)
        if (earlier.to <= at) continue
        const toldBefore = earlier.lost !== null && earlier.lost <= at
        if (!toldBefore && silent(lives.get(earlier.process)!, earlier.from, at, locked) < visibility)
          breach('attempts whose leases live do not overlap', what)
        if (earlier.process === later.process && at - (earlier.lost ?? at) < handlersKeptApart)
          breach('no attempt starts beside a handler of its job in the same process', what)
      }
  }
}
