// The limit of the engine: hand-written SQL on the same SQLite, WAL and synchronous=FULL, on one thread, with no queue around it.
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import type { System } from './workloads.ts'

export default async function open({ dir }: { dir: string }): Promise<System> {
  const db = new DatabaseSync(join(dir, 'raw.db'))
  db.exec(`
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    CREATE TABLE jobs (
      id INTEGER PRIMARY KEY, queue TEXT NOT NULL, type TEXT NOT NULL, priority INTEGER NOT NULL, state TEXT NOT NULL,
      payload TEXT NOT NULL, run_at INTEGER, attempt INTEGER NOT NULL DEFAULT 0, token INTEGER, expires_at INTEGER,
      created_at INTEGER NOT NULL, finished_at INTEGER
    ) STRICT;
    CREATE INDEX ready ON jobs (queue, type, priority, id) WHERE state = 'ready';
    CREATE INDEX running ON jobs (expires_at) WHERE state = 'running';
    CREATE INDEX scheduled ON jobs (run_at) WHERE state = 'scheduled';`)
  const insert = db.prepare(
    `INSERT INTO jobs (queue, type, priority, state, payload, created_at) VALUES ('default', 'bench', 2, 'ready', ?, ?)`,
  )
  const claim = db.prepare(
    `UPDATE jobs SET state = 'running', attempt = attempt + 1, token = 1, expires_at = ?
     WHERE id IN (SELECT id FROM jobs WHERE queue = 'default' AND type = 'bench' AND state = 'ready' ORDER BY priority, id LIMIT ?)
     RETURNING id, payload`,
  )
  const complete = db.prepare(
    `UPDATE jobs SET state = 'succeeded', finished_at = ?, expires_at = NULL WHERE id = ? AND token = 1 AND state = 'running'`,
  )
  const transaction = <T>(work: () => T): T => {
    db.exec('BEGIN IMMEDIATE')
    const value = work()
    db.exec('COMMIT')
    return value
  }
  let wake: () => void = () => undefined
  const submitMany = async (payloads: unknown[]) => {
    transaction(() => {
      for (const payload of payloads) insert.run(JSON.stringify(payload), Date.now())
    })
    wake()
  }
  return {
    submit: (payload) => submitMany([payload]),
    submitMany,
    async work(handler, concurrency) {
      let stopping = false
      const loop = async () => {
        let finished: { id: number; payload: string }[] = []
        while (!stopping) {
          const jobs = transaction(() => {
            for (const job of finished) complete.run(Date.now(), job.id)
            return claim.all(Date.now() + 30_000, concurrency) as { id: number; payload: string }[]
          })
          finished = jobs
          for (const job of jobs) handler(JSON.parse(job.payload))
          await new Promise<void>((resolve) => {
            wake = resolve
            if (jobs.length > 0) setImmediate(resolve)
            else setTimeout(resolve, 50)
          })
        }
      }
      const looping = loop()
      return {
        async stop() {
          stopping = true
          wake()
          await looping
        },
      }
    },
    async close() {
      db.close()
    },
  }
}
