/** One deliberate break of a promise, and the test files that must notice. */
export interface Mutant {
  name: string
  /** What the product then does wrong. */
  breaks: string
  /** Each text stands exactly once in its file, below src. */
  edits: [file: string, find: string, replace: string][]
  tests: string[]
}

const attempt = 'store/sqlite/attempt.ts'
const decide = 'model/decide.ts'
const decided = 'store/sqlite/decided.ts'
const claim = 'store/sqlite/claim.ts'
const commit = 'store/sqlite/commit.ts'
const condition = 'store/sqlite/condition.ts'
const connection = 'store/sqlite/connection.ts'
const db = 'store/sqlite/db.ts'
const delivery = 'store/sqlite/delivery.ts'
const disk = 'store/sqlite/disk.ts'
const leases = 'store/sqlite/leases.ts'
const operator = 'store/sqlite/operator.ts'
const rate = 'store/sqlite/rate.ts'
const receipts = 'store/sqlite/receipts.ts'
const reaper = 'store/sqlite/reaper.ts'
const reclaim = 'store/sqlite/reclaim.ts'
const company = 'store/sqlite/company.ts'
const terms = 'store/sqlite/terms.ts'
const round = 'store/sqlite/round.ts'
const schema = 'store/sqlite/schema/001.ts'
const search = 'store/sqlite/search.ts'
const places = 'store/sqlite/places.ts'
const session = 'store/sqlite/session.ts'
const submit = 'store/sqlite/submit.ts'
const upkeep = 'store/sqlite/upkeep.ts'
const handlers = 'queue/attempt.ts'
const auth = 'server/auth.ts'
const guard = 'server/guard.ts'
const tracing = 'queue/trace.ts'
const worker = 'queue/worker.ts'

const contract = ['tests/contract/memory.test.ts']
const door = ['tests/server/auth.test.ts']
const copies = ['tests/store/copies.test.ts']
const faultyDisk = ['tests/store/disk.test.ts']
const recovery = ['tests/contract/recovery.test.ts']
const space = ['tests/store/space.test.ts']
const powerCut = ['tests/power/power.test.ts']

const migrated = "whileBusy(() => migrate(connection, () => db.run('BEGIN IMMEDIATE')))"
const commits = `db.commit()
      if (plan.writing) this.#condition.mustBeThere('unknown') // else the commit went into a file that was deleted or replaced
      return done`

