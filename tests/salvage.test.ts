import assert from 'node:assert/strict'
import { copyFileSync, existsSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import { GopherQueue } from '../src/index.ts'
import { systemClock } from '../src/model/clock.ts'
import { audit } from '../src/store/sqlite/audit.ts'
import { Engine } from '../src/store/sqlite/commit.ts'
import { examine } from '../src/store/sqlite/doctor.ts'
import { openToRead } from '../src/store/sqlite/reader.ts'
import { type Orphan, planRecovery } from '../src/store/sqlite/recover.ts'
import { type Salvage, salvage } from '../src/store/sqlite/salvage.ts'
import { randomFrom } from './crash/random.ts'
import { bytesOf, digest, engineOfGone, fill, leaveWal, rowsOf } from './support/filled.ts'
import { temporaryFolder } from './support/folder.ts'

const page = 4096

/** By id or name, as JSON. */
function contents(path: string, table: string, key: string): Map<string, string> {
  const columns =
    table === 'gq_queues' ? 'paused, max_depth, max_running, keep_succeeded, keep_cancelled, keep_dead' : '*'
  const rows = rowsOf(path, `SELECT ${key} AS named, ${columns} FROM ${table}`)
  // Causes are counted anew by who works on the new file.
  return new Map(rows.map(({ cause: _, ...row }) => [String(row.named), JSON.stringify(row)]))
}

/** That which a file no longer has, and which the report does not name; and what it has that is not as it was. */
function unaccounted(original: string, saved: string, report: Salvage): { silent: string[]; altered: string[] } {
  const silent: string[] = []
  const altered: string[] = []
  const tables = [
    ['gq_jobs', 'id'],
    ['gq_attempts', `attempt || ' of job ' || job_id`],
    ['gq_keys', `json_array(queue, type, key)`],
    ['gq_queues', 'name'],
    ['gq_schedules', 'name'],
    ['gq_tokens', 'name'],
    ['gq_audit', 'id'],
  ] as const
  const listed = new Set(report.lostJobs)
  const told = [...report.lostRows, ...report.refused].join('\n')
  for (const [table, key] of tables) {
    const after = contents(saved, table, key)
    for (const [name, row] of contents(original, table, key)) {
      const found = after.get(name)
      after.delete(name)
      if (found === row) continue
      const gone = (job: number) => listed.has(job) || report.unreadable.some(([a, b]) => a <= job && job <= b)
      const entries = [...told.matchAll(/audit entries (\d+) to (\d+)/g)]
      const named =
        table === 'gq_audit'
          ? entries.some(([, a, b]) => Number(a) <= Number(name) && Number(name) <= Number(b)) ||
            told.includes(`row ${name} of gq_audit`) ||
            report.damage.some((line) => line.startsWith('gq_audit'))
          : table === 'gq_jobs'
            ? gone(Number(name))
            : table === 'gq_attempts'
              ? gone(Number(name.split(' ').at(-1))) ||
                told.includes(`attempt ${name}`) ||
                told.includes(`${table} ${name}`)
              : told.includes(name)
      if (found === undefined && !named) silent.push(`${table} ${name}`)
      if (found !== undefined && !named) altered.push(`${table} ${name}: ${row} -> ${found}`)
    }
    for (const name of after.keys()) if (!told.includes(name)) altered.push(`${table} ${name}: never was`)
  }
  return { silent, altered }
}

/** What integrity_check and the rules between rows say of a file. */
function brokenRules(path: string): unknown[] {
  const db = openToRead(path)
  const { integrity_check: integrity } = db.prepare('PRAGMA integrity_check').get()!
  const broken = audit(db).filter(({ mild, broken }) => !mild && broken.length > 0)
  db.close()
  return integrity === 'ok' ? broken : [integrity]
}

test('a sound file is salvaged whole, with what its WAL holds', async () => {
  using folder = temporaryFolder()
  const path = folder.file('jobs.db')
  await fill(path, 500)
  const file = new DatabaseSync(path)
  file.exec(`INSERT INTO gq_starts VALUES ('default', 1, 3)`)
  file.close()
  leaveWal(folder.file('live.db'), 10)
  for (const [source, jobs] of [
    [path, 500 + 50],
    [folder.file('live.db'), 11],
  ] as const) {
    // biome-ignore format: pairs
    const before = bytesOf(source)
    const report = salvage(source, `${source}.new`, systemClock)
    assert.deepEqual({ ...report, saved: null }, { saved: null, lostJobs: [], unreadable: [], lostRows: [], refused: [], damage: [] }) // biome-ignore format: short
    assert.deepEqual(bytesOf(source), before)
    assert.equal(report.saved.gq_jobs, jobs)
    assert.deepEqual(examine(`${source}.new`, 0, true).filter(({ verdict }) => verdict === 'FAIL'), []) // biome-ignore format: short
  }
  assert.deepEqual(unaccounted(path, `${path}.new`, salvage(path, `${path}.other`, systemClock)), { silent: [], altered: [] }) // biome-ignore format: short
  const tables = rowsOf(path, `SELECT name FROM sqlite_schema WHERE type = 'table' AND name LIKE 'gq%' ORDER BY name`)
  assert.deepEqual(
    [
      ...Object.keys(salvage(path, `${path}.third`, systemClock).saved),
      'gq_causes',
      'gq_meta',
      'gq_requests',
      'gq_workers',
    ].sort(),
    tables.map(({ name }) => name),
  )
  const starts = 'SELECT * FROM gq_starts'
  assert.deepEqual(rowsOf(`${path}.new`, starts), rowsOf(path, starts))
  const plan = planRecovery(`${path}.new`, systemClock)
  assert.deepEqual(plan.map(({ attempt, fate }) => [attempt, fate.state]), Array(5).fill([1, 'ready'])) // biome-ignore format: short
  const sequence = `SELECT seq FROM sqlite_sequence WHERE name = 'gq_jobs'`
  assert.deepEqual(rowsOf(`${path}.new`, sequence), rowsOf(path, sequence))
  assert.throws(() => salvage(path, `${path}.new`, systemClock), { code: 'INVALID_ARGUMENT' })
  assert.throws(() => salvage(`${path}.no`, `${path}.none`, systemClock), { code: 'NOT_A_QUEUE' })
})

test('bytes that flip anywhere: never a crash, and what is not saved is listed', { timeout: 240_000 }, async (t) => {
  using folder = temporaryFolder()
  const path = folder.file('jobs.db')
  await fill(path, 1500)
  const whole = readFileSync(path)
  const seed = Number(process.env.GOPHERQUEUE_SEED ?? 1)
  const flips = Number(process.env.GOPHERQUEUE_FLIPS ?? 200)
  const random = randomFrom(seed)
  const [damaged, saved] = [folder.file('damaged.db'), folder.file('saved.db')]
  const sums = { lost: 0, ranges: 0, refused: 0, altered: 0, whole: 0 }
  for (let i = 0; i < flips; i++) {
    const bytes = Buffer.from(whole)
    // A third in the first bytes of a page, where its shape is told; some in the header and the table of contents.
    const at =
      i % 3 === 0
        ? Math.floor((random() * bytes.length) / page) * page + Math.floor(random() * 40)
        : i % 10 === 1
          ? Math.floor(random() * page)
          : Math.floor(random() * bytes.length)
    bytes[at]! ^= 1 + Math.floor(random() * 255)
    writeFileSync(damaged, bytes)
    const what = `seed ${seed}, flip ${i} at byte ${at} (page ${Math.floor(at / page) + 1})`
    let report: Salvage
    const begun = performance.now()
    try {
      report = salvage(damaged, saved, systemClock)
    } catch (error) {
      throw new Error(what, { cause: error })
    }
    const took = performance.now() - begun
    if (took > 500) t.diagnostic(`${what}: ${Math.round(took)} ms`)
    assert.deepEqual(readFileSync(damaged), bytes, what)
    const { silent, altered } = unaccounted(path, saved, report)
    assert.deepEqual(silent, [], what)
    // A byte inside a text or a number can make another one of it: one row, or SQLite says that rows and indexes differ.
    if (altered.length > 1) assert.ok(report.damage.length > 0, `${what}: ${altered.join('\n')}`)
    assert.deepEqual(brokenRules(saved), [], what)
    sums.lost += report.lostJobs.length
    sums.ranges += report.unreadable.length
    sums.refused += report.refused.length
    sums.altered += altered.length
    if (altered.length + report.lostJobs.length + report.lostRows.length + report.refused.length === 0) sums.whole++
    rmSync(saved)
  }
  t.diagnostic(JSON.stringify(sums))
})

test('a key whose row is gone is made anew from its job', async () => {
  using folder = temporaryFolder()
  const path = folder.file('jobs.db')
  await fill(path, 100)
  const [{ root }] = rowsOf(path, `SELECT rootpage AS root FROM sqlite_schema WHERE name = 'gq_keys'`) as [{ root: number }] // biome-ignore format: short
  const bytes = readFileSync(path)
  bytes.fill(0xee, (root - 1) * page, root * page)
  writeFileSync(folder.file('damaged.db'), bytes)
  const report = salvage(folder.file('damaged.db'), folder.file('saved.db'), systemClock)
  assert.equal(report.lostRows.filter((what) => what.includes('made anew')).length, 30)
  const keys = 'SELECT queue, type, key, job_id, digest FROM gq_keys'
  assert.deepEqual(rowsOf(folder.file('saved.db'), keys), rowsOf(path, keys))

  // An index whose rows are wrong is not carried over with the table's.
  const [{ index }] = rowsOf(path, `SELECT rootpage AS 'index' FROM sqlite_schema WHERE name = 'gq_keys_expires'`) as [{ index: number }] // biome-ignore format: short
  const other = readFileSync(path)
  other[index * page - 20]! ^= 1
  writeFileSync(folder.file('damaged.db'), other)
  salvage(folder.file('damaged.db'), folder.file('again.db'), systemClock)
  assert.deepEqual(rowsOf(folder.file('again.db'), keys), rowsOf(path, keys))
  assert.deepEqual(brokenRules(folder.file('again.db')), [])
})

test('a hole in the middle of the file, and a file cut short', async () => {
  using folder = temporaryFolder()
  const path = folder.file('jobs.db')
  await fill(path, 1000)
  const whole = readFileSync(path)
  const pages = whole.length / page
  for (const [from, to] of [
    [Math.floor(pages / 3), Math.floor(pages / 2)],
    [Math.floor(pages / 2), pages],
    [3, 4],
    [1, 2],
    [0, 1],
  ] as const) {
    // biome-ignore format: pairs
    const bytes = Buffer.from(whole)
    bytes.fill(0, from * page, to * page)
    writeFileSync(folder.file('damaged.db'), to === pages ? bytes.subarray(0, from * page) : bytes)
    const report = salvage(folder.file('damaged.db'), folder.file('saved.db'), systemClock)
    assert.deepEqual(
      unaccounted(path, folder.file('saved.db'), report),
      { silent: [], altered: [] },
      `${from} to ${to}`,
    )
    rmSync(folder.file('saved.db'))
  }
})

test('a WAL with a hole gives all its transactions, and names the frame that is damaged', () => {
  using folder = temporaryFolder()
  const path = folder.file('jobs.db')
  leaveWal(path, 30)
  const wal = readFileSync(`${path}-wal`)
  for (const at of [5, 20, 32 + 4120 * 10 + 2000, 32 + 4120 * 40 + 18]) {
    const bytes = Buffer.from(wal)
    bytes[at]! ^= 0x40
    writeFileSync(`${path}-wal`, bytes)
    const report = salvage(path, folder.file('saved.db'), systemClock)
    assert.equal(report.saved.gq_jobs, 31, `byte ${at}`)
    if (at > 32) assert.match(report.damage.join(), /frame (11|41) of the WAL is damaged/)
    rmSync(folder.file('saved.db'))
  }
})

/** A file as a killed process leaves it: five jobs run by a worker whose process is gone, and one whose lease is over. */
function orphaned(path: string): void {
  const engine = engineOfGone(path, { ...systemClock, now: () => Date.now() - 60_000 })
  let seq = 0
  const ask = (operation: string, input: unknown) => engine.execute([{ seq: ++seq, operation, input } as never])
  const spec = { queue: 'default', type: 'a', priority: 2, backoff: null, runAt: null, delay: 0, deadline: null, deadlineIn: null, idempotencyWindow: 1, uniqueKey: null, concurrencyKey: null, onTimeout: 'retry', visibilityTimeout: 30_000, maxAttempts: 12, timeout: 900_000 } // biome-ignore format: long
  for (const own of [{}, { maxAttempts: 1 }, { timeout: 100 }, { timeout: 100, onTimeout: 'dead' }, { maxAttempts: 2 }])
    ask('submit', { specs: { ...spec, ...own }, payloads: ['1'], keys: null })
  ask('register', { name: 'w', sources: [], slots: 9 })
  ask('lease', { worker: 1, sources: [{ queue: 'default', type: 'a' }], slots: 9, exclude: [] })
  ask('cancel', 5)
  copyFileSync(path, `${path}.killed`)
  copyFileSync(`${path}-wal`, `${path}.killed-wal`)
  engine.close()
}

test('the plan of a recovery is what recovery then does; doing it twice changes nothing', () => {
  using folder = temporaryFolder()
  orphaned(folder.file('jobs.db'))
  const path = folder.file('jobs.db.killed')
  const before = bytesOf(path)
  const plan = planRecovery(path, systemClock)
  assert.deepEqual(bytesOf(path), before)
  assert.deepEqual(plan.map(({ id, attempt, maxAttempts, fate }) => [id, attempt, maxAttempts, fate.state, fate.reason]), [
    [1, 1, 12, 'ready', null],
    [2, 1, 1, 'dead', 'exhausted'],
    [3, 1, 12, 'ready', null],
    [4, 1, 12, 'ready', null],
    [5, 1, 2, 'cancelled', null],
  ]) // biome-ignore format: a table
  assert.match(plan[0]!.why, /process 4194303 of worker .* is gone/)
  new Engine(path, systemClock).close()
  const after = rowsOf(path, 'SELECT id, state, reason FROM gq_jobs').map((row) => Object.values(row))
  assert.deepEqual(after, plan.map(({ id, fate }) => [id, fate.state, fate.reason])) // biome-ignore format: short
  assert.deepEqual(planRecovery(path, systemClock), [])
  const once = digest(path)
  new Engine(path, systemClock).close()
  assert.equal(digest(path), once)
  assert.ok(!existsSync(`${path}-wal`) || statSync(`${path}-wal`).size === 0)
})

test('the plan counts the same company as recovery: handlers that went on, and what a worker that has ended ran', () => {
  using folder = temporaryFolder()
  orphaned(folder.file('jobs.db'))
  const path = folder.file('jobs.db.killed')
  const db = new DatabaseSync(path)
  // Job 1 alone still runs, the others have been tried; the handlers of two of them went on, of one in a worker that ended.
  db.exec(
    `UPDATE gq_jobs SET state = 'ready', lease_token = NULL, lease_expires_at = NULL WHERE id > 1;
     INSERT INTO gq_workers (name, sources, slots, host, pid, boot, instance, started_at, seen_at, ended_at)
       SELECT 'gone', sources, slots, host, NULL, boot, instance, started_at, seen_at, 1 FROM gq_workers WHERE id = 1`,
  )
  const goOn = db.prepare(
    `UPDATE gq_workers SET overdue = json_array(json_object('id', ?2, 'token', 1, 'since', ?3)) WHERE id = ?1`,
  )
  for (const [worker, id] of [[1, 2], [2, 3]] as const) goOn.run(worker, id, Date.now()) // biome-ignore format: pairs
  db.close()
  const [{ id, why, fate }, ...more] = planRecovery(path, systemClock) as [Orphan, ...Orphan[]]
  assert.deepEqual([id, more], [1, []])
  assert.match(why, /while it and 2 others ran/)
  new Engine(path, systemClock).close()
  assert.deepEqual(
    rowsOf(path, `SELECT state, error_message FROM gq_attempts a JOIN gq_jobs j ON j.id = job_id WHERE job_id = 1`).map(
      (row) => Object.values(row),
    ),
    [[fate.state, why]],
  )
})

test('jobs that wait for their key are submitted once, in queues and in hours, and not again when they are admitted anew', async () => {
  using folder = temporaryFolder()
  const path = folder.file('jobs.db')
  const queue = await GopherQueue.open(path)
  await queue.submitMany('a', Array(20).fill(null), { concurrencyKey: 'k' })
  await queue.close()
  salvage(path, `${path}.new`, systemClock)
  await using saved = await GopherQueue.open(`${path}.new`)
  const waiting = `SELECT id FROM gq_jobs WHERE blocked = 2`
  do await saved.submit('b', null)
  while (rowsOf(`${path}.new`, waiting).length > 0)
  const { types } = await saved.types({ type: 'a' })
  assert.equal(types[0]!.submitted, 20)
  const [{ n }] = rowsOf(`${path}.new`, `SELECT all_submitted - (SELECT COUNT(*) FROM gq_jobs) AS n FROM gq_queues`) as [{ n: number }] // biome-ignore format: long
  assert.equal(n, 0)
})
