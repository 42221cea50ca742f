import { states } from '../src/model/lifecycle.ts'
import type { Reply, Request } from '../src/store/sqlite/request.ts'
import type { Input, LeaseRequest, StoreEvent } from '../src/store/store.ts'
import { Answers } from './answers.ts'
import { type File, type Snapshot, unheardOf } from './file.ts'
import { Hours } from './hours.ts'
import { Ledger } from './ledger.ts'
import { ended, explained, type Facts, factsOf, grace, type Happening, type Held, hasPlace, type Row } from './model.ts'
import { Overdue } from './overdue.ts'
import { mostUndelivered, nameOf, type Tenures } from './tenures.ts'
import { Ticks, tickOf } from './ticks.ts'

/** When a call had the lock. */
export interface Moment {
  now: number
  /** On the monotonic clock, which all processes of a machine share. */
  elapsed: number
  /** For how long its process had watched by then. */
  watched: number
}

/** One call of one engine, as its process saw it, at the moment when it had the lock last; where it wrote nothing, at its end. */
export interface Call extends Moment {
  kind: 'open' | 'execute' | 'tick'
  pid: number
  /** All that the process had asked for and not heard of when the call began, oldest first. */
  asked: Request[]
  /** None if it crashed: then nobody knows. */
  replies: Reply[]
  events: StoreEvent[]
  /** A fault struck in it, or before it and the store had not recovered. */
  faulty: boolean
  /** A recovery takes several transactions, and time passes within the first. */
  moments: Moment[]
  /** When it ended, on the monotonic clock. */
  ended: number
  /** More than a second had gone by unplanned since this process wrote last. */
  afterGap: boolean
  /** Others have acted within it. */
  interrupted: boolean
  /** The app has asked for something in it. */
  isOfApp: boolean
}

/** A rule of the contract is broken. */
export class Broken extends Error {}

/** Rules that are not held against the engine: so that one looks behind a fault that is known. */
export const forgiven = new Set<string>()

export function must(holds: boolean, rule: string, detail: () => unknown = () => ''): void {
  if (!holds && !forgiven.has(rule)) throw new Broken(`${rule}: ${JSON.stringify(detail())}`)
}

/** Looks at the file after each call, by a connection of its own, and says which rule of the contract it breaks. */
export class Checker {
  readonly #file: File
  readonly #ledger = new Ledger()
  readonly #tenures: Tenures
  readonly #overdue: Overdue
  readonly #answers: Answers
  readonly #ticks = new Ticks()
  readonly #hours = new Hours()
  /** When the delays of jobs are over, by the monotonic clock. */
  readonly #delays = new Map<number, { runAt: number; dueAt: number }>()
  #before: Snapshot
  #lastId = 0
  /** Processes that get no further job until something comes from their apps. */
  readonly #appStandsStill = new Set<number>()

  constructor(file: File, tenures: Tenures) {
    this.#file = file
    this.#tenures = tenures
    this.#overdue = new Overdue(tenures)
    this.#answers = new Answers(this.#ledger, this.#overdue)
    this.#before = file.read()
  }

  get now(): Snapshot {
    return this.#before
  }