export const mutants: Mutant[] = [
  // Durability
  {
    name: 'sync-normal',
    breaks: 'commits without fsync (synchronous=NORMAL, set after the assertion)',
    edits: [[connection, migrated, `${migrated}\n    connection.exec('PRAGMA synchronous = NORMAL')`]],
    tests: powerCut,
  },
  {
    name: 'sync-off',
    breaks: 'never syncs (synchronous=OFF, set after the assertion)',
    edits: [[connection, migrated, `${migrated}\n    connection.exec('PRAGMA synchronous = OFF')`]],
    tests: powerCut,
  },
  {
    name: 'sync-unasserted',
    breaks: 'asks for no fsync at each commit, and would not notice',
    edits: [
      [connection, 'PRAGMA synchronous = FULL; ', 'PRAGMA synchronous = NORMAL; '],
      [connection, ' || row.synchronous !== 2)', ')'],
    ],
    tests: ['tests/crash/synced.test.ts'],
  },
  {
    name: 'early-acknowledgement',
    breaks: 'answers before COMMIT, which follows a little later',
    edits: [
      [
        round,
        commits,
        `setTimeout(() => db.connection.isTransaction && db.commit(), 5)
      return done`,
      ],
      [db, 'this.start(kind)', 'if (this.connection.isTransaction) this.commit()\n    this.start(kind)'],
    ],
    tests: powerCut,
  },
  {
    name: 'early-memory',
    breaks: 'takes a lease request for answered before COMMIT: when that fails, nobody ever answers',
    edits: [[round, commits, `this.#waiting.settle(done.assigned, done.ended, true)\n      ${commits}`]],
    tests: faultyDisk,
  },
  {
    name: 'commit-taken-for-lost',
    breaks: 'takes a COMMIT on PostgreSQL whose answer was lost for one that did not take place',
    edits: [
      ['store/postgres/marks.ts', 'if (found) return found[1] === n && found[0] === id', 'if (found) return false'],
    ],
    tests: ['tests/postgres/lost.test.ts'],
  },
  {
    name: 'lost-taken-for-commit',
    breaks: 'acknowledges a COMMIT on PostgreSQL whose answer was lost without asking whether it took place',
    edits: [['store/postgres/db.ts', 'if (!isThere(this.connection, mark)) break', 'isThere(this.connection, mark)']],
    tests: ['tests/postgres/lost.test.ts'],
  },
  {
    name: 'postgres-upgrade-unnoticed',
    breaks:
      'brings the schema on PostgreSQL forward without a new mark, by which processes of older versions notice it',
    edits: [['store/postgres/schema.ts', 'seq FROM gq_marks ORDER', 'seq FROM gq_marks WHERE false ORDER']],
    tests: ['tests/postgres/upgrade.test.ts'],
  },
  {
    name: 'postgres-waits-for-keys',
    breaks: 'waits, with the lock of all writers, for a transaction of an app that takes a key',
    edits: [['store/sqlite/session.ts', "return !sql.includes('?') ||", 'return true ||']],
    tests: ['tests/postgres/transaction.test.ts'],
  },
  {
    name: 'postgres-same-numbers',
    breaks: 'goes on with its numbers as if no app had inserted a job',
    edits: [['store/postgres/numbers.ts', 'this.last = taken ?? last', 'this.last = last']],
    tests: ['tests/postgres/transaction.test.ts'],
  },
  {
    name: 'read-before-the-write',
    breaks: 'answers a read on PostgreSQL with what was there before the transaction wrote',
    edits: [['store/postgres/ahead.ts', '!changesNothing.test(text)', 'false']],
    tests: ['tests/postgres/flights.test.ts'],
  },
  {
    name: 'others-passed-over',
    breaks: 'passes over a job that another process on PostgreSQL has made ready again',
    edits: [
      ['store/postgres/db.ts', 'this.#lows.lower(readied ?? 0)', 'this.#lows.lower(beyondIds)'],
      ['store/postgres/db.ts', 'import { Lows }', 'import { beyondIds, Lows }'],
    ],
    tests: ['tests/postgres/snapshot.test.ts'],
  },
  {
    name: 'refused-together',
    breaks: 'refuses all that shares a transaction with a job that the server does not take',
    edits: [['store/sqlite/commit.ts', '!this.#db.committing && now.length > 1', 'false']],
    tests: ['tests/postgres/flights.test.ts'],
  },
  {
    name: 'half-a-bulk',
    breaks: 'leaves the first half of a bulk that was refused (no savepoint)',
    edits: [[session, "this.run('ROLLBACK TO operation')\n", '\n']],
    tests: contract,
  },
  {
    name: 'counted-for-nothing',
    breaks: 'counts jobs of a bulk that was refused',
    edits: [[db, 'for (const undo of this.#undo.reverse()) undo()', '']],
    tests: contract,
  },
  {
    name: 'success-still-fails',
    breaks: 'counts a job as failing that has succeeded since',
    edits: [[attempt, '      leaveCause(db, failing)\n', '']],
    tests: contract,
  },
  {
    name: 'two-causes',
    breaks: 'leaves a job counted under the cause that it had before',
    edits: [['store/sqlite/cause-rows.ts', 'if (before) this.#count(before, -1, before.lastAt)', '']],
    tests: ['tests/sim.test.ts'],
  },
  {
    name: 'one-spoils-all',
    breaks: 'refuses all that share a transaction when one of them does not fit',
    edits: [
      [
        'store/sqlite/answer.ts',
        'return alike.map((request) => answer(db, request))',
        'return alike.map(({ seq }) => ({ seq, error: error as GopherQueueError }))',
      ],
    ],
    tests: ['tests/queue/submit.test.ts'],
  },
  {
    name: 'reused-ids',
    breaks: 'gives the id of a removed job again',
    edits: [
      [schema, 'id                  INTEGER PRIMARY KEY AUTOINCREMENT', 'id                  INTEGER PRIMARY KEY'],
    ],
    tests: contract,
  },

  // Attempts and leases
  {
    name: 'late-count',
    breaks: 'counts an attempt when it ends, not before its handler starts',
    edits: [
      [claim, 'attempt = attempt + 1, lease_token = ?2', 'lease_token = ?2'],
      [
        claim,
        'payload, attempt, attempt - budget_from AS tries',
        'payload, attempt + 1 AS attempt, attempt + 1 - budget_from AS tries',
      ],
      [schema, ' AND attempt > budget_from', ''],
      [attempt, ', result = ?4', ', attempt = attempt + 1, result = ?4'],
      [decide, 'attempt - budgetFrom', 'attempt + 1 - budgetFrom'],
      [
        decide,
        'const { attempt, worker, startedAt,',
        "const attempt = job.attempt + Number(outcome !== 'lost')\n  const { worker, startedAt,",
      ],
      [decide, 'company: null, losses: 0 }', 'company: null, losses: 0, attempt: job.attempt + 1 }'],
      [decide, 'attempt: job.attempt - 1, undelivered', 'attempt: job.attempt, undelivered'],
      [decide, 'attempt: job.attempt - 1,\n', 'attempt: job.attempt,\n'],
    ],
    tests: powerCut,
  },
  {
    name: 'unique-look',
    breaks: 'stores a second job of a unique key: its index does not decide',
    edits: [
      ['store/sqlite/schema/002.ts', 'CREATE UNIQUE INDEX gq_jobs_unique', 'CREATE INDEX gq_jobs_unique'],
      [
        submit,
        '\n  ON CONFLICT (queue, type, unique_key) WHERE unique_key IS NOT NULL AND finished_at IS NULL DO NOTHING',
        '',
      ],
    ],
    tests: contract,
  },
  {
    name: 'unique-retry',
    breaks: 'retries a job whose unique key another job holds',
    edits: [[operator, 'uniqueKey === null || !isTerminal(state)', 'uniqueKey === null || isTerminal(state)']],
    tests: contract,
  },
  {
    name: 'postpone-charged',
    breaks: 'counts the attempt of a handler that puts its job off',
    edits: [[decide, 'attempt: job.attempt - 1,\n', 'attempt: job.attempt,\n']],
    tests: contract,
  },
  {
    name: 'postpone-endless',
    breaks: 'lets a handler put its job off for ever',
    edits: [[decide, 'job.postponed >= mostPostponed', 'job.postponed < 0']],
    tests: contract,
  },
  {
    name: 'postpone-unheard',
    breaks: 'refuses a Postpone that is reported again, since its answer was lost',
    edits: [[attempt, 'if (!decision.record) keepFate', 'if (decision.record) keepFate']],
    tests: contract,
  },
  {
    name: 'stale-success',
    breaks: 'takes the success of an attempt whose lease is over',
    edits: [[attempt, 'AND lease_token = ?3 AND queue = ?2', 'AND ?3 IS NOT NULL AND queue = ?2']],
    tests: contract,
  },
  {
    name: 'stale-failure',
    breaks: 'takes the failure or the release of an attempt whose lease is over',
    edits: [
      [decided, "AND j.state = 'running' AND j.lease_token = ?2`", "AND j.state = 'running' AND ?2 IS NOT NULL`"],
    ],
    tests: contract,
  },
  {
    name: 'stale-heartbeat',
    breaks: 'lets an attempt whose lease is over extend the lease of the next',
    edits: [
      [
        attempt,
        "AND state = 'running' AND lease_token = ?2\n     RETURNING",
        "AND state = 'running' AND ?2 IS NOT NULL\n     RETURNING",
      ],
    ],
    tests: contract,
  },
  {
    name: 'hasty-reaper',
    breaks: 'takes running jobs back although their lease lives',
    edits: [[terms, 'overSince === null && (expiresAt <= now || unchangedAt <= monotonic)', 'overSince === null']],
    tests: contract,
  },
  {
    name: 'idle-reaper',
    breaks: 'never takes back a job whose lease is over',
    edits: [[reclaim, '    if (job) reclaimSilent(db, job)\n', '']],
    tests: contract,
  },
  {
    name: 'patient-recovery',
    breaks: 'leaves the jobs of a killed process to their leases',
    edits: [[reaper, '    left.push(reclaimDeadWorkers(db))\n', '']],
    tests: recovery,
  },
  {
    name: 'mistaken-identity',
    breaks: 'takes any process with the id of a dead worker for that worker',
    edits: [
      ['store/sqlite/processes.ts', 'return startOf(row.pid) === row.pid_started', 'return startOf(row.pid) !== null'],
    ],
    tests: recovery,
  },
  {
    name: 'outage-ends-leases',
    breaks: 'ends leases of workers on the network that ran out while their server was away',
    edits: [[terms, 'seen >= leastWatch && overBefore + seen >= life / 2', 'overBefore + seen + life > 0']],
    tests: ['tests/store/remote.test.ts'],
  },
  {
    name: 'set-clock-ends-attempt',
    breaks: 'ends an attempt that a new server finds renewed beyond its end, as its wall clock was set forward',
    edits: [[terms, 'CASE WHEN lease_expires_at >', 'CASE WHEN NULL >']],
    tests: ['tests/store/delivery.test.ts'],
  },
  {
    name: 'workers-for-ever',
    breaks: 'lists workers on the network for ever',
    edits: [[reaper, 'seen_at <= ?1 - 3600000', 'seen_at < 0']],
    tests: ['tests/store/remote.test.ts'],
  },
  {
    name: 'no-renewal',
    breaks: 'does not renew the leases of running handlers',
    edits: [[reaper, 'const left = [terms.renew(db, monotonic)]', 'const left = [false]']],
    tests: contract,
  },
  {
    name: 'endless-lease',
    breaks: 'renews the lease of a handler that hangs beyond its timeout',
    edits: [
      [
        attempt,
        'SET lease_expires_at = MIN(?3 + visibility_timeout, COALESCE(?4, started_at + timeout',
        'SET lease_expires_at = MAX(?3 + visibility_timeout, COALESCE(?4, started_at + timeout',
      ],
    ],
    tests: contract,
  },
  {
    name: 'charged-release',
    breaks: 'charges an attempt that was given back',
    edits: [[decide, 'attempt: job.attempt - 1, undelivered', 'attempt: job.attempt, undelivered']],
    tests: contract,
  },
  {
    name: 'untold-loss',
    breaks: 'does not tell a handler that its job was taken',
    edits: [[leases, "events.push({ event: 'leaseLost', id, token })", '']],
    tests: recovery,
  },

  // Retry
  {
    name: 'no-fresh-budget',
    breaks: "forgets the fresh budget of an operator's retry",
    edits: [[decide, 'budgetFrom: attempt,', '']],
    tests: contract,
  },
  {
    name: 'endless-retry',
    breaks: 'repeats a job whose attempts are used up',
    edits: [[decide, 'if (triesOf(job) >= job.maxAttempts)', 'if (triesOf(job) > job.maxAttempts)']],
    tests: contract,
  },
  {
    name: 'permanent-retry',
    breaks: 'repeats what failed for good',
    edits: [[decide, "if (kind === 'permanent') return gaveUp('permanent', now)\n", '\n']],
    tests: contract,
  },
  {
    name: 'no-history',
    breaks: 'keeps the record of the first failed attempt only',
    edits: [
      [decided, 'INSERT INTO gq_attempts (job_id', 'INSERT OR IGNORE INTO gq_attempts (job_id'],
      [decided, '...[job.id, attempt.attempt,', '...[job.id, 1,'],
    ],
    tests: contract,
  },
  {
    name: 'hours-outlive-rollback',
    breaks: 'counts into the hours of types what a transaction that was rolled back did',
    edits: [[db, 'this.hours.clear()\n', '\n']],
    tests: ['tests/sim.test.ts'],
  },
  {
    name: 'age-since-submission',
    breaks: 'tells the age of a retried or delayed job since its submission',
    edits: [[decided, "if (state === 'ready') changes.readyAt", 'if (job.dueAt === 0) changes.readyAt']],
    tests: contract,
  },

  // Order
  {
    name: 'no-classes',
    breaks: 'ignores the priority class',
    edits: [
      [db, 'ORDER BY priority, id LIMIT +?3', 'ORDER BY id LIMIT ?3'],
      ['store/sqlite/lines.ts', 'priority * idsBelow + id\n', '0 * priority * idsBelow + id\n'],
    ],
    tests: contract,
  },
  {
    name: 'last-in-first-out',
    breaks: 'takes the youngest job first',
    edits: [[db, 'ORDER BY priority, id LIMIT +?3', 'ORDER BY priority, id DESC LIMIT ?3']],
    tests: contract,
  },
  {
    name: 'order-by-time',
    breaks: 'orders by the time at which a job became ready: one that was delayed loses its place',
    edits: [[db, 'ORDER BY priority, id LIMIT +?3', 'ORDER BY priority, COALESCE(ready_seq, id) LIMIT ?3']],
    tests: contract,
  },
  {
    name: 'line-after-line',
    breaks: 'takes one type after the other instead of one order for all',
    edits: [['store/sqlite/lines.ts', 'bound: placeOf(following) }', 'bound: Math.max(0, bound) }']],
    tests: contract,
  },
  {
    name: 'own-first',
    breaks: "takes this process's job before an urgent one of another process",
    edits: [[round, 'const everywhere = changed || othersChanged', 'const everywhere = othersChanged']],
    tests: recovery,
  },
  {
    name: 'too-many-slots',
    breaks: 'leases more jobs than a worker has free slots',
    edits: [[claim, 'const limit = slots - asker.running', 'const limit = slots']],
    tests: contract,
  },

  // What people ask for
  {
    name: 'pause-ignored',
    breaks: 'leases jobs of a paused queue',
    edits: [['store/sqlite/counts.ts', 'paused ? 0 : Math', 'Math']],
    tests: contract,
  },
  {
    name: 'resume-unheard',
    breaks: 'leaves waiting workers asleep when a queue is resumed',
    edits: [[operator, 'db.resumed.add(row.name)', '']],
    tests: contract,
  },
  {
    name: 'deadline-ignored',
    breaks: 'starts a job after its deadline',
    edits: [[db, '(deadline IS NULL OR deadline > ?4)', '(deadline IS NULL OR ?4 > 0)']],
    tests: contract,
  },
  {
    name: 'cancel-ignored',
    breaks: 'repeats a failed job whose cancellation was asked for',
    edits: [
      [
        decide,
        "if (job.cancelRequestedAt !== null) return aborted(now)\n  if (kind === 'permanent')",
        "if (kind === 'permanent')",
      ],
    ],
    tests: contract,
  },
  {
    name: 'cancel-untold',
    breaks: 'does not tell the handler that its job is to stop',
    edits: [[decide, ", tells: 'cancelRequested' }", ' }']],
    tests: contract,
  },
  {
    name: 'timeout-ignored',
    breaks: 'lets a handler run on after its timeout',
    edits: [[handlers, "this.#decide(this.#failed(error, 'timeout'))\n", '\n']],
    tests: ['tests/queue/timeout.test.ts'],
  },
  {
    name: 'tracing-throws',
    breaks: 'lets what tracing throws take a submission or an outcome with it',
    edits: [[tracing, 'told = true\n    return undefined', 'throw error']],
    tests: ['tests/queue/trace.test.ts'],
  },
  {
    name: 'charged-company',
    breaks: 'charges what was lost beside others',
    edits: [['model/company.ts', 'charged: maxAttempts === 1', 'charged: true']],
    tests: contract,
  },
  {
    name: 'drained-in-vain',
    breaks: 'drains a process for a job of limited company, and then does not come to that job',
    edits: [['model/company.ts', "if (!mayPass) return 'pass'", "if (!mayPass) return 'stop'"]],
    tests: ['tests/contract/deaths.test.ts', 'tests/model/company.test.ts'],
  },
  {
    name: 'strangers-together',
    breaks: 'takes all workers of one address for one process',
    edits: [
      [
        'store/sqlite/registration.ts',
        'SET instance = ?2 WHERE id = ?1`',
        "SET instance = host WHERE id = ?1 AND ?2 <> ''`",
      ],
    ],
    tests: contract,
  },
  {
    name: 'fed-while-still',
    breaks: "gives jobs to a process whose app's thread stands still",
    edits: [[round, 'still ? this.#crew.own : none', 'none']],
    tests: contract,
  },
  {
    name: 'taken-after-gap',
    breaks: 'takes leases right after the process itself stood still',
    edits: [['store/sqlite/gaps.ts', 'return !this.#isOpen || ', 'return true || ']],
    tests: ['tests/store/gaps.test.ts'],
  },
  {
    name: 'lock-wait-per-try',
    breaks: 'counts a wait for the lock again at each try',
    edits: [
      [
        round,
        '      db.rollback()\n',
        '      db.rollback()\n      this.#crew.terms.skip(this.#clock.monotonic() - plan.before, this.#clock.monotonic())\n',
      ],
    ],
    tests: ['tests/sim.test.ts'],
  },
  {
    name: 'endless-heartbeats',
    breaks: 'lets a hung remote worker keep its lease beyond the timeout by heartbeats',
    edits: [
      [attempt, 'started_at + timeout) THEN NULL ELSE over_since END', 'started_at + timeout) THEN NULL ELSE NULL END'],
    ],
    tests: contract,
  },
  {
    name: 'endless-excuse',
    breaks: 'starts a job for ever that has its process told to stop and killed',
    edits: [['model/loss.ts', 'excused >= mostExcused', 'excused < 0']],
    tests: ['tests/contract/deaths.test.ts'],
  },
  {
    name: 'charged-stop',
    breaks: 'charges a job whose remote worker had begun to stop',
    edits: [['store/sqlite/reclaim.ts', 'worker !== undefined && hadBegunToStop(db, worker)', 'db.now < 0']],
    tests: contract,
  },
  {
    name: 'excused-for-ever',
    breaks: 'charges nothing to a worker that once said that it stops',
    edits: [[claim, 'takesJobs(db, worker)\n', 'showsLife(db, worker)\n']],
    tests: contract,
  },
  {
    name: 'limited-for-ever',
    breaks: 'limits the company of a job that has failed since',
    edits: [[decide, ', company: null, losses: 0 }', ' }']],
    tests: contract,
  },
  {
    name: 'held-back-for-nothing',
    breaks: 'holds a worker back for a job of a type that it no longer asks for',
    edits: [
      [
        'store/sqlite/waiting.ts',
        'this.#waitsFor(worker, line(queue, type))',
        "line(queue, type) !== '' && this.#pending.has(worker)",
      ],
    ],
    tests: contract,
  },
  {
    name: 'beside-itself',
    breaks: 'starts the retry of a timed-out handler while that still runs',
    edits: [[company, 'excluded.add(one.id)\n', 'excluded.delete(one.id)\n']],
    tests: ['tests/queue/timeout.test.ts'],
  },
  {
    name: 'beside-itself-by-the-clock',
    breaks: 'starts a job beside its handler that goes on when the wall clock is set forward',
    edits: [[company, '?? this.#keep(one, monotonic + left)', '&& monotonic + left']],
    tests: contract,
  },
  {
    name: 'no-drain',
    breaks: 'aborts running handlers at once when the worker is to stop',
    edits: [[worker, 'if (wait > 0 && !this.#hurried) await this.#idle(wait)', '']],
    tests: ['tests/queue/stop.test.ts'],
  },
  {
    name: 'pruned-dead',
    breaks: 'prunes dead letters as if they were cancelled jobs',
    edits: [[decided, 'pruneAt(db, queue, state)', "pruneAt(db, queue, 'cancelled')"]],
    tests: contract,
  },
  {
    name: 'long-prune',
    breaks: 'deletes a thousand jobs at once, however long that takes',
    edits: [['store/sqlite/steps.ts', 'if (db.clock.monotonic() >= end) return true', 'if (end < 0) return true']],
    tests: ['tests/store/bounded.test.ts'],
  },
  {
    name: 'reads-in-write',
    breaks: 'reads within the transaction that writes, and keeps everybody from the write lock meanwhile',
    edits: [['store/sqlite/group.ts', 'if (!(request.operation in writes)) {', "if (request.operation === 'close') {"]],
    tests: ['tests/store/group.test.ts', 'tests/store/bounded.test.ts'],
  },
  {
    name: 'long-many',
    breaks: 'cancels a page of a thousand jobs at once, however long that takes',
    edits: [[operator, 'if (db.clock.monotonic() >= end && i < ids.length - 1) return { changed, next: id }', '']],
    tests: ['tests/store/bounded.test.ts'],
  },
  {
    name: 'oldest-ticks',
    breaks: 'makes up for the oldest thousand missed ticks, not for the newest',
    edits: [['model/cron.ts', 'return ticks.slice(-most)', 'return ticks.slice(0, most)']],
    tests: ['tests/model/cron.test.ts'],
  },
  {
    name: 'gap-lost',
    breaks: 'loses the times of a schedule that a change of the clocks leaves out',
    edits: [['model/cron.ts', 'if (makesUp && next < at + after) return at', '']],
    tests: ['tests/model/cron.test.ts'],
  },
  {
    name: 'tick-once',
    breaks: 'does not try a tick again that met a full queue',
    edits: [['model/schedule.ts', 'refused ? tried - 1 : tried', 'tried']],
    tests: ['tests/queue/ticks.test.ts'],
  },
  {
    name: 'late-prune',
    breaks: 'leaves what a step of retention did not get to for a quarter of a second',
    edits: [[upkeep, 'behind ? committed + pruneEvery : Number', 'Number']],
    tests: contract,
  },
  {
    name: 'kept-space',
    breaks: 'never gives the space that retention frees back to the disk',
    edits: [[upkeep, 'if (shrinking) giveBack(db, shrinking.room)', '']],
    tests: space,
  },
  {
    name: 'blind-shrinking',
    breaks: 'moves pages to the front while a reader keeps the WAL from being emptied',
    edits: [[upkeep, ' && db.uncheckpointed() === 0 && {', ' && {']],
    tests: space,
  },

  // Idempotency
  {
    name: 'look-first',
    breaks: 'looks for the key among the jobs that are there, instead of claiming it: a key dies with its job',
    edits: [
      [
        submit,
        'SELECT job_id, digest, expires_at, (SELECT state',
        'SELECT job_id, digest, 0 AS expires_at, (SELECT state',
      ],
    ],
    tests: contract,
  },
  {
    name: 'keys-unheeded',
    breaks: 'stores a second job under a key that is taken',
    edits: [[submit, 'if (free && take() === 1) return null', 'if (take() >= 0) return null']],
    tests: contract,
  },
  {
    name: 'conflict-unseen',
    breaks: 'takes another payload under the same key for a duplicate',
    edits: [[submit, 'if (holder.digest === digest) return', 'if (holder.digest !== null) return']],
    tests: contract,
  },

  // Overload and degradation
  {
    name: 'depth-unheeded',
    breaks: 'takes more jobs than a queue may hold',
    edits: [['model/admission.ts', 'if (maxDepth === null || waiting', 'if (maxDepth !== 0 || waiting']],
    tests: contract,
  },
  {
    name: 'running-unlimited',
    breaks: 'runs more jobs of a queue than its maxRunning',
    edits: [['store/sqlite/counts.ts', '(max_running ?? Number.MAX_SAFE_INTEGER)', 'Number.MAX_SAFE_INTEGER']],
    tests: contract,
  },
  {
    name: 'place-unheard',
    breaks: 'leaves waiting workers asleep when a job of a queue at its maxRunning ends',
    edits: [[db, "if (from === 'running' && row.max_running !== null) this.resumed.add(queue)", '']],
    tests: contract,
  },
  {
    name: 'rate-unheeded',
    breaks: 'starts more jobs of a queue than its rate, when several ask at once',
    edits: [[rate, 'row.startsLeft = row.startsLeft! - starts', 'row.startsLeft = row.startsLeft! - 0']],
    tests: contract,
  },
  {
    name: 'rate-fixed',
    breaks: 'lets twice the rate start around an edge of the period',
    edits: [['model/rate.ts', 'return Math.ceil(now / grain) * grain', 'return Math.floor(now / grain) * grain']],
    tests: ['tests/model/rate.test.ts'],
  },
  {
    name: 'rate-unheard',
    breaks: 'leaves waiting workers asleep when a rate has room again',
    edits: [
      [reaper, '  freeRates(db)\n', ''],
      ['store/sqlite/waiting.ts', 'freeRates(db) // at this instant', '// at this instant'],
    ],
    tests: contract,
  },
  {
    name: 'rate-unsaid',
    breaks: 'does not say when a rate has room again whose starts are in the future of a clock that was set back',
    edits: [
      [rate, 'if (row.startsLeft === null) settleRate(db, row)', 'row.startsLeft ??= look(db, queue, rate).left'],
    ],
    tests: ['tests/store/lines.test.ts'],
  },
  {
    name: 'return-late',
    breaks: 'lets what goes back to be tried at once wait behind lower classes',
    edits: [
      [
        'store/sqlite/waiting.ts',
        '    // Jobs that a worker never received go back',
        '    makeDueReady(db)\n    // Jobs that go back',
      ],
      ['store/sqlite/waiting.ts', '    makeDueReady(db) // also what just went back with a backoff of 0\n', ''],
    ],
    tests: ['tests/store/delivery.test.ts'],
  },
  {
    name: 'wait-silence',
    breaks: "counts a wait of less than a second for the lock as silence of a lease's holder",
    edits: [['store/sqlite/gaps.ts', '      this.#waited(ms)\n', '']],
    tests: ['tests/store/gaps.test.ts'],
  },
  {
    name: 'late-look-unwatched',
    breaks: 'counts looks that are always late as time in which nobody could renew a lease',
    edits: [
      ['store/sqlite/gaps.ts', 'Math.max(since, this.#skippedTo, this.#waitedTo)', 'Math.max(from, this.#waitedTo)'],
    ],
    tests: ['tests/store/gaps.test.ts'],
  },
  {
    name: 'lock-wait-runs-out',
    breaks: "counts the time in which a handler's calls wait for the write lock towards its timeout",
    edits: [['queue/attempt.ts', 'store.stalledMs?.() ?? 0', '0']],
    tests: ['tests/faults/time.test.ts'],
  },
  {
    name: 'old-tick-waits',
    breaks: 'tries a tick that met a full queue the later again the older it is',
    edits: [['model/schedule.ts', '2 * waited', '(now - owed) / 10']],
    tests: ['tests/model/schedule.test.ts'],
  },
  {
    name: 'forward-twice',
    breaks: 'takes a living lease of a stopped process when the wall clock is set forward twice',
    edits: [
      [terms, 'Math.min(Math.max(0, now - overSince), monotonic - this.#lookedAt)', 'Math.max(0, now - overSince)'],
    ],
    tests: ['tests/store/terms.test.ts'],
  },
  {
    name: 'ended-begins',
    breaks: 'begins a handler in a thread whose attempt has ended while its module was loaded',
    edits: [['queue/handler-thread.ts', '      signal.throwIfAborted()\n', '']],
    tests: ['tests/queue/threads.test.ts'],
  },
  {
    name: 'forward-unseen',
    breaks: 'ends an attempt that its worker renews, as the wall clock was set forward while no server was there',
    edits: [['store/sqlite/terms.ts', ' OR started_at + timeout + ', ' AND started_at + timeout + ']],
    tests: ['tests/store/delivery.test.ts'],
  },
  {
    name: 'beyond-alive',
    breaks:
      'takes a short lease that was renewed after the wall clock was set forward for proof that its attempt ran out of time',
    edits: [['model/loss.ts', 'if (isBeyond && ', 'if (!isBeyond && isBeyond && ']],
    tests: ['tests/model/loss.test.ts'],
  },
  {
    name: 'forward-unrenewed',
    breaks: 'takes what a process ran that ended just after the wall clock was set forward for timed out',
    edits: [['store/sqlite/terms.ts', 'if (ahead - this.#ahead >= leastJump)', 'if (ahead === null)']],
    tests: ['tests/contract/recovery.test.ts'],
  },
  {
    name: 'rate-clock',
    breaks: 'keeps a queue waiting for as long as the wall clock was set back',
    edits: [[rate, 'if (ahead !== null) {', 'if (ahead === -1) {']],
    tests: contract,
  },
  {
    name: 'key-unheeded',
    breaks: 'runs jobs of one concurrency key beside each other',
    edits: [
      [
        places,
        'heldOf(db, queue, type, key) < limitOf(db, queue)',
        '-heldOf(db, queue, type, key) < limitOf(db, queue)',
      ],
    ],
    tests: contract,
  },
  {
    name: 'never-admitted',
    breaks: 'leaves what somebody inserted with plain SQL where it is',
    edits: [[round, '&& admit(db)', '&& db.now < 0 && admit(db)']],
    tests: ['tests/store/admission.test.ts'],
  },
  {
    name: 'key-stuck',
    breaks: 'lets no job in when another of its concurrency key ends',
    edits: [[places, 'if (key !== null && mayWait(db', 'if (key === null && mayWait(db']],
    tests: contract,
  },
  {
    name: 'key-out-of-order',
    breaks: 'keeps the place in a concurrency key for who came first, although a more urgent job waits',
    edits: [['model/admission.ts', '!last || last.priority < job.priority', '!last || last.priority < 9']],
    tests: contract,
  },
  {
    name: 'key-unheard',
    breaks: 'leaves waiting workers asleep when the next job of a concurrency key may run',
    edits: [[places, 'if (given) db.readied.add', 'if (!given) db.readied.add']],
    tests: contract,
  },
  {
    name: 'no-reserve',
    breaks: 'sets no space aside for running jobs',
    edits: [[condition, 'kept = this.#disk.setAside(room)', 'kept = room || !room']],
    tests: faultyDisk,
  },
  {
    name: 'reserve-kept',
    breaks: 'does not give running jobs what was set aside for them',
    edits: [[disk, 'truncateSync(reserve, 0) //', '//']],
    tests: faultyDisk,
  },
  {
    name: 'reserve-unused',
    breaks: 'does not turn to what was set aside when the disk is full',
    edits: [[condition, 'const released = this.#disk.release()', 'const released = this.#disk.free() < 0']],
    tests: faultyDisk,
  },
  {
    name: 'submissions-go-on',
    breaks: 'takes submissions although the disk is nearly full',
    edits: [[condition, "submit: starts && !this.#causes.has('STORAGE_FULL')", 'submit: starts']],
    tests: faultyDisk,
  },
  {
    name: 'never-recovers',
    breaks: 'goes on refusing when there is space again',
    edits: [[condition, "!this.blocked && this.#causes.delete('STORAGE_FULL')", 'Number.isNaN(free)']],
    tests: faultyDisk,
  },
  {
    name: 'flapping',
    breaks: 'refuses and takes submissions by turns while the room of the disk sways about the reserve',
    edits: [[condition, 'const roomAgain = 1.125', 'const roomAgain = 1']],
    tests: ['tests/store/condition.test.ts'],
  },
  {
    name: 'reserve-beside-link',
    breaks: 'takes the folder of a link for that of the file',
    edits: [[disk, 'if (to === null) return at', 'if (to !== undefined) return at']],
    tests: faultyDisk,
  },
  {
    name: 'hoarded-pages',
    breaks: 'keeps free pages in the file while submissions are refused for want of room',
    edits: [['store/sqlite/space.ts', 'return short ? free : ', 'return short ? 0 : ']],
    tests: space,
  },
  {
    name: 'two-sqlites',
    breaks: 'opens a file that another copy of SQLite has open in this process',
    edits: [['store/sqlite/copies.ts', "throw twoCopies(path, sqlite, 'before')", 'return']],
    tests: copies,
  },
  {
    name: 'two-drivers',
    breaks: 'runs on one of two loaded copies of better-sqlite3, and the app perhaps on the other',
    edits: [['store/sqlite/driver.ts', 'if (addons.length > 1)', 'if (addons.length > 2)']],
    tests: ['tests/store/driver.test.ts'],
  },
  {
    name: 'tables-anew',
    breaks: 'makes an empty queue where a migration tool has dropped its tables',
    edits: [['store/sqlite/schema.ts', "      throw tablesGone('all of them')\n", '      return 0\n']],
    tests: ['tests/store/tables.test.ts'],
  },
  {
    name: 'locks-of-others',
    breaks: 'drops the locks of another copy of SQLite when it finds out that there is one',
    edits: [['store/sqlite/copies.ts', 'probes.set(path, probe)\n', 'probe.close()\n']],
    tests: copies,
  },
  {
    name: 'copy-unnoticed',
    breaks: 'goes on writing when another copy of SQLite opens the file',
    edits: [[condition, 'this.#guard.copyCame() ?? this', 'null ?? this']],
    tests: copies,
  },
  {
    name: 'locks-left',
    breaks: 'works on without locks when somebody in the process has read the file',
    edits: [[commit, "if (found === 'unlocked') this.#lockAgain()", '']],
    tests: copies,
  },
  {
    name: 'overwritten-unseen',
    breaks: 'goes on with a file that was written over in place',
    edits: [['store/sqlite/overwritten.ts', 'return content !== last.content || ', 'return ']],
    tests: ['tests/store/overwritten.test.ts'],
  },
  {
    name: 'older-copy-unseen',
    breaks: 'goes on with an older copy of the file that was put in its place',
    edits: [['store/sqlite/overwritten.ts', 'named ? wentBack : ', 'named ? false : ']],
    tests: ['tests/store/overwritten.test.ts'],
  },
  {
    name: 'sound-file-given-up',
    breaks: 'takes a file that a reader keeps half of the WAL out of for one that was cut',
    edits: [['store/sqlite/overwritten.ts', 'before.whole && header', 'before.idle && header']],
    tests: ['tests/store/overwritten.test.ts'],
  },
  {
    name: 'cut-wal-unseen',
    breaks: 'goes on with a WAL that was cut in place',
    edits: [
      [
        condition,
        'this.#guard.walCut()\n    if (error) throw error',
        'this.#guard.walCut()\n    if (error && !error) throw error',
      ],
    ],
    tests: ['tests/store/overwritten.test.ts'],
  },
  {
    name: 'wal-of-another',
    breaks: 'applies the WAL of another file to the one that was put in its place',
    edits: [['store/sqlite/wal.ts', '  refuseStrangeWal(database, mark)\n', '']],
    tests: ['tests/store/epoch.test.ts'],
  },
  {
    name: 'outcome-dropped',
    breaks: 'forgets what a handler came to when the disk fails',
    edits: [
      [
        commit,
        'if (fault && outcomes.has(request.operation)) this.#deferred.push(request)',
        'if (fault && outcomes.has(request.operation)) continue',
      ],
    ],
    tests: faultyDisk,
  },
  {
    name: 'untold-lease',
    breaks: 'keeps a job to itself that no handler was told of, because its COMMIT was reported as failed',
    edits: [[round, 'this.#crew.leases.giveBackUntold(db, [...this.#crew.own])\n', '\n']],
    tests: ['tests/contract/found.test.ts'],
  },
  {
    name: 'sure-of-failure',
    breaks: 'says that a submission was not taken although its COMMIT may have happened',
    edits: [[commit, "errorInUse(error, 'unknown') : cause", "errorInUse(error, 'no') : cause"]],
    tests: faultyDisk,
  },
  {
    name: 'missing-file-unseen',
    breaks: 'goes on writing into a file that was removed',
    edits: [[disk, 'if (!now && (before || name === path)) return ', 'if (!now) return null && ']],
    tests: faultyDisk,
  },
  {
    name: 'revoked-token',
    breaks: 'goes on taking a token that was revoked',
    edits: [[auth, '!found || found.revokedAt !== null', '!found']],
    tests: door,
  },
  {
    name: 'any-scope',
    breaks: 'lets any token do anything',
    edits: [[auth, "!scopes.includes('admin') && !sufficient.some(", 'scopes.length === 0 && !sufficient.some(']],
    tests: door,
  },
  {
    name: 'rebinding',
    breaks: 'answers on loopback to any name that leads there',
    edits: [[guard, 'if (onLoopback && !isOurs)', 'if (!onLoopback && !isOurs)']],
    tests: ['tests/server/limits.test.ts'],
  },
  {
    name: 'foreign-origin',
    breaks: 'does what a page of another origin asks for',
    edits: [[guard, 'from.host !== host.toLowerCase() && ', 'false && ']],
    tests: ['tests/server/limits.test.ts'],
  },
  {
    name: 'forgets-schedules',
    breaks: 'forgets a queue that a schedule names, and makes it anew at each tick',
    edits: [['store/sqlite/names.ts', '!scheduled.has(name) && ', '']],
    tests: ['tests/contract/memory.test.ts'],
  },
  {
    name: 'names-for-ever',
    breaks: 'counts the queues that a client makes since ever, not within an hour',
    edits: [['store/sqlite/names.ts', ' AND expires_at > ?2', ' AND ?2 > 0']],
    tests: ['tests/store/names.test.ts'],
  },
  {
    name: 'unaudited',
    breaks: 'does what operators ask for and keeps no record of it',
    edits: [
      [
        'store/sqlite/answer.ts',
        "if (who !== undefined && operation !== 'submit') record(",
        'if (who === null) record(',
      ],
    ],
    tests: door,
  },
  {
    name: 'cut-off',
    breaks: 'cuts off requests that were begun when the server stops',
    edits: [['server/drain.ts', '    await promise\n', '    resolve()\n']],
    tests: ['tests/server/stop.test.ts'],
  },
  {
    name: 'always-ready',
    breaks: 'says that all works although storage does not answer',
    edits: [['server/watchdog.ts', 'return since !== null && ', 'return since === Number.NaN && ']],
    tests: ['tests/server/watchdog.test.ts'],
  },
  {
    name: 'unproved-lock',
    breaks: 'answers the watchdog while nobody can write',
    edits: [[round, 'asked || watched || (mayWrite', 'asked || (mayWrite']],
    tests: ['tests/server/health.test.ts'],
  },
  {
    name: 'forgotten-remotes',
    breaks: 'tells workers that signed on with an earlier server that their new leases are over',
    edits: [
      ['store/sqlite/crew.ts', 'this.add(request.input.worker, true)', 'this.#remotes.delete(request.input.worker)'],
    ],
    tests: ['tests/store/remote.test.ts'],
  },
  {
    name: 'unheard-leases',
    breaks: 'keeps what was given by an answer that its worker never heard',
    edits: [[delivery, 'if (row) receive(db, request.input, row)', '']],
    tests: ['tests/store/delivery.test.ts'],
  },
  {
    name: 'hasty-return',
    breaks: 'gives back what an answer gave that may still arrive',
    edits: [[delivery, 'j.asked IS NULL OR j.asked < ?2)', 'j.asked IS NULL OR ?2 > 0)']],
    tests: ['tests/store/delivery.test.ts'],
  },
  {
    name: 'endless-returns',
    breaks: 'gives a job back for ever whose answer never arrives',
    edits: [['model/loss.ts', 'undelivered < mostUndelivered', 'undelivered < 1e9']],
    tests: ['tests/store/delivery.test.ts'],
  },
  {
    name: 'line-forgets',
    breaks: 'drops what a schedule owes when a deploy changes its line',
    edits: [['store/sqlite/schedules.ts', '  takeOwed(db, settings)\n', '']],
    tests: ['tests/queue/ticks.test.ts'],
  },
  {
    name: 'denied-outcome',
    breaks: 'says of an outcome that may be on disk that nothing happened',
    edits: [[commit, "new GopherQueueError(code, says, { accepted: 'unknown' })", 'new GopherQueueError(code, says)']],
    tests: ['tests/store/outcomes.test.ts'],
  },
  {
    name: 'forgetful-wait',
    breaks: 'reads all lines anew after a wait for the write lock',
    edits: [[round, '// no lease could be renewed while it waited for the lock', '\n      this.assumeAllChanged()']],
    tests: ['tests/store/busy.test.ts'],
  },
  {
    name: 'unheard-stands',
    breaks: 'lets what was never received a fourth time stand until its lease is over',
    edits: [[delivery, 'for (const job of reclaimed) reclaimUnreceived(db, job)', '']],
    tests: ['tests/store/delivery.test.ts'],
  },
  {
    name: 'deaf-worker',
    breaks: 'gives a worker that hears no answer as many jobs as ever',
    edits: [[delivery, 'lost < lostInARow', 'lost < 1e9']],
    tests: ['tests/store/delivery.test.ts'],
  },
  {
    name: 'no-receipt',
    breaks: 'refuses a success that was taken, when it is sent again',
    edits: [[receipts, "if (state === 'succeeded' && job.token === token) return succeeded", '']],
    tests: contract,
  },
  {
    name: 'no-receipt-of-failure',
    breaks: 'refuses a failure that was taken, when it is sent again',
    edits: [[attempt, 'retryAfter }, db.now, lease.token)', 'retryAfter }, db.now, null)']],
    tests: contract,
  },
  {
    name: 'any-file',
    breaks: 'takes the token of another file',
    edits: [[delivery, 'if (epoch === db.epoch) return\n', 'return\n']],
    tests: ['tests/store/delivery.test.ts'],
  },
  {
    name: 'twin-copies',
    breaks: 'leaves two files that were restored from one backup with the same epoch',
    edits: [
      [
        'store/sqlite/epoch.ts',
        "db.run(`UPDATE gq_meta SET value = lower(hex(randomblob(8))) WHERE key = 'epoch'`)",
        '',
      ],
    ],
    tests: ['tests/store/epoch.test.ts'],
  },
  {
    name: 'impostor',
    breaks: 'lets a process take the id of another one’s worker',
    edits: [['store/sqlite/registration.ts', 'return isSame ? known : undefined', 'return row ? known : undefined']],
    tests: ['tests/store/delivery.test.ts'],
  },
  {
    name: 'writes-newer',
    breaks: 'goes on writing when a newer process has brought the schema forward',
    edits: [['store/sqlite/newer.ts', '> db.newestSchema)', '> db.newestSchema + 1)']],
    tests: ['tests/store/newer.test.ts'],
  },
  {
    name: 'endless-goodbye',
    breaks: 'waits for storage for ever when a worker stops',
    edits: [['queue/worker.ts', 'await last(this.#signOff())', 'await this.#signOff()']],
    tests: ['tests/queue/away.test.ts'],
  },
  {
    name: 'many-misfits',
    breaks: 'does to a job of a page what does not fit its state',
    edits: [[decide, "next(state, 'remove') === null", 'state !== null']],
    tests: contract,
  },
  {
    name: 'endless-look',
    breaks: 'looks through the whole file for one page, and holds everybody up',
    edits: [
      [
        search,
        'ids.length <= limit && db.clock.monotonic() >= end',
        'ids.length <= limit && db.clock.monotonic() >= end + 1e9',
      ],
    ],
    tests: ['tests/server/large.test.ts'],
  },
  {
    name: 'older-too',
    breaks: 'lists jobs that were submitted before the instant asked for',
    edits: [[search, 'if (!row || row.at >= at) high = middle', 'if (!row || row.at > at + 1000) high = middle']],
    tests: contract,
  },
  {
    name: 'due-too-late',
    breaks: 'stores a job that is due when its deadline has passed',
    edits: [['model/admission.ts', 'if (due < deadline) return', 'if (due < Number.POSITIVE_INFINITY) return']],
    tests: ['tests/model/admission.test.ts'],
  },
  // What is stored, and what a handler says
  {
    name: 'member-order',
    breaks: 'tells payloads of one key apart by the order of their members',
    edits: [['model/json.ts', '    .sort()\n', '']],
    tests: ['tests/model/json.test.ts'],
  },
  {
    name: 'digits-lost',
    breaks: 'stores an integer whose digits a double does not keep',
    edits: [['model/json.ts', '(!Number.isInteger(value) || Number.isSafeInteger(value))', 'Number.isFinite(value)']],
    tests: ['tests/model/json.test.ts'],
  },
  {
    name: 'emptied-object',
    breaks: 'stores {} for an object whose members JSON does not see',
    edits: [['model/json.ts', 'if (names > 0) return', 'if (names >= 0) return']],
    tests: ['tests/model/json.test.ts'],
  },
  {
    name: 'stored-unchecked',
    breaks: 'takes a payload that fits its schema until JSON has kept it',
    edits: [['queue/submission.ts', 'if (altered) await validated', 'if (!altered) await validated']],
    tests: ['tests/queue/schemas.test.ts'],
  },
  {
    name: 'removed-key',
    breaks: 'leaves the key of a job that a person has removed',
    edits: [[operator, 'remove: removeFound', 'remove: deleteJob']],
    tests: contract,
  },
  {
    name: 'other-bulk',
    breaks: "answers another bulk of the same Idempotency-Key with the first one's ids",
    edits: [[submit, 'known && known.digest !== digest', 'known && known.digest === digest + 1']],
    tests: contract,
  },
  {
    name: 'past-deadline',
    breaks: 'stores a job whose deadline is past at its submission',
    edits: [['model/admission.ts', 'if (deadline > now) return', 'if (deadline > 0) return']],
    tests: contract,
  },
  {
    name: 'note-hides-error',
    breaks: "hides the handler's own error behind a malformed retryAfter",
    edits: [
      [
        handlers,
        'told = describe(error, notes',
        'told = describe(notes.length > 0 ? new Error(notes[0]) : error, notes',
      ],
    ],
    tests: ['tests/queue/outcomes.test.ts'],
  },
  {
    name: 'foreign-context',
    breaks: 'runs a job in the asynchronous context of another one',
    edits: [[handlers, 'slot.inside(() => this.#start(onOutcome, settled))', 'this.#start(onOutcome, settled)']],
    tests: ['tests/queue/outcomes.test.ts'],
  },
  {
    name: 'progress-each',
    breaks: 'sends each call of progress by itself',
    edits: [['queue/context.ts', 'if (!underWay) flush()', 'flush()']],
    tests: ['tests/queue/outcomes.test.ts'],
  },
  {
    name: 'listed-by-the-clock',
    breaks: 'starts a job beside its handler in a process whose server stood still meanwhile',
    edits: [
      [
        'store/sqlite/losses.ts',
        'row.remote === 0 || db.counts(one)',
        'row.remote === 0 || db.now - one.since < overdueFor',
      ],
    ],
    tests: ['tests/store/delivery.test.ts'],
  },
]
