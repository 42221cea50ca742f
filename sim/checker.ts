import { states } from '../src/model/lifecycle.ts'
import type { Reply, Request } from '../src/store/sqlite/commit.ts'
import type { Input, LeaseRequest, StoreEvent } from '../src/store/store.ts'
import { Answers } from './answers.ts'
import { type File, type Snapshot, unheardOf } from './file.ts'
import { ended, explained, type Facts, factsOf, grace, type Happening, hasPlace, type Row } from './model.ts'

/** One call of one engine, as its process saw it. */
export interface Call {
  kind: 'open' | 'execute' | 'tick'
  pid: number
  /** All that the process had asked for and not heard of when the call began, oldest first. */
  asked: Request[]
  /** None if it crashed: then nobody knows. */
  replies: Reply[]
  events: StoreEvent[]
  /** A fault struck in it, or before it and the store had not recovered. */
  faulty: boolean
  now: number
  /** The monotonic clock, which all processes of a machine share. */
  elapsed: number
  isAlive(pid: number): boolean | null
}

/** A rule of the contract is broken. */
export class Broken extends Error {}

export function must(holds: boolean, rule: string, detail: () => unknown = () => ''): void {
  if (!holds) throw new Broken(`${rule}: ${JSON.stringify(detail())}`)
}

/** Looks at the file after each call, by a connection of its own, and says which rule of the contract it breaks. */
export class Checker {
  readonly #file: File
  readonly #answers = new Answers()
  /** Each lease as it was last given or renewed, on the monotonic clock. */
  readonly #leases = new Map<number, { since: number; started: number }>()
  #before: Snapshot
  #lastId = 0