  /** Throws Broken when the call did, answered or left undone what the contract does not allow. */
  check(call: Call): void {
    const before = this.#before
    const after = this.#file.changed() ? this.#file.read() : before
    this.#before = after
    if (after !== before) {
      this.#counters(after)
      this.#hours.look(this.#file.total(), this.#file.hours(), call.now)
      this.#causes()
      this.#newIds(before, after)
      this.#uniqueKeys(after)
      const changed = [...after.jobs.values()].filter((row) => !same(before.jobs.get(row.id), row))
      // What was reported is taken first: it was no company any more when the same transaction settled its process's loss.
      for (const isFirst of [true, false])
        for (const row of changed)
          if (isReported(before.jobs.get(row.id), call) === isFirst)
            this.#change(before.jobs.get(row.id), row, call, before)
      this.#company(before, after)
      for (const held of before.wild)
        if (call.events.some((one) => one.event === 'reclaimed' && one.id === held.id)) this.#tenures.taken(held, false)
      for (const [id, row] of before.jobs) if (!after.jobs.has(id)) this.#gone(row, call)
      this.#scheduled(before, after, call)
    }
    this.#overdue.look(after, call)
    this.#answers.check(call, before, after)
    if (call.isOfApp) this.#appStandsStill.delete(call.pid)
    for (const event of call.events)
      if (event.event === 'reclaimed' && this.#wasOwn(event.id, call, before)) this.#appStandsStill.add(call.pid) // its own handler did not report its timeout
    for (const reply of call.replies) {
      const request = call.asked.find(({ seq }) => seq === reply.seq)
      if (request?.operation !== 'heartbeat' || !('value' in reply)) continue
      const lease = request.input as Input<'heartbeat'>
      this.#tenures.confirmed.add(nameOf(lease))
      const row = after.jobs.get(lease.id)
      if (row?.token === lease.token) this.#tenures.heardOf(row)
    }
    if (call.kind === 'tick' && !call.faulty && !call.interrupted) this.#nobodyWaitsInVain(call, after)
  }

  /** Its own process has taken back its lease. Of a job that no rule can read, or that its call has made, a handler that is told so says that. */
  #wasOwn(id: number, { pid, events }: Call, { jobs }: Snapshot): boolean {
    const worker = jobs.get(id)?.worker ?? null
    if (worker !== null) return this.#file.pidOf(worker) === pid
    return events.some((other) => other.event === 'leaseLost' && other.id === id)
  }

