import type { Clock } from '../../model/clock.ts'
import { operations } from '../operations.ts'
import type { Input, Operation, StoreEvent } from '../store.ts'
import { admit } from './admission.ts'
import { answerAll, writes } from './answer.ts'
import { App } from './app.ts'
import type { Condition } from './condition.ts'
import { whileBusy } from './connection.ts'
import type { Db } from './db.ts'
import { Gaps } from './gaps.ts'
import { Leases } from './leases.ts'
import { mustKnowSchema } from './newer.ts'
import { type Done, type Plan, plain, type Round } from './plan.ts'
import type { Reply, Request } from './request.ts'
import { preview } from './schedules.ts'
import { Tallies } from './tallies.ts'
import { Terms } from './terms.ts'
import { Upkeep } from './upkeep.ts'
import { type Fed, Waiting } from './waiting.ts'
import { countsWrong } from './warning.ts'
import { releaseSome } from './workers.ts'

/** How often to look whether storage is well again, where nobody works. */
const lookEvery = 250

const none: ReadonlySet<number> = new Set()

/** The transactions of an engine, and what memory knows by them: who waits, who works, and when to look again. */
export class Rounds {
  readonly #clock: Clock
  readonly #condition: Condition
  readonly #emit: (events: StoreEvent[]) => void
  readonly #tends: boolean
  readonly #waiting = new Waiting()
  readonly #workers = new Set<number>()
  /** Workers reached over the network: what they run is theirs to renew. */
  readonly #remotes = new Set<number>()
  readonly #leases = new Leases()
  readonly #terms = new Terms()
  readonly #gaps: Gaps
  readonly #upkeep: Upkeep
  readonly #app: App
  readonly #tallies = new Tallies()
  #dataVersion = 0
  /** Somebody else has committed since the last look for jobs to admit, or that look left some: it takes 15 us, half a submission's. */
  #mayBeNew = true

