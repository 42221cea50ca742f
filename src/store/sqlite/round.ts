import type { Clock } from '../../model/clock.ts'
import { formatMs } from '../../model/duration.ts'
import { operations } from '../operations.ts'
import type { Histogram, Input, Operation, StoreEvent, Vitals } from '../store.ts'
import { admit } from './admission.ts'
import { answerAll, writes } from './answer.ts'
import type { Condition } from './condition.ts'
import { whileBusy } from './connection.ts'
import type { Db } from './db.ts'
import { Delays } from './delays.ts'
import { Gaps } from './gaps.ts'
import { Leases } from './leases.ts'
import { mustKnowSchema } from './newer.ts'
import { nextDue, prune, pruneEvery, reap, reapIsDue } from './reaper.ts'
import type { Reply, Request } from './request.ts'
import { preview } from './schedules.ts'
import { giveBack, sparePages } from './space.ts'
import { Terms } from './terms.ts'
import { Ticks } from './ticks.ts'
import { Waiting } from './waiting.ts'
import type { Warning } from './warning.ts'
import { releaseSome } from './workers.ts'

/** How often at least the reaper looks, while this process works. */
const reapEvery = 250

/** After a longer silence the app's thread is asked for a sign of life before it is given jobs, in ms. */
const mostSilence = 100

/** What one transaction does besides what it was asked for. */
export interface Round {
  reaping: boolean
  /** The file is being opened: what processes left that are gone goes back, and no lease is taken from one that may live. */
  opening: boolean
  /** Another process may have changed anything. */
  lookAround: boolean
  /** The last write failed: finds out whether the next would not, also when nobody wants to write. */
  probing: boolean
  /** Progress has waited for a transaction long enough. */
  telling: boolean
  /** A worker that is about to be signed off: some of what it holds goes back. */
  leaving?: number
}

const none: ReadonlySet<number> = new Set()
export const plain: Round = { reaping: false, opening: false, lookAround: false, probing: false, telling: false }

/** The transactions of an engine, and what memory knows by them: who waits, who works, and when to look again. */
export class Rounds {
  readonly #clock: Clock
  readonly #condition: Condition
  readonly #emit: (events: StoreEvent[]) => void
  readonly #waiting = new Waiting()
  readonly #workers = new Set<number>()
  readonly #tends: boolean
  readonly #asksApp: boolean
  /** Workers reached over the network: what they run is theirs to renew. */
  readonly #remotes = new Set<number>()
  readonly #leases = new Leases()
  readonly #terms = new Terms()
  readonly #gaps: Gaps
  readonly #delays = new Delays()
  readonly #ticks = new Ticks()
  readonly #commits = histogram([0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 5000])
  readonly #groups = histogram([1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000])
  /** Seqs of those that ask for the vitals. */
  #watchers: number[] = []
  #dataVersion = 0
  /** When to look at the reaper's work next, on the monotonic clock: a wall clock set back must not put it off. */
  #wakeAt = 0
  /** When the last look began, on the monotonic clock: what had come from the app's thread by then has been taken in. */
  #lookedAt = 0
  /** The app's thread owes a sign of life: a job leased for it now might not start. */
  #appStandsStill = false
  /** When something came from the app's thread last, on the monotonic clock. */
  #appHeardAt = Number.POSITIVE_INFINITY
  /** When retention's next step is due, since the last one left some; infinity when it left none. On the monotonic clock. */
  #pruneAt = Number.POSITIVE_INFINITY

