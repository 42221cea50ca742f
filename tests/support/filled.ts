import { createHash } from 'node:crypto'
import { copyFileSync, existsSync, readFileSync, statSync } from 'node:fs'
import { DatabaseSync } from 'node:sqlite'
import { GopherQueue, PermanentError } from '../../src/index.ts'
import { type Clock, systemClock } from '../../src/model/clock.ts'
import { jobSpec } from '../../src/model/job.ts'
import { Engine } from '../../src/store/sqlite/commit.ts'
import { connect } from '../../src/store/sqlite/connection.ts'
import { Db } from '../../src/store/sqlite/db.ts'
import { systemProcesses } from '../../src/store/sqlite/processes.ts'
import type { Request } from '../../src/store/sqlite/request.ts'

/** Makes a file with jobs of every state, with attempts, keys and a running job, and closes it as a killed process does. */
export async function fill(path: string, jobs: number): Promise<void> {
  const queue = await GopherQueue.open(path, { diskReserve: 0 })
  const many = (type: string, count: number, options = {}) =>
    queue.submitMany(type, Array.from({ length: count }, (_, i) => ({ i, text: `${type} ${'.'.repeat(i % 300)}` })), options) // biome-ignore format: one call
  queue.define('good', {}, ({ id }) => `done ${id}`)
  queue.define('flaky', { maxAttempts: 3, backoff: { kind: 'constant', delay: 1 } }, ({ id, attempt }) => {
    if (id % 2 === 0 || attempt < 3) throw new Error('not yet')
  })
  queue.define('bad', {}, () => {
    throw new PermanentError('never')
  })
  for (const type of ['good', 'flaky', 'bad']) await many(type, Math.ceil(jobs / 5))
  for (let i = 0; i < 30; i++) await queue.submit('good', i, { idempotencyKey: `key ${i}` })
  const cancelled = await many('never', 20)
  for (const { id } of cancelled) await queue.cancel(id)
  const worker = queue.work({ concurrency: 50 })
  for (;;) {
    const { queues } = await queue.stats()
    if (queues.every(({ counts }) => counts.scheduled + counts.ready + counts.running === 0)) break
    await new Promise((resolve) => systemClock.timer(10, () => resolve(null)))
  }
  await worker.stop()
  await many('later', Math.ceil(jobs / 5), { delay: '9d', queue: 'other' })
  await queue.configure('other', { maxRunning: 7 })
  await many('never', Math.ceil(jobs / 5))
  for (let i = 0; i < 20; i++) await queue.schedule(`at ${i}`, `${i} 4 1 1 *`, 'never', { i })
  await queue.close()

  const engine = engineOfGone(path, systemClock)
  const sources = [{ queue: 'default', type: 'never' }]
  engine.execute([{ seq: 1, operation: 'register', input: { name: 'w', sources, slots: 5 } }])
  const [{ id }] = rowsOf(path, 'SELECT MAX(id) AS id FROM gq_workers') as [{ id: number }]
  for (let i = 0; i < 20; i++) {
    const input = { name: `token ${i}`, scopes: ['work' as const], hash: `${i}`.padStart(64, '0') }
    engine.execute([{ seq: 3 + i, operation: 'createToken', input, who: `cli:operator ${i}` }])
  }
  engine.execute([{ seq: 2, operation: 'lease', input: { worker: id, sources, slots: 5, exclude: [] } }])
  engine.close()
}

/** An engine of a process that is gone, as others see it. */
export function engineOfGone(path: string, clock: Clock): Engine {
  const gone = { me: { ...systemProcesses.me, pid: 4_194_303, pid_started: '1' }, isAlive: () => true }
  return new Engine(path, clock, { open: () => connect(path, clock, () => new Db(path, clock, gone)) })
}

/** Leaves in the WAL of `path` one transaction for each of so many jobs, as after a kill. */
export function leaveWal(path: string, transactions: number): void {
  const live = `${path}.live`
  const engine = new Engine(live, systemClock)
  engine.execute([submission(0)])
  const checkpoint = new DatabaseSync(live)
  checkpoint.exec('PRAGMA wal_checkpoint(TRUNCATE)')
  checkpoint.close()
  for (let i = 1; i <= transactions; i++) engine.execute([submission(i)])
  copyFileSync(live, path)
  copyFileSync(`${live}-wal`, `${path}-wal`)
  engine.close()
}

const submission = (n: number): Request<'submit'> => ({
  seq: n,
  operation: 'submit',
  input: { specs: jobSpec('work', {}), payloads: [`{"n":${n}}`], keys: null },
})

export function rowsOf(path: string, sql: string): Record<string, unknown>[] {
  const db = new DatabaseSync(path, { readOnly: true })
  try {
    return db.prepare(sql).all()
  } finally {
    db.close()
  }
}

/** What the file holds, whatever its pages look like. */
export function digest(path: string): string {
  const hash = createHash('sha256')
  for (const table of [
    'gq_meta',
    'gq_queues',
    'gq_jobs',
    'gq_keys',
    'gq_attempts',
    'gq_workers',
    'gq_schedules',
    'gq_tokens',
    'gq_audit',
    'sqlite_sequence',
  ])
    hash.update(JSON.stringify(rowsOf(path, `SELECT * FROM ${table} ORDER BY 1, 2`)))
  return hash.digest('hex')
}

/** The bytes of a database and its WAL; to look at it may make an empty one. */
export const bytesOf = (path: string): string[] =>
  [path, `${path}-wal`].map((name) =>
    existsSync(name) && statSync(name).size > 0
      ? createHash('sha256').update(readFileSync(name)).digest('hex')
      : 'none',
  )