  constructor(
    clock: Clock,
    condition: Condition,
    { tends, asksApp }: { tends: boolean; asksApp: boolean },
    emit: (events: StoreEvent[]) => void,
  ) {
    this.#clock = clock
    this.#condition = condition
    this.#tends = tends
    this.#emit = emit
    this.#app = new App(asksApp, () => emit([{ event: 'ping' }]))
    this.#gaps = new Gaps(clock, (ms, monotonic) => {
      this.#terms.skip(ms, monotonic)
      this.#waiting.skip(ms)
    })
    this.#upkeep = new Upkeep(clock, condition, this.#gaps, this.#terms)
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
    else if (request.operation === 'vitals') this.#tallies.ask(request.seq)
    else if (request.operation === 'progress')
      replies.push(this.#leases.progress(request as Request<'progress'>, this.#clock.monotonic()))
    else if (request.operation === 'unregister') replies.push(...this.#waiting.forgetWorker(request.input as number))
    return settled !== null || request.operation === 'progress' || request.operation === 'vitals'
  }

  /** Finds out, on reads, what another process or time has made necessary. */
  look(db: Db): Round {
    const now = this.#clock.monotonic()
    this.#gaps.heed(now)
    this.#upkeep.began(now)
    const isDue = now >= this.#upkeep.lookAt
    const changed = whileBusy(() => this.#changedOutside(db))
    const lookAround = changed || (isDue && this.#waiting.isDue(now))
    if (lookAround) whileBusy(() => this.#waiting.lookAround(db))
    const found = isDue && whileBusy(() => this.#upkeep.look(db, this.#present)) // also while retention is behind
    const reaping = this.isAtWork && (found || this.#upkeep.isRetentionBehind(now))
    if (reaping) whileBusy(() => this.#upkeep.planTicks(db))
    if (lookAround || reaping) this.#hear(whileBusy(() => this.#leases.news(db, [...this.#workers, ...this.#remotes])))
    this.#gaps.heed(now)
    const telling = this.isAtWork && this.#leases.owesProgress(now)
    return { ...plain, reaping, lookAround, telling, probing: this.#condition.blocked }
  }

  /** The first look at a file. A fault of the storage is met again by the transaction that follows, which tells. */
  first(db: Db): Round {
    const now = this.#clock.monotonic()
    try {
      whileBusy(() => this.#upkeep.look(db, this.#present))
    } catch {
      // as told above
    }
    this.#gaps.heed(now)
    return { ...plain, reaping: true, opening: true }
  }

  /** Something came from the app's thread. True when its workers may have jobs again. */
  appLives(): boolean {
    const owed = this.#app.lives(this.#clock.monotonic())
    if (owed) for (const worker of this.#workers) this.#waiting.tryAgain(worker)
    return owed
  }

  /** The next look comes in `ms`. */
  expect(ms: number): void {
    this.#gaps.expect(ms)
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
    if (!watching) return this.#condition.ok ? Number.POSITIVE_INFINITY : lookEvery
    return this.isAtWork ? Math.max(1, Math.min(most, this.#upkeep.nextAt - this.#clock.monotonic())) : most
  }

  /** Each connection counts the changes of others from its own start: the next look takes all of the file for new. */
  lookAnew(): void {
    this.#dataVersion = -1
    this.#mayBeNew = true
    this.#waiting.forgetLines()
  }

  /** Lets go of those that wait for a job, a job's end or the vitals: their seqs. */
  giveUp(): number[] {
    return [...this.#waiting.giveUp(), ...this.#tallies.giveUp()]
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
    this.#mayBeNew ||= changed
    return changed
  }

  #versionOutside(db: Db): number {
    const { data_version: version } = db.get<{ data_version: number }>('PRAGMA data_version')!
    if (version !== this.#dataVersion) mustKnowSchema(db)
    return version
  }

  /** Runs requests in one transaction, with what the round is for, and feeds who waits. */
  run(db: Db, requests: Request[], round: Round, mayWrite: boolean): Reply[] {
    const plan = this.#plan(db, requests, round, mayWrite)
    const done = whileBusy(() => this.#transact(db, plan))
    this.#follow(db, plan, done)
    const vitals = plan.watched ? this.#tallies.answer(done.starving) : []
    return [...done.answers, ...this.#waiting.settle(done.fed, done.told, plan.writing), ...vitals]
  }

  /** What needs no lock is found out before it is taken. */
  #plan(db: Db, requests: Request[], round: Round, mayWrite: boolean): Plan {
    const { reaping, lookAround, probing, telling, leaving } = round
    const asked =
      reaping || probing || telling || leaving !== undefined || requests.some(({ operation }) => operation in writes)
    const watched = mayWrite && this.#tallies.isAsked
    const writing = asked || watched || (mayWrite && whileBusy(() => this.#waiting.mayFeed(db, lookAround)))
    const proving = writing && this.#condition.blocked
    if (writing) whileBusy(() => this.#waiting.prepare(db))
    preview(db, this.#clock.now(), requests)
    const before = this.#clock.monotonic()
    this.#gaps.heed(before)
    // A busy queue leaves ticks too little time for retention to keep up.
    const pruning = !reaping && asked && this.#upkeep.isRetentionBehind(before)
    const shrinking = reaping && whileBusy(() => this.#upkeep.mayShrink(db))
    return { ...round, requests, asked, watched, writing, proving, before, pruning, shrinking }
  }

  #transact(db: Db, plan: Plan): Done {
    try {
      db.begin(plan.writing ? 'write' : 'read')
      if (plan.writing) this.#condition.walMustBeWhole('no')
      const done = this.#work(db, plan)
      db.commit()
      if (plan.writing) this.#condition.mustBeThere('unknown') // else it went into a file that nobody will find
      return done
    } catch (error) {
      this.#gaps.heed(plan.before) // it took time in which nothing could be renewed
      db.rollback()
      this.lookAnew() // what others had changed since the last look was not heeded
      throw error
    }
  }

  /** All that one transaction does, between its BEGIN and its COMMIT. */
  #work(db: Db, plan: Plan): Done {
    const { requests, writing, lookAround, leaving } = plan
    const at = this.#clock.monotonic() // what judges a lease is read while nobody else can change one
    this.#gaps.heed(plan.before)
    // What another process made ready since the last tick goes first if its class is higher: every line counts then.
    const everywhere = this.#versionOutside(db) !== this.#dataVersion || lookAround // a newer schema is found here, too
    if (plan.proving) this.#probe(db)
    if (plan.asked) this.#leases.writeProgress(db)
    // What another process took is heard before anything is given: a handler that goes on keeps its job from starting here.
    const heard = writing && everywhere ? this.#leases.lostAmong(db, [...this.#workers, ...this.#remotes]) : []
    this.#waiting.goOn(heard, at)
    db.overAt = (lease) => {
      const left = this.#terms.left(lease, at)
      return left === null ? null : db.now + Math.ceil(left)
    }
    const admitting = writing && (everywhere || plan.reaping || this.#mayBeNew) && admit(db)
    const answers = answerAll(db, requests)
    if (leaving !== undefined) releaseSome(db, leaving)
    // After held outcomes: their attempts were over in time.
    const behind = this.#upkeep.work(db, plan, () => this.#present, at)
    const isSilent = this.#app.isSilent(at)
    const still = isSilent || this.#app.owesASign || db.appStandsStill
    const fed = writing ? this.#waiting.feed(db, everywhere, still ? this.#workers : none) : []
    const owesASign = db.appStandsStill || (isSilent && writing && this.#waiting.passedOver)
    const told = this.#waiting.tell(db, lookAround)
    const starving = plan.watched && this.#waiting.starving(db, fed)
    return { at, answers, fed, told, heard, behind, admitting, starving, owesASign }
  }

  /** The transaction is on disk: only now does memory follow. */
  #follow(db: Db, plan: Plan, done: Done): void {
    const { requests, writing, asked } = plan
    if (writing) this.#gaps.written()
    this.#gaps.heed(plan.before)
    if (writing) {
      this.#mayBeNew = done.admitting
      this.#waiting.committed(db)
    }
    if (asked) this.#leases.progressWritten()
    this.#followAnswers(requests, done.answers, db.epoch)
    this.#upkeep.done(db, plan, done.behind, done.admitting, this.isAtWork, done.at)
    const committed = this.#clock.monotonic() // a slow disk costs no attempt its time
    const lost = [...done.heard, ...db.lost].flatMap((lease) => this.#leases.lose(lease))
    const events = [...db.events, ...lost, ...this.#given(done.fed, committed)]
    this.#waiting.goOn(db.goOn, committed)
    this.#hear(events)
    if (done.owesASign) this.#app.mustShowLife()
    if (plan.proving) this.#condition.unblock()
    if (db.miscounted.size > 0) this.#condition.warn('COUNTS_WRONG', countsWrong([...db.miscounted]))
    const operations = requests.length + done.fed.length
    if (asked || done.fed.length > 0) this.#tallies.committed(db.commitMs)
    if (writing && operations > 0) this.#tallies.grouped(operations)
  }

  /** Jobs were leased. Answers with what their handlers have to hear of earlier leases. */
  #given(fed: Fed[], committed: number): StoreEvent[] {
    const events: StoreEvent[] = []
    for (const { request, jobs } of fed) {
      const isHere = this.#workers.has(request.input.worker)
      if (!isHere && jobs.length > 0) this.#remotes.add(request.input.worker) // it may have signed on with an earlier server
      for (const job of jobs) {
        events.push(...this.#leases.add(job))
        if (isHere) this.#terms.add(job, committed)
      }
    }
    return events
  }

  #probe(db: Db): void {
    db.nextSequence() // only what is written proves that writing works
    this.#leases.giveBackUntold(db, [...this.#workers])
  }

  #followAnswers(requests: Request[], answers: Reply[], present: string): void {
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
    this.#upkeep.lookAt = 0 // what it holds since earlier is watched from now on
  }

  #forget(worker: number): void {
    this.#waiting.forgetCompany(worker)
    this.#workers.delete(worker)
    this.#remotes.delete(worker)
  }
}