  constructor(
    clock: Clock,
    condition: Condition,
    { tends, asksApp }: { tends: boolean; asksApp: boolean },
    emit: (events: StoreEvent[]) => void,
  ) {
    this.#clock = clock
    this.#condition = condition
    this.#tends = tends
    this.#asksApp = asksApp
    this.#emit = emit
    this.#gaps = new Gaps(clock, (ms, monotonic) => {
      this.#terms.skip(ms, monotonic)
      this.#waiting.skip(ms)
    })
  }

  get isAtWork(): boolean {
    return this.#tends || this.#workers.size > 0
  }

  /** Those that are known to be there: of this process, or with a request that waits. */
  get #present(): number[] {
    return [...this.#workers, ...this.#waiting.workers()]
  }

  /** Takes what needs no transaction now; what it settles is added to `replies`. False for all else. */
  takes(request: Request, replies: Reply[]): boolean {
    const settled = this.#waiting.take(request)
    if (settled) replies.push(...settled)
    else if (request.operation === 'vitals') this.#watchers.push(request.seq)
    else if (request.operation === 'progress')
      replies.push(this.#leases.progress(request as Request<'progress'>, this.#clock.monotonic()))
    else if (request.operation === 'unregister') replies.push(...this.#waiting.forgetWorker(request.input as number))
    return settled !== null || request.operation === 'progress' || request.operation === 'vitals'
  }

  /** Finds out, on reads, what another process or time has made necessary. */
  look(db: Db): Round {
    const now = this.#clock.monotonic()
    this.#lookedAt = now
    this.#gaps.heed(now)
    this.#condition.warn('CLOCK_SET_BACK', clockSetBack(this.#delays.setBackBy(this.#clock.now(), now)))
    const changed = whileBusy(() => this.#changedOutside(db))
    const lookAround = changed || (now >= this.#wakeAt && this.#waiting.isDue(now))
    if (lookAround) whileBusy(() => this.#waiting.lookAround(db))
    const found = now >= this.#wakeAt && whileBusy(() => this.#lookAtReaping(db)) // also while retention is behind
    const reaping = this.isAtWork && (found || now >= this.#pruneAt)
    if (reaping) whileBusy(() => this.#ticks.plan(db))
    if (lookAround || reaping) this.#hear(whileBusy(() => this.#leases.news(db, [...this.#workers, ...this.#remotes])))
    this.#gaps.heed(now)
    const telling = this.isAtWork && this.#leases.owesProgress(now)
    return { ...plain, reaping, lookAround, telling, probing: this.#condition.blocked }
  }

  /** The first look at a file. A fault of the storage is met again by the transaction that follows, which tells. */
  first(db: Db): Round {
    const now = this.#clock.monotonic()
    try {
      whileBusy(() => this.#lookAtReaping(db))
    } catch {
      // as told above
    }
    this.#gaps.heed(now)
    return { ...plain, reaping: true, opening: true }
  }

  /** Something came from the app's thread. True when its workers may have jobs again. */
  appLives(): boolean {
    this.#appHeardAt = this.#clock.monotonic()
    const owed = this.#appStandsStill
    if (owed) for (const worker of this.#workers) this.#waiting.tryAgain(worker)
    this.#appStandsStill = false
    return owed
  }

  #askApp(): void {
    this.#appStandsStill = true
    if (this.#asksApp) this.#emit([{ event: 'ping' }])
  }

  /** The next look comes in `ms`. */
  expect(ms: number): void {
    this.#gaps.expect(ms)
  }

  /** Runs a transaction; also one that fails has taken time in which nothing could be renewed. */
  #timed<T>(before: number, work: () => T): T {
    try {
      return work()
    } catch (error) {
      this.#gaps.heed(before)
      throw error
    }
  }

  /** Handlers hear that their leases are lost; those that go on keep their jobs from starting beside them from now on. */
  #hear(events: StoreEvent[]): void {
    this.#emit(events)
    const lost = events.filter((event) => event.event === 'leaseLost')
    this.#waiting.goOn(lost, this.#clock.monotonic())
  }

  /** Ms until the next look is worth it, at most `most`; infinity when nobody here would want to know. */
  lookIn(most: number, held: number): number {
    const watching = this.isAtWork || this.#waiting.size + held > 0
    if (!watching) return this.#condition.ok ? Number.POSITIVE_INFINITY : reapEvery
    const next = Math.min(this.#wakeAt, this.#pruneAt)
    return this.isAtWork ? Math.max(1, Math.min(most, next - this.#clock.monotonic())) : most
  }

  /** Each connection counts the changes of others from its own start: the next look takes all of the file for new. */
  lookAnew(): void {
    this.#dataVersion = -1
    this.#waiting.forgetLines()
  }

  /** Lets go of those that wait for a job, a job's end or the vitals: their seqs. */
  giveUp(): number[] {
    return [...this.#waiting.giveUp(), ...this.#watchers.splice(0)]
  }

  /**
   * Another file is in the place of the one that gave these tokens and worker ids: what waits or is held is refused by
   * it, handlers hear that their leases are lost, and their workers register again. Answers with what is held.
   */
  ofAnotherFile(epoch: string, held: Request[]): Request[] {
    this.loseAll()
    this.#workers.clear()
    this.#remotes.clear()
    this.#waiting.areOf(epoch)
    return held.map((request) => ({ ...request, epoch: request.epoch ?? epoch }))
  }

  /** Tells the handlers of this process that their leases are over: it may renew and report nothing more. */
  loseAll(): void {
    this.#emit(this.#leases.loseAll())
  }

  /** Another process committed since this was last asked. */
  #changedOutside(db: Db): boolean {
    const version = this.#versionOutside(db)
    const changed = version !== this.#dataVersion
    this.#dataVersion = version
    return changed
  }

  #versionOutside(db: Db): number {
    const { data_version: version } = db.get<{ data_version: number }>('PRAGMA data_version')!
    if (version !== this.#dataVersion) mustKnowSchema(db)
    return version
  }

  /** Asked on a read, so that an idle process takes no write lock. */
  #lookAtReaping(db: Db): boolean {
    db.begin('read')
    try {
      this.#wakeAt = this.#clock.monotonic() + Math.min(reapEvery, nextDue(db) - db.now)
      const monotonic = this.#clock.monotonic()
      const early = this.#delays.behind(db.now, monotonic) > 0 && this.#delays.due(db.now, monotonic).length > 0
      const due = early || reapIsDue(db, this.#present, this.#terms, monotonic)
      return due || (this.#condition.mayShrink && sparePages(db, this.#condition.room !== null) > 0)
    } finally {
      db.rollback()
    }
  }

  /** Runs requests in one transaction, with what the round is for, and feeds who waits. */
  run(
    db: Db,
    requests: Request[],
    { reaping, opening, lookAround, probing, telling, leaving }: Round,
    mayWrite: boolean,
  ): Reply[] {
    const asked =
      reaping || probing || telling || leaving !== undefined || requests.some(({ operation }) => operation in writes)
    const watched = mayWrite && this.#watchers.length > 0
    const writing = asked || watched || (mayWrite && whileBusy(() => this.#waiting.mayFeed(db, lookAround)))
    const proving = writing && this.#condition.blocked
    if (writing) whileBusy(() => this.#waiting.prepare(db))
    preview(db, this.#clock.now(), requests)
    const before = this.#clock.monotonic()
    this.#gaps.heed(before)
    const pruning = !reaping && asked && before >= this.#pruneAt // a busy queue leaves ticks too little time to keep up
    // Only with all of the WAL in the file: else, while somebody reads, it would grow by all that is moved.
    const mayShrink = reaping && this.#pruneAt === Number.POSITIVE_INFINITY && this.#condition.mayShrink
    const { room } = this.#condition
    const shrinking =
      mayShrink && whileBusy(() => (room !== null || sparePages(db, false) > 0) && db.uncheckpointed() === 0)
    let starving = false
    let owesASign = false
    let at = before
    const work = () => {
      try {
        db.begin(writing ? 'write' : 'read')
        if (writing) this.#condition.walMustBeWhole('no')
        at = this.#clock.monotonic() // what judges a lease is read while nobody else can change one
        this.#gaps.heed(before)
        // What another process made ready since the last tick goes first if its class is higher: every line counts then.
        const everywhere = this.#versionOutside(db) !== this.#dataVersion || lookAround // a newer schema is found here, too
        if (proving) this.#probe(db)
        if (asked) this.#leases.writeProgress(db)
        // What another process took is heard before anything is given: a handler that goes on keeps its job from starting here.
        const heard = writing && everywhere ? this.#leases.lostAmong(db, [...this.#workers, ...this.#remotes]) : []
        this.#waiting.goOn(heard, at)
        db.overAt = (lease) => {
          const left = this.#terms.left(lease, at)
          return left === null ? null : db.now + Math.ceil(left)
        }
        const admitting = writing && admit(db)
        const answers = answerAll(db, requests)
        if (leaving !== undefined) releaseSome(db, leaving)
        let behind = pruning && prune(db)
        if (reaping) behind = this.#reap(db, at, opening) // after held outcomes: their attempts were over in time
        if (reaping && this.#ticks.fire(db, this.#condition.full)) behind = true
        if (shrinking) giveBack(db, room)
        const silent = this.#asksApp && at - this.#appHeardAt > mostSilence
        const still = silent || this.#appStandsStill || db.appStandsStill
        const fed = writing ? this.#waiting.feed(db, everywhere, still ? this.#workers : none) : []
        owesASign = db.appStandsStill || (silent && writing && this.#waiting.passedOver)
        const told = this.#waiting.tell(db, lookAround)
        starving = watched && this.#waiting.starving(db, fed)
        db.commit()
        if (writing) this.#condition.mustBeThere('unknown') // else it went into a file that nobody will find
        return { answers, fed, told, behind, heard, admitting }
      } catch (error) {
        db.rollback()
        this.lookAnew() // what others had changed since the last look was not heeded
        throw error
      }
    }
    const done = this.#timed(before, () => whileBusy(work))
    // All of it is on disk: only now does memory follow.
    if (writing) this.#gaps.written()
    this.#gaps.heed(before)
    if (writing) this.#waiting.committed(db)
    if (asked) this.#leases.progressWritten()
    this.#follow(requests, done.answers, db.epoch)
    const events = [...db.events, ...[...done.heard, ...db.lost].flatMap((lease) => this.#leases.lose(lease))]
    if (reaping) this.#terms.renewed(at)
    if (reaping || pruning)
      this.#pruneAt = done.behind ? this.#clock.monotonic() + pruneEvery : Number.POSITIVE_INFINITY
    const committed = this.#clock.monotonic() // a slow disk costs no attempt its time
    for (const { request, jobs } of done.fed) {
      const isHere = this.#workers.has(request.input.worker)
      if (!isHere && jobs.length > 0) this.#remotes.add(request.input.worker) // it may have signed on with an earlier server
      for (const job of jobs) {
        events.push(...this.#leases.add(job))
        if (isHere) this.#terms.add(job, committed)
      }
    }
    this.#waiting.goOn(db.goOn, committed)
    this.#hear(events)
    if (owesASign && !this.#appStandsStill) this.#askApp()
    this.#delays.forget(db.early)
    if (this.isAtWork) this.#delays.add(db.delayed, db.now, committed)
    this.#wakeAt = done.admitting ? 0 : Math.min(this.#wakeAt, this.#clock.monotonic() + db.soonest - db.now)
    if (proving) this.#condition.unblock()
    if (db.miscounted.size > 0) this.#condition.warn('COUNTS_WRONG', countsWrong([...db.miscounted]))
    const operations = requests.length + done.fed.length
    if (asked || done.fed.length > 0) count(this.#commits, db.commitMs)
    if (writing && operations > 0) count(this.#groups, operations)
    const vitals = watched ? this.#vitals(starving) : []
    return [...done.answers, ...this.#waiting.settle(done.fed, done.told, writing), ...vitals]
  }

  #reap(db: Db, monotonic: number, opening: boolean): boolean {
    const [workers, terms] = [this.#present, this.#terms]
    const early = this.#delays.behind(db.now, monotonic) > 0 ? this.#delays.due(db.now, monotonic) : []
    this.#delays.sweep(db.now, monotonic)
    return reap(db, { workers, terms, monotonic, lookedAt: this.#lookedAt, takes: this.#gaps.mayTake, opening, early })
  }

  #vitals(starving: boolean): Reply[] {
    const value: Vitals = { starving, commits: this.#commits, groups: this.#groups } // copied on their way out of here
    return this.#watchers.splice(0).map((seq) => ({ seq, value }))
  }

  #probe(db: Db): void {
    db.nextSequence() // only what is written proves that writing works
    this.#leases.giveBackUntold(db, [...this.#workers])
  }

  #follow(requests: Request[], answers: Reply[], present: string): void {
    for (const [i, { operation, input, epoch = present }] of requests.entries()) {
      if (epoch !== present) continue // of a file that was replaced: a lease of this one may have the same id and token
      const answer = answers[i]!
      const { ends } = operations[operation as Operation]
      if (typeof ends === 'function') this.#leases.end(ends(input as never))
      else if (ends === 'worker') this.#forget(input as number)
      else if (operation === 'register' && 'value' in answer)
        this.#startWork(answer.value as number, input as Input<'register'>)
    }
  }

  #startWork(worker: number, { known, remote }: Input<'register'>): void {
    if (!this.isAtWork) this.#terms.watchAnew(this.#clock.monotonic()) // who has no work does not look
    if (known !== undefined) this.#forget(known) // its earlier row may be gone, or another's by now
    if (remote !== undefined) this.#remotes.add(worker)
    else this.#workers.add(worker)
    this.#condition.lookSoon() // space is set aside before the first job runs
    this.#wakeAt = 0 // what it holds since earlier is watched from now on
  }

  #forget(worker: number): void {
    this.#waiting.forgetCompany(worker)
    this.#workers.delete(worker)
    this.#remotes.delete(worker)
  }
}

function clockSetBack(ms: number): Warning | null {
  if (ms === 0) return null
  return {
    code: 'CLOCK_SET_BACK',
    message: `The wall clock was set back by ${formatMs(ms)}. Backoffs and delays go on as they were; what is named by the clock (runAt, deadline, schedules) comes so much later.`,
  }
}

const countsWrong = (queues: string[]): Warning => ({
  code: 'COUNTS_WRONG',
  message: `Fewer jobs are counted in gq_queues than there are, in ${queues
    .slice(0, 3)
    .map((name) => `'${name}'`)
    .join(
      ', ',
    )}: somebody has changed the file by other means. Jobs run; what stats and limits say of these queues is wrong. 'gopherqueue doctor' says what the counts should be.`,
})

const histogram = (bounds: number[]): Histogram => ({ bounds, counts: [...bounds, 0].fill(0), sum: 0 })

function count(into: Histogram, value: number): void {
  let i = 0
  while (value > into.bounds[i]!) i++ // false of what is beyond the last
  into.counts[i]!++
  into.sum += value
}