  constructor(file: File) {
    this.#file = file
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
      this.#newIds(before, after)
      for (const [id, row] of after.jobs) {
        const old = before.jobs.get(id)
        if (!old || !same(old, row)) this.#change(old, row, call, before)
      }
      for (const [id, row] of before.jobs) if (!after.jobs.has(id)) this.#gone(row, call)
    }
    this.#answers.check(call, before, after)
    if (call.kind === 'tick' && !call.faulty) this.#nobodyWaitsInVain(call, after)
  }

  /** Counters equal the rows. */
  #counters({ jobs, queues }: Snapshot): void {
    const counts = new Map<string, number>()
    for (const { queue, state } of jobs.values())
      counts.set(`${queue} ${state}`, (counts.get(`${queue} ${state}`) ?? 0) + 1)
    for (const queue of queues.values())
      for (const state of states) {
        const counted = counts.get(`${queue.name} ${state}`) ?? 0
        must(queue[state] === counted, 'counters equal the rows', () => [queue.name, state, queue[state], counted])
        counts.delete(`${queue.name} ${state}`)
      }
    must(counts.size === 0, 'each queue with jobs has counters', () => [...counts.keys()])
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
    const from = old ? factsOf(old, 'old') : submitted(row, call)
    must(from !== null, 'a job is there only if it was submitted', story)
    const lease = old && row.token === old.token ? 'old' : 'new'
    const happenings = this.#happenings(old, row.id, call)
    must(explained(from!, factsOf(row, lease), happenings, row, now), 'only what the table of states allows', story)
    if (old)
      for (const column of ['queue', 'type', 'priority', 'payload', 'max', 'timeout', 'createdAt', 'key'] as const)
        must(old[column] === row[column], `${column} never changes`, story)
    if (row.state === 'running') this.#lease(old, row, lease, call, story)
    if (ended(row.state) && old?.state !== row.state) this.#retention(row, now, before, story)
  }

  #lease(old: Row | undefined, row: Row, lease: 'old' | 'new', call: Call, story: () => unknown): void {
    const { now, elapsed } = call
    if (lease === 'old' && old!.expiresAt === row.expiresAt) return
    const started = lease === 'old' ? this.#leases.get(row.id)!.started : elapsed
    this.#leases.set(row.id, { since: elapsed, started })
    const lasts = row.expiresAt! - now
    const asked = call.asked.some((r) => r.operation === 'heartbeat' && (r.input as { id: number }).id === row.id)
    const longest = Math.min(row.visibility, started + row.timeout + grace - elapsed)
    const full = lease === 'old' ? lasts > 0 && lasts <= Math.ceil(longest) : lasts === longest
    must(full || asked, 'a lease lasts for the visibility timeout, up to the timeout', story)
    if (lease === 'old') {
      must(asked || this.#file.pidOf(row.worker) === call.pid, 'only its own process renews a lease', story)
      return
    }
    must(row.startedAt === now, 'an attempt starts with its lease', story)
    must(this.#file.pidOf(row.worker) === call.pid, 'a lease belongs to who asked for it', story)
    const told = call.replies.some(
      (r) => 'value' in r && Array.isArray(r.value) && r.value.some((j) => j.id === row.id),
    )
    must(told || call.faulty, 'a lease is told to who asked for it', story)
  }

  /** Kept as its queue says at that moment, before or after what else happened in the call. */
  #retention(row: Row, now: number, before: Snapshot, story: () => unknown): void {
    must(row.finishedAt === now, 'an end is at its instant', story)
    const allowed = [before, this.#before].map(({ queues }) => {
      const { keepSucceeded, keepCancelled, keepDead } = queues.get(row.queue) ?? unheardOf
      const keep = { succeeded: keepSucceeded, cancelled: keepCancelled, dead: keepDead }[row.state as 'dead']
      return keep === null ? null : now + keep
    })
    must(allowed.includes(row.pruneAt), 'what has ended is kept as long as its queue says', () => [allowed, story()])
  }

  #gone(old: Row, call: Call): void {
    const gone: Facts = { ...factsOf(old, 'old'), state: 'gone' }
    const happenings = this.#happenings(old, old.id, call)
    must(explained(factsOf(old, 'old'), gone, happenings, old, call.now), 'no job is lost', () => ({ old, call }))
  }

  /** From a process that is gone at once; from one that lives only what it did not renew in time, whatever the wall clock says. */
  #mayBeTaken(old: Row, { elapsed, isAlive }: Call): boolean {
    if (isAlive(this.#file.pidOf(old.worker)) !== true) return true // also where that cannot be told, for brevity
    const { since, started } = this.#leases.get(old.id)!
    const ranOut = elapsed - started >= old.timeout + grace
    return ranOut || elapsed - since >= Math.min(old.visibility, old.timeout + grace)
  }

  /** All that may have happened to one job in this call. */
  #happenings(old: Row | undefined, id: number, call: Call): Happening[] {
    const { now } = call
    const list: Happening[] = [{ what: 'due' }, { what: 'expire' }, { what: 'lease' }]
    if (old?.pruneAt != null && old.pruneAt <= now) list.push({ what: 'prune' })
    if (old?.state === 'running' && this.#mayBeTaken(old, call)) {
      const ranOut = call.elapsed - this.#leases.get(id)!.started >= old.timeout + grace
      if (ranOut) list.push({ what: 'fail', kind: 'timeout', retryAfter: null })
      list.push({ what: 'fail', kind: now >= old.startedAt! + old.timeout ? 'timeout' : 'lost', retryAfter: null })
    }
    if (old?.state === 'running' && this.#file.pidOf(old.worker) === call.pid && !this.#answers.wasTold(old))
      list.push({ what: 'release' }) // nobody knows of it
    const refused = new Set(call.replies.flatMap((r) => ('error' in r && r.error.accepted === 'no' ? [r.seq] : [])))
    const mine = (lease: { id: number; token: number }) => lease.id === id && lease.token === old?.token
    for (const { seq, operation, input } of call.asked) {
      if (refused.has(seq)) continue
      if (operation === 'cancel' || operation === 'retry' || operation === 'remove') {
        if (input === id) list.push({ what: operation, once: true })
      } else if (operation === 'unregister') {
        if (old?.worker === input) list.push({ what: 'release' })
      } else if (operation === 'succeed' || operation === 'fail') {
        const outcome = input as Input<'fail'>
        if (!mine(outcome.lease)) continue
        if (operation === 'succeed') list.push({ what: 'succeed', once: true })
        else list.push({ what: 'fail', kind: outcome.kind, retryAfter: outcome.retryAfter, once: true })
      } else if (operation === 'release' && mine(input as Input<'release'>)) list.push({ what: 'release', once: true })
    }
    return list
  }

  /** With a sound store, no worker waits for a job that it could have, and nobody for the end of one that has ended. */
  #nobodyWaitsInVain(call: Call, { jobs, queues }: Snapshot): void {
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
      if (operation !== 'lease') continue
      const { worker, sources, slots, exclude } = input as LeaseRequest
      const held = [...jobs.values()].filter((job) => job.state === 'running' && job.worker === worker).length
      if (held >= slots) continue
      for (const job of jobs.values())
        if (job.state === 'ready' && sources.some((s) => s.queue === job.queue && s.type === job.type))
          must(
            queues.get(job.queue)!.paused === 1 ||
              !hasPlace(job, jobs.values(), queues.get(job.queue)!.maxRunning, queues.get(job.queue)!.perKey) ||
              exclude.includes(job.id) ||
              (job.deadline ?? Infinity) <= call.now,
            'no worker waits while a job of its is ready',
            () => ({ worker, held, slots, job }),
          )
    }
  }

  /** At the end of all: every job has ended, the order is provable, the file is whole. */
  finish(): void {
    for (const job of this.#before.jobs.values())
      must(ended(job.state), 'every job comes to an end in bounded time', () => job)
    const passedOver = this.#file.passedOver()
    must(passedOver.length === 0, 'no job was first leased before an older ready one of its class', () => passedOver)
    must(this.#file.isWhole(), 'the file is whole')
  }

  /** Somebody has written with plain SQL. */
  look(): void {
    this.#before = this.#file.read()
    for (const id of this.#before.jobs.keys()) this.#lastId = Math.max(this.#lastId, id)
  }
}

function same(a: Row, b: Row): boolean {
  for (const column in a) if (a[column as keyof Row] !== b[column as keyof Row]) return false
  return true
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
      row.createdAt === now
    if (!asSaid) continue
    return {
      ...{ state: runAt === null ? 'ready' : 'scheduled', attempt: 0, budget: 0, reason: null, runAt, deadline },
      ...{ cancel: false, lease: null },
    }
  }
  return null
}
