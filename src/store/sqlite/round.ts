import type { Clock } from '../../model/clock.ts'
import type { Input, StoreEvent } from '../store.ts'
import { admit } from './admission.ts'
import { answerAll, writes } from './answer.ts'
import { App } from './app.ts'
import type { Condition } from './condition.ts'
import { whileBusy } from './connection.ts'
import { Crew } from './crew.ts'
import type { Db } from './db.ts'
import { firstReads } from './foreseen.ts'
import { Gaps } from './gaps.ts'
import { movedError } from './moved.ts'
import { forgetEmptied } from './names.ts'
import { Others } from './others.ts'
import { type Done, type Plan, plain, type Round } from './plan.ts'
import type { Reply, Request } from './request.ts'
import { preview } from './schedules.ts'
import { Tallies } from './tallies.ts'
import { Upkeep } from './upkeep.ts'
import { Waiting } from './waiting.ts'
import { countsWrong } from './warning.ts'
import { releaseSome } from './workers.ts'

/** How often an engine without workers tests storage that has failed, in ms. */
const checkEvery = 250
const none: ReadonlySet<number> = new Set()

/** Runs the transactions of an engine, and keeps what memory knows of them: who waits, who works, when to tick next. */
export class Rounds {
  readonly #clock: Clock
  readonly #condition: Condition
  readonly #emit: (events: StoreEvent[]) => void
  readonly #tends: boolean
  readonly #waiting = new Waiting()
  readonly #crew = new Crew()
  readonly #gaps: Gaps
  readonly #upkeep: Upkeep
  readonly #app: App
  readonly #tallies = new Tallies()
  readonly #others = new Others()

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
    const skip = (ms: number, monotonic: number) => {
      this.#crew.terms.skip(ms, monotonic)
      this.#waiting.company.skip(ms, monotonic)
    }
    this.#gaps = new Gaps(clock, skip, (ms) => this.#crew.terms.waited(ms))
    this.#upkeep = new Upkeep(clock, condition, this.#gaps, this.#crew.terms)
  }

  get isAtWork(): boolean {
    return this.#tends || this.#crew.own.size > 0
  }

  /** Nobody here waits for what others commit. */
  get #isAlone(): boolean {
    return !this.isAtWork && this.#waiting.size === 0
  }

  /** Workers that are known to live: those of this process, and those with a request that waits. */
  get #present(): number[] {
    return [...this.#crew.own, ...this.#waiting.workers()]
  }

  /** Handles a request that needs no transaction now, and adds what it settles to `replies`. False for any other request. */
  handlesInMemory(request: Request, replies: Reply[]): boolean {
    const settled = this.#waiting.keep(request)
    if (settled) replies.push(...settled)
    else if (request.operation === 'vitals') this.#tallies.ask(request.seq)
    else if (request.operation === 'progress')
      replies.push(this.#crew.leases.progress(request as Request<'progress'>, this.#clock.monotonic()))
    else if (request.operation === 'unregister') replies.push(...this.#waiting.forgetWorker(request.input as number))
    return settled !== null || request.operation === 'progress' || request.operation === 'vitals'
  }

  /** Finds out on reads, without the write lock, what another process or time has made necessary. */
  look(db: Db): Round {
    const now = this.#clock.monotonic()
    this.#gaps.check(now)
    this.#upkeep.began(now)
    const isDue = now >= this.#upkeep.checkAt
    const changed = whileBusy(() => this.#others.haveCommitted(db))
    if (changed) this.#upkeep.changed()
    const othersChanged = changed || (isDue && this.#waiting.company.isDue(now))
    this.#condition.warn('MOVED', db.movedTo && movedError(db.movedTo))
    if (othersChanged) whileBusy(() => this.#waiting.findReady(db))
    const found = isDue && whileBusy(() => this.#upkeep.look(db, this.#present))
    const reaping = this.isAtWork && (found || this.#upkeep.isRetentionBehind(now))
    if (reaping) whileBusy(() => this.#upkeep.planTicks(db))
    if (othersChanged || reaping) this.#tell(whileBusy(() => this.#crew.leases.news(db, this.#crew.all)))
    this.#gaps.check(now)
    const progressDue = this.isAtWork && this.#crew.leases.owesProgress(now)
    return { ...plain, reaping, othersChanged, progressDue, probing: this.#condition.blocked }
  }

  /** What the first transaction on a file is for. */
  first(db: Db): Round {
    const now = this.#clock.monotonic()
    try {
      whileBusy(() => this.#upkeep.opens(db, this.#present))
    } catch {
      // The transaction that follows meets the same fault, and reports it.
    }
    this.#gaps.check(now)
    return { ...plain, reaping: true, opening: true }
  }

  /** The app's thread has called, so it lives. True when its workers, which were passed over, may have jobs again. */
  appLives(): boolean {
    const owed = this.#app.lives(this.#clock.monotonic())
    if (owed) for (const worker of this.#crew.own) this.#waiting.tryAgain(worker)
    return owed
  }

  /** The next tick comes in `ms`. */
  expect(ms: number): void {
    this.#gaps.expect(ms)
  }

  /** Tells handlers of lost leases. From now on a job does not start here beside a handler of it that goes on. */
  #tell(events: StoreEvent[]): void {
    this.#emit(events)
    this.#waiting.company.goOn(events.filter((event) => event.event === 'leaseLost'), this.#clock.monotonic()) // biome-ignore format: one call
  }

  /** Ms until the next tick, at most `most`; infinity when nothing here waits for one. `deferred`: outcomes to be stored. */
  tickIn(most: number, deferred: number): number {
    if (this.#isAlone && deferred === 0) return this.#condition.ok ? Number.POSITIVE_INFINITY : checkEvery
    return this.isAtWork ? Math.max(1, Math.min(most, this.#upkeep.nextAt - this.#clock.monotonic())) : most
  }

  /** After a reconnect or a rollback, what memory knows of the file may not be in it. */
  assumeAllChanged(): void {
    this.#others.forget()
    this.#waiting.forgetLines()
  }

  /** Forgets all requests that wait for a job, a job's end or the vitals, and returns their seqs. */
  giveUp(): number[] {
    return [...this.#waiting.giveUp(), ...this.#tallies.giveUp()]
  }

  /**
   * The path names another file than the one that issued these tokens and worker ids. Requests that wait and deferred
   * outcomes keep the old epoch, so the new file refuses them; handlers hear of lost leases, and workers register again.
   */
  ofAnotherFile(epoch: string, deferred: Request[]): Request[] {
    this.loseAll()
    this.#crew.clear()
    this.#waiting.areOf(epoch)
    return deferred.map((request) => ({ ...request, epoch: request.epoch ?? epoch }))
  }

  /** Tells the handlers of this process that their leases are over: it can renew and report nothing more. */
  loseAll(): void {
    this.#emit(this.#crew.leases.loseAll())
  }

  /** Runs requests and the tasks of a round in one transaction, and leases jobs to workers that wait. */
  run(db: Db, requests: Request[], round: Round, mayWrite: boolean): Reply[] {
    const plan = this.#plan(db, requests, round, mayWrite)
    const done = whileBusy(() => this.#transact(db, plan))
    this.#follow(db, plan, done)
    const settled = this.#waiting.settle(done.assigned, done.ended, plan.writing)
    return [...done.answers, ...settled, ...(plan.watched ? this.#tallies.answer(done.starving) : [])]
  }

  /** Reads whatever can be read before the write lock is taken. */
  #plan(db: Db, requests: Request[], round: Round, mayWrite: boolean): Plan {
    const { reaping, othersChanged, probing, progressDue, leaving } = round
    const hasTask = reaping || probing || progressDue || leaving !== undefined
    const asked = hasTask || requests.some(({ operation }) => operation in writes)
    const watched = mayWrite && this.#tallies.isAsked
    const writing =
      asked || watched || (mayWrite && !db.movedTo && whileBusy(() => this.#waiting.mayAssign(db, othersChanged)))
    const proving = writing && this.#condition.blocked
    if (writing) whileBusy(() => this.#waiting.prepare(db))
    preview(db, this.#clock.now(), requests)
    const before = this.#clock.monotonic()
    this.#gaps.check(before)
    // A queue that is always busy ticks too rarely for retention to keep up: a transaction of requests prunes, too.
    const pruning = !reaping && asked && this.#upkeep.isRetentionBehind(before)
    const shrinking = reaping && whileBusy(() => this.#upkeep.mayShrink(db))
    return { ...round, requests, asked, watched, writing, proving, before, pruning, shrinking }
  }

  #transact(db: Db, plan: Plan): Done {
    db.ahead(() => firstReads(plan.requests))
    try {
      db.begin(plan.writing ? 'write' : 'read')
    } catch (error) {
      this.#gaps.check(plan.before) // no lease could be renewed while it waited for the lock
      throw error
    }
    try {
      if (plan.writing) this.#condition.walMustBeWhole()
      const done = this.#work(db, plan)
      forgetEmptied(db)
      db.commit()
      if (plan.writing) this.#condition.mustBeThere('unknown') // else the commit went into a file that was deleted or replaced
      return done
    } catch (error) {
      this.#gaps.check(plan.before) // no lease could be renewed while it ran
      db.rollback()
      this.assumeAllChanged() // what it learned of other connections' changes was rolled back with it
      throw error
    }
  }

  /** Everything that one transaction does between BEGIN and COMMIT. */
  #work(db: Db, plan: Plan): Done {
    const { requests, writing, othersChanged, leaving } = plan
    const at = this.#clock.monotonic() // read under the lock: no other process can renew a lease between this and its judgement
    this.#gaps.check(plan.before)
    // Another process may have made jobs of a higher class ready since the last tick: then every line is looked at.
    const { version, changed } = this.#others.peek(db) // a newer schema is found here, too
    const everywhere = changed || othersChanged
    if (everywhere) db.names.lines.clear()
    if (plan.proving) {
      db.nextSequence() // only a write proves that writing works
      this.#crew.leases.giveBackUntold(db, [...this.#crew.own])
    }
    if (plan.asked) this.#crew.leases.writeProgress(db)
    // Before jobs are leased: a job that another process took must not start here beside its handler that still runs.
    const takenElsewhere = writing && everywhere ? this.#crew.takenElsewhere(db, this.#waiting.workers()) : []
    if (takenElsewhere.length > 0) this.#waiting.company.goOn(takenElsewhere, at)
    db.counts = (one) => this.#waiting.company.counts(one, db.now, at)
    db.overAt = (lease) => {
      const left = this.#crew.terms.left(lease, at)
      return left === null ? null : db.now + Math.ceil(left)
    }
    const admitting = writing && (everywhere || plan.reaping || this.#others.mayHaveInserted) && admit(db)
    const answers = answerAll(db, requests)
    if (leaving !== undefined) releaseSome(db, leaving)
    // After deferred outcomes, or an attempt that ended in time would be taken for one that timed out.
    const behind = this.#upkeep.work(db, plan, () => this.#present, at)
    const isSilent = this.#app.isSilent(at)
    const still = isSilent || this.#app.owesASign || db.appStandsStill
    const assigned = writing && !db.movedTo ? this.#waiting.assign(db, everywhere, still ? this.#crew.own : none) : []
    const owesASign = db.appStandsStill || (isSilent && writing && this.#waiting.passedOver)
    const ended = this.#waiting.findEnded(db, othersChanged)
    const starving = plan.watched && this.#waiting.starving(db, assigned)
    return { at, version, answers, assigned, ended, takenElsewhere, behind, admitting, starving, owesASign }
  }

  /**
   * Updates memory after COMMIT: before, a failed COMMIT would leave memory ahead of the file. Only hints for the next claim
   * change earlier (who is full, held back or read); after a rollback all are tried again.
   */
  #follow(db: Db, plan: Plan, done: Done): void {
    const { requests, writing, asked } = plan
    if (writing) {
      this.#gaps.written()
      this.#others.mayHaveInserted = done.admitting
      if (this.#isAlone) this.#others.saw(done.version) // no look comes, or each submission would look for changes anew
      this.#waiting.committed(db)
    }
    this.#gaps.check(plan.before)
    if (asked) this.#crew.leases.progressWritten()
    for (const { worker, registered } of this.#crew.follow(requests, done.answers, db.epoch))
      if (registered) this.#startWork(worker, registered)
      else this.#forget(worker)
    this.#condition.warn('MOVED', db.movedTo && movedError(db.movedTo))
    this.#upkeep.done(db, plan, done.behind, done.admitting, this.isAtWork, done.at)
    const committed = this.#clock.monotonic() // the time of an attempt begins after fsync: a slow disk must not shorten it
    const lost = [...done.takenElsewhere, ...db.lost].flatMap((lease) => this.#crew.leases.lose(lease))
    const events = [...db.events, ...lost, ...this.#crew.given(done.assigned, committed)]
    this.#waiting.company.goOn(db.goOn, committed)
    if (events.length > 0) this.#tell(events)
    if (done.owesASign) this.#app.mustShowLife()
    if (plan.proving) this.#condition.unblock()
    if (db.miscounted.size > 0) this.#condition.warn('COUNTS_WRONG', countsWrong([...db.miscounted]))
    const operations = requests.length + done.assigned.length
    if (asked || done.assigned.length > 0) this.#tallies.committed(db.commitMs)
    if (writing && operations > 0) this.#tallies.grouped(operations)
  }

  #startWork(worker: number, { known, remote }: Input<'register'>): void {
    if (!this.isAtWork) this.#crew.terms.watchAnew(this.#clock.monotonic()) // an engine without workers watches no leases
    if (known !== undefined) this.#forget(known) // the worker's earlier id may be another worker's by now
    this.#crew.add(worker, remote !== undefined)
    this.#condition.checkSoon() // space is set aside before the first job runs
    this.#upkeep.checkAt = 0 // the leases that it has from before are watched from now on
  }

  #forget(worker: number): void {
    this.#waiting.forgetCompany(worker)
    this.#crew.forget(worker)
  }
}
