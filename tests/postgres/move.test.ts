import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { after, test } from 'node:test'
import { setTimeout } from 'node:timers/promises'
import { GopherQueue } from '../../src/index.ts'
import { tables } from '../../src/store/postgres/copied.ts'
import { abortMove, type MoveResult, move, type Progress } from '../../src/store/postgres/move.ts'
import { ServerReader } from '../../src/store/postgres/reader.ts'
import { main } from '../support/bundled.ts'
import { temporaryFolder } from '../support/folder.ts'
import { PostgresServer, without } from '../support/postgres.ts'

// From a file to a server, with processes that go on submitting, and stopped at any moment.

if (without) test('moves to PostgreSQL', { skip: without })
else withServer(new PostgresServer())

function withServer(server: PostgresServer): void {
  after(() => server[Symbol.dispose]())
  const folder = temporaryFolder()
  after(() => folder[Symbol.dispose]())
  let files = 0

  const moved = (file: string, url: string, tell: (progress: Progress) => void = () => undefined) =>
    move(file, url, { grace: 0, who: 'tester', tell })

  /** A file with something in each table that a queue fills. */
  async function filled(jobs = 20): Promise<string> {
    const file = folder.file(`${++files}.db`)
    await using queue = await GopherQueue.open(file)
    queue.define('fails', { maxAttempts: 2, backoff: { kind: 'table', delays: [1] } }, () => {
      throw new Error('it cannot, é 𝄞')
    })
    queue.define('works', {}, () => ({ ok: true }))
    await queue.configure('slow', { rate: { max: 1, per: '1h' } })
    await queue.schedule('nightly', '0 3 * * *', 'works', { night: true })
    await queue.submit('fails', { text: "quote ' and \u0007 and \\u0000 and \u0000" })
    const keyed = await queue.submit('works', { n: 1 }, { idempotencyKey: 'once', concurrencyKey: 'one' })
    queue.work({ concurrency: 2 })
    await queue.wait(keyed.id)
    await queue.wait(keyed.id - 1).catch(() => undefined)
    const slow = await queue.submit('works', {}, { queue: 'slow', delay: '1h', uniqueKey: 'u', deadline: '2h' })
    using db = new DatabaseSync(file)
    db.prepare('UPDATE gq_jobs SET progress = 1e-7, progress_message = ?, warning = ? WHERE id = ?').run(
      '\\N\ta\\b\nc\rd\\.\n\\.\n',
      'a\0b',
      slow.id,
    )
    for (let at = 0; at < jobs; at += 5000)
      await queue.submitMany('later', Array.from({ length: Math.min(5000, jobs - at) }, (_, i) => ({ i, body: 'x'.repeat(50) }))) // biome-ignore format: one line
    return file
  }

  const schemaOf = (url: string) => new URL(url).searchParams.get('schema')!
  const rowsIn = (url: string, table: string) =>
    JSON.parse(server.sql(`SELECT COALESCE(json_agg(t), '[]') FROM ${schemaOf(url)}.${table} AS t`)) as object[]

  /** Compares by other means than the move's own digests. */
  function assertSame(file: string, url: string): void {
    using db = new DatabaseSync(file, { readOnly: true })
    const sorted = (rows: object[]) =>
      rows
        .map((row) =>
          JSON.stringify(Object.entries(row).sort(([a], [b]) => (a < b ? -1 : 1))).replaceAll('\\u0000', '\uFFFD'),
        )
        .sort()
    for (const table of tables)
      assert.deepEqual(sorted(rowsIn(url, table)), sorted(db.prepare(`SELECT * FROM ${table}`).all()), table)
  }

  test('all of a file is at the new place, and it goes on there', async () => {
    const file = await filled()
    const url = server.url()
    const result = await moved(file, url)
    assertSame(file, url)
    const counts = new Map(result.tables.map(({ table, rows }) => [table, rows]))
    for (const table of ['gq_jobs', 'gq_attempts', 'gq_keys', 'gq_schedules', 'gq_causes', 'gq_hours', 'gq_audit', 'gq_workers']) // biome-ignore format: one line
      assert.ok(counts.get(table)! > 0, table)
    await assert.rejects(GopherQueue.open(file), { code: 'MOVED', accepted: 'no', message: /has moved to postgres:/ })
    await using queue = await GopherQueue.open(url)
    const jobs = await queue.jobs({ limit: 100, order: 'oldest' })
    const newest = Math.max(...jobs.jobs.map(({ id }) => id))
    const next = await queue.submit('works', { n: 2 })
    assert.ok(next.id > newest)
    assert.ok((await queue.submit('works', { n: 1 }, { idempotencyKey: 'once', concurrencyKey: 'one' })).duplicate)
    assert.ok((await queue.submit('works', {}, { queue: 'slow', uniqueKey: 'u' })).duplicate)
    const [dead] = (await queue.jobs({ state: 'dead' })).jobs
    assert.deepEqual((await queue.history(dead!.id)).map(({ outcome }) => outcome), ['failed', 'failed']) // biome-ignore format: short
    queue.define('works', {}, () => ({ ok: true }))
    queue.work()
    await queue.wait(next.id)
    assert.equal((await queue.deadLetters()).causes.length, 1)
    assert.deepEqual((await moved(file, url)).again, true)
  })

  test('stopped at any step it goes on, and copies nothing twice', async () => {
    const file = await filled(4500)
    const url = server.url()
    let result: MoveResult | undefined
    let stops = 0
    for (let last = 1; !result; last++) {
      let told = 0
      const tell = () => {
        if (++told === last) throw new Error('stopped')
      }
      result = await moved(file, url, tell).catch((error: Error) => {
        assert.equal(error.message, 'stopped')
        stops++
        return undefined
      })
    }
    assert.ok(stops > 10, `${stops}`)
    assertSame(file, url)
  })

  test('a place that has a queue is refused before the file is sealed', async () => {
    const file = await filled(1)
    const url = server.url()
    await using there = await GopherQueue.open(url)
    const { id } = await there.submit('works', 1)
    await assert.rejects(moved(file, url), { code: 'INVALID_STATE', message: /has a queue already \(rows in gq_/ })
    await using queue = await GopherQueue.open(file)
    await queue.submit('works', 1)
    assert.equal((await there.job(id))?.state, 'ready')
  })

  const plain = (columns: string, ...rows: string[]) =>
    `INSERT INTO gq_jobs (type, payload, ${columns}) VALUES ${rows.map((values) => `('plain', ${values})`).join(', ')}`
  const long = randomBytes(2200).toString('base64')
  const unfit: [what: string, made: string, told: RegExp, mended: string | null][] = [
    ['two unique keys that NUL tells apart', plain('unique_key', `'1', 'a' || char(0)`, `'2', 'a' || char(65533)`), /job 2: as job 1, duplicate key .+gq_jobs_unique/, null], // biome-ignore format: a table
    ['two unique keys that are not UTF-8', plain('unique_key', `'1', CAST(x'61fe' AS TEXT)`, `'2', CAST(x'61ff' AS TEXT)`), /job 2: as job 1, duplicate key/, null], // biome-ignore format: a table
    ['a unique key that no index takes', plain('unique_key', `'1', 'short'`, `'2', '${long}'`), /job 2: index row size/, null], // biome-ignore format: a table
    ['a queue that no index takes', plain('queue', `'1', 'short'`, `'2', '${long}'`), /job 2: index row size/, null], // biome-ignore format: a table
    ['JSON to its NUL', plain('checkpoint', `'1', '1'`, `'1' || char(0) || '!', '1'`), /job 2: .+ json/, null],
    ['the history of no job', `INSERT INTO gq_attempts (job_id, attempt, started_at, finished_at, outcome) VALUES (7, 1, 1, 1, 'failed')`, /history of jobs that are gone, 7 /, 'DELETE FROM gq_attempts WHERE job_id NOT IN (SELECT id FROM gq_jobs)'], // biome-ignore format: a table
  ]
  for (const [what, made, told, mended] of unfit)
    test(`what PostgreSQL cannot keep is told before the file is sealed: ${what}`, async () => {
      const [file, url] = [folder.file(`${++files}.db`), server.url()]
      await (await GopherQueue.open(file)).close()
      using db = new DatabaseSync(file, { enableForeignKeyConstraints: false })
      db.exec(made)
      await assert.rejects(moved(file, url), { code: 'INVALID_STATE', accepted: 'no', message: told })
      {
        await using queue = await GopherQueue.open(file)
        await queue.submit('plain', 'not sealed')
        await queue.cancel(2).catch(() => undefined) // some ended dead when they were admitted
        if (mended) db.exec(mended)
        else await queue.remove(2)
      }
      await moved(file, url)
      assertSame(file, url)
    })

  test('idempotency keys that NUL tells apart are told by their jobs; to remove one of these frees its key', async () => {
    const [file, url] = [await filled(1), server.url()]
    const submit = async (key: string) => {
      await using queue = await GopherQueue.open(file)
      return (await queue.submit('works', 1, { idempotencyKey: key })).id
    }
    const [first, second] = [await submit('a\0b'), await submit('a\uFFFDb')]
    const message = new RegExp(`idempotency key of job (${first}|${second}) .+ as the idempotency key of job (${first}|${second}) `) // biome-ignore format: one line
    await assert.rejects(moved(file, url), { code: 'INVALID_STATE', message })
    {
      await using queue = await GopherQueue.open(file)
      await queue.cancel(second)
      await queue.remove(second)
    }
    await moved(file, url)
    assertSame(file, url)
  })

  test('a place to which another file moves is refused; who has it open waits for the end', async () => {
    const [file, other] = [await filled(1), await filled(1)]
    const url = server.url()
    await using there = await GopherQueue.open(url)
    const stop = ({ step }: Progress) => {
      if (step === 'verifying') throw new Error('stopped')
    }
    await assert.rejects(moved(file, url, stop), /stopped/)
    await assert.rejects(moved(other, url), { code: 'INVALID_STATE', message: /another file is being moved/ })
    const isPart = { code: 'STORAGE_UNAVAILABLE', message: /being moved to this place/ }
    await assert.rejects(there.submit('works', 1), isPart)
    const reader = (await ServerReader.open(url))!
    await assert.rejects(reader.call('jobs', {}), isPart)
    await moved(file, url)
    assert.ok((await reader.call('jobs', {})).jobs.length > 0)
    await reader.close()
    assertSame(file, url)
    for (;;)
      try {
        await there.submit('works', 1)
        break
      } catch (error) {
        assert.equal((error as { code: string }).code, 'STORAGE_UNAVAILABLE')
        await setTimeout(50)
      }
  })

  test('an aborted move leaves an empty place, and a file that is a queue and can move again', async () => {
    const file = await filled(10)
    const url = server.url()
    const stop = ({ step }: Progress) => {
      if (step === 'verifying') throw new Error('stopped')
    }
    await assert.rejects(moved(file, url, stop), /stopped/)
    await abortMove(file, url, 'tester')
    for (const table of tables) assert.deepEqual(rowsIn(url, table), [], table)
    await assert.rejects(abortMove(file, url, 'tester'), { code: 'INVALID_STATE', message: /not being moved/ })
    {
      await using queue = await GopherQueue.open(file)
      await queue.submit('works', 'after the abort')
    }
    await moved(file, url)
    assertSame(file, url)
    const done = server.sql(`SELECT action FROM ${schemaOf(url)}.gq_audit ORDER BY id`)
    assert.deepEqual(done.split('\n'), ['move', 'abortMove', 'move'])
  })

  test('after its end a move can be aborted until the new place is written to', async () => {
    const file = await filled(10)
    const url = server.url()
    await moved(file, url)
    await abortMove(file, url, 'tester')
    await moved(file, url)
    {
      await using queue = await GopherQueue.open(url)
      await queue.submit('works', 1)
    }
    await assert.rejects(abortMove(file, url, 'tester'), {
      code: 'INVALID_STATE',
      message: /has been written to since/,
    })
    await assert.rejects(GopherQueue.open(file), { code: 'MOVED' })
  })

  test('a copy that differs is not taken', async () => {
    const file = await filled(10)
    const url = server.url()
    const stop = ({ step, table }: Progress & { table?: string }) => {
      if (step === 'verifying' && table === 'gq_jobs') throw new Error('stopped')
    }
    await assert.rejects(moved(file, url, stop), /stopped/)
    server.sql(
      `UPDATE ${schemaOf(url)}.gq_jobs SET payload = '2' WHERE id = (SELECT MAX(id) FROM ${schemaOf(url)}.gq_jobs)`,
    )
    await assert.rejects(moved(file, url), { code: 'STORAGE_CORRUPT', message: /copy of gq_jobs is not the same/ })
    await abortMove(file, url, 'tester')
    await moved(file, url)
    assertSame(file, url)
  })

  test('a run that another one has taken over writes nothing more', async () => {
    const file = await filled(4500)
    const url = server.url()
    let second: Promise<MoveResult> | undefined
    const tell = ({ step, table }: Progress & { table?: string }) => {
      if (step === 'copying' && table === 'gq_jobs') second ??= moved(file, url)
    }
    const first = await moved(file, url, tell).catch((error) => error as Error & { code: string })
    await second
    if ('code' in first) assert.equal(first.code, 'INVALID_STATE')
    assertSame(file, url)
  })

  function run(...args: string[]): { process: ChildProcess; lines: string[]; ended: Promise<unknown> } {
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] })
    after(() => child.kill('SIGKILL'))
    const lines: string[] = []
    let rest = ''
    child.stdout!.on('data', (bytes) => {
      const all = `${rest}${bytes}`.split('\n')
      rest = all.pop()!
      lines.push(...all)
    })
    return { process: child, lines, ended: once(child, 'close') }
  }

  async function until(what: () => boolean): Promise<void> {
    while (!what()) await setTimeout(10)
  }

  const kill = async ({ process, ended }: ReturnType<typeof run>) => {
    process.kill('SIGKILL')
    await ended
  }
  const moverOf = (file: string, url: string, grace: string) =>
    run(main, 'move', '--from', file, '--to', url, '--grace', grace, '--json')

  /** A file with a process that works on it, and some that submit until they hear MOVED. */
  async function busy(file: string, count: number) {
    const worker = run(join(import.meta.dirname, 'worker.child.ts'), file)
    await until(() => worker.lines.length > 0)
    const submitters = Array.from({ length: count }, () => run(join(import.meta.dirname, 'submit.child.ts'), file))
    await until(() => submitters.every(({ lines }) => lines.length > 20) && worker.lines.length > 1)
    return { worker, submitters }
  }

  /** Each job that was acknowledged is at the new place, and was started once: there, or on the file before; one that the move has given back, on both. */
  async function assertEachRan(
    url: string,
    submitters: ReturnType<typeof run>[],
    before: ReturnType<typeof run>,
  ): Promise<void> {
    for (const { lines } of submitters)
      assert.match(lines.at(-1)!, /^MOVED no The queue (moves|has moved) to postgres:/)
    const acknowledged = submitters.flatMap(({ lines }) => lines.slice(1, -1))
    const ended = server.sql(`SELECT id FROM ${schemaOf(url)}.gq_jobs WHERE type = 'work' AND state = 'succeeded'`)
    const starts = new Map(ended.split('\n').map((id) => [id, 1]))
    for (const id of starts.keys()) assert.equal(before.lines.filter((line) => line === id).length, 1, id)
    await using queue = await GopherQueue.open(url)
    queue.define('work', {}, ({ id }) => void starts.set(`${id}`, (starts.get(`${id}`) ?? 0) + 1))
    queue.work({ concurrency: 50 })
    const left = `SELECT COUNT(*) FROM ${schemaOf(url)}.gq_jobs WHERE type = 'work' AND state <> 'succeeded'`
    while (server.sql(left) !== '0') await setTimeout(50)
    assert.ok(acknowledged.length > 20)
    assert.deepEqual(acknowledged.filter((id) => starts.get(id) !== 1), []) // biome-ignore format: short
  }

  test('processes go on submitting, and the move is killed three times: all that was acknowledged is there', async () => {
    const file = await filled(15_000)
    const url = server.url()
    const schema = schemaOf(url)
    const { worker, submitters } = await busy(file, 3)
    const mover = (grace: string) => moverOf(file, url, grace)
    const copied = () => {
      const there = server.sql(`SELECT to_regclass('${schema}.gq_jobs')`)
      return there === '' ? 0 : Number(server.sql(`SELECT COUNT(*) FROM ${schema}.gq_jobs`))
    }
    using db = new DatabaseSync(file, { timeout: 5000 })
    const jobs = () => Number(db.prepare('SELECT COUNT(*) AS jobs FROM gq_jobs').get()!.jobs)
    const phase = () => {
      const row = db.prepare(`SELECT value FROM gq_meta WHERE key = 'moved'`).get()
      return row ? (JSON.parse(String(row.value)) as { phase: string }).phase : null
    }

    db.exec(`INSERT INTO gq_jobs (type, payload) VALUES ('work', '600000')`) // which the worker runs all the while
    await until(() => Number(db.prepare(`SELECT COUNT(*) AS n FROM gq_jobs WHERE state = 'running' AND payload = '600000'`).get()!.n) > 0) // biome-ignore format: one line
    const first = mover('10m')
    await until(() => phase() === 'sealed')
    await Promise.all(submitters.map(({ ended }) => ended))
    await kill(first)
    assert.equal(phase(), 'sealed')

    const kills: number[] = []
    for (let k = 0; k < 2; k++) {
      const before = copied()
      const next = mover('0s')
      await until(() => copied() > before || next.process.exitCode !== null)
      await kill(next)
      kills.push(copied())
    }
    assert.ok(kills[0]! < jobs(), `${kills} of ${jobs()}`) // else it was killed too late
    await kill(worker)
    const last = mover('0s')
    await last.ended
    assert.equal(last.process.exitCode, 0)
    const told = JSON.parse(last.lines.join('')) as MoveResult
    if (!told.again) assert.equal(told.tables.find(({ table }) => table === 'gq_jobs')!.rows, jobs())

    assert.equal(Number(server.sql(`SELECT COUNT(*) FROM ${schema}.gq_jobs`)), jobs())
    const held = `SELECT state, attempt FROM ${schema}.gq_jobs WHERE payload = '600000'`
    assert.equal(server.sql(held), 'ready|0')
    await assertEachRan(url, submitters, worker)
  })

  const rounds = Number(process.env.CLUSTER_ROUNDS ?? 0)
  const skip = rounds === 0 && 'it takes long: npm run test:cluster'
  test('eight processes submit, and the move is killed three times at random', { skip }, async () => {
    for (let round = 0; round < rounds; round++) {
      const [file, url] = [await filled(20_000), server.url()]
      const { worker, submitters } = await busy(file, 8)
      for (let k = 0; k < 3; k++) {
        const next = moverOf(file, url, '0s')
        await Promise.race([next.ended, setTimeout(Math.random() * 8000)])
        await kill(next)
      }
      const last = moverOf(file, url, '0s')
      await last.ended
      assert.equal(last.process.exitCode, 0)
      await Promise.all(submitters.map(({ ended }) => ended))
      await kill(worker)
      assertSame(file, url)
      await assertEachRan(url, submitters, worker)
    }
  })
}