  /** Counters equal the rows. */
  #counters({ queues }: Snapshot): void {
    const counts = this.#file.counts()
    for (const queue of queues.values())
      for (const state of states) {
        const counted = counts.get(`${queue.name} ${state}`) ?? 0
        must(queue[state] === counted, 'counters equal the rows', () => [queue.name, state, queue[state], counted])
        counts.delete(`${queue.name} ${state}`)
      }
    must(counts.size === 0, 'each queue with jobs has counters', () => [...counts.keys()])
  }

  /** Dead jobs and those that fail now are counted under the causes that their histories tell, each once. */
  #causes(): void {
    const said = this.#file.saidCauses()
    const equal = (counted: Map<string, number>, rule: string) =>
      must(`${[...said].sort()}` === `${[...counted].sort()}`, rule, () => [[...said], [...counted]])
    equal(this.#file.causes(true), 'counts of causes equal the jobs that refer to them')
    if (!this.#file.counting) equal(this.#file.causes(false), 'counts of causes equal what the histories tell')
  }

  /** Every tick that `missed` keeps is taken once. */
  #scheduled(before: Snapshot, after: Snapshot, { now }: Call): void {
    for (const row of after.schedules.values()) {
      const old = before.schedules.get(row.name)
      const owed = old ? this.#ticks.owed(old, row, now) : []
      must(owed.length === 0, 'every tick that `missed` keeps is taken once', () => ({ old, row, owed, now }))
    }
  }

  /** Of a unique key at most one job waits or runs. */
  #uniqueKeys({ jobs }: Snapshot): void {
    const held = new Set<string>()
    for (const { queue, type, uniqueKey, state } of jobs.values()) {
      if (uniqueKey === null || ended(state)) continue
      const name = `${queue} ${type} ${uniqueKey}`
      must(!held.has(name), 'of a unique key at most one job has not ended', () => name)
      held.add(name)
    }
  }

  /** Ids grow and are never reused. */
  #newIds(before: Snapshot, after: Snapshot): void {
    for (const id of after.jobs.keys())
      if (!before.jobs.has(id)) {
        must(id > this.#lastId, 'ids grow and are never reused', () => ({ id, lastId: this.#lastId }))
        this.#lastId = id
      }
  }

  /** Only what the table of states allows, by what was asked for or what time has made due. */
  #change(old: Row | undefined, row: Row, call: Call, before: Snapshot): void {
    const { now } = call
    const story = () => ({ before: old, after: row, now, asked: call.asked })
    must(row.attempt - row.budget <= row.max, 'attempts never exceed maxAttempts', story)
    const unrecorded = row.state === 'running' || row.state === 'succeeded' ? 1 : 0
    must(row.failures === row.attempt - unrecorded, 'each failed attempt is in the history', story)
    const tick = old ? null : tickOf(row)
    if (tick) must(this.#ticks.take(tick, before, this.#before), 'every tick that `missed` keeps is taken once', story)
    const from = old ? factsOf(old, 'old') : tick ? asNew : submitted(row, call)
    must(from !== null, 'a job is there only if it was submitted', story)
    const lease = old && row.token === old.token ? 'old' : 'new'
    const way = this.#way(from!, factsOf(row, lease), old, row, call, 'only what the table of states allows', story)
    this.#ledger.follow(row, old ? { lease: nameOf(old), cancel: old.cancel } : null, way)
    const isLoss = way.some(({ what }) => what === 'lost')
    if (isLoss || way.some(({ what, once }) => what === 'fail' && !once)) this.#tenures.taken(old!, isLoss)
    if (way.some(({ what, once }) => once && /^(succeed|fail|release)$/.test(what))) this.#tenures.reported(old!)
    if (row.reason === 'exhausted' && old?.state !== 'dead' && row.max > 1)
      must(this.#ledger.charges(row.id) >= row.max, 'an innocent never dies', story)
    if (old)
      for (const column of [
        'queue',
        'type',
        'priority',
        'payload',
        'max',
        'timeout',
        'createdAt',
        'key',
        'uniqueKey',
      ] as const)
        must(old[column] === row[column], `${column} never changes`, story)
    if (row.state === 'scheduled' && row.runAt !== old?.runAt)
      this.#delays.set(row.id, { runAt: row.runAt!, dueAt: call.elapsed + row.runAt! - now })
    if (row.state === 'running') this.#lease(old, row, lease, call, story)
    if (ended(row.state) && old?.state !== row.state) this.#retention(row, call, before, story)
  }

  /** What must have happened; throws when the contract allows none of it. */
  #way(
    ...[from, to, old, row, call, rule, story]: [Facts, Facts, Row | undefined, Row, Call, string, () => unknown]
  ): Happening[] {
    // A recovery takes several transactions: what the first put off may be due in a later one.
    const moments = call.moments.map((moment) => {
      return { now: moment.now, happenings: this.#happenings(old, row, { ...call, ...moment }) }
    })
    const lawful = moments.map(({ now, happenings }) => ({ now, happenings: happenings.filter(({ law }) => !law) }))
    const found = explained(from, to, lawful, row) ?? explained(from, to, moments, row)
    must(found !== null, rule, story)
    const way = found ?? [] // the rule is forgiven
    for (const { law } of way) if (law) must(false, law, story)
    return way
  }

  #lease(old: Row | undefined, row: Row, lease: 'old' | 'new', call: Call, story: () => unknown): void {
    const { now, elapsed } = call
    const isNamed = lease === 'old' && old!.renewedAt !== row.renewedAt
    if (isNamed) this.#tenures.confirmed.add(nameOf(row)) // its worker has it, also where nobody heard the answer to its word
    const isKept = lease === 'old' && old!.expiresAt === row.expiresAt
    if (isKept && (!isNamed || this.#file.pidOf(row.worker) === null)) return // a worker on the network that renewed nothing
    this.#tenures.given(row, lease === 'new', call)
    const started = lease === 'new' ? elapsed : this.#tenures.toldAt(row.id)
    const lasts = row.expiresAt! - now
    const asked = call.asked.some((r) => r.operation === 'heartbeat' && (r.input as { id: number }).id === row.id)
    const stood = lease === 'old' ? this.#tenures.stoodStill(row.id, elapsed) : 0 // its timeout goes on after that
    const longest = Math.min(row.visibility, started + row.timeout + grace + stood - elapsed)
    const full = lease === 'old' ? lasts > 0 && lasts <= Math.ceil(longest) : lasts === longest
    must(full || asked, 'a lease lasts for the visibility timeout, up to the timeout', () => [
      { lasts, longest, elapsed, started },
      story(),
    ])
    if (lease === 'old') {
      must(asked || this.#file.pidOf(row.worker) === call.pid, 'only its own process renews a lease', story)
      return
    }
    must(row.startedAt === now, 'an attempt starts with its lease', story)
    const pid = this.#file.pidOf(row.worker)
    must(pid === call.pid || pid === null, 'a lease belongs to who asked for it', story)
    const told = call.replies.some(
      (r) => 'value' in r && Array.isArray(r.value) && r.value.some((j) => j.id === row.id),
    )
    must(told || call.faulty, 'a lease is told to who asked for it', story)
  }

  /** Of each process that got a job. What limited its jobs may have ended in the same call: it is asked after all changes. */
  #company(before: Snapshot, after: Snapshot): void {
    const given = [...after.jobs.values()].filter(
      ({ id, state, token }) => state === 'running' && before.jobs.get(id)?.token !== token,
    )
    for (const holder of new Set(given.map((row) => this.#tenures.holderOf(row).holder))) {
      const beside = this.#runningOf(holder)
      for (const other of beside)
        must(
          beside.length - 1 <= this.#ledger.mostBeside(other.id),
          'a job that was lost in company runs beside half of it at most',
          () => ({ beside: beside.map(({ id }) => id), most: this.#ledger.mostBeside(other.id), other }),
        )
    }
  }

  #runningOf(holder: string): Held[] {
    const { jobs, wild } = this.#before
    const running = [...jobs.values()].filter(({ state }) => state === 'running')
    return [...running, ...wild].filter((held) => this.#tenures.holderOf(held).holder === holder)
  }

  /** A process or a remote one has died, or stands still from now on. */
  silent(holder: string, at: number): void {
    this.#tenures.silent(holder, this.#runningOf(holder), at)
  }

  /** Kept as its queue says at that moment, before or after what else happened in the call. */
  #retention(row: Row, { moments }: Call, before: Snapshot, story: () => unknown): void {
    const isThen = moments.some(({ now }) => now === row.finishedAt)
    must(isThen, 'an end is at its instant', story)
    const allowed = [before, this.#before].map(({ queues }) => {
      const { keepSucceeded, keepCancelled, keepDead } = queues.get(row.queue) ?? unheardOf
      const keep = { succeeded: keepSucceeded, cancelled: keepCancelled, dead: keepDead }[row.state as 'dead']
      return keep === null ? null : row.finishedAt! + keep
    })
    must(allowed.includes(row.pruneAt), 'what has ended is kept as long as its queue says', () => [allowed, story()])
  }

  #gone(old: Row, call: Call): void {
    const gone: Facts = { ...factsOf(old, 'old'), state: 'gone' }
    this.#way(factsOf(old, 'old'), gone, old, old, call, 'no job is lost', () => ({ old, call }))
  }

  /** All that may have happened to one job in this call. */
  #happenings(old: Row | undefined, row: Row, call: Call): Happening[] {
    const { now } = call
    const { id } = row
    const list: Happening[] = [{ what: 'due' }, { what: 'expire' }, { what: 'lease' }]
    const delay = this.#delays.get(id)
    if (delay && old?.runAt === delay.runAt && call.elapsed >= delay.dueAt) list.push({ what: 'due', early: true })
    if (old?.pruneAt != null && old.pruneAt <= now) list.push({ what: 'prune' })
    // What ended in an earlier transaction of the call.
    const { keepSucceeded, keepCancelled, keepDead } = this.#before.queues.get(row.queue) ?? unheardOf
    const kept = [keepSucceeded, keepCancelled, keepDead].filter((ms) => ms !== null)
    if (call.moments.some((moment) => kept.some((ms) => moment.now + ms <= now))) list.push({ what: 'prune' })
    if (old?.state === 'running' && this.#file.pidOf(old.worker) === call.pid && !this.#answers.wasTold(old))
      list.push({ what: 'release' }) // nobody knows of it
    const missing: Happening[] = []
    const refused = new Set(call.replies.flatMap((r) => ('error' in r && r.error.accepted === 'no' ? [r.seq] : [])))
    const mine = (lease: { id: number; token: number }) => lease.id === id && lease.token === old?.token
    const end = old?.state === 'running' ? this.#file.endOf(id, old.attempt) : undefined
    const wasReported = end !== undefined && end.token === old!.token // its holder ended it, says the history
    for (const { seq, operation, input, epoch } of call.asked) {
      if (refused.has(seq) || (epoch !== undefined && epoch !== this.#before.epoch)) continue
      if (operation === 'cancel' || operation === 'retry' || operation === 'runNow' || operation === 'remove') {
        if (input === id) list.push({ what: operation, once: seq })
      } else if (operation === 'unregister') {
        if (old?.worker === input) list.push({ what: 'release' })
      } else if (operation === 'succeed' || operation === 'fail') {
        const outcome = input as Input<'fail'>
        if (!mine(outcome.lease)) continue
        if (operation === 'succeed') list.push({ what: 'succeed', once: seq })
        else list.push({ what: 'fail', kind: outcome.kind, retryAfter: outcome.retryAfter, once: seq })
      } else if (operation === 'lease') {
        const { worker, holds } = input as LeaseRequest & { holds?: number[] }
        const isMissing = old?.worker === worker && holds && !holds.includes(old.token!)
        if (!isMissing || old.state !== 'running' || wasReported || !this.#tenures.isUnheard(old)) continue
        missing.push({ what: 'release' }, { what: 'lost', charged: false, company: null })
        const charged = { what: 'lost', charged: true, company: null } as const
        if (old.undelivered >= mostUndelivered) missing.push(charged, { ...charged, waits: true })
      } else if (operation === 'release' && mine(input as Input<'release'>)) list.push({ what: 'release', once: seq })
    }
    // A report that was taken is what has happened, also if nobody heard so: its holder may send it again.
    const answered = new Set(call.replies.flatMap((r) => ('value' in r ? [r.seq] : [])))
    const reports = call.asked.filter(({ seq, operation }) => answered.has(seq) && /^(succeed|fail)$/.test(operation))
    if (reports.some(({ input }) => mine((input as Input<'fail'>).lease))) return list
    list.push(...missing)
    if (old?.state !== 'running' || wasReported) return list
    const isOpen = !end || end.outcome === 'cancelled' // else the history says what it was taken for
    const taking = this.#tenures.taking(old, call)
    list.push(...taking.filter(({ what }) => isOpen || (what === 'lost') === (end.outcome === 'lost')))
    return list
  }

  /** With a sound store, no worker waits for a job that it could have, and nobody for the end of one that has ended. */
  #nobodyWaitsInVain(call: Call, after: Snapshot): void {
    const { jobs, queues } = after
    const isLimited = [...jobs.values()].some(({ company, state }) => company !== null && !ended(state))
    for (const job of jobs.values())
      if (job.state === 'running' && this.#file.pidOf(job.worker) === call.pid)
        must(this.#answers.wasTold(job), 'a job whose lease nobody was told of does not run on', () => job)
    const answered = new Set(call.replies.map(({ seq }) => seq))
    for (const { seq, operation, input } of call.asked) {
      if (answered.has(seq)) continue
      if (operation === 'wait') {
        const job = jobs.get(input as number)
        must(job !== undefined && !ended(job.state), 'who waits for an end hears of it', () => job ?? input)
      }
      if (operation !== 'lease' || this.#appStandsStill.has(call.pid)) continue
      const { worker, sources, slots, exclude } = input as LeaseRequest
      const held = [...jobs.values()].filter((job) => job.state === 'running' && job.worker === worker).length
      if (isLimited || this.#file.pidOf(worker) === null) continue // that it waits for room, or confirms nothing
      const overdue = this.#overdue.of(worker, after, call.now, call.elapsed)
      if (held >= slots || sources.some(({ queue }) => queue === 'w')) continue
      for (const job of jobs.values()) {
        if (job.state !== 'ready' || !sources.some((s) => s.queue === job.queue && s.type === job.type)) continue
        const queue = queues.get(job.queue) // none has one that others have submitted its first job to, until it is admitted
        must(
          queue?.paused === 1 ||
            (queue?.freeAt ?? null) !== null || // that it has room again, the end of the run tells
            !hasPlace(job, jobs.values(), queue?.maxRunning ?? null, queue?.perKey ?? 1) ||
            exclude.includes(job.id) ||
            overdue.has(job.id) ||
            (job.deadline ?? Infinity) <= call.now,
          'no worker waits while a job of its is ready',
          () => ({ worker, held, slots, job }),
        )
      }
    }
  }

  /** A job has killed its process: of processes of different sizes the largest counts. */
  poisoned(id: number, ofProcess: number): void {
    const { max } = this.#before.jobs.get(id)!
    const { deaths, slots } = this.#ledger.killed(id, ofProcess)
    const most = max + Math.log2(slots) + 1
    must(deaths <= most, 'a poison job is dead after few deaths', () => ({ id, deaths, most }))
  }

  /** At the end of all: every job has ended, the order is provable, the file is whole. */
  finish(): void {
    for (const job of this.#before.jobs.values())
      must(ended(job.state), 'every job comes to an end in bounded time', () => job)
    const passedOver = this.#file.passedOver()
    must(passedOver.length === 0, 'no job was first leased before an older ready one of its class', () => passedOver)
    must(this.#file.isWhole(), 'the file is whole')
  }

  /** An earlier copy has taken the file's place: what was known of it no longer counts. */
  restored({ wall, elapsed }: { wall: number; elapsed: number }): void {
    this.#before = this.#file.read()
    this.#lastId = Math.max(0, ...this.#before.jobs.keys())
    this.#ledger.restored(this.#before.jobs.keys())
    this.#answers.restored()
    this.#overdue.restored()
    this.#ticks.restored()
    this.#hours.restored(this.#file.total(), this.#file.hours())
    const running = [...this.#before.jobs.values()].filter(({ state }) => state === 'running')
    this.#tenures.restored(running, elapsed, wall)
  }

  /** The file is of a newer version than the engines. */
  mustBeAsItWas(): void {
    must(!this.#file.changed(), 'a process writes nothing into a file of a newer version')
  }

  /** Somebody has written with plain SQL. */
  look(): void {
    this.#before = this.#file.read()
    for (const id of this.#before.jobs.keys()) this.#lastId = Math.max(this.#lastId, id)
  }
}

/** Its lease is named by an outcome that was asked for. */
function isReported(row: Row | undefined, { asked }: Call): boolean {
  return asked.some(({ operation, input }) => {
    if (operation !== 'succeed' && operation !== 'fail' && operation !== 'release') return false
    const { id, token } = operation === 'release' ? (input as Input<'release'>) : (input as Input<'fail'>).lease
    return row?.id === id && row.token === token
  })
}

function same(a: Row | undefined, b: Row): boolean {
  if (!a) return false
  for (const column in a) if (a[column as keyof Row] !== b[column as keyof Row]) return false
  return true
}

const asNew: Facts = {
  ...{
    state: 'ready',
    attempt: 0,
    budget: 0,
    reason: null,
    runAt: null,
    deadline: null,
    postponed: 0,
    cancel: false,
    lease: null,
  },
}

/** What a job is right after its submission, if one of this call asked for it. */
function submitted(row: Row, { asked, now }: Call): Facts | null {
  for (const { operation, input } of asked) {
    if (operation !== 'submit') continue
    const { specs, payloads, keys } = input as Input<'submit'>
    const i = payloads.indexOf(row.payload)
    if (i < 0) continue
    const spec = Array.isArray(specs) ? specs[i]! : specs
    const due = spec.runAt ?? now + spec.delay
    const runAt = due > now ? due : null
    const deadline = spec.deadline ?? (spec.deadlineIn === null ? null : now + spec.deadlineIn)
    const asSaid =
      row.queue === spec.queue &&
      row.type === spec.type &&
      row.priority === spec.priority &&
      row.max === spec.maxAttempts &&
      row.timeout === spec.timeout &&
      row.key === (keys?.[i] ?? null) &&
      row.concurrency === spec.concurrencyKey &&
      row.uniqueKey === spec.uniqueKey &&
      row.createdAt === now
    if (!asSaid) continue
    return {
      ...{ state: runAt === null ? 'ready' : 'scheduled', attempt: 0, budget: 0, reason: null, runAt, deadline },
      ...{ postponed: 0, cancel: false, lease: null },
    }
  }
  return null
}
