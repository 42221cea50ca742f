import type { GopherQueueError } from '../src/model/errors.ts'
import type { Job } from '../src/model/job.ts'
import type { Request } from '../src/store/sqlite/request.ts'
import type { Fate, Input, Lease, LeasedJob, LeaseRequest, Output } from '../src/store/store.ts'
import { type Call, must } from './checker.ts'
import type { Snapshot } from './file.ts'
import type { Ledger } from './ledger.ts'
import { ended as hasEnded, hasPlace, type Row } from './model.ts'
import type { Overdue } from './overdue.ts'
import { Rates } from './rates.ts'
import { nameOf } from './tenures.ts'

const outcomes = new Set(['succeed', 'fail', 'release', 'unregister'])
const ofStorage = new Set(['STORAGE_FULL', 'STORAGE_UNAVAILABLE', 'STORAGE_CORRUPT', 'NOT_A_QUEUE'])

interface Key {
  id: number
  payload: string
  expiresAt: number
}

/** Of a queue that has no row yet: its job was inserted with plain SQL. */
const noLimits = { paused: 0, maxRunning: null, perKey: 1, freeAt: null }

/** Holds what callers are told against what the file says at that moment. */
export class Answers {
  /** Leases that were told, as `id token`. */
  readonly #told = new Set<string>()
  readonly #keys = new Map<string, Key>()
  readonly #ledger: Ledger
  readonly #overdue: Overdue
  readonly #rates = new Rates()
  /** Nobody knows which keys were used. */
  #isRestored = false

  constructor(ledger: Ledger, overdue: Overdue) {
    this.#ledger = ledger
    this.#overdue = overdue
  }

  check(call: Call, before: Snapshot, after: Snapshot): void {
    this.#rates.begin(call, before, after)
    const asked = new Map(call.asked.map((request) => [request.seq, request]))
    for (const reply of call.replies) {
      const request = asked.get(reply.seq)
      must(request !== undefined, 'each request is answered once', () => reply)
      const story = () => ({ request, reply: 'error' in reply ? reply.error.code : reply.value, now: call.now })
      if (isWild(request!)) continue
      if (request!.epoch !== undefined && request!.epoch !== after.epoch) {
        const isRefused = 'error' in reply || (Array.isArray(reply.value) && reply.value.length === 0) // replaced by a newer one
        must(isRefused, 'a token or worker id of another file fits nothing', story)
        continue
      }
      if ('error' in reply) this.#refused(request!, reply.error, call, before, after, story)
      else this.#done(request!, reply.value, call, before, after, story)
    }
    this.#unknownBulks(call, before, after)
    for (const event of call.events)
      if (event.event === 'leaseLost') must(!isHeld(after, event), 'a lease said to be lost is lost', () => event)
  }

  restored(): void {
    this.#keys.clear()
    this.#rates.forget()
    this.#told.clear() // tokens of another file fit nothing in this one
    this.#isRestored = true
  }

  wasTold({ id, token }: Row): boolean {
    return this.#told.has(`${id} ${token}`)
  }

  #done(request: Request, value: unknown, call: Call, before: Snapshot, after: Snapshot, story: () => unknown): void {
    const job = (id: number) => after.jobs.get(id)
    switch (request.operation) {
      case 'submit':
        this.#submitted(request.input as Input<'submit'>, value as Output<'submit'>, call, before, after, story)
        break
      case 'lease':
        this.#leased(request.input as LeaseRequest, readable(value as LeasedJob[]), call, before, after, story)
        break
      case 'succeed':
      case 'fail':
      case 'release': {
        const lease = (
          request.operation === 'release' ? request.input : (request.input as Input<'fail'>).lease
        ) as Lease
        must(!isHeld(after, lease), 'an outcome ends its lease', story)
        if (!before.jobs.has(lease.id)) break // it is gone: nothing can change
        if (this.#ledger.ends.has(nameOf(lease)) && !isHeld(before, lease)) break // sent again
        must(isHeld(before, lease), 'a stale lease is refused', story)
        this.#fate(lease.id, value as Fate, call, after, story)
        break
      }
      case 'heartbeat': {
        must(isHeld(before, request.input as Lease), 'a stale lease is refused', story)
        break
      }
      case 'cancel':
      case 'retry':
        this.#fate(request.input as number, value as Fate, call, after, story)
        break
      case 'remove':
        must(!after.jobs.has(request.input as number), 'a removed job is gone', story)
        break
      case 'wait': {
        const { id, state } = value as Job
        must(hasEnded(state) && (job(id)?.state ?? state) === state, 'who waits for an end hears of it', story)
      }
    }
  }

  /** The job is what its event answered, unless something else happened to it in the same call. */
  #fate(id: number, fate: Fate, call: Call, after: Snapshot, story: () => unknown): void {
    const row = after.jobs.get(id)
    const others = call.asked.filter(({ operation, input }) => operation !== 'lease' && aboutJob(input) === id)
    if (others.length > 1 || !row || row.startedAt === call.now || (row.finishedAt !== null) !== hasEnded(fate.state))
      return
    const { state, runAt, reason } = row
    if (fate.runAt !== null && fate.runAt <= call.now) return // due at once
    must(fate.state === state && fate.runAt === runAt && fate.reason === reason, 'an answer says what is', story)
  }

  /** On disk before it is told; the first of the ready jobs of the lines asked for; once; never more than the slots. */
  #leased(
    request: LeaseRequest,
    jobs: LeasedJob[],
    call: Call,
    before: Snapshot,
    after: Snapshot,
    story: () => unknown,
  ): void {
    const { elapsed, ended } = call
    const { worker, sources, slots, exclude } = request
    for (const { id, token, attempt } of jobs) {
      const row = after.jobs.get(id)
      const durable = row?.state === 'running' && row.token === token && row.attempt === attempt
      must(durable && row.worker === worker, 'a lease is on disk before its handler is told', story)
      must(!this.#told.has(`${id} ${token}`) && before.jobs.get(id)?.token !== token, 'a job is leased once', story)
      this.#told.add(`${id} ${token}`)
      must(isAmong(sources, row!) && !exclude.includes(id), 'a worker gets what it asked for', story)
      must(after.queues.get(row!.queue)!.paused === 0, 'a paused queue gives nothing', story)
    }
    if (jobs.length === 0) return
    this.#rates.told(jobs, call, after)
    const running = [...after.jobs.values()].filter((row) => row.state === 'running')
    for (const { id } of jobs) {
      const { queue, type, concurrency } = after.jobs.get(id)!
      const { maxRunning, perKey } = after.queues.get(queue)!
      const here = running.filter((row) => row.queue === queue)
      must(here.length <= (maxRunning ?? Number.POSITIVE_INFINITY), 'a queue runs at most maxRunning', story)
      const alike = here.filter((row) => row.type === type && row.concurrency === concurrency)
      must(concurrency === null || alike.length <= perKey, 'of a key at most maxRunningPerKey run', story)
    }
    const held = [...after.jobs.values()].filter((row) => row.state === 'running' && row.worker === worker)
    must(held.length <= slots, 'a worker holds at most as many jobs as it has slots', story)
    const last = after.jobs.get(jobs.at(-1)!.id)!
    const waited = ({ id, state }: Row) => state === 'ready' || before.jobs.get(id)?.state === 'ready' // another worker has it now
    const waits = [...after.jobs.values()].filter((row) => row.company !== null && waited(row))
    const drainedFor = ({ company, priority, id }: Row) =>
      company !== null || waits.some((row) => row.priority === priority && row.id > id)
    const overdue = this.#overdue.of(worker, after, last.startedAt!, elapsed)
    // What is due is made ready in a step that ends by the clock: where time has passed since the lock, the next goes on.
    const isRipe = ({ state, runAt }: Row) => state === 'scheduled' && runAt! <= last.startedAt! && elapsed === ended
    for (const row of after.jobs.values()) {
      const ready = row.state === 'ready' || isRipe(row)
      if (!ready || !isAmong(sources, row) || exclude.includes(row.id) || overdue.has(row.id)) continue
      if (row.deadline !== null && row.deadline <= last.startedAt!) continue // the next look finds it expired
      if (row.isNew && elapsed !== ended) continue // admission is such a step, too
      const { paused, maxRunning, perKey, freeAt } = after.queues.get(row.queue) ?? noLimits
      if (freeAt !== null && row.queue !== last.queue) continue // its rate is used up, though it came first
      if (paused || !hasPlace(row, after.jobs.values(), maxRunning, perKey)) continue
      const precedes = row.priority < last.priority || (row.priority === last.priority && row.id < last.id)
      // A process that drains for a job of limited company lets higher classes wait, so that it has room at last: it starts
      // that job, or an older one of its class.
      if (row.priority < last.priority && drainedFor(last)) continue
      must(!precedes, 'the first ready job goes first', () => [row, story()])
    }
    for (const [i, { priority, id }] of jobs.entries())
      must(i === 0 || jobs[i - 1]!.priority < priority || jobs[i - 1]!.id < id, 'jobs come in their order', story)
  }

  #submitted(
    { specs, payloads, keys }: Input<'submit'>,
    { ids, duplicates }: Output<'submit'>,
    { now, asked }: Call,
    before: Snapshot,
    after: Snapshot,
    story: () => unknown,
  ): void {
    for (const [i, payload] of payloads.entries()) {
      const spec = Array.isArray(specs) ? specs[i]! : specs
      const id = ids[i]!
      const isNew = !duplicates.includes(i)
      const key = keys?.[i] ?? null
      const removed = asked.some((request) => request.operation === 'remove' && request.input === id)
      if (isNew) must(after.jobs.get(id)?.payload === payload || removed, 'an acknowledged job is on disk', story)
      const { uniqueKey } = spec
      const isHeld = !isNew && uniqueKey !== null && this.#mayHold(id, uniqueKey, before, after, ids.slice(0, i))
      if (isHeld) continue // whatever its idempotency key is
      if (key === null) {
        must(isNew, 'only a key makes a duplicate', story)
        continue
      }
      const name = `${spec.queue} ${spec.type} ${key}`
      const first = this.#keys.get(name)
      if (!first && this.#isRestored) continue
      const valid = !first ? false : removed ? null : this.#isValid(first, now, before, after) // it was there until its removal
      if (isNew) must(valid !== true, 'a key is used once', story)
      else
        must(valid !== false && first!.id === id && first!.payload === payload, 'a duplicate gets the first job', story)
      if (isNew) this.#keys.set(name, { id, payload, expiresAt: now + spec.idempotencyWindow })
    }
  }

  /** Whether a job may have held a unique key at some moment of a call. */
  #mayHold(id: number, uniqueKey: string, before: Snapshot, after: Snapshot, sameBulk: number[]): boolean {
    const [was, is] = [before.jobs.get(id), after.jobs.get(id)]
    const held = (was && !hasEnded(was.state)) || (is && !hasEnded(is.state)) || sameBulk.includes(id) || !before.jobs.has(id) || is?.state !== was?.state // biome-ignore format: one line
    return (is ?? was)?.uniqueKey === uniqueKey && Boolean(held)
  }

  /** While its job exists or until its window is over, whichever is later, but a person who removes the job frees it; null where either may hold. */
  #isValid({ id, expiresAt }: Key, now: number, before: Snapshot, after: Snapshot): boolean | null {
    const [was, is] = [before.jobs.has(id), after.jobs.has(id)]
    if (was && is) return true
    return !was && !is && now >= expiresAt ? false : null
  }

  #refused(
    request: Request,
    { code, accepted }: GopherQueueError,
    call: Call,
    before: Snapshot,
    after: Snapshot,
    story: () => unknown,
  ): void {
    const { operation, input } = request
    must(!ofStorage.has(code) || call.faulty, 'nothing is refused for storage while storage is sound', story)
    if (outcomes.has(operation)) {
      must(code === 'LEASE_LOST', 'an outcome is held until it can be stored', story)
      const lease = (operation === 'release' ? input : (input as Input<'fail'>).lease) as Lease
      must(!isHeld(after, lease), 'a live lease is not refused', story)
      const isAgain = this.#ledger.ends.get(nameOf(lease)) === operation && after.jobs.has(lease.id)
      const stands = operation !== 'succeed' || after.jobs.get(lease.id)?.state === 'succeeded'
      must(!isAgain || !stands, 'a report that is on disk is not answered LEASE_LOST', story)
    }
    if (operation !== 'submit') return
    const { specs, payloads, keys } = input as Input<'submit'>
    if (accepted === 'no') {
      const stored = [...after.jobs.values()].some((row) => payloads.includes(row.payload) && !before.jobs.has(row.id))
      must(!stored || keys !== null, 'what was refused is not there', story)
    }
    if (code !== 'IDEMPOTENCY_CONFLICT' || this.#isRestored) return
    const conflicts = payloads.some((payload, i) => {
      const spec = Array.isArray(specs) ? specs[i]! : specs
      const first = this.#keys.get(`${spec.queue} ${spec.type} ${keys?.[i]}`)
      if (keys?.some((key, j) => key !== null && key === keys[i] && payloads[j] !== payload)) return true // in one bulk
      return first && first.payload !== payload && this.#isValid(first, call.now, before, after) !== false
    })
    must(conflicts, 'a conflict needs another payload under a valid key', story)
  }

  /** What nobody was told of is there as a whole or not at all; and whatever is there holds its key. */
  #unknownBulks({ asked, now }: Call, before: Snapshot, after: Snapshot): void {
    for (const { operation, input } of asked) {
      if (operation !== 'submit') continue
      const { specs, payloads, keys } = input as Input<'submit'>
      const rows = new Map<string, Row>()
      for (const row of after.jobs.values()) if (!before.jobs.has(row.id)) rows.set(row.payload, row)
      const isUnique = (i: number) => (Array.isArray(specs) ? specs[i]! : specs).uniqueKey !== null
      const unkeyed = payloads.filter((_, i) => (keys?.[i] ?? null) === null && !isUnique(i))
      const stored = payloads.filter((payload) => rows.has(payload))
      const whole = unkeyed.every((payload) => rows.has(payload)) || asked.some((r) => r.operation === 'remove')
      must(stored.length === 0 || whole, 'a bulk is stored as a whole or not at all', () => ({ input, stored }))
      for (const [i, payload] of payloads.entries()) {
        const row = rows.get(payload)
        const spec = Array.isArray(specs) ? specs[i]! : specs
        if (!row?.key || row.key !== keys?.[i]) continue
        const name = `${spec.queue} ${spec.type} ${row.key}`
        if (this.#keys.get(name)?.id !== row.id)
          this.#keys.set(name, { id: row.id, payload, expiresAt: now + spec.idempotencyWindow })
      }
    }
  }
}

/** Without those that somebody wrote who did not know what they mean. */
const readable = (jobs: LeasedJob[]): LeasedJob[] => jobs.filter(({ queue }) => queue !== 'w')

/** About such a job: nobody can say what the answer must be. */
function isWild({ operation, input }: Request): boolean {
  const lease = operation === 'succeed' || operation === 'fail' ? (input as Input<'fail'>).lease : input
  return operation !== 'submit' && (lease as Lease | null)?.queue === 'w'
}

const isHeld = ({ jobs }: Snapshot, { id, token }: { id: number; token: number }): boolean =>
  jobs.get(id)?.state === 'running' && jobs.get(id)!.token === token

const isAmong = (sources: LeaseRequest['sources'], { queue, type }: Row): boolean =>
  sources.some((source) => source.queue === queue && source.type === type)

/** The job that a request is about, if it is about one. */
function aboutJob(input: unknown): number | null {
  if (typeof input === 'number') return input
  if (typeof input !== 'object' || input === null) return null
  if ('lease' in input) return (input.lease as Lease).id
  return 'id' in input ? (input.id as number) : null
}
